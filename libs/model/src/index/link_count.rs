//! Repair of the counters of runs of tags and experiments. A tag may have more runs than can be counted while
//! a snapshot lives, so its runs are counted in parts, each from its own snapshot. The change feed tells in
//! which parts a run has changed since; these parts are counted again, until they are few enough for a last
//! snapshot.

use std::collections::BTreeSet;

use matyan_store::{Error, Range, Result, Snapshot, Stamp, Store, Transaction};

use super::index_page_count;
use crate::{
    change::{changes_list, changes_trimmed},
    entity,
    ids::{Project, RunNumber},
    keys::{self, Counter, EntityKind},
};

/// Number of runs of a part.
const PART: usize = 10_000;

/// Number of changes read at a time.
const CHANGES: usize = 10_000;

/// Number of parts that are counted in the transaction that repairs the counter.
const PARTS_AT_THE_END: usize = 8;

/// The runs that a tag or an experiment has by the index.
pub struct LinkCount {
    project: Project,
    kind: EntityKind,
    id: String,
    /// In key order; together they cover all runs.
    parts: Vec<CountedPart>,
    /// The counts of all parts include every change up to here.
    counted_to: Stamp,
    /// Number of runs of a part.
    part_runs: usize,
}

struct CountedPart {
    range: Range,
    runs: u64,
}

/// Outcome of the last step of a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterRepair {
    /// Whether the counter was wrong.
    Done { was_wrong: bool },
    /// Too many runs were changed since they were counted: call `recount`.
    RecountNeeded,
}

impl LinkCount {
    /// Counts the runs.
    pub async fn new(store: &dyn Store, project: Project, kind: EntityKind, id: &str) -> Result<Self> {
        Self::in_parts(store, (project, kind, id), PART).await
    }

    async fn in_parts(
        store: &dyn Store,
        (project, kind, id): (Project, EntityKind, &str),
        part_runs: usize,
    ) -> Result<Self> {
        let mut snapshot = store.snapshot().await?;
        let counted_to = snapshot.version().stamp(u16::MAX);
        let mut parts = Vec::new();
        let mut rest = Some(match kind {
            EntityKind::Tag => keys::index_tag_all(project, id),
            _ => keys::index_experiment_all(project, id),
        });
        while let Some(range) = rest {
            let page = match index_page_count(snapshot.as_ref(), &range, part_runs).await {
                Err(Error::SnapshotTooOld) => {
                    snapshot = store.snapshot().await?;
                    index_page_count(snapshot.as_ref(), &range, part_runs).await?
                }
                page => page?,
            };
            rest = page.1;
            let end = rest.as_ref().map_or(&range.end, |rest| &rest.start).clone();
            parts.push(CountedPart { range: Range::new(range.start, end), runs: page.0 as u64 });
        }
        Ok(Self { project, kind, id: id.to_owned(), parts, counted_to, part_runs })
    }

    /// Counts again the parts in which a run has changed since they were counted.
    pub async fn recount(&mut self, store: &dyn Store) -> Result<()> {
        let mut snapshot = store.snapshot().await?;
        let counted_to = snapshot.version().stamp(u16::MAX);
        let mut changed = BTreeSet::new();
        let mut after = self.counted_to;
        loop {
            let (stamp, more) = self.add_changed(snapshot.as_ref(), after, &mut changed).await?;
            if !more {
                break;
            }
            after = stamp;
            snapshot = store.snapshot().await?;
        }
        // Checked after the changes were read: none of them was dropped before.
        let trimmed = changes_trimmed(store.snapshot().await?.as_ref(), self.project).await?;
        if trimmed.is_some_and(|trimmed| trimmed > self.counted_to) {
            return Err(Error::SnapshotTooOld);
        }
        for part in changed {
            let snapshot = store.snapshot().await?;
            self.parts[part].runs = self.count(snapshot.as_ref(), part).await?;
        }
        self.counted_to = counted_to;
        Ok(())
    }

