//! Which crate may depend on which, and the form of files and manifests.

use std::collections::{BTreeMap, BTreeSet};

use matyan_tidy::source::{Repository, SourceFile};
use serde_json::Value;

/// The crates of this workspace that each crate may depend on. A crate that knows less can do less:
/// the edge cannot reach a store, the frontier cannot write state, the query language can only
/// compute.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("matyan-proto", &[]),
    ("matyan-value", &["matyan-proto"]),
    ("matyan-wire", &["matyan-proto", "matyan-value"]),
    ("matyan-access", &["matyan-proto"]),
    ("matyan-sign-in", &["matyan-access"]),
    ("matyan-kept-tokens", &[]),
    // For the conformance suite, which other crates run too.
    ("matyan-store", &["matyan-servers"]),
    ("matyan-log", &[]),
    ("matyan-blob", &[]),
    ("matyan-ql", &[]),
    ("matyan-model", &["matyan-proto", "matyan-value", "matyan-store"]),
    ("matyan-export", &["matyan-value"]),
    ("matyan-archive", &["matyan-proto", "matyan-value", "matyan-wire"]),
    ("matyan-tfrecord", &["matyan-proto", "matyan-protobuf", "matyan-value", "matyan-wire"]),
    ("matyan-leveldb", &[]),
    ("matyan-protobuf", &[]),
    ("matyan-maintenance", &["matyan-value", "matyan-store", "matyan-log", "matyan-blob", "matyan-model"]),
    (
        "matyan-frontier",
        &["matyan-access", "matyan-proto", "matyan-value", "matyan-log", "matyan-blob", "matyan-wire"],
    ),
    (
        "matyan-backend",
        &[
            "matyan-access",
            "matyan-sign-in",
            "matyan-proto",
            "matyan-value",
            "matyan-wire",
            "matyan-store",
            "matyan-log",
            "matyan-blob",
            "matyan-model",
            "matyan-ql",
            "matyan-maintenance",
            "matyan-export",
        ],
    ),
    (
        "matyan-worker",
        &[
            "matyan-proto",
            "matyan-value",
            "matyan-store",
            "matyan-log",
            "matyan-blob",
            "matyan-model",
            "matyan-wire",
            "matyan-maintenance",
        ],
    ),
    // A translator reaches services through generated clients only.
    ("matyan-channels", &["matyan-proto", "matyan-wire"]),
    ("matyan-wandb", &["matyan-channels", "matyan-proto", "matyan-value", "matyan-wire"]),
    ("matyan-mlflow", &["matyan-channels", "matyan-proto", "matyan-value"]),
    ("matyan-optuna", &["matyan-channels", "matyan-proto"]),
    ("matyan-tensorboard", &["matyan-channels", "matyan-proto", "matyan-tfrecord", "matyan-value"]),
    (
        "matyan-edge",
        &[
            "matyan-proto",
            "matyan-value",
            "matyan-wire",
            "matyan-access",
            "matyan-channels",
            "matyan-wandb",
            "matyan-mlflow",
            "matyan-optuna",
        ],
    ),
    // It shares formats with the server, tokens with the command line, and nothing more.
    ("matyan-sdk", &["matyan-kept-tokens", "matyan-proto", "matyan-value", "matyan-wire"]),
    (
        "matyan-client-python",
        &[
            "matyan-archive",
            "matyan-leveldb",
            "matyan-protobuf",
            "matyan-proto",
            "matyan-sdk",
            "matyan-tfrecord",
            "matyan-value",
        ],
    ),
    ("matyan-servers", &[]),
    ("matyan-tests", &["matyan-proto", "matyan-servers"]),
    (
        "matyan-bench",
        &[
            "matyan-access",
            "matyan-backend",
            "matyan-proto",
            "matyan-value",
            "matyan-store",
            "matyan-log",
            "matyan-maintenance",
            "matyan-blob",
            "matyan-model",
            "matyan-worker",
            "matyan-servers",
            "matyan-tests",
            "matyan-wire",
        ],
    ),
    // Everything that parses bytes from outside.
    (
        "matyan-fuzz",
        &[
            "matyan-access",
            "matyan-proto",
            "matyan-value",
            "matyan-archive",
            "matyan-blob",
            "matyan-leveldb",
            "matyan-protobuf",
            "matyan-log",
            "matyan-model",
            "matyan-frontier",
            "matyan-edge",
            "matyan-ql",
            "matyan-sdk",
            "matyan-store",
            "matyan-tests",
            "matyan-tfrecord",
            "matyan-wire",
        ],
    ),
];

