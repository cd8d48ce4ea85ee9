//! Searches of registered models and of their versions.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::documents::{integer, member};
use crate::error::{ErrorCode, MlflowError, Result};
use crate::fields::Fields;
use crate::filter::{self, Comparator, Comparison, Identifier, IdentifierKind, Operand};
use crate::list_answer::list_answer;
use crate::local_filter::{LocalValue, SearchedEntry, matches, page, sort};
use crate::order;
use crate::registry::{PROMPT_TAG, is_stored_prompt};
use crate::registry_store::{self, RegisteredModel};
use crate::version_view::{VersionAliases, model_view, version_view};
use matyan_channels::Channels;

/// Page sizes of MLflow.
const DEFAULT_MODELS: u32 = 100;
const MAX_MODELS: u32 = 1_000;
const DEFAULT_VERSIONS: u32 = 10_000;
const MAX_VERSIONS: u32 = 200_000;

fn tag(content: &Map<String, Value>, key: &str) -> Option<LocalValue> {
    let text = content.get("tags").and_then(|tags| tags.get(key)?.as_str());
    // Clients add to each filter that this tag is not `true`. No other comparison fits a missing tag.
    let text = text.or((key == PROMPT_TAG).then_some("false"));
    Some(LocalValue::Text(text?.to_owned()))
}

/// Whether a filter says itself whether it finds prompts. Other filters find none.
fn concerns_prompts(filter: &[Comparison]) -> bool {
    filter.iter().any(|comparison| {
        comparison.identifier.kind == IdentifierKind::Tag && comparison.identifier.key == PROMPT_TAG
    })
}

fn unknown(identifier: &Identifier) -> MlflowError {
    MlflowError::invalid(format!("Invalid attribute key '{}' specified", identifier.key))
}

impl SearchedEntry for RegisteredModel {
    fn value(&self, identifier: &Identifier) -> Result<Option<LocalValue>> {
        match (identifier.kind, identifier.key.as_str()) {
            (IdentifierKind::Tag, key) => Ok(tag(&self.content, key)),
            (IdentifierKind::Attribute, "name") => Ok(Some(LocalValue::Text(self.name.clone()))),
            (IdentifierKind::Attribute, "creation_timestamp") => {
                Ok(Some(LocalValue::time(integer(&self.content, "created_ms"))))
            }
            (IdentifierKind::Attribute, "timestamp" | "last_updated_timestamp") => {
                Ok(Some(LocalValue::time(integer(&self.content, "updated_ms"))))
            }
            _ => Err(unknown(identifier)),
        }
    }
}

/// A version in a search.
struct FoundVersion<'m> {
    model: &'m RegisteredModel,
    number: u64,
    version: &'m Map<String, Value>,
}

impl SearchedEntry for FoundVersion<'_> {
    fn value(&self, identifier: &Identifier) -> Result<Option<LocalValue>> {
        let text = |name: &str| Some(LocalValue::Text(member(self.version, name).to_owned()));
        match (identifier.kind, identifier.key.as_str()) {
            (IdentifierKind::Tag, key) => Ok(tag(self.version, key)),
            (IdentifierKind::Attribute, "name") => Ok(Some(LocalValue::Text(self.model.name.clone()))),
            (IdentifierKind::Attribute, "run_id") => Ok(text("run_id")),
            (IdentifierKind::Attribute, "source_path" | "source") => Ok(text("source")),
            (IdentifierKind::Attribute, "version_number" | "version") => {
                Ok(Some(LocalValue::time(i64::try_from(self.number).unwrap_or(i64::MAX))))
            }
            (IdentifierKind::Attribute, "creation_timestamp") => {
                Ok(Some(LocalValue::time(integer(self.version, "created_ms"))))
            }
            (IdentifierKind::Attribute, "last_updated_timestamp" | "timestamp") => {
                Ok(Some(LocalValue::time(integer(self.version, "updated_ms"))))
            }
            _ => Err(unknown(identifier)),
        }
    }
}

