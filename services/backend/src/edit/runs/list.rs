//! Pages of runs, newest first. A page continues below a run number, so new runs do not shift
//! it; an index is used where it shortens the list.

use matyan_model::{
    ids::RunNumber,
    index::index_runs_page_reverse,
    keys,
    run::{Props, RunPage, runs_get, runs_list},
};
use matyan_proto::runs::v1::{ListRequest, ListResponse};
use matyan_store::{Error as StoreError, Range, Scan, Snapshot};
use prost::Message;

use crate::{
    server::{
        call::Call,
        convert,
        deps::Deps,
        error::{Error, Result},
        left_out_runs::LeftOutRuns,
    },
    view::{EntityNames, first_piece, run_parts},
};

const DEFAULT_SIZE: u32 = 100;
const MAX_SIZE: u32 = 1_000;

/// A page ends once it has reached this size, regardless of its number of runs, because parts
/// may be large.
const PAGE_BYTES: usize = 2 << 20;

/// Documents read at a time.
const DOCUMENTS_PER_READ: usize = 256;

pub(super) async fn list(deps: &Deps, call: &Call, request: ListRequest) -> Result<ListResponse> {
    let size = match request.page_size {
        0 => DEFAULT_SIZE,
        size => size,
    };
    if size > MAX_SIZE {
        return Err(Error::field("page_size", format!("is {size}: use at most {MAX_SIZE}")));
    }
    let parts = convert::parts(request.parts.clone())?;
    let mut last = match request.page_token.as_str() {
        "" => None,
        token => Some(parse_token(token)?),
    };
    let mut names = EntityNames::new(call);
    let mut runs = Vec::new();
    let mut bytes = 0;
    let left_out = LeftOutRuns::default();
    let mut source = Source::new(call, &request, last);
    let next_page_token = 'pages: loop {
        let Some((snapshot, page)) = source.next(deps, call).await? else { break String::new() };
        let RunPage { runs: listed, mut damaged, .. } = page;
        for (place, (number, document)) in listed.into_iter().enumerate() {
            if matches(&request, &document.props) {
                let snapshot = snapshot.as_ref();
                match run_parts(deps, &mut names, snapshot, number, &document, &parts).await {
                    // The page outlasted its snapshot: the rest of it is
                    // read again.
                    Err(Error::Store(StoreError::SnapshotTooOld)) if place > 0 => {
                        damaged.retain(|damaged| last.is_some_and(|last| *damaged > last));
                        left_out.extend(&deps.metrics, &damaged);
                        source = Source::new(call, &request, last);
                        continue 'pages;
                    }
                    Err(error) => {
                        left_out.leave_out(&deps.metrics, (number, &document.props.run_id), error)?;
                        last = Some(number);
                        continue;
                    }
                    Ok(run) => runs.push(first_piece(run)),
                }
                bytes += runs.last().map_or(0, Message::encoded_len);
                if runs.len() >= size as usize || bytes >= PAGE_BYTES {
                    // The next page lacks the others.
                    damaged.retain(|damaged| *damaged > number);
                    left_out.extend(&deps.metrics, &damaged);
                    break 'pages token(number);
                }
            }
            last = Some(number);
        }
        left_out.extend(&deps.metrics, &damaged);
    };
    let damaged_runs = u32::try_from(left_out.count()).unwrap_or(u32::MAX);
    Ok(ListResponse { runs, next_page_token, damaged_runs })
}

fn matches(request: &ListRequest, props: &Props) -> bool {
    !props.pending_delete
        && request.active.is_none_or(|active| active == props.active)
        && request.archived.is_none_or(|archived| archived == props.archived)
}

/// The page token that names the last run of a page.
fn token(number: RunNumber) -> String {
    format!("{:x}", number.0)
}

fn parse_token(token: &str) -> Result<RunNumber> {
    let number = u64::from_str_radix(token, 16).map(RunNumber).ok();
    // Only the exact text that `token` returns: no sign, no other spelling of the same
    // number.
    let number = number.filter(|number| self::token(*number) == token);
    number.ok_or_else(|| Error::field("page_token", "is invalid: use a token from a previous response"))
}

/// The rows that list the runs, with the range still to be read.
enum Source {
    Documents(Option<Range>),
    Index(Option<Range>),
}

impl Source {
    /// The runs after the last one.
    fn new(call: &Call, request: &ListRequest, last: Option<RunNumber>) -> Self {
        let project = call.project;
        let from = |all: Range, key: fn(_, RunNumber) -> _| match last {
            Some(number) => all.before(&key(project, number)),
            None => all,
        };
        // Active runs and archived runs are few, so their index makes a short list.
        match (request.active, request.archived) {
            (Some(true), _) => {
                Self::Index(Some(from(keys::index_active_all(project, true), |project, number| {
                    keys::index_active(project, true, number)
                })))
            }
            (_, Some(true)) => {
                Self::Index(Some(from(keys::index_archived_all(project, true), |project, number| {
                    keys::index_archived(project, true, number)
                })))
            }
            _ => Self::Documents(Some(from(keys::documents(project), keys::document))),
        }
    }

    /// The next documents, with the snapshot they were read from.
    async fn next(&mut self, deps: &Deps, call: &Call) -> Result<Option<(Box<dyn Snapshot>, RunPage)>> {
        let (Self::Documents(rest) | Self::Index(rest)) = self;
        let Some(range) = rest.take() else { return Ok(None) };
        let snapshot = deps.store.snapshot().await?;
        let found = match self {
            Self::Documents(rest) => {
                let scan = Scan { rows: DOCUMENTS_PER_READ, reverse: true, ..Scan::default() };
                let mut page = runs_list(snapshot.as_ref(), call.project, &range, scan).await?;
                *rest = page.rest.take();
                page
            }
            Self::Index(rest) => {
                let (numbers, left) =
                    index_runs_page_reverse(snapshot.as_ref(), &range, DOCUMENTS_PER_READ).await?;
                *rest = left;
                runs_get(snapshot.as_ref(), call.project, &numbers).await?
            }
        };
        Ok(Some((snapshot, found)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_generated_tokens_are_accepted() {
        for number in [0, 1, 0xabc, u64::MAX] {
            assert_eq!(parse_token(&token(RunNumber(number))).unwrap(), RunNumber(number));
        }
        for wrong in ["x", "+1", "01", "ABC", " 1", "10000000000000000"] {
            assert!(parse_token(wrong).is_err(), "{wrong}");
        }
    }
}
