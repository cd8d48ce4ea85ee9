//! The references in documents: paths, links, names in code spans, and headings.

use std::collections::BTreeSet;

/// Something that a document refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Line of the document, from 1.
    pub line: usize,
    pub text: String,
}

/// Endings by which a code span without a known folder is recognized as a path.
const ENDINGS: [&str; 4] = [".rs", ".proto", ".toml", ".md"];

/// Returns the code spans of a Markdown text, without fenced code.
pub fn code_spans(markdown: &str) -> Vec<Reference> {
    references(markdown, |line| line.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

/// Returns the targets of links to files, without addresses of other sites.
pub fn links(markdown: &str) -> Vec<Reference> {
    let mut links = references(markdown, |line| {
        let targets = without_code(line);
        let targets = targets.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        targets.map(str::to_owned).collect()
    });
    links.retain(|link| !link.text.contains("://"));
    links
}

fn references(markdown: &str, find: impl Fn(&str) -> Vec<String>) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut is_fenced = false;
    for (at, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            found.extend(find(line).into_iter().map(|text| Reference { line: at + 1, text }));
        }
    }
    found
}

/// Code spans may contain brackets, but a link may have a code span as its text.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// The files of a repository, by which paths are checked.
#[derive(Debug)]
pub struct Tree {
    paths: Vec<String>,
    roots: BTreeSet<String>,
}

impl Tree {
    pub fn new(paths: Vec<String>) -> Self {
        let roots = paths.iter().filter_map(|path| path.split_once('/')).map(|(root, _)| root.to_owned());
        Self { roots: roots.collect(), paths }
    }

    /// Whether a code span looks like a path in the repository.
    pub fn is_path(&self, span: &str) -> bool {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-*{},".contains(c);
        let root = span.split_once('/').map(|(root, _)| root);
        let is_known = root.is_some_and(|root| self.roots.contains(root));
        span.chars().all(is_plain)
            && !span.starts_with(['/', '.'])
            && (is_known || ENDINGS.iter().any(|ending| span.ends_with(ending)))
    }

    /// Whether every alternative of a path is a file or a folder. A name without a folder may be in any folder.
    pub fn contains(&self, path: &str) -> bool {
        let is_name = !path.contains('/');
        expand(path).iter().all(|pattern| {
            let pattern: Vec<&str> = pattern.trim_end_matches('/').split('/').collect();
            self.paths.iter().any(|path| {
                let segments: Vec<&str> = path.split('/').collect();
                if is_name {
                    segments.last().is_some_and(|name| matches_segment(pattern[0], name))
                } else {
                    starts_with(&segments, &pattern)
                }
            })
        })
    }
}

fn starts_with(segments: &[&str], pattern: &[&str]) -> bool {
    segments.len() >= pattern.len()
        && pattern.iter().zip(segments).all(|(pattern, name)| matches_segment(pattern, name))
}

/// Matches a name with a pattern that has at most one asterisk.
fn matches_segment(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => {
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        }
    }
}

/// Returns every alternative of a path such as `a/{b,c}.rs`.
pub fn expand(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let Some((choices, after)) = rest.split_once('}') else { return vec![path.to_owned()] };
    choices.split(',').flat_map(|choice| expand(&format!("{before}{choice}{after}"))).collect()
}

/// Resolves the target of a link in a document, without its anchor.
pub fn resolve(document: &str, target: &str) -> String {
    let target = target.split('#').next().unwrap_or_default();
    if target.is_empty() {
        return document.to_owned();
    }
    let mut segments: Vec<&str> = document.split('/').collect();
    segments.pop();
    for segment in target.split('/').filter(|segment| !segment.is_empty() && *segment != ".") {
        match segment {
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    segments.join("/")
}

/// Returns the anchors of a document's headings, as GitHub forms them.
pub fn anchors(markdown: &str) -> BTreeSet<String> {
    let heading = |line: &str| line.starts_with('#').then(|| anchor(line.trim_start_matches('#').trim()));
    references(markdown, |line| heading(line).into_iter().collect()).into_iter().map(|it| it.text).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Returns the first two cells of each row of the table under a header.
pub fn rows(markdown: &str, header: &str) -> Vec<(String, String)> {
    let lines = markdown.lines().skip_while(|line| *line != header).skip(2);
    let lines = lines.take_while(|line| line.starts_with('|'));
    let cells = lines.filter_map(|line| {
        let mut cells = line.split('|').skip(1).map(|cell| cell.trim().to_owned());
        cells.next().zip(cells.next())
    });
    cells.collect()
}

/// Splits text and identifiers into lower-case words: `LogWriter` and `log_writer` have two.
pub fn identifier_words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_after_lower = false;
    for c in text.chars() {
        if !c.is_alphanumeric() || c.is_uppercase() && is_after_lower {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().expect("there is a first word").extend(c.to_lowercase());
        }
        is_after_lower = c.is_lowercase() || c.is_ascii_digit();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_links_are_found_outside_of_fences() {
        let text = "`a` and [`b`](c/d.md#e), [f](https://g)\n```\n`h` [i](j)\n```\n`k`";
        let texts = |found: Vec<Reference>| -> Vec<_> {
            found.into_iter().map(|reference| (reference.line, reference.text)).collect()
        };
        let expected = [(1, "a"), (1, "b"), (5, "k")].map(|(line, text)| (line, text.to_owned()));
        assert_eq!(texts(code_spans(text)), expected);
        assert_eq!(texts(links(text)), [(1, "c/d.md#e".to_owned())]);
    }

    #[test]
    fn paths_are_expanded_and_looked_up() {
        let tree =
            Tree::new(["libs/log/src/lib.rs", "libs/log/src/error.rs", "Makefile"].map(str::to_owned).into());
        for path in ["libs/log/", "libs/log/src/{lib,error}.rs", "libs/*/src", "lib.rs", "libs/log/src/*.rs"]
        {
            assert!(tree.is_path(path) && tree.contains(path), "{path}");
        }
        for path in ["libs/blob/", "libs/log/src/{lib,missing}.rs", "log/src/lib.rs", "missing.rs"] {
            assert!(tree.is_path(path) && !tree.contains(path), "{path}");
        }
        for span in ["/health/live/", "s3://bucket", "runs/{run}/run.json", "matyan up", "Store"] {
            assert!(!tree.is_path(span), "{span}");
        }
    }

    #[test]
    fn links_are_resolved_from_their_document() {
        assert_eq!(resolve("docs/a/b.md", "../c.md#d"), "docs/c.md");
        assert_eq!(resolve("README.md", "docs/"), "docs");
        assert_eq!(resolve("docs/a.md", "#b"), "docs/a.md");
        assert!(anchors("# A\n\n## 1. Log in, then out\n").contains("1-log-in-then-out"));
    }

    #[test]
    fn identifiers_are_split_into_words() {
        assert_eq!(
            identifier_words("LogWriter::log_get, DEAD-letters"),
            ["log", "writer", "log", "get", "dead", "letters"]
        );
    }

    #[test]
    fn rows_end_with_the_table() {
        let text = "| a | b |\n|---|---|\n| c | d |\n| e | f |\n\n| g | h |\n";
        let expected = [("c", "d"), ("e", "f")].map(|(one, two)| (one.to_owned(), two.to_owned()));
        assert_eq!(rows(text, "| a | b |"), expected);
    }
}
