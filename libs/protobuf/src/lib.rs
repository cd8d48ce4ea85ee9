//! Reader of protobuf messages without their schema: fields by number. The formats that are imported
//! need a handful of fields of messages that other projects define.

use std::collections::HashMap;

use bytes::Bytes;
use prost::encoding::decode_varint;

/// The reason bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the message is truncated")]
    Truncated,
    #[error("a number is too long")]
    LongNumber,
    #[error("unknown wire type {0}")]
    UnknownWireType(u64),
}

pub type Result<T> = std::result::Result<T, Error>;

/// Reads the fields of a message in the order in which they were written, each with its number. An error is the last
/// item.
pub fn fields(message: &[u8]) -> impl Iterator<Item = Result<(u64, Field<'_>)>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    Varint(u64),
    /// A content, or a number of fixed size.
    Bytes(&'a [u8]),
}

/// Fields of a message. The last value of a field counts unless the field is repeated.
#[derive(Clone, Debug, Default)]
pub struct FieldsByNumber(HashMap<u64, Vec<FieldValue>>);

#[derive(Clone, Debug)]
enum FieldValue {
    Varint(u64),
    /// Contents, and numbers of fixed size, which nothing reads.
    Bytes(Bytes),
}

impl FieldsByNumber {
    pub fn parse(message: Bytes) -> Result<Self> {
        let mut by_number: HashMap<u64, Vec<FieldValue>> = HashMap::new();
        for field in fields(&message) {
            let (number, value) = field?;
            let value = match value {
                Field::Varint(varint) => FieldValue::Varint(varint),
                Field::Bytes(bytes) => FieldValue::Bytes(message.slice_ref(bytes)),
            };
            by_number.entry(number).or_default().push(value);
        }
        Ok(Self(by_number))
    }

    pub fn contains(&self, number: u64) -> bool {
        self.0.contains_key(&number)
    }

    /// Returns the numbers of all fields, in no particular order.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.0.keys().copied()
    }

    /// Returns a varint as a signed number; 0 if absent.
    pub fn integer(&self, number: u64) -> i64 {
        match self.values(number).last() {
            Some(FieldValue::Varint(varint)) => varint.cast_signed(),
            _ => 0,
        }
    }

    /// Returns bytes; empty if absent.
    pub fn content(&self, number: u64) -> &[u8] {
        self.last_bytes(number).map_or(&[], |bytes| bytes.as_ref())
    }

    /// Returns text; empty if absent.
    pub fn text(&self, number: u64) -> String {
        String::from_utf8_lossy(self.content(number)).into_owned()
    }

    /// Returns a message; an empty one if absent.
    pub fn message(&self, number: u64) -> Result<Self> {
        Self::parse(self.last_bytes(number).cloned().unwrap_or_default())
    }

    /// Returns a repeated message.
    pub fn messages(&self, number: u64) -> Result<Vec<Self>> {
        self.contents(number).map(|bytes| Self::parse(bytes.clone())).collect()
    }

    /// Returns repeated bytes.
    pub fn contents(&self, number: u64) -> impl Iterator<Item = &Bytes> {
        self.values(number).iter().filter_map(|value| match value {
            FieldValue::Bytes(bytes) => Some(bytes),
            FieldValue::Varint(_) => None,
        })
    }

    fn values(&self, number: u64) -> &[FieldValue] {
        self.0.get(&number).map_or(&[], Vec::as_slice)
    }

    /// Returns the last value if it is bytes.
    fn last_bytes(&self, number: u64) -> Option<&Bytes> {
        match self.values(number).last() {
            Some(FieldValue::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<(u64, Field<'a>)> {
    let key = varint(rest)?;
    let value = match key & 7 {
        0 => Field::Varint(varint(rest)?),
        1 => Field::Bytes(taken(rest, 8)?),
        2 => {
            let length = varint(rest)?;
            Field::Bytes(taken(rest, length)?)
        }
        5 => Field::Bytes(taken(rest, 4)?),
        unknown => return Err(Error::UnknownWireType(unknown)),
    };
    Ok((key >> 3, value))
}

fn varint(rest: &mut &[u8]) -> Result<u64> {
    /// Most bytes of a varint of 64 bits.
    const MOST_BYTES: usize = 10;
    let has_end = rest.iter().take(MOST_BYTES).any(|byte| *byte < 0x80);
    if !has_end && rest.len() < MOST_BYTES {
        return Err(Error::Truncated);
    }
    decode_varint(rest).map_err(|_| Error::LongNumber)
}

fn taken<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8]> {
    let length = usize::try_from(length).map_err(|_| Error::Truncated)?;
    let (taken, left) = rest.split_at_checked(length).ok_or(Error::Truncated)?;
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<FieldsByNumber> {
        FieldsByNumber::parse(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn the_last_value_of_a_field_counts() {
        let message = parse(&[0x08, 1, 0x08, 2, 0x12, 1, b'x', 0x12, 0]).unwrap();
        assert_eq!((message.integer(1), message.content(2), message.content(3)), (2, &[][..], &[][..]));
        assert!(message.contains(2) && !message.contains(3));
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        for (bytes, error) in [
            (&[0x08][..], Error::Truncated),
            (&[0x12, 2, b'x'], Error::Truncated),
            (&[0x09, 0], Error::Truncated),
            (&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Error::Truncated),
            (&[0xff; 10], Error::LongNumber),
            (&[0x0b], Error::UnknownWireType(3)),
        ] {
            assert_eq!(parse(bytes).unwrap_err(), error, "{bytes:?}");
        }
    }
}