    /// Corrects the counter, unless too many runs were changed since they were counted.
    pub async fn repair(&self, transaction: &mut Transaction) -> Result<CounterRepair> {
        let snapshot = transaction.unchecked();
        if changes_trimmed(snapshot, self.project).await?.is_some_and(|trimmed| trimmed > self.counted_to) {
            // The changes since the last count are no longer stored.
            return Err(Error::SnapshotTooOld);
        }
        let mut changed = BTreeSet::new();
        let (_, more) = self.add_changed(snapshot, self.counted_to, &mut changed).await?;
        if more || changed.len() > PARTS_AT_THE_END {
            return Ok(CounterRepair::RecountNeeded);
        }
        let mut linked = 0;
        for part in 0..self.parts.len() {
            let runs = self.parts[part].runs;
            linked += if changed.contains(&part) { self.count(snapshot, part).await? } else { runs };
        }
        let key = keys::entity_counter(self.project, self.kind, &self.id, Counter::Runs);
        // It fails if the counter changes, or is cleared with its tag.
        let counted = transaction.get(&key).await?;
        let counted =
            counted.map(|value| entity::decode_counter(&key, &value)).transpose()?.unwrap_or_default();
        let missing = linked.cast_signed() - counted;
        if missing != 0 {
            transaction.batch().add(key, missing);
        }
        Ok(CounterRepair::Done { was_wrong: missing != 0 })
    }

    /// Adds the parts in which runs were changed by a page of changes. Returns the last change, and whether there are
    /// more.
    async fn add_changed(
        &self,
        snapshot: &dyn Snapshot,
        after: Stamp,
        parts: &mut BTreeSet<usize>,
    ) -> Result<(Stamp, bool)> {
        let (changes, more) = changes_list(snapshot, self.project, Some(after), CHANGES).await?;
        let last = changes.last().map_or(after, |change| change.stamp);
        if more && changes.first().is_some_and(|first| first.stamp == last) {
            // The page ends within a commit, and the rest of the commit is not listed after its stamp.
            parts.extend(0..self.parts.len());
        }
        parts.extend(changes.iter().map(|change| self.part_of(change.number)));
        Ok((last, more))
    }

    /// The part in which a run is, or would be.
    fn part_of(&self, number: RunNumber) -> usize {
        let key = match self.kind {
            EntityKind::Tag => keys::index_tag(self.project, &self.id, number),
            _ => keys::index_experiment(self.project, &self.id, number),
        };
        let later = self.parts.partition_point(|part| part.range.start <= key);
        later.saturating_sub(1)
    }

