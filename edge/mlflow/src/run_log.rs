//! Params and tags of runs, and batches of params, tags and metrics.

use std::collections::{BTreeMap, BTreeSet};

use matyan_proto::runs::v1::{DeleteParamsRequest, UpdateRequest};
use serde_json::json;

use crate::batch::{Point, RunBatch, publish};
use crate::clock::checked_time;
use crate::error::{MlflowError, Result};
use crate::fields::{Fields, check_values, missing};
use crate::logged_metric::{LoggedMetric, ModelMetric};
use crate::metric_log::add_points;
use crate::model_metrics::{check_models, log_model_metrics};
use crate::names::{PARAM_CHARS, check_key, check_length, check_run_id, check_run_name, cut};
use crate::run_locks::ProjectRunLocks;
use crate::run_names::{MLFLOW, NAME_TAG, NOTE_TAG, PARAMS, TAGS, at_path, path};
use crate::run_tags::{add_tag, tag_value};
use crate::run_view::RunSnapshot;
use crate::values::stored_param;
use matyan_channels::Channels;

/// Limits of MLflow for a batch.
const MAX_METRICS: usize = 1_000;
const MAX_PARAMS: usize = 100;
const MAX_TAGS: usize = 100;
const MAX_ENTITIES: usize = 1_000;

/// The tag with the models that clients of MLflow 2 log.
const LOGGED_MODELS_TAG: &str = "mlflow.log-model.history";
/// Maximum size of the description of one such model.
const MODEL_JSON_BYTES: usize = 1 << 20;

/// All data that a request logs to a run.
#[derive(Clone, Debug, Default)]
struct RunEntries {
    metrics: Vec<LoggedMetric>,
    params: Vec<(String, String)>,
    tags: Vec<(String, String)>,
}

fn metric(fields: &Fields) -> Result<LoggedMetric> {
    let key = fields.required("key")?;
    check_key("key", key)?;
    let value = fields.float("value")?;
    let time_ms = fields.integer("timestamp")?.ok_or_else(|| missing("timestamp"))?;
    let time_ms = checked_time("timestamp", time_ms)?;
    let step = fields.integer("step")?.unwrap_or_default();
    if step == matyan_proto::ABSENT {
        let message =
            "Invalid value for parameter 'step' supplied: it is too small; use a step of more than -2^63";
        return Err(MlflowError::invalid(message));
    }
    Ok(LoggedMetric {
        key: key.to_owned(),
        point: Point { value, step, time_ms },
        model: ModelMetric::of_fields(fields)?,
    })
}

fn param(fields: &Fields) -> Result<(String, String)> {
    let key = fields.required("key")?;
    check_key("key", key)?;
    let value = fields.text("value")?.ok_or_else(|| missing("value"))?;
    Ok((key.to_owned(), cut(value, PARAM_CHARS).to_owned()))
}

fn tag(fields: &Fields) -> Result<(String, String)> {
    let key = fields.required("key")?;
    check_key("key", key)?;
    let value = tag_value(fields)?;
    if key == NAME_TAG {
        check_run_name(value)?;
    }
    Ok((key.to_owned(), value.to_owned()))
}

pub(crate) async fn log_metric(
    channels: &Channels,
    locks: ProjectRunLocks<'_>,
    fields: &Fields,
) -> Result<serde_json::Value> {
    let entries = RunEntries { metrics: vec![metric(fields)?], ..RunEntries::default() };
    log(channels, locks, fields.run_id()?, entries).await
}

pub(crate) async fn log_param(
    channels: &Channels,
    locks: ProjectRunLocks<'_>,
    fields: &Fields,
) -> Result<serde_json::Value> {
    let entries = RunEntries { params: vec![param(fields)?], ..RunEntries::default() };
    log(channels, locks, fields.run_id()?, entries).await
}

pub(crate) async fn set_tag(
    channels: &Channels,
    locks: ProjectRunLocks<'_>,
    fields: &Fields,
) -> Result<serde_json::Value> {
    let entries = RunEntries { tags: vec![tag(fields)?], ..RunEntries::default() };
    log(channels, locks, fields.run_id()?, entries).await
}

