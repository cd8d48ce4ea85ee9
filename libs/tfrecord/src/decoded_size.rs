//! The memory that an event takes once it is decoded, estimated before. Two bytes of a record can become a value of
//! hundreds of bytes, so that a limit on the bytes of records would let a file take tens of gigabytes.

use matyan_protobuf::{Field, Result, fields};

use crate::{Dimension, messages::SummaryValue};

/// Most memory that an event may take, besides contents of any length such as images. A writer that puts a hundred
/// thousand values in an event stays below it.
const MAX_DECODED_BYTES: usize = 128 << 20;

/// A number takes at most eight times its bytes in a list.
const NUMBER_GROWTH: usize = 8;

/// Numbers of fields of events, of their summaries, of the values in these, and of their tensors.
const SUMMARY: u64 = 5;
const VALUE: u64 = 1;
const TENSOR: u64 = 8;
const SHAPE: u64 = 2;
const CONTENT: u64 = 4;
const TEXT: u64 = 8;

/// Whether an event that is decoded takes little more memory than its bytes.
pub(crate) fn is_bounded(event: &[u8]) -> Result<bool> {
    let mut bytes = 0;
    for summary in contents(event, SUMMARY) {
        for value in contents(summary?, VALUE) {
            bytes += size_of::<SummaryValue>();
            for tensor in contents(value?, TENSOR) {
                bytes += tensor_bytes(tensor?)?;
            }
            if bytes > MAX_DECODED_BYTES {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn tensor_bytes(tensor: &[u8]) -> Result<usize> {
    let mut bytes = 0;
    for field in fields(tensor) {
        bytes += match field? {
            (_, Field::Varint(_)) => size_of::<i64>(),
            (CONTENT, _) => 0,
            (TEXT, _) => size_of::<Vec<u8>>(),
            // A dimension takes two bytes or more.
            (SHAPE, Field::Bytes(shape)) => shape.len() / 2 * size_of::<Dimension>(),
            (_, Field::Bytes(numbers)) => numbers.len() * NUMBER_GROWTH,
        };
    }
    Ok(bytes)
}

/// The contents of a field of a message.
fn contents(message: &[u8], wanted: u64) -> impl Iterator<Item = Result<&[u8]>> {
    fields(message).filter_map(move |field| match field {
        Ok((number, Field::Bytes(content))) if number == wanted => Some(Ok(content)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const INTEGERS: u64 = 10;
    const IMAGE: u64 = 4;
    const DIMENSION: u64 = 2;

    /// A message with a field of this content.
    fn message(number: u64, content: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        prost::encoding::encode_varint(number << 3 | 2, &mut message);
        prost::encoding::encode_varint(content.len() as u64, &mut message);
        [&message, content].concat()
    }

    /// An event with a field at the end of a path of fields.
    fn event(path: &[u64], content: &[u8]) -> Vec<u8> {
        path.iter().rev().fold(content.to_vec(), |content, number| message(*number, &content))
    }

    /// An event with this number of values.
    pub(crate) fn event_of_values(count: usize) -> Vec<u8> {
        event(&[SUMMARY], &message(VALUE, b"").repeat(count))
    }

    #[test]
    fn rule_72_events_that_would_grow_are_known_before_they_are_decoded() {
        assert_eq!(is_bounded(&event_of_values(100_000)), Ok(true));
        assert_eq!(is_bounded(&event_of_values(1_000_000)), Ok(false));
        let texts = message(TEXT, b"").repeat(6 << 20);
        assert_eq!(is_bounded(&event(&[SUMMARY, VALUE, TENSOR], &texts)), Ok(false));
        let dimensions = message(DIMENSION, b"").repeat(20 << 20);
        assert_eq!(is_bounded(&event(&[SUMMARY, VALUE, TENSOR, SHAPE], &dimensions)), Ok(false));
        let integers = vec![0; 17 << 20];
        assert_eq!(is_bounded(&event(&[SUMMARY, VALUE, TENSOR, INTEGERS], &integers)), Ok(false));
        // As many as are read of a tensor.
        let integers = vec![0; 8 << 20];
        assert_eq!(is_bounded(&event(&[SUMMARY, VALUE, TENSOR, INTEGERS], &integers)), Ok(true));
    }

    #[test]
    fn contents_may_be_long() {
        let content = vec![0; MAX_DECODED_BYTES + 1];
        for path in [
            &[SUMMARY, VALUE, IMAGE, CONTENT],
            &[SUMMARY, VALUE, TENSOR, CONTENT],
            &[SUMMARY, VALUE, TENSOR, TEXT],
        ] {
            assert_eq!(is_bounded(&event(path, &content)), Ok(true), "{path:?}");
        }
    }

    #[test]
    fn an_event_that_is_cut_off_is_no_event() {
        let event = event(&[SUMMARY, VALUE, TENSOR, TEXT], b"text");
        assert!(is_bounded(&event[..event.len() - 1]).is_err());
    }
}
