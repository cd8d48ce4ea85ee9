//! Items that workers could not apply: listing them with their reasons, and deleting them.

use std::collections::HashSet;

use matyan_proto::admin::v1::{
    DeleteParkedItemsRequest, ListParkedItemsRequest, ListParkedItemsResponse, ParkedItem,
    admin_service_client::AdminServiceClient,
};
use serde_json::json;
use tonic::transport::Channel;

use super::{
    Error, client, connect,
    flags::{ParkedCommand, ParkedFlags},
    output::{Output, cell, moment},
};

pub(super) async fn run(flags: ParkedFlags, out: &mut Output) -> Result<(), Error> {
    let mut admin = client!(AdminServiceClient, connect(&flags.client.server).await?);
    match flags.command {
        ParkedCommand::Ls { run, limit } => list(admin, run.unwrap_or_default(), limit, out).await,
        ParkedCommand::Rm { items } => {
            let given = items.iter().collect::<HashSet<_>>().len() as u64;
            let request = DeleteParkedItemsRequest { ids: items };
            let deleted = admin.delete_parked_items(request).await?.into_inner().deleted;
            match out.json {
                true => out.object(&json!({"deleted": deleted}))?,
                false => out.line(format!("{deleted} deleted"))?,
            }
            if deleted < given {
                let unknown = given - deleted;
                let told = format!("{unknown} of {given} items do not exist: `matyan parked ls` lists parked items");
                return Err(Error::Told(told));
            }
            Ok(())
        }
    }
}

/// Maximum number of items per page of the server.
const PAGE: u32 = 1_000;

/// Lists items, newest first: for programs as they arrive; for people as a table, followed by
/// the number of items not shown.
async fn list(
    mut admin: AdminServiceClient<Channel>,
    run_id: String,
    limit: u32,
    out: &mut Output,
) -> Result<(), Error> {
    let (mut rows, mut shown, mut page_token) = (Vec::new(), 0, String::new());
    loop {
        let left = if limit == 0 { PAGE } else { (limit - shown).min(PAGE) };
        let request = ListParkedItemsRequest { run_id: run_id.clone(), page_size: left, page_token };
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
