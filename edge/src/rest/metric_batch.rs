//! Points of several metrics of a run as JSON, written as they are read: the request may name
//! many metrics, and a series may have tens of millions of points. In JSON, the list of steps
//! precedes the list of values, so points are requested column by column.

use matyan_proto::common::v1::{SeriesKey, StepRange};
use matyan_proto::runs::v1::{GetRequest, SeriesInfo};
use matyan_proto::series::v1::{PointColumns, PointsRequest, RunSelection, SampleRequest, SeriesPoints};
use matyan_value::json::JsonStyle;
use schemars::JsonSchema;
use serde::Serialize;

use super::json_list::{self, JsonItems, JsonStream};
use super::shared::JsonObject;
use super::values;
use crate::error::ApiResult;
use crate::services::Services;

const VALUES: Option<PointColumns> = Some(PointColumns { values: true, epochs: false, times: false });

/// Points of a metric. The lists come last and are written in pieces.
#[derive(Serialize, JsonSchema)]
pub(super) struct MetricPoints {
    name: String,
    context: JsonObject,
    iters: Vec<i64>,
    values: Vec<Option<f64>>,
}

fn selection(run_id: String, keys: Vec<SeriesKey>) -> RunSelection {
    RunSelection { run_id, keys, ..Default::default() }
}

/// All points; series that the run does not have are omitted.
pub(super) async fn all_points(
    services: &Services,
    run_id: String,
    keys: Vec<SeriesKey>,
    steps: Option<StepRange>,
) -> ApiResult<JsonStream<Vec<MetricPoints>>> {
    let run = Some(selection(run_id, keys));
    let request = PointsRequest { run, steps, columns: VALUES, by_column: true };
    let mut messages = services.backend().series().points(request).await?.into_inner();
    let first = messages.message().await?;
    let mut has_steps = false;
    json_list::answer_from(&Vec::new(), first, messages, move |message, items| {
        write_piece(items, &mut has_steps, &message.points.unwrap_or_default())
    })
}

/// At most `density` points of each series.
pub(super) async fn sampled_points(
    services: &Services,
    run_id: String,
    keys: Vec<SeriesKey>,
    steps: Option<StepRange>,
    density: u32,
) -> ApiResult<JsonStream<Vec<MetricPoints>>> {
    let runs = vec![selection(run_id.clone(), keys)];
    let request = SampleRequest { runs, steps, density, columns: VALUES, x_axis: None, by_column: true };
    let mut messages = services.backend().series().sample(request).await?.into_inner();
    let first = messages.message().await?;
    if first.is_none() {
        // An empty result may mean that the run does not exist; this call then fails
        // with NOT_FOUND.
        services.backend().runs().get(GetRequest { run_id, parts: None }).await?;
    }
    let mut has_steps = false;
    json_list::answer_from(&Vec::new(), first, messages, move |message, items| {
        message.series.iter().try_for_each(|points| match &points.info {
            Some(info) if !points.more => write_series(items, info, points),
            // A longer series continues in the next messages, column by column.
            _ => write_piece(items, &mut has_steps, points),
        })
    })
}

/// Writes a series with all its columns.
fn write_series(items: &mut JsonItems, info: &SeriesInfo, points: &SeriesPoints) -> ApiResult<()> {
    write_series_start(items, info)?;
    for step in &points.steps {
        items.push(step);
    }
    items.text(VALUES_START);
    for value in &points.values {
        items.push(value);
    }
    items.end_item(SERIES_END);
    Ok(())
}

/// Writes a piece of a column: first pieces of the steps, then pieces of the values. `has_steps`
/// is true while the steps of the current series are written and its values are still to come.
fn write_piece(items: &mut JsonItems, has_steps: &mut bool, points: &SeriesPoints) -> ApiResult<()> {
    if let Some(info) = &points.info {
        write_series_start(items, info)?;
    }
    if *has_steps {
        for value in &points.values {
            items.push(value);
        }
    } else {
        for step in &points.steps {
            items.push(step);
        }
    }
    if !points.more {
        if std::mem::replace(has_steps, !*has_steps) {
            items.end_item(SERIES_END)
        } else {
            items.text(VALUES_START)
        }
    }
    Ok(())
}

/// Text between the items of the two lists of `MetricPoints`, and after them.
const VALUES_START: &str = "],\"values\":[";
const SERIES_END: &str = "]}";

fn write_series_start(items: &mut JsonItems, info: &SeriesInfo) -> ApiResult<()> {
    let context = JsonObject(values::context_json(&info.context, JsonStyle::STRICT)?);
    let empty = MetricPoints { name: info.name.clone(), context, iters: Vec::new(), values: Vec::new() };
    let text = serde_json::to_string(&empty).expect("text and lists are JSON");
    let start = text.strip_suffix(SERIES_END).and_then(|it| it.strip_suffix(VALUES_START));
    items.comma();
    items.text(start.expect("the lists come last"));
    Ok(())
}
