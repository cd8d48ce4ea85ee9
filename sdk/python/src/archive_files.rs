//! Archives that the Python package writes. `matyan-archive` knows their files; Python knows where
//! runs come from.

use std::{path::PathBuf, time::SystemTime};

use matyan_archive::{
    client_writer::{
        ClientArchive, ClientEntity, ClientObject, ClientPayload, ClientRun, ClientStep, RunFacts,
    },
    pack_interruptibly,
};
use matyan_proto::backup::v1 as pb;
use matyan_value::{Value, cbor};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBytes, PyString},
};

use crate::{
    archive::{archive_error, interruptibly},
    convert,
    payload::{doubles, integers},
};

/// Values, steps, epochs and times in microseconds of points.
type PointColumns<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Option<Bound<'py, PyAny>>, Bound<'py, PyAny>);

/// Name, context and type of a series of objects.
type ObjectSeries<'py> = (Bound<'py, PyString>, Bound<'py, PyAny>, Bound<'py, PyString>);

/// An object as it is stored, with the content and the format of its file.
type StoredObject<'py> = (Bound<'py, PyAny>, Option<(Bound<'py, PyBytes>, Bound<'py, PyString>)>);

/// An archive that is being written.
#[pyclass(module = "matyan_client._core")]
pub(crate) struct ArchiveFiles(ClientArchive);

/// A run of an archive until it is complete.
#[pyclass(module = "matyan_client._core")]
pub(crate) struct RunFiles(Option<ClientRun>);

/// Attributes of `matyan_client.importing.model.RunFacts`.
#[derive(FromPyObject)]
struct Facts<'py> {
    name: Option<Bound<'py, PyString>>,
    description: Option<Bound<'py, PyString>>,
    experiment: Option<Bound<'py, PyString>>,
    tags: Vec<Bound<'py, PyString>>,
    params: Bound<'py, PyAny>,
    created: Option<f64>,
    ended: Option<f64>,
    state: Option<Bound<'py, PyString>>,
    error: Option<Bound<'py, PyString>>,
    is_archived: bool,
}

impl Facts<'_> {
    fn facts(&self) -> PyResult<RunFacts> {
        Ok(RunFacts {
            name: optional_text(self.name.as_ref()).unwrap_or_default(),
            description: optional_text(self.description.as_ref()).unwrap_or_default(),
            experiment: optional_text(self.experiment.as_ref()),
            tags: self.tags.iter().map(convert::text).collect(),
            params: convert::map("params", &self.params)?,
            created: self.created,
            ended: self.ended,
            state: optional_text(self.state.as_ref()),
            error: optional_text(self.error.as_ref()),
            archived: self.is_archived,
        })
    }
}

#[pymethods]
impl ArchiveFiles {
    /// Creates the folder of an archive below a directory.
    #[new]
    fn new(output: PathBuf, prefix: &str, filters: &Bound<'_, PyAny>, blobs: bool) -> PyResult<Self> {
        let filters = convert::map("filters", filters)?;
        let archive = ClientArchive::begin(&output, prefix, filters, blobs, SystemTime::now());
        archive.map(Self).map_err(|error| archive_error(&error))
    }

    #[getter]
    fn path(&self) -> PathBuf {
        self.0.root().to_owned()
    }

    /// Number of the complete runs.
    #[getter]
    fn run_count(&self) -> usize {
        self.0.run_count()
    }

    #[getter]
    fn blob_count(&self) -> u64 {
        self.0.blobs().files
    }

    #[getter]
    fn blob_bytes(&self) -> u64 {
        self.0.blobs().bytes
    }

    /// Adds an experiment or a tag.
    fn add_entity(
        &mut self,
        kind: &str,
        entity_id: Option<String>,
        name: Option<String>,
        description: Option<String>,
        color: Option<String>,
        archived: bool,
    ) {
        self.0.add_entity(kind, &ClientEntity { id: entity_id, name, description, color, archived });
    }

    /// Creates the folder of a run.
    fn begin_run(&self, run_hash: &str) -> PyResult<RunFiles> {
        let run = self.0.begin_run(run_hash).map_err(|error| archive_error(&error))?;
        Ok(RunFiles(Some(run)))
    }

    /// Completes a run, whose facts may be known only now.
    fn finish_run(
        &mut self,
        py: Python<'_>,
        mut run: PyRefMut<'_, RunFiles>,
        facts: Facts<'_>,
    ) -> PyResult<()> {
        let facts = facts.facts()?;
        let run = run.0.take().ok_or_else(is_complete)?;
        let archive = &mut self.0;
        py.detach(|| archive.finish_run(run, facts)).map_err(|error| archive_error(&error))
    }

