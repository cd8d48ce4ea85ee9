//! Comparison operators, and `in` for every container.

use std::cmp::Ordering;

use super::compare::identical;
use super::{Arena, Exception, Machine, Result, compare, view};
use crate::tree::{Comparison, Display, Node};
use crate::value::Value;
use crate::value::table::TableEntry;

#[inline]
pub(super) fn compare<'a>(
    machine: &Machine<'a>,
    operator: Comparison,
    left: Value<'a>,
    right: Value<'a>,
) -> Result<bool> {
    match operator {
        Comparison::Eq => compare::equal(&machine.arena, left, right),
        Comparison::NotEq => compare::equal(&machine.arena, left, right).map(|equal| !equal),
        Comparison::Less => compare::ordered(&machine.arena, left, right, Ordering::is_lt),
        Comparison::LessEq => compare::ordered(&machine.arena, left, right, Ordering::is_le),
        Comparison::Greater => compare::ordered(&machine.arena, left, right, Ordering::is_gt),
        Comparison::GreaterEq => compare::ordered(&machine.arena, left, right, Ordering::is_ge),
        Comparison::Is => Ok(identical(left, right)),
        Comparison::IsNot => Ok(!identical(left, right)),
        Comparison::In => contains(machine, right, left),
        Comparison::NotIn => contains(machine, right, left).map(|found| !found),
    }
}

pub(super) fn in_constants<'a>(
    arena: &Arena<'a>,
    needle: Value<'a>,
    haystack: &'a Node,
) -> Result<Option<bool>> {
    let Some(constants) = haystack.constants() else { return Ok(None) };
    // Searching a set raises for an unhashable value.
    if matches!(haystack, Node::Display(Display::Set, _)) {
        compare::hash(arena, needle)?;
    }
    for constant in constants {
        arena.spend(1)?;
        if compare::equal(arena, needle, Value::constant(constant))? {
            return Ok(Some(true));
        }
    }
    Ok(Some(false))
}

pub(super) fn contains<'a>(machine: &Machine<'a>, container: Value<'a>, item: Value<'a>) -> Result<bool> {
    match container {
        Value::Text(text) => {
            let part = item.text().ok_or(Exception::TypeError)?;
            machine.arena.spend_bytes(text.len())?;
            Ok(text.contains(part))
        }
        Value::Tags(run) => view::has_tag(&machine.arena, run, item),
        Value::Metrics(run) => view::has_sequence(&machine.arena, run, item),
        Value::Run(run) => view::has_param(&machine.arena, run, item),
        Value::Dict(dict) | Value::Object(dict) => {
            Ok(compare::find_entry(&machine.arena, dict, compare::hash(&machine.arena, item)?, item)?
                .is_some())
        }
        Value::Set(set) => {
            // A set is looked up as the equal frozen set.
            let key = match item {
                Value::Set(inner) => machine.arena.alloc(inner.frozen()).map(Value::Set)?,
                item => item,
            };
            let entry = TableEntry { hash: compare::hash(&machine.arena, key)?, key, value: Value::None };
            compare::in_set(&machine.arena, set, &entry)
        }
        Value::Bytes(bytes) => bytes_contain(&machine.arena, bytes, item),
        Value::Range(range) => match (item.small_int(), item.float()) {
            (Some(int), _) => Ok(in_range(range, int)),
            (None, Some(float)) => Ok(float as i64 as f64 == float && in_range(range, float as i64)),
            (None, None) => Ok(false),
        },
        _ => {
            let mut found = false;
            machine.each(container, &mut |value| {
                found = compare::equal(&machine.arena, value, item)?;
                Ok(!found)
            })?;
            Ok(found)
        }
    }
}

fn bytes_contain<'a>(arena: &Arena<'a>, bytes: &[u8], item: Value<'a>) -> Result<bool> {
    arena.spend_bytes(bytes.len())?;
    match item {
        Value::Bytes(part) => Ok(memchr::memmem::find(bytes, part).is_some()),
        item => {
            let byte = u8::try_from(item.small_int().ok_or(Exception::TypeError)?);
            Ok(bytes.contains(&byte.map_err(|_| Exception::ValueError)?))
        }
    }
}

fn in_range(range: &crate::value::Range, item: i64) -> bool {
    let offset = i128::from(item) - i128::from(range.start);
    let step = i128::from(range.step);
    offset % step == 0 && (0..i128::from(range.len())).contains(&(offset / step))
}
