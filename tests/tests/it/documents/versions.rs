//! Facts that are repeated in several files because different tools read them.

use std::collections::BTreeSet;

use super::{root, text};

/// The version after each occurrence of `start`.
fn versions_after(path: &str, start: &str) -> BTreeSet<String> {
    let text = text(path);
    let found = text.split(start).skip(1).map(|rest| {
        rest.chars().take_while(|it| it.is_ascii_alphanumeric() || *it == '.' || *it == '-').collect()
    });
    found.collect()
}

/// Checks that each place has at least one version, and that all of them are equal.
fn assert_same_version(places: &[(&str, &str)]) {
    let found: Vec<_> =
        places.iter().map(|(path, start)| (path, start, versions_after(path, start))).collect();
    let first = &found[0].2;
    assert_eq!(first.len(), 1, "{found:?}");
    for (path, start, versions) in &found {
        assert_eq!(versions, first, "{path}, after `{start}`");
    }
}

const DOCKERFILE: &str = "deploy/docker/Dockerfile";
const COMPOSE: &str = "deploy/compose/compose.yaml";

#[test]
fn files_agree_on_versions() {
    let chart = "deploy/helm/matyan/Chart.yaml";
    assert_same_version(&[
        ("Cargo.toml", "\nversion = \""),
        (chart, "\nversion: "),
        (chart, "\nappVersion: \""),
    ]);
    assert_same_version(&[("Cargo.toml", "\nrust-version = \""), (DOCKERFILE, "ARG RUST_VERSION=")]);
    assert_same_version(&[("Makefile", "\nUI_VERSION := "), ("tests/locks/aim-ui.txt", "aim-ui==")]);
    assert_same_version(&[
        ("Makefile", "\nBUF_VERSION := "),
        ("docs/concepts/clients.md", "@bufbuild/buf@"),
        ("tests/locks/buf/package.json", "@bufbuild/buf\": \""),
    ]);
    assert_same_version(&[("Makefile", "\nKAFKA_VERSION := "), (COMPOSE, "KAFKA_VERSION:-")]);
    assert_same_version(&[(DOCKERFILE, "ARG FDB_VERSION="), (COMPOSE, "FDB_VERSION:-")]);
}

/// The build context of the image includes every member of the workspace.
#[test]
fn the_image_build_includes_the_whole_workspace() {
    let let_in = text(".dockerignore");
    let manifest = text("Cargo.toml");
    let members = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next());
    let members = members.expect("the workspace has members").split('"').skip(1).step_by(2);
    let folders: BTreeSet<_> = members.filter_map(|member| member.split('/').next()).collect();
    assert!(folders.len() > 3, "{folders:?}");
    for folder in folders {
        assert!(root().join(folder).is_dir() && let_in.contains(&format!("\n!{folder}/\n")), "{folder}");
    }
}
