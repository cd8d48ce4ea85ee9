//! Calls about runs: search, info, changes, objects, and logs.

use std::collections::VecDeque;

use matyan_proto::runs::v1::{DeleteParamsRequest, DeleteParamsResponse, ParamPath};
use matyan_wire::{
    headers::QUERY_WARNINGS,
    search_stream::{NEXT_CURSOR, PROGRESS},
};
use object_store_http::{
    Method,
    header::{HeaderName, HeaderValue},
};

use super::{
    backend::{BackendClient, text_list, text_members},
    columns::{self, SeriesIterator, SeriesSelection},
    tree::{Tree, TreeFolder},
    tree_stream::Key,
    wait::BlockingBody,
};
use crate::http::{HttpError, JsonText, RestRequest, malformed, segment};

const RUNS: &str = "/api/v1/rest/runs";

/// The kind of data that a search is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchTarget {
    /// Runs, with an overview of their metrics.
    Runs,
    /// Metric series.
    Metrics,
    /// Sequences of images.
    Images,
    /// Sequences of texts.
    Texts,
    /// Sequences of distributions.
    Distributions,
    /// Sequences of audio clips.
    Audios,
    /// Sequences of figures.
    Figures,
    /// Sequences of HTML pages.
    Htmls,
    /// Sequences of point clouds.
    PointClouds,
}

impl SearchTarget {
    /// The name in URLs, which is also the name of the buckets of run info, except for runs.
    ///
    /// ```
    /// # use matyan_sdk::reading::SearchTarget;
    /// assert_eq!(SearchTarget::Metrics.name(), "metric");
    /// assert_eq!(SearchTarget::from_name("images"), Some(SearchTarget::Images));
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Runs => "run",
            Self::Metrics => "metric",
            Self::Images => "images",
            Self::Texts => "texts",
            Self::Distributions => "distributions",
            Self::Audios => "audios",
            Self::Figures => "figures",
            Self::Htmls => "htmls",
            Self::PointClouds => "point_clouds",
        }
    }

    /// The target with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [
            Self::Runs,
            Self::Metrics,
            Self::Images,
            Self::Texts,
            Self::Distributions,
            Self::Audios,
            Self::Figures,
            Self::Htmls,
            Self::PointClouds,
        ];
        all.into_iter().find(|target| target.name() == name)
    }
}

/// A search with MatyanQL.
///
/// ```
/// # use matyan_sdk::reading::Search;
/// let newest = Search::runs("run.active").limit(10).parameter("exclude_params", "true");
/// let images = Search::new(matyan_sdk::reading::SearchTarget::Images, "").parameter("record_density", "10");
/// # drop((newest, images));
/// ```
#[derive(Clone, Debug)]
pub struct Search {
    target: SearchTarget,
    query: String,
    parameters: Vec<(String, String)>,
    timezone_offset_min: i32,
}

impl Search {
    /// A search; a blank query finds everything that is not archived.
    pub fn new(target: SearchTarget, query: &str) -> Self {
        Self { target, query: query.to_owned(), parameters: Vec::new(), timezone_offset_min: 0 }
    }

    /// A search for runs, newest first.
    pub fn runs(query: &str) -> Self {
        Self::new(SearchTarget::Runs, query)
    }

    /// Limits the number of runs. Only for runs.
    #[must_use]
    pub fn limit(self, limit: u32) -> Self {
        self.parameter("limit", &limit.to_string())
    }

    /// Starts after the run with this id. Only for runs.
    #[must_use]
    pub fn after(self, run_id: &str) -> Self {
        self.parameter("offset", run_id)
    }

    /// Starts where the previous page ended, with its `next_cursor`. The first page, which needs an
    /// empty one to have a `next_cursor`, may start after a run. Only for runs.
    #[must_use]
    pub fn cursor(mut self, cursor: &str) -> Self {
        if !cursor.is_empty() {
            self.parameters.retain(|(name, _)| name != "offset");
        }
        self.parameter("cursor", cursor)
    }

    /// Sets any parameter of the call, such as `p` or `record_range`.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.retain(|(known, _)| known != name);
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the time zone of dates in the query, in minutes: UTC minus local time.
    #[must_use]
    pub fn timezone_offset_min(mut self, minutes: i32) -> Self {
        self.timezone_offset_min = minutes;
        self
    }

