//! Logged models of MLflow 3, as far as logging and loading models needs them. A model is a named document. Its files
//! are artifacts of the run that has made the model, or of a run that exists for these files only.

use std::collections::BTreeSet;

use matyan_proto::common::v1::{Outcome, OutcomeKind};
use matyan_proto::ingest::v1::event::Kind;
use matyan_proto::ingest::v1::{CreateRun, FinishRun, SetRunProperty};
use matyan_value::Value as StoredValue;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::batch::{RunBatch, publish_patiently};
use crate::clock::now_ms;
use crate::documents::{self, LOGGED_MODELS, integer, map_in, member, pairs};
use crate::error::{MlflowError, Result};
use crate::experiments;
use crate::fields::Fields;
use crate::filter::{self, Identifier, IdentifierKind};
use crate::list_answer::list_answer;
use crate::local_filter::{LocalValue, SearchedEntry, matches, page, sort_by_values};
use crate::names::{MODEL_TAG_CHARS, PARAM_CHARS, check_key, check_length, check_run_id, is_model_id};
use crate::numbers::read_float;
use crate::order::{self, OrderKey};
use crate::run_names::{HOLDS_MODEL, MLFLOW, at_path};
use crate::run_view::{RunSnapshot, location_of, locations_of, parts_without_metrics};
use matyan_channels::Channels;
use matyan_channels::documents::Effect;

/// Page sizes of MLflow.
const DEFAULT_RESULTS: u32 = 50;
const MAX_RESULTS: u32 = 50_000;

const PENDING: &str = "LOGGED_MODEL_PENDING";
/// The statuses that end the logging of a model.
const FINAL_STATUSES: [&str; 2] = ["LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED"];

/// The tag of a model that lists the versions in the registry that were made of it.
const VERSIONS_TAG: &str = "mlflow.modelVersions";

/// The folder of a model among the artifacts of its run.
pub(crate) fn folder(model_id: &str) -> String {
    format!("models/{model_id}")
}

fn no_model(model_id: &str) -> MlflowError {
    MlflowError::missing(format!("Logged model with ID '{model_id}' not found."))
}

pub(crate) async fn find(channels: &Channels, model_id: &str) -> Result<Map<String, Value>> {
    if !is_model_id(model_id) {
        return Err(no_model(model_id));
    }
    let found = documents::read(channels, LOGGED_MODELS, model_id).await?.map(|stored| stored.content);
    found.filter(|content| !is_deleted(content)).ok_or_else(|| no_model(model_id))
}

fn is_deleted(content: &Map<String, Value>) -> bool {
    content.get("deleted").and_then(Value::as_bool).unwrap_or_default()
}

/// Changes a model, and returns the changed model.
pub(crate) async fn change(
    channels: &Channels,
    model_id: &str,
    effect: Effect,
    mut change: impl FnMut(&mut Map<String, Value>) -> Result<()>,
) -> Result<Map<String, Value>> {
    if !is_model_id(model_id) {
        return Err(no_model(model_id));
    }
    documents::change(channels, LOGGED_MODELS, model_id, effect, |content, exists| {
        if !exists || is_deleted(content) {
            return Err(no_model(model_id));
        }
        change(content)?;
        content.insert("updated_ms".to_owned(), now_ms().into());
        Ok(content.clone())
    })
    .await
}

/// The run that holds the files of a model.
pub(crate) async fn holder(channels: &Channels, model_id: &str) -> Result<String> {
    let content = find(channels, model_id).await?;
    Ok(match member(&content, "source_run_id") {
        "" => model_id.to_owned(),
        run_id => run_id.to_owned(),
    })
}

