//! Maintenance jobs of a server, started manually. Each job reports its progress, its findings,
//! and its result. The server runs a job only while a client listens; an interrupted job resumes
//! the next time it is started.

use std::io;

use clap::{Args, Subcommand};
use matyan_proto::admin::v1::{
    CleanupOrphanBlobsRequest, CleanupOrphanBlobsResponse, CleanupTombstonesRequest,
    CleanupTombstonesResponse, FinishStaleRequest, FinishStaleResponse, Job, JobProgress, ListJobsRequest,
    ReindexRequest, ReindexResponse, admin_service_client::AdminServiceClient,
};
use serde_json::{Value, json};
use tonic::{Response, Status, Streaming};

use super::{
    Error, client,
    flags::ClientFlags,
    output::{Output, moment},
    progress::Progress,
    projects::shown_name,
};

/// A progress message of a job. The last message of a stream carries the result.
trait JobReport {
    /// Unit in which progress is counted, in the plural.
    const UNIT: &'static str;
    /// The kind of items that are reported one by one, if any, and their key in JSON.
    const ITEMS: Option<(&'static str, &'static str)>;

    fn progress(&self) -> JobProgress;
    fn items(&self) -> &[String];
    /// Additional counts of this job, with their names.
    fn extra_counts(&self) -> Vec<(&'static str, u64)>;
}

macro_rules! job_reports {
    ($($message:ident: $counted:literal, $kind:expr, $items:expr, $counts:expr;)*) => {$(
        impl JobReport for $message {
            const UNIT: &'static str = $counted;
            const ITEMS: Option<(&'static str, &'static str)> = $kind;

            fn progress(&self) -> JobProgress {
                self.progress.unwrap_or_default()
            }

            fn items(&self) -> &[String] {
                let items: fn(&Self) -> &[String] = $items;
                items(self)
            }

            fn extra_counts(&self) -> Vec<(&'static str, u64)> {
                let counts: fn(&Self) -> Vec<(&'static str, u64)> = $counts;
                counts(self)
            }
        }
    )*};
}

job_reports! {
    ReindexResponse: "runs", None, |_| &[],
        |report| vec![("rows", report.rows), ("unchecked_counters", report.unchecked_counters)];
    FinishStaleResponse: "active runs", Some(("stale runs", "run_id")), |report| &report.run_ids, |_| Vec::new();
    CleanupOrphanBlobsResponse: "runs", Some(("orphaned blobs", "key")), |report| &report.keys,
        |report| vec![("deleted_bytes", report.deleted_bytes)];
    CleanupTombstonesResponse: "deleted runs", Some(("old tombstones", "run_id")), |report| &report.run_ids,
        |_| Vec::new();
}

const JOBS_EXAMPLES: &str = "\
Examples:
  matyan jobs ls                                            list the jobs, and when each last succeeded
  matyan jobs finish-stale --timeout-hours 48 --dry-run     which runs would be finished
  matyan jobs cleanup-orphan-blobs --unreferenced
  matyan jobs reindex --json

`matyan up` and control workers also clean up automatically, and finish runs that were silent for MATYAN_FINISH_STALE_HOURS
(24; 0: never). A run becomes active again when it logs more, and an interrupted job resumes when it is started again.";

#[derive(Debug, Args)]
#[command(after_help = JOBS_EXAMPLES)]
pub(crate) struct JobsFlags {
    #[command(subcommand)]
    command: JobsCommand,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// List jobs, who runs each, and when it last succeeded
    Ls {
        /// List the jobs of every project
        #[arg(long)]
        all_projects: bool,
    },
    /// Repair the indexes in place, recount experiments and tags, and collect params and values of metrics again
    ///
    /// The counters of the project are not recounted: its runs, series, points and bytes, which `matyan projects usage`
    /// shows and quotas limit. Only a restore of an archive into an empty store counts them again.
    Reindex {
        /// Only count the rows to repair
        #[arg(long)]
        dry_run: bool,
    },
    /// Finish active runs that have not sent any data for some time
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
        /// Number of deleted runs to check; 0 means all
        #[arg(long, value_name = "COUNT", default_value_t = 0)]
        limit: u32,
        /// Also delete blobs that no run refers to, if they are older than a month
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

pub(super) async fn run(flags: JobsFlags) -> Result<(), Error> {
    let out = &mut Output::new(flags.client.connection.json);
    let mut admin = client!(AdminServiceClient, flags.client.connect().await?);
    match flags.command {
        JobsCommand::Ls { all_projects } => {
            let listed = admin.list_jobs(ListJobsRequest { all_projects }).await?.into_inner();
            Ok(list(&listed.jobs, all_projects, out)?)
        }
        JobsCommand::Reindex { dry_run } => {
            let reports = admin.reindex(ReindexRequest { dry_run }).await;
            follow("reindex", dry_run, reports, out).await
        }
        JobsCommand::FinishStale { timeout_hours, dry_run } => {
            let request = FinishStaleRequest { idle_s: seconds(timeout_hours), dry_run };
            follow("finish-stale", dry_run, admin.finish_stale(request).await, out).await
        }
        JobsCommand::CleanupOrphanBlobs { limit, unreferenced, dry_run } => {
            let request = CleanupOrphanBlobsRequest { dry_run, limit, unreferenced };
            follow("cleanup-orphan-blobs", dry_run, admin.cleanup_orphan_blobs(request).await, out).await
        }
        JobsCommand::CleanupTombstones { older_than_hours, force, dry_run } => {
            let older_than_s = older_than_hours.map_or(0, seconds);
            let request = CleanupTombstonesRequest { older_than_s, dry_run, force };
            follow("cleanup-tombstones", dry_run, admin.cleanup_tombstones(request).await, out).await
        }
    }
}

fn hours(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(hours) if hours.is_finite() && hours > 0.0 => Ok(hours),
        _ => Err("must be a number of hours above 0, such as 24 or 0.5".to_owned()),
    }
}

/// Hours in seconds, at least 1, because 0 means the default.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "hours are positive, and the largest saturate"
)]
fn seconds(hours: f64) -> u64 {
    ((hours * 3_600.0) as u64).max(1)
}

