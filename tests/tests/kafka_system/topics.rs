//! Topics that were recreated or changed, contain unreadable records, or are missing.

use matyan_servers::kafka::Broker;
use matyan_tests::{
    eventually,
    json::{Ack, JsonWriter, metric},
    kafka::{admin::header, scene::Scene},
    position::{lines_after, publish},
};
use rdkafka::Message;
use serde_json::json;

/// Writes points with automatic steps and ascending values, one per frame.
pub(crate) async fn write(scene: &Scene, run: &str, values: std::ops::Range<i64>) {
    let mut writer = JsonWriter::connect(scene.ingest(), run).await.expect("the frontier listens");
    for value in values {
        assert_eq!(writer.send(&json!([metric("loss", value as f64, None)])).await, Ok(Ack::Ok));
    }
}

/// Checks that each value is stored once, in order, with steps without a gap.
pub(crate) async fn check(scene: &Scene, run: &str, values: std::ops::Range<i64>) {
    let expected: Vec<_> = values.clone().map(|value| (value, value as f64)).collect();
    let reader = scene.reader().await;
    eventually(&format!("{run} has what was acknowledged"), async || {
        let points = reader.points(run, "loss", "").await.map_err(|status| status.to_string())?;
        let found: Vec<_> = points.iter().map(|point| (point.step, point.value)).collect();
        assert!(found.len() <= expected.len(), "duplicated: {found:?}");
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

/// Waits until a counter has the expected value.
pub(crate) async fn wait_for_count(scene: &Scene, name: &str, expected: f64) {
    eventually(name, async || match scene.metric(name).await {
        Ok(found) if found == expected => Ok(()),
        found => Err(found),
    })
    .await;
}

async fn stop(scene: &mut Scene) {
    for service in [&mut scene.frontier, &mut scene.up] {
        assert!(service.terminate().await.success(), "{}", service.log());
    }
}

async fn start(scene: &mut Scene) {
    scene.up.start().await;
    scene.frontier.start().await;
}

pub(crate) async fn topics_are_created_once_and_checked_at_every_start(broker: &Broker) {
    let mut scene = Scene::prepare(broker, "checked", 2, "protobuf");
    let again = scene.create_topics();
    let output = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(
        again.status.success() && output.contains("exists   checked-ingestion  2 partitions\n"),
        "{output}"
    );

    scene.admin.set(&scene.ingestion, "max.message.bytes", "1048588").await;
    scene.admin.delete(&scene.control).await;
    for service in [&mut scene.frontier, &mut scene.up] {
        assert!(!service.run_to_exit().await.success());
        let output = service.log();
        assert!(
            output.contains("`checked-ingestion` accepts only 1048588 bytes: set its `max.message.bytes`"),
            "{output}"
        );
        assert!(
            output.contains("topic `checked-control` is missing"),
            "both problems are reported: {output}"
        );
    }
    scene.admin.set(&scene.ingestion, "max.message.bytes", "20000000").await;
    assert!(scene.create_topics().status.success());
    start(&mut scene).await;
    write(&scene, "run", 0..3).await;
    check(&scene, "run", 0..3).await;
    scene.stop().await;
}

/// A broker with Kafka's defaults creates a topic, with one partition, when a client asks for it.
pub(crate) async fn rule_02_no_process_creates_a_topic_by_asking_for_it(broker: &Broker) {
    let mut scene = Scene::prepare(broker, "asked", 2, "protobuf");
    scene.admin.delete(&scene.ingestion).await;
    for service in [&mut scene.frontier, &mut scene.up] {
        assert!(!service.run_to_exit().await.success());
        let output = service.log();
        assert!(output.contains("topic `asked-ingestion` is missing"), "{output}");
    }
    let created = scene.create_topics();
    let output = String::from_utf8_lossy(&created.stdout).into_owned();
    assert!(
        created.status.success() && output.contains("created  asked-ingestion  2 partitions\n"),
        "{output}"
    );

    scene.admin.delete(&scene.ingestion).await;
    scene.admin.create_by_asking(&scene.ingestion).await;
    let refused = scene.create_topics();
    let output = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success()
            && output.contains("topic `asked-ingestion` is empty and has 1 partitions instead of 2"),
        "{output}"
    );
    scene.admin.delete(&scene.ingestion).await;
    assert!(scene.create_topics().status.success());
    start(&mut scene).await;
    write(&scene, "run", 0..3).await;
    check(&scene, "run", 0..3).await;
    scene.stop().await;
}

pub(crate) async fn rule_01_a_recreated_topic_is_read_from_its_start(broker: &Broker) {
    let mut scene = Scene::start(broker, "recreated", 2).await;
    for run in ["a", "b", "c", "d"] {
        write(&scene, run, 0..20).await;
        check(&scene, run, 0..20).await;
    }
    stop(&mut scene).await;
    scene.admin.delete(&scene.ingestion).await;
    assert!(scene.create_topics().status.success());
    start(&mut scene).await;
    for run in ["a", "b", "c", "d"] {
        // In some partitions more records than before, in others fewer: both must be
        // recognized as a different log.
        write(&scene, run, 20..if run < "c" { 30 } else { 70 }).await;
    }
    for run in ["a", "b", "c", "d"] {
        check(&scene, run, 0..if run < "c" { 30 } else { 70 }).await;
    }
    scene.stop().await;
}

/// Nothing is stopped first. While the topic is missing the worker may exit with the reason,
/// and is restarted, as a supervisor would do. It must detect that the topic is a different
/// one.
pub(crate) async fn rule_01_a_topic_is_recreated_under_a_running_system(broker: &Broker) {
    let mut scene = Scene::start(broker, "recreated-live", 1).await;
    write(&scene, "run", 0..20).await;
    check(&scene, "run", 0..20).await;
    scene.admin.delete(&scene.ingestion).await;
    assert!(scene.create_topics().status.success());
    write(&scene, "run", 20..30).await;
    let position = publish(scene.ingest(), 0).await;
    eventually("the new topic is read", async || {
        if scene.up.has_ended() {
            scene.up.start().await;
        }
        if scene.up.log().contains("partition=0 log=1 offset=0") { Ok(()) } else { Err("not yet") }
    })
    .await;
    // More records of the old topic were applied than precede this line in the new one.
    let query = scene.up.address("query");
    let lines = eventually("the line is applied", async || lines_after(query, position).await).await;
    assert_eq!(lines, 1, "the line at an acknowledged position is readable");
    check(&scene, "run", 0..30).await;
    scene.stop().await;
}

pub(crate) async fn rule_02_a_changed_partition_count_is_refused(broker: &Broker) {
    const RUNS: usize = 24;
    let mut scene = Scene::start(broker, "grown", 2).await;
    for run in 0..RUNS {
        write(&scene, &format!("run-{run}"), 0..2).await;
    }
    check(&scene, "run-0", 0..2).await;
    scene.admin.grow(&scene.ingestion, 3).await;
    assert!(scene.up.terminate().await.success());
    assert!(!scene.up.run_to_exit().await.success());
    assert!(scene.up.log().contains("a topic's number of partitions never changes"), "{}", scene.up.log());
    // A frontier that was already running keeps writing each run to its original partition.
    for run in 0..RUNS {
        write(&scene, &format!("run-{run}"), 2..4).await;
    }
    let records = scene.admin.read(&scene.ingestion);
    assert_eq!(records.len(), RUNS * 4, "all acknowledged records are in the log");
    assert!(records.iter().all(|record| record.partition() < 2), "a run changed its partition");
    assert!(scene.frontier.terminate().await.success());
    // With the original count configured, all services continue with those partitions.
    for service in [&mut scene.frontier, &mut scene.up] {
        service.set_variable("KAFKA_DATA_INGESTION_PARTITIONS", "2");
        service.start().await;
    }
    for run in 0..RUNS {
        write(&scene, &format!("run-{run}"), 4..5).await;
        check(&scene, &format!("run-{run}"), 0..5).await;
    }
    scene.stop().await;
}

pub(crate) async fn rule_03_only_the_partition_overtaken_by_retention_stops(broker: &Broker) {
    let mut scene = Scene::start(broker, "overtaken", 2).await;
    let runs: Vec<_> = (0..8).map(|run| format!("run-{run}")).collect();
    for run in &runs {
        write(&scene, run, 0..5).await;
    }
    for run in &runs {
        check(&scene, run, 0..5).await;
    }
    assert!(scene.up.terminate().await.success());
    for run in &runs {
        write(&scene, run, 5..10).await;
    }
    let (_, end) = scene.admin.bounds(&scene.ingestion, 0);
    scene.admin.forget(&scene.ingestion, 0, end).await;
    scene.up.start().await;
    for run in &runs {
        write(&scene, run, 10..12).await;
    }
    wait_for_count(&scene, "matyan_ingestion_partitions_lost_total", 1.0).await;
    let records = scene.admin.read(&scene.ingestion);
    let partition = |run: &String| {
        let record = records.iter().find(|record| record.key() == Some(run.as_bytes()));
        record.expect("every run has later records").partition()
    };
    for run in &runs {
        // The lost partition is not skipped: records after the gap wait for an operator.
        check(&scene, run, 0..if partition(run) == 0 { 5 } else { 12 }).await;
    }
    assert!(scene.up.log().contains("records were deleted before they were applied"), "{}", scene.up.log());
    scene.stop().await;
}

pub(crate) async fn rule_08_poison_records_and_a_missing_dead_letter_topic(broker: &Broker) {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let scene = Scene::start(broker, "poison", 1).await;
    let long = "x".repeat(300);
    let poison: &[(&[u8], &[u8])] = &[
        (b"run", b""),
        (b"run", b"\x01\xff\xff\xff"),
        (b"run", b"\x07a layout of the future"),
        (b"run", b"{\"type\":"),
        (b"run", br#"{"type":"log_metric","run_id":"run","timestamp":"2024-01-02T03:04:05Z","payload":{"name":"loss"}}"#),
        (b"", br#"{"type":"add_tag","timestamp":"2024-01-02T03:04:05Z","payload":{"tag_name":"t"}}"#),
        (long.as_bytes(), b"\xde\xad"),
        (b"\xff\xfe", b"no text"),
    ];
    let mut written = 0;
    for (key, value) in poison {
        write(&scene, "run", written..written + 2).await;
        written += 2;
        scene.admin.write(&scene.ingestion, key, value, &[("traceparent", TRACE)]).await;
    }
    write(&scene, "run", written..written + 2).await;
    written += 2;
    check(&scene, "run", 0..written).await;
    scene.wait_for_no_lag().await;
    let count = poison.len() as f64;
    wait_for_count(&scene, "matyan_ingestion_items_parked_total", count).await;
    let copies = eventually("every one is copied", async || match scene.admin.read(&scene.dead_letters) {
        all if all.len() == poison.len() => Ok(all),
        few => Err(few.len()),
    })
    .await;
    let mut values: Vec<_> = poison.iter().map(|(_, value)| *value).collect();
    let mut copied: Vec<_> = copies.iter().map(|copy| copy.payload().unwrap_or_default()).collect();
    values.sort_unstable();
    copied.sort_unstable();
    assert_eq!(copied, values);
    let reasons = copies.iter().filter_map(|copy| header(copy, "matyan-reason"));
    assert_eq!(reasons.filter(|reason| !reason.is_empty()).count(), poison.len());
    let stood = scene.admin.read(&scene.ingestion);
    for copy in &copies {
        let position = header(copy, "matyan-position").expect("a dead letter has its original position");
        let original = stood.iter().find(|record| position == format!("0/0/{}/0", record.offset()));
        let original = original.expect("the original record exists").payload().unwrap_or_default();
        assert_eq!(copy.payload().unwrap_or_default(), original, "at {position}");
        let is_envelope = header(copy, "matyan-reason").is_some_and(|reason| reason.contains("`value`"));
        let expected = if is_envelope { "application/json" } else { "application/octet-stream" };
        assert_eq!(header(copy, "content-type").as_deref(), Some(expected), "at {position}");
        assert_eq!(header(copy, "traceparent").as_deref(), Some(TRACE), "at {position}");
        assert_eq!(header(copy, "matyan-project"), None, "the default project has no header");
    }

    // Without the topic, copies are dropped and counted, and ingestion continues.
    scene.admin.delete(&scene.dead_letters).await;
    for (key, value) in &poison[..2] {
        scene.admin.write(&scene.ingestion, key, value, &[]).await;
        write(&scene, "run", written..written + 2).await;
        written += 2;
    }
    check(&scene, "run", 0..written).await;
    scene.wait_for_no_lag().await;
    wait_for_count(&scene, "matyan_ingestion_items_parked_total", count + 2.0).await;
    wait_for_count(&scene, "matyan_ingestion_dead_letters_dropped_total", 2.0).await;
    scene.stop().await;
}
