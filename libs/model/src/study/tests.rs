use super::*;
use crate::testing::TestStore;

const P: Project = Project(0);

fn study(name: &str) -> Study {
    Study {
        name: name.to_owned(),
        directions: vec![Direction::Minimize],
        created_us: 1,
        experiment: "e".into(),
    }
}

fn running() -> Trial {
    Trial {
        state: TrialState::Running,
        values: Vec::new(),
        started_us: Some(5),
        finished_us: None,
        run: None,
    }
}

async fn create(store: &TestStore, name: &str) -> Result<u32, StudyError> {
    store.run(async |transaction| study_create(transaction, P, &study(name)).await).await
}

async fn add(store: &TestStore, study: u32) -> Result<u32, StudyError> {
    store
        .run(async |transaction| {
            study_load(transaction, P, study).await?;
            trial_add(transaction, P, study, &running()).await
        })
        .await
}

async fn delete(store: &TestStore, study: u32) -> Result<Study, StudyError> {
    store.run(async |transaction| study_delete(transaction, P, study).await).await
}

async fn entries(store: &TestStore, study: u32) -> Vec<(u32, TrialEntry)> {
    let mut rest: Option<Range> = Some(keys::trials(P, study));
    let mut found = Vec::new();
    while let Some(range) = rest {
        let snapshot = store.snapshot().await.unwrap();
        let (page, next) = trial_entries_page(&*snapshot, P, study, &range).await.unwrap();
        found.extend(page);
        rest = next;
    }
    found
}

#[tokio::test]
async fn rule_98_concurrent_trials_have_numbers_without_gaps() {
    let store = TestStore::open().await;
    let one = create(&store, "a").await.unwrap();
    let other = create(&store, "b").await.unwrap();
    let added =
        futures::future::join_all((0..40).map(|at| add(&store, if at % 4 == 0 { other } else { one })));
    let mut numbers: Vec<u32> = added.await.into_iter().map(Result::unwrap).collect();
    numbers.sort_unstable();
    let mut expected: Vec<u32> = (0..30).chain(0..10).collect();
    expected.sort_unstable();
    assert_eq!(numbers, expected);
    assert_eq!(trial_count(&*store.snapshot().await.unwrap(), P, one).await.unwrap(), 30);
}

#[tokio::test]
async fn rule_98_the_number_of_a_deleted_study_is_not_given_again() {
    let store = TestStore::open().await;
    let first = create(&store, "a").await.unwrap();
    let taken = create(&store, "a").await.unwrap_err();
    assert!(matches!(taken, StudyError::NameTaken { study, .. } if study == first), "{taken}");
    add(&store, first).await.unwrap();
    delete(&store, first).await.unwrap();
    assert!(matches!(delete(&store, first).await, Err(StudyError::NoStudy { .. })));
    assert!(matches!(add(&store, first).await, Err(StudyError::NoStudy { .. })));
    // Before the sweep, the rows of the study are left, and the study is gone.
    let gone = store.run(async |transaction| trial_load(transaction, P, (first, 0)).await).await;
    assert!(matches!(gone, Err(StudyError::NoStudy { .. })));
    let second = create(&store, "a").await.unwrap();
    assert!(second > first);
    assert_eq!(add(&store, second).await.unwrap(), 0);
}

#[tokio::test]
async fn rule_99_a_finished_trial_refuses_every_change() {
    let store = TestStore::open().await;
    let id = create(&store, "a").await.unwrap();
    let number = add(&store, id).await.unwrap();
    for state in [TrialState::Running, TrialState::Complete, TrialState::Pruned, TrialState::Failed] {
        let mut batch = Batch::default();
        trial_put(&mut batch, P, (id, number), &Trial { state, ..running() });
        store.commit(batch).await.unwrap();
        let loaded = store.run(async |transaction| trial_load_open(transaction, P, (id, number)).await).await;
        assert_eq!(loaded.is_ok(), state == TrialState::Running, "{state:?}");
    }
    let missing = store.run(async |transaction| trial_load(transaction, P, (id, 9)).await).await;
    assert!(matches!(missing, Err(StudyError::NoTrial { number: 9, .. })));
}

