//! Parked items, which could not be applied: listing and deleting them.

use matyan_model::{
    ids::{Project, RunId},
    keys::{self, Counter, ItemPosition},
    parked::{ParkedItem, parked_clear, parked_get, parked_list, parked_newest},
    project::project_count,
};
use matyan_proto::{
    admin::v1::{
        DeleteParkedItemsRequest, ListParkedItemsRequest, ListParkedItemsResponse,
        ParkedItem as ParkedItemView,
    },
    common::v1::LogPosition,
    limits,
};
use matyan_store::{Range, Transaction, transact};

use crate::server::{
    call::Call,
    convert,
    deps::Deps,
    error::{Error, Result},
};

const DEFAULT_SIZE: u32 = 100;
const MAX_SIZE: u32 = 1_000;

/// Maximum length of the content shown for an item.
const CONTENT_BYTES: usize = 64 * 1024;

/// A page ends once it has reached this size, regardless of its number of items.
const PAGE_BYTES: usize = 4 << 20;

/// The project that a call about parked items or runs is about.
pub(super) fn project(call: &Call, unknown_projects: bool) -> Result<Project> {
    if !unknown_projects {
        return Ok(call.project);
    }
    call.check_manages_all_projects()?;
    Ok(Project::UNKNOWN)
}

pub(super) async fn list(
    deps: &Deps,
    call: &Call,
    request: &ListParkedItemsRequest,
) -> Result<ListParkedItemsResponse> {
    let size = page_size(request.page_size)?;
    let project = project(call, request.unknown_projects)?;
    let snapshot = deps.store.snapshot().await?;
    let snapshot = snapshot.as_ref();
    let total = project_count(snapshot, project, Counter::Parked).await?;
    let total = u64::try_from(total).unwrap_or_default();
    let names = match request.run_id.as_str() {
        "" => {
            let all = keys::parked_by_time_all(project);
            let range = match decode_end(&request.page_token, &all)? {
                Some(end) => Range::new(all.start, end),
                None => all,
            };
            parked_newest(snapshot, project, &range, size).await?.0
        }
        run_id => list_for_run(deps, project, run_id, request, size).await?,
    };
    let mut items = Vec::new();
    let mut bytes = 0;
    let mut last_us = 0;
    let count = names.len();
    for (run_id, at) in names {
        let Some(parked) = parked_get(snapshot, project, &run_id, at).await? else { continue };
        last_us = parked.received_us;
        let item = item_view(parked);
        bytes += item.content.len() + item.reason.len();
        items.push((item, run_id, at));
        if bytes >= PAGE_BYTES {
            break;
        }
    }
    // The list also continues if this page was ended by its size in bytes.
    let is_last = items.len() == count && count < size;
    let next_page_token = match items.last() {
        Some((_, run_id, at)) if !is_last => hex::encode(keys::parked_by_time(project, last_us, run_id, *at)),
        _ => String::new(),
    };
    let items = items.into_iter().map(|(item, _, _)| item).collect();
    Ok(ListParkedItemsResponse { items, next_page_token, total })
}

pub(super) fn page_size(size: u32) -> Result<usize> {
    match size {
        0 => Ok(DEFAULT_SIZE as usize),
        1..=MAX_SIZE => Ok(size as usize),
        _ => Err(Error::field("page_size", format!("is {size}: use at most {MAX_SIZE}"))),
    }
}

/// The items of one run after the token, newest first. A run has few of them, because items
/// that fail tend to fail alike.
async fn list_for_run(
    deps: &Deps,
    project: Project,
    run_id: &str,
    request: &ListParkedItemsRequest,
    size: usize,
) -> Result<Vec<(RunId, ItemPosition)>> {
    if run_id.len() > limits::RUN_ID_BYTES {
        return Ok(Vec::new());
    }
    let id = RunId::new(run_id);
    let end = decode_end(&request.page_token, &keys::parked_by_time_all(project))?;
    let mut found = Vec::new();
    let mut rest = Some(keys::parked_run(project, &id));
    while let Some(range) = rest {
        let snapshot = deps.store.snapshot().await?;
        let (listed, next) = parked_list(snapshot.as_ref(), project, &range, size).await?;
        rest = next;
        found.extend(listed.into_iter().map(|parked| {
            (keys::parked_by_time(project, parked.received_us, &parked.run_id, parked.at), parked.at)
        }));
        found.sort_unstable_by(|left, right| right.0.cmp(&left.0));
        found.retain(|(key, _)| end.as_ref().is_none_or(|end| key < end));
        found.truncate(size);
    }
    Ok(found.into_iter().map(|(_, at)| (id.clone(), at)).collect())
}

/// A page token is the key of the last row of its page. For items, this is the row in the project-wide order
/// by time.
pub(super) fn decode_end(token: &str, all: &Range) -> Result<Option<matyan_store::Key>> {
    if token.is_empty() {
        return Ok(None);
    }
    let key = hex::decode(token).ok().filter(|key| all.contains(key));
    key.map(|key| Some(key.into()))
        .ok_or_else(|| Error::field("page_token", "is invalid: use a token from a previous response"))
}

fn item_view(parked: ParkedItem) -> ParkedItemView {
    let content = parked.item.slice(..parked.item.len().min(CONTENT_BYTES));
    let at = parked.at;
    ParkedItemView {
        id: id(&parked.run_id, at),
        run_id: parked.run_id.as_str().to_owned(),
        position: Some(LogPosition { log: at.log, partition: at.partition, offset: at.offset }),
        item: at.item,
        reason: parked.reason,
        parked_us: parked.received_us,
        content,
    }
}

/// Formats position and run: `log/partition/offset/item/run`.
fn id(run_id: &RunId, at: ItemPosition) -> String {
    format!("{}/{}/{}/{}/{run_id}", at.log, at.partition, at.offset, at.item)
}

fn parse_id(id: &str) -> Option<(RunId, ItemPosition)> {
    let mut parts = id.splitn(5, '/');
    let mut next = || parts.next();
    let at = ItemPosition {
        log: next()?.parse().ok()?,
        partition: next()?.parse().ok()?,
        offset: next()?.parse().ok()?,
        item: next()?.parse().ok()?,
    };
    let run_id = next().filter(|run_id| run_id.len() <= limits::RUN_ID_BYTES)?;
    Some((RunId::new(run_id), at))
}

/// Deletes items in one transaction each; malformed ids are ignored.
pub(super) async fn delete(deps: &Deps, call: &Call, request: &DeleteParkedItemsRequest) -> Result<u64> {
    let DeleteParkedItemsRequest { ids, unknown_projects } = request;
    let project = project(call, *unknown_projects)?;
    convert::check_limit("ids", ids.len(), limits::RUNS_PER_CALL)?;
    let mut deleted = 0;
    for (run_id, at) in ids.iter().filter_map(|id| parse_id(id)) {
        let (cleared, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
            let cleared = parked_clear(&mut transaction, project, &run_id, at).await?;
            Ok::<_, Error>((transaction, cleared))
        })
        .await?;
        deleted += u64::from(cleared);
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        let at = ItemPosition { log: 1, partition: 2, offset: u64::MAX, item: 4 };
        for run in ["r", "größe"] {
            assert_eq!(parse_id(&id(&RunId::new(run), at)), Some((RunId::new(run), at)));
        }
        for wrong in ["", "1/2/3", "1/2/3/x/r", "1/2/3/4"] {
            assert_eq!(parse_id(wrong), None, "{wrong}");
        }
    }
}
