//! Shared parts of responses about runs: properties, type names, ranges, and times.

use http::StatusCode;
use matyan_proto::common::v1::{IndexRange, SeriesKey, SeriesType, StepRange};
use matyan_proto::runs::v1 as pb;
use matyan_value::datetime::UtcTime;
use matyan_value::json::JsonStyle;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::values;
use crate::error::{ApiError, ApiResult};
use crate::stream::Encoder;

/// The only parameter of many operations.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Id {
    pub(crate) id: String,
}

/// The parameter of searches by name.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct NamePart {
    #[serde(default)]
    pub(crate) q: String,
}

/// Default of parameters.
pub(crate) fn yes() -> bool {
    true
}

/// Default of parameters.
pub(crate) fn int<const VALUE: i64>() -> i64 {
    VALUE
}

/// A free-form object, kept in the text that was received or is sent.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct JsonObject(#[schemars(with = "Map<String, Value>")] pub(crate) Box<RawValue>);

/// A series in a request.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct SeriesName {
    name: String,
    context: Map<String, Value>,
}

impl From<SeriesName> for SeriesKey {
    fn from(SeriesName { name, context }: SeriesName) -> Self {
        // An empty object means no context.
        let context = if context.is_empty() { String::new() } else { Value::Object(context).to_string() };
        SeriesKey { name, context }
    }
}

/// Parses a context for an answer.
pub(crate) fn context_value(context: &str, style: JsonStyle) -> ApiResult<Value> {
    let json = values::context_json(context, style)?;
    Ok(serde_json::from_str(json.get()).expect("the context was serialized as JSON"))
}

/// Series of each requested type, in the order of the API contract. Only its schema is used, because answers
/// with many series are written piece by piece.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct SeriesByType<T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "T")]
    metric: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "T")]
    images: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "T")]
    texts: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "T")]
    distributions: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "T")]
    audios: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "T")]
    figures: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "T")]
    htmls: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "T")]
    point_clouds: Option<T>,
}

/// The number of types that the clients of Matyan 0.3 know, which come first.
const OLD_TYPES: usize = 6;

/// Types with their names in parameters.
const TYPES: [(SeriesType, &str); 8] = [
    (SeriesType::Metric, "metric"),
    (SeriesType::Images, "images"),
    (SeriesType::Texts, "texts"),
    (SeriesType::Distributions, "distributions"),
    (SeriesType::Audios, "audios"),
    (SeriesType::Figures, "figures"),
    (SeriesType::Htmls, "htmls"),
    (SeriesType::PointClouds, "point_clouds"),
];

/// The name of a type in parameters and answers.
pub(super) fn type_name(series_type: SeriesType) -> &'static str {
    let named = TYPES.iter().find(|(known, _)| *known == series_type);
    named.map(|(_, name)| *name).expect("only types from parameters are named")
}

/// The types named by `sequence` parameters; the types of Matyan 0.3 if there are none.
pub(crate) fn requested_types(names: &[String]) -> ApiResult<Vec<SeriesType>> {
    if names.is_empty() {
        return Ok(TYPES[..OLD_TYPES].iter().map(|(series_type, _)| *series_type).collect());
    }
    names.iter().map(|name| requested_type(name)).collect()
}

fn requested_type(name: &str) -> ApiResult<SeriesType> {
    let found = TYPES.iter().find(|(_, known)| *known == name);
    found.map(|(series_type, _)| *series_type).ok_or_else(|| {
        ApiError::new(StatusCode::BAD_REQUEST, format!("sequence: unknown sequence type '{name}'"))
    })
}

/// The types that clients of Matyan 0.3 do not know.
pub(crate) fn later_types() -> impl Iterator<Item = SeriesType> {
    TYPES[OLD_TYPES..].iter().map(|(series_type, _)| *series_type)
}

/// Requested number of points: 0 or less means all.
pub(crate) fn density(requested: i64) -> u32 {
    u32::try_from(requested.max(0)).unwrap_or(u32::MAX)
}

/// Start and stop, each optional.
type Range = (Option<i64>, Option<i64>);

/// Parses the half-open range of a parameter; text without a colon means no range.
fn range(text: &str) -> ApiResult<Option<Range>> {
    let Some((start, stop)) = text.split_once(':') else { return Ok(None) };
    let side = |text: &str| match text.trim() {
        "" => Ok(None),
        digits => digits.parse::<i64>().map(Some),
    };
    match (side(start), side(stop)) {
        (Ok(start), Ok(stop)) => Ok(Some((start, stop))),
        _ => Err(ApiError::new(StatusCode::BAD_REQUEST, "Invalid range format")),
    }
}

/// Steps selected by `record_range`.
pub(crate) fn step_range(record_range: &str) -> ApiResult<Option<StepRange>> {
    Ok(range(record_range)?.map(|(start, stop)| StepRange { start, stop }))
}

/// Indexes selected by `index_range`.
pub(crate) fn index_range(text: &str) -> ApiResult<Option<IndexRange>> {
    let position = |value: i64| u32::try_from(value.max(0)).unwrap_or(u32::MAX);
    let range = range(text)?;
    Ok(range.map(|(start, stop)| IndexRange { start: start.map(position), stop: stop.map(position) }))
}

/// Unix seconds.
pub(crate) fn seconds(time_us: i64) -> f64 {
    time_us as f64 / 1e6
}

/// Formats a time as `2026-01-02T03:04:05.678Z`. Empty outside of the years 1 to 9999.
pub(crate) fn iso(time_us: i64) -> String {
    UtcTime::from_us(time_us).map(UtcTime::millis).unwrap_or_default()
}

/// Formats wall-clock seconds as `2026-01-02T03:00:00`.
pub(crate) fn hour_key(local_s: i64) -> String {
    wall_clock(local_s).map(|time| format!("{}T{:02}:00:00", time.date(), time.hour())).unwrap_or_default()
}