#[tokio::test]
async fn large_entries_are_read_whole_in_pages() {
    let store = TestStore::open().await;
    let id = create(&store, "a").await.unwrap();
    let large = "x".repeat(3 << 20);
    for number in 0..3 {
        assert_eq!(add(&store, id).await.unwrap(), number);
        let mut batch = Batch::default();
        let trial = (id, number);
        trial_attribute_put(&mut batch, P, trial, AttributeKind::User, ("a\0", &large));
        trial_attribute_put(&mut batch, P, trial, AttributeKind::System, ("", "null"));
        let param = TrialParam { value: f64::NEG_INFINITY, distribution: large.clone(), set_us: 3 };
        trial_param_put(&mut batch, P, trial, "p", &param);
        for step in [-1, 0, 1 << 40] {
            intermediate_value_put(&mut batch, P, trial, step, f64::NAN);
        }
        store.commit(batch).await.unwrap();
    }
    let found = entries(&store, id).await;
    let of = |number: u32| found.iter().filter(move |(of, _)| *of == number).map(|(_, entry)| entry);
    for number in 0..3 {
        let own: Vec<_> = of(number).collect();
        assert_eq!(own.len(), 7, "trial {number}");
        assert_eq!(own[0], &TrialEntry::State(running()));
        let TrialEntry::Param { name, param } = own[1] else { panic!("{:?}", own[1]) };
        assert_eq!(
            (name.as_str(), param.value, param.distribution.len()),
            ("p", f64::NEG_INFINITY, large.len())
        );
        let TrialEntry::Attribute { name, value, .. } = own[2] else { panic!("{:?}", own[2]) };
        assert_eq!((name.as_str(), value.len()), ("a\0", large.len()));
        let steps: Vec<i64> = own
            .iter()
            .filter_map(|entry| match entry {
                TrialEntry::IntermediateValue { step, value } => value.is_nan().then_some(*step),
                _ => None,
            })
            .collect();
        assert_eq!(steps, [-1, 0, 1 << 40]);
    }
    // A smaller value leaves no piece of the larger one.
    let mut batch = Batch::default();
    trial_attribute_put(&mut batch, P, (id, 0), AttributeKind::User, ("a\0", "1"));
    store.commit(batch).await.unwrap();
    let attribute =
        TrialEntry::Attribute { kind: AttributeKind::User, name: "a\0".into(), value: "1".into() };
    assert!(entries(&store, id).await.contains(&(0, attribute)));
}

#[tokio::test]
async fn attributes_of_a_study_are_read_in_pages() {
    let store = TestStore::open().await;
    let id = create(&store, "a").await.unwrap();
    let large = "x".repeat(2 << 20);
    for name in ["a", "b", "c"] {
        let mut batch = Batch::default();
        study_attribute_put(&mut batch, P, id, AttributeKind::System, (name, &large));
        study_attribute_put(&mut batch, P, id, AttributeKind::User, (name, "0"));
        store.commit(batch).await.unwrap();
    }
    for (kind, bytes) in [(AttributeKind::System, large.len()), (AttributeKind::User, 1)] {
        let mut rest = Some(keys::study_attributes(P, id, kind));
        let mut found = Vec::new();
        while let Some(range) = rest {
            let snapshot = store.snapshot().await.unwrap();
            let (page, next) = study_attributes_page(&*snapshot, P, (id, kind), &range).await.unwrap();
            found.extend(page.into_iter().map(|(name, value)| (name, value.len())));
            rest = next;
        }
        assert_eq!(found, ["a", "b", "c"].map(|name| (name.to_owned(), bytes)));
    }
}

#[tokio::test]
async fn only_a_deleted_study_is_swept() {
    let store = TestStore::open().await;
    let [one, other] = [create(&store, "a").await.unwrap(), create(&store, "b").await.unwrap()];
    for id in [one, other] {
        add(&store, id).await.unwrap();
        let mut batch = Batch::default();
        study_attribute_put(&mut batch, P, id, AttributeKind::User, ("k", "1"));
        distribution_put(&mut batch, P, id, "p", "{}");
        for step in 0..5_000 {
            intermediate_value_put(&mut batch, P, (id, 0), step, 1.0);
        }
        store.commit(batch).await.unwrap();
    }
    let before = entries(&store, other).await;
    delete(&store, one).await.unwrap();
    assert_eq!(dead_studies_list(&*store.snapshot().await.unwrap(), P).await.unwrap(), [one]);
    while !study_sweep_step(&*store, P, one).await.unwrap() {}
    let snapshot = store.snapshot().await.unwrap();
    assert!(dead_studies_list(&*snapshot, P).await.unwrap().is_empty());
    for range in [keys::trials(P, one), keys::study_attributes_all(P, one), keys::study_distributions(P, one)]
    {
        assert!(rows::scan_all(&*snapshot, &range).await.unwrap().is_empty());
    }
    assert_eq!(entries(&store, other).await, before);
    let kept = store.run(async |transaction| distribution_load(transaction, P, other, "p").await).await;
    assert_eq!(kept.unwrap().as_deref(), Some("{}"));
}

async fn reserve(store: &TestStore, number: u32, now_us: i64) -> StudyPlace {
    store.run(async |transaction| study_reserve(transaction, P, number, now_us).await).await.unwrap()
}

async fn link(store: &TestStore, number: u32, name: &str) -> bool {
    store.run(async |transaction| study_link(transaction, P, number, &study(name), 0).await).await.unwrap()
}