    fn request(&self) -> RestRequest {
        let path = format!("{RUNS}/search/{}/", self.target.name());
        let zone = HeaderName::from_static("x-timezone-offset");
        let request = RestRequest::get(path)
            .query("q", &self.query)
            // Its last frame is the only sign of a complete answer.
            .query("report_progress", "true")
            .header(zone, HeaderValue::from(self.timezone_offset_min));
        self.parameters.iter().fold(request, |request, (name, value)| request.query(name, value))
    }
}

/// One result of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundRun {
    /// Id of the run.
    pub id: String,
    /// Its params, traces, and props.
    pub content: Tree,
}

/// Trees of an answer, one after another.
pub struct TreeIterator {
    body: BlockingBody,
    folder: TreeFolder,
    is_complete: bool,
}

impl TreeIterator {
    pub(super) fn new(body: BlockingBody) -> Self {
        Self { body, folder: TreeFolder::default(), is_complete: false }
    }

    fn read(&mut self) -> Result<Option<(Key, Tree)>, HttpError> {
        loop {
            if let Some(tree) = self.folder.next_tree() {
                return Ok(Some(tree));
            }
            let read = match self.body.next() {
                _ if self.is_complete => return Ok(None),
                Some(piece) => self.folder.push(&piece?),
                None => {
                    self.is_complete = true;
                    self.folder.finish()
                }
            };
            read.map_err(|error| malformed(self.body.url(), error))?;
        }
    }
}

impl Iterator for TreeIterator {
    type Item = Result<(Key, Tree), HttpError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.read().transpose();
        // Nothing can be decoded after an error.
        if matches!(next, Some(Err(_))) {
            self.folder = TreeFolder::default();
            self.is_complete = true;
        }
        next
    }
}

/// Results of a search, in the order of the server. An answer that breaks off ends with an error.
pub struct FoundRuns {
    trees: TreeIterator,
    warnings: Vec<String>,
    progress: (i64, i64),
    next_cursor: Option<String>,
    is_complete: bool,
}

impl FoundRuns {
    /// Warnings about the query, such as names that no run has.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Number of runs that have been checked, and number of runs to check; zero while unknown.
    pub fn progress(&self) -> (i64, i64) {
        self.progress
    }

    /// The cursor of the next page, once all results are read; empty after the last page. `None` if the
    /// search had no cursor, or if the server has none.
    pub fn next_cursor(&self) -> Option<&str> {
        self.next_cursor.as_deref()
    }
}

impl Iterator for FoundRuns {
    type Item = Result<FoundRun, HttpError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.trees.next() {
                Some(Ok((Key::Text(key), content))) if !key.starts_with(PROGRESS) => {
                    return Some(Ok(FoundRun { id: key, content }));
                }
                Some(Ok((Key::Text(key), Tree::Text(cursor)))) if key == NEXT_CURSOR => {
                    self.next_cursor = Some(cursor);
                }
                Some(Ok((_, Tree::List(numbers)))) => {
                    if let [Tree::Integer(checked), Tree::Integer(total)] = numbers[..] {
                        self.progress = (checked, total);
                        self.is_complete = self.progress == (0, 0);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    self.is_complete = true;
                    return Some(Err(error));
                }
                None if self.is_complete => return None,
                None => {
                    self.is_complete = true;
                    return Some(Err(malformed(self.trees.body.url(), "the search broke off")));
                }
            }
        }
    }
}

/// Log records with their numbers.
pub struct LogRecords(TreeIterator);

impl Iterator for LogRecords {
    type Item = Result<(i64, Tree), HttpError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.find_map(|tree| match tree {
            Ok((Key::Index(step), record)) => Some(Ok((step, record))),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
    }
}

/// Pages of a search for runs. They continue by cursor, whatever happens to the runs in between; with a
/// server that has no cursors, they continue after the last run of a page, until a page is short.
pub struct RunPages<'a> {
    backend: &'a BackendClient,
    /// The search for the next page; `None` after the last one.
    next: Option<Search>,
    limit: u32,
}

impl RunPages<'_> {
    /// Reads a page, and prepares the search for the next one.
    fn read(&mut self, search: Search) -> Result<Vec<FoundRun>, HttpError> {
        let mut found = self.backend.search(&search)?;
        let page = found.by_ref().collect::<Result<Vec<_>, _>>()?;
        self.next = match (found.next_cursor(), page.last()) {
            (Some(""), _) => None,
            (Some(cursor), _) => Some(search.cursor(cursor)),
            (None, Some(last)) if page.len() as u64 >= u64::from(self.limit) => Some(search.after(&last.id)),
            (None, _) => None,
        };
        Ok(page)
    }
}

