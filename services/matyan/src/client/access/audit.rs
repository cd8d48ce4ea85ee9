//! The audit log. Entries are printed page by page, so that a long log needs little memory.

use std::time::Duration;

use clap::Args;
use matyan_proto::access::v1::{
    AuditEntry, AuditFilter, ListAllEntriesRequest, ListEntriesRequest,
    audit_service_client::AuditServiceClient,
};
use serde_json::{Value, json};

use super::place;
use crate::client::{
    Error,
    connection::Connection,
    output::{Output, cell, moment, notice, now_us},
};

const PAGE_SIZE: u32 = 500;

const AUDIT_EXAMPLES: &str = "\
Examples:
  matyan access audit --project speech --days 7
  matyan access audit --everywhere --principal ana
  matyan access audit --everywhere --rpc sign-in --failed --limit 0 --json";

#[derive(Debug, Args)]
#[command(after_help = AUDIT_EXAMPLES)]
pub(crate) struct AuditFlags {
    /// Show the entries of all projects, and sign-ins
    #[arg(long)]
    everywhere: bool,
    /// Only what this principal has done
    #[arg(long, value_name = "NAME", default_value = "")]
    principal: String,
    /// Only calls whose name contains this text, such as `Grant` or `sign-in`
    #[arg(long, value_name = "TEXT", default_value = "")]
    rpc: String,
    /// Only calls about something that contains this text, such as the id of a run
    #[arg(long, value_name = "TEXT", default_value = "")]
    resource: String,
    /// Only calls that have failed
    #[arg(long)]
    failed: bool,
    /// Only the last days
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=400))]
    days: Option<u64>,
    /// Maximum number of entries; 0 means all
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

/// A page of entries.
struct Page {
    entries: Vec<AuditEntry>,
    next_cursor: String,
}

type AuditClient = AuditServiceClient<Connection>;

/// Prints entries, newest first.
pub(super) async fn run(audit: &mut AuditClient, flags: AuditFlags, out: &mut Output) -> Result<(), Error> {
    let AuditFlags { everywhere, principal, rpc, resource, failed, days, limit } = flags;
    let since_us = days.map(|days| now_us().saturating_sub_unsigned(micros(days)));
    let filter = AuditFilter { principal, rpc, resource, failed, since_us, until_us: None };
    let mut left = if limit == 0 { usize::MAX } else { limit };
    let mut cursor = String::new();
    let mut is_first = true;
    loop {
        let page_size = u32::try_from(left).unwrap_or(u32::MAX).min(PAGE_SIZE);
        let page = read(audit, &filter, page_size, cursor, everywhere).await?;
        left = left.saturating_sub(page.entries.len());
        print(&page.entries, is_first, out)?;
        is_first &= page.entries.is_empty();
        cursor = page.next_cursor;
        if cursor.is_empty() || left == 0 {
            if is_first && !out.json {
                notice("no entries");
            }
            return Ok(());
        }
    }
}

fn micros(days: u64) -> u64 {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    days.saturating_mul(u64::try_from(DAY.as_micros()).unwrap_or(u64::MAX))
}

async fn read(
    audit: &mut AuditClient,
    filter: &AuditFilter,
    page_size: u32,
    cursor: String,
    everywhere: bool,
) -> Result<Page, Error> {
    let filter = Some(filter.clone());
    if everywhere {
        let request = ListAllEntriesRequest { filter, page_size, cursor };
        let found = audit.list_all_entries(request).await?.into_inner();
        return Ok(Page { entries: found.entries, next_cursor: found.next_cursor });
    }
    let found = audit.list_entries(ListEntriesRequest { filter, page_size, cursor }).await?.into_inner();
    Ok(Page { entries: found.entries, next_cursor: found.next_cursor })
}

fn object(entry: &AuditEntry) -> Value {
    json!({
        "time": entry.time_us as f64 / 1e6,
        "principal": entry.principal,
        "token": entry.credential,
        "address": entry.address,
        "project": entry.project,
        "rpc": entry.rpc,
        "resource": entry.resource,
        "outcome": entry.outcome,
        "request_id": entry.request_id,
    })
}

fn print(entries: &[AuditEntry], is_first: bool, out: &mut Output) -> Result<(), Error> {
    if out.json {
        return Ok(entries.iter().try_for_each(|entry| out.object(&object(entry)))?);
    }
    if entries.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = entries.iter().map(row).collect();
    let headings = ["TIME (UTC)", "WHO", "PROJECT", "CALL", "ABOUT", "OUTCOME", "ADDRESS", "TOKEN"];
    Ok(if is_first { out.table(headings, &rows) } else { out.table_rows(headings, &rows) }?)
}

fn row(entry: &AuditEntry) -> [String; 8] {
    [
        moment(entry.time_us),
        cell(&entry.principal),
        entry.project.as_deref().map_or_else(|| "(none)".to_owned(), |name| place(Some(name))),
        cell(entry.rpc.rsplit('.').next().unwrap_or_default()),
        cell(&entry.resource),
        cell(&entry.outcome),
        cell(&entry.address),
        cell(&entry.credential),
    ]
}
