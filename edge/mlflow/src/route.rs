//! The operations of MLflow's REST API, by method and path.

use http::Method;
use percent_encoding::percent_decode_str;

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    ServerInfo,
    CreateExperiment,
    SearchExperiments,
    GetExperiment,
    GetExperimentByName,
    UpdateExperiment,
    DeleteExperiment,
    RestoreExperiment,
    SetExperimentTag,
    DeleteExperimentTag,
    SearchDatasets,
    CreateRun,
    UpdateRun,
    GetRun,
    DeleteRun,
    RestoreRun,
    SearchRuns,
    LogMetric,
    LogParam,
    LogBatch,
    LogModel,
    LogInputs,
    LogOutputs,
    SetTag,
    DeleteTag,
    GetMetricHistory,
    GetMetricHistoryBulk,
    GetMetricHistoryBulkInterval,
    ListRunArtifacts,
    ListArtifacts,
    DownloadArtifact,
    UploadArtifact,
    DeleteArtifact,
    CreatePartedUpload,
    CompletePartedUpload,
    AbortPartedUpload,
    CreateLoggedModel,
    SearchLoggedModels,
    GetLoggedModel,
    FinalizeLoggedModel,
    DeleteLoggedModel,
    SetLoggedModelTags,
    DeleteLoggedModelTag,
    LogLoggedModelParams,
    ListLoggedModelArtifacts,
    CreateRegisteredModel,
    RenameRegisteredModel,
    UpdateRegisteredModel,
    DeleteRegisteredModel,
    GetRegisteredModel,
    SearchRegisteredModels,
    GetLatestVersions,
    SetRegisteredModelTag,
    DeleteRegisteredModelTag,
    SetRegisteredModelAlias,
    DeleteRegisteredModelAlias,
    GetVersionByAlias,
    CreateVersion,
    UpdateVersion,
    DeleteVersion,
    GetVersion,
    SearchVersions,
    TransitionVersionStage,
    GetVersionDownloadUri,
    SetVersionTag,
    DeleteVersionTag,
    /// An operation of MLflow that this server does not have.
    Refused,
    /// No operation of MLflow.
    Unknown,
}

impl Operation {
    /// Whether a call changes nothing, so that its answer may be refused afterwards.
    pub const fn is_read(self) -> bool {
        matches!(
            self,
            Self::ServerInfo
                | Self::SearchExperiments
                | Self::GetExperiment
                | Self::GetExperimentByName
                | Self::SearchDatasets
                | Self::GetRun
                | Self::SearchRuns
                | Self::GetMetricHistory
                | Self::GetMetricHistoryBulk
                | Self::GetMetricHistoryBulkInterval
                | Self::ListRunArtifacts
                | Self::ListArtifacts
                | Self::DownloadArtifact
                | Self::SearchLoggedModels
                | Self::GetLoggedModel
                | Self::ListLoggedModelArtifacts
                | Self::GetRegisteredModel
                | Self::SearchRegisteredModels
                | Self::GetLatestVersions
                | Self::GetVersionByAlias
                | Self::GetVersion
                | Self::SearchVersions
                | Self::GetVersionDownloadUri
        )
    }

    /// Whether an answer may be large.
    pub(crate) const fn is_search(self) -> bool {
        matches!(
            self,
            Self::SearchRuns
                | Self::SearchDatasets
                | Self::SearchLoggedModels
                | Self::SearchRegisteredModels
                | Self::SearchVersions
                | Self::GetMetricHistory
                | Self::GetMetricHistoryBulk
                | Self::GetMetricHistoryBulkInterval
        )
    }
}

/// The expected content of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// JSON of at most this many bytes, or nothing.
    Json { max_bytes: usize },
    /// A file of any size.
    File,
}

/// Maximum size of a JSON body. A batch of MLflow has at most one megabyte; descriptions of data sets may be larger.
const JSON_BYTES: usize = 4 << 20;

/// Maximum size of a list of parts: clients send the URL of each part back.
const PARTS_BYTES: usize = 32 << 20;

/// The starts of paths, of the API itself and of the pages of MLflow's UI.
const BASES: [&str; 4] = ["/api/2.0/", "/ajax-api/2.0/", "/api/3.0/", "/ajax-api/3.0/"];

/// Paths below a base that belong to MLflow.
const AREAS: [&str; 2] = ["mlflow/", "mlflow-artifacts/"];

/// Start of a last segment that stands for the rest of the path.
const REST: &str = "{*";

