//! The page of reference and the Helm chart agree with the table of settings. With
//! `UPDATE_REFERENCE=1`, the page is rewritten instead.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::settings::{role::Program, setting::Definition, table};

const PAGE: &str = "docs/operating/settings.md";
const HEADINGS: &str =
    "| variable | flag | key | default | value of the chart | meaning |\n|---|---|---|---|---|---|\n";

const CHART: &str = "deploy/helm/matyan";

/// Defaults of the chart that differ from the defaults of the settings on purpose: a cluster is for
/// production, and some addresses must be given.
const CHART_DEFAULTS: [(&str, &str); 11] = [
    ("access", "on"),
    ("environment", "production"),
    ("logging.format", "json"),
    ("kafka.bootstrapServers", ""),
    ("kafka.replication", "3"),
    ("foundationdb.clusterFileKey", "cluster-file"),
    ("blobs.s3.endpoint", ""),
    ("allowedHosts", "[]"),
    ("corsOrigins", "[]"),
    ("ingress.admin", "false"),
    ("ingress.tlsSecret", ""),
];

fn path(path: &str) -> PathBuf {
    Path::new("../..").join(path)
}

fn text(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn check(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// A row of the reference.
fn row(setting: &Definition) -> String {
    let variables = setting.variables.iter().map(|variable| code(variable)).collect::<Vec<_>>().join(", ");
    let flag = setting.flag.map(|flag| code(&format!("--{}", flag.name))).unwrap_or_default();
    let default = setting.default_text().unwrap_or_default();
    let chart = setting.chart.map(code).unwrap_or_default();
    let cells = [&variables, &flag, &code(setting.key), &default, &chart, setting.help];
    let cells = cells.map(|cell| if cell.is_empty() { " ".to_owned() } else { format!(" {cell} ") });
    format!("|{}|\n", cells.join("|"))
}

#[test]
fn the_reference_has_every_setting() {
    let page = text(PAGE);
    let (intro, rows) = page.split_once(HEADINGS).expect("the page has the table");
    let table: String = table::ALL.iter().map(row).collect();
    if env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(path(PAGE), format!("{intro}{HEADINGS}{table}")).unwrap();
        return;
    }
    let differ = table.lines().filter(|row| !rows.lines().any(|other| other == *row));
    let mut problems: Vec<_> = differ.map(|row| format!("missing: {row}")).collect();
    if problems.is_empty() && rows != table {
        problems.push("the rows have another order, or some have no setting".to_owned());
    }
    if !problems.is_empty() {
        problems.push(format!("run `UPDATE_REFERENCE=1 cargo test -p matyan reference` to rewrite {PAGE}"));
    }
    check(problems);
}

/// The environment variables of the chart's templates, each with its value and with the line before
/// it, which may be the condition.
fn chart_variables() -> BTreeMap<String, String> {
    let templates = ["_settings.tpl", "jobs.yaml"].map(|name| text(&format!("{CHART}/templates/{name}")));
    let lines: Vec<_> = templates.iter().flat_map(|text| text.lines()).collect();
    let mut variables = BTreeMap::new();
    for (number, line) in lines.iter().enumerate() {
        let entry = line.trim_start().strip_prefix("- ").unwrap_or_default();
        let Some(name) = entry.trim_start_matches('{').strip_prefix("name: ") else { continue };
        let name = name.split([',', ' ']).next().unwrap_or_default();
        let is_capital =
            |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
        if name.contains('_') && name.chars().all(is_capital) {
            let context = lines[number - 1..lines.len().min(number + 2)].join("\n");
            variables.insert(name.to_owned(), context);
        }
    }
    assert!(variables.len() > 30, "only {} variables were found", variables.len());
    variables
}

#[test]
fn the_chart_sets_what_the_table_says() {
    let variables = chart_variables();
    let templates = text(&format!("{CHART}/templates/_settings.tpl"));
    let mut problems = Vec::new();
    for setting in table::ALL {
        let (name, given) = setting
            .variables
            .iter()
            .find_map(|name| variables.get_key_value(*name))
            .map_or((setting.variable(), None), |(name, context)| (name.as_str(), Some(context)));
        match (setting.chart, given) {
            (None, None) => {}
            (None, Some(_)) => {
                problems.push(format!("{name}: the chart sets it, but the table names no value"))
            }
            (Some(value), None) => problems.push(format!("{name}: no template sets it from `{value}`")),
            (Some(value), Some(context)) => {
                let leaf = format!(".{}", value.rsplit('.').next().unwrap_or_default());
                // A file has a fixed path, and the value is used where it is mounted.
                let is_file = context.contains("value: /etc/");
                if !(context.contains(&leaf) || is_file && templates.contains(&leaf)) {
                    problems.push(format!("{name}: the template does not use `{value}`"));
                }
            }
        }
    }
    let unknown = variables
        .keys()
        .filter(|name| !table::ALL.iter().any(|setting| setting.variables.contains(&name.as_str())));
    problems.extend(unknown.map(|name| format!("{name}: in a template, but not a setting")));
    check(problems);
}

/// The default of a value in `values.yaml`: a scalar or an empty list on the line of its key.
fn chart_default<'y>(yaml: &'y str, value: &str) -> Option<&'y str> {
    let mut lines = yaml.lines();
    for (depth, key) in value.split('.').enumerate() {
        let start = format!("{}{key}:", "  ".repeat(depth));
        let rest = lines.by_ref().find_map(|line| line.strip_prefix(&start))?.trim();
        if depth == value.matches('.').count() {
            return Some(rest.trim_matches('"'));
        }
    }
    None
}

#[test]
fn the_chart_has_the_same_defaults() {
    let yaml = text(&format!("{CHART}/values.yaml"));
    let schema: Value = serde_json::from_str(&text(&format!("{CHART}/values.schema.json"))).unwrap();
    let mut problems = Vec::new();
    for setting in table::ALL {
        let Some(value) = setting.chart else { continue };
        if schema.pointer(&format!("/properties/{}", value.replace('.', "/properties/"))).is_none() {
            problems.push(format!("{}: `{value}` is not in the schema", setting.variable()));
        }
        let intended = CHART_DEFAULTS.iter().find(|(name, _)| *name == value).map(|(_, default)| *default);
        // A secret's value names its key in a Kubernetes secret.
        let own = setting.default_of(Program::CreateTopics).filter(|_| !setting.is_secret);
        let Some(expected) = intended.or(own) else { continue };
        let found = chart_default(&yaml, value);
        if found != Some(expected) {
            problems.push(format!("`{value}` is {found:?} in the chart, but {expected:?} in the table"));
        }
    }
    check(problems);
}
