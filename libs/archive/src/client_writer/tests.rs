//! Archives of clients, read as `matyan restore` reads them.

use matyan_proto::{ABSENT, backup::v1::piece::Content};

use super::super::{
    pack,
    reader::{ArchiveReader, RunStep},
};
use super::*;

fn begin(output: &Path, includes_blobs: bool) -> ClientArchive {
    let filters = Map::from_iter([("since".to_owned(), Value::Text("2026-01-01".to_owned()))]);
    ClientArchive::begin(output, "test", filters, includes_blobs, SystemTime::UNIX_EPOCH).unwrap()
}

fn point(name: &str, step: i64) -> pb::Points {
    pb::Points {
        name: name.to_owned(),
        steps: vec![step],
        values: vec![0.5],
        epochs: vec![ABSENT],
        times_us: vec![1_700_000_000_000_001],
        ..pb::Points::default()
    }
}

fn image(step: i64) -> ClientStep {
    let value = Map::from_iter([("type".to_owned(), Value::Text("image".to_owned()))]);
    let payload = ClientPayload { format: "PNG".to_owned(), content: b"png".to_vec() };
    ClientStep {
        name: "images".to_owned(),
        context: Context::parse(r#"{"subset": "val"}"#).unwrap(),
        dtype: "image".to_owned(),
        step,
        epoch: Some(2),
        time: Some(1_700_000_000.25),
        objects: vec![ClientObject { value, payload: Some(payload) }],
    }
}

fn text(file: PathBuf) -> String {
    fs::read_to_string(file).unwrap()
}

#[test]
fn a_run_is_read_back() {
    let output = tempfile::tempdir().unwrap();
    let file = output.path().join("file");
    fs::write(&file, b"12345").unwrap();
    let mut archive = begin(output.path(), true);
    let tag = ClientEntity { id: Some("t".into()), name: Some("best".into()), ..ClientEntity::default() };
    archive.add_entity("tag", &tag);
    let mut run = archive.begin_run("r").unwrap();
    for point in [point("a", 0), point("b", 0), point("a", 1)] {
        run.points(point).unwrap();
    }
    run.objects(image(3)).unwrap();
    let line = pb::TerminalLine { number: 7, text: "x".into() };
    run.line(&line).unwrap();
    run.artifact("sub/file", &file).unwrap();
    let facts = RunFacts {
        name: "named".into(),
        created: Some(1_700_000_000.0),
        ended: Some(1_700_000_000.5),
        state: Some("failed".into()),
        error: Some("no memory left".into()),
        ..RunFacts::default()
    };
    archive.finish_run(run, facts).unwrap();
    archive.finish().unwrap();
    assert_eq!((archive.run_count(), archive.blobs()), (1, BlobCounts { files: 2, bytes: 8 }));

    let mut read = ArchiveReader::open(archive.root()).unwrap();
    read.check(true, |_| {}).unwrap();
    assert_eq!(read.entities(0).unwrap().len(), 1);
    let mut run = read.open_run("r", true, 0).unwrap();
    assert_eq!(run.head.name, "named");
    assert_eq!(run.head.created_us, 1_700_000_000_000_000);
    assert_eq!(run.head.finalized_us, Some(1_700_000_000_500_000));
    assert_eq!(run.head.outcome.as_ref().unwrap().message, "no memory left");
    let mut blobs = Vec::new();
    let mut contents = Vec::new();
    while let Some(step) = run.next_step().unwrap() {
        match step {
            RunStep::Blob { blob, .. } => blobs.push((blob.path, blob.size)),
            RunStep::Pieces { pieces, .. } => {
                contents.extend(pieces.into_iter().filter_map(|piece| piece.content));
            }
        }
    }
    assert_eq!(blobs, [("seq/image/0.png".to_owned(), 3), ("sub/file".to_owned(), 5)]);
    for point in [point("a", 0), point("b", 0), point("a", 1)] {
        let expected = Content::Points(pb::Points { dtype: NUMBERS.to_owned(), ..point });
        assert!(contents.contains(&expected), "{contents:?}");
    }
    assert!(contents.contains(&Content::Line(line)), "{contents:?}");
    let is_image = |content: &Content| matches!(content, Content::Object(image) if image.epoch == Some(2));
    assert!(contents.iter().any(is_image), "{contents:?}");
    // A series in several parts is listed once.
    assert_eq!(text(archive.root().join("runs/r/traces.json")).lines().count(), 4);
}

#[test]
fn what_is_unknown_is_left_out() {
    let output = tempfile::tempdir().unwrap();
    let mut archive = begin(output.path(), false);
    let mut run = archive.begin_run("r").unwrap();
    run.objects(image(0)).unwrap();
    let facts = RunFacts { state: Some("running".into()), ..RunFacts::default() };
    archive.finish_run(run, facts).unwrap();
    let folder = archive.root().join("runs/r");
    assert!(!folder.join("blobs").exists());
    assert_eq!(
        text(folder.join("run.json")),
        "{\"active\": true, \"description\": \"\", \"hash\": \"r\", \"is_archived\": false, \"name\": \"\", \"tags\": []}\n"
    );
    // The object refers to its file nevertheless.
    assert!(text(folder.join("sequences.jsonl")).contains(r#""s3_key": "r/seq/image/0.png""#));
}

#[test]
fn archives_of_the_same_second_have_numbers() {
    let output = tempfile::tempdir().unwrap();
    let first = begin(output.path(), true);
    assert!(first.root().ends_with("test-19700101-000000"));
    let second = begin(output.path(), true);
    assert!(second.root().ends_with("test-19700101-000000-2"));
    pack(second.root()).unwrap();
    assert!(begin(output.path(), true).root().ends_with("test-19700101-000000-3"));
}