async fn follow<T: JobReport>(
    job: &str,
    is_dry: bool,
    reports: Result<Response<Streaming<T>>, Status>,
    out: &mut Output,
) -> Result<(), Error> {
    let mut messages = reports?.into_inner();
    let bar = Progress::new(0, T::UNIT, out.json);
    let mut found = 0;
    let mut last = (JobProgress::default(), Vec::new());
    while let Some(message) = messages.message().await? {
        // Only the last message has the result.
        last = (message.progress(), message.extra_counts());
        bar.set(last.0.done, last.0.total);
        found += message.items().len();
        bar.suspend(|| message.items().iter().try_for_each(|item| print_item::<T>(item, out)))?;
    }
    bar.finish();
    let (JobProgress { done, failed, .. }, extra_counts) = last;
    print_summary::<T>(job, is_dry, (done, found, failed), &extra_counts, out)?;
    match failed {
        0 => Ok(()),
        _ => Err(Error::Message(format!(
            "{failed} failed and were skipped: see the server log, then run the command again"
        ))),
    }
}

fn print_item<T: JobReport>(item: &str, out: &mut Output) -> io::Result<()> {
    let (_, key) = T::ITEMS.expect("only jobs with a kind of items report items");
    if out.json { out.object(&json!({ key: item })) } else { out.line(super::output::cell(item)) }
}

fn print_summary<T: JobReport>(
    job: &str,
    is_dry: bool,
    (done, found, failed): (u64, usize, u64),
    extra_counts: &[(&str, u64)],
    out: &mut Output,
) -> io::Result<()> {
    if out.json {
        let mut summary = json!({ "job": job, "dry_run": is_dry, "done": done, "failed": failed });
        if T::ITEMS.is_some() {
            summary["found"] = found.into();
        }
        for (name, value) in extra_counts {
            summary[*name] = (*value).into();
        }
        return out.object(&summary);
    }
    let mut text = format!("{job}: checked {done} {}", T::UNIT);
    if let Some((what, _)) = T::ITEMS {
        text += &format!(", found {found} {what}");
    }
    for (name, value) in extra_counts {
        text += &format!(", {value} {}", name.replace('_', " "));
    }
    out.line(if is_dry { text + "; dry run, nothing was changed" } else { text })
}

fn list(jobs: &[Job], all_projects: bool, out: &mut Output) -> io::Result<()> {
    if out.json {
        return jobs.iter().try_for_each(|job| out.object(&object(job)));
    }
    let rows = jobs.iter().map(row);
    if all_projects {
        let rows: Vec<_> = jobs.iter().zip(rows).map(with_project).collect();
        return out.table(["PROJECT", "JOB", "LAST SUCCESS", "RUNS SINCE", "HOLDER"], &rows);
    }
    out.table(["JOB", "LAST SUCCESS", "RUNS SINCE", "HOLDER"], &rows.collect::<Vec<_>>())
}

fn with_project((job, [name, success, since, holder]): (&Job, [String; 4])) -> [String; 5] {
    [shown_name(&job.project), name, success, since, holder]
}

fn row(Job { name, holder, started_us, last_success_us, .. }: &Job) -> [String; 4] {
    let holder = if holder.is_empty() { "-".to_owned() } else { super::output::cell(holder) };
    [name.clone(), moment_or_dash(*last_success_us), moment_or_dash(*started_us), holder]
}

fn moment_or_dash(time_us: Option<i64>) -> String {
    time_us.map_or_else(|| "-".to_owned(), moment)
}

fn object(Job { name, holder, started_us, last_success_us, project }: &Job) -> Value {
    json!({
        "job": name, "holder": holder, "started_us": started_us, "last_success_us": last_success_us,
        "project": project,
    })
}
