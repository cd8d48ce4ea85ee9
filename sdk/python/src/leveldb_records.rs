//! Reader of the files of W&B, which are logs in the format of LevelDB.

use std::{fs::File, io::BufReader, path::PathBuf};

use matyan_leveldb::{LogItem, LogReader};
use pyo3::{prelude::*, types::PyBytes};

use crate::{errors::file_at, opened_file};

/// Records of one file, in their order.
#[pyclass(module = "matyan_client._core")]
pub(crate) struct LevelDbRecords {
    reader: LogReader<BufReader<File>>,
    /// Path of the file, for errors.
    path: PathBuf,
    /// Takes a text about damage.
    report: Py<PyAny>,
}

/// Reads a log in the format of LevelDB, as W&B writes it. After damage, the rest of the block is left out. Damage is
/// reported by a callable, and so is a file that ends within a record, as the file of a process that was killed does. With
/// a descriptor, its file is read, wherever the path leads.
#[pyfunction]
#[pyo3(signature = (path, report, descriptor = None))]
pub(crate) fn leveldb_records(
    path: PathBuf,
    report: Py<PyAny>,
    descriptor: Option<i32>,
) -> PyResult<LevelDbRecords> {
    let file = opened_file::open(&path, descriptor).map_err(|error| file_at(&error, &path))?;
    Ok(LevelDbRecords { reader: LogReader::new(BufReader::new(file)), path, report })
}

#[pymethods]
impl LevelDbRecords {
    fn __iter__(records: PyRef<'_, Self>) -> PyRef<'_, Self> {
        records
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        loop {
            match self.reader.next_found().map_err(|error| file_at(&error, &self.path))? {
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
