//! Metrics of logged models. A model keeps the latest value of each metric, for searches; all points are points of the
//! runs that have logged them.

use std::collections::{BTreeMap, HashMap};

use matyan_proto::limits::NAMED_DOCUMENT_BYTES;
use serde_json::{Map, Value, json};

use crate::error::{ErrorCode, Result};
use crate::logged_metric::LoggedMetric;
use crate::logged_models::{change, find};
use crate::numbers::float;
use matyan_channels::documents::Effect;
use matyan_channels::{Channels, call_all};

/// Size of a model up to which metrics are stored with it. The rest of the document is left to its params and tags.
const MODEL_BYTES: usize = NAMED_DOCUMENT_BYTES / 2;

/// Maximum number of models that a request reads or changes at the same time. Each may take many times
/// `MODEL_BYTES` of memory.
const MODELS_AT_A_TIME: usize = 4;

/// The models that metrics are about, each with its metrics.
fn by_model(metrics: &[LoggedMetric]) -> Vec<(&str, Vec<&LoggedMetric>)> {
    let mut models: BTreeMap<&str, Vec<&LoggedMetric>> = BTreeMap::new();
    for metric in metrics {
        if let Some(model) = &metric.model {
            models.entry(&model.model_id).or_default().push(metric);
        }
    }
    models.into_iter().collect()
}

/// Refuses metrics of models that do not exist.
pub(crate) async fn check_models(channels: &Channels, metrics: &[LoggedMetric]) -> Result<()> {
    let models = by_model(metrics);
    // A model that was found is not kept: it may be large.
    let finds = models.iter().map(|(model_id, _)| async move { find(channels, model_id).await.map(drop) });
    call_all(MODELS_AT_A_TIME, finds).await?;
    Ok(())
}

/// Stores the latest values of metrics with the models that they are about.
pub(crate) async fn log_model_metrics(
    channels: &Channels,
    run_id: &str,
    metrics: &[LoggedMetric],
) -> Result<()> {
    let models = by_model(metrics);
    let changes = models.iter().map(|(model_id, metrics)| {
        let new = metrics.iter().map(|metric| metric_view(metric, run_id)).collect();
        log_metrics_of_model(channels, model_id, new)
    });
    call_all(MODELS_AT_A_TIME, changes).await?;
    Ok(())
}

async fn log_metrics_of_model(channels: &Channels, model_id: &str, new: Vec<Value>) -> Result<()> {
    let changed = change(channels, model_id, Effect::Adds, |content| {
        let stored = content.entry("metrics").or_insert_with(|| json!([]));
        if !stored.is_array() {
            *stored = json!([]);
        }
        keep_latest(stored.as_array_mut().expect("it was made a list above"), &new);
        drop_oldest(content);
        Ok(())
    });
    match changed.await {
        // The model was deleted after the check.
        Err(error) if error.code == ErrorCode::ResourceDoesNotExist => Ok(()),
        changed => changed.map(drop),
    }
}

/// Drops the oldest metrics of a model that has too many. They are still points of their runs.
fn drop_oldest(content: &mut Map<String, Value>) {
    let length = |value: &Value| value.to_string().len() + 1;
    let mut bytes: usize = content.iter().map(|(name, value)| name.len() + length(value) + 3).sum();
    let Some(metrics) = content.get_mut("metrics").and_then(Value::as_array_mut) else { return };
    if bytes <= MODEL_BYTES {
        return;
    }
    metrics.sort_by_key(|metric| metric["timestamp"].as_i64());
    let mut dropped = 0;
    while bytes > MODEL_BYTES
        && let Some(metric) = metrics.get(dropped)
    {
        bytes -= length(metric);
        dropped += 1;
    }
    metrics.drain(..dropped);
    if metrics.is_empty() {
        content.remove("metrics");
    }
}

fn metric_view(metric: &LoggedMetric, run_id: &str) -> Value {
    let mut view = json!({
        "key": metric.key,
        "value": float(metric.point.value),
        "timestamp": metric.point.time_ms,
        "step": metric.point.step,
        "run_id": run_id,
    });
    if let Some(model) = &metric.model {
        view["model_id"] = model.model_id.as_str().into();
        if !model.dataset_name.is_empty() {
            view["dataset_name"] = model.dataset_name.as_str().into();
            view["dataset_digest"] = model.dataset_digest.as_str().into();
        }
    }
    view
}

