//! A pull scanner of JSON text: a single pass without recursion, which allocates only the stack of
//! open brackets. It checks the whole grammar, so that its callers can rely on well-formed text.
//! Like Python, it accepts NaN, Infinity, and -Infinity, and rejects control characters in strings.

use super::JsonSyntaxError;

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonKind {
    /// `null`
    Null,
    /// `true`
    True,
    /// `false`
    False,
    /// A number without a fraction and an exponent.
    Integer,
    /// Any other number, including NaN and the infinities.
    Float,
    /// A string without escapes.
    Text,
    /// A string with at least one escape.
    EscapedText,
    /// An array with its elements.
    Array,
    /// An object with its members.
    Object,
}

impl JsonKind {
    /// Returns the name for error messages.
    pub fn noun(self) -> &'static str {
        match self {
            JsonKind::Null => "null",
            JsonKind::True | JsonKind::False => "a boolean",
            JsonKind::Integer => "an integer",
            JsonKind::Float => "a number",
            JsonKind::Text | JsonKind::EscapedText => "text",
            JsonKind::Array => "an array",
            JsonKind::Object => "an object",
        }
    }
}

/// A value. `text` is its whole text, or that between the quotes of a string.
#[derive(Clone, Copy, Debug)]
pub struct JsonToken<'a> {
    /// Kind of the value.
    pub kind: JsonKind,
    /// Number of nested arrays and objects, including this one; saturates.
    pub depth: u16,
    /// Text of the value.
    pub text: &'a str,
}

impl<'a> JsonToken<'a> {
    /// A `null` that stands for an absent value.
    pub const NULL: JsonToken<'static> = JsonToken { kind: JsonKind::Null, depth: 0, text: "null" };

    fn scalar(kind: JsonKind, text: &'a str) -> Self {
        JsonToken { kind, depth: 0, text }
    }
}

/// A position in JSON text.
///
/// ```
/// use matyan_value::json::{JsonSyntaxError, JsonKind, JsonScanner};
///
/// let mut scanner = JsonScanner::new(r#"{"loss": NaN}"#);
/// scanner.open();
/// assert_eq!(scanner.key()?.text, "loss");
/// assert_eq!(scanner.value()?.kind, JsonKind::Float);
/// assert!(!scanner.next_or_close(b'}')?);
/// scanner.end()?;
/// # Ok::<(), JsonSyntaxError>(())
/// ```
#[derive(Debug)]
pub struct JsonScanner<'a> {
    text: &'a str,
    at: usize,
    /// Closing brackets of the open arrays and objects, innermost last.
    open: Vec<u8>,
}

impl<'a> JsonScanner<'a> {
    /// Creates a scanner at the first byte.
    pub fn new(text: &'a str) -> Self {
        JsonScanner { text, at: 0, open: Vec::new() }
    }

    /// Returns the next byte; `None` at the end.
    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Skips white space.
    #[inline]
    pub fn blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Fails unless only white space is left.
    pub fn end(&mut self) -> Result<(), JsonSyntaxError> {
        self.blank();
        if self.peek().is_none() { Ok(()) } else { self.expected("the end") }
    }

    /// Skips an opening bracket, after the caller has peeked at it.
    #[inline]
    pub fn open(&mut self) {
        self.at += 1;
        self.blank();
    }

    /// Skips `closer` if it is next.
    #[inline]
    pub fn close(&mut self, closer: u8) -> bool {
        let here = self.peek() == Some(closer);
        self.at += usize::from(here);
        here
    }

    /// Skips a comma or `closer` after an element. Returns true if another element follows.
    #[inline]
    pub fn next_or_close(&mut self, closer: u8) -> Result<bool, JsonSyntaxError> {
        self.blank();
        if self.close(closer) {
            return Ok(false);
        }
        if !self.close(b',') {
            return self.expected(if closer == b']' { "`,` or `]`" } else { "`,` or `}`" });
        }
        self.blank();
        Ok(true)
    }

