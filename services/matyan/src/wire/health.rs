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

/// Reports the combined readiness of the services until stopped, and then that they are not
/// serving.
pub(super) async fn report(mut reporter: HealthReporter, services: Vec<Transport>, stop: CancellationToken) {
    let mut ticks = interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let Some(()) = stop.run_until_cancelled(check(&reporter, &services)).await else { break };
    }
    reporter.set_service_status("", ServingStatus::NotServing).await;
    // Ends the streams of clients that watch, which would otherwise keep their connections
    // open.
    reporter.clear_service_status("").await;
}

pub(super) async fn check(reporter: &HealthReporter, services: &[Transport]) {
    let is_ready = async |service: &Transport| {
        let answer = SystemServiceClient::new(service.clone()).readiness(ReadinessRequest::default()).await;
        answer.is_ok_and(|answer| answer.into_inner().ready)
    };
    let ready = join_all(services.iter().map(is_ready)).await.into_iter().all(|ready| ready);
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    reporter.set_service_status("", status).await;
}

#[cfg(test)]
mod tests;
