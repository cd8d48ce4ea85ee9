//! `matyan follow`: publishes event files of TensorBoard as they grow.

use std::path::PathBuf;

use clap::Args;
use http::Response;
use matyan_tensorboard::{
    Channel, Channels, FollowError, FollowNotice, FollowProgress, FollowSettings, Follower,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::util::MapResponse;

use super::{
    Error,
    connection::Connection,
    flags::{ClientFlags, ConnectionFlags},
    interruption::interruption,
    output::{Output, notice},
};

const FOLLOW_EXAMPLES: &str = "\
Examples:
  matyan follow runs/                                   what is there, and what is added, until Ctrl-C
  matyan follow runs/ --server https://matyan.example/p/speech --experiment asr
  matyan follow runs/ --once                            what is there

Each folder with event files is a run. A follower that is started again continues where it stopped.";

#[derive(Debug, Args)]
#[command(after_help = FOLLOW_EXAMPLES)]
pub(crate) struct FollowFlags {
    /// Directory with event files, as for `tensorboard --logdir`
    dir: PathBuf,
    /// Experiment of new runs; by default, the name of the directory
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
    /// End when everything that is there is stored
    #[arg(long)]
    once: bool,
    /// URL of the ingest side, unless the server is `matyan up`, whose query side also takes data
    #[arg(long, value_name = "URL")]
    ingest_server: Option<String>,
    #[command(flatten)]
    client: ClientFlags,
}

pub(super) async fn run(flags: FollowFlags) -> Result<(), Error> {
    if !flags.dir.is_dir() {
        let message = format!(
            "{} is not a directory: give the directory with the event files, or create it",
            flags.dir.display()
        );
        return Err(Error::Message(message));
    }
    let out = &mut Output::new(flags.client.connection.json);
    let channels = channels(&flags).await?;
    let settings = FollowSettings::new(flags.dir, flags.experiment);
    let mut follower = Follower::new(channels, settings);
    let mut totals = FollowProgress::default();
    let is_json = out.json;
    let tell = |told| report(&mut totals, told, is_json);
    let ended = if flags.once {
        follower.catch_up(tell).await
    } else {
        let stop = CancellationToken::new();
        // Before anything is published, so that a signal never ends the program in the middle.
        let interrupted = interruption()?;
        let following = follower.follow(&stop, tell);
        tokio::pin!(following);
        tokio::select! {
            ended = &mut following => ended,
            () = interrupted => {
                stop.cancel();
                following.await
            }
        }
    };
    ended.map_err(follow_error)?;
    let FollowProgress { begun, points, objects } = totals;
    let object = json!({"runs_begun": begun, "points": points, "objects": objects});
    out.result(&object, format!("{} new runs, {points} points, {objects} objects", begun.len()))?;
    Ok(())
}

/// Tells the user what happens, and counts.
fn report(totals: &mut FollowProgress, told: FollowNotice, is_json: bool) {
    match told {
        FollowNotice::Progress(progress) => {
            for run in &progress.begun {
                // With --json, the runs are in the result.
                if !is_json {
                    notice(format!("new run {run}"));
                }
            }
            totals.begun.extend(progress.begun);
            totals.points += progress.points;
            totals.objects += progress.objects;
        }
        FollowNotice::Problem(problem) => notice(problem),
        FollowNotice::Waiting(reason) => notice(format!("waiting for the server: {reason}")),
    }
}

/// The error of the command, which says what to do next.
fn follow_error(error: FollowError) -> Error {
    error.status().clone().into()
}

/// Connects to both sides of the server, in the same project.
async fn channels(flags: &FollowFlags) -> Result<Channels, Error> {
    let client = &flags.client;
    let backend = channel(client.connect().await?);
    let Some(server) = &flags.ingest_server else {
        return Ok(Channels { frontier: backend.clone(), backend });
    };
    let connection = ConnectionFlags {
        server: server.clone(),
        token_file: client.connection.token_file.clone(),
        token: client.connection.token.clone(),
        json: client.connection.json,
    };
    let project = Some(client.project_name()?.to_owned());
    let frontier = channel(ClientFlags { connection, project }.connect().await?);
    Ok(Channels { backend, frontier })
}

fn channel(connection: Connection) -> Channel {
    Channel::new(MapResponse::new(connection, |response: Response<_>| response.map(Body::new)))
}
