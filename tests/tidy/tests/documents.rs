//! Everything that documents name exists: paths, links with their anchors, types and functions in the checklists, and
//! the words of the glossary. Rules have tests that are named after them, in the files that their rows name, and each
//! attack has tests.

use std::collections::BTreeSet;

use matyan_tidy::{
    documents::{self, Tree, anchors, code_spans, identifier_words, links, resolve},
    rules::{named_files, tested_rules, unnamed_files},
    source::{Repository, SourceFile},
};

const INVARIANTS: &str = "docs/internals/invariants.md";
const ATTACKS: &str = "docs/internals/attacks.md";
const GLOSSARY: &str = "docs/internals/glossary.md";
const ARCHITECTURE: &str = "docs/internals/architecture.md";
const CHECKLISTS: &str = "docs/internals/contributing/";

fn documents() -> Vec<SourceFile> {
    let mut files = Repository::own().files(&[".md"]);
    files.retain(|file| file.path.starts_with("docs/") || !file.path.contains('/'));
    assert!(files.len() > 30, "only {} documents were found", files.len());
    files
}

fn check(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n{} problems", problems.join("\n"), problems.len());
}

fn path_problems(document: &SourceFile, tree: &Tree) -> Vec<String> {
    let spans = code_spans(&document.text).into_iter().filter(|span| tree.is_path(&span.text));
    let wrong = spans.filter(|span| !tree.contains(&span.text));
    wrong
        .map(|span| format!("{}:{}: the path `{}` does not exist", document.path, span.line, span.text))
        .collect()
}

#[test]
fn paths_exist() {
    let tree = Tree::new(Repository::own().paths());
    check(documents().iter().flat_map(|document| path_problems(document, &tree)).collect());
}

#[test]
fn links_have_targets() {
    let repository = Repository::own();
    let tree = Tree::new(repository.paths());
    let mut problems = Vec::new();
    for document in documents() {
        for link in links(&document.text) {
            let at = format!("{}:{}", document.path, link.line);
            let target = resolve(&document.path, &link.text);
            if !tree.contains(&target) {
                problems.push(format!("{at}: the target `{}` does not exist", link.text));
            } else if let Some((_, anchor)) = link.text.split_once('#')
                && !anchors(&repository.text(&target)).contains(anchor)
            {
                problems.push(format!("{at}: `{target}` has no heading `{anchor}`"));
            }
        }
    }
    check(problems);
}

/// Whether a code span is the name of a type, a function, or an rpc.
fn is_name(span: &str) -> bool {
    let is_identifier = |c: char| c.is_ascii_alphanumeric() || "_:.".contains(c);
    let has_lower = span.contains(|c: char| c.is_ascii_lowercase());
    let is_type = span.starts_with(|c: char| c.is_ascii_uppercase());
    has_lower && (is_type || span.contains('_')) && span.chars().all(is_identifier)
}

fn name_problems(document: &SourceFile, tree: &Tree, known: &BTreeSet<String>) -> Vec<String> {
    let spans = code_spans(&document.text);
    let names = spans.iter().filter(|span| is_name(&span.text) && !tree.is_path(&span.text));
    let is_unknown =
        |name: &str| name.split(['.', ':']).any(|part| !part.is_empty() && !known.contains(part));
    let unknown = names.filter(|span| is_unknown(&span.text));
    unknown
        .map(|span| format!("{}:{}: `{}` is not in the source", document.path, span.line, span.text))
        .collect()
}

/// Every identifier of the product.
fn identifiers() -> BTreeSet<String> {
    let files = Repository::own().files(&[".rs", ".proto", "Cargo.toml"]);
    let is_separator = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let product = files.iter().filter(|file| !file.is_test());
    product.flat_map(|file| file.text.split(is_separator)).map(str::to_owned).collect()
}

