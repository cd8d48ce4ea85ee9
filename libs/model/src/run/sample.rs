//! A sample of the runs of a project, to estimate how many runs have some property.
//!
//! Runs are picked by their ids. Most ids are random, so that runs with neighboring ids have nothing in common; where
//! they are not, runs from several places represent the project. Run numbers do not suit: they are times, and most runs
//! of a project may have been created within an hour of its years.

use std::collections::BTreeSet;

use matyan_store::{Key, Range, Result, Scan, Snapshot};

use super::{Document, head_live, runs_get};
use crate::{
    ids::{Project, RunNumber},
    keys::{self, RowOwner, row_owner},
    rows,
};

const PLACES: u64 = 16;
const RUNS_AT_PLACE: usize = 4;

/// One row, without its value.
const FIRST: Scan = Scan { rows: 1, keys_only: true, ..Scan::DEFAULT };

/// Some of the visible runs of a project, or all if there are few. Damaged ones are left out.
pub async fn runs_sample(snapshot: &dyn Snapshot, project: Project) -> Result<Vec<(RunNumber, Document)>> {
    let all = keys::run_ids(project);
    let mut numbers = BTreeSet::new();
    let mut rest = all.clone();
    for start in places(snapshot, &all).await? {
        // Several places may lead to the same run, because ids use few of all bytes, such as hexadecimal digits. Then
        // the sample continues after the last run.
        if start > rest.start {
            rest.start = start;
        }
        for _ in 0..RUNS_AT_PLACE {
            let page = snapshot.scan(&rest, FIRST).await?;
            let Some((key, _)) = page.rows.first() else { break };
            let RowOwner::RunId(id) = row_owner(key) else { break };
            let live = rows::readable(head_live(snapshot, project, &id).await)?;
            numbers.extend(live.flatten());
            rest.start = keys::run_id_rows(project, &id).end;
        }
    }
    let numbers: Vec<_> = numbers.into_iter().collect();
    let mut runs = runs_get(snapshot, project, &numbers).await?.runs;
    runs.retain(|(_, document)| !document.props.pending_delete);
    Ok(runs)
}

/// Keys at equal distances between the first and the last.
async fn places(snapshot: &dyn Snapshot, all: &Range) -> Result<Vec<Key>> {
    let first = snapshot.scan(all, FIRST).await?;
    let last = snapshot.scan(all, Scan { reverse: true, ..FIRST }).await?;
    let (Some((first, _)), Some((last, _))) = (first.rows.first(), last.rows.first()) else {
        return Ok(Vec::new());
    };
    let common = first.iter().zip(last.iter()).take_while(|(first, last)| first == last).count();
    let low = fraction(&first[common..]);
    let step = (fraction(&last[common..]) - low) / PLACES;
    let place = |number: u64| [&first[..common], &(low + step * number).to_be_bytes()[..]].concat().into();
    Ok([first.clone()].into_iter().chain((1..PLACES).map(place)).collect())
}

/// The first bytes as a number.
fn fraction(bytes: &[u8]) -> u64 {
    let mut number = [0; size_of::<u64>()];
    let len = bytes.len().min(number.len());
    number[..len].copy_from_slice(&bytes[..len]);
    u64::from_be_bytes(number)
}
