//! The command lines of the asking commands.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

const RUNS_EXAMPLES: &str = "\
Examples:
  matyan runs ls                                            the newest twenty
  matyan runs ls --active --json
  matyan runs search 'run.hparams.lr < 0.01 and \"best\" in run.tags'
  matyan runs search 'run.experiment == \"gpt\"' --sort duration --limit 5
  matyan runs search 'run.hparams.lr < 0.01' --explain      how it would be answered
  matyan runs show 3fd1c0
  matyan runs show 3fd1c0 --system                          and the machine, packages and git state of the run
  matyan runs archive 3fd1c0 77aa01
  matyan runs rm 3fd1c0 --yes";

const LOGS_EXAMPLES: &str = "\
Examples:
  matyan logs 3fd1c0                the last 200 terminal lines
  matyan logs 3fd1c0 -f             and what comes, until the run ends
  matyan logs 3fd1c0 --records      what the script has logged with levels
  matyan logs 3fd1c0 --tail 5 --json";

const METRICS_EXAMPLES: &str = "\
Examples:
  matyan metrics 3fd1c0                                      which there are
  matyan metrics 3fd1c0 loss                                 twenty points, spread over all
  matyan metrics 3fd1c0 loss --points 0 --json               every point
  matyan metrics 3fd1c0 loss --context '{\"subset\":\"val\"}' --plot";

const STATUS_EXAMPLES: &str = "\
Examples:
  matyan status
  matyan status --server http://tracker.lan:53800 --json

Ends with 1 if the server is not ready.";

const PARTITIONS_EXAMPLES: &str = "\
Examples:
  matyan partitions ls              how far each is written, and how far applied
  matyan partitions ls --json
  matyan partitions skip 3          when the state of partition 3 says that records were lost

Workers do not go past records that the log has lost and that were never applied, so that nobody overlooks them.";

const PARKED_EXAMPLES: &str = "\
Examples:
  matyan parked ls                          the newest, with the reason of each
  matyan parked ls --run 3fd1c0 --json
  matyan parked rm 1/3/1042/0/3fd1c0        when its cause is known and mended

A worker sets aside what it cannot apply, and goes on behind it. Most often the client that has sent it is at fault.";

const PROJECT_EXAMPLES: &str = "\
Examples:
  matyan project show
  matyan project set --name 'speech models'
  matyan project set --description '' --json       without a description";

const JOBS_EXAMPLES: &str = "\
Examples:
  matyan jobs ls                                            which there are, and when each last succeeded
  matyan jobs finish-stale --timeout-hours 48 --dry-run     what would be ended
  matyan jobs cleanup-orphan-blobs --unreferenced
  matyan jobs reindex --json

`matyan up` and control workers clean up by themselves, too, and end runs that were silent for MATYAN_FINISH_STALE_HOURS
(24; 0: never). A run that was only quiet goes on when it logs again, and a job that is cut off when it is given again.";

const BACKUP_EXAMPLES: &str = "\
Examples:
  matyan backup /backups                                     a folder matyan-backup-20260131-120000 in /backups
  matyan backup /backups --compress                          one file instead
  matyan backup . --runs 3fd1c0,77aa01 --no-blobs
  matyan backup . --experiment gpt --since 2026-01-01

