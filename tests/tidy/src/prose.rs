//! Text that people read: comments, string literals, Markdown, and comments of other kinds of files.

use crate::{
    lexer::{self, TokenKind},
    source::SourceFile,
};

/// Endings of the files that hold text for people.
pub const ENDINGS: &[&str] = &[
    ".rs",
    ".md",
    ".proto",
    ".py",
    ".pyi",
    ".toml",
    ".yaml",
    ".yml",
    ".tpl",
    ".sh",
    ".ts",
    ".svelte",
    "Makefile",
    "Dockerfile",
    ".service",
    "NOTES.txt",
    ".ci/run",
];

/// A paragraph: consecutive comment lines of one kind, a string literal, or a paragraph of Markdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Line on which it begins, from 1.
    pub line: usize,
    pub text: String,
    pub is_comment: bool,
    /// Whether it documents an item or a file.
    pub is_doc: bool,
}

/// Returns everything in a file that people read. Code, and quoted code in comments and Markdown, is left out.
pub fn passages(file: &SourceFile) -> Vec<Passage> {
    match file.path.rsplit('.').next() {
        Some("rs") => rust(&file.text),
        Some("md" | "txt") => markdown(&file.text),
        Some("proto" | "ts" | "svelte") => marked(&file.text, "//"),
        _ => marked(&file.text, "#"),
    }
}

fn rust(text: &str) -> Vec<Passage> {
    let mut passages: Vec<Passage> = Vec::new();
    let mut last: Option<(TokenKind, usize)> = None;
    for token in lexer::tokens(text) {
        let is_comment = token.kind != TokenKind::Literal;
        let continues = is_comment && last == Some((token.kind, token.line)) && !token.text.trim().is_empty();
        match passages.last_mut() {
            Some(passage) if continues => {
                passage.text.push('\n');
                passage.text.push_str(token.text.trim());
            }
            _ => passages.push(Passage {
                line: token.line,
                text: token.text.trim().to_owned(),
                is_comment,
                is_doc: matches!(token.kind, TokenKind::Doc | TokenKind::Header),
            }),
        }
        last = Some((token.kind, token.line + 1)).filter(|_| !token.text.trim().is_empty());
    }
    passages.retain(|passage| !passage.text.is_empty());
    passages.iter_mut().for_each(|passage| passage.text = without_code(&passage.text));
    passages
}

fn markdown(text: &str) -> Vec<Passage> {
    let mut passages: Vec<Passage> = Vec::new();
    let (mut is_fenced, mut continues) = (false, false);
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        if content.starts_with("```") {
            is_fenced = !is_fenced;
        }
        if is_fenced || content.is_empty() || content.starts_with("```") {
            continues = false;
            continue;
        }
        match passages.last_mut() {
            Some(passage) if continues => passage.text.push_str(&format!("\n{content}")),
            _ => passages.push(Passage { line, text: content.to_owned(), is_comment: false, is_doc: false }),
        }
        continues = true;
    }
    passages.iter_mut().for_each(|passage| passage.text = without_code(&passage.text));
    passages
}

/// Comments of languages in which `marker` begins one.
fn marked(text: &str, marker: &str) -> Vec<Passage> {
    let mut passages: Vec<Passage> = Vec::new();
    let mut next = 0;
    for (line, content) in (1..).zip(text.lines()) {
        let own_line = content.find(marker).filter(|at| content[..*at].trim().is_empty());
        let trailing = || content.find(&format!(" {marker}")).map(|at| at + 1);
        let Some(at) = own_line.or_else(trailing) else { continue };
        let comment = content[at..].trim_start_matches(marker).trim();
        let continues = next == line && own_line.is_some() && !comment.is_empty();
        match passages.last_mut() {
            Some(passage) if continues => passage.text.push_str(&format!("\n{comment}")),
            _ if comment.is_empty() => {}
            _ => passages.push(Passage { line, text: comment.to_owned(), is_comment: true, is_doc: false }),
        }
        next = if comment.is_empty() { 0 } else { line + 1 };
    }
    passages.iter_mut().for_each(|passage| passage.text = without_code(&passage.text));
    passages
}

/// The text with what is between backticks blanked out.
fn without_code(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(number, part)| if number % 2 == 0 { part } else { "`" }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, text: &str, expected: &[(usize, &str)]) {
        let file = SourceFile { path: path.to_owned(), text: text.to_owned() };
        let found = passages(&file);
        let found: Vec<_> = found.iter().map(|passage| (passage.line, passage.text.as_str())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn lines_of_a_comment_are_one_passage() {
        check("a.rs", "/// One\n/// two `three`.\nfn a() {}\n// Four.", &[(1, "One\ntwo `."), (4, "Four.")]);
        check("a.rs", "/// One.\n///\n/// Two.\n", &[(1, "One."), (3, "Two.")]);
    }

    #[test]
    fn markdown_is_read_without_its_code() {
        check("a.md", "# A\n\nb\nc\n```\nd\n```\ne", &[(1, "# A"), (3, "b\nc"), (8, "e")]);
    }

    #[test]
    fn comments_of_other_files_are_read() {
        check("Makefile", "# One\n# two\na: ## Three\n\tb\n", &[(1, "One\ntwo"), (3, "Three")]);
        check("a.proto", "// One.\nmessage A {} // two\n", &[(1, "One."), (2, "two")]);
    }
}
