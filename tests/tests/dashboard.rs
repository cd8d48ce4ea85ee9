//! What operators look at and are woken by names metrics that exist, and leaves none of ours out.

use std::{collections::BTreeSet, fs, path::Path};

use matyan_tests::{
    Server, eventually,
    json::{self, Ack, JsonWriter},
};

/// Every series of a histogram ends in one of these.
const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// The metrics of ours that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let ours = words.filter(|word| word.starts_with("matyan_"));
    ours.map(|name| OF_HISTOGRAMS.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned())
        .collect()
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
    eventually("what is shown and what exists are the same", async || {
        let metrics =
            reqwest::get(format!("{}/metrics/", server.query)).await.map_err(|error| error.to_string())?;
        let text = metrics.text().await.map_err(|error| error.to_string())?;
        let exist =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect::<Vec<_>>().join("\n");
        let exist = named(&exist);
        let missing: Vec<_> = dashboard.symmetric_difference(&exist).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) }
    })
    .await;
}