pub(crate) async fn search_models(channels: &Channels, fields: &Fields) -> Result<Value> {
    let filter = filter::parse(fields.text("filter")?.unwrap_or_default())?;
    let order = order::parse(&fields.texts("order_by")?)?;
    let size = fields.max_results(DEFAULT_MODELS, MAX_MODELS)?;
    check(&filter, &order, &RegisteredModel { name: String::new(), content: Map::new() })?;
    let has_prompts = concerns_prompts(&filter);
    let found = registry_store::list(channels, |model| {
        Ok((has_prompts || !is_stored_prompt(&model.content)) && matches(model, &filter)?)
    })
    .await?;
    let (found, next) = page(sort(found, &order)?, fields.text("page_token")?, size)?;
    Ok(list_answer("registered_models", found.iter().map(model_view).collect::<Value>(), next))
}

/// Refuses wrong names even if there are no models to search.
fn check(filter: &[Comparison], order: &[order::OrderKey], sample: &impl SearchedEntry) -> Result<()> {
    let names = filter.iter().map(|comparison| &comparison.identifier);
    names.chain(order.iter().map(|key| &key.identifier)).try_for_each(|name| sample.value(name).map(drop))
}

/// The name of the only model whose versions can match.
fn only_model(filter: &[Comparison]) -> Option<&str> {
    filter.iter().find_map(|comparison| {
        let Identifier { kind, key } = &comparison.identifier;
        match (kind, key.as_str(), comparison.comparator, &comparison.operand) {
            (IdentifierKind::Attribute, "name", Comparator::Equal, Operand::Text(name)) => {
                Some(name.as_str())
            }
            _ => None,
        }
    })
}

fn matching_versions<'m>(model: &'m RegisteredModel, filter: &[Comparison]) -> Result<Vec<FoundVersion<'m>>> {
    let mut found = Vec::new();
    let has_prompts = concerns_prompts(filter);
    for (number, version) in model.versions() {
        if !has_prompts && is_stored_prompt(version) {
            continue;
        }
        let version = FoundVersion { model, number, version };
        if matches(&version, filter)? {
            found.push(version);
        }
    }
    Ok(found)
}

/// Sorts versions: the most recently changed version comes first, unless the caller wants another order. Versions that
/// are equal in this order are sorted by the name of their model, and then from the latest version to the earliest.
fn sort_versions<'m>(
    mut found: Vec<FoundVersion<'m>>,
    order: &[order::OrderKey],
) -> Result<Vec<FoundVersion<'m>>> {
    found.sort_by(|one, other| {
        one.model.name.cmp(&other.model.name).then_with(|| other.number.cmp(&one.number))
    });
    if order.is_empty() {
        found.sort_by_key(|it| std::cmp::Reverse(integer(it.version, "updated_ms")));
    }
    sort(found, order)
}

/// Whether a read has failed because of the name of the model. Other failures, such as a missing right, are not hidden.
fn is_about_name(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::ResourceDoesNotExist | ErrorCode::InvalidParameterValue)
}

pub(crate) async fn search_versions(channels: &Channels, fields: &Fields) -> Result<Value> {
    let filter = filter::parse(fields.text("filter")?.unwrap_or_default())?;
    let order = order::parse(&fields.texts("order_by")?)?;
    let size = fields.max_results(DEFAULT_VERSIONS, MAX_VERSIONS)?;
    let sample = RegisteredModel { name: String::new(), content: Map::new() };
    check(&filter, &order, &FoundVersion { model: &sample, number: 0, version: &sample.content })?;
    let models = match only_model(&filter) {
        Some(name) => match registry_store::find(channels, name).await {
            Ok(model) => vec![model],
            // A search for a name that no model has, or can have, finds nothing.
            Err(error) if is_about_name(error.code) => Vec::new(),
            Err(error) => return Err(error),
        },
        None => {
            registry_store::list(channels, |model| Ok(!matching_versions(model, &filter)?.is_empty())).await?
        }
    };
    let mut found = Vec::new();
    for model in &models {
        found.extend(matching_versions(model, &filter)?);
    }
    let (found, next) = page(sort_versions(found, &order)?, fields.text("page_token")?, size)?;
    Ok(list_answer("model_versions", views(&found), next))
}

