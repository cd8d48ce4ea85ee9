//! Formatting: f-strings with conversions and format specs, and `%` on strings. `str.format` is
//! refused by contract, as it reads attributes by name.

mod float;
mod percent;
mod spec;

use super::{Exception, Machine, Result};
use crate::tree::{Conversion, FormatPiece};
use crate::value::{Environment, Value};
pub(super) use spec::FormatSpec;

impl<'a> Machine<'a> {
    pub(super) fn f_string(
        &self,
        environment: Environment<'a>,
        pieces: &'a [FormatPiece],
    ) -> Result<Value<'a>> {
        let text = self.pieces(environment, pieces)?;
        self.text(&text)
    }

    fn pieces(&self, environment: Environment<'a>, pieces: &'a [FormatPiece]) -> Result<String> {
        let mut text = String::new();
        for piece in pieces {
            match piece {
                FormatPiece::Text(literal) => text.push_str(literal),
                FormatPiece::Value { value, conversion, spec } => {
                    let value = self.converted(self.eval(environment, value)?, *conversion)?;
                    let spec = match spec {
                        Some(spec) => self.pieces(environment, spec)?,
                        None => String::new(),
                    };
                    text.push_str(&self.formatted(value, &spec)?);
                }
            }
            self.check_size(text.len())?;
        }
        Ok(text)
    }

    fn converted(&self, value: Value<'a>, conversion: Conversion) -> Result<Value<'a>> {
        match conversion {
            Conversion::None => Ok(value),
            Conversion::Str => self.str(value),
            Conversion::Repr => self.repr(value),
            Conversion::Ascii => {
                let mut repr = String::new();
                self.write_repr(&mut repr, value, 0)?;
                self.text(&super::repr::ascii(&repr))
            }
        }
    }

    /// `format(value, spec)`.
    fn formatted(&self, value: Value<'a>, spec: &str) -> Result<String> {
        if spec.is_empty() {
            return self.str_of(value);
        }
        // Directives make it a format of `strftime`; a trailing `%` is the percentage format.
        if let Value::Time(seconds) = value
            && spec.contains('%')
            && spec.len() > 1
            && !spec.ends_with('%')
        {
            return self.strftime(seconds, spec);
        }
        let spec = FormatSpec::parse(spec).ok_or(Exception::ValueError)?;
        // Refuses huge padding before it is built.
        self.check_size(spec.width.max(spec.precision.unwrap_or(0)))?;
        match value {
            Value::Text(text) => spec.text(text),
            Value::Bool(_) | Value::Int(_) | Value::Big(_) => spec.integer(value),
            Value::Float(number) | Value::Time(number) | Value::Span(number) => spec.float(number),
            _ => Err(Exception::TypeError.into()),
        }
    }
}
