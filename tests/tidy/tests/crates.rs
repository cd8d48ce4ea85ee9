//! What a program can check of how the code is kept: which crate may know which, headers, sizes, versions.
//! It runs with the tests, so that there is nothing else to remember.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Which crates of ours a crate may know. Who knows less can do less: the edge cannot reach a store, the frontier cannot
/// write state, the language cannot do anything but compute.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("matyan-proto", &[]),
    ("matyan-value", &["matyan-proto"]),
    ("matyan-record", &["matyan-proto", "matyan-value"]),
    // For the suite that it offers other crates.
    ("matyan-store", &["matyan-servers"]),
    ("matyan-log", &[]),
    ("matyan-blob", &[]),
    ("matyan-ql", &[]),
    ("matyan-model", &["matyan-proto", "matyan-value", "matyan-store"]),
    ("matyan-archive", &["matyan-proto", "matyan-value", "matyan-model"]),
    ("matyan-maintenance", &["matyan-value", "matyan-store", "matyan-log", "matyan-blob", "matyan-model"]),
    ("matyan-frontier", &["matyan-proto", "matyan-value", "matyan-log", "matyan-blob", "matyan-record"]),
    (
        "matyan-backend",
        &[
            "matyan-proto",
            "matyan-value",
            "matyan-record",
            "matyan-store",
            "matyan-log",
            "matyan-blob",
            "matyan-model",
            "matyan-ql",
            "matyan-maintenance",
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
            "matyan-record",
            "matyan-maintenance",
        ],
    ),
    ("matyan-edge", &["matyan-proto", "matyan-value", "matyan-record"]),
    ("matyan-servers", &[]),
    ("matyan-tests", &["matyan-proto", "matyan-servers"]),
    (
        "matyan-bench",
        &[
            "matyan-proto",
            "matyan-value",
            "matyan-store",
            "matyan-log",
            "matyan-blob",
            "matyan-model",
            "matyan-worker",
            "matyan-servers",
            "matyan-tests",
        ],
    ),
    // Whatever parses bytes from outside.
    (
        "matyan-fuzz",
        &[
            "matyan-proto",
            "matyan-value",
            "matyan-archive",
            "matyan-blob",
            "matyan-model",
            "matyan-frontier",
            "matyan-edge",
            "matyan-ql",
            "matyan-tests",
        ],
    ),
];

/// Crates that speak to disk or network on their own; who may use them is written here, and nobody else may.
const DOES_IO: &[(&str, &[&str])] = &[
    ("axum", &["matyan-edge"]),
    ("cap-std", &["matyan-blob", "matyan-edge"]),
    ("fjall", &["matyan-store", "matyan-log"]),
    ("foundationdb", &["matyan-store"]),
    ("hyper", &["matyan-edge", "matyan-tests"]),
    ("hyper-util", &["matyan-edge", "matyan-tests", "matyan"]),
    ("opentelemetry-otlp", &["matyan"]),
    ("aws-config", &["matyan-blob"]),
    ("aws-sdk-s3", &["matyan-blob"]),
    ("aws-smithy-http-client", &["matyan-blob"]),
    ("object_store", &["matyan-blob"]),
    ("rdkafka", &["matyan-log", "matyan-servers", "matyan-tests"]),
    // In blobs only to choose what `object_store` uses.
    ("reqwest", &["matyan-tests", "matyan-bench", "matyan-blob"]),
    ("tokio-rustls", &["matyan-edge", "matyan-tests"]),
    ("tokio-tungstenite", &["matyan-edge", "matyan-tests", "matyan-bench"]),
];

/// Also through the back door of a runtime.
const NO_IO_AT_ALL: &[(&str, &[&str])] = &[
    ("matyan-ql", &["tokio", "tonic", "tracing"]),
    ("matyan-value", &["tokio", "tonic", "tracing"]),
    ("matyan-record", &["tokio", "tonic"]),
    ("matyan-model", &["tokio", "tonic"]),
];

/// What a crate's source may not name.
const MAY_NOT_NAME: &[(&str, &[&str])] = &[
    ("libs/ql/src", &["std::fs", "std::net", "std::process", "std::time::SystemTime"]),
    ("libs/value/src", &["std::fs", "std::net", "std::process", "std::time::SystemTime"]),
    ("libs/record/src", &["std::fs", "std::net", "std::process", "std::time::SystemTime"]),
    ("libs/model/src", &["std::fs", "std::net", "std::process", "std::time::SystemTime"]),
    // They hold the writing half of the log.
    ("services/frontier/src", &["LogReader", "Subscription"]),
    ("services/backend/src", &["LogReader", "Subscription"]),
    ("libs/maintenance/src", &["LogReader", "Subscription"]),
];

/// Lines of code of a file, tests not counted.
const MAX_LINES: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(program).args(arguments).current_dir(root()).output().expect("it can be started");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it writes text")
}