/// Crates that access disk or network, and the only crates that may use them.
const DOES_IO: &[(&str, &[&str])] = &[
    ("axum", &["matyan-edge"]),
    ("cap-std", &["matyan-blob", "matyan-edge"]),
    ("fjall", &["matyan-store", "matyan-log"]),
    ("foundationdb", &["matyan-store"]),
    ("hyper", &["matyan-edge", "matyan-tests", "matyan-bench"]),
    ("hyper-util", &["matyan-edge", "matyan-sdk", "matyan-tests", "matyan-bench", "matyan"]),
    ("opentelemetry-otlp", &["matyan"]),
    ("aws-config", &["matyan-blob"]),
    ("aws-sdk-s3", &["matyan-blob"]),
    ("aws-smithy-http-client", &["matyan-blob"]),
    ("object_store", &["matyan-blob"]),
    ("rdkafka", &["matyan-log", "matyan-servers", "matyan-tests"]),
    // In the blob crate only to choose the TLS provider of `object_store`.
    ("reqwest", &["matyan-tests", "matyan-bench", "matyan-blob", "matyan-sdk", "matyan-sign-in"]),
    ("tokio-rustls", &["matyan-edge", "matyan-sdk", "matyan-tests"]),
    ("tokio-tungstenite", &["matyan-edge", "matyan-sdk", "matyan-tests", "matyan-bench"]),
];

/// Crates without any I/O, and the runtimes that they may not reach it through either.
const NO_IO_AT_ALL: &[(&str, &[&str])] = &[
    ("matyan-ql", &["tokio", "tonic", "tracing"]),
    ("matyan-value", &["tokio", "tonic", "tracing"]),
    ("matyan-wire", &["tokio", "tonic"]),
    ("matyan-model", &["tokio", "tonic"]),
];

/// Names that must not occur in the source of a crate.
const MAY_NOT_NAME: &[(&str, &[&str])] = &[
    ("libs/ql/src", &["std::fs", "std::net", "std::process", "std::time::SystemTime"]),
    ("libs/value/src", &["std::fs", "std::net", "std::process", "std::time::SystemTime"]),
    ("libs/wire/src", &["std::fs", "std::net", "std::process", "std::time::SystemTime"]),
    ("libs/model/src", &["std::fs", "std::net", "std::process", "std::time::SystemTime"]),
    // They may write to the log, and not read it.
    ("services/frontier/src", &["LogReader", "Subscription"]),
    ("services/backend/src", &["LogReader", "Subscription"]),
    ("libs/maintenance/src", &["LogReader", "Subscription"]),
];

/// Features that exist for tests. They make a crate fail, or open its internals.
const TEST_FEATURES: &[&str] = &["conformance", "faults", "fuzzing"];

/// Maximum number of lines of code in a file, tests not counted. It is an alarm, not a target.
const MAX_LINES: usize = 700;

/// The packages of the workspace, as cargo describes them.
fn packages() -> BTreeMap<String, Value> {
    let arguments = ["metadata", "--format-version", "1", "--no-deps"];
    let metadata = Repository::own().output(env!("CARGO"), &arguments);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo writes JSON");
    list(&metadata["packages"]).iter().map(|package| (name(package), package.clone())).collect()
}

