//! Names of settings and metrics in documents. Settings are defined in a table in the source of the binary. The
//! dashboard has all metrics, which another test checks against a running server.

use std::collections::BTreeSet;

use super::{check, documents, text};

/// Variables that look like settings but belong to other programs.
const OTHERS: [&str; 12] = [
    // Read by the libraries of OpenTelemetry.
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    // Read by the client library of FoundationDB.
    "FDB_TLS_CA_FILE",
    "FDB_TLS_CERTIFICATE_FILE",
    "FDB_TLS_KEY_FILE",
    "FDB_TLS_VERIFY_PEERS",
    // Of tests on FoundationDB.
    "FDB_DIR",
    // Variables of containers of other projects.
    "KAFKA_HEAP_OPTS",
    "FDB_COORDINATOR",
    // Set by Kubernetes for a service called `metrics`.
    "METRICS_SERVICE_HOST",
];

const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_sum", "_count"];

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != '*')
}

fn is_variable(word: &str) -> bool {
    let is_capital = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    word.contains('_') && word.starts_with(|it: char| it.is_ascii_uppercase()) && word.chars().all(is_capital)
}

/// All settings: from the table, from the flags of client commands, and from the SDK.
fn settings() -> BTreeSet<String> {
    let homes = [
        "services/matyan/src/settings/table.rs",
        "services/matyan/src/client/flags.rs",
        "sdk/rust/src/config.rs",
        "libs/kept-tokens/src/lib.rs",
    ];
    let texts = homes.map(text);
    let quoted = texts.iter().flat_map(|text| text.split('"').skip(1).step_by(2));
    let mut known: BTreeSet<String> = quoted.filter(|word| is_variable(word)).map(str::to_owned).collect();
    known.extend(python_settings());
    assert!(known.len() > 40, "the table has only {} names", known.len());
    known
}

/// Settings of the Python package, whose table has the names without `MATYAN_`.
fn python_settings() -> Vec<String> {
    let table = text("sdk/python/python/matyan_client/config.py");
    let name =
        |line: &str| Some(line.trim().strip_prefix('"')?.split_once("\": _Setting(")?.0.to_uppercase());
    let names: Vec<_> = table.lines().filter_map(name).map(|name| format!("MATYAN_{name}")).collect();
    assert!(names.len() > 5, "the table has only {} names", names.len());
    names
}

/// Variables in the compose files, and whether each is required.
fn compose_variables() -> BTreeSet<(String, bool)> {
    let files = documents().into_iter().filter(|(path, _)| path.starts_with("deploy/compose/"));
    let texts: Vec<_> = files.map(|(_, text)| text).collect();
    let references =
        texts.iter().flat_map(|text| text.split("${").skip(1)).filter_map(|rest| rest.split('}').next());
    references
        .map(|reference| {
            let (name, default) = reference.split_once(':').unwrap_or((reference, "?"));
            (name.to_owned(), default.starts_with('?'))
        })
        .collect()
}

/// Variables for Docker and Compose.
fn provided_variables() -> BTreeSet<String> {
    let file = text("deploy/docker/Dockerfile");
    let named = file.lines().filter_map(|line| line.strip_prefix("ARG "));
    let named = named.filter_map(|line| line.split('=').next()).map(str::to_owned);
    named.chain(compose_variables().into_iter().map(|(name, _)| name)).collect()
}

/// Variables count as settings if their first word is the first word of a setting.
#[test]
fn settings_in_documents_exist() {
    let known = settings();
    let provided = provided_variables();
    let families: BTreeSet<_> = known.iter().filter_map(|name| name.split('_').next()).collect();
    let is_known = |word: &str| known.contains(word) || provided.contains(word) || OTHERS.contains(&word);
    let mut problems = Vec::new();
    for (path, text) in documents() {
        let ours = words(&text).filter(|word| is_variable(word));
        let ours = ours.filter(|word| word.split('_').next().is_some_and(|family| families.contains(family)));
        let unknown = ours.filter(|word| !is_known(word));
        problems.extend(unknown.map(|word| format!("{path}: `{word}` is not a setting")));
    }
    check(problems);
}

#[test]
fn variables_of_compose_are_in_its_example() {
    let example = text("deploy/compose/.env.example");
    let given: BTreeSet<_> = example
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .collect();
    let used = compose_variables();
    let mut problems = Vec::new();
    for (name, is_needed) in &used {
        if *is_needed && !given.contains(&(name, "")) {
            problems.push(format!("`{name}` is required, but not in the example"));
        }
    }
    for (name, value) in given {
        if !used.iter().any(|(variable, is_needed)| variable == name && *is_needed == value.is_empty()) {
            problems.push(format!("`{name}={value}` is in the example, but not used with this default"));
        }
    }
    check(problems);
}

/// With access control, a scrape without a token fails.
#[test]
fn prometheus_of_compose_sends_the_token_that_is_mounted() {
    let configuration = text("deploy/compose/prometheus.yaml");
    let jobs = configuration.matches("job_name: ").count();
    let file = "/etc/prometheus/matyan-token";
    let sent = configuration.matches(&format!("authorization: {{credentials_file: {file}}}")).count();
    assert_eq!(sent, jobs, "every job needs a token");
    let compose = text("deploy/compose/compose.yaml");
    assert!(compose.contains(&format!("${{MATYAN_MONITOR_TOKEN_FILE:-/dev/null}}:{file}:ro")));
}

/// Names of crates, which look like metrics in log filters.
fn crates() -> BTreeSet<String> {
    let manifest = text("Cargo.toml");
    let named = manifest.lines().filter(|line| line.starts_with("matyan-"));
    let named = named.filter_map(|line| line.split_once(' ')).map(|(name, _)| name.replace('-', "_"));
    named.chain(["matyan_client".to_owned()]).collect()
}

/// Metrics in a text. Families such as `matyan_ws_*` are returned as they are.
fn metrics(text: &str) -> impl Iterator<Item = &str> {
    let ours = words(text).filter(|word| word.starts_with("matyan_"));
    ours.map(|name| OF_HISTOGRAMS.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name))
}

#[test]
fn metrics_in_documents_exist() {
    let dashboard = text("deploy/grafana/matyan.json");
    let known: BTreeSet<_> = metrics(&dashboard).collect();
    let crates = crates();
    assert!(known.len() > 40, "the dashboard has only {} metrics", known.len());
    let mut problems = Vec::new();
    for (path, text) in documents() {
        let unknown = metrics(&text).filter(|name| match name.strip_suffix('*') {
            Some(family) => !known.iter().any(|name| name.starts_with(family)),
            None => !known.contains(name) && !crates.contains(*name),
        });
        problems.extend(unknown.map(|name| format!("{path}: `{name}` is not a metric")));
    }
    check(problems);
}
