//! Validation of content types: only values that every store can keep and HTTP can carry as a
//! header.

use crate::{Error, Result};

/// Longest content type, in bytes.
pub(crate) const MAX_BYTES: usize = 1_024;

pub(crate) fn check(content_type: &str) -> Result<()> {
    let reason = if content_type.len() > MAX_BYTES {
        "it is longer than 1,024 bytes"
    } else if content_type.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
        "it is not visible ASCII"
    } else {
        return Ok(());
    };
    Err(Error::BadContentType { reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_is_a_header() {
        check("").unwrap();
        check("text/plain; charset=utf-8").unwrap();
        for bad in ["a\r\nb", "ü", &"t".repeat(MAX_BYTES + 1)] {
            check(bad).unwrap_err();
        }
    }
}