#[test]
fn names_in_checklists_exist() {
    let tree = Tree::new(Repository::own().paths());
    let known = identifiers();
    let mut pages = documents();
    pages.retain(|page| page.path.starts_with(CHECKLISTS) || page.path == ARCHITECTURE);
    assert!(pages.len() > 5, "only {} pages were found", pages.len());
    check(pages.iter().flat_map(|page| name_problems(page, &tree, &known)).collect());
}

/// The words of the product's source, in order, each after a space.
fn source_words() -> String {
    let files = Repository::own().files(&[".rs", ".proto"]);
    let product = files.iter().filter(|file| !file.is_test());
    let mut all = String::new();
    for word in product.flat_map(|file| identifier_words(&file.text)) {
        all.push(' ');
        all.push_str(&word);
    }
    all.push(' ');
    all
}

#[test]
fn words_of_the_glossary_are_used() {
    let source = source_words();
    let words = documents::rows(&Repository::own().text(GLOSSARY), "| word | meaning |");
    assert!(words.len() > 50, "the glossary has only {} words", words.len());
    let mut sorted: Vec<_> = words.iter().map(|(word, _)| word.clone()).collect();
    sorted.sort();
    sorted.dedup();
    assert!(
        words.iter().map(|(word, _)| word).eq(&sorted),
        "the words are not sorted, or one is there twice"
    );
    let is_used = |word: &str| {
        let phrase = identifier_words(word).join(" ");
        ["", "s", "es", "ed"].iter().any(|end| source.contains(&format!(" {phrase}{end} ")))
    };
    let unused = words.iter().filter(|(word, _)| !is_used(word));
    check(unused.map(|(word, _)| format!("{GLOSSARY}: `{word}` is not used in the source")).collect());
}

/// The files that may have tests.
fn test_files() -> Vec<SourceFile> {
    Repository::own().files(&[".rs", ".py", ".ts"])
}

#[test]
fn every_rule_has_a_test_with_its_number() {
    let tested: BTreeSet<u32> = test_files().iter().flat_map(|file| tested_rules(&file.text)).collect();
    let rules: BTreeSet<u32> = named_files(&Repository::own().text(INVARIANTS)).into_keys().collect();
    assert!(rules.len() > 100, "only {} rules were found", rules.len());
    let name = |rule: &u32| format!("{INVARIANTS}: no test `rule_{rule:02}_…` proves rule {rule}");
    check(rules.difference(&tested).map(name).collect());
}

/// `paths_exist` checks that the files in the rows exist.
#[test]
fn rows_of_rules_name_the_files_of_their_tests() {
    let problems = unnamed_files(&Repository::own().text(INVARIANTS), &test_files());
    check(problems.into_iter().map(|problem| format!("{INVARIANTS}: {problem}")).collect());
}

/// The tests in the last cell of a row, `path`: `name`, `name`; each with its path.
fn named_tests(row: &str, tree: &Tree) -> Vec<(String, String)> {
    let cell = row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or_default();
    let mut path = None;
    let mut tests = Vec::new();
    for span in code_spans(cell) {
        if tree.is_path(&span.text) {
            path = Some(span.text);
        } else if let Some(path) = &path {
            tests.push((path.clone(), span.text));
        }
    }
    tests
}

#[test]
fn tests_of_attacks_exist() {
    let repository = Repository::own();
    let tree = Tree::new(repository.paths());
    let attacks = repository.text(ATTACKS);
    let rows = attacks.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let tests: Vec<_> = rows.flat_map(|row| named_tests(row, &tree)).collect();
    assert!(tests.len() > 150, "{ATTACKS} names only {} tests", tests.len());
    let is_missing = |(path, name): &(String, String)| {
        let text = repository.text(path);
        !text.contains(&format!("fn {name}("))
            && !text.contains(&format!("def {name}("))
            && !text.contains(&format!("'{name}'"))
    };
    let missing = tests.into_iter().filter(is_missing);
    check(missing.map(|(path, name)| format!("{ATTACKS}: {path} has no test `{name}`")).collect());
}
