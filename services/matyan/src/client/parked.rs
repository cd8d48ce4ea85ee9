//! Items that workers could not apply, and runs in quarantine: listing them with their reasons, and
//! deleting items. With `--json`, a list has objects of one kind.

use std::collections::HashSet;

use clap::{Args, Subcommand};
use matyan_proto::admin::v1::{
    DeleteParkedItemsRequest, ListParkedItemsRequest, ListParkedItemsResponse, ListQuarantinedRunsRequest,
    ParkedItem, QuarantinedRun, admin_service_client::AdminServiceClient,
};
use serde_json::json;
use tonic::{Code, Status};

use super::{
    Error, client,
    connection::Connection,
    flags::ClientFlags,
    output::{Output, cell, moment},
    run_ids,
};

const PARKED_EXAMPLES: &str = "\
Examples:
  matyan parked ls                          runs in quarantine and the newest items, with the reason for each
  matyan parked ls --run 3fd1c0 --json
  matyan parked runs --json                 runs in quarantine
  matyan parked ls --unknown-projects       items that name a project that does not exist
  matyan parked rm 1/3/1042/0/3fd1c0        once its cause is known and fixed

A worker sets aside what it cannot apply, and continues with the next item. Most often the client that sent it is at fault.
A run in quarantine is one whose rows are damaged, that the store is too slow for, or that was parked with `matyan runs park`:
everything sent to it is set aside.";

