//! What operators look at and are woken by names metrics that exist, and leaves none of ours out.

use std::{collections::BTreeSet, fs, path::Path};

use matyan_tests::{
    Server, eventually,
    json::{self, Ack, JsonWriter},
};

/// Every series of a histogram ends in one of these.
const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Prometheus puts these on every series, by whom it has asked. A label of ours it would call `exported_job`, and an alert by
/// `job` would be one by something else.
const OF_PROMETHEUS: [&str; 4] = ["job", "instance", "namespace", "pod"];

/// The metrics of ours that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let ours = words.filter(|word| word.starts_with("matyan_"));
    ours.map(|name| OF_HISTOGRAMS.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned())
        .collect()
}

fn has_label(series: &str, label: &str) -> bool {
    [format!("{{{label}=\""), format!(",{label}=\"")].iter().any(|start| series.contains(start))
}

fn file(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    fs::read_to_string(root.join("deploy").join(path)).expect("the file is there")
}

#[tokio::test]
async fn every_metric_that_is_looked_at_exists_and_every_one_is_looked_at() {
    let server = Server::up().await;
    let mut writer = JsonWriter::connect(&server.ingest, "run").await.expect("the server accepts");
    assert_eq!(writer.send(&json::create_run()).await, Ok(Ack::Ok));
    let (dashboard, alerts) = (named(&file("grafana/matyan.json")), named(&file("prometheus/alerts.yaml")));
    assert!(alerts.is_subset(&dashboard), "an alert without a panel: {:?}", alerts.difference(&dashboard));
    let text = eventually("what is shown and what exists are the same", async || {
        let metrics =
            reqwest::get(format!("{}/metrics/", server.query)).await.map_err(|error| error.to_string())?;
        let text = metrics.text().await.map_err(|error| error.to_string())?;
        let exist =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect::<Vec<_>>().join("\n");
        let exist = named(&exist);
        let missing: Vec<_> = dashboard.symmetric_difference(&exist).collect();
        if missing.is_empty() { Ok(text) } else { Err(format!("{missing:?}")) }
    })
    .await;
    let ours = text.lines().filter(|line| line.starts_with("matyan_"));
    let taken: Vec<_> =
        ours.filter(|line| OF_PROMETHEUS.iter().any(|label| has_label(line, label))).collect();
    assert!(taken.is_empty(), "labels of Prometheus: {taken:?}");
}
