//! All services in separate processes over FoundationDB, with workers that are killed,
//! suspended, or lose their store.

use std::{collections::BTreeSet, time::Duration};

use matyan_servers::{
    foundationdb::{Cluster, Engine},
    kafka::Broker,
};
use matyan_tests::{Service, eventually, kafka::scene::Scene, load::Load};
use rand::Rng;
use serde_json::Value;

use crate::{
    control::{delete, runs_with_blobs, upload},
    processes::seeded_random,
    rounds,
};

const WRITERS_PER_KIND: usize = 4;

/// Longer than the session timeout of a group member: afterwards another member owns its
/// partitions.
const ZOMBIE: Duration = Duration::from_secs(15);

async fn start_two(scene: &Scene, role: &'static str, cluster: &Cluster) -> [Service; 2] {
    let mut services = [0, 1].map(|number| scene.add_service(role, &format!("{role}-{number}"), cluster));
    for service in &mut services {
        service.start().await;
    }
    services
}

async fn stop(scene: Scene, services: impl IntoIterator<Item = Service>) {
    for mut service in services {
        let status = service.terminate().await;
        assert!(status.success(), "{status}:\n{}", service.log());
    }
    scene.stop().await;
}

pub(crate) async fn foundationdb_workers_are_killed_and_suspended_under_load(broker: &Broker) {
    let mut random = seeded_random();
    let mut cluster = Cluster::start(Engine::Disk);
    let scene = Scene::start_separate(broker, "apart-workers", 4, &cluster).await;
    let mut workers = start_two(&scene, "ingest-worker", &cluster).await;
    let load = Load::start_with_pauses(scene.ingest(), WRITERS_PER_KIND);
    for round in 0..rounds() {
        load.wait_for_acks(random.random_range(50..500)).await;
        let worker = &mut workers[round as usize % 2];
        worker.kill();
        load.wait_for_acks(50).await;
        worker.start().await;
    }
    // It resumes in the middle of its work, while the other worker has already taken over
    // its partitions.
    workers[0].suspend();
    tokio::time::sleep(ZOMBIE).await;
    workers[0].resume();
    load.wait_for_acks(200).await;
    // Frames are acknowledged while the store is away.
    tokio::task::block_in_place(|| cluster.kill());
    load.wait_for_acks(200).await;
    tokio::task::block_in_place(|| cluster.restart());
    load.wait_for_acks(200).await;
    let compared = load.finish(&scene.reader().await).await;
    println!(
        "{} JSON frames acknowledged, 0 lost, 0 duplicated; {} binary batches acknowledged, 0 lost, 0 duplicated",
        compared.frames, compared.batches
    );
    stop(scene, workers).await;
}

/// While one of two control workers is down, the other one publishes events and deletes blobs.
pub(crate) async fn foundationdb_either_of_two_control_workers_may_be_down(broker: &Broker) {
    let mut random = seeded_random();
    let cluster = Cluster::start(Engine::Disk);
    let scene = Scene::start_separate(broker, "apart-control", 2, &cluster).await;
    let mut worker = scene.add_service("ingest-worker", "ingest-worker", &cluster);
    worker.start().await;
    let mut controls = start_two(&scene, "control-worker", &cluster).await;
    let mut kept = BTreeSet::new();
    let mut deleted = BTreeSet::new();
    for round in 0..rounds().max(4) {
        for number in 0..4 {
            let run = format!("run-{round}-{number}");
            upload(&scene, &run).await;
            if number % 2 == 0 {
                kept.insert(run);
            } else {
                assert!(delete(&scene, &run).await);
                deleted.insert(run);
            }
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        let gone = &mut controls[round as usize % 2];
        // Killed, or a zombie.
        if round < 2 {
            gone.kill()
        } else {
            gone.suspend()
        }
        eventually("the blobs of deleted runs are deleted", async || match runs_with_blobs(&scene) {
            found if found.is_disjoint(&deleted) => Ok(()),
            found => Err(found),
        })
        .await;
        if round < 2 {
            gone.start().await;
        } else {
            tokio::time::sleep(ZOMBIE).await;
            gone.resume();
        }
    }
    let published = || -> BTreeSet<String> {
        let events = scene.admin.read(&scene.control);
        let events = events.iter().filter_map(rdkafka::Message::payload);
        let events = events.map(|event| serde_json::from_slice::<Value>(event).expect("an event is JSON"));
        let events = events.filter(|event| event["type"] == "run_deleted");
        events.filter_map(|event| event["payload"]["run_id"].as_str().map(str::to_owned)).collect()
    };
    eventually("every delete is published", async || match published() {
        all if all == deleted => Ok(()),
        some => Err(some),
    })
    .await;
    assert_eq!(runs_with_blobs(&scene), kept);
    println!("{} runs deleted, all published and without blobs; {} kept", deleted.len(), kept.len());
    stop(scene, controls.into_iter().chain([worker])).await;
}
