//! Changes of many runs at once.

use matyan_proto::runs::v1::{
    AddTagBatchRequest, ArchiveBatchRequest, BinBatchRequest, MoveBatchRequest, RemoveTagBatchRequest,
    add_tag_batch_request, move_batch_request::Experiment, remove_tag_batch_request,
    run_service_client::RunServiceClient,
};
use serde_json::json;

use crate::client::{
    Error, client,
    confirmation::confirm_reversible,
    connection::Connection,
    output::{Output, cell, notice},
    run_ids,
};

/// Runs that one question for their branches names, so that its query stays short.
const ASKED_RUNS: usize = 100;
/// Maximum number of branches that are listed.
const MOST_BRANCHES: u32 = 10;

pub(super) async fn remove(
    channel: Connection,
    run_ids: Vec<String>,
    is_confirmed: bool,
    out: &mut Output,
) -> Result<(), Error> {
    warn_of_branches(&channel, &run_ids).await?;
    if !is_confirmed {
        confirm_reversible(&run_ids.join(", "), out)?;
    }
    let request = BinBatchRequest { run_ids: run_ids.clone() };
    let answer = client!(RunServiceClient, channel).bin_batch(request).await?.into_inner();
    if answer.unknown.len() + answer.damaged.len() < run_ids.len() {
        notice(
            "for a week, `matyan runs restore` brings them back; `matyan runs purge` deletes them for good",
        );
    }
    print_changed(&run_ids, &answer.unknown, &answer.damaged, "moved to the bin", out)
}

/// Names the runs that branch from the runs to delete, on standard error.
pub(super) async fn warn_of_branches(channel: &Connection, run_ids: &[String]) -> Result<(), Error> {
    for parents in run_ids.chunks(ASKED_RUNS) {
        let query =
            format!("run.parent in {} and run.archived in (True, False)", serde_json::Value::from(parents));
        // Branches that are deleted too need no warning.
        let most = MOST_BRANCHES + parents.len() as u32;
        let mut branches = run_ids::find(channel, &query, most).await?;
        branches.retain(|branch| !run_ids.contains(branch));
        if branches.is_empty() {
            continue;
        }
        let more = if branches.len() > MOST_BRANCHES as usize { ", and more" } else { "" };
        branches.truncate(MOST_BRANCHES as usize);
        let branches = branches.iter().map(|branch| cell(branch)).collect::<Vec<_>>().join(", ");
        notice(format!(
            "warning: branches of these runs lose the points that they share with them: {branches}{more}"
        ));
    }
    Ok(())
}

pub(super) async fn archive(
    channel: Connection,
    run_ids: Vec<String>,
    archived: bool,
    out: &mut Output,
) -> Result<(), Error> {
    let request = ArchiveBatchRequest { run_ids: run_ids.clone(), archived };
    let answer = client!(RunServiceClient, channel).archive_batch(request).await?.into_inner();
    let done = if archived { "archived" } else { "unarchived" };
    print_changed(&run_ids, &answer.unknown, &answer.damaged, done, out)
}

pub(super) async fn tag(
    channel: Connection,
    run_ids: Vec<String>,
    name: String,
    out: &mut Output,
) -> Result<(), Error> {
    let tag = Some(add_tag_batch_request::Tag::TagName(name));
    let request = AddTagBatchRequest { run_ids: run_ids.clone(), tag };
    let answer = client!(RunServiceClient, channel).add_tag_batch(request).await?.into_inner();
    print_changed(&run_ids, &answer.unknown, &answer.damaged, "tagged", out)
}

pub(super) async fn untag(
    channel: Connection,
    run_ids: Vec<String>,
    name: String,
    out: &mut Output,
) -> Result<(), Error> {
    let tag = Some(remove_tag_batch_request::Tag::TagName(name));
    let request = RemoveTagBatchRequest { run_ids: run_ids.clone(), tag };
    let answer = client!(RunServiceClient, channel).remove_tag_batch(request).await?.into_inner();
    print_changed(&run_ids, &answer.unknown, &answer.damaged, "untagged", out)
}

/// Moves runs to an experiment by its name, or out of their experiments.
pub(super) async fn move_to(
    channel: Connection,
    run_ids: Vec<String>,
    name: Option<String>,
    out: &mut Output,
) -> Result<(), Error> {
    let experiment = Some(name.map_or(Experiment::NoExperiment(true), Experiment::ExperimentName));
    let request = MoveBatchRequest { run_ids: run_ids.clone(), experiment };
    let answer = client!(RunServiceClient, channel).move_batch(request).await?.into_inner();
    print_changed(&run_ids, &answer.unknown, &answer.damaged, "moved", out)
}

/// Prints each run that was changed. Unknown and damaged runs make the command fail.
pub(super) fn print_changed(
    run_ids: &[String],
    unknown: &[String],
    damaged: &[String],
    done: &str,
    out: &mut Output,
) -> Result<(), Error> {
    for run_id in run_ids.iter().filter(|run_id| !unknown.contains(run_id) && !damaged.contains(run_id)) {
        out.result(&json!({"run_id": run_id, "status": done}), format!("{}  {done}", cell(run_id)))?;
    }
    let mut problems = Vec::new();
    if !unknown.is_empty() {
        let runs = unknown.join("`, `");
        problems.push(format!("run `{runs}` does not exist: `matyan runs ls` lists all runs"));
    }
    if !damaged.is_empty() {
        let runs = damaged.join("`, `");
        problems.push(format!("run `{runs}` is damaged and was left as it is: restore it from a backup"));
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::Message(problems.join("; "))) }
}