    /// Reads the key of a member, and skips the colon.
    pub fn key(&mut self) -> Result<JsonToken<'a>, JsonSyntaxError> {
        if self.peek() != Some(b'"') {
            return self.expected("a key in double quotes");
        }
        let key = self.string()?;
        self.blank();
        if !self.close(b':') {
            return self.expected("`:`");
        }
        self.blank();
        Ok(key)
    }

    /// Skips `text` and the white space after it, if `text` is next.
    #[inline]
    pub fn skip(&mut self, text: &str) -> bool {
        let here = self.text.as_bytes()[self.at..].starts_with(text.as_bytes());
        if here {
            self.at += text.len();
            self.blank();
        }
        here
    }

    /// Skips one byte, which must be an ASCII character.
    #[inline]
    pub(super) fn step(&mut self) {
        self.at += 1;
    }

    /// Returns the position in bytes.
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Returns the text from the position `start` to the current one.
    #[inline]
    pub fn read_since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    /// Reads the next value; of an array or object, all of it.
    #[inline]
    pub fn value(&mut self) -> Result<JsonToken<'a>, JsonSyntaxError> {
        match self.peek() {
            Some(b'{' | b'[') => self.container(),
            _ => self.scalar(),
        }
    }

    /// Reads an array or object without recursion.
    fn container(&mut self) -> Result<JsonToken<'a>, JsonSyntaxError> {
        let start = self.at;
        let kind = if self.peek() == Some(b'{') { JsonKind::Object } else { JsonKind::Array };
        let mut depth = 0;
        self.open.clear();
        loop {
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    self.open();
                    // In ASCII, `}` and `]` are two after `{` and `[`.
                    let closer = bracket + 2;
                    self.open.push(closer);
                    depth = depth.max(self.open.len());
                    if !self.close(closer) {
                        if closer == b'}' {
                            self.key()?;
                        }
                        continue;
                    }
                    self.open.pop();
                }
                _ => {
                    self.scalar()?;
                }
            }
            while let Some(&closer) = self.open.last() {
                if self.next_or_close(closer)? {
                    if closer == b'}' {
                        self.key()?;
                    }
                    break;
                }
                self.open.pop();
            }
            if self.open.is_empty() {
                let depth = u16::try_from(depth).unwrap_or(u16::MAX);
                return Ok(JsonToken { kind, depth, text: &self.text[start..self.at] });
            }
        }
    }

    fn scalar(&mut self) -> Result<JsonToken<'a>, JsonSyntaxError> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'n') => self.word("null", JsonKind::Null),
            Some(b't') => self.word("true", JsonKind::True),
            Some(b'f') => self.word("false", JsonKind::False),
            Some(b'N') => self.word("NaN", JsonKind::Float),
            Some(b'I') => self.word("Infinity", JsonKind::Float),
            _ => self.expected("a value"),
        }
    }

    fn word(&mut self, word: &'static str, kind: JsonKind) -> Result<JsonToken<'a>, JsonSyntaxError> {
        if !self.text[self.at..].starts_with(word) {
            return self.expected("a value");
        }
        self.at += word.len();
        Ok(JsonToken::scalar(kind, word))
    }

    fn number(&mut self) -> Result<JsonToken<'a>, JsonSyntaxError> {
        let start = self.at;
        self.close(b'-');
        match self.peek() {
            Some(b'I') => {
                self.word("Infinity", JsonKind::Float)?;
                return Ok(JsonToken::scalar(JsonKind::Float, "-Infinity"));
            }
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        let mut kind = JsonKind::Integer;
        if self.close(b'.') {
            kind = JsonKind::Float;
            self.digits()?;
        }
        if self.close(b'e') || self.close(b'E') {
            kind = JsonKind::Float;
            if !self.close(b'-') {
                self.close(b'+');
            }
            self.digits()?;
        }
        Ok(JsonToken::scalar(kind, &self.text[start..self.at]))
    }

    fn digits(&mut self) -> Result<(), JsonSyntaxError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { self.expected("a digit") }
    }

    fn string(&mut self) -> Result<JsonToken<'a>, JsonSyntaxError> {
        self.at += 1;
        let start = self.at;
        let mut kind = JsonKind::Text;
        loop {
            self.at += plain_length(&self.text.as_bytes()[self.at..]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    kind = JsonKind::EscapedText;
                    self.escape()?;
                }
                Some(_) => return self.expected("no control character in a string"),
                None => return self.expected("the end of a string"),
            }
        }
        let text = &self.text[start..self.at];
        self.at += 1;
        Ok(JsonToken::scalar(kind, text))
    }

    fn escape(&mut self) -> Result<(), JsonSyntaxError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return self.expected("four hexadecimal digits");
                    }
                    self.at += 1;
                }
            }
            _ => return self.expected("an escape"),
        }
        Ok(())
    }

    fn expected<T>(&self, expected: &'static str) -> Result<T, JsonSyntaxError> {
        Err(JsonSyntaxError { at: self.at, expected })
    }
}

/// Number of bytes before the first quote, backslash or control character. Checks eight bytes at a
/// time, because most bytes of a frame are checked here.
pub(super) fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    /// The highest bit of each byte of `word` that is below `limit`; exact up to the first such
    /// byte.
    fn below(word: u64, limit: u64) -> u64 {
        word.wrapping_sub(ONES * limit) & !word & HIGHS
    }
    let (chunks, rest) = bytes.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let word = u64::from_le_bytes(*chunk);
        let special = below(word, 0x20)
            | below(word ^ (ONES * u64::from(b'"')), 1)
            | below(word ^ (ONES * u64::from(b'\\')), 1);
        if special != 0 {
            return index * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let special = rest.iter().position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\');
    bytes.len() - rest.len() + special.unwrap_or(rest.len())
}
