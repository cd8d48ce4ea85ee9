//! The rules in the tables of invariants, the files that their rows name, and the tests that are named after rules.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    documents::{Tree, code_spans, expand},
    source::SourceFile,
};

/// Beginnings of the names of tests, up to the number of a rule: functions, trials, and tests of the UI.
const NAMES: [&str; 5] = ["fn rule_", "def test_rule_", "\"rule_", "\"kafka::rule_", "test('rule "];

/// Returns the files that the row of each rule names.
pub fn named_files(invariants: &str) -> BTreeMap<u32, Vec<String>> {
    invariants.lines().filter_map(row).collect()
}

/// The number of a rule, and the paths in the last cell of its row.
fn row(line: &str) -> Option<(u32, Vec<String>)> {
    let (number, _) = line.strip_prefix("| ")?.split_once(" |")?;
    let (_, files) = line.rsplit_once(" | ")?;
    let files = code_spans(files).into_iter().flat_map(|span| expand(&span.text));
    Some((number.parse().ok()?, files.collect()))
}

/// Returns the numbers of the rules that tests have in their names.
pub fn tested_rules(text: &str) -> BTreeSet<u32> {
    let names = NAMES.into_iter().flat_map(|start| text.split(start).skip(1));
    names.filter_map(|name| name.split(['_', ':']).next()?.parse().ok()).collect()
}

/// Returns a problem for each rule that a test in a file is named after, but whose row does not name the file.
pub fn unnamed_files(invariants: &str, files: &[SourceFile]) -> Vec<String> {
    let rules = named_files(invariants);
    let mut problems = Vec::new();
    for file in files {
        let tree = Tree::new(vec![file.path.clone()]);
        let is_named = |rule: &u32| rules.get(rule).into_iter().flatten().any(|path| tree.contains(path));
        let tested = tested_rules(&file.text);
        let unnamed = tested.iter().filter(|rule| !is_named(rule));
        problems.extend(unnamed.map(|rule| format!("no row of rule {rule} names {}", file.path)));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVARIANTS: &str = "\
| # | rule | tested by |
|---|---|---|
| 7 | A rule about `x.rs`. | `libs/{a,b}/src/c.rs`, `sdk/tests/` |
| 8 | Another rule. | `ui/*.test.ts` |
";

    /// The problems with a file that has a test with this name. A text with the whole name would be such a test.
    fn problems(path: &str, start: &str, rest: &str) -> Vec<String> {
        let file = SourceFile { path: path.to_owned(), text: format!("{start}{rest}") };
        unnamed_files(INVARIANTS, &[file])
    }

    #[test]
    fn rows_name_files() {
        let files = ["libs/a/src/c.rs", "libs/b/src/c.rs", "sdk/tests/"].map(str::to_owned);
        let expected = BTreeMap::from([(7, Vec::from(files)), (8, vec!["ui/*.test.ts".to_owned()])]);
        assert_eq!(named_files(INVARIANTS), expected);
    }

    #[test]
    fn a_file_in_the_row_of_its_rule_is_no_problem() {
        for (path, start, rest) in [
            ("libs/b/src/c.rs", "async fn rule_", "07_a_record_is_applied() {"),
            ("libs/b/src/c.rs", "Trial::test(\"rule_", "07_a_record_is_applied\","),
            ("sdk/tests/it/d.py", "def test_rule_", "7_a_record_is_applied():"),
            ("ui/live.test.ts", "test('rule ", "8: a record is applied', () => {"),
            ("libs/e/src/lib.rs", "fn ", "a_record_is_applied() {"),
        ] {
            assert_eq!(problems(path, start, rest), [""; 0], "{path}: {start}{rest}");
        }
    }

    #[test]
    fn a_file_that_is_missing_in_the_row_of_its_rule_is_a_problem() {
        for (path, start, rest, expected) in [
            ("libs/e/src/c.rs", "fn rule_", "07_a() {", "no row of rule 7 names libs/e/src/c.rs"),
            ("libs/b/src/c.rs", "fn rule_", "08_a() {", "no row of rule 8 names libs/b/src/c.rs"),
            // The rule only mentions it.
            ("x.rs", "\"kafka::rule_", "07_a\",", "no row of rule 7 names x.rs"),
            ("sdk/tests/d.py", "def test_rule_", "8_a():", "no row of rule 8 names sdk/tests/d.py"),
            ("ui/live.test.ts", "test('rule ", "9: a', () => {", "no row of rule 9 names ui/live.test.ts"),
        ] {
            assert_eq!(problems(path, start, rest), [expected], "{path}: {start}{rest}");
        }
    }
}