/// All operations. Segments in braces are fields of the request.
const TABLE: &[(Method, &str, Operation)] = &[
    (Method::GET, "mlflow/server-info", Operation::ServerInfo),
    (Method::POST, "mlflow/experiments/create", Operation::CreateExperiment),
    (Method::POST, "mlflow/experiments/search", Operation::SearchExperiments),
    (Method::GET, "mlflow/experiments/search", Operation::SearchExperiments),
    (Method::GET, "mlflow/experiments/list", Operation::SearchExperiments),
    (Method::GET, "mlflow/experiments/get", Operation::GetExperiment),
    (Method::GET, "mlflow/experiments/get-by-name", Operation::GetExperimentByName),
    (Method::POST, "mlflow/experiments/update", Operation::UpdateExperiment),
    (Method::POST, "mlflow/experiments/delete", Operation::DeleteExperiment),
    (Method::POST, "mlflow/experiments/restore", Operation::RestoreExperiment),
    (Method::POST, "mlflow/experiments/set-experiment-tag", Operation::SetExperimentTag),
    (Method::POST, "mlflow/experiments/delete-experiment-tag", Operation::DeleteExperimentTag),
    (Method::POST, "mlflow/experiments/search-datasets", Operation::SearchDatasets),
    (Method::POST, "mlflow/runs/create", Operation::CreateRun),
    (Method::POST, "mlflow/runs/update", Operation::UpdateRun),
    (Method::GET, "mlflow/runs/get", Operation::GetRun),
    (Method::POST, "mlflow/runs/delete", Operation::DeleteRun),
    (Method::POST, "mlflow/runs/restore", Operation::RestoreRun),
    (Method::POST, "mlflow/runs/search", Operation::SearchRuns),
    (Method::POST, "mlflow/runs/log-metric", Operation::LogMetric),
    (Method::POST, "mlflow/runs/log-parameter", Operation::LogParam),
    (Method::POST, "mlflow/runs/log-batch", Operation::LogBatch),
    (Method::POST, "mlflow/runs/log-model", Operation::LogModel),
    (Method::POST, "mlflow/runs/log-inputs", Operation::LogInputs),
    (Method::POST, "mlflow/runs/outputs", Operation::LogOutputs),
    (Method::POST, "mlflow/runs/set-tag", Operation::SetTag),
    (Method::POST, "mlflow/runs/delete-tag", Operation::DeleteTag),
    (Method::GET, "mlflow/metrics/get-history", Operation::GetMetricHistory),
    (Method::GET, "mlflow/metrics/get-history-bulk", Operation::GetMetricHistoryBulk),
    (Method::GET, "mlflow/metrics/get-history-bulk-interval", Operation::GetMetricHistoryBulkInterval),
    (Method::GET, "mlflow/artifacts/list", Operation::ListRunArtifacts),
    (Method::GET, "mlflow-artifacts/artifacts", Operation::ListArtifacts),
    (Method::GET, "mlflow-artifacts/artifacts/{*path}", Operation::DownloadArtifact),
    (Method::PUT, "mlflow-artifacts/artifacts/{*path}", Operation::UploadArtifact),
    (Method::DELETE, "mlflow-artifacts/artifacts/{*path}", Operation::DeleteArtifact),
    (Method::POST, "mlflow-artifacts/mpu/create/{*folder}", Operation::CreatePartedUpload),
    (Method::POST, "mlflow-artifacts/mpu/complete/{*folder}", Operation::CompletePartedUpload),
    (Method::POST, "mlflow-artifacts/mpu/abort/{*folder}", Operation::AbortPartedUpload),
    (Method::POST, "mlflow/logged-models", Operation::CreateLoggedModel),
    (Method::POST, "mlflow/logged-models/search", Operation::SearchLoggedModels),
    (Method::GET, "mlflow/logged-models/{model_id}", Operation::GetLoggedModel),
    (Method::PATCH, "mlflow/logged-models/{model_id}", Operation::FinalizeLoggedModel),
    (Method::DELETE, "mlflow/logged-models/{model_id}", Operation::DeleteLoggedModel),
    (Method::PATCH, "mlflow/logged-models/{model_id}/tags", Operation::SetLoggedModelTags),
    (Method::DELETE, "mlflow/logged-models/{model_id}/tags/{tag_key}", Operation::DeleteLoggedModelTag),
    (Method::POST, "mlflow/logged-models/{model_id}/params", Operation::LogLoggedModelParams),
    (
        Method::GET,
        "mlflow/logged-models/{model_id}/artifacts/directories",
        Operation::ListLoggedModelArtifacts,
    ),
    (Method::POST, "mlflow/registered-models/create", Operation::CreateRegisteredModel),
    (Method::POST, "mlflow/registered-models/rename", Operation::RenameRegisteredModel),
    (Method::PATCH, "mlflow/registered-models/update", Operation::UpdateRegisteredModel),
    (Method::DELETE, "mlflow/registered-models/delete", Operation::DeleteRegisteredModel),
    (Method::GET, "mlflow/registered-models/get", Operation::GetRegisteredModel),
    (Method::GET, "mlflow/registered-models/search", Operation::SearchRegisteredModels),
    (Method::POST, "mlflow/registered-models/get-latest-versions", Operation::GetLatestVersions),
    (Method::GET, "mlflow/registered-models/get-latest-versions", Operation::GetLatestVersions),
    (Method::POST, "mlflow/registered-models/set-tag", Operation::SetRegisteredModelTag),
    (Method::DELETE, "mlflow/registered-models/delete-tag", Operation::DeleteRegisteredModelTag),
    (Method::POST, "mlflow/registered-models/alias", Operation::SetRegisteredModelAlias),
    (Method::DELETE, "mlflow/registered-models/alias", Operation::DeleteRegisteredModelAlias),
    (Method::GET, "mlflow/registered-models/alias", Operation::GetVersionByAlias),
    (Method::POST, "mlflow/model-versions/create", Operation::CreateVersion),
    (Method::PATCH, "mlflow/model-versions/update", Operation::UpdateVersion),
    (Method::DELETE, "mlflow/model-versions/delete", Operation::DeleteVersion),
    (Method::GET, "mlflow/model-versions/get", Operation::GetVersion),
    (Method::GET, "mlflow/model-versions/search", Operation::SearchVersions),
    (Method::POST, "mlflow/model-versions/transition-stage", Operation::TransitionVersionStage),
    (Method::GET, "mlflow/model-versions/get-download-uri", Operation::GetVersionDownloadUri),
    (Method::POST, "mlflow/model-versions/set-tag", Operation::SetVersionTag),
    (Method::DELETE, "mlflow/model-versions/delete-tag", Operation::DeleteVersionTag),
];

