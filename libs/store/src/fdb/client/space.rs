//! Layout of keys in the cluster: data and tokens, each under its own byte after the prefix.

use crate::{Limits, Prefix, Range};

const DATA: u8 = 1;
const TOKENS: u8 = 2;

pub(super) struct KeySpace {
    data: Vec<u8>,
    tokens: Vec<u8>,
}

impl KeySpace {
    pub(super) fn new(prefix: &Prefix) -> Self {
        Self { data: [prefix.as_bytes(), &[DATA]].concat(), tokens: [prefix.as_bytes(), &[TOKENS]].concat() }
    }

    pub(super) fn key(&self, key: &[u8]) -> Vec<u8> {
        [&self.data, key].concat()
    }

    /// None if the range holds no keys.
    pub(super) fn range(&self, range: &Range) -> Option<(Vec<u8>, Vec<u8>)> {
        let end = range.end.as_ref().min(Limits::KEYS_END);
        (range.start.as_ref() < end).then(|| (self.key(&range.start), self.key(end)))
    }

    /// Strips the prefix from a key, which yields the caller's key.
    pub(super) fn strip_prefix_of_store<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        key.strip_prefix(&self.data[..]).expect("only keys of the store's own range are read")
    }

    /// Common prefix of the tokens of all stores under this prefix.
    pub(super) fn tokens(&self) -> &[u8] {
        &self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_are_disjoint_and_keys_round_trip() {
        let short = KeySpace::new(&Prefix::new("a").unwrap());
        let long = KeySpace::new(&Prefix::new("ab").unwrap());
        let (start, end) = short.range(&Range::prefix("")).unwrap();
        for other in [long.key(b"k"), long.tokens().to_vec(), short.tokens().to_vec()] {
            assert!(other < start || other >= end, "{other:?}");
        }
        assert_eq!(short.strip_prefix_of_store(&short.key(b"k")), b"k");
        assert!(start <= short.key(b"\0") && short.key(b"\xfe\xff") < end);
    }

    #[test]
    fn empty_ranges_map_to_none() {
        let space = KeySpace::new(&Prefix::new("a").unwrap());
        for empty in [Range::new("b", "a"), Range::new("a", "a"), Range::new(vec![0xff], vec![0xff, 1])] {
            assert_eq!(space.range(&empty), None, "{empty:?}");
        }
        assert_eq!(space.range(&Range::new("a", vec![0xff, 7])), space.range(&Range::new("a", vec![0xff])));
    }
}
