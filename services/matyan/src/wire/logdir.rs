//! Event files of TensorBoard that this process follows itself (`--logdir`).

use http::{HeaderValue, Request};
use matyan_tensorboard::{Channel, Channels, FollowNotice, FollowSettings, Follower};
use matyan_wire::headers::PROJECT;
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, service::Routes};
use tower::util::MapRequest;

use super::traced_server::trace_calls;

/// Pause after an error that is not expected to end.
const PAUSE: Duration = Duration::from_secs(60);

/// The services of this process, which a follower calls without a socket in between, in a project; in the default
/// one if the name is empty.
pub(super) fn channels(frontier: Routes, backend: Routes, project: &str) -> Channels {
    let header = HeaderValue::from_str(project).expect("the name of a project is ASCII");
    let project = (!header.is_empty()).then_some(header);
    let channel = |routes: Routes| {
        let project = project.clone();
        let in_project = move |mut request: Request<Body>| {
            if let Some(project) = &project {
                request.headers_mut().insert(PROJECT, project.clone());
            }
            request
        };
        Channel::new(MapRequest::new(trace_calls(routes.prepare()), in_project))
    };
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
        FollowNotice::Problem(problem) => tracing::warn!(problem, "could not follow all event files"),
        FollowNotice::Waiting(reason) => tracing::warn!(reason, "failed to publish event files; will retry"),
    }
}
