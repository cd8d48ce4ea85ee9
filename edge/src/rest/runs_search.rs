//! Run search and the list of active runs: one tree per run, in search order.

use std::collections::HashMap;

use http::StatusCode;
use matyan_proto::common::v1::SeriesType;
use matyan_proto::runs::v1::{Run, RunParts, SeriesInfo};
use matyan_proto::search::v1::sort::By;
use matyan_proto::search::v1::{Query, RunsRequest, RunsResponse, Sort, SortField, Warning};
use matyan_wire::search_stream::NEXT_CURSOR;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tonic::Status;

use super::call::{Call, TimeZone};
use super::operation::Operation;
use super::shared::{self, yes};
use super::stream_response::{self, Entries, EntryWriter, ProgressWriter, SearchResults};
use super::values;
use crate::error::{ApiError, ApiResult, Problem};
use crate::stream::Encoder;

/// Query for all active runs, including archived ones.
const ACTIVE_RUNS_QUERY: &str = "run.active == True and (run.archived == True or run.archived == False)";

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/runs/search/run", "Search for runs, as a stream", search),
        Operation::get("/runs/active", "Active runs, as a stream", active),
    ]
}

/// Parameters of all searches.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct SearchParameters {
    #[serde(default)]
    q: String,
    #[serde(default = "yes")]
    skip_system: bool,
    #[serde(default = "yes")]
    report_progress: bool,
}

impl SearchParameters {
    pub(crate) fn query(&self, zone: &TimeZone) -> Query {
        Query {
            text: self.q.clone(),
            timezone_offset_min: zone.offset_min,
            report_progress: self.report_progress,
        }
    }

    /// Parts of a run that every result has.
    pub(crate) fn parts(&self) -> RunParts {
        RunParts { props: true, params: true, system_params: !self.skip_system, ..Default::default() }
    }

    pub(crate) fn progress(&self) -> ProgressWriter {
        ProgressWriter::new(self.report_progress)
    }

    /// The error response for a failed search.
    pub(crate) fn error(&self, status: Status) -> ApiError {
        ApiError::for_query(status, &self.q)
    }
}

#[derive(Deserialize, JsonSchema)]
struct RunSearchParameters {
    #[serde(default)]
    limit: i64,
    #[serde(default)]
    offset: String,
    /// `progress_cursor` of the previous page, or empty for the first page. If given, the answer ends with the cursor of
    /// the next page, which is empty after the last run
    cursor: Option<String>,
    #[serde(default)]
    sort: String,
    #[serde(flatten)]
    search: SearchParameters,
    #[serde(default)]
    exclude_params: bool,
    #[serde(default)]
    exclude_traces: bool,
    #[serde(flatten)]
    zone: TimeZone,
}

async fn search(call: Call<RunSearchParameters>) -> ApiResult<SearchResults> {
    let RunSearchParameters { limit, offset, cursor, sort, search, exclude_params, exclude_traces, zone } =
        call.parameters;
    let limit = u32::try_from(limit).map_err(|_| {
        let message = "Input should be greater than or equal to 0".to_owned();
        ApiError::validation(&[Problem { field: "limit".to_owned(), message }])
    })?;
    let parts =
        RunParts { params: !exclude_params, series_types: metric_types(!exclude_traces), ..search.parts() };
    let request = RunsRequest {
        query: Some(search.query(&zone)),
        sort: parse_sort(&sort)?,
        limit,
        after_run_id: offset,
        parts: Some(parts),
        cursor: cursor.clone().unwrap_or_default(),
        ..Default::default()
    };
    let found = call.services.backend().search().runs(request).await;
    let messages = found.map_err(|status| search.error(status))?.into_inner();
    let writer = RunSearchWriter {
        next_cursor: cursor.map(|_| String::new()),
        ..RunSearchWriter::new(search.progress())
    };
    stream_response::search_results(messages, writer).await
}

fn metric_types(with_metrics: bool) -> Vec<i32> {
    if with_metrics { vec![SeriesType::Metric.into()] } else { Vec::new() }
}

