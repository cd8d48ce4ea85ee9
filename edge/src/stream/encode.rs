//! Writes entries into one buffer, which is handed out as HTTP chunks.
//! Why a cursor and not a tree: rows come as columns and CBOR from gRPC, and go out without being built in between.

use bytes::{BufMut, Bytes, BytesMut};

use super::{ARRAY, BOOL, BYTES, FLOAT, INT, KEY_END, NULL, OBJECT, TEXT};

/// Stands at a path; a value written is the entry of that path.
#[derive(Debug, Default)]
pub struct Encoder {
    out: BytesMut,
    path: Vec<u8>,
}

impl Encoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes written and not yet taken.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Takes what was written. The path stays.
    pub fn take(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    /// Writes one member of the map that stands at the path. The empty key has no encoding: such a member is left out.
    pub fn member(&mut self, key: &str, write: impl FnOnce(&mut Self)) {
        if key.is_empty() {
            return;
        }
        let end = self.path.len();
        self.path.extend_from_slice(key.as_bytes());
        self.path.push(KEY_END);
        write(self);
        self.path.truncate(end);
    }

    /// Writes one element of the list, or one member with an integer key (a step), that stands at the path.
    pub fn element(&mut self, key: i64, write: impl FnOnce(&mut Self)) {
        let end = self.path.len();
        self.path.push(KEY_END);
        self.path.extend_from_slice(&key.to_be_bytes());
        self.path.push(KEY_END);
        write(self);
        self.path.truncate(end);
    }

    pub fn null(&mut self) {
        self.entry(NULL, &[]);
    }

    pub fn bool(&mut self, value: bool) {
        self.entry(BOOL, &[u8::from(value)]);
    }

    pub fn int(&mut self, value: i64) {
        self.entry(INT, &value.to_le_bytes());
    }

    pub fn float(&mut self, value: f64) {
        self.entry(FLOAT, &value.to_le_bytes());
    }

    pub fn text(&mut self, value: &str) {
        self.entry(TEXT, value.as_bytes());
    }

    pub fn bytes(&mut self, value: &[u8]) {
        self.entry(BYTES, value);
    }

    /// The flag that stands before the elements of a list.
    pub fn array(&mut self) {
        self.entry(ARRAY, &[]);
    }

    /// The flag of an empty map.
    pub fn empty_object(&mut self) {
        self.entry(OBJECT, &[]);
    }

    /// A number array: readers take its doubles straight from the bytes.
    pub fn doubles(&mut self, values: impl ExactSizeIterator<Item = f64>) {
        let count = values.len();
        self.member("type", |it| it.text("numpy"));
        self.member("shape", |it| it.int(count as i64));
        self.member("dtype", |it| it.text("float64"));
        self.member("blob", |it| {
            it.header(BYTES, count * 8);
            values.for_each(|value| it.out.put_f64_le(value));
        });
    }

    /// Begins a member that holds `length` bytes, which `raw` writes. False if no entry can be so long.
    #[must_use]
    pub fn begin_bytes(&mut self, key: &str, length: u64) -> bool {
        let Some(length) = usize::try_from(length).ok().filter(|length| *length < u32::MAX as usize) else {
            return false;
        };
        self.member(key, |it| {
            it.head(BYTES, length);
        });
        true
    }

    /// More of the bytes that were begun.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn entry(&mut self, tag: u8, payload: &[u8]) {
        self.header(tag, payload.len());
        self.out.extend_from_slice(payload);
    }

    /// The same, with room for the payload that is written next.
    fn header(&mut self, tag: u8, payload: usize) {
        self.out.reserve(9 + self.path.len() + payload);
        self.head(tag, payload);
    }

    /// Everything of an entry before its payload. Lengths fit: a row is far below 4 GiB, as gRPC messages are.
    fn head(&mut self, tag: u8, payload: usize) {
        self.out.put_u32_le(self.path.len() as u32);
        self.out.extend_from_slice(&self.path);
        self.out.put_u32_le(payload as u32 + 1);
        self.out.put_u8(tag);
    }
}
