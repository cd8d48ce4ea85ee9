//! The audit log of access control.

use axum::Json;
use matyan_proto::access::v1::{AuditEntry, AuditFilter, ListAllEntriesRequest, ListEntriesRequest};
use matyan_proto::common::v1::Access;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::call::Call;
use super::operation::{BasePath, Operation};
use super::shared::iso;
use crate::error::ApiResult;

const SECOND_US: i64 = 1_000_000;

pub(crate) fn operations() -> Vec<Operation> {
    let list = Operation::get("/access/audit", "Who has changed rights, deleted data and signed in", list);
    // Entries of all projects need more.
    vec![list.base(BasePath::Rest).access(Access::Manage)]
}

/// The page of entries to read, and the entries that are wanted.
#[derive(Deserialize, JsonSchema)]
struct AuditQuery {
    /// Entries of all projects and of the server; for operators.
    #[serde(default)]
    everywhere: bool,
    #[serde(default)]
    principal: String,
    /// A part of the name of the rpc.
    #[serde(default)]
    rpc: String,
    /// A part of what the call was about.
    #[serde(default)]
    resource: String,
    #[serde(default)]
    failed: bool,
    /// Seconds since the Unix epoch.
    since: Option<i64>,
    /// Seconds since the Unix epoch.
    until: Option<i64>,
    /// At most 1,000; 0 means 100.
    #[serde(default)]
    page_size: u32,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: String,
}

#[derive(Serialize, JsonSchema)]
struct AuditPage {
    entries: Vec<ListedEntry>,
    /// Empty at the end.
    next_cursor: String,
}

#[derive(Serialize, JsonSchema)]
struct ListedEntry {
    time: String,
    principal: String,
    token: String,
    address: String,
    /// Null for what belongs to no project; the default project has an empty name.
    project: Option<String>,
    rpc: String,
    resource: String,
    outcome: String,
    request_id: String,
}

impl From<AuditEntry> for ListedEntry {
    fn from(entry: AuditEntry) -> Self {
        ListedEntry {
            time: iso(entry.time_us),
            principal: entry.principal,
            token: entry.credential,
            address: entry.address,
            project: entry.project,
            rpc: entry.rpc,
            resource: entry.resource,
            outcome: entry.outcome,
            request_id: entry.request_id,
        }
    }
}

async fn list(call: Call<AuditQuery>) -> ApiResult<Json<AuditPage>> {
    let AuditQuery { everywhere, principal, rpc, resource, failed, since, until, page_size, cursor } =
        call.parameters;
    let since_us = since.map(|since| since.saturating_mul(SECOND_US));
    let until_us = until.map(|until| until.saturating_mul(SECOND_US));
    let filter = Some(AuditFilter { principal, rpc, resource, failed, since_us, until_us });
    let mut audit = call.services.backend().audit();
    let (entries, next_cursor) = if everywhere {
        let page =
            audit.list_all_entries(ListAllEntriesRequest { filter, page_size, cursor }).await?.into_inner();
        (page.entries, page.next_cursor)
    } else {
        let page = audit.list_entries(ListEntriesRequest { filter, page_size, cursor }).await?.into_inner();
        (page.entries, page.next_cursor)
    };
    Ok(Json(AuditPage { entries: entries.into_iter().map(ListedEntry::from).collect(), next_cursor }))
}
