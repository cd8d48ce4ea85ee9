//! Tests of the key layout: order, ranges, and decoding.

use super::*;
use crate::ids::{CohortNumber, Job, SeriesNumber};

const P: Project = Project(0);

#[test]
fn no_two_rows_share_a_key() {
    let rows = [rows_of_the_instance(), rows_of_projects(), rows_of_studies()];
    let keys = rows.concat();
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len());
}

fn rows_of_the_instance() -> Vec<Key> {
    vec![
        format(),
        log(LogTopic::Ingestion),
        log(LogTopic::Control),
        replaced_log(LogTopic::Ingestion, &[1; 16]),
        replaced_log(LogTopic::Control, &[1; 16]),
        applied(LogTopic::Ingestion, 0),
        lock(Job::new("r", P)),
        lock(Job::new("r", Project(1))),
        job(Job::new("r", P)),
        job(Job::new("r", Project(1))),
        project_by_name("r"),
        outbox_prefix(),
        principal("r"),
        grant("r", None),
        grant("r", Some("")),
        grant("r", Some("r")),
        credential(&[0; 32]),
        identity("r", ""),
        identity("r", "r"),
        audit_entry(0, "r", None),
        audit_entry(0, "r", Some("")),
        audit_entry(0, "r", Some("r")),
        audit_entry_of_project("", 0, "r"),
        audit_entry_of_project("r", 0, "r"),
    ]
}

fn rows_of_projects() -> Vec<Key> {
    let id = RunId::new("r");
    let n = RunNumber(7);
    let s = SeriesNumber(0);
    let producer = ProducerId([0; 16]);
    let mut rows = rows_of_cohorts(n);
    rows.extend([
        head(P, &id),
        cursor(P, &id),
        mark(P, &id, producer),
        dictionary_page(P, &id, producer, 0),
        document(P, n),
        number(P, n),
        tombstone(P, &id),
        dead_run(P, n),
        unfolded(P, n),
        branch(P, n),
        writing(P, n),
        block(P, n, 0),
        fold(P, n),
        series_header(P, n, s),
        series_by_name(P, n, SeriesKind::Metric, "r", &[0; 16]),
        series_by_name(P, n, SeriesKind::Object, "r", &[0; 16]),
        series_summary(P, n, s),
        chunk_entry(P, n, s, 0),
        chunk(P, n, s, 0),
        pyramid_page(P, n, s, 0, 0),
        params_piece(P, n, 0),
        object_header(P, n, s),
        object(P, n, s, 0),
        terminal_piece(P, n, 0, 0),
        log_record_piece(P, n, 0, 0),
        log_record_seen(P, n, &[0; 16]),
        artifact(P, n, "r"),
        index_created(P, 0, n),
        index_experiment(P, "r", n),
        index_tag(P, "r", n),
        index_archived(P, false, n),
        index_active(P, false, n),
        index_binned(P, 0, n),
        index_param(P, &["r".into()], b"", n),
        index_series_name(P, SeriesKind::Metric, "r", n),
        index_partial(P, n),
        entity_piece(P, EntityKind::Tag, "r", 0),
        dead_entity(P, EntityKind::Tag, "r"),
        entity_name(P, EntityKind::Tag, "r"),
        entity_counter(P, EntityKind::Tag, "r", Counter::Runs),
        project_info(P),
        project_pinned_piece(P, 0),
        primary_metric(P),
        metric_goal(P, "r"),
        project_counter(P, Counter::Series),
        run_note(P, n, "r"),
        experiment_note(P, "r", "r"),
        change_count(P),
        changes_trimmed(P),
        live_readers(P),
        change_counter_mark(P, matyan_store::Version(0)),
        line_written(P, n, 0),
        parked_by_time(P, 0, &id, ItemPosition::default()),
        change_prefix(P),
        parked_piece(P, &id, ItemPosition::default(), 0),
        garbage(P, 0, n, s, 0),
        staged(P, &id),
        staged_progress(P, &id),
        staged_mark(P, n, producer),
        staged_page(P, n, producer, 0),
        document(Project(1), n),
    ]);
    rows
}

fn rows_of_cohorts(n: RunNumber) -> Vec<Key> {
    vec![
        cohort(CohortKind::Metrics, P, CohortNumber(7)),
        cohort_column(P, CohortNumber(7), "r", &[0; 16]),
        uncollected(CohortKind::Metrics, P, ListGeneration::FIRST, n),
        uncollected(CohortKind::Metrics, P, ListGeneration(7), n),
        uncollected_generations(CohortKind::Metrics, P),
        uncollected_left(CohortKind::Metrics, P),
        run_cohort(CohortKind::Metrics, P, n),
        cohort(CohortKind::Params, P, CohortNumber(7)),
        param_column(P, &["r".into()], CohortNumber(7), 0),
        param_cohort_paths(P, CohortNumber(7), 0),
        uncollected(CohortKind::Params, P, ListGeneration::FIRST, n),
        uncollected(CohortKind::Params, P, ListGeneration(7), n),
        uncollected_generations(CohortKind::Params, P),
        uncollected_left(CohortKind::Params, P),
        run_cohort(CohortKind::Params, P, n),
        indexed_params(P, n),
    ]
}

