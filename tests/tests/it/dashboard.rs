//! Dashboard and alerts use only metrics that exist, and the dashboard shows all of them.

use std::{collections::BTreeSet, fs, path::Path};

use matyan_tests::{
    Reader, Server, eventually,
    json::{self, Ack, JsonWriter},
};

/// Suffixes of the series of a histogram.
const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Labels that Prometheus adds to every series for the scraped target. A label of the same name
/// would be renamed to `exported_job`, and an alert grouped by `job` would group by something
/// else.
const OF_PROMETHEUS: [&str; 4] = ["job", "instance", "namespace", "pod"];

/// The `matyan_` metrics mentioned in a text.
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
    let root = Path::new("..");
    fs::read_to_string(root.join("deploy").join(path)).expect("the file can be read")
}

#[tokio::test]
async fn the_dashboard_shows_exactly_the_metrics_that_exist() {
    let server = Server::up().await;
    let mut writer = JsonWriter::connect(&server.ingest, "run").await.expect("the server accepts");
    assert_eq!(writer.send(&json::create_run()).await, Ok(Ack::Ok));
    // Calls have metrics after the first one.
    let points = Reader::connect(&server.query).await.points("run", "loss", "{}").await;
    assert_eq!(points.expect("the server answers"), []);
    let dashboard = named(&file("grafana/matyan.json"));
    let alerts = named(&file("prometheus/alerts.yaml"));
    assert!(alerts.is_subset(&dashboard), "an alert without a panel: {:?}", alerts.difference(&dashboard));
    let text = eventually("the dashboard and the server have the same metrics", async || {
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
    assert!(taken.is_empty(), "labels reserved by Prometheus: {taken:?}");
}
