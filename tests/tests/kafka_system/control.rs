//! Control events: published in the documented format, and never lost when the control worker
//! dies.

use std::{collections::BTreeSet, time::Duration};

use matyan_servers::kafka::Broker;
use matyan_tests::{
    eventually,
    json::{Ack, JsonWriter, create_run},
    kafka::scene::Scene,
};
use rand::Rng;
use rdkafka::Message;
use serde_json::{Value, json};

use crate::{processes::seeded_random, rounds, topics::wait_for_count};

pub(crate) async fn rule_15_control_events_are_published_as_documented(broker: &Broker) {
    let scene = Scene::start(broker, "control", 1).await;
    upload(&scene, "run").await;
    for archived in [true, false] {
        let asked = scene.http().put(run_url(&scene, "run")).json(&json!({"archived": archived}));
        assert!(asked.send().await.is_ok_and(|answer| answer.status().is_success()));
    }
    assert!(delete(&scene, "run").await);
    let events = eventually("the events are published", async || match scene.admin.read(&scene.control) {
        all if all.len() >= 3 => Ok(all),
        few => Err(few.len()),
    })
    .await;
    let envelopes: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_slice(event.payload().expect("an event has a value")).expect("JSON"))
        .collect();
    let published: Vec<_> =
        envelopes.iter().map(|envelope| (&envelope["type"], &envelope["payload"])).collect();
    let run = |archived: bool| json!({"run_id": "run", "archived": archived});
    let expected = [
        ("run_archived", run(true)),
        ("run_unarchived", run(false)),
        ("run_deleted", json!({"run_id": "run"})),
    ];
    for (published, (kind, payload)) in published.iter().zip(&expected) {
        assert_eq!((published.0, published.1), (&json!(kind), payload));
    }
    assert_eq!(envelopes.len(), expected.len());
    for (event, envelope) in events.iter().zip(&envelopes) {
        assert_eq!(event.key(), None);
        assert_eq!(envelope.as_object().map(|members| members.len()), Some(3));
        let timestamp = envelope["timestamp"].as_str().expect("the timestamp is text");
        assert!(
            timestamp.len() == "2024-01-02T03:04:05.678901Z".len() && timestamp.ends_with('Z'),
            "{timestamp}"
        );
    }
    wait_for_count(&scene, "matyan_control_events_processed_total", 3.0).await;
    scene.stop().await;
}

/// The control worker is killed between the acknowledged delete and the deletion of the last
/// blob. In the end the blobs of deleted runs are deleted, and all others still exist.
pub(crate) async fn rule_15_deletes_survive_a_killed_control_worker(broker: &Broker) {
    const RUNS_A_ROUND: usize = 4;
    let mut random = seeded_random();
    let mut scene = Scene::start(broker, "control-killed", 2).await;
    let mut kept = BTreeSet::new();
    let mut deleted = BTreeSet::new();
    for round in 0..rounds() {
        let runs: Vec<_> = (0..RUNS_A_ROUND).map(|run| format!("run-{round}-{run}")).collect();
        for run in &runs {
            upload(&scene, run).await;
        }
        for (number, run) in runs.into_iter().enumerate() {
            match number % 2 {
                0 => kept.insert(run),
                _ => {
                    assert!(delete(&scene, &run).await);
                    deleted.insert(run)
                }
            };
        }
        // A random moment: the kill may interrupt the record, its transaction, the
        // event, its topic, or the blobs.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        scene.up.kill();
        scene.up.start().await;
    }
    eventually("the blobs of deleted runs are deleted", async || match runs_with_blobs(&scene) {
        found if found.is_disjoint(&deleted) => Ok(()),
        found => Err(found),
    })
    .await;
    assert_eq!(runs_with_blobs(&scene), kept);
    scene.stop().await;
}

/// Creates a run with a stored artifact.
pub(crate) async fn upload(scene: &Scene, run: &str) {
    let request = json!({"run_id": run, "artifact_path": "a.bin", "content_type": "text/plain"});
    let url = format!("{}/api/v1/rest/artifacts/presign", scene.ingest());
    let signed = scene.http().post(url).json(&request).send().await.expect("the frontier answers");
    let signed: Value = signed.json().await.expect("the answer is JSON");
    let put = scene.http().put(signed["upload_url"].as_str().expect("a text")).body("content");
    assert!(put.send().await.is_ok_and(|answer| answer.status().is_success()));
    let mut writer = JsonWriter::connect(scene.ingest(), run).await.expect("the frontier listens");
    let key = &signed["s3_key"];
    let path = "a.bin";
    let blob =
        json!({"type": "blob_ref", "artifact_path": path, "s3_key": key, "content_type": "text/plain"});
    assert_eq!(writer.send(&json!([create_run(), blob])).await, Ok(Ack::Ok));
    scene.wait_until_applied(run).await;
}

pub(crate) async fn delete(scene: &Scene, run: &str) -> bool {
    scene.http().delete(run_url(scene, run)).send().await.is_ok_and(|answer| answer.status().is_success())
}

fn run_url(scene: &Scene, run: &str) -> String {
    format!("{}/api/v1/rest/runs/{run}/", scene.up.address("query"))
}

/// Runs that still have a file in the blob directory.
pub(crate) fn runs_with_blobs(scene: &Scene) -> BTreeSet<String> {
    let mut folders = vec![scene.blobs()];
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        // A directory that is deleted concurrently counts as empty.
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let run = path.iter().filter_map(|part| part.to_str()).find(|part| part.starts_with("run-"));
            found.extend(run.map(|run| run.split('.').next().unwrap_or(run).to_owned()));
        }
    }
    found
}
