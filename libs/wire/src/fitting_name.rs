//! Names of series within the limit of the server, for programs of other trackers, which have no such limit.

use std::borrow::Cow;

use matyan_proto::limits::NAME_BYTES;
use sha2::{Digest as _, Sha256};

/// Hexadecimal digits of the digest in a name.
const DIGEST_DIGITS: usize = 16;

/// Maximum length of the beginning of a name that ends with `~` and its digest.
const BEGINNING_BYTES: usize = NAME_BYTES - 1 - DIGEST_DIGITS;

/// A name within the limit. A longer name ends with its digest, so that no two names become equal.
pub fn fitting_name(name: &str) -> Cow<'_, str> {
    if name.len() <= NAME_BYTES {
        return Cow::Borrowed(name);
    }
    Cow::Owned(SeriesName::new(name.to_owned()).into_fitting())
}

/// A name that grows, of any length, in bounded memory. Many long names with the same beginning cost no more than their
/// ends.
#[derive(Clone, Debug)]
pub struct SeriesName {
    /// The whole name, if it is within the limit.
    beginning: String,
    /// The digest of the whole name, if it is longer.
    digest: Option<Sha256>,
}

impl SeriesName {
    pub fn new(mut name: String) -> Self {
        let mut digest = None;
        if name.len() > NAME_BYTES {
            digest = Some(Sha256::new_with_prefix(&name));
            let end = (0..=BEGINNING_BYTES).rev().find(|at| name.is_char_boundary(*at));
            name.truncate(end.unwrap_or_default());
            name.shrink_to_fit();
        }
        Self { beginning: name, digest }
    }

    /// Returns the name that continues with this text.
    #[must_use]
    pub fn followed_by(&self, text: &str) -> Self {
        match &self.digest {
            None => Self::new(format!("{}{text}", self.beginning)),
            Some(digest) => {
                let digest = Some(digest.clone().chain_update(text));
                Self { beginning: self.beginning.clone(), digest }
            }
        }
    }

    /// Returns the name within the limit.
    pub fn into_fitting(self) -> String {
        match self.digest {
            None => self.beginning,
            Some(digest) => {
                let digest = hex::encode(digest.finalize());
                format!("{}~{}", self.beginning, &digest[..DIGEST_DIGITS])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_fit_and_stay_different() {
        let one = format!("{}1", "é".repeat(NAME_BYTES));
        let other = format!("{}2", "é".repeat(NAME_BYTES));
        let names = [fitting_name(&one), fitting_name(&other)];
        assert!(names.iter().all(|name| name.len() <= NAME_BYTES) && names[0] != names[1], "{names:?}");
        assert_eq!(fitting_name(&one), names[0]);
        let longest = "x".repeat(NAME_BYTES);
        assert!(matches!(fitting_name(&longest), Cow::Borrowed(name) if name == longest));
    }

    #[test]
    fn a_name_that_grows_is_the_name_as_a_whole() {
        for lengths in [[1, 1, 1], [NAME_BYTES - 1, 1, 1], [1, 3 * NAME_BYTES, 0], [5 * NAME_BYTES, 0, 7]] {
            let [first, second, third] = lengths.map(|length| "ä".repeat(length));
            let grown = SeriesName::new(first.clone()).followed_by(&second).followed_by(&third);
            assert_eq!(grown.into_fitting(), fitting_name(&format!("{first}{second}{third}")));
        }
    }
}