/// Creates the run for the files of a model without a run. The run is archived, so that it is in no list.
pub(crate) async fn create_holder(channels: &Channels, model_id: &str) -> Result<()> {
    let content = find(channels, model_id).await?;
    let experiment = experiments::find(channels, member(&content, "experiment_id")).await?;
    let mut batch = RunBatch::default();
    batch.add(Kind::CreateRun(CreateRun::default()), None);
    batch.set_properties(SetRunProperty {
        name: Some(member(&content, "name").to_owned()),
        archived: Some(true),
        experiment: Some(experiment.name),
        ..SetRunProperty::default()
    });
    batch.set(&at_path([MLFLOW, HOLDS_MODEL], StoredValue::Text(model_id.to_owned())));
    let outcome = Some(Outcome { kind: OutcomeKind::Finished.into(), message: String::new() });
    batch.add(Kind::FinishRun(FinishRun { outcome }), None);
    publish_patiently(channels, model_id, batch).await
}

/// The location of the files of a model.
pub(crate) async fn artifact_uri(channels: &Channels, model_id: &str) -> Result<String> {
    let content = find(channels, model_id).await?;
    let location = location_of(channels, member(&content, "experiment_id")).await?;
    Ok(uri_in(&location, model_id))
}

fn uri_in(location: &str, model_id: &str) -> String {
    format!("{location}/models/{model_id}/artifacts")
}

fn view(content: &Map<String, Value>, model_id: &str, location: &str) -> Value {
    json!({
        "info": {
            "model_id": model_id,
            "experiment_id": member(content, "experiment_id"),
            "name": member(content, "name"),
            "creation_timestamp_ms": integer(content, "created_ms"),
            "last_updated_timestamp_ms": integer(content, "updated_ms"),
            "artifact_uri": uri_in(location, model_id),
            "status": member(content, "status"),
            "model_type": member(content, "model_type"),
            "source_run_id": member(content, "source_run_id"),
            "tags": pairs(content, "tags"),
            "registrations": content.get("registrations").cloned().unwrap_or_else(|| json!([])),
        },
        "data": {
            "params": pairs(content, "params"),
            "metrics": content.get("metrics").cloned().unwrap_or_else(|| json!([])),
        },
    })
}

async fn answer(channels: &Channels, content: &Map<String, Value>, model_id: &str) -> Result<Value> {
    let location = location_of(channels, member(content, "experiment_id")).await?;
    Ok(json!({"model": view(content, model_id, &location)}))
}

/// Texts of a list of keys and values.
fn checked_pairs(fields: &Fields, name: &str, limit: usize) -> Result<Map<String, Value>> {
    let mut checked = Map::new();
    for pair in fields.objects(name)? {
        let key = pair.required("key")?;
        let value = pair.text("value")?.unwrap_or_default();
        check_key("key", key)?;
        check_length("A value", value, limit)?;
        checked.insert(key.to_owned(), value.into());
    }
    Ok(checked)
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.contains(['/', ':', '.', '%', '"', '\'']) || name.contains(char::is_control) {
        return Err(MlflowError::invalid(format!(
            "Invalid model name ({}) provided. Model name must be a non-empty string and cannot contain the following \
             characters: / : . % \" '",
            name.escape_debug()
        )));
    }
    check_length("The name of a model", name, 250)
}

pub(crate) async fn create(channels: &Channels, fields: &Fields) -> Result<Value> {
    let experiment_id = fields.identifier("experiment_id")?;
    let id = Uuid::new_v4().simple().to_string();
    let name = fields.text("name")?.filter(|name| !name.is_empty());
    let name = name.map_or_else(|| format!("model-{}", &id[..8]), str::to_owned);
    check_name(&name)?;
    let params = checked_pairs(fields, "params", PARAM_CHARS)?;
    let tags = checked_pairs(fields, "tags", MODEL_TAG_CHARS)?;
    let run_id = fields.text("source_run_id")?.unwrap_or_default();
    if !run_id.is_empty() {
        check_run_id(run_id)?;
        RunSnapshot::read(channels, run_id, parts_without_metrics()).await?;
    }
    let model_type = fields.text("model_type")?.unwrap_or_default();
    check_length("model_type", model_type, 500)?;
    let experiment = experiments::find_active(channels, &experiment_id).await?;
    let now = now_ms();
    let model_id = format!("m-{id}");
    let created = documents::change(channels, LOGGED_MODELS, &model_id, Effect::Adds, |content, _| {
        let new = json!({
            "experiment_id": experiment.id, "name": name, "model_type": model_type, "source_run_id": run_id,
            "status": PENDING, "created_ms": now, "updated_ms": now, "params": params, "tags": tags,
        });
        content.extend(new.as_object().cloned().unwrap_or_default());
        Ok(content.clone())
    })
    .await?;
    answer(channels, &created, &model_id).await
}