/// Operations of MLflow that this server does not have, by the starts of their paths.
const REFUSED: [&str; 19] = [
    "mlflow/traces",
    "mlflow/assessments",
    "mlflow/webhooks",
    "mlflow/scorers",
    "mlflow/gateway",
    "mlflow/datasets",
    "mlflow/prompts",
    "mlflow/prompt-optimization",
    "mlflow/review-queues",
    "mlflow/label-schemas",
    "mlflow/issues",
    "mlflow/jobs",
    "mlflow/workspaces",
    "mlflow/mcp",
    "mlflow/users",
    "mlflow/runs/link-prompts",
    "mlflow/artifacts/presigned-upload-url",
    "mlflow/artifacts/presigned-download-url",
    "mlflow-artifacts/presigned",
];

/// The operation of a request, and the fields in its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub operation: Operation,
    /// The path without values, for metrics.
    pub template: &'static str,
    pub(crate) parameters: Vec<(&'static str, String)>,
}

/// Template of requests that no other template describes.
const UNKNOWN: &str = "mlflow/unknown";

impl Route {
    /// The templates of all operations that are refused or unknown.
    pub fn unanswered_templates() -> impl Iterator<Item = &'static str> {
        REFUSED.into_iter().chain([UNKNOWN])
    }

    /// Finds the operation of a request; `None` if its path does not belong to MLflow.
    pub fn find(method: &Method, path: &str) -> Option<Self> {
        let path = BASES.iter().find_map(|base| path.strip_prefix(*base))?;
        AREAS.iter().find(|area| path.starts_with(**area))?;
        let found = TABLE.iter().filter(|(of, ..)| of == method).find_map(|&(_, template, operation)| {
            let parameters = matched(template, path)?;
            Some(Self { operation, template, parameters })
        });
        let is_refused = |beginning: &&'static str| {
            path.strip_prefix(*beginning).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let absent = || match REFUSED.into_iter().find(is_refused) {
            Some(template) => Self { operation: Operation::Refused, template, parameters: Vec::new() },
            None => Self { operation: Operation::Unknown, template: UNKNOWN, parameters: Vec::new() },
        };
        Some(found.unwrap_or_else(absent))
    }

    /// All operations by method and template, for tests that check each operation. Templates follow `/api/2.0/`.
    pub fn templates() -> impl Iterator<Item = (&'static Method, &'static str, Operation)> {
        TABLE.iter().map(|(method, template, operation)| (method, *template, *operation))
    }

    pub fn body_kind(&self) -> BodyKind {
        match self.operation {
            Operation::UploadArtifact => BodyKind::File,
            Operation::CompletePartedUpload => BodyKind::Json { max_bytes: PARTS_BYTES },
            _ => BodyKind::Json { max_bytes: JSON_BYTES },
        }
    }
}

