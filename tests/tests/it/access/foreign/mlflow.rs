//! The operations of MLflow, by the table of the translator. All of them get the same fields, and read the fields that
//! they know.

use bytes::Bytes;
use http::Method;
use matyan_mlflow::{Operation, Route};
use matyan_proto::common::v1::Access;
use serde_json::{Value, json};

use super::{
    CALLER, EDIT, ForeignOperation, JSON, READ, READ_EDIT, READ_INGEST, READ_INGEST_EDIT, send, text_of,
};
use crate::access::closed_server::ClosedServer;

const BASE: &str = "/api/2.0/";

/// The registered model, which has one version.
const MODEL: &str = "m";

/// Fields that an operation can have in the query of a URL.
const IN_QUERIES: [&str; 9] = [
    "experiment_id",
    "experiment_name",
    "run_id",
    "metric_key",
    "path",
    "name",
    "version",
    "alias",
    "artifact_directory_path",
];

pub(super) struct MlflowThings {
    experiment_id: String,
    run_id: String,
    model_id: String,
}

impl MlflowThings {
    pub(super) async fn create(
        closed: &ClosedServer,
        project: &str,
        text: &mut impl FnMut(&str) -> String,
    ) -> Self {
        let post = async |path: &str, body: Value| {
            send(closed, project, Method::POST, &format!("{BASE}mlflow/{path}"), &body).await
        };
        let mut tags = |of: &str| json!([{"key": "k", "value": text(of)}]);
        let of_experiment = tags("mlflow-experiment-tag");
        let of_run = tags("mlflow-run-tag");
        let of_logged = tags("mlflow-logged-model-tag");
        let of_model = tags("mlflow-model-tag");
        let of_version = tags("mlflow-version-tag");
        let experiment = json!({"name": text("mlflow-experiment"), "tags": of_experiment});
        let experiment_id = text_of(&post("experiments/create", experiment).await, "/experiment_id");
        let run = json!({
            "experiment_id": experiment_id, "run_name": text("mlflow-run"), "tags": of_run,
        });
        let run_id = text_of(&post("runs/create", run).await, "/run/info/run_id");
        let logged = json!({
            "experiment_id": experiment_id, "name": text("mlflow-logged-model"), "tags": of_logged,
        });
        let model_id = text_of(&post("logged-models", logged).await, "/model/info/model_id");
        let description = text("mlflow-model");
        post(
            "registered-models/create",
            json!({"name": MODEL, "description": description, "tags": of_model}),
        )
        .await;
        let description = text("mlflow-version");
        let version =
            json!({"name": MODEL, "source": "s3://b/c", "description": description, "tags": of_version});
        post("model-versions/create", version).await;
        post("registered-models/alias", json!({"name": MODEL, "alias": "a", "version": "1"})).await;
        Self { experiment_id, run_id, model_id }
    }

    pub(super) fn operations(&self) -> Vec<ForeignOperation> {
        let operations = Route::templates().map(|(method, template, operation)| {
            let (path, body) = self.path_and_body(method, template, operation);
            ForeignOperation {
                name: format!("MLflow's {operation:?}"),
                method: method.clone(),
                path,
                content_type: JSON,
                body,
                needs: needs(operation),
            }
        });
        operations.collect()
    }

    fn path_and_body(&self, method: &Method, template: &str, operation: Operation) -> (String, Bytes) {
        let segment = |segment: &str| match segment {
            "{*path}" => format!("{}/a.txt", self.folder()),
            "{*folder}" => self.folder(),
            "{model_id}" => self.model_id.clone(),
            "{tag_key}" => "k".to_owned(),
            parameter if parameter.starts_with('{') => panic!("add a value of {parameter}"),
            plain => plain.to_owned(),
        };
        let segments: Vec<String> = template.split('/').map(segment).collect();
        let path = format!("{BASE}{}", segments.join("/"));
        let fields = self.fields();
        if operation == Operation::UploadArtifact {
            return (path, Bytes::from_static(b"x"));
        }
        // The path of a file in the path of the URL is its field.
        if method != Method::GET || operation == Operation::DownloadArtifact {
            let body = if method == Method::GET { String::new() } else { without_path(&fields, template) };
            return (path, Bytes::from(body));
        }
        let pairs = IN_QUERIES.map(|name| format!("{name}={}", fields[name].as_str().unwrap_or_default()));
        (format!("{path}?{}", pairs.join("&")), Bytes::new())
    }

