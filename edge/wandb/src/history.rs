//! The rows of a run's history. A row has everything that was logged at one step. Numbers that are not finite are
//! texts, as W&B's clients expect them in strict JSON.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use matyan_channels::call_all;
use matyan_proto::common::v1::StepRange;
use matyan_proto::series::v1::{PointColumns, PointsRequest, RunSelection, SampleRequest, SeriesPoints};
use serde_json::{Map, Value, json};

use crate::budget::{Resource, VALUE_BYTES};
use crate::call::{CALLS_AT_A_TIME, CallContext};
use crate::error::{Result, WandbError};
use crate::json_text::check_values;
use crate::node::{Arguments, Node};
use crate::run_view::RUN_ID;
use crate::series::{LoggedSeries, Writers, all_series};

/// Rows of an answer whose client asks for no number.
const DEFAULT_SAMPLES: i64 = 500;

/// The most rows that a client may ask for.
const MAX_SAMPLES: i64 = 100_000;

/// Number of lists that a client may ask for in one document.
const MAX_SPECS: usize = 100;

const STEP: &str = "_step";
const RUNTIME: &str = "_runtime";
const TIMESTAMP: &str = "_timestamp";

/// W&B's own columns, which every row has.
const OWN_COLUMNS: [&str; 3] = [STEP, RUNTIME, TIMESTAMP];

const SECOND_US: f64 = 1e6;

/// Memory of a member of a row besides the text of its name.
const MEMBER_BYTES: usize = size_of::<(String, Value)>() + 2 * size_of::<usize>();

/// Memory of a row with W&B's own columns.
const ROW_BYTES: usize = size_of::<(i64, Map<String, Value>)>() + OWN_COLUMNS.len() * MEMBER_BYTES;

type Rows = BTreeMap<i64, Map<String, Value>>;

/// A number in strict JSON.
fn number(value: f64) -> Value {
    match serde_json::Number::from_f64(value) {
        // A whole number is written without a fraction: clients read steps as integers.
        Some(_) if value.fract() == 0.0 && value.abs() < 9e15 => Value::from(value as i64),
        Some(number) => Value::Number(number),
        None if value.is_nan() => "NaN".into(),
        None if value > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}

/// A run whose rows are read.
struct HistoryReader<'a> {
    context: &'a CallContext,
    run_id: &'a str,
    /// The metrics whose points are the rows.
    series: Vec<LoggedSeries>,
    /// Sequences of objects. Their steps count, but rows do not contain them.
    objects: Vec<LoggedSeries>,
    writers: Writers,
    /// The number of lists of rows that share the budget's values.
    lists: usize,
}

impl<'a> HistoryReader<'a> {
    async fn open(context: &'a CallContext, run: &'a Node, is_system: bool) -> Result<Self> {
        let run_id = run.known(RUN_ID)?;
        let all = all_series(&context.channels, run_id).await?;
        let writers = Writers::of(&all);
        let wanted = all.into_iter().filter(|series| series.is_system() == is_system);
        let (series, objects) = wanted.partition(|series| series.is_metric);
        Ok(Self { context, run_id, series, objects, writers, lists: 1 })
    }

