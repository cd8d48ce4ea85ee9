//! Reader of protobuf messages without their schema: fields by number. The formats that are imported
//! need a handful of fields of messages that other projects define.

use std::collections::HashMap;

use bytes::{Buf as _, Bytes};
use prost::encoding::decode_varint;
use pyo3::{create_exception, exceptions::PyValueError, prelude::*, types::PyBytes};

create_exception!(matyan_client._core, ProtobufError, PyValueError, "Bytes that are not a protobuf message.");

/// Fields of a message. The last value of a field counts unless the field is repeated.
#[pyclass(frozen, module = "matyan_client._core")]
pub(crate) struct ProtobufMessage(HashMap<u64, Vec<FieldValue>>);

enum FieldValue {
    Varint(u64),
    /// Contents, and numbers of fixed size until they are used.
    Bytes(Bytes),
}

impl ProtobufMessage {
    fn parse(mut rest: Bytes) -> PyResult<Self> {
        let mut fields: HashMap<u64, Vec<FieldValue>> = HashMap::new();
        while !rest.is_empty() {
            let key = varint(&mut rest)?;
            let value = match key & 7 {
                0 => FieldValue::Varint(varint(&mut rest)?),
                1 => FieldValue::Bytes(taken(&mut rest, 8)?),
                2 => {
                    let length = varint(&mut rest)?;
                    FieldValue::Bytes(taken(&mut rest, length)?)
                }
                5 => FieldValue::Bytes(taken(&mut rest, 4)?),
                unknown => return Err(ProtobufError::new_err(format!("unknown wire type {unknown}"))),
            };
            fields.entry(key >> 3).or_default().push(value);
        }
        Ok(Self(fields))
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

    fn all_bytes(&self, number: u64) -> impl Iterator<Item = &Bytes> {
        self.values(number).iter().filter_map(|value| match value {
            FieldValue::Bytes(bytes) => Some(bytes),
            FieldValue::Varint(_) => None,
        })
    }

    /// Returns the numbers of a repeated field, packed or not.
    fn fixed<const N: usize>(&self, number: u64, convert: fn([u8; N]) -> f64) -> PyResult<Vec<f64>> {
        let mut numbers = Vec::new();
        for bytes in self.all_bytes(number) {
            let (elements, rest) = bytes.as_chunks::<N>();
            if !rest.is_empty() {
                return Err(truncated());
            }
            numbers.extend(elements.iter().map(|element| convert(*element)));
        }
        Ok(numbers)
    }
}

#[pymethods]
impl ProtobufMessage {
    #[new]
    fn new(data: &[u8]) -> PyResult<Self> {
        Self::parse(Bytes::copy_from_slice(data))
    }

    fn __contains__(&self, number: u64) -> bool {
        self.0.contains_key(&number)
    }

    /// Returns a varint as a signed number; 0 if absent.
    fn integer(&self, number: u64) -> i64 {
        match self.values(number).last() {
            Some(FieldValue::Varint(varint)) => varint.cast_signed(),
            _ => 0,
        }
    }

    /// Returns a double; 0 if absent.
    fn double(&self, number: u64) -> f64 {
        let bytes = self.last_bytes(number).and_then(|bytes| bytes.as_ref().try_into().ok());
        bytes.map_or(0.0, f64::from_le_bytes)
    }

    /// Returns a float of 32 bits; 0 if absent.
    fn single(&self, number: u64) -> f64 {
        let bytes = self.last_bytes(number).and_then(|bytes| bytes.as_ref().try_into().ok());
        bytes.map_or(0.0, |bytes| f64::from(f32::from_le_bytes(bytes)))
    }

    /// Returns bytes; empty if absent.
    fn content<'py>(&self, py: Python<'py>, number: u64) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.last_bytes(number).map_or(&[], |bytes| bytes.as_ref()))
    }

    /// Returns text; empty if absent.
    fn text(&self, number: u64) -> String {
        self.last_bytes(number).map_or_else(String::new, |bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// Returns a message; an empty one if absent.
    fn message(&self, number: u64) -> PyResult<Self> {
        Self::parse(self.last_bytes(number).cloned().unwrap_or_default())
    }

    /// Returns a repeated message.
    fn messages(&self, number: u64) -> PyResult<Vec<Self>> {
        self.all_bytes(number).map(|bytes| Self::parse(bytes.clone())).collect()
    }

    /// Returns repeated bytes.
    fn contents<'py>(&self, py: Python<'py>, number: u64) -> Vec<Bound<'py, PyBytes>> {
        self.all_bytes(number).map(|bytes| PyBytes::new(py, bytes)).collect()
    }

    /// Returns repeated doubles, packed or not.
    fn doubles(&self, number: u64) -> PyResult<Vec<f64>> {
        self.fixed(number, f64::from_le_bytes)
    }

    /// Returns repeated floats of 32 bits, packed or not.
    fn singles(&self, number: u64) -> PyResult<Vec<f64>> {
        self.fixed(number, |bytes| f64::from(f32::from_le_bytes(bytes)))
    }

    /// Returns repeated varints, packed or not, as signed numbers.
    fn integers(&self, number: u64) -> PyResult<Vec<i64>> {
        let mut integers = Vec::new();
        for value in self.values(number) {
            match value {
                FieldValue::Varint(varint) => integers.push(varint.cast_signed()),
                FieldValue::Bytes(packed) => {
                    let mut rest = packed.clone();
                    while !rest.is_empty() {
                        integers.push(varint(&mut rest)?.cast_signed());
                    }
                }
            }
        }
        Ok(integers)
    }
}

fn varint(rest: &mut Bytes) -> PyResult<u64> {
    /// Most bytes of a varint of 64 bits.
    const MOST_BYTES: usize = 10;
    let has_end = rest.iter().take(MOST_BYTES).any(|byte| *byte < 0x80);
    if !has_end && rest.len() < MOST_BYTES {
        return Err(truncated());
    }
    decode_varint(rest).map_err(|_| ProtobufError::new_err("a number is too long"))
}

fn taken(rest: &mut Bytes, length: u64) -> PyResult<Bytes> {
    if length > rest.remaining() as u64 {
        return Err(truncated());
    }
    Ok(rest.split_to(length as usize))
}

fn truncated() -> PyErr {
    ProtobufError::new_err("the message is truncated")
}