pub(crate) async fn log_batch(
    channels: &Channels,
    locks: ProjectRunLocks<'_>,
    fields: &Fields,
) -> Result<serde_json::Value> {
    let metrics = fields.objects("metrics")?;
    let params = fields.objects("params")?;
    let tags = fields.objects("tags")?;
    let total = metrics.len() + params.len() + tags.len();
    for (what, count, limit) in [
        ("metrics", metrics.len(), MAX_METRICS),
        ("params", params.len(), MAX_PARAMS),
        ("tags", tags.len(), MAX_TAGS),
        ("metrics, params, and tags", total, MAX_ENTITIES),
    ] {
        if count > limit {
            return Err(MlflowError::invalid(format!(
                "A batch logging request can contain at most {limit} {what}. Got {count} {what}. Please split up \
                 {what} across multiple requests and try again."
            )));
        }
    }
    let entries = RunEntries {
        metrics: metrics.iter().map(metric).collect::<Result<_>>()?,
        params: params.iter().map(param).collect::<Result<_>>()?,
        tags: tags.iter().map(tag).collect::<Result<_>>()?,
    };
    let mut keys = BTreeSet::new();
    let repeated: Vec<&str> =
        entries.params.iter().filter(|(key, _)| !keys.insert(key)).map(|(key, _)| key.as_str()).collect();
    if !repeated.is_empty() {
        return Err(MlflowError::invalid(format!(
            "Duplicate parameter keys have been submitted: {repeated:?}. Please ensure the request contains only one \
             param value per param key."
        )));
    }
    log(channels, locks, fields.run_id()?, entries).await
}

/// Stores entries of a run, all of them or none.
async fn log(
    channels: &Channels,
    locks: ProjectRunLocks<'_>,
    run_id: &str,
    entries: RunEntries,
) -> Result<serde_json::Value> {
    check_run_id(run_id)?;
    check_models(channels, &entries.metrics).await?;
    {
        let _guard = locks.lock(run_id).await?;
        let run = RunSnapshot::read_for_write(channels, run_id).await?;
        let mut batch = RunBatch::default();
        add_params(&mut batch, &run, &entries.params)?;
        for (key, value) in &entries.tags {
            add_tag(&mut batch, key, value);
        }
        run.check_room(batch.params_bytes)?;
        add_points(channels, &mut batch, run_id, &entries.metrics).await?;
        publish(channels, run_id, batch).await?;
    }
    log_model_metrics(channels, run_id, &entries.metrics).await?;
    Ok(json!({}))
}

/// Adds params that the run does not have yet. A param never changes.
fn add_params(batch: &mut RunBatch, run: &RunSnapshot, params: &[(String, String)]) -> Result<()> {
    for (key, value) in params {
        match run.param(key) {
            None => batch.set(&at_path([PARAMS, key], stored_param(value))),
            Some(stored) if stored == *value => {}
            Some(stored) => {
                return Err(MlflowError::invalid(format!(
                    "Changing param values is not allowed. Param with key='{key}' was already logged with \
                     value='{stored}' for run ID='{}'. Attempted logging new value '{value}'.",
                    run.run_id
                )));
            }
        }
    }
    Ok(())
}

pub(crate) async fn delete_tag(
    channels: &Channels,
    locks: ProjectRunLocks<'_>,
    fields: &Fields,
) -> Result<serde_json::Value> {
    let run_id = fields.run_id()?;
    check_run_id(run_id)?;
    let key = fields.required("key")?;
    let _guard = locks.lock(run_id).await?;
    let run = RunSnapshot::read_for_write(channels, run_id).await?;
    if !run.tags().iter().any(|(name, _)| name == key) {
        return Err(MlflowError::missing(format!("No tag with name: {key} in run with id {run_id}")));
    }
    match key {
        NAME_TAG | NOTE_TAG => {
            // A run always has a name: the server gives a name to a run without one.
            let name = (key == NAME_TAG).then(|| matyan_value::spoken_name(run_id));
            let description = (key == NOTE_TAG).then(String::new);
            let request =
                UpdateRequest { run_id: run_id.to_owned(), name, description, ..UpdateRequest::default() };
            channels.runs().update(request).await?;
        }
        key => {
            let paths = vec![path([MLFLOW, TAGS, key])];
            channels.runs().delete_params(DeleteParamsRequest { run_id: run_id.to_owned(), paths }).await?;
        }
    }
    Ok(json!({}))
}

