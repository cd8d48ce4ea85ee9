//! Text of string tokens, whose escapes the scanner has checked. A lone surrogate, which Python
//! writes and UTF-8 cannot represent, becomes U+FFFD.

use std::borrow::Cow;

use super::scan::{JsonKind, JsonToken};

impl<'a> JsonToken<'a> {
    /// Returns the text of a string token, with escapes resolved.
    pub fn decode(&self) -> Cow<'a, str> {
        match self.kind {
            JsonKind::EscapedText => Cow::Owned(unescape(self.text)),
            _ => Cow::Borrowed(self.text),
        }
    }
}

fn unescape(mut text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    while let Some(at) = text.find('\\') {
        out.push_str(&text[..at]);
        let (character, length) = escape(&text[at..]);
        out.push(character);
        text = &text[at + length..];
    }
    out.push_str(text);
    out
}

/// Returns the character of the escape at the start of `text`, and the escape's length.
fn escape(text: &str) -> (char, usize) {
    match text.as_bytes()[1] {
        b'u' => unicode_escape(text),
        b'b' => ('\u{8}', 2),
        b'f' => ('\u{c}', 2),
        b'n' => ('\n', 2),
        b'r' => ('\r', 2),
        b't' => ('\t', 2),
        other => (char::from(other), 2),
    }
}

fn unicode_escape(text: &str) -> (char, usize) {
    let first = unit(text).unwrap_or(0xfffd);
    match first {
        0xd800..0xdc00 => match unit(&text[6..]) {
            Some(second @ 0xdc00..0xe000) => {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
            }
            _ => (char::REPLACEMENT_CHARACTER, 6),
        },
        _ => (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6),
    }
}

/// Returns the UTF-16 code unit of a `\uXXXX` at the start of `text`.
fn unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u32::from_str_radix(digits, 16).ok()
}

/// Returns well-formed JSON text with U+FFFD in place of every lone surrogate, for readers that
/// reject them.
pub fn without_lone_surrogates(json: &str) -> Cow<'_, str> {
    if !json.contains("\\u") {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let length = if rest.as_bytes()[at + 1] == b'u' { unicode_escape(&rest[at..]) } else { ('\\', 2) };
        let lone = length.0 == char::REPLACEMENT_CHARACTER;
        out.push_str(&rest[..at]);
        out.push_str(if lone { "\\ufffd" } else { &rest[at..at + length.1] });
        rest = &rest[at + length.1..];
    }
    out.push_str(rest);
    if out == json { Cow::Borrowed(json) } else { Cow::Owned(out) }
}
