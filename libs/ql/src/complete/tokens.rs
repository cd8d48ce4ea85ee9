//! The tokens of a query that may end anywhere.

use super::is_name;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Name,
    Number,
    /// A text with both quotes.
    Text,
    /// A text that is open at the end, without its quote.
    OpenText {
        quote: char,
    },
    /// A bracket, an operator, a comma or a dot.
    Sign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'q> {
    pub(super) kind: TokenKind,
    pub(super) text: &'q str,
    /// In bytes. A text starts at its quote.
    pub(super) start: usize,
}

impl Token<'_> {
    pub(super) fn is(&self, sign: &str) -> bool {
        self.kind == TokenKind::Sign && self.text == sign
    }

    /// The content of a text. Escapes stay as they are written, except escapes of quotes and
    /// backslashes.
    pub(super) fn unquoted(&self) -> String {
        let inner = &self.text[1..self.text.len() - 1];
        let mut content = String::with_capacity(inner.len());
        let mut characters = inner.chars();
        while let Some(character) = characters.next() {
            match character {
                '\\' => content.extend(characters.next()),
                other => content.push(other),
            }
        }
        content
    }
}

/// The tokens of a text; `None` if it ends in a comment.
pub(super) fn scan(text: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut start = 0;
    while let Some(first) = text[start..].chars().next() {
        let rest = &text[start..];
        let (kind, len) = match first {
            '#' => {
                start += rest.find('\n')?;
                continue;
            }
            '"' | '\'' => match text_len(rest, first) {
                Some(len) => (TokenKind::Text, len),
                None => {
                    let kind = TokenKind::OpenText { quote: first };
                    tokens.push(Token { kind, text: &rest[1..], start });
                    return Some(tokens);
                }
            },
            _ if first.is_whitespace() => {
                start += first.len_utf8();
                continue;
            }
            _ if first.is_ascii_digit() => {
                let len = rest.find(|c| !is_name(c) && c != '.').unwrap_or(rest.len());
                (TokenKind::Number, len)
            }
            _ if is_name(first) => (TokenKind::Name, rest.find(|c| !is_name(c)).unwrap_or(rest.len())),
            _ => {
                let is_pair = ["==", "!=", "<=", ">=", "**", "//"].iter().any(|pair| rest.starts_with(pair));
                (TokenKind::Sign, if is_pair { 2 } else { first.len_utf8() })
            }
        };
        tokens.push(Token { kind, text: &rest[..len], start });
        start += len;
    }
    Some(tokens)
}

/// Length of the text literal that starts here, with its quotes; `None` if it is open at the end.
fn text_len(rest: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}
