//! `'%s of %d' % (a, b)`: printf-style formatting with positional values or names from a dict.
//! Every directive needs a value, and every positional value must be used.

use num_bigint::BigInt;
use num_traits::Signed;

use super::float;
use super::spec::pad;
use crate::eval::integer::{integer_of, real_of};
use crate::eval::{Arena, Exception, Result, index, repr};
use crate::limits::MAX_PRECISION;
use crate::value::Value;

/// One directive: `%[(name)][flags][width][.precision]kind`.
#[derive(Default)]
struct Directive {
    alternate: bool,
    zero: bool,
    left: bool,
    space: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

struct Template<'t, 'a> {
    rest: &'t str,
    values: Value<'a>,
    next: usize,
}

pub(in crate::eval) fn percent<'a>(
    arena: &Arena<'a>,
    template: &str,
    values: Value<'a>,
) -> Result<Value<'a>> {
    let mut text = String::new();
    let mut template = Template { rest: template, values, next: 0 };
    while let Some((literal, behind)) = template.rest.split_once('%') {
        text.push_str(literal);
        template.rest = behind;
        directive(arena, &mut template, &mut text)?;
        arena.check_size(text.len())?;
    }
    text.push_str(template.rest);
    if !template.all_used() {
        return Err(Exception::TypeError.into());
    }
    arena.text(&text)
}

fn directive<'a>(arena: &Arena<'a>, template: &mut Template<'_, 'a>, text: &mut String) -> Result<()> {
    arena.spend(1)?;
    if let Some(rest) = template.rest.strip_prefix('%') {
        template.rest = rest;
        text.push('%');
        return Ok(());
    }
    let named = match template.rest.strip_prefix('(') {
        Some(behind) => {
            let (name, rest) = behind.split_once(')').ok_or(Exception::ValueError)?;
            template.rest = rest;
            let name = arena.text(name)?;
            match template.values {
                Value::Dict(_) | Value::Object(_) => Some(index::index(arena, template.values, name)?),
                _ => return Err(Exception::TypeError.into()),
            }
        }
        None => None,
    };
    let mut directive = Directive::default();
    template.flags(&mut directive);
    if let Some(width) = template.size()? {
        directive.left |= width < 0;
        directive.width = usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX);
    }
    if let Some(rest) = template.rest.strip_prefix('.') {
        template.rest = rest;
        let precision = template.size()?.unwrap_or(0);
        directive.precision = Some(usize::try_from(precision.max(0)).unwrap_or(usize::MAX));
    }
    arena.check_size(directive.width.max(directive.precision.unwrap_or(0)))?;
    // As in CPython, length modifiers of C are accepted and ignored.
    template.rest = template.rest.trim_start_matches(['h', 'l', 'L']);
    let kind = template.rest.chars().next().ok_or(Exception::ValueError)?;
    template.rest = &template.rest[kind.len_utf8()..];
    let value = match named {
        Some(value) => value,
        None => template.take()?,
    };
    text.push_str(&directed(arena, &directive, kind, value)?);
    Ok(())
}

