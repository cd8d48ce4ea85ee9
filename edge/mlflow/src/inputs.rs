//! Inputs and outputs of runs: data sets, and logged models. They are params of the run, so that searches find
//! them, and backups and exports contain them.

use std::collections::BTreeSet;

use matyan_value::{Map, Value};
use serde_json::json;

use crate::batch::{RunBatch, publish};
use crate::error::{MlflowError, Result};
use crate::fields::{Fields, missing};
use crate::input_view::{MEMBERS, has_dataset};
use crate::names::{check_length, check_run_id};
use crate::run_locks::ProjectRunLocks;
use crate::run_names::{DATASETS, INPUT_MODELS, MLFLOW, OUTPUT_MODELS, at_path};
use crate::run_view::RunSnapshot;
use matyan_channels::Channels;

/// Limits of MLflow for data sets and their tags.
const MAX_DATASETS: usize = 1_000;
const TAG_KEY_CHARS: usize = 255;
const TAG_VALUE_CHARS: usize = 500;

/// The tag that states the use of a data set.
const CONTEXT_TAG: &str = "mlflow.data.context";

/// Logs data sets and models that a run reads.
pub(crate) async fn log_inputs(
    channels: &Channels,
    locks: ProjectRunLocks<'_>,
    fields: &Fields,
) -> Result<serde_json::Value> {
    let run_id = fields.run_id()?;
    check_run_id(run_id)?;
    let datasets = fields.objects("datasets")?;
    if datasets.len() > MAX_DATASETS {
        return Err(MlflowError::invalid(format!("A request can contain at most {MAX_DATASETS} datasets")));
    }
    let datasets = datasets.iter().map(stored_dataset).collect::<Result<Vec<_>>>()?;
    let mut batch = RunBatch::default();
    for model in fields.objects("models")? {
        let id = model.required("model_id")?;
        // A map of one entry would be merged instead of stored.
        batch.set(&at_path([MLFLOW, INPUT_MODELS, id], Value::Bool(true)));
    }
    let _guard = locks.lock(run_id).await?;
    let run = RunSnapshot::read_for_write(channels, run_id).await?;
    for (id, value) in new_datasets(datasets, &run.params) {
        batch.set(&at_path([MLFLOW, DATASETS, &id], value));
    }
    run.check_room(batch.params_bytes)?;
    publish(channels, run_id, batch).await?;
    Ok(json!({}))
}

/// Logs models that a run has made.
pub(crate) async fn log_outputs(
    channels: &Channels,
    locks: ProjectRunLocks<'_>,
    fields: &Fields,
) -> Result<serde_json::Value> {
    let run_id = fields.run_id()?;
    check_run_id(run_id)?;
    let mut batch = RunBatch::default();
    for model in fields.objects("models")? {
        let step = model.integer("step")?.unwrap_or_default();
        let id = model.required("model_id")?;
        batch.set(&at_path([MLFLOW, OUTPUT_MODELS, id], Value::Integer(step)));
    }
    let _guard = locks.lock(run_id).await?;
    let run = RunSnapshot::read_for_write(channels, run_id).await?;
    run.check_room(batch.params_bytes)?;
    publish(channels, run_id, batch).await?;
    Ok(json!({}))
}

/// The data sets that a run does not have yet. A data set that is logged again, even in the same request, stays as it
/// was logged first.
fn new_datasets(mut datasets: Vec<(String, Value)>, params: &Map) -> Vec<(String, Value)> {
    let mut seen = BTreeSet::new();
    datasets.retain(|(id, _)| !has_dataset(params, id) && seen.insert(id.clone()));
    datasets
}

/// The key and the stored form of a data set.
fn stored_dataset(input: &Fields) -> Result<(String, Value)> {
    let dataset = input.object("dataset")?.ok_or_else(|| missing("dataset"))?;
    for name in ["name", "digest", "source_type", "source"] {
        dataset.required(name)?;
    }
    let mut stored = Map::new();
    for (name, limit) in MEMBERS {
        if let Some(text) = dataset.text(name)? {
            check_length(name, text, limit)?;
            stored.insert(name.to_owned(), Value::Text(text.to_owned()));
        }
    }
    let mut tags = Map::new();
    for tag in input.objects("tags")? {
        let key = tag.required("key")?;
        let value = tag.text("value")?.unwrap_or_default();
        check_length("The key of a tag", key, TAG_KEY_CHARS)?;
        check_length("The value of a tag", value, TAG_VALUE_CHARS)?;
        if key == CONTEXT_TAG {
            stored.insert("context".to_owned(), Value::Text(value.to_owned()));
        }
        tags.insert(key.to_owned(), Value::Text(value.to_owned()));
    }
    let id = format!("{}#{}", dataset.required("name")?, dataset.required("digest")?);
    stored.insert("tags".to_owned(), Value::Map(tags));
    Ok((id, Value::Map(stored)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input_view::{dataset_summary, datasets, inputs_view};

    #[test]
    fn a_dataset_is_returned_as_it_was_logged() {
        let body = r#"{"dataset": {"name": "d", "digest": "x", "source_type": "local", "source": "{}", "schema": "s"},
                       "tags": [{"key": "mlflow.data.context", "value": "train"}]}"#;
        let (id, value) = stored_dataset(&Fields::of_json(body.as_bytes()).unwrap()).unwrap();
        assert_eq!(id, "d#x");
        let params = at_path([MLFLOW, DATASETS, &id], value);
        let expected = json!({
            "dataset_inputs": [{
                "dataset": {"name": "d", "digest": "x", "source_type": "local", "source": "{}", "schema": "s"},
                "tags": [{"key": "mlflow.data.context", "value": "train"}],
            }],
            "model_inputs": [],
        });
        assert_eq!(inputs_view(&params), expected);
        let summary = datasets(&params).map(|dataset| dataset_summary("0", dataset)).next().unwrap();
        assert_eq!(summary, json!({"experiment_id": "0", "name": "d", "digest": "x", "context": "train"}));
    }

    #[test]
    fn a_dataset_stays_as_it_was_logged_first() {
        let stored = |digest: &str, schema: &str| {
            let dataset =
                json!({"name": "d", "digest": digest, "source_type": "t", "source": "s", "schema": schema});
            stored_dataset(&Fields::of_json(json!({"dataset": dataset}).to_string().as_bytes()).unwrap())
                .unwrap()
        };
        let (id, first) = stored("x", "first");
        let params = at_path([MLFLOW, DATASETS, &id], first);
        let again = new_datasets(vec![stored("x", "second"), stored("y", "third")], &params);
        assert_eq!(again, [stored("y", "third")]);
        let twice = new_datasets(vec![stored("x", "first"), stored("x", "second")], &Map::new());
        assert_eq!(twice, [stored("x", "first")]);
    }

    #[test]
    fn a_dataset_without_its_source_is_refused() {
        for body in [r#"{}"#, r#"{"dataset": {"name": "d", "digest": "x"}}"#, r#"{"dataset": {"name": 7}}"#] {
            stored_dataset(&Fields::of_json(body.as_bytes()).unwrap()).expect_err(body);
        }
    }
}
