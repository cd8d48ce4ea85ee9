//! Names of principals, which are parts of keys, headers and log lines.

/// Longest name of a principal: an email address may have more bytes, but rarely does. People of a provider get names of
/// at most as many bytes (`NAME_BYTES` of `matyan-sign-in`).
pub const PRINCIPAL_BYTES: usize = 128;

/// Whether a principal may have this name.
pub fn is_principal_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match name.as_bytes() {
        [first, rest @ ..] => {
            name.len() <= PRINCIPAL_BYTES
                && is_letter(*first)
                && rest.iter().all(|byte| is_letter(*byte) || b"-_.@+:".contains(byte))
        }
        [] => false,
    }
}