/// Parses the `sort` parameter; valid JSON that is not an array is ignored.
fn parse_sort(text: &str) -> ApiResult<Vec<Sort>> {
    let bad_request = |message: String| ApiError::new(StatusCode::BAD_REQUEST, message);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let json: Value =
        serde_json::from_str(text).map_err(|error| bad_request(format!("Invalid sort JSON: {error}")))?;
    let Value::Array(items) = json else { return Ok(Vec::new()) };
    let mut sort = Vec::new();
    for item in items {
        let Value::Object(item) = item else {
            return Err(bad_request("Invalid sort JSON: each item should be an object".to_owned()));
        };
        let word = |key: &str, default: &str| match item.get(key) {
            None => default.to_owned(),
            Some(Value::String(word)) => word.clone(),
            Some(other) => other.to_string(),
        };
        let descending = match word("order", "asc").as_str() {
            "asc" => false,
            "desc" => true,
            order => return Err(bad_request(format!("Invalid sort order: '{order}'"))),
        };
        let field = match word("field", "").as_str() {
            "run" => SortField::Name,
            "experiment" => SortField::Experiment,
            "hash" => SortField::RunId,
            "date" => SortField::Created,
            "duration" => SortField::Duration,
            "description" => SortField::Description,
            // Equal for every run, so it does not affect the order.
            "creator" => continue,
            field => return Err(bad_request(format!("Unknown sort field: '{field}'"))),
        };
        sort.push(Sort { by: Some(By::Field(field.into())), descending, ..Sort::default() });
    }
    Ok(sort)
}

struct RunSearchWriter {
    progress: ProgressWriter,
    ranks: RankCounter,
    trees: RunTreeWriter,
    /// `None` if it was not asked for.
    next_cursor: Option<String>,
    done: bool,
}

impl RunSearchWriter {
    fn new(progress: ProgressWriter) -> Self {
        RunSearchWriter {
            progress,
            ranks: RankCounter::default(),
            trees: RunTreeWriter::new(OverviewFields::All),
            next_cursor: None,
            done: false,
        }
    }
}

/// Counts the ranks of runs: among all matches or, if the server does not count those, among the runs of this response.
#[derive(Default)]
struct RankCounter {
    /// Rank of the last run of the previous messages.
    last: i64,
}

impl RankCounter {
    /// The ranks of the runs in a message, without an end: zip them with the runs. `is_open`: the first run continues the
    /// last run of the previous message.
    fn next_ranks(&mut self, message: &RunsResponse, is_open: bool) -> impl Iterator<Item = i64> + use<> {
        let next = self.last + i64::from(!is_open);
        if message.runs.is_empty() {
            // A keep-alive message: an open run continues after it.
            return next..;
        }
        let first = message.first_place.map_or(next, |place| place as i64);
        self.last = first - 1 + message.runs.len() as i64;
        first..
    }
}

/// Number of matches or, while it is not known, of runs that may match.
fn total(message: &RunsResponse) -> i64 {
    let runs = message.progress.as_ref().map_or(0, |progress| progress.total);
    message.match_count.unwrap_or(runs) as i64
}

impl EntryWriter for RunSearchWriter {
    type Message = RunsResponse;

    fn warnings(message: &RunsResponse) -> &[Warning] {
        &message.warnings
    }

    fn write(&mut self, message: RunsResponse, encoder: &mut Encoder) {
        let total = total(&message);
        let has_matches = message.match_count.is_some_and(|count| count > 0) || !message.runs.is_empty();
        // The first progress entry precedes the first run. A search that ends without matches has only the end entry.
        if self.progress.is_unwritten() && (has_matches || total > 0 && !message.done) {
            self.progress.write_if_changed(encoder, 0, total);
        } else if message.runs.is_empty()
            && !message.done
            && message.progress.is_some()
            && !self.trees.is_open()
        {
            // A progress entry in the middle of a run would split its tree.
            self.progress.write_keep_alive(encoder);
        }
        for (rank, run) in self.ranks.next_ranks(&message, self.trees.is_open()).zip(message.runs) {
            if self.trees.write(run, encoder) {
                self.progress.write_if_changed(encoder, rank, total);
            }
        }
        if let Some(cursor) = &mut self.next_cursor {
            *cursor = message.next_cursor;
        }
        self.done |= message.done;
    }

