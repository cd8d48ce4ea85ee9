//! Health of a worker process: its version, whether its loops make progress, and whether its
//! dependencies can be reached. This is the only API of a worker.

use std::time::Duration;

use matyan_log::Topic;
use matyan_model::keys;
use matyan_proto::{
    limits,
    system::v1::{self as pb, system_service_server::SystemService},
};
use tokio::time::timeout;
use tonic::{Request, Response, Result};

use crate::{deps::Deps, heartbeat::Heartbeat, ingest::StoppedPartitions};

/// Timeout of a dependency check: longer than a healthy one takes, and shorter than the
/// caller's own timeout.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

pub struct System {
    component: &'static str,
    deps: Deps,
    heartbeats: Vec<Heartbeat>,
    stopped: StoppedPartitions,
}

impl System {
    pub fn new(
        component: &'static str,
        deps: Deps,
        heartbeats: Vec<Heartbeat>,
        stopped: StoppedPartitions,
    ) -> Self {
        Self { component, deps, heartbeats, stopped }
    }
}

#[tonic::async_trait]
impl SystemService for System {
    async fn version(&self, _: Request<pb::VersionRequest>) -> Result<Response<pb::VersionResponse>> {
        Ok(Response::new(pb::VersionResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            component: self.component.to_owned(),
            ..Default::default()
        }))
    }

    async fn readiness(
        &self,
        request: Request<pb::ReadinessRequest>,
    ) -> Result<Response<pb::ReadinessResponse>> {
        let mut checks = vec![check("worker", self.heartbeats.iter().find_map(Heartbeat::problem))];
        if !request.into_inner().itself_alone {
            checks.extend(self.dependencies().await);
        }
        // Not required: the other partitions are read.
        checks.push(pb::Check { required: false, ..check("ingestion", self.stopped.problem()) });
        let ready = checks.iter().all(|check| check.ok || !check.required);
        Ok(Response::new(pb::ReadinessResponse { ready, checks }))
    }

    async fn limits(&self, _: Request<pb::LimitsRequest>) -> Result<Response<pb::LimitsResponse>> {
        Ok(Response::new(pb::LimitsResponse { limits: Some(limits::message()) }))
    }
}

impl System {
    async fn dependencies(&self) -> [pb::Check; 4] {
        let deps = &self.deps;
        let store = async { deps.store.snapshot().await?.get(&keys::format()).await };
        let (store, log, control_log, blobs) = tokio::join!(
            problem(store),
            problem(deps.log_writer.probe(Topic::Ingestion)),
            problem(deps.log_writer.probe(Topic::Control)),
            problem(matyan_blob::probe(&*deps.blobs)),
        );
        [
            check("store", store),
            check("log", log),
            check("control_log", control_log),
            // Required, as in Matyan 0.3, although payloads can wait in the store.
            check("blobs", blobs),
        ]
    }
}

async fn problem<T, E: std::fmt::Display>(query: impl Future<Output = Result<T, E>>) -> Option<String> {
    match timeout(CHECK_TIMEOUT, query).await {
        Ok(answer) => answer.err().map(|error| error.to_string()),
        Err(_) => Some(format!("no response within {} s", CHECK_TIMEOUT.as_secs())),
    }
}

fn check(name: &str, problem: Option<String>) -> pb::Check {
    let ok = problem.is_none();
    pb::Check { name: name.to_owned(), ok, message: problem.unwrap_or_default(), required: true }
}
