//! Producers of a run that is being restored. Their marks and dictionaries are first stored
//! under its run number, because the rows under the run id belong to the live run, if there is
//! one: if a mark from an archive were stored there, records of a run created in the meantime
//! would look like repeats.

use matyan_store::{Batch, Commit, Mutation, Result, Snapshot, Store, Transaction, Value};

use super::StagedRun;
use crate::{
    ids::{ProducerId, Project, RunId, RunNumber},
    keys::{self, SweepStage},
    producer::{Definition, Mark, dictionary_pages, dictionary_truncate, mark_restore},
    rows,
};

/// Size of the definitions that the transaction that links a run can hold in addition to the
/// params. The rest is written in earlier transactions.
const LINKED_BYTES: usize = 64 << 10;

pub fn staged_mark_put(
    batch: &mut Batch,
    project: Project,
    number: RunNumber,
    producer: ProducerId,
    mark: &Mark,
) {
    batch.set(keys::staged_mark(project, number, producer), rows::encode(mark));
}

/// Writes definitions from number `first` on, replacing existing ones.
pub fn staged_definitions_put(
    batch: &mut Batch,
    project: Project,
    number: RunNumber,
    (producer, first): (ProducerId, u32),
    definitions: &[Definition],
) {
    let end = keys::staged_dictionary(project, number, producer).end;
    batch.clear_range(matyan_store::Range::new(keys::staged_page(project, number, producer, first), end));
    let mut rest = definitions;
    for (page, count) in dictionary_pages(first, definitions) {
        let (own, behind) = rest.split_at(count);
        batch.set(keys::staged_page(project, number, producer, page), rows::encode(&own));
        rest = behind;
    }
}

async fn staged_marks(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
) -> Result<Vec<(ProducerId, Mark)>> {
    let range = keys::staged_marks(project, number);
    let rows = rows::scan_all(snapshot, &range).await?;
    rows.iter()
        .map(|(key, value)| Ok((keys::decode_mark_producer(&range, key)?, rows::decode(key, value)?)))
        .collect()
}

/// Whether the live mark is at least as far as the archived one. A producer outlives its runs,
/// so a mark here that is further along is kept.
fn is_further_along(own: Option<Mark>, staged: &Mark) -> bool {
    own.is_some_and(|own| (own.sequence, own.items) >= (staged.sequence, staged.items))
}

/// A producer of a restore, with its current state under the run id.
#[derive(Clone, Debug)]
struct ProducerPair {
    producer: ProducerId,
    staged: Mark,
    /// The mark row under the run id when the definitions were chosen.
    own: Option<Value>,
    is_taken: bool,
}

/// The producers of a restore and the writes that link them, for the transaction that links the
/// run.
#[derive(Clone, Debug)]
pub struct StagedProducers {
    pairs: Vec<ProducerPair>,
    definitions: Vec<Mutation>,
}

/// Prepares the producers of a restore. If there are more definitions than the linking
/// transaction can hold, they are written in earlier transactions, which only succeed while the
/// run id is free and its producers are unchanged. Returns `None` if one of them fails, or if
/// the restore has ended.
pub async fn staged_producers_prepare(
    store: &dyn Store,
    project: Project,
    id: &RunId,
    staged: &StagedRun,
) -> Result<Option<StagedProducers>> {
    let mut pairs = Vec::new();
    let mut batch = Batch::buffered();
    // Index of the first pair whose definitions are written by this batch.
    let mut first = 0;
    let marks = staged_marks(store.snapshot().await?.as_ref(), project, staged.number).await?;
    for (producer, mark) in marks {
        let snapshot = store.snapshot().await?;
        let key = keys::mark(project, id, producer);
        let own = snapshot.get(&key).await?;
        let is_taken = !is_further_along(own.as_ref().map(|own| rows::decode(&key, own)).transpose()?, &mark);
        pairs.push(ProducerPair { producer, staged: mark, own, is_taken });
        if !is_taken {
            continue;
        }
        dictionary_truncate(&mut batch, project, id, producer, 0);
        let range = keys::staged_dictionary(project, staged.number, producer);
        for (page, value) in rows::scan_all(snapshot.as_ref(), &range).await? {
            let (number,): (u32,) = keys::tail(&range.start, &page)?;
            batch.set(keys::dictionary_page(project, id, producer, number), value);
            if batch.bytes() > LINKED_BYTES {
                add_checks(&mut batch, project, id, staged, &pairs[first..]);
                if store.commit(std::mem::replace(&mut batch, Batch::buffered())).await? == Commit::Conflict {
                    return Ok(None);
                }
                first = pairs.len() - 1;
            }
        }
    }
    Ok(Some(StagedProducers { pairs, definitions: batch.mutations }))
}

