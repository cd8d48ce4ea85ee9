//! Version and health of this server. Ready means that batches can be published; the blob store
//! is reported as well, but is not required, because training continues without it.

use std::time::Duration;

use async_trait::async_trait;
use matyan_log::Topic;
use matyan_proto::{
    limits,
    system::v1::{self as pb, system_service_server::SystemService},
};
use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Result};

use crate::{Frontier, calls::Calls, ingestion::Ingestion, upload::Uploads};

/// Timeout for describing the log: longer than a healthy one takes, and shorter than a probe's
/// own timeout.
const LOG_TIMEOUT: Duration = Duration::from_secs(2);

/// Timeout for probing the blob store. Callers of readiness wait about a second, and must not
/// mistake a hung blob store for a hung log.
const BLOBS_TIMEOUT: Duration = Duration::from_millis(500);

#[async_trait]
impl SystemService for Frontier {
    async fn version(&self, _: Request<pb::VersionRequest>) -> Result<Response<pb::VersionResponse>> {
        Ok(Response::new(pb::VersionResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            component: "frontier".to_owned(),
            ..pb::VersionResponse::default()
        }))
    }

    async fn readiness(
        &self,
        request: Request<pb::ReadinessRequest>,
    ) -> Result<Response<pb::ReadinessResponse>> {
        if request.into_inner().itself_alone {
            return Ok(Response::new(pb::ReadinessResponse { ready: true, checks: Vec::new() }));
        }
        let (log, blobs) = tokio::join!(log_check(&self.ingestion, &self.calls), blobs_check(&self.uploads));
        let checks = vec![log, blobs];
        let ready = checks.iter().all(|check| check.ok || !check.required);
        Ok(Response::new(pb::ReadinessResponse { ready, checks }))
    }

    async fn limits(&self, _: Request<pb::LimitsRequest>) -> Result<Response<pb::LimitsResponse>> {
        Ok(Response::new(pb::LimitsResponse { limits: Some(limits::message()) }))
    }
}

async fn log_check(ingestion: &Ingestion, calls: &Calls) -> pb::Check {
    let problem = if calls.is_stopping() {
        Some("the server is stopping".to_owned())
    } else if ingestion.log_health.is_failing(Instant::now()) {
        Some("the last append failed".to_owned())
    } else {
        match timeout(LOG_TIMEOUT, ingestion.log.probe(Topic::Ingestion)).await {
            Ok(answer) => answer.err().map(|error| error.to_string()),
            Err(_) => Some(format!("no response within {} s", LOG_TIMEOUT.as_secs())),
        }
    };
    check("log", problem, true)
}

async fn blobs_check(uploads: &Uploads) -> pb::Check {
    let answer = timeout(BLOBS_TIMEOUT, async {
        matyan_blob::probe(&*uploads.blobs).await?;
        uploads.blobs.problem().await.map_or(Ok(()), Err)
    });
    let answer = answer.await.unwrap_or_else(|_| Err("the blob store does not answer".to_owned()));
    check("blobs", answer.err(), false)
}

fn check(name: &str, problem: Option<String>, required: bool) -> pb::Check {
    pb::Check { name: name.to_owned(), ok: problem.is_none(), message: problem.unwrap_or_default(), required }
}
