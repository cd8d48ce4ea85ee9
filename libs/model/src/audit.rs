//! The audit log: who has changed rights, deleted data, read or restored a backup, signed in, or tried to. Entries are
//! written once, never changed, and cleared after 400 days. They exist only with access control.
//!
//! An entry of a project has two rows: one among all entries, for operators, and one among the entries of its project,
//! for owners. A page of a project therefore reads nothing of other projects, and says nothing about them.

use matyan_store::{Batch, Key, Result, Scan, Snapshot, Value};
use minicbor::{Decode, Encode};

use crate::{keys, rows};

/// Time for which entries are kept: more than a year, so that a yearly review sees all of it.
pub const AUDIT_KEPT_US: i64 = 400 * 24 * 3_600 * 1_000_000;

/// Maximum number of entries that are read for one page. A filter may leave out most of them.
const MAX_READ: usize = 2_000;

/// Maximum number of entries that are cleared in one transaction.
const CLEARED_ENTRIES: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    pub position: AuditPosition,
    /// Name of the principal; empty if it is unknown.
    pub principal: String,
    /// Id of the token; empty if there was none.
    pub credential: String,
    /// Address of the client, or of the proxy in front of the server; empty if it is unknown.
    pub address: String,
    /// Name of the project, which is empty for the default one; `None` for what belongs to no project.
    pub project: Option<String>,
    /// The rpc, such as `access.v1.AccessService/Grant`, or the name of what else happened, such as `sign-in`.
    pub rpc: String,
    /// The resource of the call, such as the id of a run.
    pub resource: String,
    /// Number of the gRPC status.
    pub code: i32,
    pub request_id: String,
}

/// The place of an entry in the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditPosition {
    pub time_us: i64,
    /// Distinguishes entries of the same time.
    pub id: String,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct AuditRow {
    #[n(0)]
    principal: String,
    #[n(1)]
    credential: String,
    #[n(2)]
    address: String,
    #[n(3)]
    rpc: String,
    #[n(4)]
    resource: String,
    #[n(5)]
    code: i32,
    #[n(6)]
    request_id: String,
}

/// The entries that a reader wants. Empty fields want all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only entries of this project.
    pub project: Option<String>,
    pub principal: String,
    /// A part of the name of the rpc.
    pub rpc: String,
    /// A part of the resource of the call.
    pub resource: String,
    /// Only calls that have failed.
    pub failed: bool,
    /// Only entries of this time and later ones.
    pub since_us: Option<i64>,
    /// Only entries before this time.
    pub until_us: Option<i64>,
}

/// Entries, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditPage {
    pub entries: Vec<AuditEntry>,
    /// Where the next page continues; `None` at the end. A page may have fewer entries than were asked for, and even
    /// none, before the end.
    pub last: Option<AuditPosition>,
}

impl AuditFilter {
    /// Returns whether an entry of the wanted project is wanted.
    fn wants(&self, entry: &AuditEntry) -> bool {
        (self.principal.is_empty() || self.principal == entry.principal)
            && entry.rpc.contains(&self.rpc)
            && entry.resource.contains(&self.resource)
            && (!self.failed || entry.code != 0)
    }
}

impl AuditEntry {
    /// `of_project`: the project whose entries are read; `None` for all.
    fn decode(of_project: Option<&str>, key: &Key, value: &Value) -> Result<Self> {
        let (time_us, id, project) = keys::decode_audit_entry(of_project, key)?;
        let row: AuditRow = rows::decode(key, value)?;
        let AuditRow { principal, credential, address, rpc, resource, code, request_id } = row;
        let position = AuditPosition { time_us, id };
        Ok(Self { position, principal, credential, address, project, rpc, resource, code, request_id })
    }
}

pub fn audit_put(batch: &mut Batch, entry: &AuditEntry) {
    let AuditEntry { position, principal, credential, address, project, rpc, resource, code, request_id } =
        entry.clone();
    let AuditPosition { time_us, id } = position;
    let row = rows::encode(&AuditRow { principal, credential, address, rpc, resource, code, request_id });
    if let Some(project) = &project {
        batch.set(keys::audit_entry_of_project(project, time_us, &id), row.clone());
    }
    batch.set(keys::audit_entry(time_us, &id, project.as_deref()), row);
}

/// At most `limit` entries before a position, or the newest ones.
pub async fn audit_page(
    snapshot: &dyn Snapshot,
    filter: &AuditFilter,
    before: Option<&AuditPosition>,
    limit: usize,
) -> Result<AuditPage> {
    let project = filter.project.as_deref();
    let mut range = keys::audit_entries(project);
    if let Some(since_us) = filter.since_us {
        range.start = keys::audit_entries_until(project, since_us).end;
    }
    if let Some(until_us) = filter.until_us {
        range.end = keys::audit_entries_until(project, until_us).end;
    }
    if let Some(AuditPosition { time_us, id }) = before {
        range.end = range.end.min(keys::audit_entries_before(project, *time_us, id).end);
    }
    let mut page = AuditPage::default();
    let mut read = 0;
    while page.entries.len() < limit && read < MAX_READ && range.start < range.end {
        // As many as are wanted: a page of few entries must not read thousands.
        let rows = (MAX_READ - read).min(limit.saturating_mul(2));
        let found = snapshot.scan(&range, Scan { rows, reverse: true, ..Scan::default() }).await?;
        let Some((oldest, _)) = found.rows.last() else { break };
        let end = oldest.clone();
        for (key, value) in &found.rows {
            read += 1;
            let (time_us, id, _) = keys::decode_audit_entry(project, key)?;
            page.last = Some(AuditPosition { time_us, id });
            let entry = rows::readable(AuditEntry::decode(project, key, value))?;
            page.entries.extend(entry.filter(|entry| filter.wants(entry)));
            if page.entries.len() == limit {
                return Ok(page);
            }
        }
        if !found.more {
            return Ok(AuditPage { last: None, ..page });
        }
        range.end = end;
    }
    if read < MAX_READ {
        page.last = None;
    }
    Ok(page)
}

/// Clears some of the entries before a time. Returns whether there may be more.
pub async fn audit_trim(snapshot: &dyn Snapshot, before_us: i64, batch: &mut Batch) -> Result<bool> {
    let range = keys::audit_entries_until(None, before_us);
    let scan = Scan { rows: CLEARED_ENTRIES, keys_only: true, ..Scan::default() };
    let found = snapshot.scan(&range, scan).await?;
    for (key, _) in &found.rows {
        let (time_us, id, project) = keys::decode_audit_entry(None, key)?;
        if let Some(project) = project {
            batch.clear(keys::audit_entry_of_project(&project, time_us, &id));
        }
        batch.clear(key.clone());
    }
    Ok(!found.rows.is_empty())
}

#[cfg(test)]
mod tests;