impl Iterator for RunPages<'_> {
    type Item = Result<Vec<FoundRun>, HttpError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let search = self.next.take()?;
            match self.read(search) {
                // All runs of the page were deleted while it was read.
                Ok(page) if page.is_empty() => {}
                page => return Some(page),
            }
        }
    }
}

impl BackendClient {
    /// Searches. A query that does not parse is refused with status 400.
    pub fn search(&self, search: &Search) -> Result<FoundRuns, HttpError> {
        let body = self.open(search.request())?;
        let warnings = body.headers().get(QUERY_WARNINGS).and_then(|value| value.to_str().ok());
        // A server may send no warnings, and a server of Matyan 0.3 never sends any.
        let warnings = warnings.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let trees = TreeIterator::new(body);
        Ok(FoundRuns { trees, warnings, progress: (0, 0), next_cursor: None, is_complete: false })
    }

    /// Searches for runs in pages of `limit` runs.
    pub fn search_pages(&self, search: Search, limit: u32) -> RunPages<'_> {
        let limit = limit.max(1);
        RunPages { backend: self, next: Some(search.limit(limit).cursor("")), limit }
    }

    /// Params, traces, props, and artifacts of a run. `sequences` names the types of traces; empty
    /// means all.
    pub fn run_info(&self, run_id: &str, sequences: &[impl AsRef<str>]) -> Result<JsonText, HttpError> {
        let request = RestRequest::get(run_path(run_id, "info/"));
        let request =
            sequences.iter().fold(request, |request, name| request.query("sequence", name.as_ref()));
        self.send(request)
    }

    /// Sets properties of a run. `fields` is the JSON text of an object.
    pub fn update_run(&self, run_id: &str, fields: &str) -> Result<JsonText, HttpError> {
        self.send(RestRequest::json(Method::PUT, run_path(run_id, ""), fields.to_owned()))
    }

    /// Deletes a run.
    pub fn delete_run(&self, run_id: &str) -> Result<JsonText, HttpError> {
        self.send(RestRequest::new(Method::DELETE, run_path(run_id, "")))
    }

    /// Deletes runs; unknown ids are ignored.
    pub fn delete_runs(&self, run_ids: &[impl AsRef<str>]) -> Result<JsonText, HttpError> {
        self.send(RestRequest::json(Method::POST, format!("{RUNS}/delete-batch/"), text_list(run_ids)))
    }

    /// Removes paths from the params of a run; an empty path removes all of them. A Matyan 0.3 backend
    /// does not support it.
    pub fn delete_params(&self, run_id: &str, paths: Vec<Vec<String>>) -> Result<(), HttpError> {
        let paths = paths.into_iter().map(|segments| ParamPath { segments }).collect();
        let request = DeleteParamsRequest { run_id: run_id.to_owned(), paths };
        let answer = self.call::<DeleteParamsResponse>("/matyan.runs.v1.RunService/DeleteParams", request);
        answer.map(drop)
    }

    /// Allows the id of a deleted run to be used again.
    pub fn clear_tombstone(&self, run_id: &str) -> Result<(), HttpError> {
        let request = RestRequest::new(Method::POST, run_path(run_id, "clear-tombstone/"));
        self.send(request).map(drop)
    }

    /// Adds a tag by name, creating it if it is missing.
    pub fn add_tag(&self, run_id: &str, name: &str) -> Result<JsonText, HttpError> {
        let members = text_members(&[("tag_name", Some(name))]);
        self.send(RestRequest::json(Method::POST, run_path(run_id, "tags/new/"), members))
    }

    /// Removes a tag by its id.
    pub fn remove_tag(&self, run_id: &str, tag_id: &str) -> Result<JsonText, HttpError> {
        let path = run_path(run_id, &format!("tags/{}/", segment(tag_id)));
        self.send(RestRequest::new(Method::DELETE, path))
    }

    /// Reads metric series at full resolution. An unknown run is an error of the first item.
    ///
    /// ```no_run
    /// # fn read(backend: &matyan_sdk::reading::BackendClient) -> Result<(), matyan_sdk::http::HttpError> {
    /// use matyan_sdk::reading::SeriesSelection;
    ///
    /// for series in backend.series(SeriesSelection::all("run").with_times())? {
    ///     let series = series?;
    ///     println!("{} {}: {} points", series.name, series.context, series.values.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn series(&self, selection: SeriesSelection) -> Result<SeriesIterator, HttpError> {
        self.stream(|client, sink| columns::read(client, selection, sink)).map(SeriesIterator)
    }

    /// Sampled points of metric series in JSON; `density` 0 is every point. `traces` is the JSON text
    /// of a list of objects with `name` and `context`, `range` is `start:stop` or empty.
    pub fn metric_batch(
        &self,
        run_id: &str,
        traces: &str,
        range: &str,
        density: i64,
    ) -> Result<JsonText, HttpError> {
        let path = run_path(run_id, "metric/get-batch/");
        let request = RestRequest::json(Method::POST, path, traces.to_owned()).slow();
        self.send(ranged(request, range).query("record_density", &density.to_string()))
    }

    /// Steps of object sequences of one run: one map for each trace that exists, in the order of the
    /// request. `traces` is as in `metric_batch`; `parameters` are `record_range`, `record_density`,
    /// `index_range`, and `index_density`.
    pub fn object_batch(
        &self,
        run_id: &str,
        target: SearchTarget,
        traces: &str,
        parameters: &[(&str, &str)],
    ) -> Result<impl Iterator<Item = Result<Tree, HttpError>> + Send + use<>, HttpError> {
        let path = run_path(run_id, &format!("{}/get-batch/", target.name()));
        let request = RestRequest::json(Method::POST, path, traces.to_owned());
        let request = parameters.iter().fold(request, |request, (name, value)| request.query(name, value));
        Ok(traces_of(TreeIterator::new(self.open(request)?)))
    }

    /// Contents of blobs by the `blob_uri` of objects. Unknown URIs are left out.
    pub fn blobs(
        &self,
        target: SearchTarget,
        uris: &[String],
    ) -> Result<impl Iterator<Item = Result<(String, Vec<u8>), HttpError>> + Send + use<>, HttpError> {
        let path = format!("{RUNS}/{}/get-batch/", target.name());
        let body = self.open(RestRequest::json(Method::POST, path, text_list(uris)))?;
        Ok(TreeIterator::new(body).filter_map(|tree| match tree {
            Ok((Key::Text(uri), Tree::Bytes(content))) => Some(Ok((uri, content))),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }))
    }

    /// Terminal lines with their numbers. `range` is `start:stop`, and `0:` is all of them; if it is
    /// empty, the server sends the last 200.
    pub fn lines(
        &self,
        run_id: &str,
        range: &str,
    ) -> Result<impl Iterator<Item = Result<(i64, String), HttpError>> + Send + use<>, HttpError> {
        let trees = TreeIterator::new(self.open(ranged(RestRequest::get(run_path(run_id, "logs/")), range))?);
        Ok(trees.filter_map(|tree| match tree {
            Ok((Key::Index(step), Tree::Text(line))) => Some(Ok((step, line))),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }))
    }

    /// Number of all log records, and the records of a range with their numbers. `range` is as in
    /// `lines`.
    pub fn log_records(&self, run_id: &str, range: &str) -> Result<(i64, LogRecords), HttpError> {
        let request = ranged(RestRequest::get(run_path(run_id, "log-records/")), range);
        let mut trees = TreeIterator::new(self.open(request)?);
        // The count is the first tree.
        match trees.next().transpose()? {
            Some((Key::Text(_), Tree::Integer(count))) => Ok((count, LogRecords(trees))),
            _ => Err(malformed(trees.body.url(), "log records without their number")),
        }
    }
}

