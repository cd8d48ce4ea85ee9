//! Processes that are killed while eight writers write.

use std::time::Duration;

use matyan_servers::kafka::Broker;
use matyan_tests::{
    collector::{Collector, span_with},
    json::{Ack, JsonWriter, create_run},
    kafka::scene::Scene,
    load::Load,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rdkafka::Message as _;

use crate::rounds;

const WRITERS_PER_KIND: usize = 4;

/// The killed process applies and stores records. It is hit between transactions, and between a
/// transaction and its notifications.
pub(crate) async fn a_worker_killed_under_load_loses_and_duplicates_nothing(broker: &Broker) {
    let mut random = seeded_random();
    let mut scene = Scene::start(broker, "worker-killed", 3).await;
    let load = Load::start(scene.ingest(), WRITERS_PER_KIND);
    for _ in 0..rounds() {
        load.wait_for_acks(random.random_range(50..500)).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        scene.up.kill();
        // Ingestion does not depend on the worker.
        load.wait_for_acks(50).await;
        scene.up.start().await;
    }
    load.wait_for_acks(100).await;
    compare(scene, load).await;
}

pub(crate) async fn a_frontier_killed_with_frames_in_flight(broker: &Broker) {
    let mut random = seeded_random();
    let mut scene = Scene::start(broker, "frontier-killed", 3).await;
    let load = Load::start(scene.ingest(), WRITERS_PER_KIND);
    for _ in 0..rounds() {
        load.wait_for_acks(random.random_range(50..500)).await;
        scene.frontier.kill();
        scene.frontier.start().await;
        load.set_address(scene.ingest());
    }
    load.wait_for_acks(100).await;
    compare(scene, load).await;
}

/// The records of the earlier topic are applied first, and the store stays the same. Clients keep what they
/// log while the topic is closed.
pub(crate) async fn rule_43_a_store_moves_to_a_topic_with_more_partitions_under_load(broker: &Broker) {
    let mut scene = Scene::start(broker, "moved", 4).await;
    let load = Load::start(scene.ingest(), WRITERS_PER_KIND);
    load.wait_for_acks(500).await;
    scene.close_topic(&[]);
    // Clients have kept what they logged.
    scene.close_topic(&["--undo"]);
    load.wait_for_acks(50).await;
    scene.close_topic(&[]);
    // The operator forgot the frontier: it still runs, and nothing that it acknowledges may be lost.
    scene.wait_until_drained().await;
    assert!(scene.up.terminate().await.success());
    scene.up.start().await;
    scene.wait_until_drained().await;
    assert!(scene.up.terminate().await.success());
    let ended =
        |scene: &Scene| (0..4).map(|it| scene.admin.bounds("moved-ingestion", it).1).collect::<Vec<_>>();
    let end = ended(&scene);
    scene.move_to_topic("moved-ingestion-2", 12);
    scene.up.start().await;
    assert_eq!(ended(&scene), end, "a closed topic accepts nothing, not even from a running frontier");
    assert!(scene.frontier.log().contains("accepts no more records"), "{}", scene.frontier.log());
    scene.frontier.terminate().await;
    scene.frontier.start().await;
    load.set_address(scene.ingest());
    load.wait_for_acks(500).await;
    let records = scene.admin.read("moved-ingestion-2");
    assert!(records.iter().any(|record| record.partition() >= 4), "runs use the new partitions");

    // The earlier topic is neither read nor written again.
    for service in [&mut scene.frontier, &mut scene.up] {
        assert!(service.terminate().await.success(), "{}", service.log());
    }
    scene.use_topic("moved-ingestion");
    assert!(!scene.up.run_to_exit().await.success());
    assert!(scene.up.log().contains("was then replaced by another"), "{}", scene.up.log());
    scene.use_topic("moved-ingestion-2");
    scene.up.start().await;
    scene.frontier.start().await;
    load.set_address(scene.ingest());
    load.wait_for_acks(100).await;
    compare(scene, load).await;
}

/// One trace, from the frame that a frontier receives to the commit in another process, in both
/// record formats.
pub(crate) async fn a_frame_is_traced_across_processes(broker: &Broker) {
    for format in ["protobuf", "json"] {
        let collector = Collector::listen().await;
        let mut scene = Scene::prepare(broker, &format!("followed-{format}"), 1, format);
        for service in [&mut scene.up, &mut scene.frontier] {
            service.add_flag("otlp-endpoint", &collector.endpoint);
            service.start().await;
        }
        let mut writer = JsonWriter::connect(scene.ingest(), "followed").await.expect("the frontier listens");
        assert_eq!(writer.send(&create_run()).await, Ok(Ack::Ok));
        let names = ["frame", "publish", "apply", "commit"];
        let spans = collector.trace(span_with("frame", "run_id", "followed"), &names).await;
        let services = ["\"matyan-frontier\"", "\"matyan-frontier\"", "\"matyan\"", "\"matyan\""];
        for ((service, span), expected) in spans.iter().zip(services) {
            assert!(service.contains(expected), "{format}: {} of {service}", span.name);
        }
        scene.stop().await;
    }
}

pub(crate) fn seeded_random() -> StdRng {
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    StdRng::seed_from_u64(seed)
}

/// Compares, and stops everything cleanly.
pub(crate) async fn compare(scene: Scene, load: Load) {
    let compared = load.finish(&scene.reader().await).await;
    scene.wait_for_no_lag().await;
    println!(
        "{} JSON frames acknowledged, 0 lost, 0 duplicated ({} refused, {} unknown, {} of them applied completely); {} binary batches \
         acknowledged, 0 lost, 0 duplicated; lag 0",
        compared.frames, compared.refused, compared.unknown, compared.applied_without_ack, compared.batches
    );
    scene.stop().await;
}