fn rows_of_studies() -> Vec<Key> {
    vec![
        study_last(P),
        study_by_name(P, "r"),
        study(P, 7),
        study_trial_count(P, 7),
        study_attribute_piece(P, 7, AttributeKind::User, "r", 0),
        study_attribute_piece(P, 7, AttributeKind::System, "r", 0),
        study_distribution_piece(P, 7, "r", 0),
        trial(P, 7, 0),
        trial_param_piece(P, 7, 0, "r", 0),
        trial_attribute_piece(P, 7, 0, AttributeKind::User, "r", 0),
        trial_attribute_piece(P, 7, 0, AttributeKind::System, "r", 0),
        intermediate_value(P, 7, 0, 0),
        dead_study(P, 7),
        unfinished_study(P, 7),
        unlogged_points(P, 7, 0, TrialPointKind::IntermediateValues),
        unlogged_points(P, 7, 0, TrialPointKind::Results),
    ]
}

#[test]
fn steps_sort_from_negative_to_positive() {
    let steps = [i64::MIN, -300, -1, 0, 1, 255, 256, i64::MAX];
    let keys = steps.map(|step| object(P, RunNumber(1), SeriesNumber(2), step));
    assert!(keys.is_sorted(), "{keys:?}");
    let range = objects(P, RunNumber(1), SeriesNumber(2));
    for (key, step) in keys.iter().zip(steps) {
        assert!(range.contains(key));
        let (back,): (i64,) = tail(&range.start, key).unwrap();
        assert_eq!(back, step);
    }
}

#[test]
fn a_key_of_a_trial_is_decoded() {
    let range = trials_from(P, 7, 1);
    let check = |key: &Key, expected: TrialRow| {
        assert!(range.contains(key), "{expected:?}");
        assert_eq!(decode_trial_row(P, 7, key).unwrap(), (3, expected));
    };
    check(&trial(P, 7, 3), TrialRow::Head);
    check(&trial_param_piece(P, 7, 3, "a\0b", 1), TrialRow::Param { name: "a\0b".into(), piece: 1 });
    let kind = AttributeKind::System;
    check(
        &trial_attribute_piece(P, 7, 3, kind, "", 0),
        TrialRow::Attribute { kind, name: String::new(), piece: 0 },
    );
    check(&intermediate_value(P, 7, 3, -1), TrialRow::IntermediateValue { step: -1 });
    for other in [trial(P, 7, 0), trial(P, 6, 3), trial(P, 8, 3), study(P, 7), dead_study(P, 7)] {
        assert!(!range.contains(&other), "{}", other.escape_ascii());
    }
    decode_trial_row(P, 7, &trial(P, 8, 3)).unwrap_err();
}

#[test]
fn a_range_contains_only_its_own_rows() {
    let own = run_rows(P, RunNumber(1));
    assert!(own.contains(&block(P, RunNumber(1), 9)));
    for other in [RunNumber(0), RunNumber(2), RunNumber(256), RunNumber(1 << 40)] {
        assert!(!own.contains(&block(P, other, 9)), "{other}");
    }
    assert!(!own.contains(&document(P, RunNumber(1))));
    let name = index_series_name_all(P, SeriesKind::Metric, "loss");
    assert!(name.contains(&index_series_name(P, SeriesKind::Metric, "loss", RunNumber(3))));
    assert!(!name.contains(&index_series_name(P, SeriesKind::Metric, "loss2", RunNumber(3))));
    assert!(!name.contains(&index_series_name(P, SeriesKind::Metric, "loss\0", RunNumber(3))));
}

#[test]
fn an_idle_producer_key_is_decoded() {
    let id = RunId::new("run\0id");
    let producer = ProducerId([0xff; 16]);
    let range = idle_producers(SweepStage::Mark, 10);
    let key = idle_producer(SweepStage::Mark, 9, Project(3), &id, producer);
    assert!(range.contains(&key));
    assert!(!range.contains(&idle_producer(SweepStage::Mark, 10, Project(3), &id, producer)));
    assert_eq!(decode_idle_producer(&range, &key).unwrap(), (9, Project(3), id, producer));
}