    fn finish(&mut self, encoder: &mut Encoder) -> bool {
        if let Some(cursor) = &self.next_cursor {
            encoder.member(NEXT_CURSOR, |it| it.text(cursor));
        }
        self.progress.write_end(encoder);
        self.done && !self.trees.is_open()
    }
}

/// Writes trees of runs. A run with very many series arrives in several messages, which continue one tree.
struct RunTreeWriter {
    fields: OverviewFields,
    contexts: Contexts,
    /// The unfinished run, and the number of its series written so far.
    open: Option<(Run, i64)>,
}

impl RunTreeWriter {
    fn new(fields: OverviewFields) -> Self {
        RunTreeWriter { fields, contexts: Contexts::default(), open: None }
    }

    fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Writes a run, and returns whether its tree is complete.
    fn write(&mut self, mut run: Run, encoder: &mut Encoder) -> bool {
        let series = std::mem::take(&mut run.series);
        let is_last = !run.more_series;
        let (run, written) = self.open.take().unwrap_or_else(|| {
            encoder.member(&run.run_id, |it| {
                if self.fields == OverviewFields::All {
                    it.member("params", |it| write_params(&run, it));
                }
                it.member("traces", |it| it.member("metric", Encoder::array));
            });
            (run, 0)
        });
        // Entries have full paths, so opening the same members again adds to the same tree.
        encoder.member(&run.run_id, |it| {
            it.member("traces", |it| {
                it.member("metric", |it| write_series(written, &series, it, self.fields, &mut self.contexts));
            });
            if is_last {
                write_props(&run, it);
            }
        });
        self.open = (!is_last).then_some((run, written + series.len() as i64));
        is_last
    }
}

/// Writes the params of a run. Unreadable parts are omitted and logged.
pub(crate) fn write_params(run: &Run, encoder: &mut Encoder) {
    if let Err(error) = values::stream(&run.params, encoder) {
        tracing::error!(
            run_id = run.run_id,
            error = &error as &dyn std::error::Error,
            "failed to convert params"
        );
    }
}

pub(crate) fn write_props(run: &Run, encoder: &mut Encoder) {
    if let Some(props) = &run.props {
        encoder.member("props", |it| shared::write_props(props, it));
    }
}

/// Writes a context. An unreadable context is logged and left out.
pub(crate) fn write_context(context: &str, encoder: &mut Encoder) {
    if let Err(error) = values::stream_context(context, encoder) {
        tracing::error!(context, error = &error as &dyn std::error::Error, "failed to convert context");
    }
}

/// The fields in the overview of a series: all, or only the last value and its step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OverviewFields {
    All,
    Last,
}

/// Contexts as CBOR, by their JSON. The many series of an answer share few contexts, so up to `KEPT` of them are kept and
/// not converted again.
#[derive(Default)]
struct Contexts(HashMap<String, Vec<u8>>);

impl Contexts {
    /// Maximum number of contexts kept.
    const KEPT: usize = 1_000;

    fn write(&mut self, context: &str, encoder: &mut Encoder) {
        if let Some(cbor) = self.0.get(context) {
            values::stream(cbor, encoder).expect("`context_cbor` returns valid CBOR");
            return;
        }
        write_context(context, encoder);
        if self.0.len() < Self::KEPT
            && let Ok(cbor) = values::context_cbor(context)
        {
            self.0.insert(context.to_owned(), cbor);
        }
    }
}

/// Writes elements of a list, starting with index `from`.
fn write_series(
    from: i64,
    series: &[SeriesInfo],
    encoder: &mut Encoder,
    fields: OverviewFields,
    contexts: &mut Contexts,
) {
    for (index, info) in (from..).zip(series) {
        encoder.element(index, |it| {
            it.text_member(b"name", info.name.as_bytes());
            it.member("context", |it| contexts.write(&info.context, it));
            it.member("values", |it| write_overview(info, it, fields));
        });
    }
}

