//! A leader of a partition is lost, and the broker that replaces it lacks its last records.

use std::collections::BTreeMap;

use matyan_servers::kafka::{Broker, BrokerPair};
use matyan_tests::{
    eventually,
    json::{Ack, JsonWriter, metric},
    kafka::scene::Scene,
};
use rdkafka::Message as _;
use serde_json::json;

use crate::topics::{check, wait_for_count};

/// Numbers of points that both brokers have, that only the lost broker has, and that the other broker then
/// gets. The last number is the largest, so that offsets that were applied are used again.
const BOTH: i64 = 10;
const LOST: i64 = 5;
const LATER: i64 = 25;

/// The election happens once while the worker is running, and once while it is stopped.
pub(crate) async fn rule_43_a_partition_stops_where_an_unclean_election_cut_it(_: &Broker) {
    let mut brokers = tokio::task::block_in_place(BrokerPair::start);
    let mut scene = Scene::replicated(&brokers, "cut");
    scene.up.start().await;
    scene.frontier.start().await;
    let mut written = 0;
    for is_running in [true, false] {
        let leader = settled_leader(&scene, &brokers).await;
        let follower = 1 - leader;
        write_more(&scene, "run", &mut written, BOTH).await;
        check(&scene, "run", 0..written).await;
        brokers.kill(follower);
        wait_for_replicas(&scene, brokers.id(leader), 1).await;
        write_more(&scene, "run", &mut written, LOST).await;
        check(&scene, "run", 0..written).await;
        if !is_running {
            assert!(scene.up.terminate().await.success(), "{}", scene.up.log());
        }

        let applied = written;
        brokers.kill(leader);
        tokio::task::block_in_place(|| brokers.restart(follower));
        wait_for_replicas(&scene, brokers.id(follower), 1).await;
        write_more(&scene, "run", &mut written, LATER).await;
        if !is_running {
            scene.up.start().await;
        }
        wait_for_count(&scene, "matyan_ingestion_partitions_lost_total", 1.0).await;
        check(&scene, "run", 0..applied).await;

        // Nothing that was acknowledged later is lost, and nothing before is applied twice.
        let output = scene.skip_partition(0);
        assert!(output.contains(&format!("continues after {LOST} lost records")), "{output}");
        check(&scene, "run", 0..written).await;
        tokio::task::block_in_place(|| brokers.restart(leader));
    }
    scene.stop().await;
}

/// The worker is started while the broker of some partitions is away.
pub(crate) async fn rule_40_a_partition_without_a_leader_delays_no_other(_: &Broker) {
    let mut brokers = tokio::task::block_in_place(BrokerPair::start);
    let mut scene = Scene::spread(&brokers, "leaderless", 4);
    scene.up.start().await;
    scene.frontier.start().await;
    let mut written: BTreeMap<String, i64> = (0..8).map(|at| (format!("run-{at}"), 0)).collect();
    for (run, count) in &mut written {
        write_more(&scene, run, count, BOTH).await;
        check(&scene, run, 0..*count).await;
    }
    let leaders = scene.admin.leaders(&scene.ingestion);
    let control = scene.admin.leaders(&scene.control);
    let lost = usize::from(control[0] == brokers.id(0));
    let records = scene.admin.read(&scene.ingestion);
    let is_lost = |run: &str| {
        let of_run = records.iter().find(|record| record.key() == Some(run.as_bytes()));
        let partition = of_run.expect("each run has a record").partition();
        leaders[partition as usize] == brokers.id(lost)
    };
    let (mut lost_runs, mut kept_runs): (BTreeMap<_, _>, BTreeMap<_, _>) =
        written.into_iter().partition(|(run, _)| is_lost(run));
    assert!(!lost_runs.is_empty() && !kept_runs.is_empty(), "each broker leads partitions with runs");
    assert!(scene.up.terminate().await.success(), "{}", scene.up.log());

    brokers.kill(lost);
    scene.up.start().await;
    for (run, count) in &mut kept_runs {
        write_more(&scene, run, count, LATER).await;
        check(&scene, run, 0..*count).await;
    }
    tokio::task::block_in_place(|| brokers.restart(lost));
    for (run, count) in &mut lost_runs {
        write_more(&scene, run, count, LATER).await;
        check(&scene, run, 0..*count).await;
    }
    scene.stop().await;
}

/// Writes points with automatic steps and ascending values, one per frame, over a new connection.
async fn write_more(scene: &Scene, run: &str, written: &mut i64, count: i64) {
    let connect = async || JsonWriter::connect(scene.ingest(), run).await;
    let mut writer = eventually("the frontier accepts a connection", connect).await;
    for value in *written..*written + count {
        assert_eq!(writer.send(&json!([metric("loss", value as f64, None)])).await, Ok(Ack::Ok));
    }
    *written += count;
}

/// The broker that leads once both have all records.
async fn settled_leader(scene: &Scene, brokers: &BrokerPair) -> usize {
    let (leader, _) = eventually("both brokers have all records", async || {
        match scene.admin.replicas(&scene.ingestion)? {
            (leader, replicas) if replicas.len() == 2 => Ok((leader, replicas)),
            found => Err(format!("{found:?}")),
        }
    })
    .await;
    usize::from(leader == brokers.id(1))
}

async fn wait_for_replicas(scene: &Scene, leader: i32, count: usize) {
    eventually(&format!("broker {leader} leads"), async || match scene.admin.replicas(&scene.ingestion)? {
        (found, replicas) if found == leader && replicas.len() == count => Ok(()),
        found => Err(format!("{found:?}")),
    })
    .await;
}
