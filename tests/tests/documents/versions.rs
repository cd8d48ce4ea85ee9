//! Facts that are repeated in several files because different tools read them.

use std::collections::BTreeSet;

use super::{root, text};

/// The version after each occurrence of `start`.
fn behind(path: &str, start: &str) -> BTreeSet<String> {
    let text = text(path);
    let found = text.split(start).skip(1).map(|rest| {
        rest.chars().take_while(|it| it.is_ascii_alphanumeric() || *it == '.' || *it == '-').collect()
    });
    found.collect()
}

/// Checks that each place has at least one version, and that all of them are equal.
fn same(places: &[(&str, &str)]) {
    let said: Vec<_> = places.iter().map(|(path, start)| (path, start, behind(path, start))).collect();
    let first = &said[0].2;
    assert_eq!(first.len(), 1, "{said:?}");
    for (path, start, versions) in &said {
        assert_eq!(versions, first, "{path}, after `{start}`");
    }
}

const DOCKERFILE: &str = "deploy/docker/Dockerfile";
const COMPOSE: &str = "deploy/compose/compose.yaml";

#[test]
fn files_agree_on_versions() {
    let chart = "deploy/helm/matyan/Chart.yaml";
    same(&[("Cargo.toml", "\nversion = \""), (chart, "\nversion: "), (chart, "\nappVersion: \"")]);
    same(&[("Cargo.toml", "\nrust-version = \""), (DOCKERFILE, "ARG RUST_VERSION=")]);
    same(&[("Makefile", "\nUI_VERSION := "), (DOCKERFILE, "ARG UI_VERSION=")]);
    same(&[("Makefile", "\nKAFKA_VERSION := "), (COMPOSE, "KAFKA_VERSION:-")]);
    same(&[(DOCKERFILE, "ARG FDB_VERSION="), (COMPOSE, "FDB_VERSION:-")]);
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
