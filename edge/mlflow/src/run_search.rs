//! Searches of runs, which the server answers.

use std::collections::{BTreeSet, HashMap};

use futures::StreamExt;
use matyan_proto::runs::v1::RunParts;
use matyan_proto::search::v1::{Query, RunsRequest};
use serde_json::{Value, json};

use crate::error::{ErrorCode, MlflowError, Result};
use crate::experiments::{self, DEFAULT_ID};
use crate::fields::Fields;
use crate::filter;
use crate::input_view::{dataset_summary, datasets};
use crate::list_answer::list_answer;
use crate::order;
use crate::query::{ViewType, run_query, run_sort};
use crate::run_names::{DATASETS, MLFLOW, path};
use crate::run_pages::{RunPage, read_page};
use crate::run_view::{RunSnapshot, all_parts, last_times, locations_of};
use matyan_channels::{CALLS_AT_A_TIME, Channels, in_order, run_apart};

/// Page sizes of MLflow.
const DEFAULT_RESULTS: u32 = 1_000;
const MAX_RESULTS: u32 = 50_000;
/// Runs that are read at a time.
const RUNS_PER_PAGE: u32 = 1_000;
/// Size of the runs of an answer in the messages of the server. A larger answer ends earlier and has a token
/// for the next page, as MLflow allows. As JSON in memory, runs take several times as much.
const ANSWER_BYTES: usize = 16 << 20;
/// Runs whose data sets are read, and data sets in an answer.
const DATASET_RUNS: usize = 1_000;
const MAX_SUMMARIES: usize = 1_000;
/// Experiments in one search.
const MAX_EXPERIMENTS: usize = 1_000;

/// The names of experiments, and whether the default experiment is among them. Unknown experiments have no runs.
async fn experiment_names(channels: &Channels, ids: &[String]) -> Result<(Vec<String>, bool)> {
    if ids.len() > MAX_EXPERIMENTS {
        let message = format!(
            "The request has more than {MAX_EXPERIMENTS} 'experiment_ids': search some experiments at a time"
        );
        return Err(MlflowError::invalid(message));
    }
    let mut names = Vec::new();
    let mut has_default = false;
    let finds = ids.iter().map(|id| experiments::find(channels, id));
    let mut experiments = in_order(CALLS_AT_A_TIME, finds);
    while let Some(found) = experiments.next().await {
        match found {
            Ok(found) => {
                has_default |= found.id == DEFAULT_ID;
                names.push(found.name);
            }
            Err(error) if error.code == ErrorCode::ResourceDoesNotExist => {}
            Err(error) => return Err(error),
        }
    }
    Ok((names, has_default))
}

pub(crate) async fn search(channels: &Channels, fields: &Fields) -> Result<Value> {
    let filter = filter::parse(fields.text("filter")?.unwrap_or_default())?;
    let order = order::parse(&fields.texts("order_by")?)?;
    let view = ViewType::parse(fields.text("run_view_type")?)?;
    let wanted = fields.max_results(DEFAULT_RESULTS, MAX_RESULTS)?;
    let ids = fields.texts("experiment_ids")?;
    let sort = run_sort(&order)?;
    // A wrong filter is refused even if there are no experiments to search.
    run_query(&filter, &[], true, view)?;
    let (names, has_default) = experiment_names(channels, &ids).await?;
    if names.is_empty() {
        return Ok(json!({"runs": []}));
    }
    let text = run_query(&filter, &names, has_default, view)?;
    let mut cursor = fields.text("page_token")?.unwrap_or_default().to_owned();
    let mut locations: HashMap<String, String> = HashMap::new();
    let mut views = Vec::new();
    let mut room = ANSWER_BYTES;
    loop {
        let left = wanted.saturating_sub(u32::try_from(views.len()).unwrap_or(u32::MAX));
        let request = RunsRequest {
            query: Some(Query { text: text.clone(), ..Query::default() }),
            sort: sort.clone(),
            limit: left.min(RUNS_PER_PAGE),
            parts: Some(all_parts()),
            cursor,
            ..RunsRequest::default()
        };
        let RunPage { runs, next, bytes } = read_page(channels, request, room).await?;
        cursor = next;
        room = room.saturating_sub(bytes);
        let times = last_times(channels, &runs).await?;
        let new = runs.iter().map(RunSnapshot::experiment_id).filter(|id| !locations.contains_key(*id));
        let new = locations_of(channels, new.collect()).await?;
        locations.extend(new);
        let of_run = |run: &RunSnapshot| {
            let location = locations.get(run.experiment_id()).cloned();
            location.ok_or_else(|| MlflowError::broken("location"))
        };
        let of_runs = runs.iter().map(of_run).collect::<Result<Vec<String>>>()?;
        let is_empty = runs.is_empty();
        views.extend(run_apart(bytes, move || run_views(&runs, &times, &of_runs)).await);
        if cursor.is_empty() || is_empty || room == 0 || views.len() >= wanted as usize {
            break;
        }
    }
    Ok(list_answer("runs", views, Some(cursor).filter(|cursor| !cursor.is_empty())))
}

/// The views of runs, with the times of their last points and the locations of their files.
fn run_views(runs: &[RunSnapshot], times: &[HashMap<u32, i64>], locations: &[String]) -> Vec<Value> {
    let runs = runs.iter().zip(times).zip(locations);
    runs.map(|((run, times), location)| run.view(location, times)).collect()
}

/// The data sets that runs of experiments have read.
pub(crate) async fn search_datasets(channels: &Channels, fields: &Fields) -> Result<Value> {
    let (names, has_default) = experiment_names(channels, &fields.texts("experiment_ids")?).await?;
    if names.is_empty() {
        return Ok(json!({"dataset_summaries": []}));
    }
    let query = run_query(&[], &names, has_default, ViewType::Active)?;
    let text = format!("{query} and run['{MLFLOW}', '{DATASETS}'] is not None");
    let parts = RunParts { props: true, param_paths: vec![path([MLFLOW, DATASETS])], ..RunParts::default() };
    let mut seen = BTreeSet::new();
    let mut summaries = Vec::new();
    let mut cursor = String::new();
    let mut runs_read = 0;
    loop {
        let request = RunsRequest {
            query: Some(Query { text: text.clone(), ..Query::default() }),
            limit: RUNS_PER_PAGE,
            parts: Some(parts.clone()),
            cursor,
            ..RunsRequest::default()
        };
        let page = read_page(channels, request, ANSWER_BYTES).await?;
        for run in &page.runs {
            for dataset in datasets(&run.params) {
                let summary = dataset_summary(run.experiment_id(), dataset);
                if summaries.len() < MAX_SUMMARIES && seen.insert(summary.to_string()) {
                    summaries.push(summary);
                }
            }
        }
        runs_read += page.runs.len();
        cursor = page.next;
        if cursor.is_empty() || page.runs.is_empty() || runs_read >= DATASET_RUNS {
            return Ok(json!({"dataset_summaries": summaries}));
        }
    }
}
