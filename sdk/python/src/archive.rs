//! Runs of archives, read by the reader of `matyan restore`.

use std::{io, path::PathBuf, vec};

use matyan_archive::{
    Error, Interrupt,
    reader::{ArchiveReader, RunDescription, RunReader, RunStep},
    unpack_interruptibly,
};
use matyan_proto::backup::v1::{self as pb, entity::Kind, piece::Content};
use matyan_value::json::{self, JsonStyle};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBytes, PyTuple},
};
use tempfile::TempDir;

use crate::errors::file_at;

/// The content of an archive that is one file, in a directory that exists until the end of a `with` block.
#[pyclass(module = "matyan_client._core")]
pub(crate) struct UnpackedArchive {
    directory: Option<TempDir>,
    root: PathBuf,
}

/// An archive in a directory.
#[pyclass(frozen, module = "matyan_client._core")]
pub(crate) struct Archive(ArchiveReader);

/// The description of a run of an archive. Texts that the archive does not have are empty.
#[pyclass(frozen, get_all, module = "matyan_client._core")]
pub(crate) struct ArchivedRun {
    run_hash: String,
    name: String,
    description: String,
    /// Id and name of the experiment.
    experiment: Option<(String, String)>,
    tags: Vec<String>,
    /// JSON of a map.
    params: String,
    /// JSON of a map: what the archive says of each artifact, by its path.
    artifacts: String,
    created_us: i64,
    finalized_us: Option<i64>,
    outcome: Option<&'static str>,
    outcome_message: String,
    is_archived: bool,
    is_active: bool,
}

/// Items of a run, in the order in which `matyan restore` sends them.
#[pyclass(module = "matyan_client._core")]
pub(crate) struct ArchivedItems {
    reader: RunReader,
    /// Pieces that were read and not returned yet.
    pieces: vec::IntoIter<pb::Piece>,
}

#[pymethods]
impl UnpackedArchive {
    /// Unpacks an archive. Nothing in the file is trusted, and signals are handled meanwhile.
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let (directory, root) = interruptibly(py, |interrupt| unpack_interruptibly(&path, interrupt))?;
        Ok(Self { directory: Some(directory), root })
    }

    fn __enter__(&self) -> PathBuf {
        self.root.clone()
    }

    fn __exit__(
        &mut self,
        _kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) {
        drop(self.directory.take());
    }
}

#[pymethods]
impl Archive {
    /// Opens an archive, and checks that it has its manifest and the files of its runs.
    #[new]
    fn new(py: Python<'_>, root: PathBuf) -> PyResult<Self> {
        py.detach(|| ArchiveReader::open(&root)).map(Self).map_err(|error| archive_error(&error))
    }

    /// Names of the folders of the runs, sorted.
    #[getter]
    fn runs(&self) -> Vec<String> {
        self.0.runs.clone()
    }

    /// Returns the ids and the names of the experiments.
    fn experiments(&self, py: Python<'_>) -> PyResult<Vec<(String, String)>> {
        let experiments =
            self.entities_of(py, "experiment")?.into_iter().filter_map(|entity| match entity.kind {
                Some(Kind::Experiment(experiment)) => Some((entity.id, experiment.name)),
                _ => None,
            });
        Ok(experiments.collect())
    }

    /// Returns the names, colors and descriptions of the tags.
    fn tags(&self, py: Python<'_>) -> PyResult<Vec<(String, String, String)>> {
        let tags = self.entities_of(py, "tag")?.into_iter().filter_map(|entity| match entity.kind {
            Some(Kind::Tag(tag)) => Some((tag.name, tag.color, tag.description)),
            _ => None,
        });
        Ok(tags.collect())
    }

    /// Whether the run in a folder was in the bin of its server.
    fn is_binned(&self, py: Python<'_>, folder: &str) -> PyResult<bool> {
        py.detach(|| self.0.is_binned(folder)).map_err(|error| archive_error(&error))
    }

    /// Reads the description of the run in a folder.
    fn run(&self, py: Python<'_>, folder: &str) -> PyResult<ArchivedRun> {
        let described = py.detach(|| self.0.describe_run(folder));
        archived_run(described.map_err(|error| archive_error(&error))?)
    }

    /// Returns the items of the run in a folder. Without blobs, files are left out.
    fn items(&self, py: Python<'_>, folder: &str, blobs: bool) -> PyResult<ArchivedItems> {
        let reader = py.detach(|| self.0.open_run(folder, blobs, 0));
        let reader = reader.map_err(|error| archive_error(&error))?;
        Ok(ArchivedItems { reader, pieces: Vec::new().into_iter() })
    }
}

impl Archive {
    fn entities_of(&self, py: Python<'_>, kind: &str) -> PyResult<Vec<pb::Entity>> {
        py.detach(|| self.0.entities_of(kind)).map_err(|error| archive_error(&error))
    }
}

