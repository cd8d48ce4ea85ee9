//! Commands that query a running server over its gRPC API: for users and scripts, without a
//! browser. They have no access to stores or logs. Results go to standard output as tables or
//! as JSON lines; errors go to standard error, each with the next step.

pub(crate) mod access;
mod backup;
mod confirmation;
mod connection;
mod export;
mod flags;
#[cfg(feature = "tensorboard")]
mod follow;
mod interruption;
mod jobs;
mod login;
mod logs;
mod metrics;
mod output;
mod parked;
mod partitions;
mod plot;
mod progress;
mod project;
mod projects;
mod publish;
mod restore;
mod run_ids;
mod runs;
mod secret_prompt;
mod series;
mod status;

use std::{io, path::PathBuf};

use clap::Subcommand;
use matyan_proto::limits::MESSAGE_BYTES;
use tokio::runtime::Builder;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::endpoint::EndpointError;
pub(crate) use output::Output;
pub(crate) use progress::Progress;

const FAILED: u8 = 1;
/// Exit code for a command that completed, although some data had already been lost.
const INCOMPLETE: u8 = 3;

// A command that queries a running server. To add one, write a module with its flags and its
// `run`, and list it below as a module, as a variant, and in `run`. This is not a doc comment,
// because clap would use that as the program's description.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// List, search, show, archive and delete runs
    Runs(runs::RunsFlags),
    /// Show the terminal output or the log records of a run
    Logs(logs::LogsFlags),
    /// Show metrics of a run, as numbers or as a plot
    Metrics(metrics::MetricsFlags),
    /// Rename or delete series of a run, or delete some of their steps
    Series(series::SeriesFlags),
    /// Export metrics or runs as Parquet, Arrow or CSV
    Export(export::ExportFlags),
    /// Write a copy of a run that any web server can serve, without a Matyan server
    Publish(publish::PublishFlags),
    /// Back up a project to an archive
    Backup(backup::BackupFlags),
    /// Restore an archive to a server
    Restore(restore::RestoreFlags),
    /// Publish event files of TensorBoard as they grow
    #[cfg(feature = "tensorboard")]
    Follow(follow::FollowFlags),
    /// Show whether a server is up and ready
    Status(status::StatusFlags),
    /// Show how much of the log is applied, or skip lost records of a partition
    Partitions(partitions::PartitionsFlags),
    /// List or delete items that could not be applied, with the reason for each
    Parked(parked::ParkedFlags),
    /// List, create, rename and delete projects, and show how much space each uses
    Projects(projects::ProjectsFlags),
    /// Show or change the name and description of one project
    Project(project::ProjectFlags),
    /// List background jobs, or start one manually
    Jobs(jobs::JobsFlags),
    /// Grant and revoke roles, and create tokens
    Access(access::AccessFlags),
    /// Get a token for a server by a code that you type in a browser, and keep it for later commands and scripts
    Login(login::LoginFlags),
    /// End or forget the tokens that are kept for a server
    Logout(login::LogoutFlags),
    /// Show the principal of the token in use, and its roles
    Whoami(access::WhoamiFlags),
}

impl ClientCommand {
    /// True for the command that needs no server, but the store.
    pub(crate) fn is_recovery(&self) -> bool {
        matches!(self, Self::Access(flags) if flags.is_recovery())
    }
}

/// The reason why a command failed, and the next step.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to start the async runtime")]
    SetUp(#[source] io::Error),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("failed to read the token in {}: check the path after --token-file", path.display())]
    TokenFile { path: PathBuf, source: io::Error },
    #[error(
        "no server is responding at {server}: start one with `matyan up`, or specify another with --server"
    )]
    Unreachable { server: String, source: tonic::transport::Error },
    #[error(transparent)]
    KeptTokens(#[from] matyan_kept_tokens::Error),
    #[error("{0}")]
    Message(String),
    #[error(transparent)]
    Archive(#[from] matyan_archive::Error),
    #[error(
        "{lost} blobs that runs refer to are missing from the blob store, and therefore from the archive, which is otherwise \
         complete: look for them where the store is kept, or keep an older backup that contains them"
    )]
    Incomplete { lost: u64 },
    #[error(
        "{} runs were not restored, because other runs with their names exist on the server: {}. A worker that read the rest of the \
         log before the restore creates such runs: delete them there, or restore into an empty store without workers \
         (`matyan backend`)",
        runs.len(),
        runs.join(" ")
    )]
    RunsNotRestored { runs: Vec<String> },
    #[error(
        "the backup in {} is complete and can be restored, but packing it into one file failed",
        root.display()
    )]
    Unpacked { root: PathBuf, source: matyan_archive::Error },
    #[error("failed to write the output")]
    Output(#[from] io::Error),
}

