//! Readers of the files of other trackers that hold records with checksums.
//!
//! Damage costs as few records as the format allows. It is reported by a callable, and so is a file
//! that ends within a record, as the file of a process that was killed does. With a descriptor, its file is read,
//! wherever the path leads.

use std::{
    fs::File,
    io::{self, BufReader},
    path::PathBuf,
};

use matyan_leveldb::{LogItem, LogReader, read_up_to};
use matyan_tfrecord::{CHECKSUM_BYTES, HEADER_BYTES, content_bytes, framed_bytes, is_intact};
use pyo3::{prelude::*, types::PyBytes};

use crate::{errors::file_at, opened_file};

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
    LevelDb(LogReader<BufReader<File>>),
}

/// Reads a TFRecord file. A record whose content is damaged is left out. After a damaged length,
/// nothing more can be read.
#[pyfunction]
#[pyo3(signature = (path, report, descriptor = None))]
pub(crate) fn tensorflow_records(
    path: PathBuf,
    report: Py<PyAny>,
    descriptor: Option<i32>,
) -> PyResult<FramedRecords> {
    FramedRecords::open(path, report, descriptor, |file| {
        FramedReader::TensorFlow(TensorFlowReader { file, position: Some(0) })
    })
}

/// Reads a log in the format of LevelDB, as W&B writes it. After damage, the rest of the block is
/// left out.
#[pyfunction]
#[pyo3(signature = (path, report, descriptor = None))]
pub(crate) fn leveldb_records(
    path: PathBuf,
    report: Py<PyAny>,
    descriptor: Option<i32>,
) -> PyResult<FramedRecords> {
    FramedRecords::open(path, report, descriptor, |file| FramedReader::LevelDb(LogReader::new(file)))
}

impl FramedRecords {
    fn open(
        path: PathBuf,
        report: Py<PyAny>,
        descriptor: Option<i32>,
        reader: impl FnOnce(BufReader<File>) -> FramedReader,
    ) -> PyResult<Self> {
        let file = opened_file::open(&path, descriptor).map_err(|error| file_at(&error, &path))?;
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
                FramedReader::LevelDb(reader) => reader.next_found(),
            };
            match found.map_err(|error| file_at(&error, &self.path))? {
                Some(LogItem::Record(record)) => return Ok(Some(PyBytes::new(py, &record))),
                Some(LogItem::Problem(problem)) => {
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
    fn next(&mut self) -> io::Result<Option<LogItem>> {
        let Some(position) = self.position.take() else { return Ok(None) };
        let header = read_up_to(&mut self.file, HEADER_BYTES as u64)?;
        if header.is_empty() {
            return Ok(None);
        }
        let Some(header) = header.first_chunk::<HEADER_BYTES>() else {
            return Ok(Some(LogItem::ends_within(position)));
        };
        let Some(length) = content_bytes(header).filter(|length| *length <= MOST_RECORD_BYTES) else {
            let problem = format!("damaged at byte {position}; the rest was not read");
            return Ok(Some(LogItem::Problem(problem)));
        };
        let body_bytes = length + CHECKSUM_BYTES as u64;
        let mut content = read_up_to(&mut self.file, body_bytes)?;
        if (content.len() as u64) < body_bytes {
            return Ok(Some(LogItem::ends_within(position)));
        }
        self.position = Some(position + framed_bytes(length));
        let checksum = content.split_off(length as usize);
        if is_intact(&content, &checksum) {
            return Ok(Some(LogItem::Record(content)));
        }
        Ok(Some(LogItem::Problem(format!("left out a damaged record at byte {position}"))))
    }
}
