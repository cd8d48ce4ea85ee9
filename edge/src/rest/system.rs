//! Version, health, metrics, and the description of the API itself.
//! Health checks keep the keys of 0.3 (`fdb`, `kafka`, `blob`) for any kind of store, log, and
//! blob store, because dashboards read them.

use std::sync::Arc;

use axum::Json;
use axum::response::{Html, IntoResponse};
use http::{Method, StatusCode, header};
use matyan_proto::system::v1::{Check, ReadinessRequest, ReadinessResponse, VersionRequest};
use serde_json::{Value, json};

use super::call::Call;
use super::response_schema::{DONE, ResponseSchema};
use super::table::{Answer, BasePath, Operation, Output};
use super::{openapi, operations as all_operations};
use crate::error::ApiError;
use crate::services::{PortKind, Services};

const VERSION: ResponseSchema = ResponseSchema::Record(&[
    ("version", ResponseSchema::Text),
    ("component", ResponseSchema::Text),
    ("fdb_api_version", ResponseSchema::Optional(&ResponseSchema::Int)),
]);

const READY: ResponseSchema =
    ResponseSchema::Record(&[("status", ResponseSchema::Text), ("checks", ResponseSchema::AnyObject)]);

pub(crate) fn operations() -> Vec<Operation> {
    let get = |path, summary, handler| Operation::new(Method::GET, path, summary, handler);
    vec![
        get("/version", "Version of the product, and the component that answered", |services, call| {
            Box::pin(version(services, call))
        })
        .answers(&VERSION),
        get("/health/live", "Liveness; 503 if a worker hangs", |services, _| Box::pin(live(services)))
            .base(BasePath::Root)
            .fails(&["503"])
            .answers(&DONE),
        get("/health/ready", "Readiness; 503 if the server cannot do its work", |services, call| {
            Box::pin(ready(services, call))
        })
        .base(BasePath::Root)
        .maybe_unready()
        .answers(&READY),
        get("/metrics", "Prometheus metrics", |services, call| Box::pin(metrics(services, call)))
            .base(BasePath::Root)
            .output(Output::Text),
        get("/docs", "This page", |services, call| Box::pin(docs(services, call)))
            .base(BasePath::Root)
            .output(Output::Html),
        get("/openapi.json", "This API as an OpenAPI description", |services, call| {
            Box::pin(description(services, call))
        })
        .base(BasePath::Root)
        .answers(&ResponseSchema::AnyObject),
    ]
}

async fn version(services: Arc<Services>, _: Call) -> Answer {
    let version = services.system().version(VersionRequest {}).await?.into_inner();
    let mut answer = json!({"version": version.version, "component": version.component});
    if services.port_kind() == PortKind::Query {
        answer["fdb_api_version"] = version.fdb_api_version.into();
    }
    Ok(Json(answer).into_response())
}

/// A port that answers is alive, but in a worker, the main loop may hang independently of the
/// port.
async fn live(services: Arc<Services>) -> Answer {
    if services.port_kind() == PortKind::Worker {
        let request = ReadinessRequest { itself_alone: true };
        let checks = services.system().readiness(request).await?.into_inner().checks;
        if let Some(hangs) = checks.into_iter().find(|check| check.name == "worker" && !check.ok) {
            return Err(ApiError::unavailable(hangs.message));
        }
    }
    Ok(Json(json!({"status": "ok"})).into_response())
}

async fn ready(services: Arc<Services>, _: Call) -> Answer {
    let answer = match services.system().readiness(ReadinessRequest::default()).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => {
            // If the service cannot be reached, none of its checks can succeed.
            let failed = |name: &str| Check {
                name: name.to_owned(),
                ok: false,
                message: status.message().to_owned(),
                required: true,
            };
            let checks = ["log", "control_log", "store", "blobs"].map(failed).to_vec();
            ReadinessResponse { ready: false, checks }
        }
    };
    let checks = checks(services.port_kind(), &answer.checks);
    let (status, word) =
        if answer.ready { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "degraded") };
    Ok((status, Json(json!({"status": word, "checks": checks}))).into_response())
}

/// The checks under the names used by 0.3.
fn checks(port_kind: PortKind, checks: &[Check]) -> Value {
    let find = |name: &str| checks.iter().find(|check| check.name == name);
    let result = |name: &str| match find(name) {
        Some(check) if !check.ok => Value::from(check.message.as_str()),
        _ => Value::from("ok"),
    };
    let ok = |name: &str| find(name).is_none_or(|check| check.ok);
    match port_kind {
        PortKind::Ingest => json!({"kafka": result("log"), "blob": result("blobs")}),
        PortKind::Worker => json!({
            "worker": result("worker"),
            "fdb": result("store"),
            "kafka": {"control": result("control_log"), "ingestion": result("log")},
            "blob": result("blobs"),
        }),
        PortKind::Query => json!({
            "fdb": result("store"),
            "kafka": {"control_producer": ok("control_log"), "ingestion_producer": ok("log")},
        }),
    }
}

async fn metrics(services: Arc<Services>, _: Call) -> Answer {
    let text = services.metrics().text().map_err(|error| {
        tracing::error!(%error, "failed to encode metrics");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
    })?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

async fn docs(services: Arc<Services>, _: Call) -> Answer {
    Ok(Html(openapi::page(&all_operations(&services))).into_response())
}

async fn description(services: Arc<Services>, _: Call) -> Answer {
    Ok(Json(openapi::document(&all_operations(&services))).into_response())
}
