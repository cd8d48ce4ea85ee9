//! The list of runs whose metrics no cohort has, and the same list for params.
//!
//! Such a list is a queue: each run joins it, and soon leaves it. A store that keeps its rows in sorted tables, as the
//! embedded one does, keeps a mark for each row that was cleared, until its tables are merged down to the last level. A scan
//! passes over all these marks, so reading the list would cost what was ever listed, and not what is listed.
//!
//! Therefore a list is renewed once more runs have left it than are in it: new rows are written to the next generation,
//! whose keys no scan of the earlier one passes, and the rows that are left are moved there. So reading the list passes over a
//! few thousand cleared rows, and in the long run each row is moved about once.
//!
//! A transaction that lists a run checks that the generation is still the last one. All such transactions read this row, which
//! changes once in thousands of runs. While rows are moved, the list has two generations, and a run may have a row
//! in both. Rows only move to later generations, so a reader that reads them in their order, with a snapshot for each page,
//! misses no run.

use matyan_store::{Batch, Key, Range, Result, Scan, Snapshot, Transaction, Value, Version};
use minicbor::{Decode, Encode};

use crate::{
    entity::decode_counter,
    ids::{Project, RunNumber},
    keys::{self, CohortKind, ListGeneration},
    rows,
};

/// Runs that have left a list before it is renewed: passing over what is left of them takes a millisecond or two.
const WORN_RUNS: u64 = 4_096;
/// Rows that are counted at a time, and rows that are moved in one transaction.
const COUNTED: Scan = Scan { rows: 10_000, keys_only: true, ..Scan::DEFAULT };
const MOVED: Scan = Scan { rows: 500, ..Scan::DEFAULT };

/// The row with the generations of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
struct GenerationsRow {
    #[n(0)]
    first: u64,
    #[n(1)]
    last: u64,
    /// In the list of uncollected params, whether the index rows that params had in earlier formats are all
    /// cleared. A reader would pass over what is left of them.
    #[n(2)]
    #[cbor(default)]
    is_without_index_rows: bool,
}

/// The generations that may have rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Generations {
    first: ListGeneration,
    last: ListGeneration,
    /// They were found by the rows that there are, because the row that names them is damaged. Then the very first one may have
    /// rows, too.
    is_damaged: bool,
    is_without_index_rows: bool,
}

impl Generations {
    async fn read(
        snapshot: &dyn Snapshot,
        kind: CohortKind,
        project: Project,
    ) -> Result<(Self, Option<Value>)> {
        let key = keys::uncollected_generations(kind, project);
        let row = snapshot.get(&key).await?;
        let named = match &row {
            Some(value) => rows::readable(rows::decode::<GenerationsRow>(&key, value))?,
            None => Some(GenerationsRow::default()),
        };
        let is_damaged = named.is_none();
        let GenerationsRow { first, last, is_without_index_rows } = match named {
            Some(named) => named,
            None => find_generations(snapshot, kind, project).await?,
        };
        let generations = Self {
            first: ListGeneration(first),
            last: ListGeneration(last),
            is_damaged,
            is_without_index_rows,
        };
        Ok((generations, row))
    }

    /// The generation that is read first.
    fn start(self) -> ListGeneration {
        if self.is_damaged { ListGeneration::FIRST } else { self.first }
    }

    /// The generation that is read after another one.
    fn after(self, generation: ListGeneration) -> Option<ListGeneration> {
        let next = generation.next().max(self.first);
        (next <= self.last).then_some(next)
    }

    /// Whether the list is not being renewed.
    fn is_one(self) -> bool {
        !self.is_damaged && self.first == self.last
    }
}

/// The first and the last generation with a row, apart from the very first one.
async fn find_generations(
    snapshot: &dyn Snapshot,
    kind: CohortKind,
    project: Project,
) -> Result<GenerationsRow> {
    let later = keys::uncollected_later(kind, project);
    let mut found = [ListGeneration::FIRST.0; 2];
    for (end, reverse) in found.iter_mut().zip([false, true]) {
        let scan = Scan { rows: 1, reverse, keys_only: true, ..Scan::DEFAULT };
        let page = snapshot.scan(&later, scan).await?;
        if let Some((key, _)) = page.rows.first() {
            let (generation, _number): (u64, u64) = keys::tail(&later.start, key)?;
            *end = generation;
        }
    }
    let [first, last] = found;
    Ok(GenerationsRow { first, last, is_without_index_rows: false })
}

/// A list to be changed: the generation that gets new rows, and all that may have rows.
#[derive(Clone, Debug)]
pub struct UncollectedList {
    kind: CohortKind,
    project: Project,
    generations: Generations,
    /// The row with the generations, as it was read.
    row: Option<Value>,
}

impl UncollectedList {
    pub async fn read(snapshot: &dyn Snapshot, kind: CohortKind, project: Project) -> Result<Self> {
        let (generations, row) = Generations::read(snapshot, kind, project).await?;
        Ok(Self { kind, project, generations, row })
    }

