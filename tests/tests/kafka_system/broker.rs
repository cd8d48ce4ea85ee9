//! A broker that becomes unavailable while eight writers write. Frames are held in the
//! meantime; nothing is restarted.

use matyan_servers::kafka::Broker;
use matyan_tests::{
    eventually,
    json::{Ack, JsonWriter, create_run, metric},
    kafka::scene::Scene,
    load::Load,
};
use serde_json::json;

use crate::{pause, processes::compare, rounds};

const WRITERS_PER_KIND: usize = 4;

pub(crate) async fn a_broker_killed_and_restarted_under_load(broker: &mut Broker) {
    let scene = Scene::start(broker, "broker-killed", 3).await;
    let load = Load::start(scene.ingest(), WRITERS_PER_KIND);
    for _ in 0..rounds() {
        load.wait_for_acks(200).await;
        tokio::task::block_in_place(|| {
            broker.kill();
            broker.restart();
        });
    }
    load.wait_for_acks(200).await;
    compare(scene, load).await;
}

pub(crate) async fn a_broker_suspended_under_load(broker: &mut Broker) {
    let scene = Scene::start(broker, "broker-paused", 3).await;
    let load = Load::start(scene.ingest(), WRITERS_PER_KIND);
    load.wait_for_acks(200).await;
    broker.suspend();
    // The duration of the pause is part of the scene, not a wait for a state.
    tokio::time::sleep(pause()).await;
    broker.resume();
    load.wait_for_acks(200).await;
    compare(scene, load).await;
}

/// Records without a response from the broker were not acknowledged, so the shutdown does not
/// wait for them indefinitely.
pub(crate) async fn a_frontier_stops_while_the_broker_is_unavailable(broker: &mut Broker) {
    let mut scene = Scene::start(broker, "ended-without", 1).await;
    let mut writer = JsonWriter::connect(scene.ingest(), "run").await.expect("the frontier listens");
    assert_eq!(writer.send(&create_run()).await, Ok(Ack::Ok));
    broker.suspend();
    let unanswered = tokio::spawn(async move { writer.send(&json!([metric("loss", 0.5, None)])).await });
    eventually("the frame is taken", async || {
        match scene.frontier.metric("ingest", "matyan_ws_messages_total").await {
            Ok(2.0) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let status = scene.frontier.terminate().await;
    assert!(status.success(), "{status}");
    let output = scene.frontier.log();
    assert!(output.contains("timed out closing the log; abandoning it"), "{output}");
    assert_ne!(unanswered.await.expect("the writer does not panic"), Ok(Ack::Ok));
    broker.resume();
    assert!(scene.up.terminate().await.success(), "{}", scene.up.log());
}
