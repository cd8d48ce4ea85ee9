//! Columns of metric series at full resolution.
//!
//! The server sends a series in pieces of at most 64k points; a reader gets one series after
//! another, so memory is bounded by the longest series. A Matyan 0.3 backend has only JSON, without
//! epochs and times, and gives NaN for everything that is not finite.

use std::collections::{HashMap, VecDeque};

use matyan_proto::{
    common::v1::{SeriesKey, SeriesType, StepRange},
    series::v1::{
        ListRequest, ListResponse, PointColumns, PointsRequest, PointsResponse, RunSelection, SeriesPoints,
    },
};
use matyan_value::{
    Context, Map, Value,
    json::{self, JsonStyle},
};
use object_store_http::Method;

use super::wait::{BlockingStream, StreamSink};
use crate::{
    grpc_web,
    http::{HttpClient, HttpError, RestRequest, malformed, segment},
};

/// Series for which points are requested in one call.
const SERIES_PER_CALL: usize = 1000;

/// Capacity that is reserved on the word of a server; longer columns grow as they arrive.
const RESERVED_POINTS: u64 = 1 << 24;

/// All points of one series, in columns of equal length. Columns that were not requested, or that
/// the server does not have, are empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesColumns {
    /// Name of the series.
    pub name: String,
    /// Canonical JSON text of the context; `{}` for none.
    pub context: String,
    /// Type of the values, as named by the client that tracked them.
    pub dtype: String,
    /// Ascending, without duplicates.
    pub steps: Vec<i64>,
    /// Exact to the bit.
    pub values: Vec<f64>,
    /// `i64::MIN` where a point has no epoch.
    pub epochs: Vec<i64>,
    /// Microseconds since the Unix epoch.
    pub times_us: Vec<i64>,
}

/// The series and columns to read.
///
/// ```
/// # use matyan_sdk::reading::SeriesSelection;
/// let all = SeriesSelection::all("run");
/// let loss = SeriesSelection::series("run", "loss", r#"{"subset":"train"}"#).with_times();
/// let tail = SeriesSelection { first_step: Some(1000), ..all };
/// # drop((tail, loss));
/// ```
#[derive(Clone, Debug, Default)]
pub struct SeriesSelection {
    /// The run.
    pub run_id: String,
    /// Names and contexts (JSON text). Empty: every metric of the run.
    pub keys: Vec<(String, String)>,
    /// First step; `None`: from the start.
    pub first_step: Option<i64>,
    /// One past the last step; `None`: to the end.
    pub end_step: Option<i64>,
    /// Read the epochs.
    pub epochs: bool,
    /// Read the times.
    pub times: bool,
}

impl SeriesSelection {
    /// Steps and values of every metric of a run.
    pub fn all(run_id: &str) -> Self {
        Self { run_id: run_id.to_owned(), ..Self::default() }
    }

    /// Steps and values of one metric.
    pub fn series(run_id: &str, name: &str, context: &str) -> Self {
        Self { keys: vec![(name.to_owned(), context.to_owned())], ..Self::all(run_id) }
    }

    /// Adds the epochs.
    #[must_use]
    pub fn with_epochs(self) -> Self {
        Self { epochs: true, ..self }
    }

    /// Adds the times.
    #[must_use]
    pub fn with_times(self) -> Self {
        Self { times: true, ..self }
    }

    fn points_request(&self, run: RunSelection) -> PointsRequest {
        PointsRequest {
            run: Some(run),
            steps: Some(StepRange { start: self.first_step, stop: self.end_step }),
            columns: Some(PointColumns { values: true, epochs: self.epochs, times: self.times }),
            by_column: false,
        }
    }

    /// The steps as a parameter of REST.
    fn range(&self) -> Option<String> {
        let text = |step: Option<i64>| step.map(|step| step.to_string()).unwrap_or_default();
        let is_limited = self.first_step.is_some() || self.end_step.is_some();
        is_limited.then(|| format!("{}:{}", text(self.first_step), text(self.end_step)))
    }
}

/// The selected series, one after another. Unknown series are left out.
pub struct SeriesIterator(pub(super) BlockingStream<SeriesColumns>);