/// The views of versions of any models.
fn views<'m>(found: &[FoundVersion<'m>]) -> Vec<Value> {
    let mut aliases: HashMap<&'m str, VersionAliases<'m>> = HashMap::new();
    let mut views = Vec::with_capacity(found.len());
    for it in found {
        let model: &'m RegisteredModel = it.model;
        let of_model = aliases.entry(model.name.as_str()).or_insert_with(|| VersionAliases::new(model));
        views.push(version_view(model, it.number, it.version, of_model));
    }
    views
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_search_by_name_reads_one_model() {
        let only = |filter: &str| only_model(&filter::parse(filter).unwrap()).map(str::to_owned);
        assert_eq!(only("name = 'a' AND run_id = 'b'").as_deref(), Some("a"));
        assert_eq!(only("name LIKE 'a'"), None);
        assert_eq!(only("run_id = 'b'"), None);
    }

    #[test]
    fn only_a_name_without_a_model_is_a_search_without_results() {
        assert!(
            is_about_name(ErrorCode::ResourceDoesNotExist) && is_about_name(ErrorCode::InvalidParameterValue)
        );
        for other in
            [ErrorCode::PermissionDenied, ErrorCode::Unauthenticated, ErrorCode::RequestLimitExceeded]
        {
            assert!(!is_about_name(other), "{other:?}");
        }
    }

    #[test]
    fn versions_of_several_models_have_their_own_aliases() {
        let model = |name: &str, aliases: Value| {
            let content = json!({"versions": {"1": {}, "2": {}}, "aliases": aliases});
            RegisteredModel { name: name.to_owned(), content: content.as_object().unwrap().clone() }
        };
        let models = [model("a", json!({"best": 1, "first": 1, "gone": 9})), model("b", json!({"best": 2}))];
        let found: Vec<_> = models.iter().flat_map(|model| matching_versions(model, &[]).unwrap()).collect();
        let aliases: Vec<Value> = views(&found).into_iter().map(|view| view["aliases"].clone()).collect();
        assert_eq!(aliases, [json!(["best", "first"]), json!([]), json!([]), json!(["best"])]);
    }

    #[test]
    fn searches_of_versions_find_prompts_if_they_ask_for_them() {
        let version = |tags: Value| json!({"tags": tags});
        let content = json!({"versions": {
            "1": version(json!({PROMPT_TAG: "true"})), "2": version(json!({})),
        }});
        let content = content.as_object().unwrap().clone();
        let model = RegisteredModel { name: "m".to_owned(), content };
        let found = |filter: &str| -> Vec<u64> {
            let filter = filter::parse(filter).unwrap();
            matching_versions(&model, &filter).unwrap().iter().map(|version| version.number).collect()
        };
        assert_eq!(found("name = 'm'"), [2]);
        assert_eq!(found("name = 'm' AND tags.`mlflow.prompt.is_prompt` = 'true'"), [1]);
        assert_eq!(found("tags.`mlflow.prompt.is_prompt` != 'true'"), [2]);
    }

    #[test]
    fn equal_versions_are_sorted_by_name() {
        let model = |name: &str, updated_ms: [i64; 2]| {
            let [first, second] = updated_ms.map(|it| json!({"updated_ms": it}));
            let content = json!({"versions": {"1": first, "2": second}}).as_object().unwrap().clone();
            RegisteredModel { name: name.to_owned(), content }
        };
        let models = [model("b", [4, 1]), model("a", [1, 3])];
        let sorted = |keys: &[&str]| -> Vec<(String, u64)> {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            let found = models.iter().flat_map(|model| matching_versions(model, &[]).unwrap()).collect();
            let sorted = sort_versions(found, &order::parse(&keys).unwrap()).unwrap();
            sorted.iter().map(|it| (it.model.name.clone(), it.number)).collect()
        };
        let named = |expected: [(&str, u64); 4]| expected.map(|(name, number)| (name.to_owned(), number));
        assert_eq!(sorted(&[]), named([("b", 1), ("a", 2), ("a", 1), ("b", 2)]));
        assert_eq!(sorted(&["version_number DESC"]), named([("a", 2), ("b", 2), ("a", 1), ("b", 1)]));
        assert_eq!(sorted(&["name DESC"]), named([("b", 2), ("b", 1), ("a", 2), ("a", 1)]));
    }

    #[test]
    fn a_model_is_not_a_prompt() {
        let model = RegisteredModel { name: "m".to_owned(), content: Map::new() };
        let fits = |filter: &str| matches(&model, &filter::parse(filter).unwrap()).unwrap();
        assert!(fits("name LIKE 'm%' AND tag.`mlflow.prompt.is_prompt` != 'true'"));
        assert!(!fits("tag.`mlflow.prompt.is_prompt` = 'true'"));
        assert!(!fits("tag.other != 'true'"));
    }
}