    fn last_of<'s>(&self, series: impl Iterator<Item = &'s LoggedSeries>) -> Option<i64> {
        series.map(|series| self.writers.shown_step(series, series.last_step)).max()
    }

    /// The last step that a client has logged. The client continues with the next step, so steps of objects count:
    /// otherwise the objects would be replaced.
    fn last_step(&self) -> Option<i64> {
        self.last_of(self.series.iter().chain(&self.objects))
    }

    /// The step of the first row.
    fn first_step(&self) -> Option<i64> {
        self.series.iter().map(|series| self.writers.shown_step(series, series.first_step)).min()
    }

    /// The last row.
    async fn last_row(&self, last_step: i64) -> Result<Rows> {
        let mut rows = self.rows(last_step..last_step.saturating_add(1), |_| true).await?;
        if rows.is_empty() {
            // Only objects were logged at this step. Clients read the age of the run from the time of the row, so the
            // row gets the time of the last metric.
            let mut row = Map::new();
            if let Some(step) = self.last_of(self.series.iter()) {
                let before = self.rows(step..step.saturating_add(1), |_| true).await?;
                let time = before.into_values().next().and_then(|mut row| row.remove(TIMESTAMP));
                row.extend(time.map(|time| (TIMESTAMP.to_owned(), time)));
            }
            row.insert(STEP.to_owned(), last_step.into());
            rows.insert(last_step, row);
        }
        Ok(rows)
    }

    fn columns() -> Option<PointColumns> {
        Some(PointColumns { values: true, epochs: false, times: true })
    }

    /// All rows in a range of shown steps, of the series for which `is_wanted` is true.
    async fn rows(&self, range: std::ops::Range<i64>, is_wanted: impl Fn(&str) -> bool) -> Result<Rows> {
        let chosen: Vec<&LoggedSeries> =
            self.series.iter().filter(|series| is_wanted(series.shown_name())).collect();
        let mut rows = Rows::new();
        if chosen.is_empty() || range.is_empty() {
            return Ok(rows);
        }
        let request = PointsRequest {
            run: Some(self.selection(&chosen)),
            steps: Some(StepRange {
                start: Some(self.writers.stored_start(range.start)),
                stop: Some(self.writers.stored_stop(range.end)),
            }),
            columns: Self::columns(),
            by_column: false,
        };
        let mut messages = self.context.channels.series().points(request).await?.into_inner();
        while let Some(message) = messages.message().await? {
            let points = message.points.ok_or_else(|| WandbError::broken("points"))?;
            self.add(&mut rows, &chosen, &points, &range)?;
        }
        Ok(rows)
    }

    /// Rows that are thinned evenly to this number for each series, or to fewer, so that the budget can pay for values of
    /// this number of keys in each row.
    async fn sampled_rows(
        &self,
        range: std::ops::Range<i64>,
        samples: i64,
        keys: usize,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Rows> {
        let chosen: Vec<&LoggedSeries> =
            self.series.iter().filter(|series| is_wanted(series.shown_name())).collect();
        let mut rows = Rows::new();
        if chosen.is_empty() {
            return Ok(rows);
        }
        let shares = self.lists.saturating_mul(chosen.len()).saturating_mul(keys) as u64;
        let affordable = self.context.budget.left(Resource::Values) / shares;
        let per_series = i64::try_from(affordable).unwrap_or(i64::MAX).clamp(2, samples.max(2));
        let request = SampleRequest {
            runs: vec![self.selection(&chosen)],
            steps: Some(StepRange {
                start: Some(self.writers.stored_start(range.start)),
                stop: Some(self.writers.stored_stop(range.end)),
            }),
            density: u32::try_from(per_series).unwrap_or(u32::MAX),
            columns: Self::columns(),
            x_axis: None,
            by_column: false,
        };
        let mut messages = self.context.channels.series().sample(request).await?.into_inner();
        while let Some(message) = messages.message().await? {
            for points in &message.series {
                self.add(&mut rows, &chosen, points, &range)?;
            }
        }
        Ok(rows)
    }

    fn selection(&self, chosen: &[&LoggedSeries]) -> RunSelection {
        RunSelection {
            run_id: self.run_id.to_owned(),
            numbers: chosen.iter().map(|series| series.number).collect(),
            ..RunSelection::default()
        }
    }

    fn add(
        &self,
        rows: &mut Rows,
        chosen: &[&LoggedSeries],
        points: &SeriesPoints,
        range: &std::ops::Range<i64>,
    ) -> Result<()> {
        let place = points.place.as_ref().ok_or_else(|| WandbError::broken("place"))?;
        let series = chosen.get(place.series as usize).ok_or_else(|| WandbError::broken("series"))?;
        let name = series.shown_name();
        self.charge(name, points.steps.len())?;
        let steps = self.writers.steps_of(series);
        let before = rows.len();
        for (index, step) in points.steps.iter().enumerate() {
            let shown = steps.shown(*step);
            let Some(value) = points.values.get(index).filter(|_| range.contains(&shown)) else { continue };
            let row = rows.entry(shown).or_default();
            let is_new = row.is_empty();
            row.insert(name.to_owned(), number(*value));
            if let Some(time_us) = points.times_us.get(index) {
                let seconds = *time_us as f64 / SECOND_US;
                row.insert(TIMESTAMP.to_owned(), json!(seconds));
            }
            // A metric may have this name.
            if is_new || name == STEP {
                row.insert(STEP.to_owned(), shown.into());
            }
        }
        self.context.budget.take((rows.len() - before).saturating_mul(ROW_BYTES))
    }
}

