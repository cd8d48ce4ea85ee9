//! Producers of a run that is being restored. They wait under its run number, because what stands under the run id is of whatever
//! lives there: a mark of an archive would make the records of a run that is made meanwhile pass for repeats.

use matyan_store::{Batch, Commit, Mutation, Result, Snapshot, Store, Transaction, Value};

use super::Staged;
use crate::{
    ids::{ProducerId, Project, RunId, RunNumber},
    keys::{self, SweepStage},
    producer::{Definition, Mark, dictionary_cut, dictionary_pages, mark_restore},
    rows,
};

/// Definitions that the transaction which links a run takes beside its params: more go ahead of it.
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

/// Definitions from number `first` on, in the place of those that were there.
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
        .map(|(key, value)| Ok((keys::mark_producer(&range, key)?, rows::decode(key, value)?)))
        .collect()
}

/// A producer outlives its runs: one that has come further here than in the archive stays as it is.
fn is_further(own: Option<Mark>, staged: &Mark) -> bool {
    own.is_some_and(|own| (own.sequence, own.items) >= (staged.sequence, staged.items))
}

/// A producer of a restore beside what there is of it here.
#[derive(Clone, Debug)]
struct Pair {
    producer: ProducerId,
    staged: Mark,
    /// The row of the mark under the run id, as it was when the definitions were chosen.
    own: Option<Value>,
    is_taken: bool,
}

/// What brings producers under a run id, for the transaction that links the run.
#[derive(Clone, Debug)]
pub struct StagedProducers {
    pairs: Vec<Pair>,
    definitions: Vec<Mutation>,
}

/// Looks at the producers of a restore. Definitions that are too many for the transaction which links the run get transactions
/// of their own ahead, which hold while the id is free and its producers are as they were seen. `None` if they do not hold, or
/// the restore has ended.
pub async fn staged_producers(
    store: &dyn Store,
    project: Project,
    id: &RunId,
    staged: &Staged,
) -> Result<Option<StagedProducers>> {
    let (mut pairs, mut batch) = (Vec::new(), Batch::buffered());
    // Of the pairs, the first whose definitions are in the batch.
    let mut first = 0;
    let marks = staged_marks(store.snapshot().await?.as_ref(), project, staged.number).await?;
    for (producer, mark) in marks {
        let snapshot = store.snapshot().await?;
        let key = keys::mark(project, id, producer);
        let own = snapshot.get(&key).await?;
        let is_taken = !is_further(own.as_ref().map(|own| rows::decode(&key, own)).transpose()?, &mark);
        pairs.push(Pair { producer, staged: mark, own, is_taken });
        if !is_taken {
            continue;
        }
        dictionary_cut(&mut batch, project, id, producer, 0);
        let range = keys::staged_dictionary(project, staged.number, producer);
        for (page, value) in rows::scan_all(snapshot.as_ref(), &range).await? {
            let (number,): (u32,) = keys::tail(&range.start, &page)?;
            batch.set(keys::dictionary_page(project, id, producer, number), value);
            if batch.bytes() > LINKED_BYTES {
                go_ahead(&mut batch, project, id, staged, &pairs[first..]);
                if store.commit(std::mem::replace(&mut batch, Batch::buffered())).await? == Commit::Conflict {
                    return Ok(None);
                }
                first = pairs.len() - 1;
            }
        }
    }
    Ok(Some(StagedProducers { pairs, definitions: batch.mutations }))
}

/// Definitions go ahead only while their producers are as they were seen. Should the restore never end, the sweep finds what it
/// has left under the id.
fn go_ahead(batch: &mut Batch, project: Project, id: &RunId, staged: &Staged, pairs: &[Pair]) {
    staged.expect(batch, project, id);
    batch.expect(keys::head(project, id), None);
    for pair in pairs.iter().filter(|pair| pair.is_taken) {
        batch.expect(keys::mark(project, id, pair.producer), pair.own.clone());
        let idle = keys::idle_producer(SweepStage::Dictionary, staged.begun_us, project, id, pair.producer);
        batch.set(idle, Vec::new());
    }
}

/// Brings the producers under the run id; false if one of them is not as it was seen, and then nothing is to be written.
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
        let definition = |number| Definition { name: format!("{name}{number}"), ..Definition::default() };
        (0..count).map(definition).collect()
    }

    async fn stage(store: &TestStore, id: &RunId, mark: &Mark, definitions: &[Definition]) -> Staged {
        let begin = async |transaction: &mut Transaction| -> Result<Staged> {
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

    async fn link(store: &TestStore, id: &RunId, staged: &Staged) {
        let producers = staged_producers(&**store, P, id, staged).await.unwrap().expect("the id is free");
        assert!(link_seen(store, id, staged, &producers).await);
    }

    async fn link_seen(store: &TestStore, id: &RunId, staged: &Staged, producers: &StagedProducers) -> bool {
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
    async fn more_definitions_than_one_transaction_takes_are_linked() {
        let (store, id) = (TestStore::open().await, RunId::new("r"));
        let (mark, all) =
            (Mark { sequence: 9, items: 1, seen_us: 3 }, definitions(8_000, &"x".repeat(1_000)));
        let staged = stage(&store, &id, &mark, &all).await;
        assert_eq!(linked(&store, &id).await, (vec![], vec![]), "nobody has anything of it before");
        link(&store, &id, &staged).await;
        assert!(linked(&store, &id).await == (vec![(PRODUCER, mark)], all));
        let left = [keys::staged_marks(P, staged.number), keys::staged_dictionaries(P, staged.number)];
        for range in left {
            assert!(rows::scan_all(&*store.snapshot().await.unwrap(), &range).await.unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn nothing_goes_under_an_id_that_is_taken() {
        let (store, id) = (TestStore::open().await, RunId::new("r"));
        let staged = stage(&store, &id, &Mark::default(), &definitions(8_000, &"x".repeat(1_000))).await;
        let mut batch = Batch::default();
        batch.set(keys::head(P, &id), Head::Live(RunNumber(7)).encode());
        store.commit(batch).await.unwrap();
        assert!(staged_producers(&*store, P, &id, &staged).await.unwrap().is_none());
        assert_eq!(linked(&store, &id).await, (vec![], vec![]));
    }

    /// As when a run is deleted and its backup is restored: its producer goes on behind what was applied.
    #[tokio::test]
    async fn a_producer_that_has_come_further_stays_as_it_is() {
        let (store, id) = (TestStore::open().await, RunId::new("r"));
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
            let expected = match is_taken {
                true => (vec![(PRODUCER, mark)], definitions(2, "staged")),
                false => (vec![(PRODUCER, own)], definitions(3, "own")),
            };
            assert_eq!(linked(&store, &id).await, expected);
        }
    }

    /// The definitions of one and the mark of another would make a producer that never was.
    #[tokio::test]
    async fn a_producer_that_goes_on_meanwhile_is_looked_at_again() {
        let (store, id) = (TestStore::open().await, RunId::new("r"));
        let mark = Mark { sequence: 9, items: 1, seen_us: 3 };
        let staged = stage(&store, &id, &mark, &definitions(2, "staged")).await;
        let seen = staged_producers(&*store, P, &id, &staged).await.unwrap().unwrap();
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
    async fn what_went_ahead_of_a_restore_that_never_ends_is_swept() {
        let (store, id) = (TestStore::open().await, RunId::new("r"));
        let staged = stage(&store, &id, &Mark::default(), &definitions(500, &"x".repeat(1_000))).await;
        staged_producers(&*store, P, &id, &staged).await.unwrap().unwrap();
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
