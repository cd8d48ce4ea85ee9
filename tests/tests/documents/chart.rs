//! The chart: the table of its values is complete, and what it shows is what we have. That it is rendered as Kubernetes wants it
//! is looked at by linters, with `make lint-deploy`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{check, spans, text};

const CHART: &str = "deploy/helm/matyan";

/// What has the same values is one row.
const SERVICES: [&str; 4] = ["frontier", "backend", "ingestWorker", "controlWorker"];

/// Every value by its path.
fn values(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let Some(properties) = schema["properties"].as_object() else {
        found.insert(path.to_owned());
        return;
    };
    for (name, inner) in properties {
        values(inner, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, found);
    }
}

fn row_of_all(value: &str) -> Option<String> {
    let (service, rest) = value.split_once('.')?;
    SERVICES.contains(&service).then(|| format!("*.{rest}"))
}

#[test]
fn every_value_has_a_row() {
    let schema: Value =
        serde_json::from_str(&text(&format!("{CHART}/values.schema.json"))).expect("a schema is JSON");
    let mut known = BTreeSet::new();
    values(&schema, "", &mut known);
    // Helm's own.
    known.remove("global");
    assert!(known.len() > 100, "the schema has {} values", known.len());

    let readme = text(&format!("{CHART}/README.md"));
    let table = readme.split("| value | what it is |").nth(1).expect("it has a table of values");
    let cells = table.lines().filter_map(|line| line.split('|').nth(1));
    let rows: BTreeSet<_> = cells.flat_map(spans).collect();

    let of_all = |row: &str| known.iter().filter(|value| row_of_all(value).as_deref() == Some(row)).count();
    let is_told = |value: &String| {
        rows.contains(value.as_str()) || row_of_all(value).is_some_and(|row| rows.contains(row.as_str()))
    };
    let is_there = |row: &str| known.contains(row) || of_all(row) == SERVICES.len();
    let lacking = known.iter().filter(|value| !is_told(value)).map(|value| format!("`{value}` has no row"));
    let wrong = rows.iter().filter(|row| !is_there(row)).map(|row| format!("`{row}` is no value"));
    check(lacking.chain(wrong).collect());
}

/// A chart may hold no file from outside, and a link is none on every machine that it is checked out on: so it has copies.
#[test]
fn it_shows_our_dashboard_and_alerts() {
    let pairs =
        [("alerts.yaml", "deploy/prometheus/alerts.yaml"), ("matyan.json", "deploy/grafana/matyan.json")];
    let pairs = pairs.map(|(copy, file)| (format!("{CHART}/files/{copy}"), file));
    let differ = pairs.iter().filter(|(copy, file)| text(copy) != text(file));
    check(differ.map(|(copy, file)| format!("`cp {file} {copy}`: they are to be the same")).collect());
}

/// The chart replaces it by half of the retention that it is told.
#[test]
fn the_alerts_have_one_number_for_the_retention() {
    let half = (168 * 3_600 / 2).to_string();
    assert_eq!(text("deploy/prometheus/alerts.yaml").matches(&half).count(), 1);
    assert!(text(&format!("{CHART}/templates/monitoring.yaml")).contains(&format!("replace \"{half}\"")));
    assert!(text(&format!("{CHART}/values.yaml")).contains("\n  retentionHours: 168\n"));
}
