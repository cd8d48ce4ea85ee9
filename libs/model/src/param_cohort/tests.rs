//! Params that are in documents, index rows and columns, compared with the documents.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::Bound,
    sync::atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use matyan_store::{Batch, Page, Range, Snapshot, Store as _, Version};
use matyan_value::{Map, Value};

use super::*;
use crate::{
    cohort::{
        CohortMembers, CohortSource, cohort_admit, cohort_begin, cohort_number_next, cohort_shorten,
        cohorts_page,
    },
    ids::RunId,
    index::{MAX_TEXT_BYTES, index_rowless_page, index_runs_page, params_rows},
    params::{IndexedParam, ParamInterval},
    position::LogPosition,
    run::{Deletion, Head, RunEdit, document_get, params_get, run_create, run_delete, sweep_step},
    testing::TestStore,
};

const P: Project = Project(3);
const PATHS: [&[&str]; 5] = [&["lr"], &["model", "depth"], &["model", "name"], &["rare"], &["long"]];

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

fn path(of: &[&'static str]) -> Vec<Cow<'static, str>> {
    of.iter().map(|key| Cow::Borrowed(*key)).collect()
}

fn tree(random: &mut Random) -> Map {
    let lr =
        ["0.001", "1", "1.0", "true", "-0.0", "9007199254740993", "null", "[1]", "{\"x\":1}", "\"auto\""];
    let mut tree = format!(
        r#"{{"lr":{},"model":{{"depth":{},"name":"{}"}}"#,
        lr[random.below(lr.len() as u64) as usize],
        random.below(5),
        ["resnet", "bert"][random.below(2) as usize],
    );
    if random.below(4) == 0 {
        tree.push_str(r#","rare":1e300"#);
    }
    if random.below(6) == 0 {
        let bytes = MAX_TEXT_BYTES - 1 + random.below(3) as usize;
        tree.push_str(&format!(r#","long":"{}""#, "x".repeat(bytes)));
    }
    tree.push('}');
    match matyan_value::json::parse(&tree).unwrap() {
        Value::Map(map) => map,
        other => panic!("{other:?}"),
    }
}

async fn create(store: &TestStore, id: &str, created_us: i64, tree: &Map) -> RunNumber {
    let id = RunId::new(id);
    let created = store.run(async |transaction| {
        let mut edit = run_create(transaction, P, &id, created_us).await?;
        edit.params(transaction.unchecked()).await?.clone_from(tree);
        let number = edit.number();
        edit.write(transaction.batch());
        Ok::<_, matyan_store::Error>(number)
    });
    created.await.unwrap()
}

/// Turns a run that was just created into one of a store of format 6.
async fn make_indexed(store: &TestStore, number: RunNumber, tree: &Map) {
    let snapshot = store.snapshot().await.unwrap();
    let mut document = document_get(&*snapshot, P, number).await.unwrap().unwrap();
    document.props.is_without_param_rows = false;
    let mut batch = Batch::default();
    batch.set(keys::document(P, number), document.encode());
    batch.set(keys::indexed_params(P, number), Vec::new());
    batch.clear(keys::uncollected(CohortKind::Params, P, keys::ListGeneration::FIRST, number));
    for (key, value) in params_rows(P, number, tree) {
        batch.set(key, value);
    }
    store.commit(batch).await.unwrap();
}

async fn change(store: &TestStore, number: RunNumber, tree: &Map) {
    let changed = store.run(async |transaction| {
        let mut edit = RunEdit::load(transaction, P, number).await?.unwrap();
        edit.params(transaction.unchecked()).await?.clone_from(tree);
        edit.touch(9);
        edit.write(transaction.batch());
        Ok::<_, matyan_store::Error>(())
    });
    changed.await.unwrap();
}

async fn delete(store: &TestStore, id: &str, number: RunNumber) {
    let id = RunId::new(id);
    let at = LogPosition::default();
    let deletion = Deletion { at, time_us: 5, now_us: 5, caller: "", project_name: "" };
    let deleted = store
        .run(async |transaction| run_delete(transaction, P, &id, Some(&Head::Live(number)), deletion).await);
    deleted.await.unwrap();
}

/// Makes cohorts of all these runs, and returns the runs that cannot be read. `during` is called before the runs are
/// admitted.
async fn collect(
    store: &TestStore,
    numbers: &[RunNumber],
    max_bytes: usize,
    mut during: impl AsyncFnMut(),
) -> Vec<RunNumber> {
    let mut damaged = Vec::new();
    let mut left = numbers.to_vec();
    while !left.is_empty() {
        let kind = CohortKind::Params;
        let cohort = cohort_number_next(&*store.snapshot().await.unwrap(), kind, P, 5).await.unwrap();
        let begun =
            store.run(async |transaction| cohort_begin(transaction, kind, P, cohort, &left).await).await;
        let mut begun = begun.unwrap();
        let mut values = ParamValues::new(P, cohort, &begun).with_max_bytes(max_bytes);
        while values.read(&*store.snapshot().await.unwrap()).await.unwrap() {}
        loop {
            let mut batch = Batch::default();
            let is_done = values.write(&mut batch);
            store.commit(batch).await.unwrap();
            if is_done {
                break;
            }
        }
        let taken = values.runs();
        damaged.extend(values.damaged());
        store
            .run(async |transaction| cohort_shorten(transaction, kind, P, cohort, taken).await)
            .await
            .unwrap();
        left = begun.split_off(taken);
        begun.retain(|number| !damaged.contains(number));
        during().await;
        store
            .run(async |transaction| cohort_admit(transaction, kind, P, cohort, &begun).await)
            .await
            .unwrap();
    }
    damaged
}

async fn listed(store: &TestStore) -> Vec<RunNumber> {
    let list = keys::uncollected_all(CohortKind::Params, P, keys::ListGeneration::FIRST);
    index_runs_page(&*store.snapshot().await.unwrap(), &list, 1_000).await.unwrap().0
}

async fn cohorts(store: &TestStore) -> Vec<CohortMembers> {
    let all = keys::cohorts(CohortKind::Params, P);
    cohorts_page(&*store.snapshot().await.unwrap(), CohortKind::Params, P, &all).await.unwrap().0
}

async fn clear(store: &TestStore, cohort: CohortNumber) {
    while !store.run(async |transaction| param_cohort_clear(transaction, P, cohort).await).await.unwrap() {}
}

fn scalar<'t>(tree: &'t Map, of: &[&str]) -> Option<IndexedParam<'t>> {
    let (last, parents) = of.split_last()?;
    let map = parents.iter().try_fold(tree, |map, key| map.get(*key)?.as_map())?;
    IndexedParam::of(map.get(*last)?, MAX_TEXT_BYTES)
}

/// The values that readers find for a path, and the runs whose documents decide.
async fn read(
    snapshot: &dyn Snapshot,
    mut reader: ParamReader,
) -> (BTreeMap<RunNumber, BTreeSet<String>>, BTreeSet<RunNumber>) {
    let mut known: BTreeMap<RunNumber, BTreeSet<String>> = BTreeMap::new();
    let mut unknown = BTreeSet::new();
    while let Some(page) = reader.next(snapshot).await.unwrap() {
        page.visit(&mut |number, value| match value {
            Some(value) => {
                known.entry(number).or_default().insert(format!("{value:?}"));
            }
            None => {
                unknown.insert(number);
            }
        })
        .unwrap();
    }
    (known, unknown)
}

/// The members of all cohorts with their values of each path, as pages of two cohorts have them.
async fn paged(snapshot: &dyn Snapshot, listed: &HashSet<RunNumber>) -> Vec<ReadRuns> {
    let paths: Vec<_> = PATHS.iter().map(|of| path(of)).collect();
    let mut pages = Vec::new();
    let mut rest = Some(keys::cohorts(CohortKind::Params, P));
    while let Some(range) = rest {
        let (page, of_range) = CohortPage::read(snapshot, P, &paths, &range, 2).await.unwrap();
        pages.push(page.decode(listed).unwrap());
        rest = of_range;
    }
    pages
}

async fn find(snapshot: &dyn Snapshot, mut reader: ParamReader) -> [BTreeSet<RunNumber>; 2] {
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    while let Some(page) = reader.next(snapshot).await.unwrap() {
        page.find(&mut found, &mut unknown).unwrap();
    }
    [found, unknown].map(|numbers| numbers.into_iter().collect())
}

type Matches = fn(&IndexedParam<'_>) -> bool;

fn intervals() -> [(ParamInterval, Matches); 3] {
    let is_one: Matches = |value| match value {
        IndexedParam::Bool(value) => *value,
        IndexedParam::Integer(integer) => *integer == 1,
        IndexedParam::Float(float) => *float == 1.0,
        _ => false,
    };
    let is_large: Matches = |value| match value {
        IndexedParam::Integer(integer) => *integer > 2,
        IndexedParam::Float(float) | IndexedParam::Rounded(float) => *float > 2.0,
        _ => false,
    };
    let is_text: Matches =
        |value| matches!(value, IndexedParam::Text(text) if ["auto", "bert"].contains(&&**text));
    let number = |low, high| ParamInterval::Numbers { low, high };
    let text = |low: &str, high: &str| ParamInterval::Texts {
        low: Bound::Included(low.into()),
        high: Bound::Included(high.into()),
    };
    [
        (number(Bound::Included(1.0), Bound::Included(1.0)), is_one),
        (number(Bound::Excluded(2.0), Bound::Unbounded), is_large),
        (text("auto", "bert"), is_text),
    ]
}

/// Compares what readers find with the documents.
async fn check(store: &TestStore, runs: &BTreeMap<RunNumber, Map>, when: &str) {
    let snapshot = store.snapshot().await.unwrap();
    let snapshot = &*snapshot;
    let (rowless, _) = index_rowless_page(snapshot, &keys::index_partial_all(P), 1_000).await.unwrap();
    assert_eq!(rowless, [], "{when}");
    for (number, tree) in runs {
        let document = document_get(snapshot, P, *number).await.unwrap().unwrap();
        assert_eq!(params_get(snapshot, P, *number, &document).await.unwrap(), *tree, "{when}");
    }
    let list = ReadList::read(snapshot, P, usize::MAX).await.unwrap().unwrap();
    let pages = paged(snapshot, list.runs()).await;
    let members: BTreeSet<RunNumber> =
        cohorts(store).await.into_iter().flat_map(|cohort| cohort.members).collect();
    let of_pages: Vec<RunNumber> = pages.iter().flat_map(|page| page.runs.iter().copied()).collect();
    let unlisted: BTreeSet<RunNumber> =
        members.iter().copied().filter(|number| !list.runs().contains(number)).collect();
    assert_eq!(of_pages.len(), unlisted.len(), "{when}: no run is in two cohorts");
    assert_eq!(of_pages.iter().copied().collect::<BTreeSet<_>>(), unlisted, "{when}");
    for (at, of) in PATHS.iter().enumerate() {
        for page in &pages {
            for number in page.runs.iter().filter(|number| runs.contains_key(*number)) {
                let mut of_run = page.params[at].rows().filter(|(other, _)| other == number);
                let expected = scalar(&runs[number], of);
                match (of_run.next(), expected) {
                    (Some((_, Some(value))), Some(expected)) => {
                        assert_eq!(format!("{value:?}"), format!("{expected:?}"), "{when} {of:?} {number}");
                    }
                    (Some((_, None)), _) | (None, None) => {}
                    (found, expected) => panic!("{when} {of:?} {number}: {found:?} instead of {expected:?}"),
                }
            }
        }
    }
    for of in PATHS {
        let (known, unknown) = read(snapshot, ParamReader::new(P, &path(of))).await;
        for (number, tree) in runs {
            let expected = scalar(tree, of);
            let found = known.get(number).map(|values| values.iter().cloned().collect::<Vec<_>>());
            match found {
                Some(values) => {
                    assert_eq!(values, [format!("{:?}", expected.unwrap())], "{when} {of:?} {number}")
                }
                None => assert!(unknown.contains(number) || expected.is_none(), "{when} {of:?} {number}"),
            }
        }
        let partial = index_runs_page(snapshot, &keys::index_partial_all(P), 1_000).await.unwrap().0;
        for (interval, matches) in intervals() {
            let reader = ParamReader::within(P, &path(of), vec![interval.clone()]).unwrap();
            let [found, unknown] = find(snapshot, reader).await;
            for (number, tree) in runs {
                let is_match = scalar(tree, of).is_some_and(|value| matches(&value));
                let is_checked = unknown.contains(number) || partial.contains(number);
                assert!(
                    is_checked || found.contains(number) == is_match,
                    "{when} {of:?} {interval:?} {number}"
                );
            }
            let mut counted = 0;
            let mut rest = Some(keys::param_columns(P, &path(of)));
            while let Some(range) = rest {
                let values = std::slice::from_ref(&interval);
                let counts = param_columns_count(snapshot, &range, values, 1).await.unwrap();
                counted += counts.runs[0];
                rest = counts.rest;
            }
            let in_cohorts: BTreeSet<RunNumber> =
                cohorts(store).await.into_iter().flat_map(|cohort| cohort.members).collect();
            let least = found.intersection(&in_cohorts).filter(|number| runs.contains_key(number)).count();
            assert!(counted >= least, "{when} {of:?} {interval:?}");
        }
    }
}

/// The runs of all cohorts, in ascending order.
async fn members_of_all(store: &TestStore) -> Vec<RunNumber> {
    let members = cohorts(store).await.into_iter().flat_map(|cohort| cohort.members);
    let members: BTreeSet<RunNumber> = members.collect();
    members.into_iter().collect()
}

#[tokio::test]
async fn rule_133_readers_find_what_documents_have_in_any_form() {
    for seed in 1..6 {
        let store = TestStore::open().await;
        let mut random = Random(seed * 0x9e37_79b9);
        let mut runs: BTreeMap<RunNumber, Map> = BTreeMap::new();
        let mut ids = BTreeMap::new();
        for step in 0..60_i64 {
            let some = |random: &mut Random, runs: &BTreeMap<RunNumber, Map>| {
                runs.keys().nth(random.below(runs.len().max(1) as u64) as usize).copied()
            };
            let when = format!("seed {seed}, step {step}");
            match random.below(7) {
                0..3 => {
                    let id = format!("r{step}");
                    let tree = tree(&mut random);
                    let number = create(&store, &id, step, &tree).await;
                    if random.below(3) == 0 {
                        make_indexed(&store, number, &tree).await;
                    }
                    runs.insert(number, tree);
                    ids.insert(number, id);
                }
                3 => {
                    if let Some(number) = some(&mut random, &runs) {
                        let tree = tree(&mut random);
                        change(&store, number, &tree).await;
                        runs.insert(number, tree);
                    }
                }
                4 => {
                    if let Some(number) = some(&mut random, &runs) {
                        delete(&store, &ids[&number], number).await;
                        runs.remove(&number);
                        if random.below(2) == 0 {
                            while !sweep_step(&*store, P, number).await.unwrap() {}
                        }
                    }
                }
                5 => {
                    if random.below(2) == 0 {
                        let most = 1 + random.below(3) as usize;
                        store
                            .run(async |transaction| indexed_params_move(transaction, P, most).await)
                            .await
                            .unwrap();
                    }
                    let listed = listed(&store).await;
                    let changing = some(&mut random, &runs);
                    let tree = tree(&mut random);
                    let max_bytes = if random.below(2) == 0 { 1 } else { 1 << 20 };
                    let damaged = collect(&store, &listed, max_bytes, async || {
                        if let Some(number) = changing {
                            change(&store, number, &tree).await;
                        }
                    });
                    assert_eq!(damaged.await, [], "{when}");
                    if let Some(number) = changing.filter(|_| !listed.is_empty()) {
                        runs.insert(number, tree);
                    }
                }
                _ => {
                    // All cohorts are merged, and the empty ones cleared.
                    let members = members_of_all(&store).await;
                    assert_eq!(collect(&store, &members, 1 << 20, async || ()).await, [], "{when}");
                    for cohort in cohorts(&store).await {
                        if cohort.members.is_empty() {
                            clear(&store, cohort.cohort).await;
                        }
                    }
                }
            }
            check(&store, &runs, &when).await;
        }
        while store.run(async |transaction| indexed_params_move(transaction, P, 5).await).await.unwrap() > 0 {
        }
        let listed = listed(&store).await;
        assert_eq!(collect(&store, &listed, 1 << 20, async || ()).await, []);
        check(&store, &runs, "everything is in cohorts").await;
        while !store.run(async |transaction| indexed_params_clear(transaction, P).await).await.unwrap() {}
        check(&store, &runs, "index rows are cleared").await;
    }
}

#[tokio::test]
async fn rows_of_cohorts_are_cleared() {
    let store = TestStore::open().await;
    let mut random = Random(7);
    let mut numbers = Vec::new();
    for at in 0..5 {
        numbers.push(create(&store, &format!("r{at}"), at, &tree(&mut random)).await);
    }
    assert_eq!(listed(&store).await, numbers);
    collect(&store, &numbers, 1 << 20, async || ()).await;
    assert_eq!(listed(&store).await, []);
    let [cohort] = &cohorts(&store).await[..] else { panic!("there is one cohort") };
    assert_eq!((cohort.runs, &cohort.members), (5, &numbers));
    let rows = async |range: Range| {
        let snapshot = store.snapshot().await.unwrap();
        snapshot.scan(&range, Scan::default()).await.unwrap().rows.len()
    };
    assert!(rows(keys::param_columns_all(P)).await >= 3);
    let columns = keys::param_columns(P, &path(&["model", "depth"]));
    assert_eq!(rows(columns).await, 1);
    clear(&store, cohort.cohort).await;
    for range in
        [keys::param_columns_all(P), keys::param_cohorts_paths(P), keys::cohorts(CohortKind::Params, P)]
    {
        assert_eq!(rows(range).await, 0);
    }
}

/// The steps of a cohort, after each of which the job may stop.
const STEPS: usize = 5;

/// Does some of the steps of a cohort of these runs.
async fn collect_in_part(store: &TestStore, numbers: &[RunNumber], max_bytes: usize, steps: usize) {
    let kind = CohortKind::Params;
    let cohort = cohort_number_next(&*store.snapshot().await.unwrap(), kind, P, 5).await.unwrap();
    let mut left = (0..steps).skip(1);
    let begin = store.run(async |transaction| cohort_begin(transaction, kind, P, cohort, numbers).await);
    let begun = begin.await.unwrap();
    if left.next().is_none() {
        return;
    }
    let mut values = ParamValues::new(P, cohort, &begun).with_max_bytes(max_bytes);
    while values.read(&*store.snapshot().await.unwrap()).await.unwrap() {}
    let mut is_done = false;
    while !is_done {
        let mut batch = Batch::default();
        is_done = values.write(&mut batch);
        store.commit(batch).await.unwrap();
    }
    if left.next().is_none() {
        return;
    }
    let taken = values.runs();
    let shorten =
        async |transaction: &mut Transaction| cohort_shorten(transaction, kind, P, cohort, taken).await;
    store.run(shorten).await.unwrap();
    // The runs are admitted in two transactions.
    let (first, second) = begun[..taken].split_at(taken.div_ceil(2));
    for admitted in [first, second] {
        if left.next().is_none() || admitted.is_empty() {
            return;
        }
        let admit =
            async |transaction: &mut Transaction| cohort_admit(transaction, kind, P, cohort, admitted).await;
        assert_eq!(store.run(admit).await.unwrap(), admitted.len());
    }
}

#[tokio::test]
async fn rule_133_a_cohort_may_be_interrupted_after_any_step() {
    for steps in 1..=STEPS {
        for max_bytes in [1, 1 << 20] {
            let store = TestStore::open().await;
            let mut random = Random(77);
            let mut runs = BTreeMap::new();
            for at in 0..6 {
                let tree = tree(&mut random);
                let number = create(&store, &format!("r{at}"), at, &tree).await;
                runs.insert(number, tree.clone());
                if at % 3 == 0 {
                    make_indexed(&store, number, &tree).await;
                }
            }
            let numbers: Vec<_> = runs.keys().copied().collect();
            // Some are in a cohort, and one of these changes.
            assert_eq!(collect(&store, &numbers[1..3], 1 << 20, async || ()).await, []);
            let changed = tree(&mut random);
            change(&store, numbers[1], &changed).await;
            runs.insert(numbers[1], changed);
            store.run(async |transaction| indexed_params_move(transaction, P, 1).await).await.unwrap();
            let when = format!("{steps} steps, {max_bytes} bytes");
            let waiting = listed(&store).await;
            collect_in_part(&store, &waiting, max_bytes, steps).await;
            check(&store, &runs, &when).await;
            // Runs change, or are deleted, before the job starts again.
            let changed = tree(&mut random);
            change(&store, waiting[0], &changed).await;
            runs.insert(waiting[0], changed);
            check(&store, &runs, &when).await;
            let last = waiting[waiting.len() - 1];
            let at = numbers.iter().position(|number| *number == last).unwrap();
            delete(&store, &format!("r{at}"), last).await;
            runs.remove(&last);
            check(&store, &runs, &when).await;
            let waiting = listed(&store).await;
            assert_eq!(collect(&store, &waiting, 1 << 20, async || ()).await, [], "{when}");
            assert_eq!(listed(&store).await, [], "{when}");
            check(&store, &runs, &when).await;
            while !sweep_step(&*store, P, last).await.unwrap() {}
            for cohort in cohorts(&store).await.into_iter().filter(|cohort| cohort.members.is_empty()) {
                clear(&store, cohort.cohort).await;
            }
            check(&store, &runs, &when).await;
            let members: BTreeSet<RunNumber> =
                cohorts(&store).await.into_iter().flat_map(|cohort| cohort.members).collect();
            assert!(members.iter().all(|number| runs.contains_key(number)), "{when}");
        }
    }
}

/// Damaged columns and documents lose no run.
#[tokio::test]
async fn documents_decide_about_damaged_columns() {
    let store = TestStore::open().await;
    let mut random = Random(9);
    let mut runs = BTreeMap::new();
    for at in 0..4 {
        let tree = tree(&mut random);
        runs.insert(create(&store, &format!("r{at}"), at, &tree).await, tree);
    }
    let numbers: Vec<_> = runs.keys().copied().collect();
    let mut batch = Batch::default();
    batch.set(keys::document(P, numbers[0]), vec![0xff]);
    store.commit(batch).await.unwrap();
    assert_eq!(collect(&store, &numbers, 1 << 20, async || ()).await, numbers[..1]);
    assert_eq!(listed(&store).await, numbers[..1], "a damaged run is not in a cohort");
    let snapshot = store.snapshot().await.unwrap();
    let columns = snapshot.scan(&keys::param_columns_all(P), Scan::default()).await.unwrap();
    let mut batch = Batch::default();
    for (key, _) in columns.rows {
        batch.set(key, vec![9]);
    }
    store.commit(batch).await.unwrap();
    runs.remove(&numbers[0]);
    check(&store, &runs, "damaged").await;
    while !store.run(async |transaction| param_cohorts_clear(transaction, P).await).await.unwrap() {}
    assert!(cohorts(&store).await.is_empty());
}

/// Nothing tells which runs a damaged cohort has.
#[tokio::test]
async fn a_damaged_row_of_a_cohort_is_noticed() {
    let store = TestStore::open().await;
    let mut random = Random(9);
    let number = create(&store, "r", 1, &tree(&mut random)).await;
    assert_eq!(collect(&store, &[number], 1 << 20, async || ()).await, []);
    let key = keys::cohort(CohortKind::Params, P, cohorts(&store).await[0].cohort);
    let mut batch = Batch::default();
    batch.set(key, vec![9]);
    store.commit(batch).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    let depth = path(&["model", "depth"]);
    let all = ParamInterval::Numbers { low: Bound::Unbounded, high: Bound::Unbounded };
    let mut damaged = 0;
    for mut reader in [ParamReader::new(P, &depth), ParamReader::within(P, &depth, vec![all]).unwrap()] {
        while let Some(page) = reader.next(&*snapshot).await.unwrap() {
            let visited = undamaged(page.visit(&mut |_, _| ())).unwrap();
            let found = undamaged(page.find(&mut Vec::new(), &mut Vec::new())).unwrap();
            assert_eq!(visited, found);
            damaged += usize::from(found.is_none());
            assert!(found.is_some() || page.most_values() > 0, "the page is not left out");
        }
    }
    assert_eq!(damaged, 2);
    let all = keys::cohorts(CohortKind::Params, P);
    let (page, _) = CohortPage::read(&*snapshot, P, &[depth], &all, 100).await.unwrap();
    assert!(undamaged(page.decode(&HashSet::new())).unwrap().is_none());
}

/// A snapshot that is renewed by each read: the next one takes its place.
struct RenewedSnapshot {
    snapshots: Vec<Box<dyn Snapshot>>,
    reads: AtomicUsize,
}

impl RenewedSnapshot {
    fn current(&self) -> &dyn Snapshot {
        &*self.snapshots[self.reads.load(Ordering::Relaxed)]
    }

    fn renewed(&self) -> &dyn Snapshot {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.current()
    }
}

#[async_trait]
impl Snapshot for RenewedSnapshot {
    async fn get(&self, key: &Key) -> Result<Option<matyan_store::Value>> {
        self.renewed().get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<matyan_store::Value>>> {
        self.renewed().get_many(keys).await
    }

    async fn scan(&self, range: &Range, scan: Scan) -> Result<Page> {
        self.renewed().scan(range, scan).await
    }

    fn version(&self) -> Version {
        self.current().version()
    }
}

#[tokio::test]
async fn rule_133_a_run_that_changes_between_two_renewals_of_a_snapshot_is_found() {
    let store = TestStore::open().await;
    let tree = |lr: i64| Map::from([("lr".to_owned(), Value::Integer(lr))]);
    let number = create(&store, "r", 1, &tree(1)).await;
    assert_eq!(collect(&store, &[number], 1 << 20, async || ()).await, []);
    let mut snapshots = Vec::new();
    // The list is read from the third one, and its generations are read again after that.
    for at in 0..3_u8 {
        let mut batch = Batch::default();
        batch.set("unrelated", vec![at]);
        store.commit(batch).await.unwrap();
        snapshots.push(store.snapshot().await.unwrap());
    }
    change(&store, number, &tree(2)).await;
    snapshots.push(store.snapshot().await.unwrap());
    let renewed = RenewedSnapshot { snapshots, reads: AtomicUsize::new(0) };
    let list = ReadList::read(&renewed, P, 9).await.unwrap().unwrap();
    assert_eq!((list.runs().len(), renewed.reads.load(Ordering::Relaxed)), (0, 3));
    let reader = ParamReader::new(P, &path(&["lr"])).with_list(list);
    let (_, unknown) = read(renewed.current(), reader).await;
    assert_eq!(unknown, [number].into());
}
