//! Backup and restore through their rpcs: everything read is restored, wherever a restore is
//! interrupted.

mod concurrent_creation;
mod lost_tail;
mod parked;
mod upload_limits;

use std::collections::BTreeMap;

use matyan_proto::{
    admin::v1::{FinishStaleRequest, admin_service_client::AdminServiceClient},
    backup::v1::{
        self as pb, RunState, backup_service_client::BackupServiceClient, piece::Content,
        read_project_response::Content as ProjectContent,
    },
    ingest::v1::{self as ingest, Event, IngestionBatch, Points, SeriesDef, event::Kind},
    limits,
    log::v1::LogEntry,
    runs::v1::{self as runs, run_service_client::RunServiceClient},
    search::v1 as search,
};
use tonic::{Code, service::Routes};

use crate::backend::harness::{
    Harness, all, create, experiment, failure, finish, line, not_found, params, tag, undecodable,
};

type Client = BackupServiceClient<Routes>;

fn client(harness: &Harness) -> Client {
    BackupServiceClient::new(harness.routes())
}

/// The content of a run as read for a backup.
#[derive(Clone, Debug, PartialEq)]
struct RunContent {
    head: pb::RunHead,
    pieces: Vec<pb::Piece>,
    blobs: Vec<pb::Blob>,
}

async fn read(harness: &Harness, run_id: &str) -> RunContent {
    let responses =
        all(client(harness).read_run(pb::ReadRunRequest { run_id: run_id.into() }).await.unwrap()).await;
    let mut read =
        RunContent { head: responses[0].head.clone().unwrap(), pieces: Vec::new(), blobs: Vec::new() };
    for response in responses {
        read.pieces.extend(response.pieces);
        read.blobs.extend(response.blobs);
    }
    read
}

/// The part visible to users, without how it was ingested and when it was folded.
fn visible(read: &RunContent) -> RunContent {
    let mut visible = read.clone();
    visible.head.cursor = None;
    let is_visible =
        |piece: &pb::Piece| !matches!(piece.content, Some(Content::Producer(_) | Content::Dictionary(_)));
    visible.pieces.retain(is_visible);
    visible.pieces = joined(visible.pieces);
    visible
}

/// Joins adjacent points of a series, no matter how they were split into pieces.
fn joined(pieces: Vec<pb::Piece>) -> Vec<pb::Piece> {
    let mut joined: Vec<pb::Piece> = Vec::new();
    for piece in pieces {
        if let Some(Content::Points(next)) = &piece.content
            && let Some(pb::Piece { content: Some(Content::Points(points)) }) = joined.last_mut()
            && (&points.name, &points.context) == (&next.name, &next.context)
        {
            points.steps.extend(&next.steps);
            points.values.extend(&next.values);
            points.epochs.extend(&next.epochs);
            points.times_us.extend(&next.times_us);
        } else {
            joined.push(piece);
        }
    }
    joined
}

/// Exact bytes, because messages containing NaN do not equal themselves.
fn bits(read: &RunContent) -> Vec<Vec<u8>> {
    visible(read).pieces.iter().map(prost::Message::encode_to_vec).collect()
}

async fn project(harness: &Harness) -> Vec<ProjectContent> {
    let responses = all(client(harness).read_project(pb::ReadProjectRequest {}).await.unwrap()).await;
    responses.into_iter().map(|response| response.content.unwrap()).collect()
}

fn cut(project: &[ProjectContent]) -> pb::Cut {
    match &project[0] {
        ProjectContent::Cut(cut) => cut.clone(),
        other => panic!("{other:?} came before the cut"),
    }
}

fn entities(project: &[ProjectContent]) -> Vec<pb::Entity> {
    let entity = |content: &ProjectContent| {
        if let ProjectContent::Entity(entity) = content { Some(entity.clone()) } else { None }
    };
    project.iter().filter_map(entity).collect()
}

const SOURCE: &[u8] = &[5; 32];

fn begin(read: &RunContent, source: &'static [u8]) -> pb::BeginRunRequest {
    let run_id = read.head.run_id.clone();
    let created_us = read.head.created_us;
    pb::BeginRunRequest { run_id, source: source.into(), created_us, dry_run: false }
}

