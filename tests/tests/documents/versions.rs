//! What stands in more than one place, because the tools that read it know only one.

use std::collections::BTreeSet;

use super::{root, text};

/// What stands behind each `start`, up to a character that no version has.
fn behind(path: &str, start: &str) -> BTreeSet<String> {
    let text = text(path);
    let found = text.split(start).skip(1).map(|rest| {
        rest.chars().take_while(|it| it.is_ascii_alphanumeric() || *it == '.' || *it == '-').collect()
    });
    found.collect()
}

/// All of these places say the same, each at least once.
fn same(places: &[(&str, &str)]) {
    let said: Vec<_> = places.iter().map(|(path, start)| (path, start, behind(path, start))).collect();
    let first = &said[0].2;
    assert_eq!(first.len(), 1, "{said:?}");
    for (path, start, versions) in &said {
        assert_eq!(versions, first, "{path}, behind `{start}`");
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

/// The image is built from what is let in, so whatever the workspace has must be.
#[test]
fn the_image_is_built_from_the_whole_workspace() {
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
