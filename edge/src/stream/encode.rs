//! Writes entries into one buffer, which is sent as HTTP chunks.
//! This is a cursor instead of a tree, because rows arrive from gRPC as columns and CBOR, and
//! can be written without building them in between.

use bytes::Bytes;

use super::{ARRAY, BOOL, BYTES, FLOAT, INT, KEY_END, NULL, OBJECT, TEXT};

/// Size of the length that precedes a path.
const LENGTH_BYTES: usize = 4;

/// A cursor at a path; a written value becomes the entry of that path.
#[derive(Debug)]
pub struct Encoder {
    out: Vec<u8>,
    /// The start of each entry: the length of the path, and the path.
    path: Vec<u8>,
    is_inconsistent: bool,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { out: Vec::new(), path: vec![0; LENGTH_BYTES], is_inconsistent: false }
    }
}

impl Encoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of bytes written and not yet taken.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// True if an entry does not have its announced length, so that the rest of the body would be unreadable.
    pub fn is_inconsistent(&self) -> bool {
        self.is_inconsistent
    }

    /// Notes that an entry does not have its announced length.
    pub fn mark_inconsistent(&mut self) {
        self.is_inconsistent = true;
    }

    /// Takes the bytes written so far. The path is kept. Reserves the same capacity for the
    /// next chunk.
    pub fn take(&mut self) -> Bytes {
        let next = Vec::with_capacity(self.out.len());
        std::mem::replace(&mut self.out, next).into()
    }

    /// Writes one member of the map at the current path. The empty key has no encoding, so
    /// such a member is omitted.
    pub fn member(&mut self, key: &str, write: impl FnOnce(&mut Self)) {
        if !key.is_empty() {
            self.below(key.as_bytes(), write);
        }
    }

    /// Like `member`, for a key that is valid UTF-8 and not empty.
    pub(crate) fn below(&mut self, key: &[u8], write: impl FnOnce(&mut Self)) {
        let end = self.path.len();
        self.path.extend_from_slice(key);
        self.path.push(KEY_END);
        self.write_at_path(end, write);
    }

    /// Writes one element of the list at the current path, or one member with an integer
    /// key (a step) of the map.
    pub fn element(&mut self, key: i64, write: impl FnOnce(&mut Self)) {
        let end = self.path.len();
        let mut segment = [KEY_END; 10];
        segment[1..9].copy_from_slice(&key.to_be_bytes());
        self.path.extend_from_slice(&segment);
        self.write_at_path(end, write);
    }

    /// Writes at a path that was just extended, then restores the path that ended at `end`.
    fn write_at_path(&mut self, end: usize, write: impl FnOnce(&mut Self)) {
        self.update_length();
        write(self);
        self.path.truncate(end);
        self.update_length();
    }

    fn update_length(&mut self) {
        let length = (self.path.len() - LENGTH_BYTES) as u32;
        self.path[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    }

    pub fn null(&mut self) {
        self.fixed(null());
    }

    pub fn bool(&mut self, value: bool) {
        self.fixed(bool(value));
    }

    pub fn int(&mut self, value: i64) {
        self.fixed(eight(INT, value.to_le_bytes()));
    }

    pub fn float(&mut self, value: f64) {
        self.fixed(eight(FLOAT, value.to_le_bytes()));
    }

    pub fn text(&mut self, value: &str) {
        self.entry(TEXT, value.as_bytes());
    }

    pub fn bytes(&mut self, value: &[u8]) {
        self.entry(BYTES, value);
    }

    /// Writes the flag that precedes the elements of a list.
    pub fn array(&mut self) {
        self.fixed([1, 0, 0, 0, ARRAY]);
    }

    /// Writes the flag of an empty map.
    pub fn empty_object(&mut self) {
        self.fixed([1, 0, 0, 0, OBJECT]);
    }

    /// Writes a number array: readers take its doubles directly from the bytes.
    pub fn doubles(&mut self, values: impl ExactSizeIterator<Item = f64>) {
        let count = values.len();
        self.member("type", |it| it.text("numpy"));
        self.member("shape", |it| it.int(count as i64));
        self.member("dtype", |it| it.text("float64"));
        self.member("blob", |it| {
            it.head(BYTES, count * 8);
            it.out.reserve(count * 8);
            for value in values {
                it.out.extend_from_slice(&value.to_le_bytes());
            }
        });
    }

    /// Starts a member with `length` bytes, to be written with `append_raw`. The entries are
    /// inconsistent if this is too long for an entry.
    pub fn begin_bytes(&mut self, key: &str, length: u64) {
        // The tag byte also counts towards the 32-bit length.
        match usize::try_from(length).ok().filter(|length| *length < u32::MAX as usize) {
            Some(length) => self.member(key, |it| it.head(BYTES, length)),
            None => self.mark_inconsistent(),
        }
    }

    /// Starts a number array of `count` doubles, whose bytes are to be written with `append_raw`.
    pub fn begin_doubles(&mut self, count: u64) {
        self.member("type", |it| it.text("numpy"));
        self.member("shape", |it| it.int(count.cast_signed()));
        self.member("dtype", |it| it.text("float64"));
        self.begin_bytes("blob", count.saturating_mul(8));
    }

    /// Appends bytes to a member started earlier.
    pub fn append_raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn entry(&mut self, tag: u8, payload: &[u8]) {
        self.head(tag, payload.len());
        self.out.extend_from_slice(payload);
    }

    /// Writes everything that precedes the payload of an entry.
    fn head(&mut self, tag: u8, payload: usize) {
        self.fixed(head(tag, payload));
    }

    /// Writes an entry of fixed size in one step: most values are numbers, and responses
    /// have hundreds of thousands.
    fn fixed<const N: usize>(&mut self, length_and_value: [u8; N]) {
        self.out.reserve(self.path.len() + N);
        self.out.extend_from_slice(&self.path);
        self.out.extend_from_slice(&length_and_value);
    }
}