/// Every file that is, or would be, in the repository.
fn files() -> Vec<String> {
    let listed = output("git", &["ls-files", "--cached", "--others", "--exclude-standard"]);
    listed.lines().filter(|path| root().join(path).is_file()).map(str::to_owned).collect()
}

fn text(path: &str) -> String {
    String::from_utf8_lossy(&fs::read(root().join(path)).expect("a listed file can be read")).into_owned()
}

/// Path and text.
fn rust_files() -> impl Iterator<Item = (String, String)> {
    files().into_iter().filter(|path| path.ends_with(".rs")).map(|path| {
        let text = text(&path);
        (path, text)
    })
}

/// Each package of the workspace and what it needs to run or to be built; tests may need more.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let metadata = output(env!("CARGO"), &["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo writes JSON");
    let names = |package: &Value| {
        let all = package["dependencies"].as_array().expect("a list").clone();
        all.iter().filter(|one| one["kind"] != "dev").map(name).collect()
    };
    metadata["packages"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|package| (name(package), names(package)))
        .collect()
}

fn name(value: &Value) -> String {
    value["name"].as_str().expect("everything has a name").to_owned()
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
fn crates_know_only_whom_they_may() {
    let dependencies = dependencies();
    assert!(dependencies.len() >= MAY_KNOW.len(), "cargo has told of {} packages", dependencies.len());
    let edges = dependencies.iter().flat_map(|(package, all)| all.iter().map(move |one| (package, one)));
    check(
        edges
            .filter(|(package, dependency)| forbidden(package, dependency))
            .map(|(package, dependency)| format!("{package} may not depend on {dependency}"))
            .collect(),
    );
}

#[test]
fn a_forbidden_edge_is_seen() {
    for (package, dependency) in [
        ("matyan-edge", "matyan-store"),
        ("matyan-frontier", "matyan-model"),
        ("matyan-ql", "matyan-proto"),
        ("matyan-ql", "tokio"),
        ("matyan-backend", "fjall"),
        ("matyan-new", "matyan-store"),
    ] {
        assert!(forbidden(package, dependency), "{package} → {dependency}");
    }
    assert!(!forbidden("matyan", "matyan-store") && !forbidden("matyan-edge", "matyan-proto"));
}

#[test]
fn sources_do_not_name_what_their_crate_may_not_do() {
    let mut problems = Vec::new();
    for (path, text) in rust_files().filter(|(path, _)| !is_test(path)) {
        let tables = MAY_NOT_NAME.iter().filter(|(folder, _)| path.starts_with(folder));
        let named = tables.flat_map(|(_, banned)| *banned).filter(|banned| code(&text).contains(**banned));
        problems.extend(named.map(|banned| format!("{path} names {banned}")));
    }
    check(problems);
}

#[test]
fn every_file_says_what_it_is() {
    let headless =
        rust_files().filter(|(path, text)| !path.ends_with("/tests.rs") && !text.starts_with("//! "));
    check(headless.map(|(path, _)| format!("{path} does not begin with a `//!` header")).collect());
}

#[test]
fn modules_are_not_called_mod() {
    let named_mod = rust_files().filter(|(path, _)| path.ends_with("/mod.rs"));
    check(named_mod.map(|(path, _)| format!("{path} should be named as its folder")).collect());
}

#[test]
fn files_are_short() {
    let long = rust_files().filter(|(path, _)| !is_test(path)).map(|(path, text)| (path, code_lines(&text)));
    let long = long.filter(|(_, lines)| *lines > MAX_LINES);
    check(
        long.map(|(path, lines)| format!("{path} has {lines} lines of code, more than {MAX_LINES}"))
            .collect(),
    );
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/conformance/")
}

/// Without the inline tests, which stand last.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

/// Lines that are neither blank nor comment.
fn code_lines(text: &str) -> usize {
    code(text).lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[test]
fn lines_of_code_are_counted() {
    assert_eq!(
        code_lines("//! x\n\nfn a() {\n    // why\n    b();\n}\n\n#[cfg(test)]\nmod tests {\n    x\n}\n"),
        3
    );
    assert_eq!(code_lines("#[cfg(test)]\nmod tests;\nfn a() {}\n"), 3);
}

#[test]
fn versions_stand_once_in_the_root() {
    let mut problems = Vec::new();
    for path in files().into_iter().filter(|path| path.ends_with("/Cargo.toml") && !path.contains("/fuzz/")) {
        problems.extend(
            own_versions(&text(&path)).map(|line| format!("{path}: {line}: write `workspace = true`")),
        );
    }
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

#[test]
fn a_version_of_its_own_is_seen() {
    let manifest = "[package]\nname = \"a\"\n\n[dev-dependencies]\nb = \"1\"\nc = { version = \"2\" }\nd.workspace = true\n";
    assert_eq!(own_versions(manifest).collect::<Vec<_>>(), ["b = \"1\"", "c = { version = \"2\" }"]);
}
