//! Producers of batches: how far each has been applied, and what its series numbers mean.
//!
//! A mark is the last sequence number of a producer that was applied in one run. A dictionary holds
//! the definitions from all batches of a producer, because a record in the log carries only new
//! definitions. A dictionary does not store series numbers: they are looked up each time it is
//! loaded, so it can outlive the run, like its producer. Producers that the frontier created are
//! swept after an hour of log time. Producers with a dictionary are swept after a month, because a
//! connection may be silent for a long time and then use its numbers. A client that chose its id
//! may resend records that it kept for much longer, so its mark stays; its dictionary is swept like
//! the others, because the client repeats it when it connects.

use matyan_store::{Batch, Range, Result, Scan, Snapshot, Transaction};
use minicbor::{Decode, Encode};

use crate::{
    ids::{ProducerId, Project, RunId},
    keys::{self, SweepStage},
    rows,
};

/// Log time after which a silent producer without a dictionary is swept.
pub const MARK_KEPT_US: i64 = 3_600_000_000;
/// Log time after which a silent producer with a dictionary is swept.
pub const DICTIONARY_KEPT_US: i64 = 30 * 24 * 3_600_000_000;

/// The position up to which a producer has been applied. A batch is one record, or one record
/// per item if it was sent as JSON envelopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Mark {
    /// The last sequence number that has been applied completely.
    #[n(0)]
    pub sequence: u64,
    /// Number of items applied from the next batch.
    #[n(1)]
    pub items: u32,
    /// Log time of the last record.
    #[n(2)]
    pub seen_us: i64,
}

/// The producer of a record, and the position of the record in its sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct BatchOrigin {
    #[n(0)]
    pub producer: ProducerId,
    #[n(1)]
    pub sequence: u64,
    /// Which items of the batch this record carries; `None` if it carries all of them.
    #[n(2)]
    pub part: Option<BatchPart>,
    /// All sequence numbers up to this one have been acknowledged to the producer.
    #[n(3)]
    pub acknowledged: u64,
    /// The frontier created this producer for a connection.
    #[n(4)]
    pub is_ephemeral: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct BatchPart {
    #[n(0)]
    pub first: u32,
    #[n(1)]
    pub count: u32,
    #[n(2)]
    pub total: u32,
}

impl Mark {
    /// Whether all of a record is applied. If not, and the mark cannot be `advanced_by` it, then it
    /// follows a gap.
    pub fn covers(&self, sent: &BatchOrigin) -> bool {
        match sent.part {
            Some(part) if self.sequence.checked_add(1) == Some(sent.sequence) => {
                part.first.saturating_add(part.count) <= self.items
            }
            _ => sent.sequence <= self.sequence,
        }
    }

    /// The mark after a record, or `None` if the record does not continue its producer's sequence:
    /// then it is a repeat, or it follows a gap. A record after a gap was never acknowledged, so it
    /// will be resent.
    pub fn advanced_by(self, sent: &BatchOrigin, seen_us: i64) -> Option<Self> {
        let first = sent.part.map_or(0, |part| part.first);
        let is_behind =
            |sequence: u64, items| sequence.checked_add(1) == Some(sent.sequence) && items == first;
        let continues = if sent.acknowledged <= self.sequence {
            is_behind(self.sequence, self.items)
        } else if (self.sequence, self.items) == (0, 0) {
            // The mark was swept: the sequence number that was acknowledged to the
            // producer replaces it.
            is_behind(sent.acknowledged, 0)
        } else {
            // Acknowledged records that the store does not have were before this record in the log,
            // and the log has lost them: they will not be resent. Unacknowledged ones may have been
            // lost with them, so they are not waited for.
            sent.sequence > sent.acknowledged && first == 0
        };
        continues.then(|| Self::after(sent, seen_us))
    }

    /// The mark of a producer without one after its first record in a log that is read from its
    /// middle. What precedes the record in its sequence is not there, and whether that was
    /// acknowledged since is unknown.
    pub fn first_in_middle(sent: &BatchOrigin, seen_us: i64) -> Option<Self> {
        (sent.sequence > sent.acknowledged).then(|| Self::after(sent, seen_us))
    }

