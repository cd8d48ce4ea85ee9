//! The records of an event file. A file that is being written may end at any byte, and is read from there when it has
//! grown.

use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};

use crate::{CHECKSUM_BYTES, HEADER_BYTES, content_bytes, framed_bytes, is_intact};

/// Maximum length of a record. A longer record is left out, because it would have to be in memory as a whole.
const MAX_RECORD_BYTES: u64 = 256 << 20;

/// Some consecutive records of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct RecordChunk {
    pub records: Vec<Vec<u8>>,
    /// The start of the next chunk.
    pub next: u64,
    pub end: ChunkEnd,
    /// Positions of records that were left out.
    pub damaged: Vec<u64>,
}

/// The reason why a chunk ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkEnd {
    /// There may be more records.
    Full,
    /// No other record is complete yet.
    CaughtUp,
    /// The next length is damaged, so no later record can be found.
    Damaged,
}

/// Reads records from a position on, of the first `size` bytes of a file. The chunk has about `budget` bytes, but at
/// least one record.
pub fn read_chunk(file: impl Read + Seek, position: u64, size: u64, budget: u64) -> io::Result<RecordChunk> {
    let mut file = BufReader::new(file);
    file.seek(SeekFrom::Start(position))?;
    let mut chunk =
        RecordChunk { records: Vec::new(), next: position, end: ChunkEnd::Full, damaged: Vec::new() };
    while chunk.next - position < budget {
        match read_record(&mut file, chunk.next, size) {
            Ok(FileItem::Record(content)) => {
                chunk.next += framed_bytes(content.len() as u64);
                chunk.records.push(content);
            }
            Ok(FileItem::LeftOut { length }) => {
                chunk.damaged.push(chunk.next);
                chunk.next += framed_bytes(length);
                file.seek(SeekFrom::Start(chunk.next))?;
            }
            Ok(FileItem::Incomplete) => {
                chunk.end = ChunkEnd::CaughtUp;
                break;
            }
            Ok(FileItem::DamagedLength) => {
                chunk.end = ChunkEnd::Damaged;
                break;
            }
            // The file was truncated a moment ago.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                chunk.end = ChunkEnd::CaughtUp;
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(chunk)
}

/// The item at a position of a file.
enum FileItem {
    Record(Vec<u8>),
    /// A record that cannot be used, and whose end is known.
    LeftOut {
        length: u64,
    },
    Incomplete,
    DamagedLength,
}

fn read_record(file: &mut impl Read, position: u64, size: u64) -> io::Result<FileItem> {
    let left = size.saturating_sub(position);
    if left < HEADER_BYTES as u64 {
        return Ok(FileItem::Incomplete);
    }
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header)?;
    let Some(length) = content_bytes(&header) else { return Ok(FileItem::DamagedLength) };
    if left < framed_bytes(length) {
        return Ok(FileItem::Incomplete);
    }
    if length > MAX_RECORD_BYTES {
        return Ok(FileItem::LeftOut { length });
    }
    let mut content = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact(&mut content)?;
    let mut checksum = [0; CHECKSUM_BYTES];
    file.read_exact(&mut checksum)?;
    if is_intact(&content, &checksum) {
        return Ok(FileItem::Record(content));
    }
    // The pages of the last record may still be in transit, for example over a network file system.
    Ok(if left == framed_bytes(length) { FileItem::Incomplete } else { FileItem::LeftOut { length } })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;
    use crate::framed;

    fn read(file: &[u8], position: u64, budget: u64) -> RecordChunk {
        read_chunk(Cursor::new(file), position, file.len() as u64, budget).unwrap()
    }

    #[test]
    fn a_record_is_read_once_it_is_complete() {
        let file = [framed(b"first"), framed(b"second")].concat();
        let first_bytes = framed(b"first").len() as u64;
        for end in 0..file.len() {
            let chunk = read(&file[..end], 0, u64::MAX);
            let expected = usize::from(end as u64 >= first_bytes);
            assert_eq!(chunk.records.len(), expected, "{end}");
            assert_eq!((chunk.end, chunk.damaged.len()), (ChunkEnd::CaughtUp, 0), "{end}");
            // The rest is read from this position.
            let rest = read(&file, chunk.next, u64::MAX);
            assert_eq!(chunk.records.len() + rest.records.len(), 2, "{end}");
            assert_eq!(rest.next, file.len() as u64);
        }
    }

    #[test]
    fn a_chunk_has_at_least_one_record() {
        let file = [framed(&[7; 1_000]), framed(b"second")].concat();
        let chunk = read(&file, 0, 1);
        assert_eq!((chunk.records.len(), chunk.end), (1, ChunkEnd::Full));
        assert_eq!(read(&file, chunk.next, 1).records, [b"second".to_vec()]);
    }

    #[test]
    fn damage_costs_one_record_if_the_next_record_can_be_found() {
        let first = framed(b"first");
        let second = framed(b"second");
        let mut file = [first.clone(), second.clone()].concat();
        file[HEADER_BYTES] ^= 1;
        let chunk = read(&file, 0, u64::MAX);
        assert_eq!((chunk.records, chunk.damaged), (vec![b"second".to_vec()], vec![0]));

        let mut file = [first, second].concat();
        let at = framed(b"first").len();
        file[at] ^= 1;
        let chunk = read(&file, 0, u64::MAX);
        assert_eq!((chunk.records.len(), chunk.end), (1, ChunkEnd::Damaged));
        assert_eq!(chunk.next, at as u64);
    }

    #[test]
    fn the_last_record_is_read_again_until_its_checksum_is_right() {
        let complete = framed(b"first");
        let mut torn = complete.clone();
        let last = torn.len() - CHECKSUM_BYTES - 1;
        torn[last] = 0;
        assert_eq!(read(&torn, 0, u64::MAX).end, ChunkEnd::CaughtUp);
        assert_eq!(read(&complete, 0, u64::MAX).records, [b"first".to_vec()]);
    }

    proptest! {
        #[test]
        fn nothing_in_a_file_makes_the_reader_fail(
            file in proptest::collection::vec(any::<u8>(), 0..200),
            position in 0_u64..200,
        ) {
            let chunk = read(&file, position, u64::MAX);
            prop_assert!(chunk.next >= position);
        }
    }
}
