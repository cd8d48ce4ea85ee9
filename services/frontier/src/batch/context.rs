//! Contexts: JSON text of an object in Python's dialect, in which NaN and Infinity may stand. This knows whether a text is
//! one, and can give it in strict JSON for envelopes; what two contexts have to do with each other is the model's business.
//! Why a parser of our own: serde_json refuses the bare tokens.

use matyan_proto::limits;

use super::Problem;

const FIELD: &str = "context";

/// No context is the empty text, `null` or `{}`.
pub(super) fn check(text: &str) -> Result<(), Problem> {
    if text.is_empty() {
        return Ok(());
    }
    if text.len() > limits::CONTEXT_BYTES {
        return Err(Problem::too_long(FIELD, text.len(), limits::CONTEXT_BYTES));
    }
    let mut scanner = Scanner::new(text);
    let is_object = text.trim_start().starts_with('{') || text.trim() == "null";
    match scanner.document() {
        Some(()) if is_object => Ok(()),
        Some(()) => Err(Problem::new(FIELD, "is not an object")),
        None => Err(Problem::new(FIELD, format!("is not JSON at byte {}", scanner.at))),
    }
}

/// Appends a checked context as strict JSON: tokens that are not JSON become null, no context is null.
pub(crate) fn write_json(text: &str, json: &mut Vec<u8>) {
    if text.is_empty() {
        return json.extend_from_slice(b"null");
    }
    let mut scanner = Scanner::new(text);
    scanner.document().expect("the context was checked when its batch came");
    let mut from = 0;
    for (start, end) in scanner.strange {
        json.extend_from_slice(&text.as_bytes()[from..start]);
        json.extend_from_slice(b"null");
        from = end;
    }
    json.extend_from_slice(&text.as_bytes()[from..]);
}

/// A recursive descent over the grammar of RFC 8259 and the three tokens. `None` means that it does not fit at `at`.
struct Scanner<'t> {
    bytes: &'t [u8],
    at: usize,
    depth: usize,
    /// Where tokens stand that strict JSON lacks.
    strange: Vec<(usize, usize)>,
}

impl<'t> Scanner<'t> {
    fn new(text: &'t str) -> Self {
        Self { bytes: text.as_bytes(), at: 0, depth: 0, strange: Vec::new() }
    }

    fn document(&mut self) -> Option<()> {
        self.value()?;
        self.blanks();
        (self.at == self.bytes.len()).then_some(())
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> bool {
        let fits = self.peek() == Some(wanted);
        self.at += usize::from(fits);
        fits
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        self.take(wanted).then_some(())
    }

    fn token(&mut self, token: &str) -> Option<()> {
        self.bytes[self.at..].starts_with(token.as_bytes()).then(|| self.at += token.len())
    }

    fn strange_token(&mut self, token: &str) -> Option<()> {
        let start = self.at;
        self.take(b'-');
        self.token(token)?;
        self.strange.push((start, self.at));
        Some(())
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Option<()> {
        self.blanks();
        match self.peek()? {
            b'{' => self.nested(b'}', |scanner| {
                scanner.blanks();
                scanner.string()?;
                scanner.blanks();
                scanner.expect(b':')?;
                scanner.value()
            }),
            b'[' => self.nested(b']', Self::value),
            b'"' => self.string(),
            b't' => self.token("true"),
            b'f' => self.token("false"),
            b'n' => self.token("null"),
            b'N' => self.strange_token("NaN"),
            b'I' => self.strange_token("Infinity"),
            b'-' if self.bytes.get(self.at + 1) == Some(&b'I') => self.strange_token("Infinity"),
            _ => self.number(),
        }
    }

    /// What stands between an opening bracket, which is next, and `end`.
    fn nested(&mut self, end: u8, entry: impl Fn(&mut Self) -> Option<()>) -> Option<()> {
        if self.depth == limits::VALUE_DEPTH {
            return None;
        }
        self.depth += 1;
        self.at += 1;
        self.blanks();
        if !self.take(end) {
            loop {
                entry(self)?;
                self.blanks();
                if self.take(end) {
                    break;
                }
                self.expect(b',')?;
            }
        }
        self.depth -= 1;
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.escape()?,
                0..=0x1f => return None,
                _ => self.at += 1,
            }
        }
        self.expect(b'"')
    }

