//! Metadata of a blob, stored in its file after the content. Being in the same file, it is
//! published by the same rename; coming after the content, it leaves the file usable by other
//! programs.
//!
//! ```text
//! content | content type, UTF-8 | modified, i64 | length of content type, u16 | version, u8 = 1 | "blob!"
//! ```
//!
//! Integers are big-endian. Deliberately absent: a checksum (the reference to the blob holds
//! its hash and size).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{BlobMeta, content_type::MAX_BYTES as MAX_CONTENT_TYPE};

const VERSION: u8 = 1;
const MAGIC: &[u8; 5] = b"blob!";
const FIXED: usize = 8 + 2 + 1 + MAGIC.len();

/// Longest trailer, in bytes.
pub(super) const MAX_BYTES: usize = FIXED + MAX_CONTENT_TYPE;

pub(super) fn encode(content_type: &str, modified_us: i64) -> Bytes {
    let mut trailer = BytesMut::with_capacity(FIXED + content_type.len());
    trailer.put_slice(content_type.as_bytes());
    trailer.put_i64(modified_us);
    trailer.put_u16(
        u16::try_from(content_type.len()).expect("the length of a content type is checked on entry"),
    );
    trailer.put_u8(VERSION);
    trailer.put_slice(MAGIC);
    trailer.freeze()
}

/// Decodes the metadata at the end of a file of `file_size` bytes, but for the version. Returns `None`
/// if this store did not write the file.
pub(super) fn decode(end: &[u8], file_size: u64) -> Option<BlobMeta> {
    let (rest, mut fixed) = end.split_at_checked(end.len().checked_sub(FIXED)?)?;
    let modified_us = fixed.get_i64();
    let length = usize::from(fixed.get_u16());
    if fixed.get_u8() != VERSION || fixed != MAGIC {
        return None;
    }
    let content_type = rest.get(rest.len().checked_sub(length)?..)?;
    let size = file_size.checked_sub((FIXED + length) as u64)?;
    let content_type = str::from_utf8(content_type).ok()?.to_owned();
    Some(BlobMeta { size, content_type, modified_us, version: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content_type: &str, size: usize) {
        let file = [vec![b'x'; size], encode(content_type, -7).to_vec()].concat();
        let content_type = content_type.to_owned();
        let meta = BlobMeta { size: size as u64, content_type, modified_us: -7, version: String::new() };
        let end = &file[file.len().saturating_sub(MAX_BYTES)..];
        assert_eq!(decode(end, file.len() as u64), Some(meta));
    }

    #[test]
    fn a_trailer_reads_back() {
        check("", 0);
        check("image/png", 0);
        check("image/png", 5_000);
        check(&"t".repeat(MAX_CONTENT_TYPE), 1);
    }

    #[test]
    fn a_foreign_file_is_not_a_blob() {
        let good = encode("text/plain", 1);
        for cut in 1..=good.len() {
            assert_eq!(decode(&good[cut..], (good.len() - cut) as u64), None, "cut {cut}");
        }
        for at in good.len() - 8..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 0x80;
            assert_eq!(decode(&bad, bad.len() as u64), None, "flipped {at}");
        }
    }
}