/// The keys without W&B's own columns.
fn without_own_columns<'k>(keys: &BTreeSet<&'k str>) -> BTreeSet<&'k str> {
    keys.iter().copied().filter(|key| !OWN_COLUMNS.contains(key)).collect()
}

/// The key with the fewest points; `None` if there are no keys, or if a key has no points. Several series may have the
/// same name. The keys and the series are each read once, however many there are.
fn rarest_key<'k, 's>(
    keys: &BTreeSet<&'k str>,
    counts: impl Iterator<Item = (&'s str, u64)>,
) -> Option<&'k str> {
    let mut points: HashMap<&'k str, u64> = HashMap::new();
    for (name, count) in counts {
        if let Some(key) = keys.get(name) {
            *points.entry(*key).or_default() += count;
        }
    }
    let count = |key: &str| points.get(key).copied().unwrap_or_default();
    let rarest = keys.iter().copied().min_by_key(|key| count(key))?;
    (count(rarest) > 0).then_some(rarest)
}

/// Adds the time since the start of the run to each row.
fn with_runtime(rows: Rows, started_s: Option<f64>) -> Vec<Map<String, Value>> {
    let add = |mut row: Map<String, Value>| {
        let timestamp = row.get(TIMESTAMP).and_then(Value::as_f64);
        if let (Some(timestamp), Some(started)) = (timestamp, started_s) {
            row.insert(RUNTIME.to_owned(), json!((timestamp - started).max(0.0)));
        }
        row
    };
    rows.into_values().map(add).collect()
}

fn started_s(run: &Node) -> Option<f64> {
    let created_us = matyan_value::datetime::parse(run.text("createdAt")?)?;
    Some(created_us as f64 / SECOND_US)
}

fn lines(rows: Vec<Map<String, Value>>) -> Value {
    rows.into_iter().map(|row| Value::String(Value::Object(row).to_string())).collect()
}

fn objects(rows: Vec<Map<String, Value>>) -> Value {
    rows.into_iter().map(Value::Object).collect()
}

fn samples(arguments: &Arguments, name: &str) -> Result<i64> {
    let samples = arguments.integer(name)?.unwrap_or(DEFAULT_SAMPLES);
    if !(1..=MAX_SAMPLES).contains(&samples) {
        return Err(WandbError::invalid(format!("`{name}` must be between 1 and {MAX_SAMPLES}")));
    }
    Ok(samples)
}

/// A page of lines of the history: a range of steps, or samples of all steps.
pub(crate) async fn history(context: &CallContext, run: &Node, arguments: &Arguments) -> Result<Value> {
    page(context, run, arguments, false).await
}

/// A page of lines with samples of the load of the machine.
pub(crate) async fn events(context: &CallContext, run: &Node, arguments: &Arguments) -> Result<Value> {
    page(context, run, arguments, true).await
}

async fn page(context: &CallContext, run: &Node, arguments: &Arguments, is_system: bool) -> Result<Value> {
    let reader = HistoryReader::open(context, run, is_system).await?;
    let samples = samples(arguments, "samples")?;
    let start = arguments.integer("minStep")?;
    let stop = arguments.integer("maxStep")?;
    let rows = match (start, stop) {
        (Some(start), Some(stop)) if stop.saturating_sub(start) <= samples => {
            reader.rows(start..stop, |_| true).await?
        }
        _ => {
            let range = start.unwrap_or(i64::MIN / 2)..stop.unwrap_or(i64::MAX / 2);
            reader.sampled_rows(range, samples, 1, |_| true).await?
        }
    };
    let started_s = started_s(run);
    let shape = move |rows| {
        let mut rows = with_runtime(rows, started_s);
        // Each series is thinned alone, so together the series may have more rows.
        thin(&mut rows, samples);
        lines(rows)
    };
    Ok(shaped(context, rows, shape).await)
}