/// Formats wall-clock seconds as `2026-01-02T00:00:00`.
pub(crate) fn day_key(local_s: i64) -> String {
    wall_clock(local_s).map(|time| format!("{}T00:00:00", time.date())).unwrap_or_default()
}

fn wall_clock(local_s: i64) -> Option<UtcTime> {
    UtcTime::from_us(local_s.checked_mul(1_000_000)?)
}

/// Properties of a run, in the order of the API contract.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Props {
    name: String,
    description: String,
    experiment: RunExperiment,
    tags: Vec<RunTag>,
    creation_time: f64,
    end_time: Option<f64>,
    archived: bool,
    active: bool,
    /// End of the run: `finished`, `failed` or `interrupted`. Absent if its client did not report it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    outcome: Option<&'static str>,
    /// The text of the error, or another remark. Absent together with `outcome`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    outcome_message: Option<String>,
    /// Name and version of the client that made the run, such as `W&B 0.31.0`. Absent if it is not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    client: String,
    /// The run that this one branches from. Absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RunParent")]
    parent: Option<RunParent>,
    /// Number of notes; only the bundle of Aim gets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    notes: Option<u32>,
}

/// The experiment of a run; without one, all members are null.
#[derive(Default, Serialize, JsonSchema)]
struct RunExperiment {
    id: Option<String>,
    name: Option<String>,
    description: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct RunParent {
    run_id: String,
    /// The last step whose points the run shares with its parent; null: all of them.
    step: Option<i64>,
}

#[derive(Serialize, JsonSchema)]
struct RunTag {
    id: String,
    name: String,
    color: String,
    description: String,
}

impl Props {
    pub(crate) fn new(props: pb::Props, notes: Option<u32>) -> Self {
        let experiment = props.experiment.map(|it| RunExperiment {
            id: Some(it.id),
            name: Some(it.name),
            description: Some(it.description),
        });
        Props {
            name: props.name,
            description: props.description,
            experiment: experiment.unwrap_or_default(),
            tags: props
                .tags
                .into_iter()
                .map(|it| {
                    let pb::TagRef { id, name, color, description } = it;
                    RunTag { id, name, color, description }
                })
                .collect(),
            creation_time: seconds(props.created_us),
            end_time: props.ended_us.map(seconds),
            archived: props.archived,
            active: props.active,
            outcome: props.outcome.as_ref().and_then(|outcome| outcome.kind().name()),
            outcome_message: props.outcome.map(|outcome| outcome.message),
            client: props.client,
            parent: props.parent.map(|parent| RunParent { run_id: parent.run_id, step: parent.step }),
            notes,
        }
    }
}

/// Writes the members of `Props` as entries, without the number of notes. This is separate from
/// their JSON, because a search writes them for every run straight from the message: a serializer
/// of the codec for serde would be several times longer than this function.
pub(crate) fn write_props(props: &pb::Props, encoder: &mut Encoder) {
    encoder.member("name", |it| it.text(&props.name));
    encoder.member("description", |it| it.text(&props.description));
    encoder.member("experiment", |it| {
        let mut member = |key, value: Option<&String>| {
            it.member(key, |it| match value {
                Some(value) => it.text(value),
                None => it.null(),
            });
        };
        let experiment = props.experiment.as_ref();
        member("id", experiment.map(|it| &it.id));
        member("name", experiment.map(|it| &it.name));
        member("description", experiment.map(|it| &it.description));
    });
    encoder.member("tags", |it| {
        it.array();
        for (index, tag) in props.tags.iter().enumerate() {
            it.element(index as i64, |it| {
                it.member("id", |it| it.text(&tag.id));
                it.member("name", |it| it.text(&tag.name));
                it.member("color", |it| it.text(&tag.color));
                it.member("description", |it| it.text(&tag.description));
            });
        }
    });
    encoder.member("creation_time", |it| it.float(seconds(props.created_us)));
    encoder.member("end_time", |it| match props.ended_us {
        Some(time) => it.float(seconds(time)),
        None => it.null(),
    });
    encoder.member("archived", |it| it.bool(props.archived));
    encoder.member("active", |it| it.bool(props.active));
    if let Some((outcome, name)) = props.outcome.as_ref().and_then(|it| Some((it, it.kind().name()?))) {
        encoder.member("outcome", |it| it.text(name));
        encoder.member("outcome_message", |it| it.text(&outcome.message));
    }
}

/// Two integers as a list: a range, or progress.
pub(crate) fn write_pair(encoder: &mut Encoder, first: i64, second: i64) {
    encoder.array();
    encoder.element(0, |it| it.int(first));
    encoder.element(1, |it| it.int(second));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_formatted() {
        assert_eq!(iso(1_767_323_045_678_999), "2026-01-02T03:04:05.678Z");
        assert_eq!(iso(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(hour_key(1_767_323_045), "2026-01-02T03:00:00");
        assert_eq!(day_key(1_767_323_045), "2026-01-02T00:00:00");
        assert_eq!(seconds(1_700_000_000_500_000), 1_700_000_000.5);
    }

    #[test]
    fn densities_are_not_lowered() {
        let check = |requested, expected| assert_eq!(density(requested), expected);
        check(-5, 0);
        check(50, 50);
        check(1_000_000, 1_000_000);
        check(i64::MAX, u32::MAX);
    }

    #[test]
    fn unknown_types_are_rejected() {
        assert_eq!(requested_types(&[]).unwrap().len(), OLD_TYPES);
        assert_eq!(requested_types(&["figures".into()]).unwrap(), [SeriesType::Figures]);
        assert!(requested_types(&["logs".into()]).is_err());
    }
}
