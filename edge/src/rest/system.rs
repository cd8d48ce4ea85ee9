//! Version, health, metrics, and the description of the API itself.
//! Health checks keep the keys of 0.3 (`fdb`, `kafka`, `blob`) for any kind of store, log, and
//! blob store, because dashboards read them.

use axum::Json;
use axum::response::{Html, IntoResponse, Response};
use http::{StatusCode, header};
use matyan_proto::common::v1::Access;
use matyan_proto::system::v1::{Check, ReadinessRequest, ReadinessResponse, VersionRequest};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Map, Value};

use super::answer::{Answer, by_status};
use super::call::{Call, Dialect};
use super::operation::{BasePath, Operation};
use super::{openapi, operations as all_operations};
use crate::error::{ApiError, ApiResult};
use crate::services::PortKind;

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/version", "Version of the product, and the component that answered", version)
            .access(Access::Public),
        Operation::get("/health/live", "Liveness; 503 if a worker hangs", live)
            .base(BasePath::Root)
            .access(Access::Public)
            .fails(&["503"]),
        Operation::get("/health/ready", "Readiness; 503 if the server cannot do its work", ready)
            .base(BasePath::Root)
            .access(Access::Public),
        Operation::get("/metrics", "Prometheus metrics", metrics)
            .base(BasePath::Root)
            .access(Access::Monitor),
        Operation::get("/docs", "This page", docs).base(BasePath::Root).access(Access::Caller),
        Operation::get("/openapi.json", "This API as an OpenAPI description", description)
            .base(BasePath::Root)
            .access(Access::Caller),
    ]
}

#[derive(Serialize, JsonSchema)]
struct Version {
    version: String,
    component: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    fdb_api_version: Option<u32>,
}

async fn version(call: Call) -> ApiResult<Json<Version>> {
    let version = call.services.system().version(VersionRequest {}).await?.into_inner();
    let is_query = call.services.port_kind() == PortKind::Query;
    let fdb_api_version = is_query.then_some(version.fdb_api_version);
    Ok(Json(Version { version: version.version, component: version.component, fdb_api_version }))
}

#[derive(Serialize, JsonSchema)]
struct Liveness {
    status: &'static str,
}

/// A port that answers is alive, but in a worker, the main loop may hang independently of the
/// port.
async fn live(call: Call) -> ApiResult<Json<Liveness>> {
    if call.services.port_kind() == PortKind::Worker {
        let request = ReadinessRequest { itself_alone: true };
        let checks = call.services.system().readiness(request).await?.into_inner().checks;
        if let Some(hangs) = checks.into_iter().find(|check| check.name == "worker" && !check.ok) {
            return Err(ApiError::unavailable(hangs.message));
        }
    }
    Ok(Json(Liveness { status: "ok" }))
}

#[derive(Serialize, JsonSchema)]
struct Readiness {
    status: &'static str,
    checks: Checks,
}

/// The checks under the names used by 0.3. Each kind of port has its own.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Checks {
    Ingest {
        kafka: String,
        blob: String,
    },
    Worker {
        worker: String,
        fdb: String,
        kafka: WorkerTopics,
        blob: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        ingestion: Option<String>,
    },
    Query {
        fdb: String,
        kafka: Producers,
        #[serde(skip_serializing_if = "Option::is_none")]
        ingestion: Option<String>,
    },
}

#[derive(Serialize, JsonSchema)]
struct WorkerTopics {
    control: String,
    ingestion: String,
}

#[derive(Serialize, JsonSchema)]
struct Producers {
    control_producer: bool,
    ingestion_producer: bool,
}

impl Checks {
    fn new(port_kind: PortKind, checks: &[Check]) -> Self {
        let find = |name: &str| checks.iter().find(|check| check.name == name);
        // Everyone may ask, and a message may name addresses, buckets and paths: it is in the log.
        let result = |name: &str| match find(name) {
            Some(check) if !check.ok => "failed".to_owned(),
            _ => "ok".to_owned(),
        };
        // A decision that an operator has to make: absent in answers of 0.3.
        let ingestion = find("ingestion").filter(|check| !check.ok).map(|check| check.message.clone());
        let ok = |name: &str| find(name).is_none_or(|check| check.ok);
        match port_kind {
            PortKind::Ingest => Checks::Ingest { kafka: result("log"), blob: result("blobs") },
            PortKind::Worker => Checks::Worker {
                worker: result("worker"),
                fdb: result("store"),
                kafka: WorkerTopics { control: result("control_log"), ingestion: result("log") },
                blob: result("blobs"),
                ingestion,
            },
            PortKind::Query => Checks::Query {
                fdb: result("store"),
                kafka: Producers { control_producer: ok("control_log"), ingestion_producer: ok("log") },
                ingestion,
            },
        }
    }
}

/// A 503 has the form of a successful answer.
struct ReadinessAnswer {
    is_ready: bool,
    checks: Checks,
}

impl Answer for ReadinessAnswer {
    fn into_response(self) -> Response {
        let (code, status) = if self.is_ready {
            (StatusCode::OK, "ok")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "degraded")
        };
        (code, Json(Readiness { status, checks: self.checks })).into_response()
    }

    fn describe(dialect: Dialect, schemas: &mut SchemaGenerator) -> Map<String, Value> {
        let mut answers = Json::<Readiness>::describe(dialect, schemas);
        let degraded = answers.values().next().cloned().unwrap_or_default();
        answers.extend(by_status(StatusCode::SERVICE_UNAVAILABLE, degraded));
        answers
    }
}

async fn ready(call: Call) -> ApiResult<ReadinessAnswer> {
    let answer = match call.services.system().readiness(ReadinessRequest::default()).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => {
            // If the service cannot be reached, none of its checks can succeed.
            let checks = ["log", "control_log", "store", "blobs"]
                .map(|name| Check {
                    name: name.to_owned(),
                    ok: false,
                    message: status.message().to_owned(),
                    required: true,
                })
                .to_vec();
            ReadinessResponse { ready: false, checks }
        }
    };
    let checks = Checks::new(call.services.port_kind(), &answer.checks);
    Ok(ReadinessAnswer { is_ready: answer.ready, checks })
}

struct MetricsText(String);

impl Answer for MetricsText {
    const MEDIA_TYPE: &str = "text/plain";

    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], self.0).into_response()
    }
}

async fn metrics(call: Call) -> ApiResult<MetricsText> {
    let text = call.services.metrics().text().map_err(|error| {
        tracing::error!(%error, "failed to encode metrics");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
    })?;
    Ok(MetricsText(text))
}

async fn docs(call: Call) -> ApiResult<Html<String>> {
    Ok(Html(openapi::page(&all_operations(&call.services))))
}

async fn description(call: Call) -> ApiResult<Json<Map<String, Value>>> {
    Ok(Json(openapi::document(&all_operations(&call.services))))
}
