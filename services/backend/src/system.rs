//! Version and health of this server. It is ready when the store can be read and both topics
//! can be reached.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use matyan_log::Topic;
use matyan_proto::{
    limits,
    system::v1::{self as pb, system_service_server::SystemService},
};
use tokio::time::timeout;
use tonic::{Request, Response, Result};

use crate::server::deps::Deps;

/// The FoundationDB API version; clients of Matyan 0.3 print it for every store.
const FDB_API_VERSION: u32 = 730;

/// Longer than a healthy substrate takes, and shorter than a caller waits.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The time limit for the blob store, whose state does not affect readiness.
const BLOBS_CHECK_TIMEOUT: Duration = Duration::from_millis(500);

/// Returns why uploads through this server are refused now, if they are.
pub type UploadProblem = Arc<dyn Fn() -> BoxFuture<'static, Option<String>> + Send + Sync>;

/// Returns the problem that stops the ingestion of this process until an operator decides.
pub type IngestionProblem = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// The service of the server's version, health and limits.
#[derive(Clone)]
pub(crate) struct SystemApi {
    pub(crate) deps: Arc<Deps>,
    pub(crate) upload_problem: Option<UploadProblem>,
    pub(crate) ingestion_problem: Option<IngestionProblem>,
}

#[tonic::async_trait]
impl SystemService for SystemApi {
    async fn version(&self, _: Request<pb::VersionRequest>) -> Result<Response<pb::VersionResponse>> {
        Ok(Response::new(pb::VersionResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            component: "backend".to_owned(),
            fdb_api_version: FDB_API_VERSION,
            format: matyan_model::format::FORMAT,
        }))
    }

    async fn readiness(
        &self,
        request: Request<pb::ReadinessRequest>,
    ) -> Result<Response<pb::ReadinessResponse>> {
        if request.into_inner().itself_alone {
            return Ok(Response::new(pb::ReadinessResponse { ready: true, checks: Vec::new() }));
        }
        let deps = self.deps.as_ref();
        let store = async { deps.store.snapshot().await?.get(&matyan_model::keys::format()).await };
        // Checked concurrently, because the caller waits for all of them.
        let (store, log, control_log, blobs) = tokio::join!(
            problem(store),
            problem(deps.log.probe(Topic::Ingestion)),
            problem(deps.log.probe(Topic::Control)),
            blobs_problem(deps, self.upload_problem.as_ref()),
        );
        let mut checks = vec![
            check("store", store, true),
            check("log", log, true),
            check("control_log", control_log, true),
            check("blobs", blobs, false),
        ];
        if let Some(ingestion_problem) = &self.ingestion_problem {
            checks.push(check("ingestion", ingestion_problem(), false));
        }
        let ready = checks.iter().all(|check| check.ok || !check.required);
        Ok(Response::new(pb::ReadinessResponse { ready, checks }))
    }

    async fn limits(&self, _: Request<pb::LimitsRequest>) -> Result<Response<pb::LimitsResponse>> {
        Ok(Response::new(pb::LimitsResponse { limits: Some(limits::message()) }))
    }
}

async fn problem<T, E: std::fmt::Display>(request: impl Future<Output = Result<T, E>>) -> Option<String> {
    match timeout(CHECK_TIMEOUT, request).await {
        Ok(result) => result.err().map(|error| error.to_string()),
        Err(_) => Some(format!("no response within {} s", CHECK_TIMEOUT.as_secs())),
    }
}

async fn blobs_problem(deps: &Deps, upload_problem: Option<&UploadProblem>) -> Option<String> {
    let result = timeout(BLOBS_CHECK_TIMEOUT, async {
        matyan_blob::probe(&*deps.blobs).await?;
        let Some(upload_problem) = upload_problem else { return Ok(()) };
        upload_problem().await.map_or(Ok(()), Err)
    });
    result.await.unwrap_or_else(|_| Err("the blob store does not respond".to_owned())).err()
}

fn check(name: &str, problem: Option<String>, required: bool) -> pb::Check {
    pb::Check { name: name.to_owned(), ok: problem.is_none(), message: problem.unwrap_or_default(), required }
}