/// The key, data set and run of a metric. A model keeps the latest value of each such metric.
type MetricIdentity<'v> = [Option<&'v str>; 4];

fn identity(metric: &Value) -> MetricIdentity<'_> {
    ["key", "dataset_name", "dataset_digest", "run_id"].map(|name| metric[name].as_str())
}

/// Adds new metrics. Each replaces the stored metric with the same identity, unless that one is later. A model may have
/// tens of thousands of metrics, which are read once.
fn keep_latest(stored: &mut Vec<Value>, new: &[Value]) {
    let age = |metric: &Value| (metric["step"].as_i64(), metric["timestamp"].as_i64());
    let mut latest: HashMap<MetricIdentity<'_>, usize> = HashMap::new();
    for (place, metric) in new.iter().enumerate() {
        let known = latest.entry(identity(metric)).or_insert(place);
        if age(&new[*known]) <= age(metric) {
            *known = place;
        }
    }
    let mut is_added: Vec<bool> = vec![false; new.len()];
    for place in latest.values() {
        is_added[*place] = true;
    }
    for other in stored.iter_mut() {
        let Some(place) = latest.get(&identity(other)).copied() else { continue };
        is_added[place] = false;
        if age(other) <= age(&new[place]) {
            other.clone_from(&new[place]);
        }
    }
    stored
        .extend(new.iter().zip(is_added).filter(|(_, is_added)| *is_added).map(|(metric, _)| metric.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_metric_of_a_model_is_kept() {
        let metric =
            |step, value| json!({"key": "a", "value": value, "timestamp": 1, "step": step, "run_id": "r"});
        let mut stored = Vec::new();
        for (step, value) in [(1, 0.5), (3, 0.7), (2, 0.6)] {
            keep_latest(&mut stored, &[metric(step, value)]);
        }
        assert_eq!(stored, [metric(3, 0.7)]);
        let other = json!({"key": "a", "value": 1, "timestamp": 1, "step": 0, "run_id": "other"});
        keep_latest(&mut stored, std::slice::from_ref(&other));
        assert_eq!(stored, [metric(3, 0.7), other.clone()]);
        // The last of equally late metrics of a request stays.
        keep_latest(&mut stored, &[metric(4, 0.1), metric(5, 0.2), metric(5, 0.3), metric(1, 0.4)]);
        assert_eq!(stored, [metric(5, 0.3), other]);
    }

    #[test]
    fn a_model_of_many_metrics_takes_a_thousand_more() {
        let metric = |number: usize, step: usize| json!({"key": format!("k{number}"), "value": 1, "timestamp": 1, "step": step, "run_id": "r"});
        let mut stored: Vec<Value> = (0..20_000).map(|number| metric(number, 1)).collect();
        let new: Vec<Value> = (19_500..20_500).map(|number| metric(number, 2)).collect();
        keep_latest(&mut stored, &new);
        assert_eq!(stored.len(), 20_500);
        assert_eq!(stored[19_500..], new[..]);
    }

    #[test]
    fn a_model_with_too_many_metrics_keeps_the_latest() {
        let metric =
            |time: usize| json!({"key": "k".repeat(1_000), "value": 1, "timestamp": time, "step": 0});
        let content = |count: usize| {
            let metrics: Vec<_> = (0..count).rev().map(metric).collect();
            Map::from_iter([("name".to_owned(), json!("m")), ("metrics".to_owned(), json!(metrics))])
        };
        let few = content(1_000);
        let mut kept = few.clone();
        drop_oldest(&mut kept);
        assert_eq!(kept, few);
        let mut many = content(10_000);
        drop_oldest(&mut many);
        let bytes = serde_json::to_vec(&many).unwrap().len();
        assert!((MODEL_BYTES - 2_000..MODEL_BYTES + 10).contains(&bytes), "{bytes}");
        let times: Vec<_> =
            many["metrics"].as_array().unwrap().iter().map(|it| it["timestamp"].as_u64()).collect();
        assert_eq!((times.last().unwrap(), times.len()), (&Some(9_999), 10_000 - times[0].unwrap() as usize));
        many.insert("tags".to_owned(), "x".repeat(MODEL_BYTES).into());
        drop_oldest(&mut many);
        assert!(!many.contains_key("metrics"), "the tags take all of the room");
    }
}
