//! The resume position of a watch: the byte 1, then the stamp up to which everything was sent.

use bytes::Bytes;
use matyan_store::Stamp;

use crate::server::error::{Error, Result};

const FORMAT: u8 = 1;

pub(super) fn encode(position: Stamp) -> Bytes {
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&position.0);
    bytes.into()
}

pub(super) fn parse(resume: &[u8]) -> Result<Stamp> {
    let stamp = match resume.split_first() {
        Some((&FORMAT, stamp)) => stamp.try_into().ok(),
        _ => None,
    };
    stamp
        .map(Stamp)
        .ok_or_else(|| Error::field("resume", "is invalid: use the value from a previous response"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_generated_positions_are_accepted() {
        let position = Stamp([1, 2, 3, 4, 5, 6, 7, 8, 9, 255]);
        assert_eq!(parse(&encode(position)).unwrap(), position);
        for wrong in [&b""[..], b"\x01", b"\x02aaaaaaaaaa", b"\x01aaaaaaaaaaa"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
