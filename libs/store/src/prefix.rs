//! What stands in front of every key where a cluster is shared with others.

/// Letters, digits, `.`, `_` and `-`: so that no prefix with its byte behind it begins another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// What `Limits::KEY_BYTES` leaves room for.
    pub const MAX_BYTES: usize = 32;

    /// The error goes on behind what was given.
    pub fn new(text: &str) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if text.is_empty() || text.len() > Self::MAX_BYTES || !text.bytes().all(allowed) {
            return Err(format!(
                "cannot stand before keys; give 1 to {} of A-Z a-z 0-9 . _ -",
                Self::MAX_BYTES
            ));
        }
        Ok(Self(text.to_owned()))
    }

    #[cfg(feature = "fdb")]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_plain_and_short() {
        for refused in ["", "a/b", "a b", "é", "\u{1}", &"x".repeat(33)] {
            assert!(Prefix::new(refused).is_err(), "{refused:?}");
        }
        assert!(Prefix::new(&"x".repeat(32)).is_ok());
    }
}
