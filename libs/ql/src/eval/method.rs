//! Methods of values, by type; only those that read, as queries cannot modify anything. By
//! contract, a name that a type does not have is None, so calling it raises.

mod collection;
mod number;
mod search;
mod text;

use super::names::Arguments;
use super::{Exception, Machine, Result};
use crate::names::Member;
use crate::value::Value;

impl<'a> Machine<'a> {
    pub(super) fn method(
        &self,
        object: Value<'a>,
        member: Member,
        arguments: Arguments<'a>,
    ) -> Result<Value<'a>> {
        if !self.has_method(object, member) {
            return Err(Exception::TypeError.into());
        }
        match object {
            Value::Text(text) => self.text_method(text, member, arguments),
            Value::Time(seconds) if number::has_float_method(member) => {
                self.float_method(seconds, member, arguments)
            }
            Value::Time(seconds) => self.time_method(seconds, member, arguments),
            Value::Bool(_) | Value::Int(_) | Value::Big(_) => self.int_method(object, member, arguments),
            Value::Float(value) | Value::Span(value) => self.float_method(value, member, arguments),
            Value::Complex(real, imaginary) => Ok(Value::Complex(real, -imaginary)),
            Value::Bytes(bytes) => self.bytes_method(bytes, member, arguments),
            _ => self.collection_method(object, member, arguments),
        }
    }

    pub(super) fn has_method(&self, object: Value<'a>, member: Member) -> bool {
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
}
