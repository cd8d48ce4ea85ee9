//! The format specification mini-language:
//! `[[fill]align][sign][z][#][0][width][,_][.precision][kind]`. A spec is parsed when a value
//! is formatted, because it may itself be computed.

use num_bigint::BigInt;
use num_traits::{Signed, ToPrimitive};

use super::float;
use crate::eval::integer::Number;
use crate::eval::{Exception, Result};
use crate::limits::MAX_PRECISION;
use crate::value::Value;

/// Largest width or precision. CPython likewise refuses values that do not fit its sizes.
const MAX_SIZE: usize = 1 << 30;

#[derive(Debug, Clone, Copy, Default)]
pub(in crate::eval) struct FormatSpec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    no_negative_zero: bool,
    alternate: bool,
    zero: bool,
    pub(in crate::eval) width: usize,
    grouping: Option<char>,
    pub(in crate::eval) precision: Option<usize>,
    pub(in crate::eval) kind: Option<char>,
}

impl FormatSpec {
    pub(in crate::eval) fn parse(text: &str) -> Option<Self> {
        let mut spec = Self::default();
        let mut rest = text;
        let mut characters = text.chars();
        if let (Some(fill), Some(align)) = (characters.next(), characters.next())
            && is_align(align)
        {
            spec.fill = Some(fill);
            spec.align = Some(align);
            rest = characters.as_str();
        } else if let Some(align) = text.chars().next().filter(|c| is_align(*c)) {
            spec.align = Some(align);
            rest = &text[1..];
        }
        if let Some(sign) = rest.chars().next().filter(|c| matches!(c, '+' | '-' | ' ')) {
            spec.sign = Some(sign);
            rest = &rest[1..];
        }
        spec.no_negative_zero = take_flag(&mut rest, 'z');
        spec.alternate = take_flag(&mut rest, '#');
        spec.zero = take_flag(&mut rest, '0');
        let (width, rest) = digits(rest)?;
        spec.width = width.unwrap_or(0);
        let (grouping, rest) = match rest.chars().next().filter(|c| matches!(c, ',' | '_')) {
            Some(grouping) => (Some(grouping), &rest[1..]),
            None => (None, rest),
        };
        spec.grouping = grouping;
        let rest = match rest.strip_prefix('.') {
            Some(behind) => {
                let (precision, behind) = digits(behind)?;
                spec.precision = Some(precision?);
                behind
            }
            None => rest,
        };
        let mut kind = rest.chars();
        spec.kind = kind.next();
        kind.next().is_none().then_some(spec)
    }

    pub(in crate::eval) fn text(&self, text: &str) -> Result<String> {
        let refused = self.sign.is_some()
            || self.no_negative_zero
            || self.alternate
            || self.grouping.is_some()
            || self.align == Some('=')
            || !matches!(self.kind, None | Some('s'));
        if refused {
            return Err(Exception::ValueError.into());
        }
        let cut: String = text.chars().take(self.precision.unwrap_or(usize::MAX)).collect();
        let fill = self.fill.unwrap_or(if self.zero { '0' } else { ' ' });
        Ok(pad(&cut, self.width, fill, self.align.unwrap_or('<')))
    }

    pub(in crate::eval) fn integer(&self, value: Value<'_>) -> Result<String> {
        let number = Number::from_value(value).ok_or(Exception::TypeError)?;
        if matches!(self.kind, Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%')) {
            return self.float(number.to_float()?);
        }
        let integer = number.to_bigint().ok_or(Exception::TypeError)?;
        if self.precision.is_some() || self.no_negative_zero {
            return Err(Exception::ValueError.into());
        }
        let (digits, prefix) = match self.kind {
            None | Some('d' | 'n') => (crate::eval::repr::decimal(&integer.abs())?, ""),
            Some('b') => (integer.abs().to_str_radix(2), "0b"),
            Some('o') => (integer.abs().to_str_radix(8), "0o"),
            Some('x') => (integer.abs().to_str_radix(16), "0x"),
            Some('X') => (integer.abs().to_str_radix(16).to_uppercase(), "0X"),
            Some('c') => return self.character(&integer),
            Some(_) => return Err(Exception::ValueError.into()),
        };
        let refused = self.grouping == Some(',') && !matches!(self.kind, None | Some('d'));
        if refused || self.grouping.is_some() && self.kind == Some('n') {
            return Err(Exception::ValueError.into());
        }
        // Python groups binary, octal and hexadecimal digits by four.
        let group = if prefix.is_empty() { 3 } else { 4 };
        let sign = self.sign_of(integer.is_negative());
        let prefix = if self.alternate { prefix } else { "" };
        Ok(self.number(&format!("{sign}{prefix}"), &digits, "", group))
    }