/// Leaf members with keys that are valid UTF-8 and not empty. The result is the same as `below`
/// followed by a value, in one step.
impl Encoder {
    pub(crate) fn null_member(&mut self, key: &[u8]) {
        self.fixed_member(key, null());
    }

    pub(crate) fn bool_member(&mut self, key: &[u8], value: bool) {
        self.fixed_member(key, bool(value));
    }

    pub(crate) fn int_member(&mut self, key: &[u8], value: i64) {
        self.fixed_member(key, eight(INT, value.to_le_bytes()));
    }

    pub(crate) fn float_member(&mut self, key: &[u8], value: f64) {
        self.fixed_member(key, eight(FLOAT, value.to_le_bytes()));
    }

    /// `value` must be valid UTF-8.
    pub(crate) fn text_member(&mut self, key: &[u8], value: &[u8]) {
        self.fixed_member(key, head(TEXT, value.len()));
        self.out.extend_from_slice(value);
    }

    fn fixed_member<const N: usize>(&mut self, key: &[u8], length_and_value: [u8; N]) {
        let path = &self.path[LENGTH_BYTES..];
        let length = path.len() + key.len() + 1;
        self.out.reserve(LENGTH_BYTES + length + N);
        self.out.extend_from_slice(&(length as u32).to_le_bytes());
        self.out.extend_from_slice(path);
        self.out.extend_from_slice(key);
        self.out.push(KEY_END);
        self.out.extend_from_slice(&length_and_value);
    }
}

fn null() -> [u8; 5] {
    [1, 0, 0, 0, NULL]
}

fn bool(value: bool) -> [u8; 6] {
    [2, 0, 0, 0, BOOL, u8::from(value)]
}

fn eight(tag: u8, [a, b, c, d, e, f, g, h]: [u8; 8]) -> [u8; 13] {
    [9, 0, 0, 0, tag, a, b, c, d, e, f, g, h]
}

/// The length and tag that precede a payload. The length fits, because a row is far below 4
/// GiB, like any gRPC message.
fn head(tag: u8, payload: usize) -> [u8; 5] {
    let [a, b, c, d] = (payload as u32 + 1).to_le_bytes();
    [a, b, c, d, tag]
}