    /// The folder of the files of the run.
    fn folder(&self) -> String {
        format!("{}/{}/artifacts", self.experiment_id, self.run_id)
    }

    /// The fields of all operations.
    fn fields(&self) -> Value {
        let Self { experiment_id, run_id, model_id } = self;
        let model = json!({"artifact_path": "m", "flavors": {}, "utc_time_created": "x", "run_id": run_id});
        let entry = json!([{"key": "k", "value": "1", "timestamp": 1}]);
        json!({
            "experiment_id": experiment_id,
            "experiment_ids": [experiment_id],
            "experiment_name": "Default",
            "run_id": run_id,
            "run_name": "renamed",
            "name": MODEL,
            "new_name": "renamed",
            "version": "1",
            "alias": "a",
            "stage": "Staging",
            "source": "s3://b/c",
            "key": "k",
            "value": "1",
            "timestamp": 1,
            "metric_key": "k",
            "metrics": entry,
            "params": entry,
            "tags": entry,
            // Means "failed" for a run and for a logged model.
            "status": "3",
            "model_json": model.to_string(),
            "models": [{"model_id": model_id, "step": 0}],
            "path": self.folder(),
            "artifact_directory_path": "a",
            "num_parts": 1,
            "upload_id": "00000000000000000000000000000000",
            "parts": [{"part_number": 1}],
        })
    }
}

/// Fields as a body, without the field that is in the path of the URL.
fn without_path(fields: &Value, template: &str) -> String {
    let mut fields = fields.clone();
    if template.contains("{*path}")
        && let Some(members) = fields.as_object_mut()
    {
        members.remove("path");
    }
    fields.to_string()
}

/// The rights that an operation needs, in the order of its calls. A new operation does not compile without them.
fn needs(operation: Operation) -> &'static [Access] {
    match operation {
        Operation::ServerInfo | Operation::Refused | Operation::Unknown => CALLER,
        Operation::SearchExperiments
        | Operation::GetExperiment
        | Operation::GetExperimentByName
        | Operation::SearchDatasets
        | Operation::GetRun
        | Operation::SearchRuns
        | Operation::GetMetricHistory
        | Operation::GetMetricHistoryBulk
        | Operation::GetMetricHistoryBulkInterval
        | Operation::ListRunArtifacts
        | Operation::ListArtifacts
        | Operation::DownloadArtifact
        | Operation::SearchLoggedModels
        | Operation::GetLoggedModel
        | Operation::ListLoggedModelArtifacts
        | Operation::GetRegisteredModel
        | Operation::SearchRegisteredModels
        | Operation::GetLatestVersions
        | Operation::GetVersionByAlias
        | Operation::GetVersion
        | Operation::SearchVersions
        | Operation::GetVersionDownloadUri => READ,
        Operation::CreateExperiment
        | Operation::RenameRegisteredModel
        | Operation::DeleteRegisteredModel
        | Operation::DeleteArtifact => EDIT,
        Operation::UpdateExperiment
        | Operation::DeleteExperiment
        | Operation::RestoreExperiment
        | Operation::DeleteRun
        | Operation::RestoreRun
        | Operation::DeleteTag => READ_EDIT,
        Operation::SetExperimentTag
        | Operation::CreateRun
        | Operation::UpdateRun
        | Operation::LogMetric
        | Operation::LogParam
        | Operation::LogBatch
        | Operation::LogModel
        | Operation::LogInputs
        | Operation::LogOutputs
        | Operation::SetTag
        | Operation::UploadArtifact
        | Operation::CreatePartedUpload
        | Operation::CompletePartedUpload
        | Operation::AbortPartedUpload
        | Operation::CreateLoggedModel
        | Operation::FinalizeLoggedModel
        | Operation::SetLoggedModelTags
        | Operation::LogLoggedModelParams
        | Operation::CreateRegisteredModel
        | Operation::UpdateRegisteredModel
        | Operation::SetRegisteredModelTag
        | Operation::SetRegisteredModelAlias
        | Operation::CreateVersion
        | Operation::UpdateVersion
        | Operation::TransitionVersionStage
        | Operation::SetVersionTag => READ_INGEST,
        // These operations write a document back without the deleted part.
        Operation::DeleteExperimentTag
        | Operation::DeleteLoggedModel
        | Operation::DeleteLoggedModelTag
        | Operation::DeleteRegisteredModelTag
        | Operation::DeleteRegisteredModelAlias
        | Operation::DeleteVersion
        | Operation::DeleteVersionTag => READ_INGEST_EDIT,
    }
}
