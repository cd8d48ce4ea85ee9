//! The audit log: owners read it for their project, and operators for all projects. It is written where calls end.

use matyan_model::audit::{AuditEntry, AuditFilter, AuditPage, AuditPosition, audit_page};
use matyan_proto::{
    access::v1::{self as pb, audit_service_server::AuditService},
    limits, status_name,
};
use tonic::{Request, Response};

use super::start_checked;
use crate::server::{
    RpcResult, Server, convert,
    error::{Error, Result},
};

/// Entries of a page, if the request names no number.
const DEFAULT_PAGE_SIZE: usize = 100;
/// Most entries of a page: an entry has at most a few kilobytes.
const MAX_PAGE_SIZE: usize = 1_000;
/// Longest cursor: more than a time and an id, and less than a key of the store.
const CURSOR_BYTES: usize = 128;

/// The service of the audit log.
pub(crate) struct AuditApi {
    server: Server,
}

impl AuditApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }

    async fn page(&self, filter: AuditFilter, page_size: u32, cursor: &str) -> Result<AuditPage> {
        let page_size = match page_size {
            0 => DEFAULT_PAGE_SIZE,
            size => size as usize,
        };
        convert::check_limit("page_size", page_size, MAX_PAGE_SIZE)?;
        convert::check_limit("cursor", cursor.len(), CURSOR_BYTES)?;
        let before = parse_cursor(cursor)?;
        let snapshot = self.server.deps.store.snapshot().await?;
        Ok(audit_page(snapshot.as_ref(), &filter, before.as_ref(), page_size).await?)
    }
}

fn filter(project: Option<String>, filter: Option<pb::AuditFilter>) -> Result<AuditFilter> {
    let pb::AuditFilter { principal, rpc, resource, failed, since_us, until_us } = filter.unwrap_or_default();
    for (field, text) in [("principal", &principal), ("rpc", &rpc), ("resource", &resource)] {
        convert::bounded_text(field, text, limits::NAME_BYTES)?;
    }
    Ok(AuditFilter { project, principal, rpc, resource, failed, since_us, until_us })
}

/// The place of an entry: its time and id.
fn cursor(position: &AuditPosition) -> String {
    format!("{}/{}", position.time_us, position.id)
}

fn parse_cursor(cursor: &str) -> Result<Option<AuditPosition>> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let parsed = cursor
        .split_once('/')
        .and_then(|(time, id)| Some(AuditPosition { time_us: time.parse().ok()?, id: id.to_owned() }));
    parsed
        .map(Some)
        .ok_or_else(|| Error::field("cursor", "was not returned with a page: start without a cursor"))
}

fn view(entry: AuditEntry) -> pb::AuditEntry {
    let AuditEntry { position, principal, credential, address, project, rpc, resource, code, request_id } =
        entry;
    let time_us = position.time_us;
    let outcome = status_name(code).to_owned();
    pb::AuditEntry { time_us, principal, credential, address, project, rpc, resource, outcome, request_id }
}

fn next_cursor(page: &AuditPage) -> String {
    page.last.as_ref().map(cursor).unwrap_or_default()
}

#[tonic::async_trait]
impl AuditService for AuditApi {
    async fn list_entries(
        &self,
        request: Request<pb::ListEntriesRequest>,
    ) -> RpcResult<pb::ListEntriesResponse> {
        let (call, request) = start_checked(&self.server, request).await?;
        let filter = filter(Some(call.project_name), request.filter)?;
        let page = self.page(filter, request.page_size, &request.cursor).await?;
        let next_cursor = next_cursor(&page);
        let entries = page.entries.into_iter().map(view).collect();
        Ok(Response::new(pb::ListEntriesResponse { entries, next_cursor }))
    }

    async fn list_all_entries(
        &self,
        request: Request<pb::ListAllEntriesRequest>,
    ) -> RpcResult<pb::ListAllEntriesResponse> {
        let (_, request) = start_checked(&self.server, request).await?;
        let filter = filter(None, request.filter)?;
        let page = self.page(filter, request.page_size, &request.cursor).await?;
        let next_cursor = next_cursor(&page);
        let entries = page.entries.into_iter().map(view).collect();
        Ok(Response::new(pb::ListAllEntriesResponse { entries, next_cursor }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_names_an_entry() {
        let position = AuditPosition { time_us: -5, id: "a/b".to_owned() };
        assert_eq!(parse_cursor(&cursor(&position)).unwrap(), Some(position));
        assert_eq!(parse_cursor("").unwrap(), None);
        for wrong in ["5", "x/a", "/"] {
            parse_cursor(wrong).unwrap_err();
        }
    }
}
