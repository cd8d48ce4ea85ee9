//! Command lines of the client commands.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

const RUNS_EXAMPLES: &str = "\
Examples:
  matyan runs ls                                            the newest twenty
  matyan runs ls --active --json
  matyan runs search 'run.hparams.lr < 0.01 and \"best\" in run.tags'
  matyan runs search 'run.experiment == \"gpt\"' --sort duration --limit 5
  matyan runs search 'run.hparams.lr < 0.01' --explain      how the query would be executed
  matyan runs show 3fd1c0
  matyan runs show 3fd1c0 --system                          also the machine, packages and git state of the run
  matyan runs archive 3fd1c0 77aa01
  matyan runs rm 3fd1c0 --yes";

const LOGS_EXAMPLES: &str = "\
Examples:
  matyan logs 3fd1c0                the last 200 terminal lines
  matyan logs 3fd1c0 -f             also new lines, until the run ends
  matyan logs 3fd1c0 --records      what the script logged, with levels
  matyan logs 3fd1c0 --tail 5 --json";

const METRICS_EXAMPLES: &str = "\
Examples:
  matyan metrics 3fd1c0                                      list the metrics
  matyan metrics 3fd1c0 loss                                 twenty points, spread over all steps
  matyan metrics 3fd1c0 loss --points 0 --json               every point
  matyan metrics 3fd1c0 loss --context '{\"subset\":\"val\"}' --plot";

const STATUS_EXAMPLES: &str = "\
Examples:
  matyan status
  matyan status --server http://tracker.lan:53800 --json

The exit code is 1 if the server is not ready.";

const PARTITIONS_EXAMPLES: &str = "\
Examples:
  matyan partitions ls              how much of each partition is written, and how much applied
  matyan partitions ls --json
  matyan partitions skip 3          when `partitions ls` shows that partition 3 lost records

Workers stop at records that were deleted from the log before they were applied, so that no loss goes unnoticed.";

const PARKED_EXAMPLES: &str = "\
Examples:
  matyan parked ls                          the newest items, with the reason for each
  matyan parked ls --run 3fd1c0 --json
  matyan parked rm 1/3/1042/0/3fd1c0        once its cause is known and fixed

A worker sets aside what it cannot apply, and continues with the next item. Most often the client that sent it is at fault.";

const PROJECT_EXAMPLES: &str = "\
Examples:
  matyan project show
  matyan project set --name 'speech models'
  matyan project set --description '' --json       clear the description";

const JOBS_EXAMPLES: &str = "\
Examples:
  matyan jobs ls                                            list the jobs, and when each last succeeded
  matyan jobs finish-stale --timeout-hours 48 --dry-run     which runs would be finished
  matyan jobs cleanup-orphan-blobs --unreferenced
  matyan jobs reindex --json

`matyan up` and control workers also clean up automatically, and finish runs that were silent for MATYAN_FINISH_STALE_HOURS
(24; 0: never). A run becomes active again when it logs more, and an interrupted job resumes when it is started again.";

const BACKUP_EXAMPLES: &str = "\
Examples:
  matyan backup /backups                                     creates a directory matyan-backup-20260131-120000 in /backups
  matyan backup /backups --compress                          one file instead
  matyan backup . --runs 3fd1c0,77aa01 --no-blobs
  matyan backup . --experiment gpt --since 2026-01-01