pub(crate) async fn get(channels: &Channels, fields: &Fields) -> Result<Value> {
    let model_id = fields.required("model_id")?;
    answer(channels, &find(channels, model_id).await?, model_id).await
}

pub(crate) async fn finalize(channels: &Channels, fields: &Fields) -> Result<Value> {
    let model_id = fields.required("model_id")?;
    // Clients send names; the numbers are from the protocol.
    let status = match fields.identifier("status")?.as_str() {
        "2" => FINAL_STATUSES[0].to_owned(),
        "3" => FINAL_STATUSES[1].to_owned(),
        name => name.to_owned(),
    };
    if !FINAL_STATUSES.contains(&status.as_str()) {
        return Err(MlflowError::invalid(format!(
            "Invalid model status: {status}. Expected statuses to finalize are {}",
            FINAL_STATUSES.join(" and ")
        )));
    }
    let changed = change(channels, model_id, Effect::Adds, |content| {
        content.insert("status".to_owned(), status.as_str().into());
        Ok(())
    })
    .await?;
    answer(channels, &changed, model_id).await
}

pub(crate) async fn delete(channels: &Channels, fields: &Fields) -> Result<Value> {
    let model_id = fields.required("model_id")?;
    change(channels, model_id, Effect::Deletes, |content| {
        content.insert("deleted".to_owned(), true.into());
        Ok(())
    })
    .await?;
    Ok(json!({}))
}

pub(crate) async fn set_tags(channels: &Channels, fields: &Fields) -> Result<Value> {
    let model_id = fields.required("model_id")?;
    let tags = checked_pairs(fields, "tags", MODEL_TAG_CHARS)?;
    let changed = change(channels, model_id, Effect::Adds, |content| {
        map_in(content, "tags").extend(tags.clone());
        Ok(())
    })
    .await?;
    answer(channels, &changed, model_id).await
}

pub(crate) async fn delete_tag(channels: &Channels, fields: &Fields) -> Result<Value> {
    let model_id = fields.required("model_id")?;
    let key = fields.required("tag_key")?;
    change(channels, model_id, Effect::Deletes, |content| {
        let removed = map_in(content, "tags").remove(key);
        removed.map(drop).ok_or_else(|| {
            MlflowError::missing(format!("No tag with key '{key}' found for model with ID '{model_id}'."))
        })
    })
    .await?;
    Ok(json!({}))
}

pub(crate) async fn log_params(channels: &Channels, fields: &Fields) -> Result<Value> {
    let model_id = fields.required("model_id")?;
    let params = checked_pairs(fields, "params", PARAM_CHARS)?;
    change(channels, model_id, Effect::Adds, |content| {
        map_in(content, "params").extend(params.clone());
        Ok(())
    })
    .await?;
    Ok(json!({}))
}

