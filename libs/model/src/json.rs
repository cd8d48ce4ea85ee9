//! JSON text in Python's dialect, read into a `Value`. Contexts and the envelopes of Matyan 0.3 come in it: bare NaN and
//! Infinity, integers of any size, the last of equal keys, lone surrogates (as U+FFFD). There is no writer: nothing of
//! ours leaves the store as JSON.

use crate::{
    cbor::MAX_DEPTH,
    value::{Map, Value},
};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not valid JSON at byte {at}: {reason}")]
pub struct JsonError {
    pub at: usize,
    pub reason: &'static str,
}

/// Reads one value with nothing but blanks around it.
pub fn parse(text: &str) -> Result<Value, JsonError> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    reader.blanks();
    if reader.at == text.len() { Ok(value) } else { reader.fail("nothing should follow the value") }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.blanks();
        match self.peek() {
            Some(b'{') => self.map(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => Ok(Value::Text(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Value, JsonError> {
        const WORDS: [(&str, Value); 5] = [
            ("null", Value::Null),
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("NaN", Value::Float(f64::NAN)),
            ("Infinity", Value::Float(f64::INFINITY)),
        ];
        for (word, value) in WORDS {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        self.fail("a value was expected")
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.at;
        self.skip(b'-');
        if self.text[self.at..].starts_with("Infinity") {
            self.at += "Infinity".len();
            return Ok(Value::Float(f64::NEG_INFINITY));
        }
        let first = self.peek();
        let digits = self.digits()?;
        if first == Some(b'0') && digits > 1 {
            return self.fail("a number does not begin with 0");
        }
        let mut is_float = false;
        if self.skip(b'.') {
            self.digits()?;
            is_float = true;
        }
        if self.skip(b'e') || self.skip(b'E') {
            let _sign = self.skip(b'+') || self.skip(b'-');
            self.digits()?;
            is_float = true;
        }
        let text = &self.text[start..self.at];
        if is_float {
            return Ok(Value::Float(text.parse().expect("the form of a float was checked")));
        }
        Value::integer_from_decimal(text).map_or_else(|| self.fail("the integer has too many digits"), Ok)
    }

    fn digits(&mut self) -> Result<usize, JsonError> {
        let count = self.text.as_bytes()[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { self.fail("a digit was expected") } else { Ok(count) }
    }

    fn list(&mut self, depth: usize) -> Result<Value, JsonError> {
        let depth = self.deeper(depth)?;
        let mut list = Vec::new();
        self.blanks();
        if self.skip(b']') {
            return Ok(Value::List(list));
        }
        loop {
            list.push(self.value(depth)?);
            self.blanks();
            if self.skip(b']') {
                return Ok(Value::List(list));
            }
            self.expect(b',', "`,` or `]` was expected")?;
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, JsonError> {
        let depth = self.deeper(depth)?;
        let mut map = Map::new();
        self.blanks();
        if self.skip(b'}') {
            return Ok(Value::Map(map));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return self.fail("a key was expected");
            }
            let key = self.string()?;
            self.blanks();
            self.expect(b':', "`:` was expected")?;
            map.insert(key, self.value(depth)?);
            self.blanks();
            if self.skip(b'}') {
                return Ok(Value::Map(map));
            }
            self.expect(b',', "`,` or `}` was expected")?;
        }
    }

    /// Steps over the opening bracket.
    fn deeper(&mut self, depth: usize) -> Result<usize, JsonError> {
        if depth == MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        self.at += 1;
        Ok(depth + 1)
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut string = String::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(plain) = rest.find(['"', '\\']) else { return self.fail("the string does not end") };
            string.push_str(&rest[..plain]);
            self.at += plain + 1;
            if rest.as_bytes()[plain] == b'"' {
                return Ok(string);
            }
            string.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let Some(letter) = self.peek() else { return self.fail("the string does not end") };
        self.at += 1;
        Ok(match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.unit_or_pair()?,
            _ => {
                self.at -= 1;
                return self.fail("an unknown escape");
            }
        })
    }

    /// Four hex digits, and four more if they begin a surrogate pair.
    fn unit_or_pair(&mut self) -> Result<char, JsonError> {
        let high = self.hex4()?;
        let behind = self.at;
        if (0xd800..0xdc00).contains(&high) && self.skip(b'\\') && self.skip(b'u') {
            let low = self.hex4()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).expect("a surrogate pair is a character"));
            }
        }
        self.at = behind;
        Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits else { return self.fail("four hex digits were expected") };
        self.at += 4;
        let digit = |byte: &u8| char::from(*byte).to_digit(16).expect("a hex digit");
        Ok(digits.iter().fold(0, |sum, byte| sum * 16 + digit(byte)))
    }

    fn blanks(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: u8, reason: &'static str) -> Result<(), JsonError> {
        if self.skip(wanted) { Ok(()) } else { self.fail(reason) }
    }

    fn fail<T>(&self, reason: &'static str) -> Result<T, JsonError> {
        Err(JsonError { at: self.at, reason })
    }
}

#[cfg(test)]
mod tests;