fn archived_run(described: RunDescription) -> PyResult<ArchivedRun> {
    let artifacts = described.artifacts_json();
    let RunDescription { head, is_named, .. } = described;
    let params = json_text(&head.params)?.unwrap_or_else(|| "{}".to_owned());
    let outcome = head.outcome.unwrap_or_default();
    Ok(ArchivedRun {
        run_hash: head.run_id,
        name: if is_named { head.name } else { String::new() },
        description: head.description,
        experiment: head.experiment.map(|link| (link.id, link.name)),
        tags: head.tags.into_iter().map(|link| link.name).filter(|name| !name.is_empty()).collect(),
        params,
        artifacts,
        created_us: head.created_us,
        finalized_us: head.finalized_us,
        outcome: outcome.kind().name(),
        outcome_message: outcome.message,
        is_archived: head.archived,
        is_active: head.active,
    })
}

#[pymethods]
impl ArchivedItems {
    fn __iter__(items: PyRef<'_, Self>) -> PyRef<'_, Self> {
        items
    }

    /// Number of steps read so far whose object is not in the archive: archives of Matyan 0.3 have its index in a list.
    #[getter]
    fn objects_lost(&self) -> u64 {
        self.reader.objects_lost
    }

    /// Returns the next item: a tuple of its kind and its parts.
    ///
    /// | kind | parts |
    /// |---|---|
    /// | `blob` | path, file |
    /// | `points` | name, context, values, steps, epochs, times in microseconds: columns of 8-byte numbers |
    /// | `object` | name, context, step, epoch or None, time in microseconds, value |
    /// | `line` | number, text |
    /// | `record` | level, message, time, arguments or None, location or None |
    ///
    /// Contexts, values, arguments and locations are JSON; an empty text means no context.
    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        loop {
            for piece in self.pieces.by_ref() {
                let found = item(py, piece)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            let reader = &mut self.reader;
            let step = py.detach(|| reader.next_step()).map_err(|error| archive_error(&error))?;
            match step {
                Some(RunStep::Blob { blob, file, .. }) => {
                    return ("blob", blob.path, file).into_pyobject(py).map(Some);
                }
                Some(RunStep::Pieces { pieces, .. }) => self.pieces = pieces.into_iter(),
                None => return Ok(None),
            }
        }
    }
}

/// Returns the name of the folder of a run.
#[pyfunction]
pub(crate) fn run_folder(run_hash: &str) -> String {
    matyan_archive::run_folder(run_hash)
}

/// Returns the type of objects by any of its names: `images` is `image`.
#[pyfunction]
pub(crate) fn singular_dtype(dtype: &str) -> String {
    matyan_value::singular_dtype(dtype).to_owned()
}

/// Returns the item of a piece, or `None` for what only a server uses, and for artifacts, which are blobs.
fn item<'py>(py: Python<'py>, piece: pb::Piece) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let item = match piece.content {
        Some(Content::Points(points)) => {
            let pb::Points { name, context, steps, values, epochs, times_us, .. } = points;
            let values = column(py, values, f64::to_ne_bytes);
            let steps = column(py, steps, i64::to_ne_bytes);
            let epochs = column(py, epochs, i64::to_ne_bytes);
            let times_us = column(py, times_us, i64::to_ne_bytes);
            ("points", name, context, values, steps, epochs, times_us).into_pyobject(py)?
        }
        Some(Content::Object(object)) => {
            let pb::Object { name, context, step, epoch, time_us, value, .. } = object;
            ("object", name, context, step, epoch, time_us, json_text(&value)?).into_pyobject(py)?
        }
        Some(Content::Line(line)) => ("line", line.number, line.text).into_pyobject(py)?,
        Some(Content::Record(record)) => {
            let pb::LogRecord { message, level, timestamp, logger_info, extra_args } = record;
            let arguments = json_text(&extra_args)?;
            ("record", level, message, timestamp, arguments, json_text(&logger_info)?).into_pyobject(py)?
        }
        Some(Content::Artifact(_) | Content::Producer(_) | Content::Dictionary(_) | Content::Parked(_))
        | None => return Ok(None),
    };
    Ok(Some(item))
}

/// Returns numbers as bytes in the order of the machine.
pub(crate) fn column<T>(py: Python<'_>, numbers: Vec<T>, to_bytes: fn(T) -> [u8; 8]) -> Bound<'_, PyBytes> {
    let bytes: Vec<u8> = numbers.into_iter().flat_map(to_bytes).collect();
    PyBytes::new(py, &bytes)
}

/// Returns a value as Python reads it from archives, or `None` if there is none.
fn json_text(encoded: &[u8]) -> PyResult<Option<String>> {
    if encoded.is_empty() {
        return Ok(None);
    }
    let text = json::cbor_text(encoded, JsonStyle::ARCHIVE);
    text.map(Some).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Runs a long call, which an exception of a signal handler interrupts.
pub(crate) fn interruptibly<T: Send>(
    py: Python<'_>,
    call: impl FnOnce(&mut Interrupt<'_>) -> Result<T, Error> + Send,
) -> PyResult<T> {
    let mut interruption = None;
    let result = py.detach(|| {
        call(&mut || {
            Python::attach(|py| py.check_signals()).map_err(|error| {
                interruption = Some(error);
                io::Error::other("interrupted")
            })
        })
    });
    match interruption {
        Some(interruption) => Err(interruption),
        None => result.map_err(|error| archive_error(&error)),
    }
}

pub(crate) fn archive_error(error: &Error) -> PyErr {
    match error {
        Error::File { path, source } => file_at(source, path),
        Error::Damaged { .. } | Error::NotAnArchive(_) => PyValueError::new_err(error.to_string()),
    }
}
