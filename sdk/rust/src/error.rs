//! The only error that a caller gets from tracking: an argument that no server would accept.

/// An argument that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{argument}`: {reason}")]
pub struct ArgumentError {
    /// Name of the argument.
    pub argument: &'static str,
    /// Valid values, and the value that was found.
    pub reason: String,
}

impl ArgumentError {
    pub(crate) fn new(argument: &'static str, reason: impl Into<String>) -> Self {
        Self { argument, reason: reason.into() }
    }

    /// Checks a name: text that is neither empty nor too long.
    pub(crate) fn check_name(argument: &'static str, name: &str, most: usize) -> Result<(), Self> {
        if name.is_empty() {
            return Err(Self::new(argument, "expected a name, found empty text"));
        }
        Self::check_length(argument, name, most)
    }

    /// Checks the length of a text.
    pub(crate) fn check_length(argument: &'static str, text: &str, most: usize) -> Result<(), Self> {
        if text.len() <= most {
            return Ok(());
        }
        Err(Self::new(argument, format!("expected at most {most} bytes, found {}", text.len())))
    }
}
