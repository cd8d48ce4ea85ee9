//! Command line of `matyan runs`.

use clap::{Args, Subcommand, ValueEnum};

use crate::client::flags::ClientFlags;

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
  matyan runs tag 3fd1c0 77aa01 --tag best
  matyan runs move 3fd1c0 77aa01 --to gpt
  matyan runs rm 3fd1c0 --yes                               into the bin, for a week
  matyan runs bin                                           what is there
  matyan runs restore 3fd1c0                                back from the bin
  matyan runs purge 3fd1c0 --yes                            deleted for good
  matyan runs park 3fd1c0 --reason 'floods the server'      keep what it sends for later
  matyan runs resume 3fd1c0                                 apply what was kept, then continue";

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
        /// Maximum number of runs; 0 means all
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
        /// Hash of the run, or at least its first four characters
        run: String,
        /// Also show the system that the client reported
        #[arg(long)]
        system: bool,
    },
    /// Move runs to the bin, where they are deleted after a week
    Rm {
        /// Hashes of the runs, or at least their first four characters
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
        /// Do not ask for confirmation
        #[arg(long, short)]
        yes: bool,
    },
    /// List the runs in the bin, the most recently deleted first
    Bin {
        /// Maximum number of runs; 0 means all
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Bring runs back from the bin
    Restore {
        /// Hashes of the runs, or at least their first four characters
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
    },
    /// Delete runs for good, whether they are in the bin or not
    Purge {
        /// Hashes of the runs, or at least their first four characters
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
        /// Do not ask for confirmation
        #[arg(long, short)]
        yes: bool,
    },
    /// Put a run in quarantine: its records are parked instead of applied. Workers do this themselves if
    /// the rows of a run are damaged
    Park {
        /// Hash of the run, or at least its first four characters
        run: String,
        /// Text shown with each of its parked records
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// End the quarantine of a run: its parked records are applied in order, then its later records
    Resume {
        /// Hash of the run, or at least its first four characters
        run: String,
    },
    /// Archive or unarchive runs
    Archive {
        /// Hashes of the runs, or at least their first four characters
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
        /// Unarchive the runs
        #[arg(long)]
        undo: bool,
    },
    /// Add a tag to runs
    Tag {
        /// Hashes of the runs, or at least their first four characters
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
        /// Name of the tag, which is created if missing
        #[arg(long, value_name = "NAME")]
        tag: String,
    },
    /// Remove a tag from runs
    Untag {
        /// Hashes of the runs, or at least their first four characters
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
        /// Name of the tag
        #[arg(long, value_name = "NAME")]
        tag: String,
    },
    /// Move runs to an experiment, or out of their experiments
    Move {
        /// Hashes of the runs, or at least their first four characters
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
        #[command(flatten)]
        target: MoveTarget,
    },
}

impl RunsCommand {
    /// The runs that the user names.
    pub(super) fn runs_mut(&mut self) -> &mut [String] {
        match self {
            // Prefixes of hashes in the bin are completed by its list.
            Self::Ls { .. }
            | Self::Search(_)
            | Self::Bin { .. }
            | Self::Restore { .. }
            | Self::Purge { .. } => &mut [],
            Self::Show { run, .. } | Self::Park { run, .. } | Self::Resume { run } => {
                std::slice::from_mut(run)
            }
            Self::Rm { runs, .. }
            | Self::Archive { runs, .. }
            | Self::Tag { runs, .. }
            | Self::Untag { runs, .. }
            | Self::Move { runs, .. } => runs,
        }
    }
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct MoveTarget {
    /// Name of the experiment, which is created if missing
    #[arg(long, value_name = "EXPERIMENT")]
    pub(super) to: Option<String>,
    /// The runs then have no experiment
    #[arg(long)]
    pub(super) none: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SearchFlags {
    /// An expression over `run`, such as 'run.hparams.lr < 0.01'
    pub(super) query: String,
    /// Maximum number of runs; 0 means all
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
    Ended,
    Duration,
    Outcome,
    Name,
    Experiment,
    Tags,
    Id,
}
