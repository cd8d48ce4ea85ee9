//! Indexing and slicing; positions in strings count characters. Access to a missing item fails.
//! Slices are clamped as in Python, and steps may be negative.

use super::{Arena, Exception, Result, compare, view};
use crate::value::{Range, Value};

pub(super) fn index<'a>(arena: &Arena<'a>, object: Value<'a>, index: Value<'a>) -> Result<Value<'a>> {
    if let Value::Slice(parts) = index {
        return slice(arena, object, parts);
    }
    match object {
        Value::Dict(dict) | Value::Object(dict) => {
            let hash = compare::hash(arena, index)?;
            let found = compare::find_entry(arena, dict, hash, index)?;
            Ok(found.ok_or(Exception::KeyError)?.value)
        }
        Value::List(items) | Value::Tuple(items) => Ok(items[position(index, items.len())?]),
        Value::Text(text) => character(arena, text, index),
        Value::Bytes(bytes) => Ok(Value::Int(i64::from(bytes[position(index, bytes.len())?]))),
        Value::Range(range) => {
            let length = usize::try_from(range.len()).unwrap_or(usize::MAX);
            Ok(Value::Int(range.at(position(index, length)? as i64)))
        }
        Value::Run(run) => match index {
            Value::Text(key) => view::param_of(arena, run, key),
            Value::Tuple([Value::Text(key), rest @ ..]) => view::path_of(arena, run, key, rest),
            _ => Ok(Value::None),
        },
        Value::Metrics(run) => match index {
            Value::Tuple([name, context]) => view::metric_of(arena, run, *name, Some(*context)),
            name => view::metric_of(arena, run, name, None),
        },
        _ => Err(Exception::TypeError.into()),
    }
}

fn position(index: Value<'_>, length: usize) -> Result<usize> {
    let index = match index {
        Value::Big(_) => return Err(Exception::IndexError.into()),
        index => index.small_int().ok_or(Exception::TypeError)?,
    };
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let index = if index < 0 { index.saturating_add(length) } else { index };
    if !(0..length).contains(&index) {
        return Err(Exception::IndexError.into());
    }
    Ok(index as usize)
}

/// Returns a position counted from the start; a negative position counts from the end.
pub(super) fn from_start(position: i64, length: i64) -> i64 {
    if position < 0 { (position + length).max(0) } else { position }
}

/// Returns the offset in bytes of a position in characters.
pub(super) fn byte_offset(text: &str, position: i64) -> usize {
    text.char_indices().nth(position as usize).map_or(text.len(), |(offset, _)| offset)
}

fn character<'a>(arena: &Arena<'a>, text: &'a str, index: Value<'a>) -> Result<Value<'a>> {
    arena.spend_bytes(text.len())?;
    // In ASCII text, character positions are byte offsets.
    if text.is_ascii() {
        let at = position(index, text.len())?;
        return Ok(Value::Text(&text[at..=at]));
    }
    let at = position(index, text.chars().count())?;
    let (start, character) = text.char_indices().nth(at).ok_or(Exception::IndexError)?;
    Ok(Value::Text(&text[start..start + character.len_utf8()]))
}

fn slice<'a>(arena: &Arena<'a>, object: Value<'a>, parts: &[Value<'a>; 3]) -> Result<Value<'a>> {
    match object {
        Value::List(items) => sliced(arena, items, parts).map(Value::List),
        Value::Tuple(items) => sliced(arena, items, parts).map(Value::Tuple),
        Value::Bytes(bytes) => {
            let positions = slice_positions(arena, parts, bytes.len())?;
            let taken: Vec<u8> = positions.map(|at| bytes[at]).collect();
            arena.alloc_bytes(&taken).map(Value::Bytes)
        }
        Value::Text(text) => sliced_text(arena, text, parts),
        Value::Range(range) => sliced_range(arena, range, parts),
        _ => Err(Exception::TypeError.into()),
    }
}

fn sliced<'a>(arena: &Arena<'a>, items: &'a [Value<'a>], parts: &[Value<'a>; 3]) -> Result<&'a [Value<'a>]> {
    let taken: Vec<Value<'a>> = slice_positions(arena, parts, items.len())?.map(|at| items[at]).collect();
    arena.alloc_values(&taken)
}

fn sliced_text<'a>(arena: &Arena<'a>, text: &'a str, parts: &[Value<'a>; 3]) -> Result<Value<'a>> {
    arena.spend_bytes(text.len())?;
    let (start, stop, step) = slice_bounds(parts, text.chars().count())?;
    // A contiguous part of the string can be borrowed.
    if step == 1 {
        let part = if start < stop { &text[byte_offset(text, start)..byte_offset(text, stop)] } else { "" };
        return Ok(Value::Text(part));
    }
    let characters: Vec<char> = text.chars().collect();
    let taken: String = positions(start, stop, step).map(|at| characters[at]).collect();
    arena.text(&taken)
}

fn sliced_range<'a>(arena: &Arena<'a>, range: &Range, parts: &[Value<'a>; 3]) -> Result<Value<'a>> {
    let length = usize::try_from(range.len()).unwrap_or(usize::MAX);
    let (start, stop, step) = slice_bounds(parts, length)?;
    let sliced = Range {
        start: range.at(start),
        stop: range.at(stop),
        step: range.step.checked_mul(step).ok_or(Exception::OverflowError)?,
    };
    arena.alloc(sliced).map(Value::Range)
}

fn slice_positions<'a>(
    arena: &Arena<'a>,
    parts: &[Value<'a>; 3],
    length: usize,
) -> Result<impl Iterator<Item = usize> + use<>> {
    let (start, stop, step) = slice_bounds(parts, length)?;
    arena.spend(length as u64 / 8)?;
    Ok(positions(start, stop, step))
}

/// Clamps a slice to a length as Python does.
fn slice_bounds<'a>(parts: &[Value<'a>; 3], length: usize) -> Result<(i64, i64, i64)> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let step = slice_part(parts[2])?.unwrap_or(1);
    if step == 0 {
        return Err(Exception::ValueError.into());
    }
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let clamp = |bound: i64| {
        let bound = if bound < 0 { bound.saturating_add(length) } else { bound };
        bound.clamp(low, high)
    };
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    let start = slice_part(parts[0])?.map_or(first, clamp);
    let stop = slice_part(parts[1])?.map_or(last, clamp);
    Ok((start, stop, step))
}

fn slice_part(value: Value<'_>) -> Result<Option<i64>> {
    match value {
        Value::None => Ok(None),
        Value::Big(big) => Ok(Some(if big.negative { i64::MIN } else { i64::MAX })),
        value => value.small_int().map(Some).ok_or(Exception::TypeError.into()),
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