impl Error {
    /// True if the reader of the output has closed it, like `head`.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Exit code for the shell: it distinguishes failures from incomplete results.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Incomplete { .. } | Self::RunsNotRestored { .. } => INCOMPLETE,
            _ => FAILED,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let message = status.message();
        Self::Message(match status.code() {
            Code::Unavailable | Code::DeadlineExceeded => {
                format!(
                    "the server cannot answer now ({message}): run `matyan status` to see why, or try again"
                )
            }
            Code::Unimplemented => {
                format!(
                    "the server does not support this ({message}): run `matyan status` to see its version"
                )
            }
            // A server with access control gives its own hint.
            Code::NotFound if is_about_project(&status) && !message.contains("matyan projects") => {
                format!(
                    "{message}: `matyan projects list` lists all projects, and `matyan projects create` creates one"
                )
            }
            Code::Unauthenticated => format!("{message}, or sign in with `matyan login`"),
            Code::PermissionDenied
            | Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::ResourceExhausted
            | Code::AlreadyExists
            | Code::NotFound => message.to_owned(),
            code => format!("the server failed ({code:?}: {message}): see its log"),
        })
    }
}

/// A failure that the caller may handle before it becomes an error of the command.
#[derive(Debug)]
enum Failure {
    Server(Status),
    Client(Error),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Server(status)
    }
}

impl From<matyan_archive::Error> for Failure {
    fn from(error: matyan_archive::Error) -> Self {
        Self::Client(error.into())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Client(error.into())
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Server(status) => status.into(),
            Failure::Client(error) => error,
        }
    }
}

/// Whether a project does not exist, rather than something in it.
fn is_about_project(status: &Status) -> bool {
    let details = status.get_error_details();
    details.error_info().is_some_and(|info| info.metadata.get("resource").is_some_and(|it| it == "project"))
}

/// Converts a status to an error, with a hint if the run does not exist.
fn run_error(run_id: &str) -> impl Fn(Status) -> Error + '_ {
    move |status| match status.code() {
        Code::NotFound if !is_about_project(&status) => {
            let hint = run_ids::hint(run_id);
            Error::Message(format!("run `{run_id}` does not exist{hint}: `matyan runs ls` lists all runs"))
        }
        _ => status.into(),
    }
}

/// Runs a client command.
pub(crate) fn run(command: ClientCommand) -> Result<(), Error> {
    // One thread is enough: a command mostly waits for the server.
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::SetUp)?;
    runtime.block_on(async {
        match command {
            ClientCommand::Runs(flags) => runs::run(flags).await,
            ClientCommand::Logs(flags) => logs::run(flags).await,
            ClientCommand::Metrics(flags) => metrics::run(flags).await,
            ClientCommand::Series(flags) => series::run(flags).await,
            ClientCommand::Export(flags) => export::run(flags).await,
            ClientCommand::Publish(flags) => publish::run(flags).await,
            ClientCommand::Backup(flags) => backup::run(flags).await,
            ClientCommand::Restore(flags) => restore::run(flags).await,
            #[cfg(feature = "tensorboard")]
            ClientCommand::Follow(flags) => follow::run(flags).await,
            ClientCommand::Status(flags) => status::run(flags).await,
            ClientCommand::Partitions(flags) => partitions::run(flags).await,
            ClientCommand::Parked(flags) => parked::run(flags).await,
            ClientCommand::Projects(flags) => projects::run(flags).await,
            ClientCommand::Project(flags) => project::run(flags).await,
            ClientCommand::Jobs(flags) => jobs::run(flags).await,
            ClientCommand::Access(flags) => access::run(flags).await,
            ClientCommand::Login(flags) => login::run_login(flags).await,
            ClientCommand::Logout(flags) => login::run_logout(flags).await,
            ClientCommand::Whoami(flags) => access::run_whoami(flags).await,
        }
    })
}

/// Creates a generated client on a connection, with the message size limit of the system.
macro_rules! client {
    ($client:ident, $connection:expr) => {
        $client::new($connection).max_decoding_message_size($crate::client::MESSAGE_LIMIT)
    };
}
use client;

const MESSAGE_LIMIT: usize = MESSAGE_BYTES;
