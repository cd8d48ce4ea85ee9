//! Event files of TensorBoard that this process follows itself (`--logdir`).

use matyan_tensorboard::{Channel, Channels, FollowNotice, FollowSettings, Follower};
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::traced_server::trace_calls;

/// Pause after an error that is not expected to end.
const PAUSE: Duration = Duration::from_secs(60);

/// The services of this process, which a follower calls without a socket in between.
pub(super) fn channels(frontier: Routes, backend: Routes) -> Channels {
    let channel = |routes: Routes| Channel::new(trace_calls(routes.prepare()));
    Channels { backend: channel(backend), frontier: channel(frontier) }
}

/// Follows a directory until it is stopped.
pub(super) async fn follow(channels: Channels, settings: FollowSettings, stop: CancellationToken) {
    tracing::info!(dir = %settings.root.display(), experiment = settings.experiment, "following event files");
    let mut follower = Follower::new(channels, settings);
    while let Err(error) = follower.follow(&stop, log).await {
        tracing::error!(error = &error as &dyn std::error::Error, "failed to follow event files; will retry");
        if stop.run_until_cancelled(sleep(PAUSE)).await.is_none() {
            return;
        }
    }
}

fn log(notice: FollowNotice) {
    match notice {
        FollowNotice::Progress(progress) => {
            for run_id in &progress.begun {
                tracing::info!(run_id, "started run of event files");
            }
            tracing::debug!(points = progress.points, objects = progress.objects, "published event files");
        }
        FollowNotice::Problem(problem) => tracing::warn!(problem, "event files are incomplete"),
        FollowNotice::Waiting(reason) => tracing::warn!(reason, "failed to publish event files; will retry"),
    }
}