/// Adds a model to the tag in which clients of MLflow 2 list the models of a run.
pub(crate) async fn log_model(
    channels: &Channels,
    locks: ProjectRunLocks<'_>,
    fields: &Fields,
) -> Result<serde_json::Value> {
    let run_id = fields.run_id()?;
    check_run_id(run_id)?;
    let text = fields.required("model_json")?;
    check_length("model_json", text, MODEL_JSON_BYTES)?;
    check_values("'model_json'", text.as_bytes())?;
    let model: BTreeMap<String, serde_json::Value> = serde_json::from_str(text)
        .map_err(|_| MlflowError::invalid("Malformed model info: 'model_json' is not a JSON object"))?;
    for name in ["artifact_path", "flavors", "utc_time_created", "run_id"] {
        if !model.contains_key(name) {
            return Err(MlflowError::invalid(format!("Model json is missing mandatory field: {name}")));
        }
    }
    // The parts of a model that MLflow keeps: its files have the rest.
    let kept = ["run_id", "artifact_path", "utc_time_created", "flavors", "model_uuid", "mlflow_version"];
    let kept: serde_json::Map<String, serde_json::Value> =
        model.into_iter().filter(|(name, _)| kept.contains(&name.as_str())).collect();
    let _guard = locks.lock(run_id).await?;
    let run = RunSnapshot::read_for_write(channels, run_id).await?;
    let tags = run.tags();
    let before = tags.iter().find(|(key, _)| key == LOGGED_MODELS_TAG).map_or("[]", |(_, value)| value);
    let value = with_model(before, kept)?;
    let mut batch = RunBatch::default();
    add_tag(&mut batch, LOGGED_MODELS_TAG, &value);
    run.check_room(batch.params_bytes)?;
    publish(channels, run_id, batch).await?;
    Ok(json!({}))
}

/// The tag with one more model, unless it has the model already. A tag that is not a list was set by the user, and is
/// not replaced.
fn with_model(tag: &str, model: serde_json::Map<String, serde_json::Value>) -> Result<String> {
    check_values(&format!("the tag '{LOGGED_MODELS_TAG}'"), tag.as_bytes())?;
    let mut models: Vec<serde_json::Value> = serde_json::from_str(tag).map_err(|_| {
        MlflowError::invalid(format!(
            "the tag '{LOGGED_MODELS_TAG}' of the run is not a JSON list of models: delete the tag, and log the model \
             again"
        ))
    })?;
    let new = serde_json::Value::Object(model);
    if !models.contains(&new) {
        models.push(new);
    }
    Ok(serde_json::Value::Array(models).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::TAG_CHARS;

    fn fields(json: &str) -> Fields {
        Fields::of_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn metrics_are_checked() {
        let read = metric(&fields(r#"{"key": "a", "value": "NaN", "timestamp": "5"}"#)).unwrap();
        assert!(read.point.value.is_nan());
        assert_eq!((read.point.step, read.point.time_ms), (0, 5));
        for wrong in [
            r#"{"value": 1, "timestamp": 5}"#,
            r#"{"key": "a", "timestamp": 5}"#,
            r#"{"key": "a", "value": 1}"#,
            r#"{"key": "a", "value": "x", "timestamp": 5}"#,
            r#"{"key": "a", "value": 1, "timestamp": -5}"#,
            r#"{"key": "a", "value": 1, "timestamp": 5, "step": "x"}"#,
            r#"{"key": "a", "value": 1, "timestamp": 5, "step": -9223372036854775808}"#,
            r#"{"key": "../a", "value": 1, "timestamp": 5}"#,
        ] {
            metric(&fields(wrong)).expect_err(wrong);
        }
    }

    #[test]
    fn params_and_tags_are_cut() {
        let long = "x".repeat(TAG_CHARS + 5);
        let body = format!(r#"{{"key": "a", "value": "{long}"}}"#);
        assert_eq!(param(&fields(&body)).unwrap().1.len(), PARAM_CHARS);
        assert_eq!(tag(&fields(&body)).unwrap().1.len(), TAG_CHARS);
        param(&fields(r#"{"key": "a"}"#)).unwrap_err();
        assert_eq!(tag(&fields(r#"{"key": "a"}"#)).unwrap().1, "");
    }

    #[test]
    fn a_model_is_added_to_the_tag_once() {
        let model = |path: &str| json!({"artifact_path": path}).as_object().unwrap().clone();
        let one = with_model("[]", model("a")).unwrap();
        assert_eq!(one, r#"[{"artifact_path":"a"}]"#);
        assert_eq!(with_model(&one, model("a")).unwrap(), one);
        assert_eq!(with_model(&one, model("b")).unwrap(), r#"[{"artifact_path":"a"},{"artifact_path":"b"}]"#);
        for damaged in ["", "my model", r#"{"artifact_path":"a"}"#] {
            let error = with_model(damaged, model("b")).unwrap_err();
            assert!(error.message.contains("delete the tag"), "{damaged} {}", error.message);
        }
    }

    #[test]
    fn rule_95_a_long_name_of_a_run_is_refused() {
        let named = |name: &str| tag(&fields(&format!(r#"{{"key": "{NAME_TAG}", "value": "{name}"}}"#)));
        named(&"ö".repeat(256)).unwrap();
        named(&"ö".repeat(257)).unwrap_err();
    }
}
