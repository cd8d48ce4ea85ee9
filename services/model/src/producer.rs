//! Producers of batches: how far each has come, and what its series numbers mean.
//!
//! A mark is the last sequence applied of a producer in one run. A dictionary holds the definitions that its batches have
//! brought, because a record in the log carries only new ones; series numbers are looked up again whenever it is loaded,
//! so that it outlives the run as its producer does. Producers that the frontier made are swept after an hour of log time;
//! those with a dictionary after a month, because a connection may be silent for long and then go on with its numbers.

use matyan_store::{Batch, Range, Result, Scan, Snapshot, Transaction};
use minicbor::{Decode, Encode};

use crate::{
    ids::{ProducerId, Project, RunId},
    keys::{self, SweepStage},
    rows,
};

/// Log time after which a silent producer of the frontier's goes, and after which one with a dictionary does.
pub const MARK_KEPT_US: i64 = 3_600_000_000;
pub const DICTIONARY_KEPT_US: i64 = 30 * 24 * 3_600_000_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Mark {
    #[n(0)]
    pub sequence: u64,
    /// Receive time of the record with that sequence.
    #[n(1)]
    pub seen_us: i64,
    /// The sweep's row of this producer stands at this time; `None` for producers that are kept.
    #[n(2)]
    pub swept_from_us: Option<i64>,
}

impl Mark {
    /// Whether a record continues its producer: below the mark it is a repeat; behind a gap it was never acknowledged, and
    /// will come again. What the producer knows acknowledged stands in for a mark that was swept.
    pub fn is_next(mark: Option<&Self>, sequence: u64, acknowledged: u64) -> bool {
        let applied = mark.map_or(0, |mark| mark.sequence).max(acknowledged);
        applied.checked_add(1) == Some(sequence)
    }
}

pub async fn mark_get(
    snapshot: &dyn Snapshot,
    project: Project,
    id: &RunId,
    producer: ProducerId,
) -> Result<Option<Mark>> {
    rows::get(snapshot, &keys::mark(project, id, producer)).await
}

/// Moves the mark of a producer, and tells the sweep of one that is new and does not stay.
pub fn mark_put(
    batch: &mut Batch,
    project: Project,
    id: &RunId,
    producer: ProducerId,
    before: Option<&Mark>,
    (sequence, seen_us, is_ephemeral): (u64, i64, bool),
) -> Mark {
    let swept_from_us =
        before.and_then(|mark| mark.swept_from_us).or_else(|| is_ephemeral.then_some(seen_us));
    if let (None, Some(from_us)) = (before, swept_from_us) {
        batch.set(keys::idle_producer(SweepStage::Mark, from_us, project, id, producer), Vec::new());
    }
    let mark = Mark { sequence, seen_us, swept_from_us };
    batch.set(keys::mark(project, id, producer), rows::encode(&mark));
    mark
}

/// One definition, as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(array)]
pub struct Definition {
    #[n(0)]
    pub name: String,
    /// JSON text.
    #[n(1)]
    pub context: String,
    #[n(2)]
    pub dtype: String,
}

/// Cuts new definitions into rows that fit a value; each is the number of its first definition and how many it holds.
pub fn dictionary_pages(first: u32, definitions: &[Definition]) -> Vec<(u32, usize)> {
    let mut pages = vec![(first, 0)];
    let mut size = 0;
    for (definition, number) in definitions.iter().zip(first..) {
        let own = definition.name.len()
            + definition.context.len()
            + definition.dtype.len()
            + DEFINITION_EXTRA_BYTES;
        let last = pages.last_mut().expect("there is a first page");
        if size + own > rows::PIECE_BYTES && last.1 > 0 {
            pages.push((number, 1));
            size = own;
        } else {
            last.1 += 1;
            size += own;
        }
    }
    pages
}

/// Lengths and the array head of one definition.
const DEFINITION_EXTRA_BYTES: usize = 16;

/// Forgets the definitions from number `first` on: what comes is the truth.
pub fn dictionary_cut(batch: &mut Batch, project: Project, id: &RunId, producer: ProducerId, first: u32) {
    let end = keys::dictionary(project, id, producer).end;
    batch.clear_range(Range::new(keys::dictionary_page(project, id, producer, first), end));
}

pub fn dictionary_put(
    batch: &mut Batch,
    project: Project,
    id: &RunId,
    producer: ProducerId,
    first: u32,
    definitions: &[Definition],
) {
    batch.set(keys::dictionary_page(project, id, producer, first), rows::encode(&definitions));
}

/// All definitions of a producer, in the order of their numbers.
pub async fn dictionary_get(
    snapshot: &dyn Snapshot,
    project: Project,
    id: &RunId,
    producer: ProducerId,
) -> Result<Vec<Definition>> {
    let range = keys::dictionary(project, id, producer);
    let mut all: Vec<Definition> = Vec::new();
    for (key, value) in rows::scan_all(snapshot, &range).await? {
        let (first,): (u32,) = keys::tail(&range.start, &key)?;
        if first as usize > all.len() {
            return Err(rows::corrupt(&key, &format!("definitions from {} on are missing", all.len())));
        }
        all.truncate(first as usize);
        let page: Vec<Definition> = rows::decode(&key, &value)?;
        all.extend(page);
    }
    Ok(all)
}

/// Producers looked at in one step of the sweep.
const SWEEP_PRODUCERS: usize = 500;

/// Sweeps a page of the producers that have been silent long enough at log time `now_us`; `false` if there was none.
pub async fn producers_sweep(transaction: &mut Transaction, now_us: i64) -> Result<bool> {
    let mut found = false;
    for (stage, kept_us) in [(SweepStage::Mark, MARK_KEPT_US), (SweepStage::Dictionary, DICTIONARY_KEPT_US)] {
        let range = keys::idle_producers(stage, now_us.saturating_sub(kept_us));
        let scan = Scan { rows: SWEEP_PRODUCERS, ..Scan::default() };
        for (key, _) in transaction.unchecked().scan(&range, scan).await?.rows {
            let (_, project, id, producer) = keys::idle_producer_tail(&range, &key)?;
            sweep_one(transaction, stage, kept_us, now_us, (project, &id, producer)).await?;
            transaction.batch().clear(key);
            found = true;
        }
    }
    Ok(found)
}

async fn sweep_one(
    transaction: &mut Transaction,
    stage: SweepStage,
    kept_us: i64,
    now_us: i64,
    (project, id, producer): (Project, &RunId, ProducerId),
) -> Result<()> {
    let key = keys::mark(project, id, producer);
    let Some(value) = transaction.get(&key).await? else { return Ok(()) };
    let mark: Mark = rows::decode(&key, &value)?;
    let dictionary = keys::dictionary(project, id, producer);
    let again = |stage| keys::idle_producer(stage, mark.seen_us, project, id, producer);
    let is_silent = mark.seen_us < now_us.saturating_sub(kept_us);
    let has_dictionary = !transaction
        .unchecked()
        .scan(&dictionary, Scan { rows: 1, ..Scan::default() })
        .await?
        .rows
        .is_empty();
    let batch = transaction.batch();
    match (stage, is_silent) {
        (_, false) => batch.set(again(stage), Vec::new()),
        (SweepStage::Mark, true) if has_dictionary => batch.set(again(SweepStage::Dictionary), Vec::new()),
        (_, true) => batch.clear(key).clear_range(dictionary),
    };
    Ok(())
}

#[cfg(test)]
mod tests;
