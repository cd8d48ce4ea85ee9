//! Readers of the files of other trackers that hold records with checksums.
//!
//! Damage costs as few records as the format allows. It is reported by a callable, and so is a file
//! that ends within a record, as the file of a process that was killed does.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::PathBuf,
};

use flate2::Crc;
use matyan_tfrecord::{CHECKSUM_BYTES, HEADER_BYTES, content_bytes, framed_bytes, is_intact};
use pyo3::{prelude::*, types::PyBytes};

use crate::errors::file_at;

/// Records of one file, in their order.
#[pyclass(module = "matyan_client._core")]
pub(crate) struct FramedRecords {
    reader: FramedReader,
    /// Path of the file, for errors.
    path: PathBuf,
    /// Takes a text about damage.
    report: Py<PyAny>,
}

enum FramedReader {
    TensorFlow(TensorFlowReader),
    LevelDb(LevelDbReader),
}

/// A record, or a problem that the user should know about.
enum Found {
    Record(Vec<u8>),
    Problem(String),
}

/// Reads a TFRecord file. A record whose content is damaged is left out. After a damaged length,
/// nothing more can be read.
#[pyfunction]
pub(crate) fn tensorflow_records(path: PathBuf, report: Py<PyAny>) -> PyResult<FramedRecords> {
    FramedRecords::open(path, report, |file| {
        FramedReader::TensorFlow(TensorFlowReader { file, position: Some(0) })
    })
}

/// Reads a log in the format of LevelDB, as W&B writes it. After damage, the rest of the block is
/// left out.
#[pyfunction]
pub(crate) fn leveldb_records(path: PathBuf, report: Py<PyAny>) -> PyResult<FramedRecords> {
    FramedRecords::open(path, report, |file| FramedReader::LevelDb(LevelDbReader::new(file)))
}

impl FramedRecords {
    fn open(
        path: PathBuf,
        report: Py<PyAny>,
        reader: impl FnOnce(BufReader<File>) -> FramedReader,
    ) -> PyResult<Self> {
        let file = File::open(&path).map_err(|error| file_at(&error, &path))?;
        Ok(Self { reader: reader(BufReader::new(file)), path, report })
    }
}

#[pymethods]
impl FramedRecords {
    fn __iter__(records: PyRef<'_, Self>) -> PyRef<'_, Self> {
        records
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        loop {
            let found = match &mut self.reader {
                FramedReader::TensorFlow(reader) => reader.next(),
                FramedReader::LevelDb(reader) => reader.next(),
            };
            match found.map_err(|error| file_at(&error, &self.path))? {
                Some(Found::Record(record)) => return Ok(Some(PyBytes::new(py, &record))),
                Some(Found::Problem(problem)) => {
                    let name = self.path.file_name().unwrap_or_default().to_string_lossy();
                    self.report.call1(py, (format!("{name}: {problem}"),))?;
                }
                None => return Ok(None),
            }
        }
    }
}

/// Reader of TFRecord files.
struct TensorFlowReader {
    file: BufReader<File>,
    /// `None` after the last record that can be read.
    position: Option<u64>,
}

/// No event is as large; a longer length is damage.
const MOST_RECORD_BYTES: u64 = 1 << 31;

impl TensorFlowReader {
    fn next(&mut self) -> io::Result<Option<Found>> {
        let Some(position) = self.position.take() else { return Ok(None) };
        let header = read_up_to(&mut self.file, HEADER_BYTES as u64)?;
        if header.is_empty() {
            return Ok(None);
        }
        let Some(header) = header.first_chunk::<HEADER_BYTES>() else { return Ok(ends_within(position)) };
        let Some(length) = content_bytes(header).filter(|length| *length <= MOST_RECORD_BYTES) else {
            return Ok(problem(format!("damaged at byte {position}; the rest was not read")));
        };
        let body_bytes = length + CHECKSUM_BYTES as u64;
        let mut content = read_up_to(&mut self.file, body_bytes)?;
        if (content.len() as u64) < body_bytes {
            return Ok(ends_within(position));
        }
        self.position = Some(position + framed_bytes(length));
        let checksum = content.split_off(length as usize);
        if is_intact(&content, &checksum) {
            return Ok(Some(Found::Record(content)));
        }
        Ok(problem(format!("left out a damaged record at byte {position}")))
    }
}

/// Reader of logs in the format of LevelDB: records cut into blocks.
///
/// Each piece of a record has a header with its checksum, length, and type. The checksum is CRC-32 of
/// type and content; LevelDB itself uses CRC32C. A piece never crosses the end of a block.
struct LevelDbReader {
    file: BufReader<File>,
    block: Vec<u8>,
    /// Start of the block in the file.
    block_start: u64,
    /// Position of the next piece in the block; `None` after damage.
    position: Option<usize>,
    /// Pieces of a record whose last piece is still to come.
    open_record: Option<Vec<u8>>,
    state: LogState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LogState {
    New,
    Open,
    Ended,
}

/// The first bytes of a file of W&B.
const IDENTITY: &[u8] = b":W&B";
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

impl LevelDbReader {
    fn new(file: BufReader<File>) -> Self {
        Self {
            file,
            block: Vec::new(),
            block_start: 0,
            position: None,
            open_record: None,
            state: LogState::New,
        }
    }

    fn next(&mut self) -> io::Result<Option<Found>> {
        if self.state == LogState::New {
            self.state = LogState::Open;
            self.read_block(FILE_HEADER_BYTES)?;
            if !self.block.starts_with(IDENTITY) {
                self.state = LogState::Ended;
                return Ok(problem("not a file of W&B".to_owned()));
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
                    return Ok(ends_within(self.block_start));
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
    fn add(&mut self, piece: Piece) -> Option<Found> {
        match piece {
            Piece::Damage => {
                self.open_record = None;
                if self.block.len() < BLOCK_BYTES {
                    return ends_within(self.block_start);
                }
                problem(format!("left out a damaged block at byte {}", self.block_start))
            }
            Piece::Content(PieceType::Full, content) => Some(Found::Record(content)),
            Piece::Content(PieceType::First, content) => {
                self.open_record = Some(content);
                None
            }
            Piece::Content(piece_type, content) => {
                self.open_record.as_mut()?.extend(content);
                if piece_type == PieceType::Middle {
                    return None;
                }
                self.open_record.take().map(Found::Record)
            }
        }
    }
}

/// Reads bytes up to a length, and fewer only at the end of the file.
fn read_up_to(file: &mut BufReader<File>, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn ends_within(position: u64) -> Option<Found> {
    problem(format!("ends within a record at byte {position}"))
}

fn problem(text: String) -> Option<Found> {
    Some(Found::Problem(text))
}
