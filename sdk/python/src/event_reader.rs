//! Reader of TensorBoard's event files for the importer. What events mean is decided in `matyan_tfrecord`, for the
//! follower as well.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io,
    path::PathBuf,
};

use matyan_proto::ABSENT;
use matyan_tfrecord::{
    ChunkEnd, EventContent, Object, ObjectPart, Plugins, Point, RecordChunk, SessionOutcome, fitting_name,
    read_chunk,
};
use matyan_value::json::{self, JsonStyle};
use pyo3::{prelude::*, types::PyBytes};

use crate::{archive::column, errors::file_at, opened_file};

/// Bytes of a file that are read at a time, unless a single record is larger.
const CHUNK_BYTES: u64 = 4 << 20;

/// Points of a series that are handed over together.
const PIECE_POINTS: usize = 65_536;

/// Name, values, steps, and times in microseconds of points of a series.
type PointColumns<'py> = (String, Bound<'py, PyBytes>, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

/// The value of an object as JSON, and content and format of its file.
type Part<'py> = (String, Option<(Bound<'py, PyBytes>, &'static str)>);

/// Name, type, step, time in microseconds, and parts of an object.
type FoundObject<'py> = (String, &'static str, i64, i64, Vec<Part<'py>>);

/// The event files of one run, which are opened and read one after the other. What is known of the run as a whole counts
/// all files that were read so far.
#[pyclass(module = "matyan_client._core")]
pub(crate) struct EventReader {
    file: Option<OpenFile>,
    /// Takes a text about damage.
    report: Py<PyAny>,
    content: EventContent,
    plugins: Plugins,
    /// Points that were not handed over yet, by the tags of their series.
    series: HashMap<String, Columns>,
    /// Number of the records that were read.
    #[pyo3(get)]
    record_count: usize,
}

struct OpenFile {
    file: File,
    path: PathBuf,
    position: u64,
    size: u64,
}

#[derive(Default)]
struct Columns {
    values: Vec<f64>,
    steps: Vec<i64>,
    times_us: Vec<i64>,
}

#[pymethods]
impl EventReader {
    #[new]
    fn new(report: Py<PyAny>) -> Self {
        Self {
            file: None,
            report,
            content: EventContent::default(),
            plugins: Plugins::default(),
            series: HashMap::new(),
            record_count: 0,
        }
    }

    /// Opens the next file. With a descriptor, its file is read, wherever the path leads.
    #[pyo3(signature = (path, descriptor = None))]
    fn open(&mut self, path: PathBuf, descriptor: Option<i32>) -> PyResult<()> {
        let opened = opened_file::open(&path, descriptor)
            .and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
        let (file, size) = opened.map_err(|error| file_at(&error, &path))?;
        self.file = Some(OpenFile { file, path, position: 0, size });
        Ok(())
    }

    /// Returns points and objects of the next part of the file; None at its end.
    fn read<'py>(
        &mut self,
        py: Python<'py>,
    ) -> PyResult<Option<(Vec<PointColumns<'py>>, Vec<FoundObject<'py>>)>> {
        let Some(mut file) = self.file.take() else { return Ok(None) };
        let chunk = py.detach(|| file.read(&mut self.content, &mut self.plugins));
        let chunk = chunk.map_err(|error| file_at(&error, &file.path))?;
        self.record_count += chunk.records.len();
        for problem in file.problems(&chunk) {
            self.report.call1(py, (problem,))?;
        }
        if chunk.end == ChunkEnd::Full {
            self.file = Some(file);
        }
        for point in std::mem::take(&mut self.content.points) {
            self.add_point(point);
        }
        let points = self.take_points(py, PIECE_POINTS);
        let objects = std::mem::take(&mut self.content.objects);
        Ok(Some((points, objects.into_iter().map(|object| found_object(py, object)).collect())))
    }

    /// Returns the points that were read and not returned yet.
    fn rest<'py>(&mut self, py: Python<'py>) -> Vec<PointColumns<'py>> {
        self.take_points(py, 0)
    }

    /// The time when the run began, in microseconds.
    #[getter]
    fn created_us(&self) -> Option<i64> {
        self.content.created_us()
    }

    /// The time of the last event, in microseconds.
    #[getter]
    fn ended_us(&self) -> Option<i64> {
        self.content.last_us
    }

    /// The state of the run as its writer says; None while it continues.
    #[getter]
    fn state(&self) -> Option<&'static str> {
        self.content.outcome.map(|outcome| match outcome {
            SessionOutcome::Finished => "finished",
            SessionOutcome::Failed => "failed",
        })
    }

    /// Hyperparameters as JSON.
    #[getter]
    fn hparams(&self) -> String {
        json::map_text(&self.content.hparams, JsonStyle::BARE)
    }

    /// Numbers of values that were left out, by the reason.
    #[getter]
    fn left_out(&self) -> BTreeMap<String, u64> {
        self.content.left_out.clone()
    }

    /// Number of values that describe the display, or a graph of operations.
    #[getter]
    fn hidden(&self) -> u64 {
        self.content.hidden
    }
}