/// Gives rows the form of an answer, off the async threads if they are large.
async fn shaped<T: Send + 'static>(
    context: &CallContext,
    rows: Rows,
    shape: impl FnOnce(Rows) -> T + Send + 'static,
) -> T {
    let values: usize = rows.values().map(Map::len).sum();
    // The memory that the request has paid for includes the names of metrics, which may be much longer than
    // their values.
    let bytes = context.budget.held().max(values.saturating_mul(VALUE_BYTES));
    context.large_work.run(bytes, move || shape(rows)).await
}

/// Keeps this number of rows, spread evenly, with the first and the last row.
fn thin<T>(rows: &mut Vec<T>, samples: i64) {
    let limit = usize::try_from(samples).unwrap_or(usize::MAX);
    let count = rows.len();
    if count <= limit {
        return;
    }
    let kept: BTreeSet<usize> = match limit {
        0 | 1 => BTreeSet::from([0]),
        limit => (0..limit).map(|index| index * (count - 1) / (limit - 1)).collect(),
    };
    let mut index = 0;
    rows.retain(|_| {
        index += 1;
        kept.contains(&(index - 1))
    });
}

/// Lists of rows, one for each specification. Some lists are read at the same time.
pub(crate) async fn sampled_history(
    context: &CallContext,
    run: &Node,
    arguments: &Arguments,
) -> Result<Value> {
    let specs = arguments.texts("specs")?.unwrap_or_default();
    if specs.len() > MAX_SPECS {
        return Err(WandbError::invalid(format!(
            "`specs` has more than {MAX_SPECS} members: ask for some of them at a time"
        )));
    }
    let reader = HistoryReader::open(context, run, false).await?;
    Ok(Value::Array(sampled_lists(reader, run, &specs).await?))
}

async fn sampled_lists(reader: HistoryReader<'_>, run: &Node, specs: &[&str]) -> Result<Vec<Value>> {
    let reader = HistoryReader { lists: specs.len().max(1), ..reader };
    call_all(CALLS_AT_A_TIME, specs.iter().map(|spec| sampled_list(&reader, run, spec))).await
}

/// The steps of a specification. Newer clients send the last step as `maxStep`, and ask for as many samples as there are
/// steps. Older clients send the step after the last one.
fn sampled_steps(spec: &Arguments, samples: i64) -> Result<Range<i64>> {
    let start = spec.integer("minStep")?.unwrap_or(i64::MIN / 2);
    let end = spec.integer("maxStep")?.unwrap_or(i64::MAX / 2);
    let is_last_step = end.saturating_sub(start) == samples - 1;
    Ok(start..end.saturating_add(i64::from(is_last_step)))
}

async fn sampled_list(reader: &HistoryReader<'_>, run: &Node, spec: &str) -> Result<Value> {
    check_values("a member of `specs`", spec.as_bytes())?;
    let spec = serde_json::from_str(spec)
        .map_err(|error| WandbError::invalid(format!("`specs` has a member that is not JSON: {error}")))?;
    let spec = Arguments::new(spec);
    let keys: BTreeSet<&str> = spec.texts("keys")?.unwrap_or_default().into_iter().collect();
    let samples = samples(&spec, "samples")?;
    let range = sampled_steps(&spec, samples)?;
    let logged = without_own_columns(&keys);
    let rows = if logged.is_empty() {
        reader.sampled_rows(range, samples, 1, |_| true).await?
    } else {
        reader.common_rows(range, samples, &logged).await?
    };
    let started_s = started_s(run);
    let keys: BTreeSet<String> = keys.into_iter().map(str::to_owned).collect();
    let shape = move |rows| {
        let mut rows = with_runtime(rows, started_s);
        thin(&mut rows, samples);
        if !keys.is_empty() {
            for row in &mut rows {
                row.retain(|name, _| keys.contains(name) || name == STEP);
            }
        }
        objects(rows)
    };
    Ok(shaped(reader.context, rows, shape).await)
}