fn write_overview(info: &SeriesInfo, encoder: &mut Encoder, fields: OverviewFields) {
    let last = info.last.unwrap_or(0.0);
    encoder.float_member(b"last", last);
    encoder.int_member(b"last_step", info.last_step);
    if fields == OverviewFields::All {
        encoder.float_member(b"first", info.first.unwrap_or(last));
        // Without any finite value, the series has no minimum or maximum.
        encoder.float_member(b"min", info.min.unwrap_or(f64::NAN));
        encoder.float_member(b"max", info.max.unwrap_or(f64::NAN));
    }
}

#[derive(Deserialize, JsonSchema)]
struct ActiveParameters {
    #[serde(default = "yes")]
    report_progress: bool,
}

async fn active(call: Call<ActiveParameters>) -> ApiResult<Entries> {
    let query = Query { text: ACTIVE_RUNS_QUERY.to_owned(), report_progress: true, ..Default::default() };
    let parts = RunParts { props: true, series_types: metric_types(true), ..Default::default() };
    let request = RunsRequest { query: Some(query), parts: Some(parts), ..Default::default() };
    let messages = call.services.backend().search().runs(request).await?.into_inner();
    let progress = ProgressWriter::new(call.parameters.report_progress);
    let trees = RunTreeWriter::new(OverviewFields::Last);
    let writer = ActiveRunsWriter { progress, ranks: RankCounter::default(), trees, done: false };
    stream_response::answer(messages, writer).await
}

/// Writes active runs, without a first or last progress entry, as clients of this call expect.
struct ActiveRunsWriter {
    progress: ProgressWriter,
    ranks: RankCounter,
    trees: RunTreeWriter,
    done: bool,
}

impl EntryWriter for ActiveRunsWriter {
    type Message = RunsResponse;

    fn write(&mut self, message: RunsResponse, encoder: &mut Encoder) {
        let total = total(&message);
        for (rank, run) in self.ranks.next_ranks(&message, self.trees.is_open()).zip(message.runs) {
            if self.trees.write(run, encoder) {
                self.progress.write_if_changed(encoder, rank, total);
            }
        }
        self.done |= message.done;
    }

    fn finish(&mut self, _: &mut Encoder) -> bool {
        self.done && !self.trees.is_open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Key, decode};

