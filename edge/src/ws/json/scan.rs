//! A pull scanner over JSON text: one pass, no recursion, no allocation but the stack of open brackets.
//! It checks the whole grammar, so that everything behind it may rely on well-formed text. Beyond strict JSON it takes NaN,
//! Infinity and -Infinity; like Python it refuses control characters in strings.

use super::FrameError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    True,
    False,
    /// No fraction and no exponent.
    Integer,
    /// Also NaN and both infinities.
    Float,
    Text,
    /// Text with at least one escape.
    EscapedText,
    Array,
    Object,
}

/// One value. Of a string the inside of its quotes, of everything else the whole text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    /// Nesting of an array or object, itself included; saturates.
    pub(super) depth: u16,
    pub(super) text: &'a str,
}

impl<'a> Token<'a> {
    pub(super) const NULL: Token<'static> = Token { kind: Kind::Null, depth: 0, text: "null" };

    fn scalar(kind: Kind, text: &'a str) -> Self {
        Token { kind, depth: 0, text }
    }
}

pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Closing brackets that are still to come, innermost last.
    open: Vec<u8>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Scanner { text, at: 0, open: Vec::new() }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Steps over white space.
    pub(super) fn blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Result<(), FrameError> {
        self.blank();
        if self.peek().is_none() { Ok(()) } else { self.expected("the end") }
    }

    /// Steps over an opening bracket, which the caller has seen.
    pub(super) fn open(&mut self) {
        self.at += 1;
        self.blank();
    }

    /// Steps over `closer` if it stands here.
    pub(super) fn close(&mut self, closer: u8) -> bool {
        let here = self.peek() == Some(closer);
        self.at += usize::from(here);
        here
    }

    /// After an element: true when a comma leads to another, false when `closer` ends the list.
    pub(super) fn next_or_close(&mut self, closer: u8) -> Result<bool, FrameError> {
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

    /// A member's key and the colon behind it.
    pub(super) fn key(&mut self) -> Result<Token<'a>, FrameError> {
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

    /// Steps over `text` if it stands here, and over blanks behind it.
    pub(super) fn skip(&mut self, text: &str) -> bool {
        let here = self.text.as_bytes()[self.at..].starts_with(text.as_bytes());
        if here {
            self.at += text.len();
            self.blank();
        }
        here
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// What has been read since `start`.
    pub(super) fn read_since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    /// The value that begins here, however large.
    pub(super) fn value(&mut self) -> Result<Token<'a>, FrameError> {
        match self.peek() {
            Some(b'{' | b'[') => self.container(),
            _ => self.scalar(),
        }
    }

    /// An array or object, checked without recursion.
    fn container(&mut self) -> Result<Token<'a>, FrameError> {
        let start = self.at;
        let kind = if self.peek() == Some(b'{') { Kind::Object } else { Kind::Array };
        let mut depth = 0;
        self.open.clear();
        loop {
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    self.open();
                    // `}` and `]` stand two places behind their partners in ASCII.
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
                return Ok(Token { kind, depth, text: &self.text[start..self.at] });
            }
        }
    }

    fn scalar(&mut self) -> Result<Token<'a>, FrameError> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'n') => self.word("null", Kind::Null),
            Some(b't') => self.word("true", Kind::True),
            Some(b'f') => self.word("false", Kind::False),
            Some(b'N') => self.word("NaN", Kind::Float),
            Some(b'I') => self.word("Infinity", Kind::Float),
            _ => self.expected("a value"),
        }
    }

    fn word(&mut self, word: &'static str, kind: Kind) -> Result<Token<'a>, FrameError> {
        if !self.text[self.at..].starts_with(word) {
            return self.expected("a value");
        }
        self.at += word.len();
        Ok(Token::scalar(kind, word))
    }

    fn number(&mut self) -> Result<Token<'a>, FrameError> {
        let start = self.at;
        self.close(b'-');
        match self.peek() {
            Some(b'I') => {
                self.word("Infinity", Kind::Float)?;
                return Ok(Token::scalar(Kind::Float, "-Infinity"));
            }
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        let mut kind = Kind::Integer;
        if self.close(b'.') {
            kind = Kind::Float;
            self.digits()?;
        }
        if self.close(b'e') || self.close(b'E') {
            kind = Kind::Float;
            if !self.close(b'-') {
                self.close(b'+');
            }
            self.digits()?;
        }
        Ok(Token::scalar(kind, &self.text[start..self.at]))
    }

    fn digits(&mut self) -> Result<(), FrameError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { self.expected("a digit") }
    }

    fn string(&mut self) -> Result<Token<'a>, FrameError> {
        self.at += 1;
        let start = self.at;
        let mut kind = Kind::Text;
        loop {
            self.at += plain_length(&self.text.as_bytes()[self.at..]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    kind = Kind::EscapedText;
                    self.escape()?;
                }
                Some(_) => return self.expected("no control character in a string"),
                None => return self.expected("the end of a string"),
            }
        }
        let text = &self.text[start..self.at];
        self.at += 1;
        Ok(Token::scalar(kind, text))
    }

    fn escape(&mut self) -> Result<(), FrameError> {
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

    fn expected<T>(&self, expected: &'static str) -> Result<T, FrameError> {
        Err(FrameError::Syntax { at: self.at, expected })
    }
}

/// Bytes before the first quote, backslash or control character. Eight at a time: this is where most of a frame is read.
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // The highest bit of each byte of `word` that is below `limit`; exact up to the first such byte.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGHS;

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
    let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    bytes.len() - rest.len() + rest.iter().position(special).unwrap_or(rest.len())
}
