//! The prefix of every key when a cluster is shared with other systems.

/// Letters, digits, `.`, `_`, and `-` only, so that no prefix with its separator byte is the
/// start of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// Maximum length, for which `Limits::KEY_BYTES` leaves room.
    pub const MAX_BYTES: usize = 32;

    /// Validates `text`. The error message is a predicate that callers append to the
    /// rejected text.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty()
            || text.len() > Self::MAX_BYTES
            || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        {
            return Err(format!(
                "is not a valid key prefix: use 1 to {} characters of A-Z a-z 0-9 . _ -",
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
    fn prefixes_are_short_and_use_safe_characters() {
        for refused in ["", "a/b", "a b", "é", "\u{1}", &"x".repeat(33)] {
            assert!(Prefix::new(refused).is_err(), "{refused:?}");
        }
        assert!(Prefix::new(&"x".repeat(32)).is_ok());
    }
}