#[tokio::test]
async fn a_restore_that_is_never_finished_leaves_no_rows() {
    let store = TestStore::open().await;
    assert_eq!(reserve(&store, 7, 1_000).await, StudyPlace::Free);
    let mut batch = Batch::default();
    trial_put(&mut batch, P, (7, 0), &running());
    study_attribute_put(&mut batch, P, 7, AttributeKind::User, ("k", "1"));
    store.commit(batch).await.unwrap();
    assert_eq!(reserve(&store, 7, 2_000).await, StudyPlace::Free);
    assert_eq!(unfinished_studies_drop(&*store, P, 2_000).await.unwrap(), 0, "a later part has arrived");
    assert_eq!(unfinished_studies_drop(&*store, P, 2_001).await.unwrap(), 1);
    assert_eq!(unfinished_studies_drop(&*store, P, i64::MAX).await.unwrap(), 0);
    assert_eq!(reserve(&store, 7, 3_000).await, StudyPlace::Unswept, "old rows would mix with new ones");
    while !study_sweep_step(&*store, P, 7).await.unwrap() {}
    let snapshot = store.snapshot().await.unwrap();
    for range in [keys::trials(P, 7), keys::study_attributes_all(P, 7)] {
        assert!(rows::scan_all(&*snapshot, &range).await.unwrap().is_empty());
    }
    assert_eq!(create(&store, "new").await.unwrap(), 8, "the number is not given to another study");
}

#[tokio::test]
async fn a_finished_restore_is_not_given_up() {
    let store = TestStore::open().await;
    for (number, name, is_made) in [(3, "a", true), (4, "a", false)] {
        reserve(&store, number, 1_000).await;
        assert_eq!(link(&store, number, name).await, is_made);
    }
    assert_eq!(unfinished_studies_drop(&*store, P, i64::MAX).await.unwrap(), 0);
    assert_eq!(reserve(&store, 3, 2_000).await, StudyPlace::Taken);
    assert_eq!(reserve(&store, 4, 2_000).await, StudyPlace::Unswept);
}

async fn load_points(store: &TestStore, marked: UnloggedMark) -> Option<TrialPointValues> {
    store.run(async |transaction| trial_points_load(transaction, P, marked).await).await.unwrap()
}

#[tokio::test]
async fn rule_101_marked_points_are_found_until_they_are_cleared() {
    let store = TestStore::open().await;
    let study = create(&store, "a").await.unwrap();
    let number = add(&store, study).await.unwrap();
    let id = (study, number);
    let marks = keys::TrialPointKind::ALL.map(|kind| UnloggedMark { study, number, kind });
    let values = [(-3, f64::NAN), (7, -0.0)];
    let mark = async |transaction: &mut Transaction| {
        let run = Some(TrialRun { number: 1, id: "r".into() });
        let trial = Trial { state: TrialState::Complete, values: vec![0.5, 2.0], run, ..running() };
        let batch = transaction.batch();
        trial_put(batch, P, id, &trial);
        for (step, value) in values {
            intermediate_value_put(batch, P, id, step, value);
        }
        for marked in marks {
            marked.put(batch, P);
        }
        Ok::<_, Error>(())
    };
    store.run(mark).await.unwrap();
    let page = async || {
        let snapshot = store.snapshot().await.unwrap();
        unlogged_points_page(&*snapshot, P, &keys::unlogged_points_all(P)).await.unwrap().0
    };
    assert_eq!(page().await, marks);
    let expected =
        |values: &[(i64, f64)]| Some(TrialPointValues { run_id: "r".into(), values: values.to_vec() });
    assert_eq!(load_points(&store, marks[0]).await, expected(&values));
    assert_eq!(load_points(&store, marks[1]).await, expected(&[(0, 0.5), (1, 2.0)]));

    // Points that are marked after the read are not lost with the mark.
    let mut transaction = Transaction::new(store.snapshot().await.unwrap());
    trial_points_load(&mut transaction, P, marks[0]).await.unwrap();
    let set = async |transaction: &mut Transaction| {
        intermediate_value_put(transaction.batch(), P, id, 9, 1.0);
        Ok::<_, Error>(())
    };
    store.run(set).await.unwrap();
    marks[0].clear(transaction.batch(), P);
    assert!(matches!(store.commit(transaction.into_batch()).await.unwrap(), Commit::Conflict));
    let clear = async |transaction: &mut Transaction| {
        marks[1].clear(transaction.batch(), P);
        Ok::<_, Error>(())
    };
    store.run(clear).await.unwrap();
    assert_eq!(page().await, marks[..1]);
    delete(&store, study).await.unwrap();
    assert_eq!(load_points(&store, marks[0]).await, None);
}