    fn after(sent: &BatchOrigin, seen_us: i64) -> Self {
        match sent.part {
            Some(part) if part.first + part.count < part.total => {
                Self { sequence: sent.sequence - 1, items: part.first + part.count, seen_us }
            }
            _ => Self { sequence: sent.sequence, items: 0, seen_us },
        }
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

/// Writes a mark. A new producer is also scheduled for the sweep.
pub fn mark_put(
    batch: &mut Batch,
    project: Project,
    id: &RunId,
    sent: &BatchOrigin,
    mark: &Mark,
    is_new: bool,
) {
    if is_new {
        let stage = if sent.is_ephemeral { SweepStage::Mark } else { SweepStage::OwnDictionary };
        batch.set(keys::idle_producer(stage, mark.seen_us, project, id, sent.producer), Vec::new());
    }
    batch.set(keys::mark(project, id, sent.producer), rows::encode(mark));
}

/// Writes a mark from an archive. The producer is swept once it has been silent for as long as a
/// producer with a dictionary may be.
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
        .map(|(key, value)| Ok((keys::decode_mark_producer(&range, key)?, rows::decode(key, value)?)))
        .collect()
}

/// One definition, as received.
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

/// Splits new definitions into pages that fit a row. Each page is the number of its first
/// definition and their count.
pub fn dictionary_pages(first: u32, definitions: &[Definition]) -> Vec<(u32, usize)> {
    let mut pages = vec![(first, 0)];
    let mut size = 0;
    for (definition, number) in definitions.iter().zip(first..) {
        let own = definition.name.len()
            + definition.context.len()
            + definition.dtype.len()
            + DEFINITION_EXTRA_BYTES;
        let last = pages.last_mut().expect("there is a first page");
        // A definition that is larger than a page gets its own page.
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

/// Upper bound for the lengths and the array head of one encoded definition.
const DEFINITION_EXTRA_BYTES: usize = 16;

/// Deletes the definitions from number `first` on, because a batch is about to redefine them.
pub fn dictionary_truncate(
    batch: &mut Batch,
    project: Project,
    id: &RunId,
    producer: ProducerId,
    first: u32,
) {
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
        // A page replaces all earlier definitions from its first number on.
        all.truncate(first as usize);
        let page: Vec<Definition> = rows::decode(&key, &value)?;
        all.extend(page);
    }
    Ok(all)
}

/// Number of producers checked in one step of the sweep.
const SWEEP_PRODUCERS: usize = 500;

/// Sweeps one page of the producers that are due at log time `now_us`. Returns `false` if there
/// were none.
pub async fn producers_sweep(transaction: &mut Transaction, now_us: i64) -> Result<bool> {
    let mut found = false;
    for (stage, kept_us) in [
        (SweepStage::Mark, MARK_KEPT_US),
        (SweepStage::Dictionary, DICTIONARY_KEPT_US),
        (SweepStage::OwnDictionary, DICTIONARY_KEPT_US),
    ] {
        let range = keys::idle_producers(stage, now_us.saturating_sub(kept_us));
        let scan = Scan { rows: SWEEP_PRODUCERS, ..Scan::default() };
        for (key, _) in transaction.unchecked().scan(&range, scan).await?.rows {
            let (_, project, id, producer) = keys::decode_idle_producer(&range, &key)?;
            // A damaged mark is not swept. If the producer sends more, its run is put in quarantine.
            rows::readable(sweep_one(transaction, stage, kept_us, now_us, (project, &id, producer)).await)?;
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
    // This read is checked: if the producer becomes active in the meantime, the transaction
    // fails.
    let Some(value) = transaction.get(&key).await? else {
        if stage != SweepStage::Mark {
            // Left by a restore that never finished: definitions are written before
            // their mark.
            transaction.batch().clear_range(dictionary);
        }
        return Ok(());
    };
    let mark: Mark = rows::decode(&key, &value)?;
    let is_silent = mark.seen_us < now_us.saturating_sub(kept_us);
    // Parked records of a run in quarantine are applied later, and need the mark as it is now. The read is
    // checked too, for a quarantine that starts now.
    if is_silent && transaction.get(&keys::quarantine(project, id)).await?.is_some() {
        transaction.batch().set(keys::idle_producer(stage, now_us, project, id, producer), Vec::new());
        return Ok(());
    }
    let has_dictionary = !transaction
        .unchecked()
        .scan(&dictionary, Scan { rows: 1, ..Scan::default() })
        .await?
        .rows
        .is_empty();
    let batch = transaction.batch();
    match (stage, is_silent) {
        // It was seen after this entry was written, so the entry is replaced by a later one.
        (_, false) => batch.set(keys::idle_producer(stage, mark.seen_us, project, id, producer), Vec::new()),
        (SweepStage::Mark, true) if has_dictionary => {
            let next = keys::idle_producer(SweepStage::Dictionary, mark.seen_us, project, id, producer);
            batch.set(next, Vec::new())
        }
        (SweepStage::OwnDictionary, true) => batch.clear_range(dictionary),
        (_, true) => batch.clear(key).clear_range(dictionary),
    };
    Ok(())
}

#[cfg(test)]
mod tests;
