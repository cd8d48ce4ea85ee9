//! Round trips: data that is written to an archive is read back unchanged.

use matyan_proto::{
    backup::v1::{self as pb, piece::Content},
    common::v1::{LogPosition, Outcome, OutcomeKind},
};
use matyan_value::{Map, Value};
use time::OffsetDateTime;

use super::{
    reader, run_folder,
    run_step::RunStep,
    writer::{self, BackupFilters, BackupOrigin},
};

#[test]
fn every_run_id_has_a_folder_name() {
    for plain in ["3fd1c0", "a b", "ü", "run.1", "a\u{a0}b", "a\u{200d}b"] {
        assert_eq!(run_folder(plain), plain);
    }
    for odd in
        ["", ".", "..", "../x", "a/b", "a\\b", "~x", "\n", "\u{85}", ".unfinished.json", &"x".repeat(201)]
    {
        let folder = run_folder(odd);
        assert!(folder.starts_with('~') && folder.len() == 65 && !folder.contains('/'), "{odd}");
    }
}

/// Writes a run to an archive and returns it as read back.
fn archived(head: &pb::RunHead, contents: Vec<Content>) -> (pb::RunHead, Vec<Content>) {
    let output = tempfile::tempdir().unwrap();
    let origin = BackupOrigin { server: "http://a".into(), cut: pb::Cut::default() };
    let now = OffsetDateTime::UNIX_EPOCH;
    let mut archive =
        writer::ArchiveWriter::begin(output.path(), &BackupFilters::default(), &origin, now).unwrap();
    let mut run = archive.begin_run(head.clone()).unwrap();
    for content in contents {
        run.add(pb::Piece { content: Some(content) }).unwrap();
    }
    run.finish().unwrap();
    archive.mark_run_done(&head.run_id);
    let (root, _) = archive.finish(&pb::Settings::default(), &[], &[]).unwrap();
    let mut archive = reader::ArchiveReader::open(&root).unwrap();
    archive.check(true, |_| {}).unwrap();
    let read = |position| {
        let mut run = archive.open_run(&archive.runs[0], true, position).unwrap();
        let mut contents = Vec::new();
        let mut positions = Vec::new();
        while let Some(step) = run.next_step().unwrap() {
            let RunStep::Pieces { pieces, position } = step else { panic!("the run has no blobs") };
            contents.extend(pieces.into_iter().map(|piece| piece.content.unwrap()));
            positions.push((position, contents.len()));
        }
        (run.head, contents, positions)
    };
    let (head, contents, positions) = read(0);
    for (position, done) in positions {
        assert_eq!(read(position).1, contents[done..], "it continues at each position");
    }
    (head, contents)
}

fn whole_head() -> pb::RunHead {
    let link = |id: &str| pb::Link { id: id.to_owned(), name: format!("name of {id}") };
    let position = LogPosition { log: 1, partition: 2, offset: 3 };
    let params = Map::from_iter([("lr".to_owned(), Value::Float(0.5))]);
    pb::RunHead {
        run_id: "r".to_owned(),
        name: "a name".to_owned(),
        description: "a description".to_owned(),
        created_us: 1_700_000_000_000_001,
        updated_us: 1_700_000_000_000_002,
        finalized_us: Some(1_700_000_000_000_003),
        archived: true,
        active: true,
        experiment: Some(link("e")),
        tags: vec![link("t"), link("u")],
        client_started_us: Some(1_700_000_000_000_004),
        first_started_us: Some(1_700_000_000_000_005),
        duration_us: Some(6),
        parent: Some(pb::Parent { run_id: "p".to_owned(), step: Some(-7) }),
        implicit: true,
        params: matyan_value::cbor::encode_map(&params).into(),
        last_data_us: 1_700_000_000_000_008,
        cursor: Some(pb::Cursor { position: Some(position), item: 9 }),
        given_up: true,
        client: "W&B 0.31.0".into(),
        reopened_us: Some(1_700_000_000_000_010),
        binned_us: Some(1_700_000_000_000_011),
        outcome: Some(Outcome { kind: OutcomeKind::Failed.into(), message: "diverged".to_owned() }),
        quarantine: Some(pb::Quarantine { reason: "damaged".to_owned(), since_us: 1_700_000_000_000_011 }),
    }
}

#[test]
fn every_field_of_a_run_round_trips() {
    let head = whole_head();
    assert_eq!(archived(&head, Vec::new()).0, head);
}

/// Metrics may use the names under which archives store terminal lines and log records.
#[test]
fn a_metric_may_have_the_name_of_lines_or_records() {
    let metric = |name: &str, value: f64| {
        Content::Points(pb::Points {
            name: name.to_owned(),
            dtype: "float".to_owned(),
            steps: vec![3],
            values: vec![value],
            epochs: vec![1],
            times_us: vec![2_000_000],
            ..pb::Points::default()
        })
    };
    let line = Content::Line(pb::TerminalLine { number: 4, text: "a line".to_owned() });
    let record =
        Content::Record(pb::LogRecord { message: "a record".to_owned(), level: 20, ..Default::default() });
    let beside = [metric("logs", 0.5), metric("__log_records", 1.5), line.clone(), record.clone()];
    let apart = [metric("logs", 0.5), line, metric("__log_records", 1.5), record];
    for contents in [beside.to_vec(), apart.to_vec()] {
        let mut read = archived(&whole_head(), contents.clone()).1;
        for content in &mut read {
            if let Content::Record(record) = content {
                // Absent and null are equivalent.
                record.extra_args = Default::default();
                record.logger_info = Default::default();
            }
        }
        let missing: Vec<_> = contents.iter().filter(|content| !read.contains(content)).collect();
        assert!(missing.is_empty() && read.len() == contents.len(), "{missing:?} of {read:?}");
    }
}

#[test]
fn parked_items_round_trip() {
    let origin = pb::RecordOrigin {
        producer: vec![7; 16].into(),
        sequence: u64::MAX,
        acknowledged: u64::MAX - 1,
        ephemeral: true,
        part: Some(pb::BatchPart { first: 1, count: 2, total: u32::MAX }),
    };
    let record = pb::ParkedRecord {
        caller: "a caller".to_owned(),
        envelope: true,
        first_item: u32::MAX,
        origin: Some(origin.clone()),
    };
    let records = [
        None,
        Some(pb::ParkedRecord::default()),
        Some(pb::ParkedRecord { origin: Some(pb::RecordOrigin { part: None, ..origin }), ..record.clone() }),
        Some(record),
    ];
    let line = Content::Line(pb::TerminalLine { number: 4, text: "a line".to_owned() });
    let contents = std::iter::once(line)
        .chain(records.into_iter().zip(0..).map(|(record, number)| {
            let content = vec![number as u8; 400_000].into();
            Content::Parked(pb::ParkedItem {
                number,
                reason: "why".to_owned(),
                received_us: 5,
                content,
                record,
            })
        }))
        .collect::<Vec<_>>();
    assert_eq!(archived(&whole_head(), contents.clone()).1, contents);
}
