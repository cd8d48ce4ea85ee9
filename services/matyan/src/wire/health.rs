//! The gRPC health service, which reports readiness: clients that watch it need not poll, and
//! see a shutdown before their connection is closed.

use std::time::Duration;

use futures::future::join_all;
use matyan_edge::Transport;
use matyan_proto::system::v1::{ReadinessRequest, system_service_client::SystemServiceClient};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

/// Interval between readiness checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Reports each change of the combined readiness of the services until stopped, and then that they
/// are not serving. `reported` is the last status.
pub(super) async fn report(
    mut reporter: HealthReporter,
    services: Vec<Transport>,
    mut reported: ServingStatus,
    stop: CancellationToken,
) {
    let mut ticks = interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let Some(status) = stop.run_until_cancelled(status(&services)).await else { break };
        // Every report reaches all clients that watch.
        if status != reported {
            reporter.set_service_status("", status).await;
            reported = status;
        }
    }
    reporter.set_service_status("", ServingStatus::NotServing).await;
    // Ends the streams of clients that watch, which would otherwise keep their connections
    // open.
    reporter.clear_service_status("").await;
}

/// Checks the combined readiness of the services.
pub(super) async fn status(services: &[Transport]) -> ServingStatus {
    let is_ready = async |service: &Transport| {
        let answer = SystemServiceClient::new(service.clone()).readiness(ReadinessRequest::default()).await;
        answer.is_ok_and(|answer| answer.into_inner().ready)
    };
    let ready = join_all(services.iter().map(is_ready)).await.into_iter().all(|ready| ready);
    if ready { ServingStatus::Serving } else { ServingStatus::NotServing }
}

#[cfg(test)]
mod tests;
