//! Where a watch goes on: the byte 1, then the stamp up to which everything was sent.

use bytes::Bytes;
use matyan_store::Stamp;

use crate::error::{Error, Result};

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
    stamp.map(Stamp).ok_or_else(|| Error::field("resume", "is not one that this server has made"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_back_and_nothing_else_is() {
        let position = Stamp([1, 2, 3, 4, 5, 6, 7, 8, 9, 255]);
        assert_eq!(parse(&encode(position)).unwrap(), position);
        for wrong in [&b""[..], b"\x01", b"\x02aaaaaaaaaa", b"\x01aaaaaaaaaaa"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
