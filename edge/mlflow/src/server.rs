//! The entry: one request of an MLflow client, and its answer.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::body::Body;
use crate::error::{ErrorCode, MlflowError, Result};
use crate::fields::Fields;
use crate::route::{Operation, Route};
use crate::run_locks::{ProjectRunLocks, RunLocks};
use crate::{
    artifacts, experiment_search, experiments, history, inputs, logged_models, model_search, parted_uploads,
    registry, run_log, run_search, runs, versions,
};
use matyan_channels::{Channels, json_bytes, run_apart};

/// The body of a request, in the form that its route expects.
pub enum RequestBody {
    Json(Bytes),
    File(Body),
}

/// A request that has been admitted.
pub struct Request<'a> {
    pub route: Route,
    /// The project of the request; empty for the default project.
    pub project: &'a str,
    /// The query of the URL; empty if there is none.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    /// Scheme and host under which the client has reached this server; `None` if the request does not say.
    pub origin: Option<String>,
    pub body: RequestBody,
}

/// A successful answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Json(String),
    /// The bytes of an artifact, which the edge sends.
    Artifact {
        run_id: String,
        path: String,
    },
}

/// Answers the requests of one port.
#[derive(Debug)]
pub struct Mlflow {
    locks: RunLocks,
    searches: Semaphore,
}

/// Searches that are answered at a time; others wait. Each may need about 100 MB.
const SEARCHES: usize = 8;

impl Default for Mlflow {
    fn default() -> Self {
        Self { locks: RunLocks::default(), searches: Semaphore::new(SEARCHES) }
    }
}

/// The parts of a request besides its fields, which only a few operations need.
#[derive(Clone, Copy)]
struct RequestParts<'c> {
    headers: &'c HeaderMap,
    origin: Option<&'c str>,
    locks: ProjectRunLocks<'c>,
}

/// The work of an operation that answers with JSON.
type Work<'c> = BoxFuture<'c, Result<Value>>;

impl Mlflow {
    /// Answers a request, by calls over these channels.
    pub async fn answer(&self, channels: &Channels, request: Request<'_>) -> Result<Answer> {
        let Request { route, project, query, headers, origin, body } = request;
        let locks = self.locks.of_project(project);
        let asked = RequestParts { headers, origin: origin.as_deref(), locks };
        let mut fields = Fields::of_query(query);
        let file = match body {
            RequestBody::Json(json) if json.is_empty() => None,
            RequestBody::Json(json) => {
                fields = run_apart(json.len(), move || Fields::of_json(&json)).await?;
                None
            }
            RequestBody::File(file) => Some(file),
        };
        for (name, value) in route.parameters {
            fields.set(name, value);
        }
        match (route.operation, file) {
            (Operation::DownloadArtifact, _) => {
                let found = Box::pin(artifacts::find(channels, &fields)).await?;
                Ok(Answer::Artifact { run_id: found.run_id, path: found.path })
            }
            (Operation::UploadArtifact, Some(file)) => {
                let stored = Box::pin(artifacts::upload(channels, &fields, headers, file)).await?;
                Ok(Answer::Json(stored.to_string()))
            }
            (operation, _) => {
                let _turn = self.turn(operation).await;
                let answer = work(operation, channels, asked, &fields)?.await?;
                let bytes = json_bytes(&answer);
                Ok(Answer::Json(run_apart(bytes, move || answer.to_string()).await))
            }
        }
    }

    /// Waits until a search may start. Other operations need no permit.
    async fn turn(&self, operation: Operation) -> Option<SemaphorePermit<'_>> {
        if !operation.is_search() {
            return None;
        }
        Some(self.searches.acquire().await.expect("the semaphore is never closed"))
    }
}

