//! The operations of other trackers' protocols, each as a request that gets as far as the calls for which it needs
//! rights. The operations come from the tables of the translators, and the fields of GraphQL from the schema that the
//! server describes. So an operation without rights here fails the tests.

mod mlflow;
mod optuna;
mod wandb;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use matyan_proto::common::v1::Access;
use matyan_tests::exact_http::{Answer, ExactClient};
use serde_json::Value;
use tonic::Code;

use super::closed_server::ClosedServer;
use mlflow::MlflowThings;
use optuna::OptunaThings;
use wandb::WandbThings;

/// Sequences of rights, in the order of the calls that need them.
const PUBLIC: &[Access] = &[Access::Public];
const CALLER: &[Access] = &[Access::Caller];
const READ: &[Access] = &[Access::Read];
const INGEST: &[Access] = &[Access::Ingest];
const EDIT: &[Access] = &[Access::Edit];
const READ_INGEST: &[Access] = &[Access::Read, Access::Ingest];
const READ_EDIT: &[Access] = &[Access::Read, Access::Edit];
const READ_INGEST_EDIT: &[Access] = &[Access::Read, Access::Ingest, Access::Edit];

const JSON: &str = "application/json";
const GRPC: &str = "application/grpc";

/// The path of all GraphQL operations.
const GRAPHQL: &str = "/graphql";

/// One operation.
#[derive(Clone, Debug)]
pub(super) struct ForeignOperation {
    /// The name of the operation in test results.
    pub(super) name: String,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
    /// The rights that the operation needs, in the order of its calls.
    pub(super) needs: &'static [Access],
}

impl ForeignOperation {
    pub(super) fn is_grpc(&self) -> bool {
        self.content_type == GRPC
    }

    /// Whether the operation changes nothing.
    pub(super) fn is_reading(&self) -> bool {
        self.needs.iter().all(|access| matches!(access, Access::Public | Access::Caller | Access::Read))
    }

    /// Whether the answer says that the operation has had an effect, or has shown content.
    pub(super) fn has_succeeded(&self, answer: &Answer) -> bool {
        if self.is_grpc() {
            return answer.grpc_status().is_none_or(|status| status.code() == Code::Ok);
        }
        if self.path != GRAPHQL {
            // Restoring something that is not deleted has no effect.
            let is_effective = !self.path.ends_with("/restore");
            return is_effective && (answer.status.is_success() || answer.status.is_redirection());
        }
        // The status alone is not enough. A field without a value has shown no content.
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let has_value = body["data"].as_object().is_some_and(|data| data.values().any(|it| !it.is_null()));
        answer.status == StatusCode::OK && body["errors"].is_null() && has_value
    }
}

/// The things in one project that operations use: an experiment, a run, a model and a study, made through the
/// protocols.
pub(super) struct ForeignThings {
    mlflow: MlflowThings,
    optuna: OptunaThings,
    wandb: WandbThings,
}

impl ForeignThings {
    /// Makes the things as the operator. `text` gives each text, by the kind of the text.
    pub(super) async fn create(
        closed: &ClosedServer,
        project: &str,
        text: &mut impl FnMut(&str) -> String,
    ) -> Self {
        Self {
            mlflow: MlflowThings::create(closed, project, text).await,
            optuna: OptunaThings::create(closed, project, text).await,
            wandb: WandbThings::create(closed, project, text).await,
        }
    }

    /// All operations, about these things.
    pub(super) async fn operations(&self, closed: &ClosedServer) -> Vec<ForeignOperation> {
        let Self { mlflow, optuna, wandb } = self;
        [mlflow.operations(), optuna.operations(), wandb.operations(closed).await].concat()
    }
}

/// Sends a request of the operator, which must succeed. Returns its answer.
async fn send(closed: &ClosedServer, project: &str, method: Method, path: &str, body: &Value) -> Value {
    let request = Request::builder()
        .method(method)
        .uri(format!("{}/p/{project}{path}", closed.server.query))
        .header("authorization", format!("Bearer {}", closed.operator))
        .header("content-type", JSON);
    let request = request.body(Bytes::from(body.to_string())).expect("the request is well-formed");
    let answer = ExactClient::http1().send(request).await;
    assert!(answer.status.is_success(), "{path} {body}: {answer:?}");
    serde_json::from_slice(&answer.body).expect("the answer is JSON")
}

/// A text of an answer.
fn text_of(answer: &Value, pointer: &str) -> String {
    let text = answer.pointer(pointer).and_then(Value::as_str);
    text.unwrap_or_else(|| panic!("no {pointer} in {answer}")).to_owned()
}