impl HistoryReader<'_> {
    /// Rows that have all of these keys: samples of the key with the fewest points, with the values of the other keys
    /// at the same steps.
    async fn common_rows(
        &self,
        range: std::ops::Range<i64>,
        samples: i64,
        keys: &BTreeSet<&str>,
    ) -> Result<Rows> {
        let counts = self.series.iter().map(|series| (series.shown_name(), series.count));
        let Some(rarest) = rarest_key(keys, counts) else { return Ok(Rows::new()) };
        // A client that scans the history wants all rows of a few steps. It gets an error instead of only some of them.
        let is_scan = range.end.saturating_sub(range.start) <= samples;
        let paid_keys = if is_scan { 1 } else { keys.len() };
        let mut rows = self.sampled_rows(range.clone(), samples, paid_keys, |name| name == rarest).await?;
        let others: Vec<&LoggedSeries> = self
            .series
            .iter()
            .filter(|series| {
                let name = series.shown_name();
                name != rarest && keys.contains(name)
            })
            .collect();
        if let (false, Some((first, _)), Some((last, _))) =
            (others.is_empty(), rows.first_key_value(), rows.last_key_value())
        {
            let request = PointsRequest {
                run: Some(self.selection(&others)),
                steps: Some(StepRange {
                    start: Some(self.writers.stored_start(*first)),
                    stop: Some(self.writers.stored_stop(last.saturating_add(1))),
                }),
                columns: Self::columns(),
                by_column: false,
            };
            let mut messages = self.context.channels.series().points(request).await?.into_inner();
            while let Some(message) = messages.message().await? {
                let points = message.points.ok_or_else(|| WandbError::broken("points"))?;
                self.add_to_rows(&mut rows, &others, &points)?;
            }
        }
        rows.retain(|_, row| keys.iter().all(|key| row.contains_key(*key)));
        Ok(rows)
    }

    /// Adds values to existing rows at the same steps.
    fn add_to_rows(&self, rows: &mut Rows, chosen: &[&LoggedSeries], points: &SeriesPoints) -> Result<()> {
        let place = points.place.as_ref().ok_or_else(|| WandbError::broken("place"))?;
        let series = chosen.get(place.series as usize).ok_or_else(|| WandbError::broken("series"))?;
        let name = series.shown_name();
        let steps = self.writers.steps_of(series);
        for (step, value) in points.steps.iter().zip(&points.values) {
            if let Some(row) = rows.get_mut(&steps.shown(*step)) {
                self.charge(name, 1)?;
                row.insert(name.to_owned(), number(*value));
            }
        }
        Ok(())
    }

    /// Charges the request for values that are added to rows under this name.
    fn charge(&self, name: &str, values: usize) -> Result<()> {
        let budget = &self.context.budget;
        budget.charge(Resource::Values, values)?;
        budget.charge(Resource::HeldBytes, values.saturating_mul(VALUE_BYTES + name.len()))?;
        budget.take(values.saturating_mul(MEMBER_BYTES.saturating_sub(VALUE_BYTES)))
    }
}

/// All rows with some keys, for clients that read the history as files where W&B has such files.
///
/// A client that asks for steps only wants to know where the rows begin that are in no file. It reads them in pages
/// afterwards, so the first step is enough, however long the history is.
pub(crate) async fn parquet_history(
    context: &CallContext,
    run: &Node,
    arguments: &Arguments,
) -> Result<Value> {
    let keys: BTreeSet<&str> = arguments.texts("liveKeys")?.unwrap_or_default().into_iter().collect();
    let reader = HistoryReader::open(context, run, false).await?;
    if keys.iter().eq([&STEP]) {
        let first: Vec<Value> = reader.first_step().map(|step| json!({STEP: step})).into_iter().collect();
        return Ok(json!({"parquetUrls": [], "liveData": first}));
    }
    let logged = without_own_columns(&keys);
    let is_wanted = |name: &str| logged.is_empty() || logged.contains(name);
    let rows = reader.rows(i64::MIN / 2..i64::MAX / 2, is_wanted).await?;
    let started_s = started_s(run);
    let mut answer = json!({"parquetUrls": []});
    // Moved: `json!` would copy each value.
    answer["liveData"] = shaped(context, rows, move |rows| objects(with_runtime(rows, started_s))).await;
    Ok(answer)
}