    async fn count(&self, snapshot: &dyn Snapshot, part: usize) -> Result<u64> {
        let mut runs = 0;
        let mut rest = Some(self.parts[part].range.clone());
        while let Some(range) = rest {
            let (found, next) = index_page_count(snapshot, &range, self.part_runs).await?;
            runs += found as u64;
            rest = next;
        }
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use matyan_store::{Batch, embedded::EmbeddedStore};

    use super::*;
    use crate::change::{KeptChanges, change_put, changes_trim};

    const PROJECT: Project = Project(1);

    async fn counter(store: &EmbeddedStore) -> i64 {
        let key = keys::entity_counter(PROJECT, EntityKind::Tag, "t", Counter::Runs);
        let value = store.snapshot().await.unwrap().get(&key).await.unwrap();
        value.map_or(0, |value| entity::decode_counter(&key, &value).unwrap())
    }

    /// Tags some runs, or removes the tag.
    async fn tag(store: &EmbeddedStore, numbers: impl IntoIterator<Item = u64>, is_tagged: bool) {
        let mut batch = Batch::default();
        for number in numbers.into_iter().map(RunNumber) {
            let row = keys::index_tag(PROJECT, "t", number);
            let counter = keys::entity_counter(PROJECT, EntityKind::Tag, "t", Counter::Runs);
            if is_tagged {
                batch.set(row, vec![]).add(counter, 1);
            } else {
                batch.clear(row).add(counter, -1);
            }
            change_put(&mut batch, PROJECT, number, 1, "");
        }
        store.commit(batch).await.unwrap();
    }

    async fn repair(store: &EmbeddedStore, links: &LinkCount) -> CounterRepair {
        let mut transaction = Transaction::new(store.snapshot().await.unwrap());
        let repaired = links.repair(&mut transaction).await.unwrap();
        store.commit(transaction.into_batch()).await.unwrap();
        repaired
    }

    #[tokio::test]
    async fn a_counter_is_repaired_although_runs_change_between_the_snapshots() {
        let directory = tempfile::TempDir::new().unwrap();
        let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
        tag(&store, (0..200).map(|number| 2 * number), true).await;
        let mut batch = Batch::default();
        batch.add(keys::entity_counter(PROJECT, EntityKind::Tag, "t", Counter::Runs), 7);
        store.commit(batch).await.unwrap();

        let of_tag = (PROJECT, EntityKind::Tag, "t");
        let mut links = LinkCount::in_parts(&store, of_tag, 10).await.unwrap();
        // Before the first part, within some, and after the last one.
        tag(&store, [4, 100], false).await;
        tag(&store, [1, 3, 1_000], true).await;
        assert_eq!(repair(&store, &links).await, CounterRepair::Done { was_wrong: true });
        assert_eq!(counter(&store).await, 201);
        assert_eq!(repair(&store, &links).await, CounterRepair::Done { was_wrong: false });

        // Too many parts for the last snapshot.
        tag(&store, (0..10).map(|part| 40 * part + 5), true).await;
        assert_eq!(repair(&store, &links).await, CounterRepair::RecountNeeded);
        links.recount(&store).await.unwrap();
        tag(&store, [7], true).await;
        assert_eq!(repair(&store, &links).await, CounterRepair::Done { was_wrong: false });
        assert_eq!(counter(&store).await, 212);
    }

    #[tokio::test]
    async fn a_counter_without_runs_is_cleared_to_zero() {
        let directory = tempfile::TempDir::new().unwrap();
        let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
        let mut batch = Batch::default();
        batch.add(keys::entity_counter(PROJECT, EntityKind::Tag, "t", Counter::Runs), 3);
        store.commit(batch).await.unwrap();
        let links = LinkCount::new(&store, PROJECT, EntityKind::Tag, "t").await.unwrap();
        assert_eq!(repair(&store, &links).await, CounterRepair::Done { was_wrong: true });
        assert_eq!(counter(&store).await, 0);
    }

    /// It is not known which runs the dropped changes were about.
    #[tokio::test]
    async fn a_count_whose_changes_were_dropped_starts_over() {
        let directory = tempfile::TempDir::new().unwrap();
        let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
        tag(&store, 0..30, true).await;
        let of_tag = (PROJECT, EntityKind::Tag, "t");
        let mut links = LinkCount::in_parts(&store, of_tag, 10).await.unwrap();
        tag(&store, [30, 31], true).await;
        let mut batch = Batch::default();
        // All changes are older.
        let kept = KeptChanges { times_us: 2..i64::MAX, count: 1_000 };
        assert!(changes_trim(&*store.snapshot().await.unwrap(), PROJECT, &kept, &mut batch).await.unwrap());
        batch.add(keys::entity_counter(PROJECT, EntityKind::Tag, "t", Counter::Runs), 7);
        store.commit(batch).await.unwrap();

        assert!(matches!(links.recount(&store).await, Err(Error::SnapshotTooOld)));
        let mut transaction = Transaction::new(store.snapshot().await.unwrap());
        assert!(matches!(links.repair(&mut transaction).await, Err(Error::SnapshotTooOld)));
        let mut again = LinkCount::in_parts(&store, of_tag, 10).await.unwrap();
        again.recount(&store).await.unwrap();
        assert_eq!(repair(&store, &again).await, CounterRepair::Done { was_wrong: true });
        assert_eq!(counter(&store).await, 32);
    }
}
