//! The class `Backend`: requests to a server, whose paths and parameters are known in Python.

use std::{path::PathBuf, sync::Arc, time::Duration};

use matyan_proto::common::v1::LogPosition;
use matyan_sdk::{
    http::{Method, RestRequest, Timeouts},
    reading::{BackendClient, BackendOptions, FoundRuns, Search, SearchTarget, SeriesSelection},
};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBytes, PyDict},
};

use crate::{columns::Series, errors, interruption::interrupted, tree};

/// Log records with their numbers.
type NumberedRecords<'py> = Vec<(i64, Bound<'py, PyAny>)>;

/// Query parameters.
type Parameters = Vec<(String, String)>;

/// A client of a backend. Connects with the first request.
#[pyclass(frozen, module = "matyan_client._core")]
pub(crate) struct Backend {
    client: Arc<BackendClient>,
}

/// Runs that a search finds, one after another as they arrive.
#[pyclass(module = "matyan_client._core")]
pub(crate) struct SearchResults(FoundRuns);

/// Arguments of a request.
#[derive(FromPyObject)]
struct Call {
    #[pyo3(item(0))]
    method: String,
    #[pyo3(item(1))]
    path: String,
    #[pyo3(item(2))]
    parameters: Parameters,
    #[pyo3(item(3))]
    body: Option<String>,
}

#[pymethods]
impl Backend {
    #[new]
    fn new(url: &str, timeout: f64) -> PyResult<Self> {
        let request = Duration::try_from_secs_f64(timeout)
            .map_err(|_| PyValueError::new_err("`timeout`: expected a positive number of seconds"))?;
        let options = BackendOptions {
            timeouts: Timeouts { request, ..Timeouts::default() },
            interrupted,
            runtime: matyan_sdk::io_runtime,
        };
        let client = BackendClient::new(url, options).map_err(errors::http)?;
        Ok(Self { client: Arc::new(client) })
    }

    #[getter]
    fn url(&self) -> &str {
        self.client.url()
    }

    /// Makes every later answer include the data that was stored at a position of the log.
    fn include(&self, run_id: &str, position: (u32, u32, u64)) {
        let (log, partition, offset) = position;
        self.client.include(run_id, LogPosition { log, partition, offset });
    }

    /// Sends a request (method, path, parameters, and JSON body or None), and returns the text of the
    /// answer.
    fn send(&self, py: Python<'_>, call: Call) -> PyResult<String> {
        let request = call.request()?;
        let answer = py.detach(|| self.client.send(request));
        answer.map(|json| json.as_str().to_owned()).map_err(errors::http)
    }