#[test]
fn an_audit_key_is_decoded_and_is_in_its_ranges_only() {
    let decoded = |project: Option<&str>| (5, "a\0b".to_owned(), project.map(str::to_owned));
    for project in [None, Some(""), Some("speech"), Some("0")] {
        let key = audit_entry(5, "a\0b", project);
        assert_eq!(decode_audit_entry(None, &key).unwrap(), decoded(project));
        assert!(audit_entries_until(None, 6).contains(&key) && !audit_entries_until(None, 5).contains(&key));
        assert!(audit_entries_before(None, 5, "b").contains(&key));
        assert!(!audit_entries_before(None, 5, "a\0b").contains(&key));
        assert!(!audit_entries(Some("speech")).contains(&key));
    }
    let key = audit_entry_of_project("speech", 5, "a\0b");
    assert_eq!(decode_audit_entry(Some("speech"), &key).unwrap(), decoded(Some("speech")));
    let own = Some("speech");
    assert!(audit_entries_until(own, 6).contains(&key) && !audit_entries_until(own, 5).contains(&key));
    assert!(audit_entries_before(own, 5, "b").contains(&key));
    assert!(!audit_entries_before(own, 5, "a\0b").contains(&key));
    for other in [None, Some(""), Some("speech2"), Some("speec")] {
        assert!(!audit_entries(other).contains(&key), "{other:?}");
        decode_audit_entry(other, &key).unwrap_err();
    }
}

#[test]
fn a_key_of_another_layout_is_rejected() {
    let range = documents(P);
    assert!(tail::<(u64,)>(&range.start, &format()).is_err());
    assert!(tail::<(u64,)>(&range.start, &range.start).is_err());
}

#[test]
fn param_values_are_found_between_their_bounds() {
    let path = ["a".into(), "b".into()];
    let range = index_param_between(P, &path, b"b", b"d");
    for (value, inside) in [(&b"a"[..], false), (b"b", true), (b"c", true), (b"d", true), (b"d0", false)] {
        assert_eq!(range.contains(&index_param(P, &path, value, RunNumber(1))), inside, "{value:?}");
    }
    assert!(!index_param_path(P, &["a".into()]).contains(&index_param(P, &path, b"b", RunNumber(1))));
}

#[test]
fn every_row_of_a_project_is_in_its_range_and_no_other() {
    let id = RunId::new("r");
    for number in [0, 1, 255, 256, u32::MAX] {
        let project = Project(number);
        let rows = project_rows(project);
        for key in [head(project, &id), document(project, RunNumber(7)), change_prefix(project)] {
            assert!(rows.contains(&key), "{number}");
        }
        for other in [number.wrapping_add(1), number.wrapping_sub(1), number ^ 0x100] {
            assert!(!rows.contains(&head(Project(other), &id)), "{number} {other}");
        }
        assert!(!rows.contains(&project_by_name("r")) && !rows.contains(&lock(Job::new("r", project))));
    }
}

#[test]
fn entities_are_listed_by_the_beginning_of_their_ids() {
    let kind = EntityKind::Document;
    let ids = ["a", "a/", "a/b", "a/\u{10ffff}", "a0", "b", "\u{10ffff}", "\u{10ffff}a"];
    let listed = |prefix: &str| {
        let range = entities_with_prefix(P, kind, prefix);
        let is_in = |id: &&&str| {
            let key = entity_piece(P, kind, id, 0);
            range.start <= key && key < range.end
        };
        ids.iter().filter(is_in).copied().collect::<Vec<_>>()
    };
    assert_eq!(listed("a/"), ["a/", "a/b", "a/\u{10ffff}"]);
    assert_eq!(listed("a"), ["a", "a/", "a/b", "a/\u{10ffff}", "a0"]);
    assert_eq!(listed("a/\u{10ffff}"), ["a/\u{10ffff}"]);
    assert_eq!(listed("\u{10ffff}"), ["\u{10ffff}", "\u{10ffff}a"]);
    assert_eq!(listed(""), ids);
}

#[test]
fn a_range_of_artifacts_has_the_paths_with_a_prefix() {
    let number = RunNumber(7);
    let paths = ["a", "a/", "a/b", "a/\u{10ffff}", "a0", "b", "\u{10ffff}", "\u{10ffff}a"];
    let listed = |prefix: &str| {
        let range = artifacts_with_prefix(P, number, prefix);
        let is_in = |path: &&&str| {
            let key = artifact(P, number, path);
            range.start <= key && key < range.end
        };
        paths.iter().filter(is_in).copied().collect::<Vec<_>>()
    };
    assert_eq!(listed("a/"), ["a/", "a/b", "a/\u{10ffff}"]);
    assert_eq!(listed("\u{10ffff}"), ["\u{10ffff}", "\u{10ffff}a"]);
    assert_eq!(listed(""), paths);
}
