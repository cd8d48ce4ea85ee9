//! The bin: its list, and the runs that leave it.

use matyan_proto::runs::v1::{
    BinnedRun, DeleteBatchRequest, ListBinRequest, RestoreBatchRequest, run_service_client::RunServiceClient,
};
use serde_json::{Value, json};

use super::edits::{print_changed, warn_of_branches};
use crate::client::{
    Error, client,
    confirmation::confirm,
    connection::Connection,
    output::{Output, cell, moment, notice},
    run_ids,
};

/// Lists the runs in the bin: for programs as they arrive, for users as a table, whose column widths depend
/// on all rows. A limit of 0 means all.
pub(super) async fn list(channel: Connection, limit: u32, out: &mut Output) -> Result<(), Error> {
    let request = ListBinRequest { limit, ..ListBinRequest::default() };
    let mut messages = client!(RunServiceClient, channel).list_bin(request).await?.into_inner();
    let mut rows = Vec::new();
    let mut is_complete = true;
    while let Some(message) = messages.message().await? {
        for run in &message.runs {
            if out.json {
                out.object(&listed_json(run))?;
            } else {
                rows.push(row(run));
            }
        }
        is_complete = message.next_cursor.is_empty();
    }
    if !out.json {
        out.table(["RUN", "NAME", "SINCE (UTC)", "DELETED AT (UTC)"], &rows)?;
    }
    if !is_complete {
        // On standard error, so that the output can still be parsed.
        notice("the bin has more runs: `matyan runs bin --limit 0` lists all");
    }
    Ok(())
}

fn listed_json(run: &BinnedRun) -> Value {
    json!({
        "run_id": id_of(run),
        "name": name_of(run),
        "binned_time": run.binned_us as f64 / 1e6,
        "purge_time": run.purged_us as f64 / 1e6,
    })
}

fn row(run: &BinnedRun) -> [String; 4] {
    [cell(id_of(run)), cell(name_of(run)), moment(run.binned_us), moment(run.purged_us)]
}

pub(super) async fn restore(channel: Connection, given: Vec<String>, out: &mut Output) -> Result<(), Error> {
    let binned = read(&channel).await?;
    let run_ids = given.into_iter().map(|given| complete(given, &binned)).collect::<Result<Vec<_>, _>>()?;
    let request = RestoreBatchRequest { run_ids: run_ids.clone() };
    let answer = client!(RunServiceClient, channel).restore_batch(request).await?.into_inner();
    print_changed(&run_ids, &answer.unknown, &answer.damaged, "restored", out)
}

pub(super) async fn purge(
    channel: Connection,
    given: Vec<String>,
    is_confirmed: bool,
    out: &mut Output,
) -> Result<(), Error> {
    let binned = read(&channel).await?;
    let mut run_ids = Vec::with_capacity(given.len());
    for given in given {
        let run_id = complete(given, &binned)?;
        // Runs that are not in the bin are found as everywhere.
        let is_binned = binned.iter().any(|run| id_of(run) == run_id);
        run_ids.push(if is_binned { run_id } else { run_ids::complete(&channel, run_id).await? });
    }
    warn_of_branches(&channel, &run_ids).await?;
    if !is_confirmed {
        confirm(&run_ids.join(", "), out)?;
    }
    let request = DeleteBatchRequest { run_ids: run_ids.clone() };
    let answer = client!(RunServiceClient, channel).delete_batch(request).await?.into_inner();
    print_changed(&run_ids, &answer.unknown, &[], "deleted", out)
}

/// All runs in the bin.
async fn read(channel: &Connection) -> Result<Vec<BinnedRun>, Error> {
    let mut client = client!(RunServiceClient, channel.clone());
    let mut messages = client.list_bin(ListBinRequest::default()).await?.into_inner();
    let mut binned = Vec::new();
    while let Some(message) = messages.message().await? {
        binned.extend(message.runs);
    }
    Ok(binned)
}

fn id_of(binned: &BinnedRun) -> &str {
    binned.run.as_ref().map_or("", |run| &run.run_id)
}

fn name_of(binned: &BinnedRun) -> &str {
    binned.run.as_ref().and_then(|run| run.props.as_ref()).map_or("", |props| &props.name)
}

/// The hash in the bin that starts with a text; the text itself if there is none.
fn complete(given: String, binned: &[BinnedRun]) -> Result<String, Error> {
    let ids = binned.iter().map(id_of).filter(|id| id.starts_with(given.as_str()));
    run_ids::choose_prefix(given.clone(), ids.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use matyan_proto::runs::v1::Run;

    use super::*;

    #[test]
    fn a_beginning_stands_for_the_only_run_in_the_bin() {
        let binned = ["3fd1c0", "3fd2c0", "77aa01"].map(|id| BinnedRun {
            run: Some(Run { run_id: id.into(), ..Run::default() }),
            ..BinnedRun::default()
        });
        let check = |given: &str, expected: Option<&str>| {
            assert_eq!(complete(given.into(), &binned).ok().as_deref(), expected, "{given}");
        };
        check("77aa", Some("77aa01"));
        check("3fd1c0", Some("3fd1c0"));
        check("beef", Some("beef"));
        check("3fd1", Some("3fd1c0"));
        check("3fd", Some("3fd"));
    }
}