A backup that was cut off goes on when the same command is given again. It ends with 3 where blobs that runs refer to are
gone from the blob store: all else is in the archive, and the lost ones are listed in runs/*/lost.jsonl.";

const RESTORE_EXAMPLES: &str = "\
Examples:
  matyan restore /backups/matyan-backup-20260131-120000
  matyan restore matyan-backup-20260131-120000.tar.gz --dry-run

What is there already stays as it is. A restore that was cut off goes on when the same command is given again.";

/// A command that asks a server.
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
    /// The query side of a server
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "MATYAN_BACKEND_URL",
        default_value = "http://127.0.0.1:53800"
    )]
    pub(super) server: String,
    /// Answer in JSON, one object a line
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
        /// Runs at most; 0: all
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Only runs that are going on
        #[arg(long)]
        active: bool,
        /// Only archived runs, which are left out otherwise
        #[arg(long)]
        archived: bool,
    },
    /// Find runs by MatyanQL
    Search(SearchFlags),
    /// Show a run: properties, params, series, artifacts
    Show {
        run: String,
        /// Also what the client has told of the system it ran on
        #[arg(long)]
        system: bool,
    },
    /// Delete runs
    Rm {
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Archive runs, or take them out of the archive
    Archive {
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
        /// Take them out
        #[arg(long)]
        undo: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SearchFlags {
    /// An expression over `run`, such as 'run.hparams.lr < 0.01'
    pub(super) query: String,
    /// Runs at most; 0: all
    #[arg(long, default_value_t = 20)]
    pub(super) limit: u32,
    /// What to sort by
    #[arg(long, value_enum, default_value_t = SortKey::Created)]
    pub(super) sort: SortKey,
    /// Lowest first
    #[arg(long)]
    pub(super) ascending: bool,
    /// Tell how the query would be answered, and do not answer it
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
    /// Go on with what comes, until the run ends
    #[arg(long, short)]
    pub(super) follow: bool,
    /// How many of the last steps to begin with
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) tail: u32,
    /// Log records instead of terminal lines
    #[arg(long)]
    pub(super) records: bool,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Debug, Args)]
#[command(after_help = METRICS_EXAMPLES)]
pub(crate) struct MetricsFlags {
    pub(super) run: String,
    /// A metric; without one, all are listed
    pub(super) name: Option<String>,
    /// Only the series of this context
    #[arg(long, value_name = "JSON", requires = "name")]
    pub(super) context: Option<String>,
    /// Draw it
    #[arg(long, requires = "name", conflicts_with = "json")]
    pub(super) plot: bool,
    /// Points at most, spread over all; 0: every point
    #[arg(long, default_value_t = 20)]
    pub(super) points: u32,
    /// Columns of a plot
    #[arg(long, env = "COLUMNS", default_value_t = 80, value_parser = clap::value_parser!(u16).range(30..=1_000))]
    pub(super) width: u16,
    /// Lines of a plot
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
    /// Tell of each how far it is applied
    Ls,
    /// Give up what was lost of one, so that it goes on
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
    /// List them, newest first
    Ls {
        /// Only those of this run
        #[arg(long)]
        run: Option<String>,
        /// Items at most; 0: all
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Forget items
    Rm {
        /// As `matyan parked ls` shows them
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
    /// Show name and description
    Show,
    /// Set what is given
    #[command(group = clap::ArgGroup::new("given").required(true).multiple(true))]
    Set {
        /// What the UI calls it
        #[arg(long, group = "given")]
        name: Option<String>,
        /// What it is about; may be empty
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
    /// Tell of each who runs it, and when it last succeeded
    Ls,
    /// Mend the indexes in place, and count experiments and tags anew
    Reindex {
        /// Only count
        #[arg(long)]
        dry_run: bool,
    },
    /// End active runs that have sent nothing for a time
    FinishStale {
        /// No data for so long
        #[arg(long, value_name = "HOURS", default_value = "24", value_parser = hours)]
        timeout_hours: f64,
        /// Only tell which
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete blobs of deleted runs
    CleanupOrphanBlobs {
        /// Deleted runs to look at; 0: all of them
        #[arg(long, value_name = "COUNT", default_value_t = 0)]
        limit: u32,
        /// Also blobs that no run refers to, if they are older than a week
        #[arg(long)]
        unreferenced: bool,
        /// Only tell which
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove tombstones of deleted runs that nothing needs any more
    CleanupTombstones {
        /// Older than this, and than the 720 hours for which clients keep what they have not sent [default: 720]
        #[arg(long, value_name = "HOURS", value_parser = hours)]
        older_than_hours: Option<f64>,
        /// Take less than 720 hours: what a client still has to send brings a run back then
        #[arg(long)]
        force: bool,
        /// Only tell which
        #[arg(long)]
        dry_run: bool,
    },
}

fn hours(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(hours) if hours.is_finite() && hours > 0.0 => Ok(hours),
        _ => Err("give hours above 0, such as 24 or 0.5".to_owned()),
    }
}

#[derive(Debug, Args)]
#[command(after_help = BACKUP_EXAMPLES)]
pub(crate) struct BackupFlags {
    /// The folder in which the archive is made
    pub(super) output: PathBuf,
    /// Only these runs
    #[arg(long, value_name = "RUN,RUN", value_delimiter = ',')]
    pub(super) runs: Vec<String>,
    /// Only the runs of this experiment
    #[arg(long, value_name = "NAME")]
    pub(super) experiment: Option<String>,
    /// Only runs made at this date or time, or later
    #[arg(long, value_name = "ISO")]
    pub(super) since: Option<String>,
    /// Leave out the contents of artifacts, images and audios
    #[arg(long)]
    pub(super) no_blobs: bool,
    /// Make one `.tar.gz` of it
    #[arg(long)]
    pub(super) compress: bool,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Debug, Args)]
#[command(after_help = RESTORE_EXAMPLES)]
pub(crate) struct RestoreFlags {
    /// An archive: its folder, or its `.tar.gz`
    pub(super) path: PathBuf,
    /// Check the archive whole, tell what would be restored, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Leave out experiments, tags, dashboards, reports and notes; runs keep links to those that are there
    #[arg(long)]
    pub(super) skip_entities: bool,
    /// Leave out the contents of artifacts, images and audios
    #[arg(long)]
    pub(super) skip_blobs: bool,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}