/// Groups the members of an object batch: every trace starts with its `name`.
fn traces_of(mut trees: TreeIterator) -> impl Iterator<Item = Result<Tree, HttpError>> + Send {
    let mut members: VecDeque<(Key, Tree)> = VecDeque::new();
    let mut is_complete = false;
    std::iter::from_fn(move || {
        while !is_complete {
            match trees.next() {
                Some(Ok((key, tree))) => {
                    let is_next = key.as_text() == Some("name") && !members.is_empty();
                    let trace = is_next.then(|| Tree::Map(members.drain(..).collect()));
                    members.push_back((key, tree));
                    if let Some(trace) = trace {
                        return Some(Ok(trace));
                    }
                }
                Some(Err(error)) => {
                    is_complete = true;
                    return Some(Err(error));
                }
                None => {
                    is_complete = true;
                    let last = Tree::Map(members.drain(..).collect());
                    return (last != Tree::Map(Vec::new())).then_some(Ok(last));
                }
            }
        }
        None
    })
}

fn run_path(run_id: &str, rest: &str) -> String {
    format!("{RUNS}/{}/{rest}", segment(run_id))
}

fn ranged(request: RestRequest, range: &str) -> RestRequest {
    if range.is_empty() { request } else { request.query("record_range", range) }
}