/// The text of the tag that lists versions, as MLflow's own server writes it.
fn versions_text(registrations: &[Value]) -> String {
    let versions = registrations.iter().map(|it| {
        format!(r#"{{"name": {}, "version": {}}}"#, it["name"], it["version"].as_str().unwrap_or_default())
    });
    format!("[{}]", versions.collect::<Vec<_>>().join(", "))
}

/// Notes that a version in the registry was made of a model.
pub(crate) async fn add_registration(
    channels: &Channels,
    model_id: &str,
    name: &str,
    version: &str,
) -> Result<()> {
    change(channels, model_id, Effect::Adds, |content| {
        let registrations = content.entry("registrations").or_insert_with(|| json!([]));
        if let Some(registrations) = registrations.as_array_mut() {
            registrations.push(json!({"name": name, "version": version}));
            let text = versions_text(registrations);
            map_in(content, "tags").insert(VERSIONS_TAG.to_owned(), text.into());
        }
        Ok(())
    })
    .await?;
    Ok(())
}

/// Maximum number of data sets in a search. Each of them is compared with each metric of a model.
const MAX_DATASETS: usize = 100;

/// A data set of a search: only metrics of such data sets count. A missing member fits every metric.
struct SearchedDataset {
    name: Option<String>,
    digest: Option<String>,
}

impl SearchedDataset {
    fn parse(fields: &Fields) -> Result<Self> {
        let text = |name: &str| {
            let sent = fields.text(name);
            sent.map(|text| text.filter(|text| !text.is_empty()).map(str::to_owned))
        };
        Ok(Self { name: text("dataset_name")?, digest: text("dataset_digest")? })
    }

    /// The data sets of a request, each with a name.
    fn parse_all(fields: &Fields) -> Result<Vec<Self>> {
        let datasets = fields.objects("datasets")?;
        if datasets.len() > MAX_DATASETS {
            return Err(MlflowError::invalid(format!(
                "`datasets` has more than {MAX_DATASETS} entries: search for fewer data sets at once"
            )));
        }
        datasets
            .iter()
            .map(|dataset| {
                dataset.required("dataset_name")?;
                Self::parse(dataset)
            })
            .collect()
    }

    fn has(&self, metric: &Value) -> bool {
        self.name.as_ref().is_none_or(|name| metric["dataset_name"] == *name)
            && self.digest.as_ref().is_none_or(|digest| metric["dataset_digest"] == *digest)
    }
}

/// The metrics of a model.
fn metrics_of(content: &Map<String, Value>) -> &[Value] {
    content.get("metrics").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A model in a search.
struct FoundModel {
    id: String,
    content: Map<String, Value>,
    /// Positions of the metrics that count in the filter.
    counted: Vec<usize>,
}

impl FoundModel {
    /// Creates a model whose metrics count if they are of one of these data sets, or in any case if there are no data
    /// sets. `None` if the model has no metric of these data sets.
    fn of(id: String, content: Map<String, Value>, datasets: &[SearchedDataset]) -> Option<Self> {
        let counts =
            |metric: &Value| datasets.is_empty() || datasets.iter().any(|dataset| dataset.has(metric));
        let metrics = metrics_of(&content).iter().enumerate();
        let counted: Vec<usize> =
            metrics.filter(|(_, metric)| counts(metric)).map(|(position, _)| position).collect();
        let is_of_datasets = datasets.is_empty() || !counted.is_empty();
        is_of_datasets.then_some(Self { id, content, counted })
    }

    /// Finds the value with a name; for a metric, the latest of `metrics`.
    fn value_of<'m>(
        &self,
        identifier: &Identifier,
        metrics: impl Iterator<Item = &'m Value>,
    ) -> Result<Option<LocalValue>> {
        let key = identifier.key.as_str();
        let text_in = |name: &str| {
            let members = self.content.get(name).and_then(Value::as_object);
            let text = members.and_then(|members| members.get(key)).and_then(Value::as_str);
            text.map(|text| LocalValue::Text(text.to_owned()))
        };
        match identifier.kind {
            IdentifierKind::Tag => Ok(text_in("tags")),
            IdentifierKind::Param => Ok(text_in("params")),
            IdentifierKind::Metric => {
                let latest = metrics
                    .filter(|metric| metric["key"] == key)
                    .max_by_key(|metric| (metric["step"].as_i64(), metric["timestamp"].as_i64()));
                Ok(latest.and_then(|metric| read_float(&metric["value"])).map(LocalValue::Number))
            }
            IdentifierKind::Attribute => self.attribute(key),
            IdentifierKind::Dataset => {
                Err(MlflowError::invalid("Invalid search expression for logged models"))
            }
        }
    }

    fn attribute(&self, key: &str) -> Result<Option<LocalValue>> {
        match key {
            "name" | "status" | "model_type" | "source_run_id" | "experiment_id" => {
                Ok(Some(LocalValue::Text(member(&self.content, key).to_owned())))
            }
            "model_id" => Ok(Some(LocalValue::Text(self.id.clone()))),
            "creation_timestamp" | "creation_time" | "creation_timestamp_ms" => {
                Ok(Some(LocalValue::time(integer(&self.content, "created_ms"))))
            }
            "last_updated_timestamp" | "last_updated_timestamp_ms" => {
                Ok(Some(LocalValue::time(integer(&self.content, "updated_ms"))))
            }
            other => Err(MlflowError::invalid(format!("Invalid attribute key '{other}' specified"))),
        }
    }
}

impl SearchedEntry for FoundModel {
    fn value(&self, identifier: &Identifier) -> Result<Option<LocalValue>> {
        let metrics = metrics_of(&self.content);
        self.value_of(identifier, self.counted.iter().map(|position| &metrics[*position]))
    }
}

/// The order of a search of models. A key that is a metric may be for one data set, whatever the data sets of the
/// search are.
struct ModelOrder {
    keys: Vec<OrderKey>,
    /// The data set of each key.
    datasets: Vec<SearchedDataset>,
}

impl ModelOrder {
    fn parse(fields: &Fields) -> Result<Self> {
        let keys = fields.objects("order_by")?;
        order::check_length(keys.len())?;
        let mut order = Self { keys: Vec::new(), datasets: Vec::new() };
        for key in keys {
            let identifier = filter::parse_identifier(key.required("field_name")?)?;
            let is_descending = !key.flag_or("ascending", true)?;
            order.keys.push(OrderKey { identifier, is_descending });
            order.datasets.push(SearchedDataset::parse(&key)?);
        }
        Ok(order)
    }

    fn sort(&self, found: Vec<FoundModel>) -> Result<Vec<FoundModel>> {
        sort_by_values(found, &self.keys, |model, position| {
            let dataset = &self.datasets[position];
            let metrics = metrics_of(&model.content).iter().filter(|metric| dataset.has(metric));
            model.value_of(&self.keys[position].identifier, metrics)
        })
    }
}

pub(crate) async fn search(channels: &Channels, fields: &Fields) -> Result<Value> {
    let filter = filter::parse(fields.text("filter")?.unwrap_or_default())?;
    let order = ModelOrder::parse(fields)?;
    let size = fields.max_results(DEFAULT_RESULTS, MAX_RESULTS)?;
    let experiment_ids: BTreeSet<String> = fields.texts("experiment_ids")?.into_iter().collect();
    let datasets = SearchedDataset::parse_all(fields)?;
    let mut found = documents::list(channels, LOGGED_MODELS, |stored| {
        let is_in = experiment_ids.contains(member(&stored.content, "experiment_id"));
        if !is_in || is_deleted(&stored.content) {
            return Ok(None);
        }
        let Some(model) = FoundModel::of(stored.name, stored.content, &datasets) else { return Ok(None) };
        Ok(matches(&model, &filter)?.then_some(model))
    })
    .await?;
    found.sort_by(|one, other| {
        let created = |model: &FoundModel| integer(&model.content, "created_ms");
        created(other).cmp(&created(one)).then_with(|| one.id.cmp(&other.id))
    });
    let (found, next) = page(order.sort(found)?, fields.text("page_token")?, size)?;
    let experiments = found.iter().map(|model| member(&model.content, "experiment_id")).collect();
    let locations = locations_of(channels, experiments).await?;
    let shown = |model: &FoundModel| {
        let location = locations.get(member(&model.content, "experiment_id"));
        let location = location.ok_or_else(|| MlflowError::broken("location"))?;
        Ok::<_, MlflowError>(view(&model.content, &model.id, location))
    };
    let models = found.iter().map(shown).collect::<Result<Vec<Value>>>()?;
    Ok(list_answer("models", models, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_may_be_for_data_sets() {
        let content = json!({"metrics": [
            {"key": "a", "value": 0.5, "dataset_name": "train", "dataset_digest": "1"},
            {"key": "a", "value": 0.7, "dataset_name": "test", "dataset_digest": "2"},
        ]});
        let content = content.as_object().unwrap();
        let finds = |datasets: Value, filter: &str| -> Result<bool> {
            let fields = Fields::of_json(json!({"datasets": datasets}).to_string().as_bytes())?;
            let datasets = SearchedDataset::parse_all(&fields)?;
            let Some(model) = FoundModel::of(String::new(), content.clone(), &datasets) else {
                return Ok(false);
            };
            matches(&model, &filter::parse(filter)?)
        };
        assert!(finds(json!([]), "").unwrap());
        assert!(finds(json!([{"dataset_name": "train"}]), "").unwrap());
        assert!(finds(json!([{"dataset_name": "other"}, {"dataset_name": "test"}]), "").unwrap());
        assert!(!finds(json!([{"dataset_name": "other"}]), "").unwrap());
        assert!(!finds(json!([{"dataset_name": "train", "dataset_digest": "2"}]), "").unwrap());
        assert!(finds(json!([{"dataset_name": "test", "dataset_digest": "2"}]), "metrics.a > 0.6").unwrap());
        assert!(!finds(json!([{"dataset_name": "train"}]), "metrics.a > 0.6").unwrap());
        finds(json!([{"dataset_digest": "2"}]), "").unwrap_err();
        let many = |count: usize| Value::Array(vec![json!({"dataset_name": "train"}); count]);
        assert!(finds(many(MAX_DATASETS), "").unwrap());
        let refused = finds(many(MAX_DATASETS + 1), "").unwrap_err();
        assert!(refused.message.contains("`datasets`"), "{}", refused.message);
    }

    #[test]
    fn models_are_sorted_by_a_metric_of_a_data_set() {
        let searched = json!({"datasets": [{"dataset_name": "train"}]});
        let searched = Fields::of_json(searched.to_string().as_bytes()).unwrap();
        let searched = SearchedDataset::parse_all(&searched).unwrap();
        let model = |id: &str, train: f64, test: f64| {
            let content = json!({"metrics": [
                {"key": "a", "value": train, "step": 1, "dataset_name": "train", "dataset_digest": "1"},
                {"key": "a", "value": test, "step": 2, "dataset_name": "test", "dataset_digest": "2"},
            ]});
            FoundModel::of(id.to_owned(), content.as_object().unwrap().clone(), &searched).unwrap()
        };
        let sorted = |dataset: &str, digest: &str| {
            let key = json!({"field_name": "metrics.a", "dataset_name": dataset, "dataset_digest": digest});
            let fields = Fields::of_json(json!({"order_by": [key]}).to_string().as_bytes()).unwrap();
            let models = vec![model("x", 1.0, 4.0), model("y", 2.0, 3.0)];
            let sorted = ModelOrder::parse(&fields).unwrap().sort(models).unwrap();
            sorted.into_iter().map(|model| model.id).collect::<Vec<_>>()
        };
        assert_eq!(sorted("train", ""), ["x", "y"]);
        assert_eq!(sorted("test", ""), ["y", "x"]);
        assert_eq!(sorted("", "1"), ["x", "y"]);
        assert_eq!(sorted("", ""), ["y", "x"], "the latest value of any data set");
    }

    #[test]
    fn registered_versions_are_listed_in_a_tag() {
        let registrations = [json!({"name": "m", "version": "1"}), json!({"name": "m", "version": "2"})];
        let text = r#"[{"name": "m", "version": 1}, {"name": "m", "version": 2}]"#;
        assert_eq!(versions_text(&registrations), text);
    }

    #[test]
    fn names_and_ids_are_checked() {
        assert!(is_model_id(&format!("m-{}", "a1".repeat(16))));
        for wrong in ["", "m-", "m-xyz", "a1a1", &format!("m-{}", "g".repeat(32))] {
            assert!(!is_model_id(wrong), "{wrong}");
        }
        check_name("model").unwrap();
        for wrong in ["", "a/b", "a.b", "a:b", "a%", "a'b"] {
            check_name(wrong).expect_err(wrong);
        }
    }
}