/// The work of an operation. Each is boxed: together they would be too large for a stack.
fn work<'c>(
    operation: Operation,
    channels: &'c Channels,
    asked: RequestParts<'c>,
    fields: &'c Fields,
) -> Result<Work<'c>> {
    match operation {
        Operation::CreateRun => return Ok(runs::create(channels, asked.headers, fields).boxed()),
        Operation::CreatePartedUpload => {
            return Ok(parted_uploads::create(channels, asked.origin, fields).boxed());
        }
        _ => {}
    }
    let work = tracking_work(operation, channels, asked.locks, fields)
        .or_else(|| experiment_work(operation, channels, fields))
        .or_else(|| model_work(operation, channels, fields))
        .or_else(|| registry_work(operation, channels, fields))
        .or_else(|| version_work(operation, channels, fields));
    work.ok_or_else(|| match operation {
        Operation::Refused => MlflowError::new(
            ErrorCode::NotImplemented,
            "this server does not support this operation of MLflow: docs/concepts/mlflow.md lists the supported operations",
        ),
        _ => MlflowError::new(
            ErrorCode::EndpointNotFound,
            "there is no such operation: docs/concepts/mlflow.md lists the supported operations",
        ),
    })
}

/// Capabilities of the server, which clients ask for before they send large files. Uploads in parts are answered, but
/// not offered: a file that is sent at once is stored at once, and parts are joined.
fn server_info() -> Value {
    json!({
        "store_type": "SqlStore",
        "workspaces_enabled": false,
        "multipart_uploads_enabled": false,
        "multipart_downloads_enabled": false,
        "trace_archival_enabled": false,
        "features_enabled": {},
    })
}

fn tracking_work<'c>(
    operation: Operation,
    channels: &'c Channels,
    locks: ProjectRunLocks<'c>,
    fields: &'c Fields,
) -> Option<Work<'c>> {
    Some(match operation {
        Operation::ServerInfo => futures::future::ready(Ok(server_info())).boxed(),
        Operation::UpdateRun => runs::update(channels, locks, fields).boxed(),
        Operation::GetRun => runs::get(channels, fields).boxed(),
        Operation::DeleteRun => runs::set_deleted(channels, fields, true).boxed(),
        Operation::RestoreRun => runs::set_deleted(channels, fields, false).boxed(),
        Operation::SearchRuns => run_search::search(channels, fields).boxed(),
        Operation::LogMetric => run_log::log_metric(channels, locks, fields).boxed(),
        Operation::LogParam => run_log::log_param(channels, locks, fields).boxed(),
        Operation::LogBatch => run_log::log_batch(channels, locks, fields).boxed(),
        Operation::LogModel => run_log::log_model(channels, locks, fields).boxed(),
        Operation::LogInputs => inputs::log_inputs(channels, locks, fields).boxed(),
        Operation::LogOutputs => inputs::log_outputs(channels, locks, fields).boxed(),
        Operation::SetTag => run_log::set_tag(channels, locks, fields).boxed(),
        Operation::DeleteTag => run_log::delete_tag(channels, locks, fields).boxed(),
        Operation::GetMetricHistory => history::get_history(channels, fields).boxed(),
        Operation::GetMetricHistoryBulk => history::get_history_bulk(channels, fields).boxed(),
        Operation::GetMetricHistoryBulkInterval => {
            history::get_history_bulk_interval(channels, fields).boxed()
        }
        _ => return None,
    })
}

fn experiment_work<'c>(operation: Operation, channels: &'c Channels, fields: &'c Fields) -> Option<Work<'c>> {
    Some(match operation {
        Operation::CreateExperiment => experiments::create(channels, fields).boxed(),
        Operation::SearchExperiments => experiment_search::search(channels, fields).boxed(),
        Operation::GetExperiment => experiments::get(channels, fields).boxed(),
        Operation::GetExperimentByName => experiments::get_by_name(channels, fields).boxed(),
        Operation::UpdateExperiment => experiments::update(channels, fields).boxed(),
        Operation::DeleteExperiment => experiments::set_deleted(channels, fields, true).boxed(),
        Operation::RestoreExperiment => experiments::set_deleted(channels, fields, false).boxed(),
        Operation::SetExperimentTag => experiments::set_tag(channels, fields).boxed(),
        Operation::DeleteExperimentTag => experiments::delete_tag(channels, fields).boxed(),
        Operation::SearchDatasets => run_search::search_datasets(channels, fields).boxed(),
        Operation::ListRunArtifacts => artifacts::list_of_run(channels, fields).boxed(),
        Operation::ListArtifacts => artifacts::list(channels, fields).boxed(),
        Operation::DeleteArtifact => artifacts::delete(channels, fields).boxed(),
        Operation::CompletePartedUpload => parted_uploads::complete(channels, fields).boxed(),
        Operation::AbortPartedUpload => parted_uploads::abort(channels, fields).boxed(),
        _ => return None,
    })
}

