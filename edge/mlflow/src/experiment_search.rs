//! Searches of experiments.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::documents::{self, EXPERIMENTS};
use crate::error::{MlflowError, Result};
use crate::experiments::{ExperimentInfo, list_all};
use crate::fields::Fields;
use crate::filter::{self, Identifier, IdentifierKind};
use crate::list_answer::list_answer;
use crate::local_filter::{LocalValue, SearchedEntry, matches, page, sort};
use crate::order;
use crate::query::ViewType;
use matyan_channels::Channels;

/// Page sizes of MLflow.
const DEFAULT_RESULTS: u32 = 1_000;
const MAX_RESULTS: u32 = 50_000;

/// An experiment with its stored tags and location.
struct FoundExperiment {
    info: ExperimentInfo,
    content: Map<String, Value>,
}

impl SearchedEntry for FoundExperiment {
    fn value(&self, identifier: &Identifier) -> Result<Option<LocalValue>> {
        let key = identifier.key.as_str();
        match identifier.kind {
            IdentifierKind::Tag => {
                let text = self.info.tag(&self.content, key);
                Ok(text.map(|text| LocalValue::Text(text.to_owned())))
            }
            IdentifierKind::Attribute => match key {
                "name" => Ok(Some(LocalValue::Text(self.info.name.clone()))),
                "experiment_id" => Ok(Some(LocalValue::Text(self.info.id.clone()))),
                "creation_time" => Ok(Some(LocalValue::time(self.info.created_ms))),
                "last_update_time" => Ok(Some(LocalValue::time(self.info.updated_ms))),
                other => Err(MlflowError::invalid(format!("Invalid attribute key '{other}' specified"))),
            },
            _ => Err(MlflowError::invalid(format!("Invalid search expression '{key}' for experiments"))),
        }
    }
}

pub(crate) async fn search(channels: &Channels, fields: &Fields) -> Result<Value> {
    let filter = filter::parse(fields.text("filter")?.unwrap_or_default())?;
    let order = order::parse(&fields.texts("order_by")?)?;
    let view = ViewType::parse(fields.text("view_type")?)?;
    let size = fields.max_results(DEFAULT_RESULTS, MAX_RESULTS)?;
    let mut contents: HashMap<String, Map<String, Value>> =
        documents::list(channels, EXPERIMENTS, |it| Ok(Some((it.name, it.content))))
            .await?
            .into_iter()
            .collect();
    let mut found = Vec::new();
    for info in list_all(channels).await? {
        let content = contents.remove(&info.id).unwrap_or_default();
        let experiment = FoundExperiment { info, content };
        // Every experiment is checked, so that a wrong filter is refused even if there are no experiments.
        if matches(&experiment, &filter)? && view.contains(experiment.info.is_deleted) {
            found.push(experiment);
        }
    }
    // Newest first, unless the caller wants another order.
    found.sort_by(|one, other| {
        (other.info.created_ms, &other.info.id).cmp(&(one.info.created_ms, &one.info.id))
    });
    let (found, next) = page(sort(found, &order)?, fields.text("page_token")?, size)?;
    let experiments: Vec<Value> =
        found.iter().map(|experiment| experiment.info.view(&experiment.content)).collect();
    Ok(list_answer("experiments", experiments, next))
}