/// A key of the history, whose values several series may have.
#[derive(Clone, Copy)]
struct LoggedKey<'s> {
    wandb_type: &'s str,
    count: u64,
    last_step: i64,
    /// The number at the last step.
    last: Option<f64>,
}

impl<'s> LoggedKey<'s> {
    fn of(series: &'s LoggedSeries) -> Self {
        Self {
            wandb_type: series.wandb_type(),
            count: series.count,
            last_step: series.last_step,
            last: series.last,
        }
    }

    /// This key with the values of another series.
    fn and(self, other: Self) -> Self {
        let latest = if other.last_step > self.last_step { other } else { self };
        Self { wandb_type: self.wandb_type, count: self.count + other.count, ..latest }
    }

    fn json(self, is_monotonic: bool) -> Value {
        let mut key = json!({
            "typeCounts": [{"type": self.wandb_type, "count": self.count}],
            "monotonic": is_monotonic,
        });
        if let Some(last) = self.last {
            key["previousValue"] = json!(last);
        }
        key
    }
}

/// The keys of the history, how often each was logged, and the last number of each.
pub(crate) async fn history_keys(context: &CallContext, run: &Node) -> Result<Value> {
    let reader = HistoryReader::open(context, run, false).await?;
    let Some(last_step) = reader.last_step() else {
        return Ok(json!({"sets": [], "keys": {}, "lastStep": -1}));
    };
    let mut logged: BTreeMap<&str, LoggedKey<'_>> = BTreeMap::new();
    for series in reader.series.iter().chain(&reader.objects) {
        let key = LoggedKey::of(series);
        logged.entry(series.shown_name()).and_modify(|known| *known = known.and(key)).or_insert(key);
    }
    let count = logged.values().map(|key| key.count).max().unwrap_or_default();
    let own = LoggedKey { wandb_type: "number", count, last_step, last: None };
    logged.extend(OWN_COLUMNS.map(|name| (name, own)));
    let keys = logged.into_iter().map(|(name, key)| (name.to_owned(), key.json(OWN_COLUMNS.contains(&name))));
    let keys: Map<String, Value> = keys.collect();
    Ok(json!({"sets": [], "keys": keys, "lastStep": last_step}))
}

/// The number of the next line of the history, or of the load of the machine.
pub(crate) async fn line_count(context: &CallContext, run: &Node, is_system: bool) -> Result<Value> {
    let reader = HistoryReader::open(context, run, is_system).await?;
    Ok(reader.last_step().map_or(0, |last| last.saturating_add(1)).into())
}

