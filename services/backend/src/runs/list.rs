//! Pages of runs, newest first. A page goes on below a run number, so that new runs shift nothing; what an index lists is
//! used where it makes the list shorter.

use matyan_model::{
    ids::RunNumber,
    index::runs_proposed_last,
    keys,
    run::{Document, Props, documents_get, runs_list},
};
use matyan_proto::runs::v1::{ListRequest, ListResponse, Run, RunParts};
use matyan_store::{Range, Scan};
use prost::Message;

use crate::{
    Context,
    call::Call,
    convert,
    error::{Error, Result},
    view::{Names, run_parts},
};

const DEFAULT_SIZE: u32 = 100;
const MAX_SIZE: u32 = 1_000;

/// A page ends behind this many bytes, however few runs they are: parts may be large.
const PAGE_BYTES: usize = 4 << 20;

/// Documents that are read at once.
const READ: usize = 256;

pub(super) async fn list(context: &Context, call: &Call, request: ListRequest) -> Result<ListResponse> {
    let size = match request.page_size {
        0 => DEFAULT_SIZE,
        size => size,
    };
    if size > MAX_SIZE {
        return Err(Error::field("page_size", format!("is {size}: ask for at most {MAX_SIZE}")));
    }
    let parts = request.parts.clone().unwrap_or_default();
    convert::parts(&parts)?;
    let mut source = Source::new(call, &request)?;
    let (mut names, mut runs, mut bytes) = (Names::new(call), Vec::new(), 0);
    loop {
        let Some(page) = source.next(context, call).await? else {
            return Ok(ListResponse { runs, next_page_token: String::new() });
        };
        for (number, document) in page {
            if !matches(&request, &document.props) {
                continue;
            }
            let run = view(context, &mut names, number, document, &parts).await?;
            bytes += run.encoded_len();
            runs.push(run);
            if runs.len() >= size as usize || bytes >= PAGE_BYTES {
                return Ok(ListResponse { runs, next_page_token: token(number) });
            }
        }
    }
}

async fn view(
    context: &Context,
    names: &mut Names,
    number: RunNumber,
    document: Document,
    parts: &RunParts,
) -> Result<Run> {
    let snapshot = context.store.snapshot().await?;
    run_parts(context, names, snapshot.as_ref(), number, &document, parts).await
}

fn matches(request: &ListRequest, props: &Props) -> bool {
    !props.pending_delete
        && request.active.is_none_or(|active| active == props.active)
        && request.archived.is_none_or(|archived| archived == props.archived)
}

/// Names the last run of a page.
fn token(number: RunNumber) -> String {
    format!("{:x}", number.0)
}

fn parse(token: &str) -> Result<RunNumber> {
    let number = u64::from_str_radix(token, 16).map(RunNumber).ok();
    // Exactly what we make: no sign, no other way to write the same.
    let number = number.filter(|number| self::token(*number) == token);
    number.ok_or_else(|| Error::field("page_token", "is not one that this server has made"))
}

/// Where runs come from, and what is left of it.
enum Source {
    Documents(Option<Range>),
    Index(Option<Range>),
}

impl Source {
    fn new(call: &Call, request: &ListRequest) -> Result<Self> {
        let project = call.project;
        let last = match request.page_token.as_str() {
            "" => None,
            token => Some(parse(token)?),
        };
        let from = |all: Range, key: fn(_, RunNumber) -> _| match last {
            Some(number) => all.before(&key(project, number)),
            None => all,
        };
        // Few runs are active, and few are archived: such a list is short.
        Ok(match (request.active, request.archived) {
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
        })
    }

    async fn next(&mut self, context: &Context, call: &Call) -> Result<Option<Vec<(RunNumber, Document)>>> {
        let (Self::Documents(rest) | Self::Index(rest)) = self;
        let Some(range) = rest.take() else { return Ok(None) };
        let snapshot = context.store.snapshot().await?;
        let snapshot = snapshot.as_ref();
        match self {
            Self::Documents(rest) => {
                let scan = Scan { rows: READ, reverse: true, ..Scan::default() };
                let page = runs_list(snapshot, call.project, &range, scan).await?;
                *rest = page.rest;
                Ok(Some(page.runs))
            }
            Self::Index(rest) => {
                let (numbers, left) = runs_proposed_last(snapshot, &range, READ).await?;
                let documents = documents_get(snapshot, call.project, &numbers).await?;
                *rest = left;
                let found = numbers.into_iter().zip(documents);
                Ok(Some(found.filter_map(|(number, document)| Some((number, document?))).collect()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_back_and_nothing_else_is() {
        for number in [0, 1, 0xabc, u64::MAX] {
            assert_eq!(parse(&token(RunNumber(number))).unwrap(), RunNumber(number));
        }
        for wrong in ["x", "+1", "01", "ABC", " 1", "10000000000000000"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