fn directed<'a>(arena: &Arena<'a>, directive: &Directive, kind: char, value: Value<'a>) -> Result<String> {
    match kind {
        's' => Ok(directive.padded("", &directive.cut(repr::str_of(arena, value)?), false)),
        'r' | 'a' => {
            let mut repr = String::new();
            repr::write_repr(arena, &mut repr, value, 0)?;
            let repr = if kind == 'a' { crate::eval::repr::ascii(&repr) } else { repr };
            Ok(directive.padded("", &directive.cut(repr), false))
        }
        'c' => match value {
            Value::Text(text) if text.chars().count() == 1 => Ok(directive.padded("", text, false)),
            value => {
                let code = value.small_int().ok_or(Exception::TypeError)?;
                let character = u32::try_from(code).ok().and_then(char::from_u32);
                Ok(directive.padded("", &character.ok_or(Exception::OverflowError)?.to_string(), false))
            }
        },
        'd' | 'i' | 'u' => {
            let integer = match value.float() {
                Some(float) => arena.truncated(float)?,
                None => value,
            };
            let integer = integer_of(integer)?;
            Ok(directive.integer(&integer, &crate::eval::repr::decimal(&integer.abs())?, ""))
        }
        'x' | 'X' | 'o' => {
            let integer = integer_of(value)?;
            let (radix, prefix) = if kind == 'o' { (8, "0o") } else { (16, "0x") };
            let text = directive.integer(&integer, &integer.abs().to_str_radix(radix), prefix);
            Ok(if kind == 'X' { text.to_uppercase() } else { text })
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            let number = real_of(value)?;
            let precision = directive.precision.unwrap_or(6);
            if precision > MAX_PRECISION {
                return Err(Exception::ValueError.into());
            }
            let text = float::by_kind(number.abs(), kind, precision, directive.alternate);
            let text = if kind.is_uppercase() { text.to_uppercase() } else { text };
            let negative = number.is_sign_negative() && !number.is_nan();
            Ok(directive.padded(directive.sign(negative), &text, true))
        }
        _ => Err(Exception::ValueError.into()),
    }
}

impl Directive {
    /// Returns as many characters as the precision allows.
    fn cut(&self, text: String) -> String {
        match self.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text,
        }
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.plus, self.space) {
            (true, _, _) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            _ => "",
        }
    }

    fn integer(&self, integer: &BigInt, digits: &str, prefix: &str) -> String {
        let prefix = if self.alternate { prefix } else { "" };
        let zeros = self.precision.unwrap_or(0).saturating_sub(digits.len());
        let lead = format!("{}{prefix}", self.sign(integer.is_negative()));
        self.padded(&lead, &format!("{}{digits}", "0".repeat(zeros)), true)
    }

    fn padded(&self, lead: &str, body: &str, number: bool) -> String {
        if self.left {
            return pad(&format!("{lead}{body}"), self.width, ' ', '<');
        }
        if self.zero && number {
            format!("{lead}{}", pad(body, self.width.saturating_sub(lead.len()), '0', '>'))
        } else {
            pad(&format!("{lead}{body}"), self.width, ' ', '>')
        }
    }
}

impl<'a> Template<'_, 'a> {
    fn flags(&mut self, directive: &mut Directive) {
        while let Some(flag) = self.rest.chars().next() {
            match flag {
                '#' => directive.alternate = true,
                '0' => directive.zero = true,
                '-' => directive.left = true,
                ' ' => directive.space = true,
                '+' => directive.plus = true,
                _ => return,
            }
            self.rest = &self.rest[1..];
        }
    }

    /// Parses a width or precision: a number, or `*`, which takes one of the values.
    fn size(&mut self) -> Result<Option<i64>> {
        if let Some(rest) = self.rest.strip_prefix('*') {
            self.rest = rest;
            return Ok(Some(self.take()?.small_int().ok_or(Exception::TypeError)?));
        }
        let end = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        if digits.is_empty() {
            return Ok(None);
        }
        digits.parse().map(Some).map_err(|_| Exception::ValueError.into())
    }

    fn take(&mut self) -> Result<Value<'a>> {
        self.next += 1;
        match self.values {
            Value::Tuple(values) => values.get(self.next - 1).copied().ok_or(Exception::TypeError.into()),
            value if self.next == 1 => Ok(value),
            _ => Err(Exception::TypeError.into()),
        }
    }

    /// Whether all values were used. A tuple must be used up; a dict, a list or another container
    /// may be left unused.
    fn all_used(&self) -> bool {
        match self.values {
            Value::Tuple(values) => self.next >= values.len(),
            Value::Dict(_) | Value::Object(_) | Value::List(_) | Value::Bytes(_) | Value::Range(_) => true,
            _ => self.next >= 1,
        }
    }
}