#[derive(Debug, Args)]
#[command(after_help = PARKED_EXAMPLES)]
pub(crate) struct ParkedFlags {
    #[command(subcommand)]
    command: ParkedCommand,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ParkedCommand {
    /// List runs in quarantine, and parked items, newest first
    Ls(ListFlags),
    /// List runs in quarantine
    Runs(ListFlags),
    /// Delete parked items
    Rm {
        /// Item ids that `matyan parked ls` shows
        #[arg(required = true, value_name = "ITEM")]
        items: Vec<String>,
        /// Items that name a project that does not exist
        #[arg(long)]
        unknown_projects: bool,
    },
}

impl ParkedCommand {
    fn is_about_unknown_projects(&self) -> bool {
        match self {
            Self::Ls(flags) | Self::Runs(flags) => flags.unknown_projects,
            Self::Rm { unknown_projects, .. } => *unknown_projects,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ListFlags {
    /// Only this run, and its items
    #[arg(long)]
    run: Option<String>,
    /// Maximum number of entries in each list; 0 means all
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Only runs and items of projects that do not exist
    #[arg(long)]
    unknown_projects: bool,
}

impl ListFlags {
    fn most(&self) -> usize {
        if self.limit == 0 { usize::MAX } else { self.limit as usize }
    }

    fn quarantine_request(&self, run_id: &str) -> ListQuarantinedRunsRequest {
        ListQuarantinedRunsRequest {
            run_id: run_id.to_owned(),
            page_size: PAGE_SIZE,
            unknown_projects: self.unknown_projects,
            ..Default::default()
        }
    }
}

pub(super) async fn run(flags: ParkedFlags) -> Result<(), Error> {
    let out = &mut Output::new(flags.client.connection.json);
    // The variable MATYAN_PROJECT, which may name any project, is for other commands.
    let channel = if flags.command.is_about_unknown_projects() {
        flags.client.connection.connect().await?
    } else {
        flags.client.connect().await?
    };
    let mut admin = client!(AdminServiceClient, channel.clone());
    match flags.command {
        ParkedCommand::Ls(flags) => {
            let run_id = run_ids::complete(&channel, flags.run.clone().unwrap_or_default()).await?;
            if !out.json {
                match quarantined_runs(admin.clone(), flags.quarantine_request(&run_id), flags.most()).await {
                    // An older server does not list them.
                    Err(status) if status.code() == Code::Unimplemented => {}
                    runs => print_quarantined(&runs?, flags.most(), out)?,
                }
            }
            let ListFlags { limit, unknown_projects, .. } = flags;
            let request = ListParkedItemsRequest { run_id, unknown_projects, ..Default::default() };
            list(admin, request, limit, out).await
        }
        ParkedCommand::Runs(flags) => {
            let run_id = run_ids::complete(&channel, flags.run.clone().unwrap_or_default()).await?;
            let runs = quarantined_runs(admin, flags.quarantine_request(&run_id), flags.most()).await?;
            if runs.is_empty() && !out.json {
                out.line("no run is in quarantine")?;
            }
            print_quarantined(&runs, flags.most(), out)
        }
        ParkedCommand::Rm { items, unknown_projects } => {
            // An id given twice counts once.
            let given = items.iter().collect::<HashSet<_>>().len() as u64;
            let request = DeleteParkedItemsRequest { ids: items, unknown_projects };
            let deleted = admin.delete_parked_items(request).await?.into_inner().deleted;
            out.result(&json!({"deleted": deleted}), format!("{deleted} deleted"))?;
            if deleted < given {
                let unknown = given - deleted;
                let message =
                    format!("{unknown} of {given} items do not exist: `matyan parked ls` lists parked items");
                return Err(Error::Message(message));
            }
            Ok(())
        }
    }
}

/// Maximum number of items per page of the server.
const PAGE_SIZE: u32 = 1_000;

/// The runs in quarantine, or one more than the limit if there are more.
async fn quarantined_runs(
    mut admin: AdminServiceClient<Connection>,
    mut request: ListQuarantinedRunsRequest,
    limit: usize,
) -> Result<Vec<QuarantinedRun>, Status> {
    let mut runs = Vec::new();
    loop {
        let page = admin.list_quarantined_runs(request.clone()).await?.into_inner();
        runs.extend(page.runs);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || runs.len() > limit {
            runs.truncate(limit.saturating_add(1));
            return Ok(runs);
        }
    }
}

/// Prints runs in quarantine, if there are any, like `list`.
fn print_quarantined(runs: &[QuarantinedRun], limit: usize, out: &mut Output) -> Result<(), Error> {
    let shown = &runs[..runs.len().min(limit)];
    if out.json {
        return Ok(shown.iter().try_for_each(|run| out.object(&quarantined_object(run)))?);
    }
    if !shown.is_empty() {
        let rows: Vec<_> = shown.iter().map(quarantined_row).collect();
        out.table(["IN QUARANTINE", "SINCE (UTC)", "PARKED BYTES", "REASON"], &rows)?;
        if runs.len() > limit {
            out.line("and other runs; use --limit 0 to list all")?;
        }
        out.line("repair a run, then `matyan runs resume RUN`; or delete it: `matyan runs rm RUN`\n")?;
    }
    Ok(())
}

fn quarantined_row(run: &QuarantinedRun) -> [String; 4] {
    let state = if run.ending { "it is ending: " } else { "" };
    [
        cell(&run.run_id),
        run.since_us.map(moment).unwrap_or_default(),
        run.parked_bytes.to_string(),
        format!("{state}{}", cell(&run.reason)),
    ]
}

fn quarantined_object(run: &QuarantinedRun) -> serde_json::Value {
    json!({
        "run_id": run.run_id,
        "reason": run.reason,
        "since": run.since_us.map(|since_us| since_us as f64 / 1e6),
        "parked_bytes": run.parked_bytes,
        "ending": run.ending,
    })
}

/// Lists items, newest first: for programs as they arrive, for users as a table, followed by
/// the number of items not shown.
async fn list(
    mut admin: AdminServiceClient<Connection>,
    mut request: ListParkedItemsRequest,
    limit: u32,
    out: &mut Output,
) -> Result<(), Error> {
    let mut rows = Vec::new();
    let mut shown = 0;
    loop {
        request.page_size = if limit == 0 { PAGE_SIZE } else { (limit - shown).min(PAGE_SIZE) };
        let page = admin.list_parked_items(request.clone()).await?.into_inner();
        let ListParkedItemsResponse { items, next_page_token, total } = page;
        shown += items.len() as u32;
        for item in &items {
            if out.json {
                out.object(&object(item))?;
            } else {
                rows.push(row(item));
            }
        }
        request.page_token = next_page_token;
        if !request.page_token.is_empty() && (limit == 0 || shown < limit) {
            continue;
        }
        if !out.json {
            out.table(["ITEM", "RUN", "PARKED (UTC)", "REASON"], &rows)?;
            let more = total.saturating_sub(shown.into());
            if request.run_id.is_empty() && more > 0 {
                out.line(format!("and {more} older items; use --limit 0 to list all"))?;
            } else if !request.page_token.is_empty() {
                out.line("and older items; use --limit 0 to list all")?;
            }
        }
        return Ok(());
    }
}

fn row(item: &ParkedItem) -> [String; 4] {
    [cell(&item.id), cell(&item.run_id), moment(item.parked_us), cell(&item.reason)]
}

fn object(item: &ParkedItem) -> serde_json::Value {
    let at = item.position.unwrap_or_default();
    json!({
        "id": item.id,
        "run_id": item.run_id,
        "log": at.log,
        "partition": at.partition,
        "offset": at.offset,
        "item": item.item,
        "reason": item.reason,
        "time": item.parked_us as f64 / 1e6,
        "bytes": item.content.len(),
    })
}