    /// Sends a request and returns the bytes of the answer, which may be large.
    fn read<'py>(&self, py: Python<'py>, call: Call) -> PyResult<Bound<'py, PyBytes>> {
        let request = call.request()?;
        let content = py.detach(|| self.client.open(request)?.into_bytes()).map_err(errors::http)?;
        Ok(PyBytes::new(py, &content))
    }

    /// Sends a request and writes the answer to a file, which appears when it is complete. Returns its
    /// length.
    fn save(&self, py: Python<'_>, call: Call, path: PathBuf) -> PyResult<u64> {
        let request = call.request()?;
        py.detach(|| self.client.open(request)?.save(&path)).map_err(errors::http)
    }

    /// Searches, and returns the results once the server has accepted the query.
    fn search(
        &self,
        py: Python<'_>,
        target: &str,
        query: &str,
        parameters: Parameters,
    ) -> PyResult<SearchResults> {
        let search = Search::new(
            SearchTarget::from_name(target).ok_or_else(|| {
                PyValueError::new_err(format!("`seq_type`: unknown type of sequence {target:?}"))
            })?,
            query,
        );
        let search = parameters.iter().fold(search, |search, (name, value)| search.parameter(name, value));
        py.detach(|| self.client.search(&search)).map(SearchResults).map_err(errors::http)
    }

    /// Returns terminal lines with their numbers.
    fn lines(&self, py: Python<'_>, run_id: &str, record_range: &str) -> PyResult<Vec<(i64, String)>> {
        py.detach(|| self.client.lines(run_id, record_range).and_then(Iterator::collect))
            .map_err(errors::http)
    }

    /// Returns the number of all log records, and records with their numbers.
    fn log_records<'py>(
        &self,
        py: Python<'py>,
        run_id: &str,
        record_range: &str,
    ) -> PyResult<(i64, NumberedRecords<'py>)> {
        let (count, records) = py
            .detach(|| {
                let (count, records) = self.client.log_records(run_id, record_range)?;
                Ok((count, records.collect::<Result<Vec<_>, _>>()?))
            })
            .map_err(errors::http)?;
        let records = records.iter().map(|(number, record)| Ok((*number, tree::object(py, record)?)));
        Ok((count, records.collect::<PyResult<_>>()?))
    }

    /// Returns the contents of blobs by URI.
    fn blobs<'py>(&self, py: Python<'py>, target: &str, uris: Vec<String>) -> PyResult<Bound<'py, PyDict>> {
        let target = SearchTarget::from_name(target).ok_or_else(|| {
            PyValueError::new_err(format!("`seq_type`: unknown type of sequence {target:?}"))
        })?;
        let found: Result<Vec<_>, _> =
            py.detach(|| self.client.blobs(target, &uris).and_then(|found| found.collect()));
        let blobs = PyDict::new(py);
        for (uri, content) in found.map_err(errors::http)? {
            blobs.set_item(uri, PyBytes::new(py, &content))?;
        }
        Ok(blobs)
    }

    /// Removes paths from the params of a run.
    fn delete_params(&self, py: Python<'_>, run_id: &str, paths: Vec<Vec<String>>) -> PyResult<()> {
        py.detach(|| self.client.delete_params(run_id, paths)).map_err(errors::http)
    }

    /// Returns metrics at full resolution; all of the run if no keys (name and JSON context) are
    /// given.
    fn series(
        &self,
        py: Python<'_>,
        run_id: String,
        keys: Vec<(String, String)>,
        first_step: Option<i64>,
        end_step: Option<i64>,
    ) -> PyResult<Vec<Series>> {
        let selection = SeriesSelection { run_id, keys, first_step, end_step, epochs: true, times: true };
        let found: Result<Vec<_>, _> =
            py.detach(|| self.client.series(selection).and_then(|series| series.collect()));
        Ok(found.map_err(errors::http)?.into_iter().map(Series::from).collect())
    }
}

#[pymethods]
impl SearchResults {
    /// Warnings about the query.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.0.warnings().to_vec()
    }

    /// The cursor of the next page or None, once all runs are read.
    #[getter]
    fn next_cursor(&self) -> Option<String> {
        self.0.next_cursor().map(str::to_owned)
    }

    fn __iter__(results: PyRef<'_, Self>) -> PyRef<'_, Self> {
        results
    }

    /// Returns the id of the next run, and the data that was found of it.
    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<(String, Bound<'py, PyAny>)>> {
        let found = &mut self.0;
        let next = py.detach(|| found.next()).transpose().map_err(errors::http)?;
        let Some(run) = next else { return Ok(None) };
        // Lists are dicts with integer keys, which scripts expect since Matyan 0.3.
        let content = match run.content.published() {
            Some(content) => tree::object(py, &content)?,
            None => PyDict::new(py).into_any(),
        };
        Ok(Some((run.id, content)))
    }
}

impl Call {
    fn request(self) -> PyResult<RestRequest> {
        let method = Method::from_bytes(self.method.as_bytes())
            .map_err(|_| PyValueError::new_err("`method`: expected a method of HTTP"))?;
        let request = match self.body {
            Some(body) => RestRequest::json(method, self.path, body),
            None => RestRequest::new(method, self.path),
        };
        Ok(self.parameters.iter().fold(request, |request, (name, value)| request.query(name, value)))
    }
}