/// The dependencies of a package, without the dependencies of its tests.
fn dependencies(package: &Value) -> impl Iterator<Item = &Value> {
    list(&package["dependencies"]).iter().filter(|one| one["kind"] != "dev")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn name(value: &Value) -> String {
    value["name"].as_str().expect("everything has a name").to_owned()
}

/// The features of the workspace's packages, in the form `package/feature`, that are enabled
/// together with all features of `root`.
fn enabled_features(packages: &BTreeMap<String, Value>, root: &str) -> BTreeSet<String> {
    let text = |value: &Value| value.as_str().expect("features are text").to_owned();
    let all = packages[root]["features"].as_object().expect("a table");
    let mut pending: Vec<String> = all.keys().map(|feature| format!("{root}/{feature}")).collect();
    pending.push(format!("{root}/default"));
    let mut enabled = BTreeSet::new();
    while let Some(feature) = pending.pop() {
        let (package, of) = feature.split_once('/').expect("a package and its feature");
        let Some(found) = packages.get(package.trim_end_matches('?')) else { continue };
        if !enabled.insert(feature.clone()) {
            continue;
        }
        let implied = found["features"].get(of).map(list).unwrap_or_default();
        for implied in implied.iter().map(text) {
            if implied.contains('/') {
                pending.push(implied);
            } else {
                pending.push(format!("{package}/{implied}"));
            }
        }
        for dependency in dependencies(found) {
            let name = name(dependency);
            pending.push(format!("{name}/default"));
            pending.extend(
                list(&dependency["features"]).iter().map(|feature| format!("{name}/{}", text(feature))),
            );
        }
    }
    enabled
}

fn check(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

fn allowed<'a>(table: &[(&str, &'a [&'a str])], name: &str) -> Option<&'a [&'a str]> {
    table.iter().find(|(known, _)| *known == name).map(|(_, allowed)| *allowed)
}

fn forbidden(package: &str, dependency: &str) -> bool {
    let ours = dependency.starts_with("matyan-");
    // The binary wires everything together.
    let unknown =
        ours && package != "matyan" && !allowed(MAY_KNOW, package).is_some_and(|a| a.contains(&dependency));
    let io = allowed(DOES_IO, dependency).is_some_and(|users| !users.contains(&package));
    let back_door = allowed(NO_IO_AT_ALL, package).is_some_and(|banned| banned.contains(&dependency));
    unknown || io || back_door
}

#[test]
fn crates_depend_only_on_what_they_may() {
    let packages = packages();
    assert!(packages.len() >= MAY_KNOW.len(), "cargo reported only {} packages", packages.len());
    let edges = packages
        .iter()
        .flat_map(|(package, described)| dependencies(described).map(move |one| (package, name(one))));
    let problems = edges.filter(|(package, dependency)| forbidden(package, dependency));
    check(
        problems.map(|(package, dependency)| format!("{package} may not depend on {dependency}")).collect(),
    );
}

#[test]
fn the_product_enables_no_features_of_tests() {
    let is_for_tests =
        |feature: &String| feature.split_once('/').is_some_and(|(_, name)| TEST_FEATURES.contains(&name));
    let packages = packages();
    let enabled = enabled_features(&packages, "matyan");
    assert!(enabled.contains("matyan-log/kafka"), "features of dependencies must be found: {enabled:?}");
    check(enabled.into_iter().filter(is_for_tests).map(|it| format!("matyan enables {it}")).collect());
    // The fuzz targets enable one, so this test would see it.
    assert!(enabled_features(&packages, "matyan-fuzz").iter().any(is_for_tests));
}

#[test]
fn sources_do_not_name_what_their_crate_may_not_do() {
    let mut problems = Vec::new();
    for file in Repository::own().product_files() {
        let tables = MAY_NOT_NAME.iter().filter(|(folder, _)| file.path.starts_with(folder));
        let banned = tables.flat_map(|(_, banned)| *banned);
        let named = banned.filter(|banned| file.product_text().contains(**banned));
        problems.extend(named.map(|banned| format!("{} names {banned}", file.path)));
    }
    check(problems);
}

/// Reports every Rust file that `is_wrong` picks.
fn check_files(is_wrong: fn(&SourceFile) -> bool, problem: &str) {
    let files = Repository::own().rust_files().into_iter().filter(is_wrong);
    check(files.map(|file| format!("{} {problem}", file.path)).collect());
}

#[test]
fn every_file_has_a_header() {
    let is_wrong = |file: &SourceFile| !file.path.ends_with("/tests.rs") && !file.text.starts_with("//! ");
    check_files(is_wrong, "does not start with a `//!` header");
}

#[test]
fn modules_are_not_called_mod() {
    check_files(|file| file.path.ends_with("/mod.rs"), "should be named like its folder");
}

#[test]
fn files_are_short() {
    let is_wrong = |file: &SourceFile| !file.is_test() && file.code_lines() > MAX_LINES;
    check_files(is_wrong, &format!("has more than {MAX_LINES} lines of code"));
}

#[test]
fn versions_are_only_in_the_root_manifest() {
    let mut problems = Vec::new();
    let mut manifests = Repository::own().files(&["/Cargo.toml"]);
    manifests.retain(|file| !file.path.contains("/fuzz/"));
    for file in manifests {
        let lines = own_versions(&file.text);
        problems.extend(lines.map(|line| format!("{}: {line}: write `workspace = true`", file.path)));
    }
    check(problems);
}

#[test]
fn packages_and_charts_have_the_version_of_the_root_manifest() {
    let version = env!("CARGO_PKG_VERSION");
    let mut problems = Vec::new();
    for (path, line) in [
        // maturin takes the version from the crate.
        ("services/matyan/pyproject.toml", r#"dynamic = ["version"]"#.to_owned()),
        ("sdk/python/pyproject.toml", r#"dynamic = ["version"]"#.to_owned()),
        ("services/matyan/pyproject.toml", format!(r#"dependencies = ["matyan-client=={version}"]"#)),
        ("deploy/helm/matyan/Chart.yaml", format!("version: {version}")),
        ("deploy/helm/matyan/Chart.yaml", format!(r#"appVersion: "{version}""#)),
    ] {
        if !Repository::own().text(path).lines().any(|found| found == line) {
            problems.push(format!("{path} must have the line `{line}`, because the version is {version}"));
        }
    }
    let packages = packages();
    let others = packages.values().filter(|package| package["version"] != version);
    problems.extend(others.map(|package| format!("{} must write `version.workspace = true`", name(package))));
    check(problems);
}

fn own_versions(manifest: &str) -> impl Iterator<Item = &str> {
    let is_dependencies =
        |section: &&str| section.split(']').next().is_some_and(|name| name.ends_with("dependencies"));
    let lines = manifest.split("\n[").filter(is_dependencies).flat_map(|section| section.lines().skip(1));
    // A crate may name itself, for its tests.
    lines
        .filter(|line| !line.contains("path = "))
        .filter(|line| line.contains("version = \"") || line.contains(" = \""))
}