fn model_work<'c>(operation: Operation, channels: &'c Channels, fields: &'c Fields) -> Option<Work<'c>> {
    Some(match operation {
        Operation::CreateLoggedModel => logged_models::create(channels, fields).boxed(),
        Operation::SearchLoggedModels => logged_models::search(channels, fields).boxed(),
        Operation::GetLoggedModel => logged_models::get(channels, fields).boxed(),
        Operation::FinalizeLoggedModel => logged_models::finalize(channels, fields).boxed(),
        Operation::DeleteLoggedModel => logged_models::delete(channels, fields).boxed(),
        Operation::SetLoggedModelTags => logged_models::set_tags(channels, fields).boxed(),
        Operation::DeleteLoggedModelTag => logged_models::delete_tag(channels, fields).boxed(),
        Operation::LogLoggedModelParams => logged_models::log_params(channels, fields).boxed(),
        Operation::ListLoggedModelArtifacts => artifacts::list_of_model(channels, fields).boxed(),
        _ => return None,
    })
}

fn registry_work<'c>(operation: Operation, channels: &'c Channels, fields: &'c Fields) -> Option<Work<'c>> {
    Some(match operation {
        Operation::CreateRegisteredModel => registry::create(channels, fields).boxed(),
        Operation::RenameRegisteredModel => registry::rename(channels, fields).boxed(),
        Operation::UpdateRegisteredModel => registry::update(channels, fields).boxed(),
        Operation::DeleteRegisteredModel => registry::delete(channels, fields).boxed(),
        Operation::GetRegisteredModel => registry::get(channels, fields).boxed(),
        Operation::SearchRegisteredModels => model_search::search_models(channels, fields).boxed(),
        Operation::GetLatestVersions => registry::get_latest(channels, fields).boxed(),
        Operation::SetRegisteredModelTag => registry::set_tag(channels, fields).boxed(),
        Operation::DeleteRegisteredModelTag => registry::delete_tag(channels, fields).boxed(),
        Operation::SetRegisteredModelAlias => registry::set_alias(channels, fields).boxed(),
        Operation::DeleteRegisteredModelAlias => registry::delete_alias(channels, fields).boxed(),
        Operation::GetVersionByAlias => registry::get_by_alias(channels, fields).boxed(),
        _ => return None,
    })
}

fn version_work<'c>(operation: Operation, channels: &'c Channels, fields: &'c Fields) -> Option<Work<'c>> {
    Some(match operation {
        Operation::CreateVersion => versions::create(channels, fields).boxed(),
        Operation::UpdateVersion => versions::update(channels, fields).boxed(),
        Operation::DeleteVersion => versions::delete(channels, fields).boxed(),
        Operation::GetVersion => versions::get(channels, fields).boxed(),
        Operation::SearchVersions => model_search::search_versions(channels, fields).boxed(),
        Operation::TransitionVersionStage => versions::transition(channels, fields).boxed(),
        Operation::GetVersionDownloadUri => versions::download_uri(channels, fields).boxed(),
        Operation::SetVersionTag => versions::set_tag(channels, fields).boxed(),
        Operation::DeleteVersionTag => versions::delete_tag(channels, fields).boxed(),
        _ => return None,
    })
}
