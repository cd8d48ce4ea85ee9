//! Maintenance jobs of a server, started manually. Each reports its progress, what it found,
//! and its result. The server runs them only while a client listens; an interrupted job resumes
//! when it is started again.

use std::io;

use matyan_proto::admin::v1::{
    CleanupOrphanBlobsRequest, CleanupOrphanBlobsResponse, CleanupTombstonesRequest,
    CleanupTombstonesResponse, FinishStaleRequest, FinishStaleResponse, Job, JobProgress, ListJobsRequest,
    ReindexRequest, ReindexResponse, admin_service_client::AdminServiceClient,
};
use serde_json::{Value, json};
use tonic::{Response, Status, Streaming};

use super::{
    Error, client, connect,
    flags::{JobsCommand, JobsFlags},
    output::{Output, moment},
    progress::Progress,
};

/// A progress message of a job. The last message of a stream carries the result.
trait Told {
    /// What the progress counts, in the plural.
    const COUNTED: &'static str;
    /// The kind of items that are reported one by one, if any, and their key in JSON.
    const FOUND: Option<(&'static str, &'static str)>;

    fn progress(&self) -> JobProgress;
    fn found(&self) -> &[String];
    /// An additional count of this job, with its name.
    fn figure(&self) -> Option<(&'static str, u64)>;
}

macro_rules! told {
    ($($message:ident: $counted:literal, $kind:expr, $found:expr, $figure:expr;)*) => {$(
        impl Told for $message {
            const COUNTED: &'static str = $counted;
            const FOUND: Option<(&'static str, &'static str)> = $kind;

            fn progress(&self) -> JobProgress {
                self.progress.unwrap_or_default()
            }

            fn found(&self) -> &[String] {
                let found: fn(&Self) -> &[String] = $found;
                found(self)
            }

            fn figure(&self) -> Option<(&'static str, u64)> {
                let figure: fn(&Self) -> Option<(&'static str, u64)> = $figure;
                figure(self)
            }
        }
    )*};
}

told! {
    ReindexResponse: "runs", None, |_| &[], |told| Some(("rows", told.rows));
    FinishStaleResponse: "active runs", Some(("stale ones", "run_id")), |told| &told.run_ids, |_| None;
    CleanupOrphanBlobsResponse: "runs", Some(("orphan blobs", "key")), |told| &told.keys,
        |told| Some(("deleted_bytes", told.deleted_bytes));
    CleanupTombstonesResponse: "deleted runs", Some(("old tombstones", "run_id")), |told| &told.run_ids, |_| None;
}

pub(super) async fn run(flags: JobsFlags, out: &mut Output) -> Result<(), Error> {
    let mut admin = client!(AdminServiceClient, connect(&flags.client.server).await?);
    match flags.command {
        JobsCommand::Ls => {
            let listed = admin.list_jobs(ListJobsRequest {}).await?.into_inner();
            Ok(list(&listed.jobs, out)?)
        }
        JobsCommand::Reindex { dry_run } => {
            let told = admin.reindex(ReindexRequest { dry_run }).await;
            follow("reindex", dry_run, told, out).await
        }
        JobsCommand::FinishStale { timeout_hours, dry_run } => {
            let asked = FinishStaleRequest { idle_s: seconds(timeout_hours), dry_run };
            follow("finish-stale", dry_run, admin.finish_stale(asked).await, out).await
        }
        JobsCommand::CleanupOrphanBlobs { limit, unreferenced, dry_run } => {
            let asked = CleanupOrphanBlobsRequest { dry_run, limit, unreferenced };
            follow("cleanup-orphan-blobs", dry_run, admin.cleanup_orphan_blobs(asked).await, out).await
        }
        JobsCommand::CleanupTombstones { older_than_hours, force, dry_run } => {
            let older_than_s = older_than_hours.map_or(0, seconds);
            let asked = CleanupTombstonesRequest { older_than_s, dry_run, force };
            follow("cleanup-tombstones", dry_run, admin.cleanup_tombstones(asked).await, out).await
        }
    }
}

/// Hours in seconds, at least 1, as 0 means the default.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "hours are positive, and the largest saturate"
)]
fn seconds(hours: f64) -> u64 {
    ((hours * 3_600.0) as u64).max(1)
}

async fn follow<T: Told>(
    job: &str,
    is_dry: bool,
    told: Result<Response<Streaming<T>>, Status>,
    out: &mut Output,
) -> Result<(), Error> {
    let mut messages = told?.into_inner();
    let bar = Progress::new(0, T::COUNTED, out.json);
    let (mut found, mut last) = (0, (JobProgress::default(), None));
    while let Some(message) = messages.message().await? {
        last = (message.progress(), message.figure());
        bar.at(last.0.done, last.0.total);
        found += message.found().len();
        bar.aside(|| message.found().iter().try_for_each(|one| tell::<T>(one, out)))?;
    }
    bar.finish();
    let (JobProgress { done, failed, .. }, figure) = last;
    sum::<T>(job, is_dry, (done, found, failed), figure, out)?;
    match failed {
        0 => Ok(()),
        _ => Err(Error::Told(format!(
            "{failed} failed and were skipped: see the server log, then run the command again"
        ))),
    }
}

fn tell<T: Told>(one: &str, out: &mut Output) -> io::Result<()> {
    let (_, key) = T::FOUND.expect("only jobs with a kind of items report items");
    if out.json { out.object(&json!({ key: one })) } else { out.line(super::output::cell(one)) }
}

fn sum<T: Told>(
    job: &str,
    is_dry: bool,
    (done, found, failed): (u64, usize, u64),
    figure: Option<(&str, u64)>,
    out: &mut Output,
) -> io::Result<()> {
    if out.json {
        let mut sum = json!({ "job": job, "dry_run": is_dry, "done": done, "failed": failed });
        if T::FOUND.is_some() {
            sum["found"] = found.into();
        }
        if let Some((name, value)) = figure {
            sum[name] = value.into();
        }
        return out.object(&sum);
    }
    let mut told = format!("{job}: checked {done} {}", T::COUNTED);
    if let Some((what, _)) = T::FOUND {
        told += &format!(", found {found} {what}");
    }
    if let Some((name, value)) = figure {
        told += &format!(", {value} {}", name.replace('_', " "));
    }
    out.line(if is_dry { told + "; dry run, nothing was changed" } else { told })
}

fn list(jobs: &[Job], out: &mut Output) -> io::Result<()> {
    if out.json {
        return jobs.iter().try_for_each(|job| out.object(&object(job)));
    }
    let rows: Vec<_> = jobs.iter().map(row).collect();
    out.table(["JOB", "LAST SUCCESS", "RUNS SINCE", "HOLDER"], &rows)
}

fn row(Job { name, holder, started_us, last_success_us }: &Job) -> [String; 4] {
    let at = |time: &Option<i64>| time.map_or_else(|| "-".to_owned(), moment);
    let holder = if holder.is_empty() { "-".to_owned() } else { super::output::cell(holder) };
    [name.clone(), at(last_success_us), at(started_us), holder]
}

fn object(Job { name, holder, started_us, last_success_us }: &Job) -> Value {
    json!({ "job": name, "holder": holder, "started_us": started_us, "last_success_us": last_success_us })
}
