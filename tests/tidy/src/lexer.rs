//! Separates the comments and the string literals of Rust source from its code.

/// Kind of a token that holds text for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// `//! …`
    Header,
    /// `/// …`
    Doc,
    /// `// …` or `/* … */`
    Comment,
    /// A string literal, with its escapes.
    Literal,
}

/// A comment line or a string literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'t> {
    pub kind: TokenKind,
    /// Line of its first character, from 1.
    pub line: usize,
    /// Without slashes or quotes.
    pub text: &'t str,
}

/// Returns the comments and string literals of a Rust file, in order.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { text, at: 0, line: 1, tokens: Vec::new() };
    while lexer.at < text.len() {
        lexer.step();
    }
    lexer.tokens
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    line: usize,
    tokens: Vec<Token<'t>>,
}

impl<'t> Lexer<'t> {
    fn step(&mut self) {
        let rest = &self.text[self.at..];
        if rest.starts_with("//") {
            self.line_comment(rest);
        } else if rest.starts_with("/*") {
            let length = rest.find("*/").map_or(rest.len(), |end| end + 2);
            self.push(TokenKind::Comment, rest[2..length].trim_end_matches("*/"), length);
        } else if let Some((text, length)) = raw_string(rest).filter(|_| !self.is_inside_word()) {
            self.push(TokenKind::Literal, text, length);
        } else if let Some(body) = rest.strip_prefix('"') {
            let length = string_length(body);
            self.push(TokenKind::Literal, &body[..length], length + 2);
        } else if let Some(length) = char_length(rest) {
            self.advance(length);
        } else {
            self.advance(rest.chars().next().map_or(1, char::len_utf8));
        }
    }

    fn line_comment(&mut self, rest: &'t str) {
        let line = rest.lines().next().unwrap_or_default();
        let (kind, text) = match (line.strip_prefix("//!"), line.strip_prefix("///")) {
            (Some(text), _) => (TokenKind::Header, text),
            (_, Some(text)) if !text.starts_with('/') => (TokenKind::Doc, text),
            _ => (TokenKind::Comment, &line[2..]),
        };
        self.push(kind, text, line.len());
    }

    fn push(&mut self, kind: TokenKind, text: &'t str, length: usize) {
        self.tokens.push(Token { kind, line: self.line, text });
        self.advance(length);
    }

    fn advance(&mut self, length: usize) {
        let end = (self.at + length).min(self.text.len());
        self.line += self.text[self.at..end].matches('\n').count();
        self.at = end;
    }

    /// Whether the character before this one belongs to a name, so that an `r` here begins no raw string.
    fn is_inside_word(&self) -> bool {
        let before = self.text[..self.at].chars().next_back();
        before.is_some_and(|before| before.is_alphanumeric() || before == '_')
    }
}

/// Text and whole length of a raw string at the beginning of `rest`.
fn raw_string(rest: &str) -> Option<(&str, usize)> {
    let marked = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = marked.len() - marked.trim_start_matches('#').len();
    let body = marked[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&close)?;
    Some((&body[..length], rest.len() - body.len() + length + close.len()))
}

/// Length of a string literal up to its closing quote.
fn string_length(body: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in body.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    body.len()
}

/// Length of a character literal at the beginning of `rest`; `None` for a lifetime.
fn char_length(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    if let Some(escaped) = body.strip_prefix('\\') {
        let first = escaped.chars().next()?.len_utf8();
        return escaped[first..].find('\'').map(|end| 2 + first + end + 1);
    }
    let length = body.chars().next()?.len_utf8();
    body[length..].starts_with('\'').then_some(length + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(TokenKind, usize, &str)]) {
        let found: Vec<_> = tokens(text).iter().map(|token| (token.kind, token.line, token.text)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn comments_and_literals_are_found() {
        check(
            "//! a\n/// b\nfn c() { // d\n    e(\"f \\\" g\"); /* h */ }\n",
            &[
                (TokenKind::Header, 1, " a"),
                (TokenKind::Doc, 2, " b"),
                (TokenKind::Comment, 3, " d"),
                (TokenKind::Literal, 4, "f \\\" g"),
                (TokenKind::Comment, 4, " h "),
            ],
        );
    }

    #[test]
    fn quotes_that_open_no_string_are_passed_over() {
        check("let a = '\"'; // b", &[(TokenKind::Comment, 1, " b")]);
        check("fn a<'a>(b: &'a str) {} // \"c\"", &[(TokenKind::Comment, 1, " \"c\"")]);
        check("let a = '\\''; // b", &[(TokenKind::Comment, 1, " b")]);
    }

    #[test]
    fn raw_strings_end_at_their_own_marks() {
        check(
            "r#\"a \" // b\"# // c",
            &[(TokenKind::Literal, 1, "a \" // b"), (TokenKind::Comment, 1, " c")],
        );
        check("let bar\"a\"", &[(TokenKind::Literal, 1, "a")]);
    }
}
