//! Shared parts of responses about runs: properties, type names, ranges, and times.

use http::StatusCode;
use matyan_proto::common::v1::{IndexRange, SeriesKey, SeriesType, StepRange};
use matyan_proto::runs::v1 as pb;
use matyan_value::datetime::UtcTime;
use serde::Serialize;
use serde_json::Value;

use super::call::Call;
use super::request_schema::{Member, RequestSchema};
use super::response_schema::ResponseSchema;
use crate::error::ApiError;
use crate::stream::Encoder;

/// A list of `{"name", "context"}`.
pub(crate) const SERIES_KEYS: RequestSchema = RequestSchema::List(&SERIES_KEY);

pub(crate) const SERIES_KEY: RequestSchema = RequestSchema::Record(&[
    Member::required("name", RequestSchema::Text),
    Member::required("context", RequestSchema::AnyObject),
]);

/// Types in the order of responses, with their names in URLs and keys.
pub(crate) const TYPES: [(SeriesType, &str); 6] = [
    (SeriesType::Metric, "metric"),
    (SeriesType::Images, "images"),
    (SeriesType::Texts, "texts"),
    (SeriesType::Distributions, "distributions"),
    (SeriesType::Audios, "audios"),
    (SeriesType::Figures, "figures"),
];

/// The types named by `sequence` parameters; all types if there are none.
pub(crate) fn requested_types(names: &[String]) -> Result<Vec<SeriesType>, ApiError> {
    if names.is_empty() {
        return Ok(TYPES.map(|(series_type, _)| series_type).to_vec());
    }
    let find =
        |name: &String| TYPES.iter().find(|(_, known)| known == name).map(|(series_type, _)| *series_type);
    let unknown = |name: &String| {
        ApiError::new(StatusCode::BAD_REQUEST, format!("sequence: unknown sequence type '{name}'"))
    };
    names.iter().map(|name| find(name).ok_or_else(|| unknown(name))).collect()
}

/// Series named by a validated body of `SERIES_KEYS`.
pub(crate) fn series_keys(list: &Value) -> Vec<SeriesKey> {
    list.as_array().into_iter().flatten().map(series_key).collect()
}

pub(crate) fn series_key(item: &Value) -> SeriesKey {
    // An empty object means no context.
    let context = item.get("context").filter(|context| context.as_object().is_some_and(|it| !it.is_empty()));
    SeriesKey {
        name: item["name"].as_str().unwrap_or_default().to_owned(),
        context: context.map(Value::to_string).unwrap_or_default(),
    }
}

/// Run ids named by a validated body.
pub(crate) fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|it| it.as_str().map(str::to_owned)).collect()
}

/// Requested number of points: 0 or less means all.
pub(crate) fn density(requested: Option<i64>) -> u32 {
    u32::try_from(requested.unwrap_or(0).max(0)).unwrap_or(u32::MAX)
}

/// Start and stop, each optional.
type Range = (Option<i64>, Option<i64>);

