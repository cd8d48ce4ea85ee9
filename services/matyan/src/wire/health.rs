//! The gRPC health service, which reports readiness: clients that watch it need not poll, and
//! see a shutdown before their connection is closed. Reasons for failed checks are logged here, because the
//! public HTTP answers only name the checks.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use matyan_edge::Transport;
use matyan_proto::system::v1::{
    ReadinessRequest, ReadinessResponse, system_service_client::SystemServiceClient,
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

/// Interval between readiness checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The combined readiness of services.
pub(super) struct Health {
    pub(super) status: ServingStatus,
    /// The problems of checks that fail, by the names of the checks.
    problems: BTreeMap<String, String>,
}

impl Health {
    /// Logs each check that fails now and did not fail before, or the other way round.
    pub(super) fn log_changes_since(&self, before: &BTreeMap<String, String>) {
        for (check, problem) in self.problems.iter().filter(|(check, _)| !before.contains_key(*check)) {
            tracing::warn!(check, problem, "readiness check failed");
        }
        for check in before.keys().filter(|check| !self.problems.contains_key(*check)) {
            tracing::info!(check, "readiness check passes again");
        }
    }
}

/// Reports each change of the combined readiness of the services until stopped, and then that they
/// are not serving. `reported` is the last state.
pub(super) async fn report(
    mut reporter: HealthReporter,
    services: Vec<Transport>,
    mut reported: Health,
    stop: CancellationToken,
) {
    let mut ticks = interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let Some(health) = stop.run_until_cancelled(health(&services)).await else { break };
        health.log_changes_since(&reported.problems);
        // Every report reaches all clients that watch.
        if health.status != reported.status {
            reporter.set_service_status("", health.status).await;
        }
        reported = health;
    }
    reporter.set_service_status("", ServingStatus::NotServing).await;
    // Ends the streams of clients that watch, which would otherwise keep their connections
    // open.
    reporter.clear_service_status("").await;
}

/// Checks the combined readiness of the services.
pub(super) async fn health(services: &[Transport]) -> Health {
    let readiness = async |service: &Transport| {
        SystemServiceClient::new(service.clone()).readiness(ReadinessRequest::default()).await
    };
    let mut is_ready = true;
    let mut problems = BTreeMap::new();
    for answer in join_all(services.iter().map(readiness)).await {
        match answer {
            Ok(answer) => {
                let ReadinessResponse { ready, checks } = answer.into_inner();
                is_ready &= ready;
                let failed = checks.into_iter().filter(|check| !check.ok);
                problems.extend(failed.map(|check| (check.name, check.message)));
            }
            Err(status) => {
                is_ready = false;
                problems.insert("readiness".to_owned(), status.message().to_owned());
            }
        }
    }
    let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    Health { status, problems }
}

#[cfg(test)]
mod tests;
