//! What this server is and whether it works. Ready means that the store can be read and both topics can be reached.

use std::time::Duration;

use matyan_log::Topic;
use matyan_proto::{
    limits,
    system::v1::{self as pb, system_service_server::SystemService},
};
use tokio::time::timeout;
use tonic::{Request, Response, Result};

use crate::{Backend, Context};

/// The interface that FoundationDB is spoken to in; clients of Matyan 0.3 print it whatever the store is.
const FDB_API_VERSION: u32 = 730;

/// How long the blob store may take to show that it is there: whoever asks waits about a second for all.
const BLOBS_ANSWER: Duration = Duration::from_millis(500);

/// The format that the store is written in.
const FORMAT: u32 = 1;

#[tonic::async_trait]
impl SystemService for Backend {
    async fn version(&self, _: Request<pb::VersionRequest>) -> Result<Response<pb::VersionResponse>> {
        Ok(Response::new(pb::VersionResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            component: "backend".to_owned(),
            fdb_api_version: FDB_API_VERSION,
            format: FORMAT,
        }))
    }

    async fn readiness(
        &self,
        request: Request<pb::ReadinessRequest>,
    ) -> Result<Response<pb::ReadinessResponse>> {
        if request.into_inner().itself_alone {
            return Ok(Response::new(pb::ReadinessResponse { ready: true, checks: Vec::new() }));
        }
        let context = self.context.as_ref();
        let checks = vec![
            check("store", store_problem(context).await, true),
            check("log", log_problem(context, Topic::Ingestion).await, true),
            check("control_log", log_problem(context, Topic::Control).await, true),
            check("blobs", blobs_problem(context).await, false),
        ];
        let ready = checks.iter().all(|check| check.ok || !check.required);
        Ok(Response::new(pb::ReadinessResponse { ready, checks }))
    }

    async fn limits(&self, _: Request<pb::LimitsRequest>) -> Result<Response<pb::LimitsResponse>> {
        Ok(Response::new(pb::LimitsResponse { limits: Some(limits::message()) }))
    }
}

async fn store_problem(context: &Context) -> Option<String> {
    let read = async { context.store.snapshot().await?.get(&matyan_model::keys::format()).await };
    read.await.err().map(|error| error.to_string())
}

async fn log_problem(context: &Context, topic: Topic) -> Option<String> {
    context.log.describe(topic).await.err().map(|error| error.to_string())
}

async fn blobs_problem(context: &Context) -> Option<String> {
    let answer = timeout(BLOBS_ANSWER, matyan_blob::probe(&*context.blobs)).await;
    answer.unwrap_or_else(|_| Err("the blob store does not answer".to_owned())).err()
}

fn check(name: &str, problem: Option<String>, required: bool) -> pb::Check {
    pb::Check { name: name.to_owned(), ok: problem.is_none(), message: problem.unwrap_or_default(), required }
}