impl EventReader {
    fn add_point(&mut self, point: Point) {
        let Point { tag, value, step, time_us } = point;
        let columns = self.series.entry(tag).or_default();
        columns.values.push(value);
        columns.steps.push(step);
        columns.times_us.push(known_time(Some(time_us)));
    }

    /// Returns the points of series with at least this number of points, in the order of their tags.
    fn take_points<'py>(&mut self, py: Python<'py>, least: usize) -> Vec<PointColumns<'py>> {
        let full = self.series.extract_if(|_, columns| columns.values.len() >= least);
        let full: BTreeMap<String, Columns> = full.collect();
        full.into_iter().map(|(tag, columns)| columns.handed_over(py, &tag)).collect()
    }
}

impl OpenFile {
    /// Reads the next part of the file.
    fn read(&mut self, content: &mut EventContent, plugins: &mut Plugins) -> io::Result<RecordChunk> {
        let chunk = read_chunk(&self.file, self.position, self.size, CHUNK_BYTES)?;
        self.position = chunk.next;
        for record in &chunk.records {
            content.add(record, plugins);
        }
        Ok(chunk)
    }

    /// The damage of the part that was read.
    fn problems(&self, chunk: &RecordChunk) -> Vec<String> {
        let Self { path, position, size, .. } = self;
        let mut problems: Vec<String> =
            chunk.damaged.iter().map(|at| format!("left out a damaged record at byte {at}")).collect();
        match chunk.end {
            ChunkEnd::Damaged => {
                problems.push(format!("damaged at byte {position}; the rest was not read"));
            }
            // A file of a process that was killed.
            ChunkEnd::CaughtUp if position < size => {
                problems.push(format!("ends within a record at byte {position}"));
            }
            ChunkEnd::CaughtUp | ChunkEnd::Full => {}
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        problems.into_iter().map(|problem| format!("{name}: {problem}")).collect()
    }
}

impl Columns {
    fn handed_over<'py>(self, py: Python<'py>, tag: &str) -> PointColumns<'py> {
        let Self { values, steps, times_us } = self;
        let values = column(py, values, f64::to_ne_bytes);
        let steps = column(py, steps, i64::to_ne_bytes);
        let times_us = column(py, times_us, i64::to_ne_bytes);
        (fitting_name(tag).into_owned(), values, steps, times_us)
    }
}

fn found_object<'py>(py: Python<'py>, object: Object) -> FoundObject<'py> {
    let Object { tag, dtype, step, time_us, parts } = object;
    let parts = parts.into_iter().map(|ObjectPart { value, file }| {
        let file = file.map(|file| (PyBytes::new(py, &file.content), file.format));
        (json::map_text(&value, JsonStyle::BARE), file)
    });
    (fitting_name(&tag).into_owned(), dtype, step, known_time(time_us), parts.collect())
}

/// A time, which is the start of the Unix epoch if the writer has set none.
fn known_time(time_us: Option<i64>) -> i64 {
    time_us.filter(|time_us| *time_us != ABSENT).unwrap_or_default()
}
