//! A decoder for streamed responses, written from the format alone, like an independent client.

use std::fmt;

/// One segment of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Text(String),
    Integer(i64),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Array,
    Object,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub path: Vec<Key>,
    pub value: Value,
}

impl Key {
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Integer(_) => "",
        }
    }
}

impl Entry {
    /// The path in readable form: `aaaa/traces/0/name`.
    pub fn path_text(&self) -> String {
        let mut steps = Vec::with_capacity(self.path.len());
        for key in &self.path {
            steps.push(match key {
                Key::Text(text) => text.clone(),
                Key::Integer(integer) => integer.to_string(),
            });
        }
        steps.join("/")
    }

    pub fn top(&self) -> &str {
        self.path.first().map_or("", Key::text)
    }

    pub fn is_progress(&self) -> bool {
        self.top().starts_with("progress_")
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:?}", self.path_text(), self.value)
    }
}

/// All entries of a complete body.
pub fn entries(mut body: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    while !body.is_empty() {
        let path = path(piece(&mut body));
        entries.push(Entry { path, value: value(piece(&mut body)) });
    }
    entries
}

fn take<'b>(bytes: &mut &'b [u8], count: usize) -> &'b [u8] {
    let (taken, rest) = bytes.split_at_checked(count).expect("the body is complete");
    *bytes = rest;
    taken
}

fn piece<'b>(body: &mut &'b [u8]) -> &'b [u8] {
    let length = u32::from_le_bytes(take(body, 4).try_into().expect("four bytes"));
    take(body, length as usize)
}

fn path(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    while let Some(first) = bytes.first() {
        // 0xfe starts an integer key, and ends every key.
        if *first == 0xfe {
            take(&mut bytes, 1);
            keys.push(Key::Integer(i64::from_be_bytes(take(&mut bytes, 8).try_into().expect("eight bytes"))));
        } else {
            let end = bytes.iter().position(|byte| *byte == 0xfe).expect("a key has an end");
            let text = take(&mut bytes, end).to_vec();
            keys.push(Key::Text(String::from_utf8(text).expect("keys are UTF-8")));
        }
        assert_eq!(take(&mut bytes, 1), [0xfe], "every key ends");
    }
    keys
}

fn value(bytes: &[u8]) -> Value {
    let (tag, payload) = bytes.split_first().expect("a value has a tag");
    let eight = || payload.try_into().expect("numbers have eight bytes");
    match tag {
        0 => Value::Null,
        1 => Value::Bool(payload == [1]),
        2 => Value::Integer(i64::from_le_bytes(eight())),
        3 => Value::Float(f64::from_le_bytes(eight())),
        4 => Value::Text(String::from_utf8(payload.to_vec()).expect("text is UTF-8")),
        5 => Value::Bytes(payload.to_vec()),
        6 => Value::Array,
        7 => Value::Object,
        other => panic!("no value has the tag {other}"),
    }
}