/// Messages of three pieces each, numbered by position.
fn messages(read: &RunContent, source: &'static [u8]) -> Vec<pb::WriteRunRequest> {
    let message = |(pieces, position): (&[pb::Piece], u64)| pb::WriteRunRequest {
        run_id: if position == 1 { read.head.run_id.clone() } else { String::new() },
        source: if position == 1 { source.into() } else { Default::default() },
        pieces: pieces.to_vec(),
        position,
    };
    read.pieces.chunks(3).zip(1..).map(message).collect()
}

fn end(read: &RunContent, cut: Option<&pb::Cut>, source: &'static [u8]) -> pb::FinishRunRequest {
    let run_id = read.head.run_id.clone();
    let head = Some(read.head.clone());
    pb::FinishRunRequest { run_id, source: source.into(), head, cut: cut.cloned() }
}

async fn put(harness: &Harness, read: &RunContent, cut: Option<&pb::Cut>) {
    let begun = client(harness).begin_run(begin(read, SOURCE)).await.unwrap().into_inner();
    assert_eq!((begun.state(), begun.position), (RunState::Open, 0));
    client(harness).write_run(futures::stream::iter(messages(read, SOURCE))).await.unwrap();
    client(harness).finish_run(end(read, cut, SOURCE)).await.unwrap();
}

fn object(name: &str, step: Option<i64>, json: &str) -> Kind {
    let value = matyan_value::cbor::encode(&matyan_value::json::parse(json).unwrap());
    Kind::LogObject(ingest::LogObject {
        name: name.into(),
        context: r#"{"subset": "val"}"#.into(),
        dtype: "text".into(),
        step,
        epoch: Some(1),
        value: value.into(),
    })
}

fn record(message: &str) -> Kind {
    Kind::LogRecord(ingest::LogRecord {
        message: message.into(),
        level: 20,
        timestamp: 0.1,
        ..Default::default()
    })
}