    fn escape(&mut self) -> Option<()> {
        let digits = match self.bytes.get(self.at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 0,
            b'u' => 4,
            _ => return None,
        };
        let code = self.bytes.get(self.at + 2..self.at + 2 + digits)?;
        code.iter().all(u8::is_ascii_hexdigit).then(|| self.at += 2 + digits)
    }

    fn number(&mut self) -> Option<()> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _is_signed = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_json(text: &str, expected: &str) {
        check(text).unwrap_or_else(|problem| panic!("{text}: {problem:?}"));
        let mut json = Vec::new();
        write_json(text, &mut json);
        assert_eq!(String::from_utf8(json).unwrap(), expected);
    }

    #[track_caller]
    fn check_refused(text: &str, reason: &str) {
        let problem = check(text).unwrap_err();
        assert!(problem.field == FIELD && problem.reason.contains(reason), "{text}: {problem:?}");
    }

    #[test]
    fn contexts_become_strict_json() {
        check_json("", "null");
        check_json("null", "null");
        check_json("{}", "{}");
        check_json(r#" {"subset" : "val"} "#, r#" {"subset" : "val"} "#);
        check_json(
            r#"{"x":NaN,"y":[Infinity,-Infinity,-1.5e+10]}"#,
            r#"{"x":null,"y":[null,null,-1.5e+10]}"#,
        );
        check_json(r#"{"NaN":"Infinity \" \ud800 ü"}"#, r#"{"NaN":"Infinity \" \ud800 ü"}"#);
        check_json(
            r#"{"a":{"b":[{},[],true,false,null,0,-0.0,123456789012345678901234]}}"#,
            r#"{"a":{"b":[{},[],true,false,null,0,-0.0,123456789012345678901234]}}"#,
        );
    }

    #[test]
    fn other_texts_are_refused() {
        check_refused("5", "not an object");
        check_refused("[1]", "not an object");
        check_refused("\"x\"", "not an object");
        for text in
            ["{", "{}}", "{a:1}", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":1,}"#, r#"{"a":01}"#, r#"{"a":1.}"#]
        {
            check_refused(text, "not JSON");
        }
        for text in
            [r#"{"a":"\x"}"#, r#"{"a":"\u12g4"}"#, "{\"a\":\"\n\"}", r#"{"a":+1}"#, r#"{"a":nan}"#, " "]
        {
            check_refused(text, "not JSON");
        }
        check_refused(&"{\"a\":".repeat(200), "not JSON");
        check_refused(&format!("{{\"a\":\"{}\"}}", "x".repeat(9_000)), "limit is 8192");
    }

    proptest! {
        /// Strict JSON in, the same out: nothing is refused and nothing is changed.
        #[test]
        fn strict_json_passes(keys in prop::collection::vec(".*", 0..4), number: f64, text: String) {
            let values: Vec<_> = keys.iter().map(|key| (key.clone(), serde_json::json!([number, text, {"n": null}]))).collect();
            let context = serde_json::Value::Object(values.into_iter().collect()).to_string();
            prop_assume!(context.len() <= limits::CONTEXT_BYTES);
            check(&context).unwrap();
            let mut json = Vec::new();
            write_json(&context, &mut json);
            prop_assert_eq!(String::from_utf8(json).unwrap(), context);
        }

        #[test]
        fn no_text_breaks_it(text in "[\\[\\]{}\",:\\\\0-9eNa.nul -]*") {
            if check(&text).is_ok() {
                write_json(&text, &mut Vec::new());
            }
        }
    }
}
