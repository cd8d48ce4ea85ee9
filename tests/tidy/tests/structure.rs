//! Files form no circles, rooms import only from lower floors, constants have one home, and loops hold no snapshots.

use std::collections::{BTreeMap, BTreeSet};

use matyan_tidy::{
    circles::Circle,
    imports::{python, rust, typescript},
    source::{Repository, SourceFile},
};

/// Crates whose modules are rooms on floors: the root declares them from the ground up, with a blank line between
/// two floors.
const CRATES_WITH_FLOORS: &[&str] = &["services/backend", "services/worker"];

/// Number of crates in which a constant must not have the same name and value.
const TOO_MANY_CRATES: usize = 3;

/// Constants that may be in more crates, with the reason.
const REPEATED_CONSTANTS: &[(&str, &str)] = &[
    ("FORMAT", "every layout has a version of its own"),
    ("LENGTH_BYTES", "every layout has lengths of its own"),
    ("MAX_PARTS", "the clouds' limit: the client knows neither the stores of blobs nor the translators"),
];

fn check(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// The circles of every language, by their first files.
fn circles() -> BTreeMap<String, Circle> {
    let repository = Repository::own();
    let [inward, outward] = rust::imports(&repository.product_files());
    let python = python::imports(&repository.files(&[".py", ".pyi"]), "sdk/python/python");
    let typescript = typescript::imports(&repository.files(&[".ts", ".svelte"]), "ui/src");
    let mut circles: Vec<Circle> = Vec::new();
    for (imports, least) in [(inward, 2_000), (outward, 2_000), (python, 200), (typescript, 400)] {
        assert!(imports.count() > least, "only {} imports were found", imports.count());
        for circle in imports.circles() {
            if !circles.iter().any(|known| known.files.is_superset(&circle.files)) {
                circles.push(circle);
            }
        }
    }
    circles.into_iter().map(|circle| (circle.first().to_owned(), circle)).collect()
}

#[test]
fn files_form_no_circles() {
    check(circles().iter().map(|(first, circle)| format!("{first}: {circle}")).collect());
}

/// The floor of each module that the root of a crate declares.
fn floors(root: &str) -> BTreeMap<String, usize> {
    let mut floors = BTreeMap::new();
    let mut floor = 0;
    for line in root.lines() {
        if line.is_empty() {
            floor += 1;
        } else if let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            floors.insert(name.to_owned(), floor);
        }
    }
    floors
}

/// The module in the root of a crate that a file belongs to; `None` for the root itself and for other crates.
fn room<'p>(folder: &str, path: &'p str) -> Option<&'p str> {
    let inside = path.strip_prefix(folder)?.strip_prefix("/src/")?;
    let room = inside.split('/').next()?.trim_end_matches(".rs");
    (room != "lib").then_some(room)
}

#[test]
fn rooms_import_only_from_lower_floors() {
    let repository = Repository::own();
    let files = repository.product_files();
    let [imports, _] = rust::imports(&files);
    let mut problems = Vec::new();
    for folder in CRATES_WITH_FLOORS {
        let floors = floors(&repository.text(&format!("{folder}/src/lib.rs")));
        assert!(floors.len() > 5, "{folder}: only {} rooms were found", floors.len());
        for file in &files {
            let Some(own) = room(folder, &file.path) else { continue };
            for imported in imports.of(&file.path) {
                let Some(other) = room(folder, imported) else { continue };
                if own != other && floors[other] >= floors[own] {
                    problems.push(format!("{} imports {imported}, which is on no lower floor", file.path));
                }
            }
        }
    }
    check(problems);
}

/// The names and values of the constants in a file.
fn constants(file: &SourceFile) -> Vec<(String, String)> {
    let mut constants = Vec::new();
    for declaration in file.product_text().split("const ").skip(1) {
        let declaration = declaration.split(';').next().unwrap_or_default();
        if let Some((name, typed)) = declaration.split_once(": ")
            && let Some((_, value)) = typed.split_once(" = ")
            && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        {
            constants.push((name.to_owned(), value.to_owned()));
        }
    }
    constants
}

#[test]
fn equal_constants_are_in_few_crates() {
    let mut crates: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for file in Repository::own().product_files() {
        let Some((folder, _)) = file.path.split_once("/src/") else { continue };
        for constant in constants(&file) {
            crates.entry(constant).or_default().insert(folder.to_owned());
        }
    }
    assert!(crates.len() > 300, "only {} constants were found", crates.len());
    crates.retain(|_, folders| folders.len() >= TOO_MANY_CRATES);
    let is_excepted = |name: &String| REPEATED_CONSTANTS.iter().any(|(known, _)| known == name);
    let new = crates.iter().filter(|((name, _), _)| !is_excepted(name));
    let new = new.map(|((name, value), folders)| {
        let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
        format!("{name} = {value} is defined in {}: define it in a crate that they know", folders.join(", "))
    });
    let stale = REPEATED_CONSTANTS.iter().filter(|(known, _)| !crates.keys().any(|(name, _)| name == known));
    let stale = stale.map(|(name, _)| format!("{name}: remove it from the repeated constants"));
    check(new.chain(stale).collect());
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

/// The lines where loops start that take a snapshot in their heads.
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
