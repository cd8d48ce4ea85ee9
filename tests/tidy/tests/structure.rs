//! Objects stay small and files form no circles.

use std::collections::{BTreeMap, BTreeSet};

use matyan_tidy::{
    imports,
    items::items,
    source::{Repository, SourceFile},
};

/// Most fields of a struct.
const MAX_FIELDS: usize = 12;
/// Most files with inherent methods of one type.
const MAX_IMPL_FILES: usize = 3;

/// Structs that may have more fields, with the reason.
const MANY_FIELDS: &[(&str, &str, &str)] =
    &[("libs/model/src/run.rs", "Props", "the stored document of a run: its fields are its format")];

/// Types that may have methods in more files, with the reason.
const MANY_IMPL_FILES: &[(&str, &str, &str)] = &[];

/// Circles that are still to be broken. No others may appear.
const KNOWN_CIRCLES: &[&[&str]] = &[];

fn check(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// The problems that no exception covers, and the exceptions that cover no problem.
fn uncovered(
    found: &BTreeMap<(String, String), usize>,
    exceptions: &[(&str, &str, &str)],
    what: &str,
) -> Vec<String> {
    let excepted: BTreeSet<_> =
        exceptions.iter().map(|(place, name, _)| ((*place).to_owned(), (*name).to_owned())).collect();
    let new = found.iter().filter(|(key, _)| !excepted.contains(key));
    let new = new.map(|((place, name), count)| format!("{place}: {name} has {count} {what}"));
    let stale = excepted.iter().filter(|key| !found.contains_key(key));
    new.chain(stale.map(|(place, name)| format!("{place}: the exception for {name} is no longer needed")))
        .collect()
}

#[test]
fn structs_have_few_fields() {
    let mut large = BTreeMap::new();
    for file in Repository::own().product_files() {
        let types = items(&file).types.into_iter().filter(|item| item.fields > MAX_FIELDS);
        large.extend(types.map(|item| ((file.path.clone(), item.name), item.fields)));
    }
    check(uncovered(&large, MANY_FIELDS, "fields"));
}

#[test]
fn methods_of_a_type_are_in_few_files() {
    let mut files: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for file in Repository::own().product_files() {
        let Some((folder, _)) = file.path.split_once("/src/") else { continue };
        for name in items(&file).inherent_impls {
            files.entry((folder.to_owned(), name)).or_default().insert(file.path.clone());
        }
    }
    let counts = files.into_iter().map(|(key, files)| (key, files.len()));
    let many: BTreeMap<_, _> = counts.filter(|(_, count)| *count > MAX_IMPL_FILES).collect();
    check(uncovered(&many, MANY_IMPL_FILES, "files with methods"));
}

#[test]
fn files_form_no_circles() {
    let files = Repository::own().product_files();
    let files: Vec<&SourceFile> = files.iter().collect();
    let circles = imports::circles(&files);
    let new = circles.iter().filter(|circle| !KNOWN_CIRCLES.iter().any(|known| circle == known));
    let new = new.map(|circle| format!("circle: {}", circle.join(", ")));
    let broken = KNOWN_CIRCLES.iter().filter(|known| !circles.iter().any(|circle| circle == *known));
    let broken = broken.map(|known| format!("no longer a circle: {}", known.join(", ")));
    check(new.chain(broken).collect());
}

/// A snapshot in the head of a loop lives as long as the loop, and the store keeps all versions since the oldest
/// snapshot.
#[test]
fn loops_hold_no_snapshot_of_their_heads() {
    let mut held = Vec::new();
    for file in Repository::own().product_files() {
        let loops = loops_with_snapshots(&file.text);
        held.extend(loops.into_iter().map(|line| format!("{}:{line}: read before the loop", file.path)));
    }
    check(held);
}

/// The lines where loops begin that take a snapshot in their heads.
fn loops_with_snapshots(text: &str) -> Vec<usize> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let has_snapshot = |at: &usize| {
        // A long head has several lines.
        let last = lines[*at..].iter().position(|line| line.ends_with('{')).unwrap_or_default();
        lines[*at..=at + last].concat().contains("snapshot()")
    };
    let loops = (0..lines.len()).filter(|at| lines[*at].starts_with("for "));
    loops.filter(has_snapshot).map(|at| at + 1).collect()
}

#[test]
fn a_loop_with_a_snapshot_in_its_head_is_reported() {
    let text = "for row in list(&*store.snapshot().await?).await? {\n    read(row);\n}\n\
                let snapshot = store.snapshot().await?;\nfor row in list(&*snapshot).await? {\n}\n\
                for row in\n    list(&*store.snapshot().await?).await?\n{\n}\n";
    assert_eq!(loops_with_snapshots(text), [1, 7]);
}

#[test]
fn a_large_struct_and_a_stale_exception_are_reported() {
    let found = BTreeMap::from([(("a.rs".to_owned(), "Large".to_owned()), 13)]);
    let problems = uncovered(&found, &[("b.rs", "Small", "it was larger")], "fields");
    assert_eq!(problems, ["a.rs: Large has 13 fields", "b.rs: the exception for Small is no longer needed"]);
}