    /// Makes a batch fail if rows belong to another generation by then.
    pub(crate) fn check(&self, batch: &mut Batch) {
        batch.expect(keys::uncollected_generations(self.kind, self.project), self.row.clone());
    }

    /// The row of a run in the last generation.
    pub(crate) fn key(&self, number: RunNumber) -> Key {
        keys::uncollected(self.kind, self.project, self.generations.last, number)
    }

    /// Lists a run.
    pub fn put(&self, batch: &mut Batch, number: RunNumber, value: impl Into<Value>) {
        self.check(batch);
        batch.set(self.key(number), value);
    }

    /// The rows that a run may have in all generations.
    fn keys(&self, number: RunNumber) -> Vec<Key> {
        let key = |generation| keys::uncollected(self.kind, self.project, generation, number);
        let next = |generation: &ListGeneration| self.generations.after(*generation);
        std::iter::successors(Some(self.generations.start()), next).map(key).collect()
    }

    /// Whether a run is in the list. The transaction fails if that changes.
    pub(crate) async fn has(&self, transaction: &Transaction, number: RunNumber) -> Result<bool> {
        for key in self.keys(number) {
            if transaction.get(&key).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes a run out of the list. Returns false if it was not in it. The batch fails if that changes.
    pub(crate) async fn remove(
        &self,
        snapshot: &dyn Snapshot,
        batch: &mut Batch,
        number: RunNumber,
    ) -> Result<bool> {
        let keys = self.keys(number);
        let values = snapshot.get_many(&keys).await?;
        self.check(batch);
        let mut is_listed = false;
        for (key, value) in keys.into_iter().zip(values) {
            batch.expect(key.clone(), value.clone());
            // Clearing an absent row would leave a mark as well.
            if value.is_some() {
                batch.clear(key);
                is_listed = true;
            }
        }
        if is_listed {
            self.count_left(batch, 1);
        }
        Ok(is_listed)
    }

    /// Counts runs that leave the list.
    pub(crate) fn count_left(&self, batch: &mut Batch, runs: usize) {
        let runs = i64::try_from(runs).unwrap_or(i64::MAX);
        batch.add(keys::uncollected_left(self.kind, self.project), runs);
    }
}

/// Where a reader is.
#[derive(Clone, Debug)]
enum ReaderPlace {
    Start,
    At(ListGeneration, Range),
    End,
}

/// Reads a list, page by page. Each page may have its own snapshot. A run that has a row in two generations
/// is read twice, and a run that leaves the list in the meantime may be missed.
#[derive(Clone, Debug)]
pub struct UncollectedReader {
    kind: CohortKind,
    project: Project,
    place: ReaderPlace,
    /// The generations as of a version.
    known: Option<(Version, Generations)>,
}

impl UncollectedReader {
    pub fn new(kind: CohortKind, project: Project) -> Self {
        Self { kind, project, place: ReaderPlace::Start, known: None }
    }

    /// Whether everything is read.
    pub fn is_done(&self) -> bool {
        matches!(self.place, ReaderPlace::End)
    }

    /// Whether nothing is read yet.
    pub fn is_at_start(&self) -> bool {
        matches!(self.place, ReaderPlace::Start)
    }

    /// Reads the next rows, whose keys end with the number of their run. After an error, the same page can be read again.
    pub async fn next(&mut self, snapshot: &dyn Snapshot, scan: Scan) -> Result<Option<Vec<(Key, Value)>>> {
        loop {
            let (generation, range) = match &self.place {
                ReaderPlace::End => return Ok(None),
                ReaderPlace::At(generation, range) => (*generation, range.clone()),
                ReaderPlace::Start => {
                    let generation = self.generations(snapshot).await?.start();
                    (generation, self.all(generation))
                }
            };
            let page = snapshot.scan(&range, scan).await?;
            self.place = match page.rest(&range) {
                Some(rest) => ReaderPlace::At(generation, rest),
                // As of the last page: rows that have left this generation by then may be in a later one.
                None => match self.generations(snapshot).await?.after(generation) {
                    Some(later) => ReaderPlace::At(later, self.all(later)),
                    None => ReaderPlace::End,
                },
            };
            if !page.rows.is_empty() {
                return Ok(Some(page.rows));
            }
        }
    }

    /// Reads the numbers of the next runs.
    pub async fn next_runs(
        &mut self,
        snapshot: &dyn Snapshot,
        rows: usize,
    ) -> Result<Option<Vec<RunNumber>>> {
        let scan = Scan { rows, keys_only: true, ..Scan::DEFAULT };
        let Some(rows) = self.next(snapshot, scan).await? else { return Ok(None) };
        rows.iter().map(|(key, _)| keys::index_run(key)).collect::<Result<_>>().map(Some)
    }

    /// Whether params may have index rows, as far as the list tells.
    pub(crate) fn may_have_index_rows(&self) -> bool {
        self.known.is_none_or(|(_, generations)| !generations.is_without_index_rows)
    }

    fn all(&self, generation: ListGeneration) -> Range {
        keys::uncollected_all(self.kind, self.project, generation)
    }

    async fn generations(&mut self, snapshot: &dyn Snapshot) -> Result<Generations> {
        if let Some((version, generations)) = self.known
            && version == snapshot.version()
        {
            return Ok(generations);
        }
        let (generations, _) = Generations::read(snapshot, self.kind, self.project).await?;
        self.known = Some((snapshot.version(), generations));
        Ok(generations)
    }
}

/// Whether it is noted that no run of a project has index rows of params.
pub async fn index_rows_are_cleared(snapshot: &dyn Snapshot, project: Project) -> Result<bool> {
    Ok(Generations::read(snapshot, CohortKind::Params, project).await?.0.is_without_index_rows)
}

/// Notes that no run of a project has index rows of params. No program that can open the store writes any.
pub async fn index_rows_cleared_put(transaction: &mut Transaction, project: Project) -> Result<()> {
    let list = UncollectedList::read(transaction.unchecked(), CohortKind::Params, project).await?;
    let Generations { first, last, is_damaged, .. } = list.generations;
    // A damaged row is written again when the list is renewed.
    if !is_damaged {
        let row = GenerationsRow { first: first.0, last: last.0, is_without_index_rows: true };
        list.check(transaction.batch());
        transaction
            .batch()
            .set(keys::uncollected_generations(CohortKind::Params, project), rows::encode(&row));
    }
    Ok(())
}

/// Tells when a list should be renewed. If the caller keeps it between its looks, the rows of a long list are counted less
/// often.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListWear {
    /// How many runs had left the list at its last count, if the count found more rows than that.
    counted_at: u64,
}

impl ListWear {
    /// Whether a list should be renewed: more runs have left it since the last renewal than are in it, or a renewal was
    /// interrupted. The rows of a long list are only counted again once a quarter more runs have left it.
    pub async fn is_worn(
        &mut self,
        snapshot: &dyn Snapshot,
        kind: CohortKind,
        project: Project,
    ) -> Result<bool> {
        if !Generations::read(snapshot, kind, project).await?.0.is_one() {
            return Ok(true);
        }
        let key = keys::uncollected_left(kind, project);
        let left = match snapshot.get(&key).await? {
            Some(value) => rows::readable(decode_counter(&key, &value))?.unwrap_or(i64::MAX),
            None => 0,
        };
        let left = u64::try_from(left).unwrap_or_default();
        // Fewer after a renewal.
        self.counted_at = self.counted_at.min(left);
        if left < WORN_RUNS.max(self.counted_at.saturating_add(self.counted_at / 4)) {
            return Ok(false);
        }
        let mut listed = 0;
        let mut reader = UncollectedReader::new(kind, project);
        while listed <= left
            && let Some(rows) = reader.next(snapshot, COUNTED).await?
        {
            listed += rows.len() as u64;
        }
        let is_worn = listed <= left;
        if !is_worn {
            self.counted_at = left;
        }
        Ok(is_worn)
    }
}

/// Takes one step of renewing a list: starts the next generation, or moves some rows to it. Returns true once all rows are there.
/// The caller must hold the lock of the job that makes cohorts, and no cohort may be on its way.
pub async fn uncollected_renew(
    transaction: &mut Transaction,
    kind: CohortKind,
    project: Project,
) -> Result<bool> {
    let list = UncollectedList::read(transaction.unchecked(), kind, project).await?;
    list.check(transaction.batch());
    let Generations { first, last, is_damaged, is_without_index_rows } = list.generations;
    let row = |first: ListGeneration, last: ListGeneration| {
        rows::encode(&GenerationsRow { first: first.0, last: last.0, is_without_index_rows })
    };
    let named = keys::uncollected_generations(kind, project);
    if is_damaged || first == last {
        let first = list.generations.start();
        let batch = transaction.batch();
        batch.set(named, row(first, last.next()));
        batch.clear(keys::uncollected_left(kind, project));
        return Ok(false);
    }
    // Checked, so that a run that is deleted now does not stay in the list.
    let page = transaction.scan(&keys::uncollected_all(kind, project, first), MOVED).await?;
    let later: Result<Vec<Key>> =
        page.rows.iter().map(|(key, _)| Ok(list.key(keys::index_run(key)?))).collect();
    let later = later?;
    let found = if later.is_empty() { Vec::new() } else { transaction.unchecked().get_many(&later).await? };
    let batch = transaction.batch();
    for (((key, value), later), found) in page.rows.iter().zip(later).zip(found) {
        // A run that was listed since then keeps its newer row.
        if found.is_none() {
            batch.expect(later.clone(), None);
            batch.set(later, value.clone());
        }
        batch.clear(key.clone());
    }
    if page.more {
        return Ok(false);
    }
    batch.set(named, row(first.next(), last));
    Ok(first.next() == last)
}

#[cfg(test)]
mod tests;
