//! Methods of values, by type; only methods that read, because queries cannot modify anything. By
//! contract, a name that a type does not have is None, so calling it raises.

mod collection;
mod number;
mod search;
mod text;

use super::arguments::Arguments;
use super::{Exception, Machine, Result};
use crate::names::Member;
use crate::value::Value;
pub(super) use text::cap_words;

pub(super) fn call_method<'a>(
    machine: &Machine<'a>,
    object: Value<'a>,
    member: Member,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    if !has_method(object, member) {
        return Err(Exception::TypeError.into());
    }
    match object {
        Value::Text(text) => text::text_method(machine, text, member, arguments),
        Value::Time(seconds) if number::has_float_method(member) => {
            number::float_method(&machine.arena, seconds, member, arguments)
        }
        Value::Time(seconds) => machine.clock.time_method(&machine.arena, seconds, member, arguments),
        Value::Bool(_) | Value::Int(_) | Value::Big(_) => {
            number::int_method(&machine.arena, object, member, arguments)
        }
        Value::Float(value) | Value::Span(value) => {
            number::float_method(&machine.arena, value, member, arguments)
        }
        Value::Complex(real, imaginary) => Ok(Value::Complex(real, -imaginary)),
        Value::Bytes(bytes) => search::bytes_method(&machine.arena, bytes, member, arguments),
        _ => collection::collection_method(machine, object, member, arguments),
    }
}

pub(super) fn has_method(object: Value<'_>, member: Member) -> bool {
    match object {
        Value::Text(_) => text::has_method(member),
        Value::Bool(_) | Value::Int(_) | Value::Big(_) => number::has_int_method(member),
        Value::Float(_) => number::has_float_method(member),
        Value::Time(_) => number::has_time_method(member) || number::has_float_method(member),
        Value::Span(_) => member == Member::TotalSeconds || number::has_float_method(member),
        Value::Complex(..) => member == Member::Conjugate,
        Value::Bytes(_) => search::has_bytes_method(member),
        _ => collection::has_method(object, member),
    }
}