/// The last line, in a list as JSON text, from which a client continues.
pub(crate) async fn tail(context: &CallContext, run: &Node, is_system: bool) -> Result<Value> {
    let reader = HistoryReader::open(context, run, is_system).await?;
    let Some(last) = reader.last_step() else { return Ok("[]".into()) };
    let rows = reader.last_row(last).await?;
    let lines = lines(with_runtime(rows, started_s(run)));
    Ok(lines.to_string().into())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use matyan_proto::common::v1::SeriesType;
    use matyan_proto::runs::v1::SeriesInfo;
    use matyan_proto::series::v1::Place;

    use super::*;
    use crate::test_context::empty_context;

    fn metric(name: &str) -> LoggedSeries {
        let r#type = SeriesType::Metric.into();
        LoggedSeries::new(SeriesInfo { name: name.to_owned(), r#type, ..Default::default() })
    }

    fn reader(context: &CallContext, series: Vec<LoggedSeries>) -> HistoryReader<'_> {
        let writers = Writers::of(&series);
        HistoryReader { context, run_id: "r:p", series, objects: Vec::new(), writers, lists: 1 }
    }

    const ROWS: usize = 1_000;

    /// A point at each of the first steps.
    fn points() -> SeriesPoints {
        SeriesPoints {
            place: Some(Place { run: 0, series: 0 }),
            steps: (0..1_000).collect(),
            values: vec![0.5; ROWS],
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn some_sampled_lists_are_read_at_the_same_time() {
        let (context, counts) = empty_context();
        let reader = reader(&context, vec![metric("loss")]);
        let run = Node::new(json!({}));
        sampled_lists(reader, &run, &["{}"; 40]).await.expect_err("the run is missing");
        assert_eq!(counts.total_and_most(), (CALLS_AT_A_TIME, CALLS_AT_A_TIME));
    }

    /// A row of one value takes many times the memory of the value, before the answer is made of it.
    #[test]
    fn rule_114_rows_take_up_memory_of_the_port_while_they_are_read() {
        let (context, _) = empty_context();
        let reader = reader(&context, Vec::new());
        let mut rows = Rows::new();
        let taken = ["loss", "acc"].map(|name| {
            let before = context.budget.taken();
            reader.add(&mut rows, &[&metric(name)], &points(), &(0..1_000)).unwrap();
            usize::try_from(context.budget.taken() - before).unwrap()
        });
        assert_eq!(rows.len(), ROWS);
        let member = size_of::<(String, Value)>();
        assert!(taken[0] > 3 * ROWS * member, "the rows are new, and have two members: {taken:?}");
        assert!((ROWS * member..2 * ROWS * member).contains(&taken[1]), "the rows are known: {taken:?}");
    }

    #[tokio::test]
    async fn rows_with_long_names_are_shaped_on_another_thread() {
        let (context, _) = empty_context();
        let reader = reader(&context, Vec::new());
        let here = thread::current().id();
        for (name, is_large) in [("loss".to_owned(), false), ("x".repeat(1_024), true)] {
            let mut rows = Rows::new();
            reader.add(&mut rows, &[&metric(&name)], &points(), &(0..1_000)).unwrap();
            let thread = shaped(&context, rows, |_| thread::current().id()).await;
            assert_eq!(thread != here, is_large, "{} bytes", name.len());
        }
    }

    #[test]
    fn numbers_are_strict_json() {
        assert_eq!(number(f64::NAN), json!("NaN"));
        assert_eq!(number(f64::INFINITY), json!("Infinity"));
        assert_eq!(number(f64::NEG_INFINITY), json!("-Infinity"));
        assert_eq!(number(3.0).to_string(), "3");
        assert_eq!(number(0.1).to_string(), "0.1");
        assert_eq!(number(1e300), json!(1e300));
    }

    #[test]
    fn the_rarest_of_the_keys_is_found() {
        let logged = [("loss", 9), ("acc", 2), ("acc", 3), ("lr", 0), ("seen", 1)];
        let rarest = |keys: &[&str]| {
            let keys: BTreeSet<&str> = keys.iter().copied().collect();
            let counts = logged.iter().copied();
            rarest_key(&keys, counts).map(str::to_owned)
        };
        assert_eq!(rarest(&["loss", "acc"]).as_deref(), Some("acc"), "two writers have logged it");
        for keys in [&[][..], &["loss", "lr"], &["loss", "unknown"]] {
            assert_eq!(rarest(keys), None, "{keys:?}");
        }
        // A client may repeat a key as often as its request has room for.
        let mut keys = vec!["loss"; 2_000_000];
        keys.push("acc");
        assert_eq!(rarest(&keys).as_deref(), Some("acc"));
    }

    #[test]
    fn pages_of_both_generations_of_clients_have_each_step_once() {
        let steps = |first: i64, last: i64, samples: i64| {
            sampled_steps(&Arguments::new(json!({"minStep": first, "maxStep": last})), samples).unwrap()
        };
        let newer = [steps(0, 6, 7), steps(7, 13, 7), steps(14, 15, 2)];
        let older = [steps(0, 7, 7), steps(7, 14, 7), steps(14, 16, 7)];
        assert_eq!(newer, [0..7, 7..14, 14..16]);
        assert_eq!(older, newer);
        assert!(sampled_steps(&Arguments::new(json!({})), 1).unwrap().contains(&i64::from(u32::MAX)));
    }

    #[test]
    fn thinned_rows_have_the_first_and_the_last() {
        let mut rows: Vec<i64> = (0..100).collect();
        thin(&mut rows, 5);
        assert_eq!(rows, [0, 24, 49, 74, 99]);
        thin(&mut rows, 10);
        assert_eq!(rows.len(), 5);
        thin(&mut rows, 1);
        assert_eq!(rows, [0]);
    }
}
