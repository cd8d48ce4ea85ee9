//! Formatting: f-strings with conversions and format specs, and `%` on strings. `str.format` is
//! refused by contract because it reads attributes by name.

mod float;
mod percent;
mod spec;

use super::{Arena, Exception, Machine, Result, repr};
use crate::tree::{Conversion, FormatPiece};
use crate::value::{Environment, Value};
pub(super) use percent::percent;
use spec::FormatSpec;

pub(super) fn f_string<'a>(
    machine: &Machine<'a>,
    environment: Environment<'a>,
    pieces: &'a [FormatPiece],
) -> Result<Value<'a>> {
    let text = format_pieces(machine, environment, pieces)?;
    machine.arena.text(&text)
}

fn format_pieces<'a>(
    machine: &Machine<'a>,
    environment: Environment<'a>,
    pieces: &'a [FormatPiece],
) -> Result<String> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            FormatPiece::Text(literal) => text.push_str(literal),
            FormatPiece::Value { value, conversion, spec } => {
                let value = converted(&machine.arena, machine.eval(environment, value)?, *conversion)?;
                let spec = match spec {
                    Some(spec) => format_pieces(machine, environment, spec)?,
                    None => String::new(),
                };
                text.push_str(&formatted(machine, value, &spec)?);
            }
        }
        machine.arena.check_size(text.len())?;
    }
    Ok(text)
}

fn converted<'a>(arena: &Arena<'a>, value: Value<'a>, conversion: Conversion) -> Result<Value<'a>> {
    match conversion {
        Conversion::None => Ok(value),
        Conversion::Str => repr::to_str(arena, value),
        Conversion::Repr => repr::repr(arena, value),
        Conversion::Ascii => {
            let mut repr = String::new();
            repr::write_repr(arena, &mut repr, value, 0)?;
            arena.text(&super::repr::ascii(&repr))
        }
    }
}

/// `format(value, spec)`.
fn formatted<'a>(machine: &Machine<'a>, value: Value<'a>, spec: &str) -> Result<String> {
    if spec.is_empty() {
        return repr::str_of(&machine.arena, value);
    }
    // Directives make it a format of `strftime`; a trailing `%` is the percentage format.
    if let Value::Time(seconds) = value
        && spec.contains('%')
        && spec.len() > 1
        && !spec.ends_with('%')
    {
        return machine.clock.strftime(&machine.arena, seconds, spec);
    }
    let spec = FormatSpec::parse(spec).ok_or(Exception::ValueError)?;
    // Refuses huge padding before it is built.
    machine.arena.check_size(spec.width.max(spec.precision.unwrap_or(0)))?;
    match value {
        Value::Text(text) => spec.text(text),
        Value::Bool(_) | Value::Int(_) | Value::Big(_) => spec.integer(value),
        Value::Float(number) | Value::Time(number) | Value::Span(number) => spec.float(number),
        _ => Err(Exception::TypeError.into()),
    }
}