An interrupted backup resumes when the same command is given again. The exit code is 3 if blobs that runs refer to are
missing from the blob store: everything else is in the archive, and the missing ones are listed in runs/*/lost.jsonl.";

const RESTORE_EXAMPLES: &str = "\
Examples:
  matyan restore /backups/matyan-backup-20260131-120000
  matyan restore matyan-backup-20260131-120000.tar.gz --dry-run

Existing data is left unchanged. An interrupted restore resumes when the same command is given again.";

/// A client command: it queries a server.
#[derive(Debug)]
pub(crate) enum Command {
    Backup(BackupFlags),
    Restore(RestoreFlags),
    Runs(RunsFlags),
    Logs(LogsFlags),
    Metrics(MetricsFlags),
    Status(StatusFlags),
    Partitions(PartitionsFlags),
    Parked(ParkedFlags),
    Project(ProjectFlags),
    Jobs(JobsFlags),
}

impl Command {
    pub(super) fn client(&self) -> &ClientFlags {
        match self {
            Self::Backup(flags) => &flags.client,
            Self::Restore(flags) => &flags.client,
            Self::Runs(flags) => &flags.client,
            Self::Logs(flags) => &flags.client,
            Self::Metrics(flags) => &flags.client,
            Self::Status(flags) => &flags.client,
            Self::Partitions(flags) => &flags.client,
            Self::Parked(flags) => &flags.client,
            Self::Project(flags) => &flags.client,
            Self::Jobs(flags) => &flags.client,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ClientFlags {
    /// URL of the query side of a server
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "MATYAN_BACKEND_URL",
        default_value = "http://127.0.0.1:53800"
    )]
    pub(super) server: String,
    /// Print JSON, one object per line
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = RUNS_EXAMPLES)]
pub(crate) struct RunsFlags {
    #[command(subcommand)]
    pub(super) command: RunsCommand,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, newest first
    Ls {
        /// Maximum number of runs; 0: all
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Only active runs
        #[arg(long)]
        active: bool,
        /// Only archived runs, which are otherwise omitted
        #[arg(long)]
        archived: bool,
    },
    /// Search runs with a MatyanQL query
    Search(SearchFlags),
    /// Show a run: properties, params, series, artifacts
    Show {
        run: String,
        /// Also show what the client reported about its system
        #[arg(long)]
        system: bool,
    },
    /// Delete runs
    Rm {
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
        /// Do not ask for confirmation
        #[arg(long, short)]
        yes: bool,
    },
    /// Archive or unarchive runs
    Archive {
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
        /// Unarchive the runs
        #[arg(long)]
        undo: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SearchFlags {
    /// An expression over `run`, such as 'run.hparams.lr < 0.01'
    pub(super) query: String,
    /// Maximum number of runs; 0: all
    #[arg(long, default_value_t = 20)]
    pub(super) limit: u32,
    /// Sort key
    #[arg(long, value_enum, default_value_t = SortKey::Created)]
    pub(super) sort: SortKey,
    /// Sort in ascending order
    #[arg(long)]
    pub(super) ascending: bool,
    /// Show how the query would be executed, without executing it
    #[arg(long)]
    pub(super) explain: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SortKey {
    Created,
    Duration,
    Name,
    Experiment,
    Id,
}

#[derive(Debug, Args)]
#[command(after_help = LOGS_EXAMPLES)]
pub(crate) struct LogsFlags {
    pub(super) run: String,
    /// Print new lines as they arrive, until the run ends
    #[arg(long, short)]
    pub(super) follow: bool,
    /// Number of most recent steps to start with
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) tail: u32,
    /// Show log records instead of terminal lines
    #[arg(long)]
    pub(super) records: bool,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Debug, Args)]
#[command(after_help = METRICS_EXAMPLES)]
pub(crate) struct MetricsFlags {
    pub(super) run: String,
    /// Name of a metric; without it, all metrics are listed
    pub(super) name: Option<String>,
    /// Only the series of this context
    #[arg(long, value_name = "JSON", requires = "name")]
    pub(super) context: Option<String>,
    /// Draw a plot
    #[arg(long, requires = "name", conflicts_with = "json")]
    pub(super) plot: bool,
    /// Maximum number of points, spread over all steps; 0: every point
    #[arg(long, default_value_t = 20)]
    pub(super) points: u32,
    /// Width of a plot in columns
    #[arg(long, env = "COLUMNS", default_value_t = 80, value_parser = clap::value_parser!(u16).range(30..=1_000))]
    pub(super) width: u16,
    /// Height of a plot in lines
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(4..=200))]
    pub(super) height: u16,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Debug, Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub(crate) struct StatusFlags {
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Debug, Args)]
#[command(after_help = PARTITIONS_EXAMPLES)]
pub(crate) struct PartitionsFlags {
    #[command(subcommand)]
    pub(super) command: PartitionsCommand,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PartitionsCommand {
    /// List partitions, and how much of each is applied
    Ls,
    /// Skip the lost records of a partition, so that it can continue
    Skip { partition: u32 },
}

#[derive(Debug, Args)]
#[command(after_help = PARKED_EXAMPLES)]
pub(crate) struct ParkedFlags {
    #[command(subcommand)]
    pub(super) command: ParkedCommand,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ParkedCommand {
    /// List parked items, newest first
    Ls {
        /// Only items of this run
        #[arg(long)]
        run: Option<String>,
        /// Maximum number of items; 0: all
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Delete parked items
    Rm {
        /// Item ids, as shown by `matyan parked ls`
        #[arg(required = true, value_name = "ITEM")]
        items: Vec<String>,
    },
}

#[derive(Debug, Args)]
#[command(after_help = PROJECT_EXAMPLES)]
pub(crate) struct ProjectFlags {
    #[command(subcommand)]
    pub(super) command: ProjectCommand,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProjectCommand {
    /// Show the name and description
    Show,
    /// Change the name, the description, or both
    #[command(group = clap::ArgGroup::new("given").required(true).multiple(true))]
    Set {
        /// Name shown in the UI
        #[arg(long, group = "given")]
        name: Option<String>,
        /// Description; may be empty
        #[arg(long, group = "given")]
        description: Option<String>,
    },
}

#[derive(Debug, Args)]
#[command(after_help = JOBS_EXAMPLES)]
pub(crate) struct JobsFlags {
    #[command(subcommand)]
    pub(super) command: JobsCommand,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// List jobs, who runs each, and when it last succeeded
    Ls,
    /// Repair the indexes in place, and recount experiments and tags
    Reindex {
        /// Only count what would be repaired
        #[arg(long)]
        dry_run: bool,
    },
    /// Finish active runs that have sent nothing for some time
    FinishStale {
        /// Time without data
        #[arg(long, value_name = "HOURS", default_value = "24", value_parser = hours)]
        timeout_hours: f64,
        /// Only list the runs
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete blobs of deleted runs
    CleanupOrphanBlobs {
        /// Number of deleted runs to check; 0: all
        #[arg(long, value_name = "COUNT", default_value_t = 0)]
        limit: u32,
        /// Also delete blobs that no run refers to, if they are older than a week
        #[arg(long)]
        unreferenced: bool,
        /// Only list the blobs
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove tombstones of deleted runs that are no longer needed
    CleanupTombstones {
        /// Minimum age; at least the 720 hours for which clients keep unsent data,
        /// unless --force is given [default: 720]
        #[arg(long, value_name = "HOURS", value_parser = hours)]
        older_than_hours: Option<f64>,
        /// Allow less than 720 hours: data that a client still has to send can then
        /// recreate a run
        #[arg(long)]
        force: bool,
        /// Only list the tombstones
        #[arg(long)]
        dry_run: bool,
    },
}

fn hours(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(hours) if hours.is_finite() && hours > 0.0 => Ok(hours),
        _ => Err("must be a number of hours above 0, such as 24 or 0.5".to_owned()),
    }
}

#[derive(Debug, Args)]
#[command(after_help = BACKUP_EXAMPLES)]
pub(crate) struct BackupFlags {
    /// Directory in which the archive is created
    pub(super) output: PathBuf,
    /// Only these runs
    #[arg(long, value_name = "RUN,RUN", value_delimiter = ',')]
    pub(super) runs: Vec<String>,
    /// Only the runs of this experiment
    #[arg(long, value_name = "NAME")]
    pub(super) experiment: Option<String>,
    /// Only runs created at or after this date or time
    #[arg(long, value_name = "ISO")]
    pub(super) since: Option<String>,
    /// Omit the contents of artifacts, images and audio
    #[arg(long)]
    pub(super) no_blobs: bool,
    /// Pack the archive into one `.tar.gz`
    #[arg(long)]
    pub(super) compress: bool,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Debug, Args)]
#[command(after_help = RESTORE_EXAMPLES)]
pub(crate) struct RestoreFlags {
    /// Archive to restore: a directory or a `.tar.gz`
    pub(super) path: PathBuf,
    /// Check the whole archive and show what would be restored, without changing anything
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Omit experiments, tags, dashboards, reports and notes; runs keep their links to
    /// existing ones
    #[arg(long)]
    pub(super) skip_entities: bool,
    /// Omit the contents of artifacts, images and audio
    #[arg(long)]
    pub(super) skip_blobs: bool,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}