/// Parses the half-open range of a parameter; text without a colon means no range.
fn range(call: &Call, name: &str) -> Result<Option<Range>, ApiError> {
    let Some((start, stop)) = call.text(name).and_then(|text| text.split_once(':')) else { return Ok(None) };
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
pub(crate) fn step_range(call: &Call) -> Result<Option<StepRange>, ApiError> {
    Ok(range(call, "record_range")?.map(|(start, stop)| StepRange { start, stop }))
}

/// Indexes selected by `index_range`.
pub(crate) fn index_range(call: &Call) -> Result<Option<IndexRange>, ApiError> {
    let position = |value: i64| u32::try_from(value.max(0)).unwrap_or(u32::MAX);
    let range = range(call, "index_range")?;
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

/// Schema of `Props`.
pub(crate) const PROPS: ResponseSchema = ResponseSchema::Record(&[
    ("name", ResponseSchema::TextOrNull),
    ("description", ResponseSchema::TextOrNull),
    (
        "experiment",
        ResponseSchema::Record(&[
            ("id", ResponseSchema::TextOrNull),
            ("name", ResponseSchema::TextOrNull),
            ("description", ResponseSchema::TextOrNull),
        ]),
    ),
    ("tags", ResponseSchema::List(&TAG)),
    ("creation_time", ResponseSchema::Number),
    ("end_time", ResponseSchema::NumberOrNull),
    ("archived", ResponseSchema::Bool),
    ("active", ResponseSchema::Bool),
    ("notes", ResponseSchema::Optional(&ResponseSchema::Int)),
]);

const TAG: ResponseSchema = ResponseSchema::Record(&[
    ("id", ResponseSchema::Text),
    ("name", ResponseSchema::Text),
    ("color", ResponseSchema::TextOrNull),
    ("description", ResponseSchema::TextOrNull),
]);

/// Properties of a run in JSON, in the order of the API contract.
#[derive(Serialize)]
pub(crate) struct Props<'a> {
    name: &'a str,
    description: &'a str,
    experiment: Experiment<'a>,
    tags: Vec<Tag<'a>>,
    creation_time: f64,
    end_time: Option<f64>,
    archived: bool,
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<u32>,
}

#[derive(Default, Serialize)]
struct Experiment<'a> {
    id: Option<&'a str>,
    name: Option<&'a str>,
    description: Option<&'a str>,
}

#[derive(Serialize)]
struct Tag<'a> {
    id: &'a str,
    name: &'a str,
    color: &'a str,
    description: &'a str,
}

impl<'a> Props<'a> {
    /// `notes` is the number of notes, which only the bundle of Aim gets.
    pub(crate) fn new(props: &'a pb::Props, notes: Option<u32>) -> Self {
        let experiment = props.experiment.as_ref().map(|it| Experiment {
            id: Some(&it.id),
            name: Some(&it.name),
            description: Some(&it.description),
        });
        let tag = |it: &'a pb::TagRef| Tag {
            id: &it.id,
            name: &it.name,
            color: &it.color,
            description: &it.description,
        };
        Props {
            name: &props.name,
            description: &props.description,
            experiment: experiment.unwrap_or_default(),
            tags: props.tags.iter().map(tag).collect(),
            creation_time: seconds(props.created_us),
            end_time: props.ended_us.map(seconds),
            archived: props.archived,
            active: props.active,
            notes,
        }
    }

    /// Writes the same properties as entries, at the path of `encoder`.
    pub(crate) fn stream(&self, encoder: &mut Encoder) {
        encoder.member("name", |it| it.text(self.name));
        encoder.member("description", |it| it.text(self.description));
        encoder.member("experiment", |it| {
            for (key, value) in [
                ("id", self.experiment.id),
                ("name", self.experiment.name),
                ("description", self.experiment.description),
            ] {
                it.member(key, |it| match value {
                    Some(value) => it.text(value),
                    None => it.null(),
                });
            }
        });
        encoder.member("tags", |it| {
            it.array();
            for (index, tag) in self.tags.iter().enumerate() {
                it.element(index as i64, |it| {
                    it.member("id", |it| it.text(tag.id));
                    it.member("name", |it| it.text(tag.name));
                    it.member("color", |it| it.text(tag.color));
                    it.member("description", |it| it.text(tag.description));
                });
            }
        });
        encoder.member("creation_time", |it| it.float(self.creation_time));
        encoder.member("end_time", |it| match self.end_time {
            Some(time) => it.float(time),
            None => it.null(),
        });
        encoder.member("archived", |it| it.bool(self.archived));
        encoder.member("active", |it| it.bool(self.active));
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
        check(None, 0);
        check(Some(-5), 0);
        check(Some(50), 50);
        check(Some(1_000_000), 1_000_000);
        check(Some(i64::MAX), u32::MAX);
    }

    #[test]
    fn unknown_types_are_rejected() {
        assert_eq!(requested_types(&[]).unwrap().len(), 6);
        assert_eq!(requested_types(&["figures".into()]).unwrap(), [SeriesType::Figures]);
        assert!(requested_types(&["logs".into()]).is_err());
    }
}
