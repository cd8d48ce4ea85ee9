//! Comments, strings and documents are in plain English, and types are named by what they are.

use matyan_tidy::{
    items::items,
    prose::{self, Passage},
    source::{Repository, SourceFile},
    words,
};

/// Files whose words are not ours, or whose subject is words.
const NOT_CHECKED: &[&str] = &["tests/vectors/", "tests/tidy/", "docs/glossary.md"];

fn checked_files() -> Vec<SourceFile> {
    let mut files = Repository::own().files(prose::ENDINGS);
    files.retain(|file| !NOT_CHECKED.iter().any(|path| file.path.starts_with(path)));
    files
}

fn check(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n{} problems", problems.join("\n"), problems.len());
}

fn dialect_problems(path: &str, passage: &Passage) -> Vec<String> {
    let words = words::split(&passage.text);
    let found = words::dialect().into_iter().filter(|phrase| phrase.count(&words) > 0);
    let line = passage.line;
    found.map(|phrase| format!("{path}:{line}: `{}`: write {}", phrase.text(), phrase.suggestion)).collect()
}

fn opening_problem(path: &str, passage: &Passage) -> Option<String> {
    let first = passage.text.split([' ', '\n', ',']).next()?;
    let is_rejected = passage.is_doc && words::openings().contains(first);
    let line = passage.line;
    is_rejected.then(|| format!("{path}:{line}: begins with `{first}`: begin with a noun phrase or a verb"))
}

/// Every problem that `find` reports for a passage of the checked files.
fn problems<P: IntoIterator<Item = String>>(find: fn(&str, &Passage) -> P) -> Vec<String> {
    let mut problems = Vec::new();
    for file in checked_files() {
        for passage in prose::passages(&file) {
            problems.extend(find(&file.path, &passage));
        }
    }
    problems
}

#[test]
fn words_are_plain_english() {
    assert!(checked_files().len() > 700, "only {} files were found", checked_files().len());
    check(problems(dialect_problems));
}

#[test]
fn doc_comments_begin_with_a_noun_or_a_verb() {
    check(problems(opening_problem));
}

#[test]
fn planted_dialect_is_reported() {
    let text = "/// What is told to whoever asks.\nfn a() {\n    // It lies beside the log.\n    warn!(\"nobody reads it\");\n}\n";
    let file = SourceFile { path: "a.rs".to_owned(), text: text.to_owned() };
    let passages = prose::passages(&file);
    let problems: Vec<_> = passages.iter().flat_map(|passage| dialect_problems("a.rs", passage)).collect();
    let places: Vec<_> = problems.iter().filter_map(|problem| problem.split(": write").next()).collect();
    let expected =
        ["a.rs:1: `told`", "a.rs:1: `whoever`", "a.rs:3: `beside`", "a.rs:3: `lies`", "a.rs:4: `nobody`"];
    assert_eq!(places, expected);
    let openings: Vec<_> = passages.iter().filter_map(|passage| opening_problem("a.rs", passage)).collect();
    assert_eq!(openings, ["a.rs:1: begins with `What`: begin with a noun phrase or a verb"]);
}

#[test]
fn types_are_named_by_nouns() {
    let rejected = words::rejected_type_names();
    let mut problems = Vec::new();
    for file in Repository::own().product_files() {
        let named = items(&file).types.into_iter().filter(|item| rejected.contains(item.name.as_str()));
        problems.extend(named.map(|item| format!("{}: rename the type `{}`", file.path, item.name)));
    }
    check(problems);
}
