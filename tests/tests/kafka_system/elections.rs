//! A leader of a partition is lost, and the broker that replaces it lacks its last records.

use matyan_servers::kafka::{Broker, BrokerPair};
use matyan_tests::{
    eventually,
    json::{Ack, JsonWriter, metric},
    kafka::scene::Scene,
};
use serde_json::json;

use crate::topics::{check, wait_for_count};

/// Points that both brokers have, those that only the lost one has, and those that the other one then
/// gets: more, so that offsets that were applied are used again.
const BOTH: i64 = 10;
const LOST: i64 = 5;
const LATER: i64 = 25;

/// The worker is running when it happens, and then is not.
pub(crate) async fn rule_43_a_partition_stops_where_an_unclean_election_cut_it(_: &Broker) {
    let mut brokers = tokio::task::block_in_place(BrokerPair::start);
    let mut scene = Scene::replicated(&brokers, "cut");
    scene.up.start().await;
    scene.frontier.start().await;
    let mut written = 0;
    for is_running in [true, false] {
        let leader = settled_leader(&scene, &brokers).await;
        let follower = 1 - leader;
        write_more(&scene, &mut written, BOTH).await;
        check(&scene, "run", 0..written).await;
        brokers.kill(follower);
        wait_for_replicas(&scene, brokers.id(leader), 1).await;
        write_more(&scene, &mut written, LOST).await;
        check(&scene, "run", 0..written).await;
        if !is_running {
            assert!(scene.up.terminate().await.success(), "{}", scene.up.log());
        }

        let applied = written;
        brokers.kill(leader);
        tokio::task::block_in_place(|| brokers.restart(follower));
        wait_for_replicas(&scene, brokers.id(follower), 1).await;
        write_more(&scene, &mut written, LATER).await;
        if !is_running {
            scene.up.start().await;
        }
        wait_for_count(&scene, "matyan_ingestion_partitions_lost_total", 1.0).await;
        check(&scene, "run", 0..applied).await;

        // Nothing that was acknowledged later is lost, and nothing before is applied twice.
        let output = scene.skip_partition(0);
        assert!(output.contains(&format!("continues after {LOST} lost records")), "{output}");
        assert!(scene.up.terminate().await.success(), "{}", scene.up.log());
        scene.up.start().await;
        check(&scene, "run", 0..written).await;
        tokio::task::block_in_place(|| brokers.restart(leader));
    }
    scene.stop().await;
}

/// Writes points with automatic steps and ascending values, one per frame, over a new connection.
async fn write_more(scene: &Scene, written: &mut i64, count: i64) {
    let connect = async || JsonWriter::connect(scene.ingest(), "run").await;
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
