//! Reader of logs in the format of LevelDB, which W&B uses for the files of its runs: records cut into blocks.
//!
//! A file begins with seven bytes that name the format. Each piece of a record has a header, and never crosses the end
//! of a block. The checksum is CRC-32 of type and content; LevelDB itself uses CRC32C.
//!
//! | bytes | |
//! |---|---|
//! | 4 | checksum |
//! | 2 | length, little-endian |
//! | 1 | type: the whole record, or its first, a middle, or its last piece |
//! | n | content |

use std::io::{self, Read};

use flate2::Crc;

/// A record, or a problem that the user should know about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogItem {
    Record(Vec<u8>),
    Problem(String),
}

impl LogItem {
    /// The problem of a file that ends within the record at this position.
    fn ends_within(position: u64) -> Self {
        Self::Problem(format!("ends within a record at byte {position}"))
    }
}

/// Records of one file, in their order. After damage, the rest of the block is left out.
#[derive(Debug)]
pub struct LogReader<R> {
    file: R,
    block: Vec<u8>,
    /// Start of the block in the file.
    block_start: u64,
    /// Position of the next piece in the block; `None` after damage.
    position: Option<usize>,
    /// Pieces of a record whose last piece is still to come.
    open_record: Option<Vec<u8>>,
    state: LogState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogState {
    New,
    Open,
    Ended,
}

/// The first bytes of a file of W&B.
const IDENTITY: &[u8] = b":W&B";
/// Bytes before the first piece.
const FILE_HEADER_BYTES: usize = 7;
const BLOCK_BYTES: usize = 32_768;
/// Checksum (4), length (2), and type (1).
const PIECE_HEADER_BYTES: usize = 7;

/// Type of a piece: the whole record, or its first, a middle, or its last piece.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PieceType {
    Full,
    First,
    Middle,
    Last,
}

enum Piece {
    Content(PieceType, Vec<u8>),
    Damage,
}

impl<R: Read> LogReader<R> {
    pub fn new(file: R) -> Self {
        Self {
            file,
            block: Vec::new(),
            block_start: 0,
            position: None,
            open_record: None,
            state: LogState::New,
        }
    }

    /// Returns the next record or problem, and `None` at the end of the file.
    pub fn next_found(&mut self) -> io::Result<Option<LogItem>> {
        if self.state == LogState::New {
            self.state = LogState::Open;
            self.read_block(FILE_HEADER_BYTES)?;
            if !self.block.starts_with(IDENTITY) {
                self.state = LogState::Ended;
                return Ok(Some(LogItem::Problem("not a file of W&B".to_owned())));
            }
        }
        while self.state == LogState::Open {
            while let Some(piece) = self.next_piece() {
                if let Some(found) = self.add(piece) {
                    return Ok(Some(found));
                }
            }
            self.block_start += self.block.len() as u64;
            self.read_block(0)?;
            if self.block.is_empty() {
                self.state = LogState::Ended;
                if self.open_record.is_some() {
                    return Ok(Some(LogItem::ends_within(self.block_start)));
                }
            }
        }
        Ok(None)
    }

    fn read_block(&mut self, position: usize) -> io::Result<()> {
        self.block = read_up_to(&mut self.file, BLOCK_BYTES as u64)?;
        self.position = Some(position);
        Ok(())
    }

    /// Returns the next piece of the block, and `None` at its end.
    fn next_piece(&mut self) -> Option<Piece> {
        let position = self.position.take()?;
        let rest = self.block.get(position..).unwrap_or_default();
        let Some((header, rest)) = rest.split_first_chunk::<PIECE_HEADER_BYTES>() else {
            // A block that is not full is the last one, in which a header was being written.
            return (self.block.len() < BLOCK_BYTES && !rest.is_empty()).then_some(Piece::Damage);
        };
        let [c0, c1, c2, c3, l0, l1, piece_type] = *header;
        let length = usize::from(u16::from_le_bytes([l0, l1]));
        let known_type = match piece_type {
            1 => PieceType::Full,
            2 => PieceType::First,
            3 => PieceType::Middle,
            4 => PieceType::Last,
            _ => return Some(Piece::Damage),
        };
        let Some(content) = rest.get(..length) else { return Some(Piece::Damage) };
        let mut crc = Crc::new();
        crc.update(&[piece_type]);
        crc.update(content);
        if crc.sum() != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Some(Piece::Damage);
        }
        self.position = Some(position + PIECE_HEADER_BYTES + length);
        Some(Piece::Content(known_type, content.to_vec()))
    }

    /// Adds a piece, and returns the record that it completes.
    fn add(&mut self, piece: Piece) -> Option<LogItem> {
        match piece {
            Piece::Damage => {
                self.open_record = None;
                if self.block.len() < BLOCK_BYTES {
                    return Some(LogItem::ends_within(self.block_start));
                }
                Some(LogItem::Problem(format!("left out a damaged block at byte {}", self.block_start)))
            }
            Piece::Content(PieceType::Full, content) => Some(LogItem::Record(content)),
            Piece::Content(PieceType::First, content) => {
                self.open_record = Some(content);
                None
            }
            Piece::Content(piece_type, content) => {
                self.open_record.as_mut()?.extend(content);
                if piece_type == PieceType::Middle {
                    return None;
                }
                self.open_record.take().map(LogItem::Record)
            }
        }
    }
}

/// Reads bytes up to a length, and fewer only at the end of the file.
fn read_up_to(file: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b":W&B\xe1\xbe\x00";

    fn piece(piece_type: u8, content: &[u8]) -> Vec<u8> {
        let mut crc = Crc::new();
        crc.update(&[piece_type]);
        crc.update(content);
        let length = u16::try_from(content.len()).unwrap().to_le_bytes();
        [&crc.sum().to_le_bytes()[..], &length, &[piece_type], content].concat()
    }

    fn read(file: &[u8]) -> Vec<LogItem> {
        let mut reader = LogReader::new(file);
        std::iter::from_fn(|| reader.next_found().unwrap()).collect()
    }

    #[test]
    fn a_record_continues_in_the_next_block() {
        let first = vec![1; BLOCK_BYTES - FILE_HEADER_BYTES - PIECE_HEADER_BYTES];
        let file =
            [HEADER, &piece(2, &first), &piece(3, &[2; 5]), &piece(4, &[3; 5]), &piece(1, b"x")].concat();
        let record = [&first[..], &[2; 5], &[3; 5]].concat();
        assert_eq!(read(&file), [LogItem::Record(record), LogItem::Record(b"x".to_vec())]);
    }

    #[test]
    fn damage_costs_the_rest_of_its_block() {
        let mut damaged = piece(1, b"damaged");
        damaged[0] ^= 1;
        let mut block = [HEADER, &piece(1, b"before"), &damaged, &piece(1, b"lost")].concat();
        block.resize(BLOCK_BYTES, 0);
        let file = [block, piece(1, b"after")].concat();
        let found = read(&file);
        assert_eq!(found[0], LogItem::Record(b"before".to_vec()));
        assert!(matches!(&found[1], LogItem::Problem(text) if text.contains("damaged block")), "{found:?}");
        assert_eq!(found[2..], [LogItem::Record(b"after".to_vec())]);
    }

    #[test]
    fn a_file_of_another_kind_is_reported() {
        assert!(matches!(&read(b"other")[..], [LogItem::Problem(_)]));
        let cut = [HEADER, &piece(1, b"whole"), &piece(1, b"cut")[..9]].concat();
        assert!(matches!(&read(&cut)[..], [LogItem::Record(_), LogItem::Problem(_)]));
    }
}
