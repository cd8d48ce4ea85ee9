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
    let binned = read_for(&channel, &given).await?;
    let run_ids =
        given.into_iter().map(|given| choose(given, &binned, Vec::new())).collect::<Result<Vec<_>, _>>()?;
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
    let binned = read_for(&channel, &given).await?;
    let mut run_ids = Vec::with_capacity(given.len());
    for given in given {
        // A run that is not in the bin is deleted, too.
        let visible = run_ids::find_starting_with(&channel, &given).await?;
        run_ids.push(choose(given, &binned, visible)?);
    }
    warn_of_branches(&channel, &run_ids).await?;
    if !is_confirmed {
        confirm(&run_ids.join(", "), out)?;
    }
    let request = DeleteBatchRequest { run_ids: run_ids.clone() };
    let answer = client!(RunServiceClient, channel).delete_batch(request).await?.into_inner();
    print_changed(&run_ids, &answer.unknown, &[], "deleted", out)
}

/// The runs in the bin, if they are needed to complete some hashes.
async fn read_for(channel: &Connection, given: &[String]) -> Result<Vec<BinnedRun>, Error> {
    if given.iter().any(|text| run_ids::is_prefix(text)) { read(channel).await } else { Ok(Vec::new()) }
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

/// The only hash in the bin, or of some other runs, that starts with a text; the text itself if there is none.
fn choose(given: String, binned: &[BinnedRun], mut others: Vec<String>) -> Result<String, Error> {
    let ids = binned.iter().map(id_of).filter(|id| id.starts_with(given.as_str()));
    others.extend(ids.map(str::to_owned));
    run_ids::choose_prefix(given, others)
}

#[cfg(test)]
mod tests {
    use matyan_proto::runs::v1::Run;

    use super::*;

    #[test]
    fn a_prefix_identifies_the_only_run_in_the_bin() {
        let binned = ["3fd1c0", "3fd2c0", "77aa01"].map(|id| BinnedRun {
            run: Some(Run { run_id: id.into(), ..Run::default() }),
            ..BinnedRun::default()
        });
        let check = |given: &str, visible: &[&str], expected: Option<&str>| {
            let visible = visible.iter().map(|&id| id.to_owned()).collect();
            let chosen = choose(given.into(), &binned, visible);
            assert_eq!(chosen.ok().as_deref(), expected, "{given}");
        };
        check("77aa", &[], Some("77aa01"));
        check("3fd1c0", &[], Some("3fd1c0"));
        check("beef", &[], Some("beef"));
        check("3fd1", &[], Some("3fd1c0"));
        check("3fd", &[], Some("3fd"));
        // A visible run begins with the same characters.
        check("77aa", &["77aa02"], None);
        check("77aa01", &["77aa0123"], Some("77aa01"));
        check("beef", &["beef01"], Some("beef01"));
    }
}
