//! Items that workers could not apply: listing them with their reasons, and deleting them.

use std::collections::HashSet;

use clap::{Args, Subcommand};
use matyan_proto::admin::v1::{
    DeleteParkedItemsRequest, ListParkedItemsRequest, ListParkedItemsResponse, ParkedItem,
    admin_service_client::AdminServiceClient,
};
use serde_json::json;
use tonic::transport::Channel;

use super::{
    Error, client, connect,
    flags::ClientFlags,
    output::{Output, cell, moment},
};

const PARKED_EXAMPLES: &str = "\
Examples:
  matyan parked ls                          the newest items, with the reason for each
  matyan parked ls --run 3fd1c0 --json
  matyan parked rm 1/3/1042/0/3fd1c0        once its cause is known and fixed

A worker sets aside what it cannot apply, and continues with the next item. Most often the client that sent it is at fault.";

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
    /// List parked items, newest first
    Ls {
        /// Only items of this run
        #[arg(long)]
        run: Option<String>,
        /// Maximum number of items; 0 means all
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

pub(super) async fn run(flags: ParkedFlags) -> Result<(), Error> {
    let out = &mut Output::new(flags.client.json);
    let mut admin = client!(AdminServiceClient, connect(&flags.client.server).await?);
    match flags.command {
        ParkedCommand::Ls { run, limit } => list(admin, run.unwrap_or_default(), limit, out).await,
        ParkedCommand::Rm { items } => {
            // An id given twice counts once.
            let given = items.iter().collect::<HashSet<_>>().len() as u64;
            let request = DeleteParkedItemsRequest { ids: items };
            let deleted = admin.delete_parked_items(request).await?.into_inner().deleted;
            match out.json {
                true => out.object(&json!({"deleted": deleted}))?,
                false => out.line(format!("{deleted} deleted"))?,
            }
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

/// Lists items, newest first: for programs as they arrive, for users as a table, followed by
/// the number of items not shown.
async fn list(
    mut admin: AdminServiceClient<Channel>,
    run_id: String,
    limit: u32,
    out: &mut Output,
) -> Result<(), Error> {
    let (mut rows, mut shown, mut page_token) = (Vec::new(), 0, String::new());
    loop {
        let page_size = if limit == 0 { PAGE_SIZE } else { (limit - shown).min(PAGE_SIZE) };
        let request = ListParkedItemsRequest { run_id: run_id.clone(), page_size, page_token };
        let page = admin.list_parked_items(request).await?.into_inner();
        let ListParkedItemsResponse { items, next_page_token, total } = page;
        shown += items.len() as u32;
        for item in &items {
            match out.json {
                true => out.object(&object(item))?,
                false => rows.push(row(item)),
            }
        }
        page_token = next_page_token;
        if !page_token.is_empty() && (limit == 0 || shown < limit) {
            continue;
        }
        if !out.json {
            out.table(["ITEM", "RUN", "PARKED (UTC)", "REASON"], &rows)?;
            let more = total.saturating_sub(shown.into());
            if run_id.is_empty() && more > 0 {
                out.line(format!("and {more} older items; use --limit 0 to list all"))?;
            } else if !page_token.is_empty() {
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