    /// Completes the archive.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.finish()).map_err(|error| archive_error(&error))
    }
}

#[pymethods]
impl RunFiles {
    /// Writes points, whose columns are bytes of 8-byte numbers.
    fn points(
        &mut self,
        py: Python<'_>,
        name: &Bound<'_, PyString>,
        context: &Bound<'_, PyAny>,
        columns: PointColumns<'_>,
    ) -> PyResult<()> {
        let (values, steps, epochs, times_us) = columns;
        let epochs = match epochs {
            Some(epochs) => integers("epochs", &epochs)?,
            None => Vec::new(),
        };
        let points = pb::Points {
            name: convert::text(name),
            context: convert::context(Some(context))?.stored().to_owned(),
            steps: integers("steps", &steps)?,
            values: doubles("values", &values)?,
            epochs,
            times_us: integers("times_us", &times_us)?,
            ..pb::Points::default()
        };
        let run = self.open()?;
        py.detach(|| run.points(points)).map_err(|error| archive_error(&error))
    }

    /// Writes the objects at a position: a step, an epoch or None, and a time or None.
    fn objects(
        &mut self,
        py: Python<'_>,
        series: ObjectSeries<'_>,
        position: (i64, Option<i64>, Option<f64>),
        members: Vec<StoredObject<'_>>,
    ) -> PyResult<()> {
        let (name, context, dtype) = series;
        let (step, epoch, time) = position;
        let step = ClientStep {
            name: convert::text(&name),
            context: convert::context(Some(&context))?,
            dtype: convert::text(&dtype),
            step,
            epoch,
            time,
            objects: members.iter().map(object).collect::<PyResult<_>>()?,
        };
        let run = self.open()?;
        py.detach(|| run.objects(step)).map_err(|error| archive_error(&error))
    }

    /// Writes a line of the terminal.
    fn line(&mut self, number: i64, text: &Bound<'_, PyString>) -> PyResult<()> {
        let line = pb::TerminalLine { number, text: convert::text(text) };
        self.open()?.line(&line).map_err(|error| archive_error(&error))
    }

    /// Writes a log record. Its location is a file and a line, or None.
    fn record(
        &mut self,
        level: i64,
        message: &Bound<'_, PyString>,
        time: f64,
        arguments: &Bound<'_, PyAny>,
        location: Option<(Bound<'_, PyString>, i64)>,
    ) -> PyResult<()> {
        let arguments = convert::map("arguments", arguments)?;
        let extra_args = if arguments.is_empty() { Vec::new() } else { cbor::encode_map(&arguments) };
        let logger_info = match location {
            Some((file, line)) => {
                let file = Value::Text(convert::text(&file));
                cbor::encode(&Value::List(vec![file, Value::Integer(line)]))
            }
            None => Vec::new(),
        };
        let record = pb::LogRecord {
            message: convert::text(message),
            level,
            timestamp: time,
            logger_info: logger_info.into(),
            extra_args: extra_args.into(),
        };
        self.open()?.record(&record).map_err(|error| archive_error(&error))
    }

    /// Copies an artifact, or lists it if the archive has no blobs.
    fn artifact(&mut self, py: Python<'_>, path: &Bound<'_, PyString>, file: PathBuf) -> PyResult<()> {
        let path = convert::text(path);
        let run = self.open()?;
        py.detach(|| run.artifact(&path, &file)).map_err(|error| archive_error(&error))
    }
}

impl RunFiles {
    fn open(&mut self) -> PyResult<&mut ClientRun> {
        self.0.as_mut().ok_or_else(is_complete)
    }
}

/// Replaces the directory of a complete archive by a `.tar.gz` file, and returns the path of the file.
#[pyfunction]
pub(crate) fn pack_archive(py: Python<'_>, path: PathBuf) -> PyResult<PathBuf> {
    interruptibly(py, |interrupt| pack_interruptibly(&path, interrupt))
}

fn object(given: &StoredObject<'_>) -> PyResult<ClientObject> {
    let (value, payload) = given;
    let payload = payload.as_ref().map(|(content, format)| ClientPayload {
        format: convert::text(format),
        content: content.as_bytes().to_vec(),
    });
    Ok(ClientObject { value: convert::map("value", value)?, payload })
}

fn optional_text(given: Option<&Bound<'_, PyString>>) -> Option<String> {
    given.map(convert::text)
}

fn is_complete() -> PyErr {
    PyValueError::new_err("the run is complete already")
}
