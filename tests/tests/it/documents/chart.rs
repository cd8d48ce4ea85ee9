//! The Helm chart: its table of values is complete, and its copies of dashboard and alerts are current. Whether
//! the rendered manifests are valid is checked by linters, with `make lint-deploy`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{check, spans, text};

const CHART: &str = "deploy/helm/matyan";

/// Services with the same values, which share rows in the table.
const SERVICES: [&str; 4] = ["frontier", "backend", "ingestWorker", "controlWorker"];

/// Collects the paths of all values.
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
        serde_json::from_str(&text(&format!("{CHART}/values.schema.json"))).expect("the schema is JSON");
    let mut known = BTreeSet::new();
    values(&schema, "", &mut known);
    // Defined by Helm.
    known.remove("global");
    assert!(known.len() > 100, "the schema has {} values", known.len());

    let readme = text(&format!("{CHART}/README.md"));
    let table = readme.split("| value | what it is |").nth(1).expect("the README has a table of values");
    let cells = table.lines().filter_map(|line| line.split('|').nth(1));
    let rows: BTreeSet<_> = cells.flat_map(spans).collect();

    let of_all = |row: &str| known.iter().filter(|value| row_of_all(value).as_deref() == Some(row)).count();
    let has_row = |value: &String| {
        rows.contains(value.as_str()) || row_of_all(value).is_some_and(|row| rows.contains(row.as_str()))
    };
    let exists = |row: &str| known.contains(row) || of_all(row) == SERVICES.len();
    let missing = known.iter().filter(|value| !has_row(value)).map(|value| format!("`{value}` has no row"));
    let wrong = rows.iter().filter(|row| !exists(row)).map(|row| format!("`{row}` is not a value"));
    check(missing.chain(wrong).collect());
}

/// A chart cannot include files from outside its directory, and symbolic links do not work on
/// every machine, so it contains copies.
#[test]
fn the_chart_has_the_same_dashboard_and_alerts() {
    let pairs =
        [("alerts.yaml", "deploy/prometheus/alerts.yaml"), ("matyan.json", "deploy/grafana/matyan.json")];
    let pairs = pairs.map(|(copy, file)| (format!("{CHART}/files/{copy}"), file));
    let differ = pairs.iter().filter(|(copy, file)| text(copy) != text(file));
    check(differ.map(|(copy, file)| format!("the files differ: run `cp {file} {copy}`")).collect());
}

/// The chart replaces this number with half of the configured retention.
#[test]
fn the_alerts_have_one_value_for_the_retention() {
    let half = (168 * 3_600 / 2).to_string();
    assert_eq!(text("deploy/prometheus/alerts.yaml").matches(&half).count(), 1);
    assert!(text(&format!("{CHART}/templates/monitoring.yaml")).contains(&format!("replace \"{half}\"")));
    assert!(text(&format!("{CHART}/values.yaml")).contains("\n  retentionHours: 168\n"));
}

/// Frontiers and workers, some of which are reached from the internet, do not need it.
#[test]
fn the_token_of_the_operator_is_mounted_in_backends_only() {
    let templates = text(&format!("{CHART}/templates/_settings.tpl"));
    let mut blocks = Vec::new();
    let mut found = 0;
    for line in templates.lines() {
        let statement = line.trim_start_matches("{{-").trim_start_matches("{{").trim();
        if ["if ", "with ", "range ", "define "].iter().any(|word| statement.starts_with(word)) {
            blocks.push(statement);
        } else if statement.starts_with("end ") {
            blocks.pop();
        } else if ["MATYAN_OPERATOR_TOKEN_FILE", "operator.existingSecret", "/etc/matyan/operator,"]
            .iter()
            .any(|part| line.contains(part))
        {
            assert!(
                blocks
                    .iter()
                    .any(|block| block.contains("role) \"backend\"") || block.contains(".role \"backend\" ")),
                "{line}: {blocks:?}"
            );
            found += 1;
        }
    }
    assert!(blocks.is_empty(), "{blocks:?}");
    assert_eq!(found, 3);
}
