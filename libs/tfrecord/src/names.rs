//! Names of series within the limit of the server.

use std::borrow::Cow;

use matyan_proto::limits::NAME_BYTES;
use sha2::{Digest as _, Sha256};

/// Hexadecimal digits of the digest in a name.
const DIGEST_DIGITS: usize = 16;

/// The digest of texts that contain no NUL, in hexadecimal digits.
pub fn text_digest(parts: &[&str], digits: usize) -> String {
    let mut digest = hex::encode(Sha256::digest(parts.join("\0")));
    digest.truncate(digits);
    digest
}

/// A name within the limit. A longer name ends with its digest, so that no two names become equal.
pub fn fitting_name(name: &str) -> Cow<'_, str> {
    if name.len() <= NAME_BYTES {
        return Cow::Borrowed(name);
    }
    let ending = format!("~{}", text_digest(&[name], DIGEST_DIGITS));
    let most = NAME_BYTES - ending.len();
    let end = (0..=most).rev().find(|at| name.is_char_boundary(*at)).unwrap_or_default();
    Cow::Owned(format!("{}{ending}", &name[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_stay_different() {
        let one = format!("{}1", "é".repeat(NAME_BYTES));
        let other = format!("{}2", "é".repeat(NAME_BYTES));
        let names = [fitting_name(&one), fitting_name(&other)];
        assert!(names.iter().all(|name| name.len() <= NAME_BYTES) && names[0] != names[1]);
        assert_eq!(fitting_name("loss"), "loss");
    }
}