/// Adds the checks to a batch of definitions that is committed before the run is linked. Also
/// schedules the producers for the sweep, which clears the definitions if the restore never
/// finishes.
fn add_checks(batch: &mut Batch, project: Project, id: &RunId, staged: &StagedRun, pairs: &[ProducerPair]) {
    staged.expect(batch, project, id);
    batch.expect(keys::head(project, id), None);
    for pair in pairs.iter().filter(|pair| pair.is_taken) {
        batch.expect(keys::mark(project, id, pair.producer), pair.own.clone());
        let idle = keys::idle_producer(SweepStage::Dictionary, staged.begun_us, project, id, pair.producer);
        batch.set(idle, Vec::new());
    }
}

/// Moves the staged producers to the run id. Returns `false` if one of them has changed; in
/// that case the caller must write nothing.
pub async fn staged_producers_link(
    transaction: &mut Transaction,
    project: Project,
    id: &RunId,
    number: RunNumber,
    producers: StagedProducers,
) -> Result<bool> {
    let keys: Vec<_> = producers.pairs.iter().map(|pair| keys::mark(project, id, pair.producer)).collect();
    let owns = transaction.unchecked().get_many(&keys).await?;
    if !producers.pairs.iter().map(|pair| &pair.own).eq(&owns) {
        return Ok(false);
    }
    let batch = transaction.batch();
    for (pair, key) in producers.pairs.into_iter().zip(keys) {
        batch.expect(key, pair.own);
        if pair.is_taken {
            mark_restore(batch, project, id, pair.producer, &pair.staged);
        }
    }
    batch.mutations.extend(producers.definitions);
    batch.clear_range(keys::staged_marks(project, number));
    batch.clear_range(keys::staged_dictionaries(project, number));
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        producer::{DICTIONARY_KEPT_US, dictionary_get, dictionary_put, marks_list, producers_sweep},
        run::{Head, staged_begin},
        testing::TestStore,
    };

    const P: Project = Project(0);
    const PRODUCER: ProducerId = ProducerId([7; 16]);

    fn definitions(count: u32, name: &str) -> Vec<Definition> {
        (0..count)
            .map(|number| Definition { name: format!("{name}{number}"), ..Definition::default() })
            .collect()
    }

    async fn stage(store: &TestStore, id: &RunId, mark: &Mark, definitions: &[Definition]) -> StagedRun {
        let begin = async |transaction: &mut Transaction| -> Result<StagedRun> {
            staged_begin(transaction, P, id, [1; 32], (1_000, 1_000)).await
        };
        let staged = store.run(begin).await.unwrap();
        for (chunk, first) in definitions.chunks(2_000).zip((0..).step_by(2_000)) {
            let mut batch = Batch::default();
            staged_definitions_put(&mut batch, P, staged.number, (PRODUCER, first), chunk);
            staged_mark_put(&mut batch, P, staged.number, PRODUCER, mark);
            store.commit(batch).await.unwrap();
        }
        staged
    }

    async fn link(store: &TestStore, id: &RunId, staged: &StagedRun) {
        let producers =
            staged_producers_prepare(&**store, P, id, staged).await.unwrap().expect("the id is free");
        assert!(link_seen(store, id, staged, &producers).await);
    }

    async fn link_seen(
        store: &TestStore,
        id: &RunId,
        staged: &StagedRun,
        producers: &StagedProducers,
    ) -> bool {
        let link = async |transaction: &mut Transaction| -> Result<bool> {
            staged_producers_link(transaction, P, id, staged.number, producers.clone()).await
        };
        store.run(link).await.unwrap()
    }

    async fn linked(store: &TestStore, id: &RunId) -> (Vec<(ProducerId, Mark)>, Vec<Definition>) {
        let snapshot = store.snapshot().await.unwrap();
        let marks = marks_list(&*snapshot, P, id).await.unwrap();
        (marks, dictionary_get(&*snapshot, P, id, PRODUCER).await.unwrap())
    }

    #[tokio::test]
    async fn definitions_beyond_one_transaction_are_linked() {
        let store = TestStore::open().await;
        let id = RunId::new("r");
        let mark = Mark { sequence: 9, items: 1, seen_us: 3 };
        let all = definitions(8_000, &"x".repeat(1_000));
        let staged = stage(&store, &id, &mark, &all).await;
        assert_eq!(linked(&store, &id).await, (vec![], vec![]), "nothing must be visible before the link");
        link(&store, &id, &staged).await;
        assert!(linked(&store, &id).await == (vec![(PRODUCER, mark)], all));
        let left = [keys::staged_marks(P, staged.number), keys::staged_dictionaries(P, staged.number)];
        for range in left {
            assert!(rows::scan_all(&*store.snapshot().await.unwrap(), &range).await.unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn nothing_is_written_under_a_live_run_id() {
        let store = TestStore::open().await;
        let id = RunId::new("r");
        let staged = stage(&store, &id, &Mark::default(), &definitions(8_000, &"x".repeat(1_000))).await;
        let mut batch = Batch::default();
        batch.set(keys::head(P, &id), Head::Live(RunNumber(7)).encode());
        store.commit(batch).await.unwrap();
        assert!(staged_producers_prepare(&*store, P, &id, &staged).await.unwrap().is_none());
        assert_eq!(linked(&store, &id).await, (vec![], vec![]));
    }

    /// A run is deleted and its backup is restored, while its producer continues after the applied
    /// records.
    #[tokio::test]
    async fn a_producer_that_is_further_along_is_kept() {
        let store = TestStore::open().await;
        let id = RunId::new("r");
        let own = Mark { sequence: 9, items: 2, seen_us: 3 };
        for (items, is_taken) in [(1, false), (2, false), (3, true)] {
            let mut batch = Batch::default();
            batch.set(keys::mark(P, &id, PRODUCER), rows::encode(&own));
            dictionary_put(&mut batch, P, &id, PRODUCER, 0, &definitions(3, "own"));
            batch.clear(keys::staged(P, &id));
            store.commit(batch).await.unwrap();
            let mark = Mark { items, ..own };
            let staged = stage(&store, &id, &mark, &definitions(2, "staged")).await;
            link(&store, &id, &staged).await;
            let expected = if is_taken {
                (vec![(PRODUCER, mark)], definitions(2, "staged"))
            } else {
                (vec![(PRODUCER, own)], definitions(3, "own"))
            };
            assert_eq!(linked(&store, &id).await, expected);
        }
    }

    /// Combining the definitions of one state with the mark of another would yield an
    /// inconsistent producer.
    #[tokio::test]
    async fn a_producer_that_changes_meanwhile_is_read_again() {
        let store = TestStore::open().await;
        let id = RunId::new("r");
        let mark = Mark { sequence: 9, items: 1, seen_us: 3 };
        let staged = stage(&store, &id, &mark, &definitions(2, "staged")).await;
        let seen = staged_producers_prepare(&*store, P, &id, &staged).await.unwrap().unwrap();
        let own = Mark { sequence: 10, ..mark };
        let mut batch = Batch::default();
        batch.set(keys::mark(P, &id, PRODUCER), rows::encode(&own));
        dictionary_put(&mut batch, P, &id, PRODUCER, 0, &definitions(3, "own"));
        store.commit(batch).await.unwrap();
        let expected = (vec![(PRODUCER, own)], definitions(3, "own"));
        assert!(!link_seen(&store, &id, &staged, &seen).await);
        assert_eq!(linked(&store, &id).await, expected);
        link(&store, &id, &staged).await;
        assert_eq!(linked(&store, &id).await, expected);
    }

    #[tokio::test]
    async fn definitions_of_an_unfinished_restore_are_swept() {
        let store = TestStore::open().await;
        let id = RunId::new("r");
        let staged = stage(&store, &id, &Mark::default(), &definitions(500, &"x".repeat(1_000))).await;
        staged_producers_prepare(&*store, P, &id, &staged).await.unwrap().unwrap();
        let pages = async || {
            let range = keys::dictionary(P, &id, PRODUCER);
            rows::scan_all(&*store.snapshot().await.unwrap(), &range).await.unwrap().len()
        };
        let sweep = async |now_us: i64| {
            while store.run(async |transaction| producers_sweep(transaction, now_us).await).await.unwrap() {}
        };
        let before = pages().await;
        assert!(before > 0);
        sweep(staged.begun_us + DICTIONARY_KEPT_US).await;
        assert_eq!(pages().await, before);
        sweep(staged.begun_us + DICTIONARY_KEPT_US + 1).await;
        assert_eq!(pages().await, 0);
    }
}