/// The parameters of a path that has the form of a template. A segment that is not UTF-8 matches no template.
fn matched(template: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let mut parameters = Vec::new();
    let mut rest = path;
    let mut segments = template.split('/').peekable();
    while let Some(segment) = segments.next() {
        if let Some(name) = segment.strip_prefix(REST).and_then(|name| name.strip_suffix('}')) {
            if rest.is_empty() {
                return None;
            }
            parameters.push((name, decoded(rest)?));
            return Some(parameters);
        }
        let (first, others) = match rest.split_once('/') {
            Some((first, others)) => (first, Some(others)),
            None => (rest, None),
        };
        match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(_) if first.is_empty() => return None,
            Some(name) => parameters.push((name, decoded(first)?)),
            None if segment == first => {}
            None => return None,
        }
        match (segments.peek(), others) {
            (Some(_), Some(others)) => rest = others,
            (None, None) => return Some(parameters),
            _ => return None,
        }
    }
    None
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(method: Method, path: &str) -> Option<(Operation, Vec<String>)> {
        let route = Route::find(&method, path)?;
        Some((route.operation, route.parameters.into_iter().map(|(_, value)| value).collect()))
    }

    #[test]
    fn operations_are_found_by_method_and_path() {
        let check = |method, path: &str, operation, parameters: &[&str]| {
            let parameters = parameters.iter().map(|it| (*it).to_owned()).collect();
            assert_eq!(find(method, path), Some((operation, parameters)), "{path}");
        };
        check(Method::GET, "/api/2.0/mlflow/runs/get", Operation::GetRun, &[]);
        check(Method::GET, "/ajax-api/2.0/mlflow/runs/get", Operation::GetRun, &[]);
        check(Method::GET, "/api/3.0/mlflow/server-info", Operation::ServerInfo, &[]);
        let file = "/api/2.0/mlflow-artifacts/artifacts/0/r/artifacts/a%20b/c";
        check(Method::PUT, file, Operation::UploadArtifact, &["0/r/artifacts/a b/c"]);
        check(Method::GET, "/api/2.0/mlflow-artifacts/artifacts", Operation::ListArtifacts, &[]);
        check(Method::POST, "/api/2.0/mlflow/logged-models/search", Operation::SearchLoggedModels, &[]);
        check(Method::GET, "/api/2.0/mlflow/logged-models/m-1", Operation::GetLoggedModel, &["m-1"]);
        let create = "/api/2.0/mlflow-artifacts/mpu/create/0/r/artifacts/a%20b";
        check(Method::POST, create, Operation::CreatePartedUpload, &["0/r/artifacts/a b"]);
        let tag = "/api/2.0/mlflow/logged-models/m-1/tags/a%2Fb";
        check(Method::DELETE, tag, Operation::DeleteLoggedModelTag, &["m-1", "a/b"]);
    }

    #[test]
    fn other_paths_of_mlflow_are_answered_as_well() {
        let operation = |method, path: &str| find(method, path).map(|(operation, _)| operation);
        for path in ["traces", "traces/search", "webhooks", "gateway/endpoints/list", "scorers/list"] {
            let path = format!("/api/3.0/mlflow/{path}");
            assert_eq!(operation(Method::POST, &path), Some(Operation::Refused), "{path}");
        }
        for (method, path) in [
            (Method::GET, "/api/2.0/mlflow/runs/nothing"),
            (Method::DELETE, "/api/2.0/mlflow/runs/get"),
            (Method::GET, "/api/2.0/mlflow/"),
            (Method::GET, "/api/2.0/mlflow/tracesx"),
            (Method::GET, "/api/2.0/mlflow/logged-models/"),
            (Method::GET, "/api/2.0/mlflow/logged-models/%FF"),
            (Method::PUT, "/api/2.0/mlflow-artifacts/artifacts/"),
        ] {
            assert_eq!(operation(method, path), Some(Operation::Unknown), "{path}");
        }
        for path in
            ["/", "/api/2.0/other", "/api/v1/rest/runs", "/api/2.0/mlflowx/runs/get", "/mlflow/runs/get"]
        {
            assert_eq!(operation(Method::GET, path), None, "{path}");
        }
    }

    #[test]
    fn calls_that_get_or_search_are_reads() {
        let reading_posts = [
            "mlflow/experiments/search",
            "mlflow/experiments/search-datasets",
            "mlflow/runs/search",
            "mlflow/logged-models/search",
            "mlflow/registered-models/get-latest-versions",
        ];
        for (method, template, operation) in Route::templates() {
            let is_reading_post = *method == Method::POST && reading_posts.contains(&template);
            let expected = *method == Method::GET || is_reading_post;
            assert_eq!(operation.is_read(), expected, "{method} {template}");
        }
    }

    #[test]
    fn templates_are_distinct() {
        for (at, (method, template, _)) in TABLE.iter().enumerate() {
            let others = TABLE[..at].iter().filter(|(of, other, _)| of == method && other == template);
            assert_eq!(others.count(), 0, "{method} {template}");
        }
    }
}
