//! The bin: runs that are hidden for a week before they are deleted.

use matyan_model::{
    change::change_put,
    ids::{Project, RunNumber},
    keys,
    run::{BIN_KEPT_US, bin_put, bin_restore, binned_list},
};
use matyan_proto::runs::v1::{BinnedRun, ListBinRequest, ListBinResponse, RunParts};
use matyan_store::{Range, Transaction, transact};

use super::change::{PAGE_RUNS, SkippedRuns, find_kept_numbers, find_numbers};
use crate::{
    server::{
        audit::audit_no_effect,
        call::Call,
        deps::Deps,
        error::{Error, Result},
        stream::{Sender, StreamEnd},
    },
    view::{EntityNames, first_piece, run_parts},
};

/// Runs read from one snapshot.
const PAGE: usize = 256;

/// The way that runs take.
#[derive(Clone, Copy)]
enum Move {
    ToBin,
    Back,
}

/// Moves runs to the bin; returns the runs that were left out.
pub(crate) async fn bin_all(deps: &Deps, call: &Call, run_ids: Vec<String>) -> Result<SkippedRuns> {
    move_all(deps, call, &run_ids, Move::ToBin).await
}

/// Brings runs back from the bin; returns the runs that were left out.
pub(crate) async fn restore_all(deps: &Deps, call: &Call, run_ids: Vec<String>) -> Result<SkippedRuns> {
    move_all(deps, call, &run_ids, Move::Back).await
}

/// Moves runs, a page of them in each transaction. An error says how many runs were done before.
async fn move_all(deps: &Deps, call: &Call, run_ids: &[String], direction: Move) -> Result<SkippedRuns> {
    let mut skipped = SkippedRuns::default();
    let mut has_effect = false;
    for (page, ids) in run_ids.chunks(PAGE_RUNS).enumerate() {
        let moved = move_page(deps, call, ids, direction, &mut skipped).await;
        has_effect |= moved.map_err(|error| error.after(page * PAGE_RUNS))?;
    }
    if !has_effect {
        audit_no_effect();
    }
    Ok(skipped)
}

/// Moves some runs, and returns whether any of them was elsewhere.
async fn move_page(
    deps: &Deps,
    call: &Call,
    run_ids: &[String],
    direction: Move,
    skipped: &mut SkippedRuns,
) -> Result<bool> {
    let numbers = match direction {
        Move::ToBin => find_numbers(deps, call, run_ids, skipped).await?,
        Move::Back => find_kept_numbers(deps, call, run_ids, skipped).await?,
    };
    let now = (deps.clock)();
    let (has_effect, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let mut has_effect = false;
        for number in &numbers {
            let is_moved = match direction {
                Move::ToBin => bin_put(&mut transaction, call.project, *number, now).await?,
                Move::Back => bin_restore(&mut transaction, call.project, *number, now).await?,
            };
            if is_moved {
                has_effect = true;
                change_put(transaction.batch(), call.project, *number, now, &call.caller);
            }
        }
        Ok::<_, Error>((transaction, has_effect))
    })
    .await?;
    Ok(has_effect)
}

/// The part of the bin that a request asks for.
pub(super) struct BinPage {
    range: Range,
    limit: usize,
}

impl BinPage {
    pub(super) fn parse(project: Project, request: &ListBinRequest) -> Result<Self> {
        let all = keys::index_binned_all(project);
        let range = match request.cursor.as_str() {
            "" => all,
            cursor => {
                let (binned_us, number) = parse_cursor(cursor)?;
                all.before(&keys::index_binned(project, binned_us, number))
            }
        };
        let limit = match request.limit {
            0 => usize::MAX,
            limit => limit as usize,
        };
        Ok(Self { range, limit })
    }
}

/// The cursor after a run in the bin.
fn cursor(binned_us: i64, number: RunNumber) -> String {
    format!("{binned_us}.{}", number.0)
}

fn parse_cursor(cursor: &str) -> Result<(i64, RunNumber)> {
    let place = cursor.split_once('.').and_then(|(time, number)| {
        let time = time.parse::<i64>().ok()?;
        let number = number.parse::<u64>().ok()?;
        Some((time, RunNumber(number)))
    });
    // Only the exact text that `cursor` returns: no sign, no other spelling of the same number.
    let place = place.filter(|(time, number)| self::cursor(*time, *number) == cursor);
    place.ok_or_else(|| Error::field("cursor", "is invalid: use a cursor from a previous response"))
}

/// The cursor after the rows that a page has read, from the range of the rows that are left.
fn next_cursor(project: Project, rest: &Range) -> Result<String> {
    let all = keys::index_binned_all(project);
    let (binned_us, number) = keys::tail(&all.start, &rest.end)?;
    Ok(cursor(binned_us, RunNumber(number)))
}

/// Sends a page of the runs in the bin. Each message is read from its own snapshot: a slow client may
/// read for longer than a snapshot lives.
pub(super) async fn send(
    deps: &Deps,
    call: &Call,
    page: BinPage,
    sender: &Sender<ListBinResponse>,
) -> Result<(), StreamEnd> {
    let parts = RunParts { props: true, ..RunParts::default() };
    let mut names = EntityNames::new(call);
    let mut left = page.limit;
    let mut rest = Some(page.range);
    while let Some(range) = rest {
        let snapshot = deps.store.snapshot().await?;
        let (found, next) = binned_list(snapshot.as_ref(), call.project, &range, PAGE.min(left)).await?;
        let mut message = ListBinResponse::default();
        for (number, document) in found {
            let binned_us = document.props.binned_us.unwrap_or_default();
            let run_id = document.props.run_id.clone();
            match run_parts(deps, &mut names, snapshot.as_ref(), number, &document, &parts).await {
                Ok(run) => message.runs.push(BinnedRun {
                    run: Some(first_piece(run)),
                    binned_us,
                    purged_us: binned_us.saturating_add(BIN_KEPT_US),
                }),
                Err(error) => deps.metrics.leave_out(&run_id, error)?,
            }
        }
        drop(snapshot);
        left -= message.runs.len();
        rest = next;
        if left == 0 {
            let after = rest.take();
            message.next_cursor =
                after.map(|after| next_cursor(call.project, &after)).transpose()?.unwrap_or_default();
        }
        sender.send(message).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_generated_cursors_are_accepted() {
        for (time, number) in [(0, 0), (1_764_412_955_000_000, 42), (i64::MIN, u64::MAX)] {
            let number = RunNumber(number);
            assert_eq!(parse_cursor(&cursor(time, number)).unwrap(), (time, number));
        }
        for wrong in ["x", "1", "1.", ".1", "+1.1", "01.1", "1.1.1", "1.-1", "1.18446744073709551616"] {
            let error = parse_cursor(wrong).unwrap_err().to_string();
            assert!(error.contains("cursor"), "{wrong}: {error}");
        }
    }
}
