//! Blob keys that are guaranteed to stay inside their run.

use std::fmt;

use crate::error::{Error, Result};

/// A validated key: relative, no empty, `.` or `..` segment, no control character, at most
/// 1,024 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobKey(String);

/// Limit of S3.
const MAX_BYTES: usize = 1_024;

impl BlobKey {
    pub fn new(key: impl Into<String>) -> Result<Self> {
        let key = key.into();
        match problem(&key) {
            None => Ok(Self(key)),
            Some(reason) => Err(Error::BadKey { key, reason }),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn problem(key: &str) -> Option<&'static str> {
    if key.is_empty() {
        return Some("it is empty");
    }
    if key.len() > MAX_BYTES {
        return Some("it is longer than 1,024 bytes");
    }
    if key.chars().any(char::is_control) {
        return Some("it contains a control character");
    }
    if key.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Some("it has an empty, `.` or `..` segment");
    }
    None
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
