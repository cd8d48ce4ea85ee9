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

/// How far a producer has come. A batch is one record, or, as JSON envelopes, a record for each of its items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Mark {
    /// The last sequence that is applied whole.
    #[n(0)]
    pub sequence: u64,
    /// Items applied of the next one.
    #[n(1)]
    pub items: u32,
    /// Receive time of the last record.
    #[n(2)]
    pub seen_us: i64,
}

/// What a record says of its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub producer: ProducerId,
    pub sequence: u64,
    /// The items of the batch that this record carries, and how many the batch has; `None` if it carries all.
    pub part: Option<Part>,
    /// Every sequence up to this one has been acknowledged to the producer.
    pub acknowledged: u64,
    /// The frontier made this producer for a connection.
    pub is_ephemeral: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub first: u32,
    pub count: u32,
    pub of: u32,
}

impl Mark {
    /// The mark behind a record, if the record continues its producer. Before the mark it is a repeat; behind a gap it was
    /// never acknowledged, and will come again.
    pub fn moved_by(self, sent: &Sent, seen_us: i64) -> Option<Self> {
        let first = sent.part.map_or(0, |part| part.first);
        let is_behind =
            |sequence: u64, items| sequence.checked_add(1) == Some(sent.sequence) && items == first;
        let continues = if sent.acknowledged <= self.sequence {
            is_behind(self.sequence, self.items)
        } else if (self.sequence, self.items) == (0, 0) {
            // What the producer knows acknowledged stands in for a mark that was swept.
            is_behind(sent.acknowledged, 0)
        } else {
            // What was acknowledged stood before this in the log, and the log has lost it: it will not come again. What was under
            // way with it may have been lost as well, and is not waited for.
            sent.sequence > sent.acknowledged && first == 0
        };
        continues.then(|| match sent.part {
            Some(part) if part.first + part.count < part.of => {
                Self { sequence: sent.sequence - 1, items: part.first + part.count, seen_us }
            }
            _ => Self { sequence: sent.sequence, items: 0, seen_us },
        })
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

/// Writes a mark, and tells the sweep of a producer that is new and does not stay.
pub fn mark_put(batch: &mut Batch, project: Project, id: &RunId, sent: &Sent, mark: &Mark, is_new: bool) {
    if is_new && sent.is_ephemeral {
        batch
            .set(keys::idle_producer(SweepStage::Mark, mark.seen_us, project, id, sent.producer), Vec::new());
    }
    batch.set(keys::mark(project, id, sent.producer), rows::encode(mark));
}

/// Writes the mark of a producer that was read elsewhere. It goes when it has been silent for as long as one with a dictionary
/// may be.
pub(crate) fn mark_restore(
    batch: &mut Batch,
    project: Project,
    id: &RunId,
    producer: ProducerId,
    mark: &Mark,
) {
    let idle = keys::idle_producer(SweepStage::Dictionary, mark.seen_us, project, id, producer);
    batch.set(idle, Vec::new());
    batch.set(keys::mark(project, id, producer), rows::encode(mark));
}

/// The marks of all producers of a run.
pub async fn marks_list(
    snapshot: &dyn Snapshot,
    project: Project,
    id: &RunId,
) -> Result<Vec<(ProducerId, Mark)>> {
    let range = keys::marks(project, id);
    let rows = rows::scan_all(snapshot, &range).await?;
    rows.iter()
        .map(|(key, value)| Ok((keys::mark_producer(&range, key)?, rows::decode(key, value)?)))
        .collect()
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
    let dictionary = keys::dictionary(project, id, producer);
    let Some(value) = transaction.get(&key).await? else {
        if stage == SweepStage::Dictionary {
            // Of a restore that never ended: definitions went ahead of their mark.
            transaction.batch().clear_range(dictionary);
        }
        return Ok(());
    };
    let mark: Mark = rows::decode(&key, &value)?;
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