    /// Top-level keys of the entries written.
    fn keys(encoder: &mut Encoder) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        for entry in decode(&encoder.take()).unwrap() {
            let Key::Text(key) = &entry.path[0] else { panic!("{entry:?}") };
            if keys.last() != Some(key) {
                keys.push(key.clone());
            }
        }
        keys
    }

    fn run(run_id: &str) -> Run {
        Run { run_id: run_id.into(), ..Default::default() }
    }

    #[test]
    fn progress_is_written_before_between_and_after_runs() {
        let mut writer = RunSearchWriter::new(ProgressWriter::new(true));
        let mut encoder = Encoder::new();
        writer.write(
            RunsResponse {
                runs: vec![run("a"), run("b")],
                first_place: Some(1),
                match_count: Some(3),
                ..Default::default()
            },
            &mut encoder,
        );
        assert_eq!(keys(&mut encoder), ["progress_0", "a", "progress_1", "b", "progress_2"]);
        let keep_alive = Some(matyan_proto::common::v1::Progress { checked: 3, total: 3, matched: 3 });
        writer.write(RunsResponse { progress: keep_alive, ..Default::default() }, &mut encoder);
        assert_eq!(keys(&mut encoder), ["progress_3"]);
        writer.write(
            RunsResponse {
                runs: vec![run("c")],
                first_place: Some(3),
                match_count: Some(3),
                done: true,
                ..Default::default()
            },
            &mut encoder,
        );
        assert!(writer.finish(&mut encoder));
        assert_eq!(keys(&mut encoder), ["c", "progress_4", "progress_5"]);
    }

    /// Checks the indexes of series in the tree of a run that arrives in three messages,
    /// with a keep-alive in between.
    #[test]
    fn a_run_split_over_messages_is_one_tree() {
        let mut writer = RunSearchWriter::new(ProgressWriter::new(true));
        let mut encoder = Encoder::new();
        let piece = |run_id: &str, names: &[&str], more_series| Run {
            series: names
                .iter()
                .map(|name| SeriesInfo { name: (*name).into(), ..Default::default() })
                .collect(),
            more_series,
            ..run(run_id)
        };
        for (first_place, runs) in [
            (Some(1), vec![piece("a", &["x"], false), piece("b", &["x", "y"], true)]),
            (None, Vec::new()),
            (Some(2), vec![piece("b", &["z"], true)]),
            (Some(2), vec![piece("b", &["w"], false), piece("c", &[], false)]),
        ] {
            let progress = Some(matyan_proto::common::v1::Progress { checked: 3, total: 3, matched: 3 });
            let message =
                RunsResponse { runs, first_place, match_count: Some(3), progress, ..Default::default() };
            writer.write(message, &mut encoder);
        }
        let entries = decode(&encoder.take()).unwrap();
        let names = entries.iter().filter_map(|entry| match (&entry.path[..], &entry.value) {
            ([Key::Text(run), .., Key::Index(at), Key::Text(key)], crate::stream::Value::Text(name))
                if key == "name" =>
            {
                Some((run.as_str(), *at, name.as_str()))
            }
            _ => None,
        });
        let expected = [("a", 0, "x"), ("b", 0, "x"), ("b", 1, "y"), ("b", 2, "z"), ("b", 3, "w")];
        assert_eq!(names.collect::<Vec<_>>(), expected);
        let mut keys: Vec<&Key> = entries.iter().map(|entry| &entry.path[0]).collect();
        keys.dedup();
        let expected = ["progress_0", "a", "progress_1", "b", "progress_2", "c", "progress_3"];
        assert_eq!(keys, expected.map(|key| Key::Text(key.into())).iter().collect::<Vec<_>>());
    }

    #[test]
    fn ranks_continue_after_a_keep_alive() {
        let mut ranks = RankCounter::default();
        let message = |ids: &[&str]| RunsResponse {
            runs: ids.iter().map(|id| run(id)).collect(),
            ..Default::default()
        };
        assert_eq!(ranks.next_ranks(&message(&["a", "b"]), false).next(), Some(1));
        drop(ranks.next_ranks(&message(&[]), true));
        assert_eq!(ranks.next_ranks(&message(&["b", "c"]), true).next(), Some(2));
        drop(ranks.next_ranks(&message(&[]), false));
        assert_eq!(ranks.next_ranks(&message(&["d"]), false).next(), Some(4));
    }

    #[test]
    fn an_empty_result_has_one_progress_entry() {
        let mut writer = RunSearchWriter::new(ProgressWriter::new(true));
        let mut encoder = Encoder::new();
        assert!(!writer.finish(&mut Encoder::new()), "a stream without its last message is incomplete");
        let mut finished = RunSearchWriter::new(ProgressWriter::new(true));
        finished.write(RunsResponse { done: true, ..Default::default() }, &mut encoder);
        assert!(finished.finish(&mut encoder));
        assert_eq!(keys(&mut encoder), ["progress_0"]);
    }

    #[test]
    fn sorts_are_parsed_or_rejected() {
        let fields = |text: &str| -> Vec<(i32, bool)> {
            let by = |it: &Sort| match it.by {
                Some(By::Field(field)) => field,
                _ => panic!("{it:?}"),
            };
            parse_sort(text).unwrap().iter().map(|it| (by(it), it.descending)).collect()
        };
        assert_eq!(fields(""), []);
        assert_eq!(fields("{}"), []);
        assert_eq!(
            fields(r#"[{"field": "run", "order": "desc"}, {"field": "creator"}, {"field": "date"}]"#),
            [(SortField::Name.into(), true), (SortField::Created.into(), false)]
        );
        let check = |text: &str, message: &str| {
            let error = format!("{:?}", parse_sort(text).unwrap_err());
            assert!(error.contains(message), "{error}");
        };
        check("[", "Invalid sort JSON: ");
        check("[1]", "Invalid sort JSON: ");
        check(r#"[{"field": "x"}]"#, "Unknown sort field: 'x'");
        check(r#"[{"field": "run", "order": "up"}]"#, "Invalid sort order: 'up'");
    }
}
