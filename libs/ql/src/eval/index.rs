//! Indexing and slicing; positions in strings count characters. Access to a missing item fails.
//! Slices are clamped as in Python, and steps may be negative.

use super::{Exception, Machine, Result};
use crate::value::{Range, Value};

impl<'a> Machine<'a> {
    pub(super) fn index(&self, object: Value<'a>, index: Value<'a>) -> Result<Value<'a>> {
        if let Value::Slice(parts) = index {
            return self.slice(object, parts);
        }
        match object {
            Value::Dict(dict) | Value::Object(dict) => {
                let hash = self.hash(index)?;
                let found = dict.find(hash, |known| self.equal(*known, index))?;
                Ok(found.ok_or(Exception::KeyError)?.value)
            }
            Value::List(items) | Value::Tuple(items) => Ok(items[self.position(index, items.len())?]),
            Value::Text(text) => self.character(text, index),
            Value::Bytes(bytes) => Ok(Value::Int(i64::from(bytes[self.position(index, bytes.len())?]))),
            Value::Range(range) => {
                let length = usize::try_from(range.len()).unwrap_or(usize::MAX);
                Ok(Value::Int(range.at(self.position(index, length)? as i64)))
            }
            Value::Run => match index {
                Value::Text(key) => self.param_of(key),
                Value::Tuple([Value::Text(key), rest @ ..]) => self.path_of(key, rest),
                _ => Ok(Value::None),
            },
            Value::Metrics => match index {
                Value::Tuple([name, context]) => self.metric_of(*name, Some(*context)),
                name => self.metric_of(name, None),
            },
            _ => Err(Exception::TypeError.into()),
        }
    }

    fn position(&self, index: Value<'a>, length: usize) -> Result<usize> {
        let index = match index {
            Value::Big(_) => return Err(Exception::IndexError.into()),
            index => index.small_int().ok_or(Exception::TypeError)?,
        };
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let index = if index < 0 { index.saturating_add(length) } else { index };
        match (0..length).contains(&index) {
            true => Ok(index as usize),
            false => Err(Exception::IndexError.into()),
        }
    }

    fn character(&self, text: &'a str, index: Value<'a>) -> Result<Value<'a>> {
        self.spend_bytes(text.len())?;
        // In ASCII text, character positions are byte offsets.
        if text.is_ascii() {
            let at = self.position(index, text.len())?;
            return Ok(Value::Text(&text[at..=at]));
        }
        let at = self.position(index, text.chars().count())?;
        let (start, character) = text.char_indices().nth(at).ok_or(Exception::IndexError)?;
        Ok(Value::Text(&text[start..start + character.len_utf8()]))
    }

    fn slice(&self, object: Value<'a>, parts: &[Value<'a>; 3]) -> Result<Value<'a>> {
        match object {
            Value::List(items) => self.sliced(items, parts).map(Value::List),
            Value::Tuple(items) => self.sliced(items, parts).map(Value::Tuple),
            Value::Bytes(bytes) => {
                let positions = self.slice_positions(parts, bytes.len())?;
                let taken: Vec<u8> = positions.map(|at| bytes[at]).collect();
                self.alloc_bytes(&taken).map(Value::Bytes)
            }
            Value::Text(text) => self.sliced_text(text, parts),
            Value::Range(range) => self.sliced_range(range, parts),
            _ => Err(Exception::TypeError.into()),
        }
    }

    fn sliced(&self, items: &'a [Value<'a>], parts: &[Value<'a>; 3]) -> Result<&'a [Value<'a>]> {
        let taken: Vec<Value<'a>> = self.slice_positions(parts, items.len())?.map(|at| items[at]).collect();
        self.alloc_values(&taken)
    }

    fn sliced_text(&self, text: &'a str, parts: &[Value<'a>; 3]) -> Result<Value<'a>> {
        self.spend_bytes(text.len())?;
        let (start, stop, step) = self.slice_bounds(parts, text.chars().count())?;
        // A contiguous part of the string can be borrowed.
        if step == 1 {
            let at = |position: i64| {
                text.char_indices().nth(position as usize).map_or(text.len(), |(offset, _)| offset)
            };
            return Ok(Value::Text(if start < stop { &text[at(start)..at(stop)] } else { "" }));
        }
        let characters: Vec<char> = text.chars().collect();
        let taken: String = positions(start, stop, step).map(|at| characters[at]).collect();
        self.text(&taken)
    }

    fn sliced_range(&self, range: &Range, parts: &[Value<'a>; 3]) -> Result<Value<'a>> {
        let length = usize::try_from(range.len()).unwrap_or(usize::MAX);
        let (start, stop, step) = self.slice_bounds(parts, length)?;
        let sliced = Range {
            start: range.at(start),
            stop: range.at(stop),
            step: range.step.checked_mul(step).ok_or(Exception::OverflowError)?,
        };
        self.alloc(sliced).map(Value::Range)
    }

    fn slice_positions(
        &self,
        parts: &[Value<'a>; 3],
        length: usize,
    ) -> Result<impl Iterator<Item = usize> + use<>> {
        let (start, stop, step) = self.slice_bounds(parts, length)?;
        self.spend(length as u64 / 8)?;
        Ok(positions(start, stop, step))
    }

    /// Clamps a slice to a length as Python does.
    fn slice_bounds(&self, parts: &[Value<'a>; 3], length: usize) -> Result<(i64, i64, i64)> {
        let part = |value: Value<'a>| match value {
            Value::None => Ok(None),
            Value::Big(big) => Ok(Some(if big.negative { i64::MIN } else { i64::MAX })),
            value => value.small_int().map(Some).ok_or(Exception::TypeError),
        };
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let step = part(parts[2])?.unwrap_or(1);
        if step == 0 {
            return Err(Exception::ValueError.into());
        }
        let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
        let clamp = |bound: i64| {
            let bound = if bound < 0 { bound.saturating_add(length) } else { bound };
            bound.clamp(low, high)
        };
        let (first, last) = if step > 0 { (low, high) } else { (high, low) };
        Ok((part(parts[0])?.map_or(first, clamp), part(parts[1])?.map_or(last, clamp), step))
    }
}

fn positions(start: i64, stop: i64, step: i64) -> impl Iterator<Item = usize> + use<> {
    let mut at = start;
    std::iter::from_fn(move || {
        let more = if step > 0 { at < stop } else { at > stop };
        more.then(|| {
            let current = at as usize;
            at = at.saturating_add(step);
            current
        })
    })
}