/// Logs points of a metric without steps.
async fn track(harness: &Harness, run: &str, values: &[f64]) {
    let batch = IngestionBatch {
        series: vec![SeriesDef { name: "loss".into(), context: r#"{"a":1}"#.into(), dtype: "int".into() }],
        points: vec![Points { series: vec![0; values.len()], values: values.to_vec(), ..Points::default() }],
        ..IngestionBatch::default()
    };
    harness.append_entry(run, batch, LogEntry::default()).await;
}

/// Logs some content of every kind, like a client that does not set steps.
async fn fill(harness: &Harness, run: &str) {
    let large = format!(r#"{{"type":"text","data":"{}"}}"#, "x".repeat(100_000));
    let events = [
        create(),
        experiment("exp"),
        tag("best"),
        params(r#"{"hparams":{"lr":0.1,"nan":NaN,"big":99999999999999999999},"l":[1,{"a":-0.0}]}"#),
        object("texts", None, r#"{"type":"text","data":"one"}"#),
        object("texts", None, &large),
        line(0, "first"),
        line(1, "second"),
        record("learning"),
        Kind::BlobRef(ingest::BlobRef {
            key: format!("{run}/model.bin"),
            path: "model.bin".into(),
            content_type: "application/x".into(),
            size: Some(7),
            content_hash: vec![3; 32].into(),
        }),
    ];
    harness.log(run, events).await;
    track(harness, run, &[1.0, f64::NAN, f64::INFINITY, -0.0]).await;
    harness.put_blob(&format!("{run}/model.bin"), b"content").await;
}

#[tokio::test]
async fn a_run_is_restored_completely_and_restoring_it_again_changes_nothing() {
    let harness = Harness::new().await;
    fill(&harness, "r").await;
    harness.log("r", [finish()]).await;
    harness.applied().await;
    let before = read(&harness, "r").await;
    let of_project = project(&harness).await;
    assert_eq!(before.blobs.iter().map(|blob| blob.path.as_str()).collect::<Vec<_>>(), ["model.bin"]);
    let other = Harness::new().await;
    let request = pb::RestoreProjectRequest { entities: entities(&of_project), ..Default::default() };
    let made = client(&other).restore_project(request.clone()).await.unwrap().into_inner();
    assert_eq!((made.entities_made, made.entities_kept), (2, 0));
    put(&other, &before, None).await;
    assert_eq!(visible(&read(&other, "r").await).head, visible(&before).head);
    assert_eq!(bits(&read(&other, "r").await), bits(&before));
    // Restored again: nothing is created and nothing changes.
    let again = client(&other).restore_project(request).await.unwrap().into_inner();
    assert_eq!((again.entities_made, again.entities_kept), (0, 2));
    let begun = client(&other).begin_run(begin(&before, SOURCE)).await.unwrap().into_inner();
    assert_eq!(begun.state(), RunState::Restored);
    let of_other = client(&other).begin_run(begin(&before, &[6; 32])).await.unwrap().into_inner();
    assert_eq!(of_other.state(), RunState::Live, "the run was restored from another source");
    client(&other).finish_run(end(&before, None, SOURCE)).await.unwrap();
    let written = client(&other).write_run(futures::stream::iter(messages(&before, SOURCE))).await;
    let (code, reason, _) = failure(written);
    assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "OUT_OF_SEQUENCE"));
    other.end().await;
    harness.end().await;
}

/// A restored run continues as it would have in the original store.
#[tokio::test]
async fn a_run_that_was_given_up_resumes_where_it_is_restored() {
    let harness = Harness::new().await;
    let other = Harness::new().await;
    harness.log("r", [create(), line(0, "w")]).await;
    harness.applied().await;
    harness.advance_clock(3_600);
    let stale = FinishStaleRequest { idle_s: 600, dry_run: false };
    all(AdminServiceClient::new(harness.routes()).finish_stale(stale).await.unwrap()).await;
    let before = read(&harness, "r").await;
    assert!(before.head.given_up && !before.head.active);
    put(&other, &before, None).await;
    assert_eq!(visible(&read(&other, "r").await).head, visible(&before).head);
    other.log("r", [line(1, "x")]).await;
    other.applied().await;
    let after = read(&other, "r").await.head;
    assert_eq!((after.active, after.given_up, after.finalized_us), (true, false, None));
    other.end().await;
    harness.end().await;
}

#[tokio::test]
async fn artifacts_with_long_names_are_restored_and_lost_ones_are_reported_in_parts() {
    let harness = Harness::new().await;
    let other = Harness::new().await;
    let run = "r".repeat(limits::RUN_ID_BYTES);
    let lost = |number| {
        let path = format!("{number:03}{}", "p".repeat(limits::ARTIFACT_PATH_BYTES - 3));
        Kind::BlobRef(ingest::BlobRef { key: format!("{run}/{path}"), path, ..Default::default() })
    };
    harness.log(&run, [create()].into_iter().chain((0..1_000).map(lost))).await;
    harness.applied().await;
    let request = pb::ReadRunRequest { run_id: run.clone() };
    let responses = all(client(&harness).read_run(request).await.unwrap()).await;
    assert_eq!(responses.iter().map(|response| response.lost.len()).sum::<usize>(), 1_000);
    assert!(responses.iter().all(|response| prost::Message::encoded_len(response) < 1 << 20));
    let before = read(&harness, &run).await;
    put(&other, &before, None).await;
    assert_eq!(bits(&read(&other, &run).await), bits(&before));
    other.end().await;
    harness.end().await;
}

#[tokio::test]
async fn a_run_is_invisible_until_its_restore_ends_wherever_it_was_interrupted() {
    let harness = Harness::new().await;
    fill(&harness, "r").await;
    track(&harness, "r", &(0..5_000).map(f64::from).collect::<Vec<_>>()).await;
    harness.applied().await;
    let before = read(&harness, "r").await;
    let all_messages = messages(&before, SOURCE);
    let other = Harness::new().await;
    for position in 0..all_messages.len() as u64 {
        let begun = client(&other).begin_run(begin(&before, SOURCE)).await.unwrap().into_inner();
        assert_eq!((begun.state(), begun.position), (RunState::Open, position));
        // The last stored message is sent again, and one new message.
        let mut sent = all_messages[position.saturating_sub(1) as usize..=position as usize].to_vec();
        sent[0].run_id = before.head.run_id.clone();
        sent[0].source = SOURCE.into();
        let written = client(&other).write_run(futures::stream::iter(sent)).await.unwrap().into_inner();
        assert_eq!(written.position, position + 1);
        let get = runs::GetRequest { run_id: "r".into(), parts: None };
        not_found(RunServiceClient::new(other.routes()).get(get).await, "run", "r");
        assert!(listed(&other).await.is_empty());
    }
    client(&other).finish_run(end(&before, None, SOURCE)).await.unwrap();
    assert_eq!(listed(&other).await, ["r"]);
    let after = read(&other, "r").await;
    assert!(bits(&after) == bits(&before), "nothing is duplicated");
    other.end().await;
    harness.end().await;
}

async fn listed(harness: &Harness) -> Vec<String> {
    let responses = all(client(harness).list_runs(pb::ListRunsRequest::default()).await.unwrap()).await;
    responses.into_iter().flat_map(|response| response.run_ids).collect()
}

#[tokio::test]
async fn a_parent_that_is_not_live_is_counted_as_lost() {
    let harness = Harness::new().await;
    let run = |run_id: &str, parent: Option<&str>| {
        let parent = parent.map(|parent| pb::Parent { run_id: parent.into(), step: Some(7) });
        let head = pb::RunHead { run_id: run_id.into(), parent, ..Default::default() };
        RunContent { head, pieces: Vec::new(), blobs: Vec::new() }
    };
    for (run_id, parent, lost) in [("early", Some("p"), 1), ("p", None, 0), ("late", Some("p"), 0)] {
        let run = run(run_id, parent);
        client(&harness).begin_run(begin(&run, SOURCE)).await.unwrap();
        let finished = client(&harness).finish_run(end(&run, None, SOURCE)).await.unwrap().into_inner();
        assert_eq!(finished.links_lost, lost, "{run_id}");
    }
    assert_eq!(read(&harness, "early").await.head.parent, None);
    let parent = pb::Parent { run_id: "p".into(), step: Some(7) };
    assert_eq!(read(&harness, "late").await.head.parent, Some(parent));
    harness.end().await;
}

/// A restored branch has its own points, and is found by its parent.
#[tokio::test]
async fn a_parent_and_its_branch_are_restored() {
    let harness = Harness::new().await;
    track(&harness, "p", &[1.0, 2.0, 3.0, 4.0]).await;
    harness.applied().await;
    let parent_run_id = "p".to_owned();
    let branch = ingest::CreateRun { parent_run_id, parent_step: Some(1), ..Default::default() };
    harness.log("b", [Kind::CreateRun(branch)]).await;
    track(&harness, "b", &[9.0]).await;
    harness.applied().await;
    let before = [read(&harness, "p").await, read(&harness, "b").await];
    assert_eq!(before[1].head.parent, Some(pb::Parent { run_id: "p".into(), step: Some(1) }));
    let other = Harness::new().await;
    for run in &before {
        put(&other, run, None).await;
    }
    for run in &before {
        let after = read(&other, &run.head.run_id).await;
        assert!(bits(&after) == bits(run) && after.head.parent == run.head.parent, "{after:?}");
    }
    let query = Some(search::Query { text: "run.parent == 'p'".into(), ..Default::default() });
    let request = search::RunsRequest { query, ids_only: true, ..Default::default() };
    let mut client = search::search_service_client::SearchServiceClient::new(other.routes());
    let found = all(client.runs(request).await.unwrap()).await;
    assert_eq!(found.into_iter().flat_map(|message| message.run_ids).collect::<Vec<_>>(), ["b"]);
    // The branch is the same without its parent, because a backup of a branch contains all of its points.
    let request = runs::DeleteRequest { run_id: "p".into() };
    RunServiceClient::new(other.routes()).delete(request).await.unwrap();
    other.applied().await;
    assert!(bits(&read(&other, "b").await) == bits(&before[1]));
    other.end().await;
    harness.end().await;
}

/// Archives of other tools may repeat a record, within a message and in another.
#[tokio::test]
async fn a_repeated_log_record_is_restored_once() {
    let harness = Harness::new().await;
    let log_record = |message: &str| {
        let record =
            pb::LogRecord { message: message.into(), level: 20, timestamp: 1.5, ..Default::default() };
        pb::Piece { content: Some(Content::Record(record)) }
    };
    let head = pb::RunHead { run_id: "r".into(), ..Default::default() };
    let pieces = ["started", "started", "saved", "saved", "started"].map(log_record).to_vec();
    let read = RunContent { head, pieces, blobs: Vec::new() };
    put(&harness, &read, None).await;
    let restored = self::read(&harness, "r").await;
    assert_eq!(restored.pieces, ["started", "saved"].map(log_record));
    harness.end().await;
}

#[tokio::test]
async fn an_invalid_piece_is_reported_and_nothing_of_its_message_is_stored() {
    let harness = Harness::new().await;
    let points = |points| pb::Piece { content: Some(Content::Points(points)) };
    let good = pb::Points { name: "m".into(), steps: vec![1], values: vec![1.0], ..Default::default() };
    let head = pb::RunHead { run_id: "r".into(), ..Default::default() };
    let read = |pieces| RunContent { head: head.clone(), pieces, blobs: Vec::new() };
    client(&harness).begin_run(begin(&read(vec![]), SOURCE)).await.unwrap();
    let object = pb::Object { name: "o".into(), value: vec![0xff].into(), ..Default::default() };
    let producer = pb::Producer { id: vec![1].into(), ..Default::default() };
    for (bad, field) in [
        (points(pb::Points { values: vec![], ..good.clone() }), "points.values"),
        (points(pb::Points { epochs: vec![1, 2], ..good.clone() }), "points.epochs"),
        (points(pb::Points { context: "{".into(), ..good.clone() }), "context"),
        (points(pb::Points { name: "n".repeat(2_000), ..good.clone() }), "name"),
        (pb::Piece { content: Some(Content::Object(object)) }, "object.value"),
        (pb::Piece { content: Some(Content::Producer(producer)) }, "producer.id"),
        (pb::Piece { content: None }, "pieces"),
    ] {
        let sent = messages(&read(vec![points(good.clone()), bad]), SOURCE);
        let (_, _, metadata) = failure(client(&harness).write_run(futures::stream::iter(sent)).await);
        assert!(metadata.contains(&("field".into(), field.into())), "{field}: {metadata:?}");
    }
    let begun = client(&harness).begin_run(begin(&read(vec![]), SOURCE)).await.unwrap().into_inner();
    assert_eq!(begun.position, 0);
    harness.end().await;
}

/// A record of a producer that refers to its series by number.
fn produced(sequence: u64, defines: bool, value: f64) -> (IngestionBatch, LogEntry) {
    let definition = SeriesDef { name: "numbered".into(), ..SeriesDef::default() };
    let batch = IngestionBatch {
        series: if defines { vec![definition] } else { Vec::new() },
        points: vec![Points { series: vec![0], values: vec![value], ..Points::default() }],
        events: vec![Event { client_time_us: None, kind: Some(line(sequence as i64, "line")) }],
        ..IngestionBatch::default()
    };
    let acknowledged = sequence.saturating_sub(3);
    let entry = LogEntry { producer_id: vec![4; 16].into(), sequence, acknowledged, ..LogEntry::default() };
    (batch, entry)
}

/// Appends data that is numbered when it is applied, so that applying it twice is visible.
async fn more(harness: &Harness, run: &str, sequences: std::ops::Range<u64>) {
    for sequence in sequences {
        track(harness, run, &[sequence as f64]).await;
        harness.log(run, [object("texts", None, r#"{"type":"text","data":"more"}"#), record("again")]).await;
        let (batch, entry) = produced(sequence, sequence == 1, sequence as f64);
        harness.append_entry(run, batch, entry).await;
    }
}

/// The data restored before a replay.
#[derive(PartialEq)]
enum RestoredParts {
    All,
    /// An archive of one run.
    One,
    WithoutPositions,
}

/// Restores a backup into a new store whose log still has every record, and lets the worker
/// replay it.
async fn replayed(restores: &RestoredParts) -> (BTreeMap<String, RunContent>, BTreeMap<String, RunContent>) {
    let harness = Harness::with_untrimmed_log().await;
    for run in ["a", "b"] {
        fill(&harness, run).await;
        more(&harness, run, 1..4).await;
    }
    harness.create(&["deleted"]).await;
    let delete = runs::DeleteRequest { run_id: "deleted".into() };
    RunServiceClient::new(harness.routes()).delete(delete).await.unwrap();
    harness.applied().await;
    let of_project = project(&harness).await;
    let archive = [read(&harness, "a").await, read(&harness, "b").await];
    for run in ["a", "b"] {
        more(&harness, run, 4..7).await;
    }
    harness.create(&["c"]).await;
    harness.applied().await;
    let mut before = BTreeMap::new();
    for run in listed(&harness).await {
        before.insert(run.clone(), visible(&read(&harness, &run).await));
    }
    let mut other = Harness::with_log_of(harness).await;
    let takes_cut = *restores != RestoredParts::WithoutPositions;
    let filtered = *restores == RestoredParts::One;
    let cut = Some(pb::Cut { filtered, ..cut(&of_project) }).filter(|_| takes_cut);
    let tombstone = |content: &ProjectContent| {
        if let ProjectContent::Tombstone(it) = content { Some(it.clone()) } else { None }
    };
    let tombstones = of_project.iter().filter_map(tombstone).collect();
    let first = pb::RestoreProjectRequest {
        entities: entities(&of_project),
        tombstones,
        cut: cut.clone(),
        ..Default::default()
    };
    let response = client(&other).restore_project(first).await.unwrap().into_inner();
    assert_eq!((response.cut_taken, response.records_lost), (takes_cut, 0));
    for run in &archive[..if filtered { 1 } else { 2 }] {
        put(&other, run, cut.as_ref()).await;
    }
    other.start_workers().await;
    other.applied().await;
    let mut after = BTreeMap::new();
    for run in listed(&other).await {
        after.insert(run.clone(), visible(&read(&other, &run).await));
    }
    other.end().await;
    (before, after)
}

#[tokio::test]
async fn rule_36_restore_and_replay_duplicate_nothing_and_lose_nothing() {
    assert_replayed(&replayed(&RestoredParts::All).await);
}

/// The other runs exist only in the log, so it is replayed from the start, without duplicating
/// the restored run.
#[tokio::test]
async fn rule_36_a_replay_after_restoring_some_runs_creates_the_others() {
    assert_replayed(&replayed(&RestoredParts::One).await);
}

fn assert_replayed((before, after): &(BTreeMap<String, RunContent>, BTreeMap<String, RunContent>)) {
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (run, before) in before {
        let after = &after[run];
        assert!(bits(after) == bits(before), "{run}: {after:?} instead of {before:?}");
        assert_eq!((&after.head.params, after.head.active), (&before.head.params, before.head.active));
    }
}

/// The reason for the rule: without positions, the same replay numbers everything a second
/// time.
#[tokio::test]
async fn rule_36_without_positions_a_replay_duplicates() {
    let (before, after) = replayed(&RestoredParts::WithoutPositions).await;
    let points = |read: &RunContent| match read.pieces.iter().find_map(|piece| piece.content.as_ref()) {
        Some(_) => joined(read.pieces.clone())
            .iter()
            .filter_map(|piece| {
                if let Some(Content::Points(it)) = &piece.content { Some(it.steps.len()) } else { None }
            })
            .sum::<usize>(),
        None => 0,
    };
    assert!(points(&after["a"]) > points(&before["a"]));
}

/// The positions of a store are meaningless for a different log.
#[tokio::test]
async fn rule_36_positions_are_not_adopted_with_another_log() {
    let harness = Harness::new().await;
    fill(&harness, "r").await;
    harness.applied().await;
    let before = read(&harness, "r").await;
    let of_project = project(&harness).await;
    let other = Harness::new().await;
    let cut = cut(&of_project);
    let first = pb::RestoreProjectRequest { cut: Some(cut.clone()), ..Default::default() };
    let response = client(&other).restore_project(first).await.unwrap().into_inner();
    assert!(!response.cut_taken);
    put(&other, &before, Some(&cut)).await;
    assert_eq!(read(&other, "r").await.head.cursor, None);
    track(&other, "r", &[2.0]).await;
    other.applied().await;
    let points = |read: &RunContent| {
        joined(read.pieces.clone())
            .iter()
            .filter_map(|piece| match &piece.content {
                Some(Content::Points(points)) => Some(points.steps.len()),
                _ => None,
            })
            .sum::<usize>()
    };
    assert_eq!(points(&read(&other, "r").await), points(&before) + 1, "new records are applied");
    other.end().await;
    harness.end().await;
}