impl Iterator for SeriesIterator {
    type Item = Result<SeriesColumns, HttpError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// Reads the selected series.
pub(super) async fn read(
    client: HttpClient,
    selection: SeriesSelection,
    sink: StreamSink<SeriesColumns>,
) -> Result<(), HttpError> {
    match read_columns(&client, &selection, &sink).await {
        // The very first call gets this answer, so nothing has been passed on.
        Err(HttpError::Unsupported { .. }) => read_json(&client, &selection, &sink).await,
        outcome => outcome,
    }
}

async fn read_columns(
    client: &HttpClient,
    selection: &SeriesSelection,
    sink: &StreamSink<SeriesColumns>,
) -> Result<(), HttpError> {
    if selection.keys.is_empty() {
        let numbers = metric_numbers(client, &selection.run_id).await?;
        for numbers in numbers.chunks(SERIES_PER_CALL) {
            let run = RunSelection {
                run_id: selection.run_id.clone(),
                numbers: numbers.to_vec(),
                ..RunSelection::default()
            };
            read_points(client, &selection.points_request(run), sink).await?;
        }
        return Ok(());
    }
    for keys in selection.keys.chunks(SERIES_PER_CALL) {
        let keys = keys
            .iter()
            .map(|(name, context)| SeriesKey { name: name.clone(), context: context.clone() })
            .collect();
        let run = RunSelection { run_id: selection.run_id.clone(), keys, ..RunSelection::default() };
        read_points(client, &selection.points_request(run), sink).await?;
    }
    Ok(())
}

async fn metric_numbers(client: &HttpClient, run_id: &str) -> Result<Vec<u32>, HttpError> {
    let request = ListRequest {
        run_id: run_id.to_owned(),
        types: vec![SeriesType::Metric.into()],
        names: Vec::new(),
        typed_values: false,
    };
    let method = "/matyan.series.v1.SeriesService/List";
    let mut answers = grpc_web::server_stream::<ListResponse>(client, method, &request, &[]).await?;
    let mut numbers = Vec::new();
    while let Some(answer) = answers.message().await? {
        numbers.extend(answer.series.into_iter().map(|series| series.number));
    }
    Ok(numbers)
}

async fn read_points(
    client: &HttpClient,
    request: &PointsRequest,
    sink: &StreamSink<SeriesColumns>,
) -> Result<(), HttpError> {
    let method = "/matyan.series.v1.SeriesService/Points";
    let mut answers = grpc_web::server_stream::<PointsResponse>(client, method, request, &[]).await?;
    let mut columns = SeriesColumns::default();
    while let Some(answer) = answers.message().await? {
        let Some(points) = answer.points else { continue };
        let is_last = !points.more;
        append(&mut columns, points);
        if is_last {
            sink.send(std::mem::take(&mut columns)).await?;
        }
    }
    Ok(())
}

fn append(columns: &mut SeriesColumns, points: SeriesPoints) {
    // Only the first piece of a series describes it.
    if let Some(info) = points.info {
        columns.name = info.name;
        columns.dtype = info.dtype;
        columns.context = if info.context.is_empty() { "{}".to_owned() } else { info.context };
        if points.more {
            let expected = info.count.min(RESERVED_POINTS) as usize;
            columns.steps.reserve(expected);
            columns.values.reserve(expected);
        }
    }
    columns.steps.extend(points.steps);
    columns.values.extend(points.values);
    columns.epochs.extend(points.epochs);
    columns.times_us.extend(points.times_us);
}

/// Reads one series after another as JSON, every point of it.
async fn read_json(
    client: &HttpClient,
    selection: &SeriesSelection,
    sink: &StreamSink<SeriesColumns>,
) -> Result<(), HttpError> {
    let overviews = metric_overviews(client, &selection.run_id).await?;
    let mut dtypes: HashMap<(String, String), String> = HashMap::new();
    let mut wanted: VecDeque<(String, String)> = VecDeque::new();
    for (name, context) in overviews {
        dtypes.insert((name.clone(), context.clone()), "float".into());
        wanted.push_back((name, context));
    }
    if !selection.keys.is_empty() {
        wanted = selection
            .keys
            .iter()
            .map(|(name, context)| {
                let context =
                    Context::parse(context).map(|it| stored_form(&it)).unwrap_or_else(|_| context.clone());
                (name.clone(), context)
            })
            .collect();
    }
    let path = format!("/api/v1/rest/runs/{}/metric/get-batch/", segment(&selection.run_id));
    for (name, context) in wanted {
        let mut trace = String::from("[{\"name\":");
        json::write_text(&mut trace, &name, JsonStyle::STRICT);
        trace.push_str(",\"context\":");
        trace.push_str(&context);
        trace.push_str("}]");
        let request =
            RestRequest::json(Method::POST, path.as_str(), trace).query("record_density", "0").slow();
        let request = match selection.range() {
            Some(range) => request.query("record_range", &range),
            None => request,
        };
        let answer = client.json(&request).await?;
        let unexpected = |reason: &str| malformed(&path, reason);
        let Ok(Value::List(found)) = answer.parse() else { return Err(unexpected("not a list of series")) };
        for series in found {
            let Value::Map(series) = series else { return Err(unexpected("a series that is not an object")) };
            let (steps, values) =
                json_columns(series).ok_or_else(|| unexpected("a series without columns"))?;
            let dtype = dtypes.get(&(name.clone(), context.clone())).cloned().unwrap_or_default();
            let name = name.clone();
            let context = context.clone();
            sink.send(SeriesColumns { name, context, dtype, steps, values, ..SeriesColumns::default() })
                .await?;
        }
    }
    Ok(())
}

/// Canonical text of a context, with `{}` for none.
fn stored_form(context: &Context) -> String {
    match context.canonical() {
        "" => "{}".to_owned(),
        text => text.to_owned(),
    }
}

async fn metric_overviews(client: &HttpClient, run_id: &str) -> Result<Vec<(String, String)>, HttpError> {
    let path = format!("/api/v1/rest/runs/{}/info/", segment(run_id));
    let answer = client.json(&RestRequest::get(path.as_str()).query("sequence", "metric").slow()).await?;
    let overviews = || {
        let Value::Map(mut info) = answer.parse().ok()? else { return None };
        let Some(Value::Map(mut traces)) = info.remove("traces") else { return None };
        match traces.remove("metric") {
            Some(Value::List(overviews)) => Some(overviews),
            None => Some(Vec::new()),
            Some(_) => None,
        }
    };
    let overviews = overviews().ok_or_else(|| malformed(&path, "run info without traces"))?;
    let keys = overviews.into_iter().filter_map(|overview| {
        let Value::Map(mut overview) = overview else { return None };
        let Some(Value::Text(name)) = overview.remove("name") else { return None };
        let context = match overview.remove("context") {
            Some(Value::Map(context)) => stored_form(&Context::new(&context)),
            _ => "{}".to_owned(),
        };
        Some((name, context))
    });
    Ok(keys.collect())
}

fn json_columns(mut series: Map) -> Option<(Vec<i64>, Vec<f64>)> {
    let (Some(Value::List(steps)), Some(Value::List(values))) =
        (series.remove("iters"), series.remove("values"))
    else {
        return None;
    };
    let steps: Vec<i64> = steps
        .into_iter()
        .map(|value| match value {
            Value::Integer(step) => Some(step),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let values: Vec<f64> = values
        .into_iter()
        .map(|value| match value {
            Value::Float(value) => value,
            Value::Integer(value) => value as f64,
            _ => f64::NAN,
        })
        .collect();
    (steps.len() == values.len()).then_some((steps, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_columns_have_nan_for_null() {
        let Ok(Value::Map(series)) = json::parse(r#"{"iters":[1,2,3],"values":[0.5,null,2]}"#) else {
            panic!("not an object")
        };
        let (steps, values) = json_columns(series).unwrap();
        assert_eq!(steps, [1, 2, 3]);
        assert_eq!((values[0], values[2]), (0.5, 2.0));
        assert!(values[1].is_nan());
    }

    #[test]
    fn a_range_is_open_where_it_has_no_limit() {
        let all = SeriesSelection::all("r");
        assert_eq!(all.range(), None);
        let from = SeriesSelection { first_step: Some(-3), ..all.clone() };
        assert_eq!(from.range().as_deref(), Some("-3:"));
        assert_eq!(SeriesSelection { end_step: Some(7), ..from }.range().as_deref(), Some("-3:7"));
    }
}