    fn character(&self, code: &BigInt) -> Result<String> {
        if self.sign.is_some() || self.grouping.is_some() || self.alternate {
            return Err(Exception::ValueError.into());
        }
        let character = code.to_u32().and_then(char::from_u32).ok_or(Exception::OverflowError)?;
        Ok(self.number("", &character.to_string(), "", usize::MAX))
    }

    pub(in crate::eval) fn float(&self, value: f64) -> Result<String> {
        let kind = self.kind.unwrap_or('\0');
        if !matches!(kind, '\0' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'n' | '%') {
            return Err(Exception::ValueError.into());
        }
        if self.precision.is_some_and(|precision| precision > MAX_PRECISION) {
            return Err(Exception::ValueError.into());
        }
        let text = match (kind, self.precision) {
            ('\0', None) => crate::eval::repr::float(value.abs()),
            ('\0', Some(precision)) => float::general(value.abs(), precision.max(1), self.alternate, true),
            (kind, precision) => float::by_kind(value.abs(), kind, precision.unwrap_or(6), self.alternate),
        };
        let text = if kind.is_ascii_uppercase() { text.to_uppercase() } else { text };
        // A nonzero value may be formatted as zero, so the digits decide.
        let is_zero = !text.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) && value.is_finite();
        let negative = value.is_sign_negative() && !value.is_nan() && !(self.no_negative_zero && is_zero);
        let whole = text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, rest) = text.split_at(whole);
        if whole.is_empty() {
            // inf and nan are padded, but never with grouped zeros.
            return Ok(self.number(self.sign_of(negative), rest, "", usize::MAX));
        }
        Ok(self.number(self.sign_of(negative), whole, rest, 3))
    }

    fn sign_of(&self, negative: bool) -> &'static str {
        match (negative, self.sign) {
            (true, _) => "-",
            (false, Some('+')) => "+",
            (false, Some(' ')) => " ",
            _ => "",
        }
    }

    /// Assembles and pads sign and prefix, grouped digits, and the remainder.
    fn number(&self, lead: &str, digits: &str, rest: &str, group: usize) -> String {
        let fill = self.fill.unwrap_or(if self.zero { '0' } else { ' ' });
        let align = self.align.unwrap_or(if self.zero { '=' } else { '>' });
        let around = lead.chars().count() + rest.chars().count();
        let zeros = align == '=' && fill == '0';
        let digits = match self.grouping {
            Some(separator) if group != usize::MAX => {
                let least = if zeros { self.width.saturating_sub(around) } else { 0 };
                grouped(digits, separator, group, least)
            }
            _ => digits.to_owned(),
        };
        if align != '=' {
            return pad(&format!("{lead}{digits}{rest}"), self.width, fill, align);
        }
        let missing = self.width.saturating_sub(around + digits.chars().count());
        let filling: String = std::iter::repeat_n(fill, missing).collect();
        format!("{lead}{filling}{digits}{rest}")
    }
}

fn is_align(character: char) -> bool {
    matches!(character, '<' | '>' | '=' | '^')
}

fn take_flag(rest: &mut &str, flag: char) -> bool {
    match rest.strip_prefix(flag) {
        Some(behind) => {
            *rest = behind;
            true
        }
        None => false,
    }
}

fn digits(text: &str) -> Option<(Option<usize>, &str)> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Some((None, rest));
    }
    let size = digits.parse().ok().filter(|size| *size <= MAX_SIZE)?;
    Some((Some(size), rest))
}

pub(super) fn pad(text: &str, width: usize, fill: char, align: char) -> String {
    let missing = width.saturating_sub(text.chars().count());
    let left = match align {
        '<' => 0,
        '^' => missing / 2,
        _ => missing,
    };
    let before = std::iter::repeat_n(fill, left);
    let after = std::iter::repeat_n(fill, missing - left);
    before.chain(text.chars()).chain(after).collect()
}

/// Inserts separators into digits, after padding them with leading zeros to a width of at least
/// `least`.
fn grouped(digits: &str, separator: char, group: usize, least: usize) -> String {
    let mut reversed: Vec<char> = Vec::new();
    let mut source = digits.chars().rev();
    for count in 0.. {
        let next = source.next();
        let separate = count > 0 && count % group == 0;
        let digit = match next {
            Some(digit) => digit,
            None if reversed.len() < least => '0',
            None => break,
        };
        if separate {
            reversed.push(separator);
        }
        reversed.push(digit);
    }
    reversed.iter().rev().collect()
}
