//! Free-form values from JSON text into CBOR, in one pass over well-formed text.
//! Integers stay integers of any size (bignums past 64 bits), floats stay floats to the bit, the last of equal keys wins.
//! Containers get definite lengths: the head is one byte until the count is known, and grows only past 23 members.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;

use super::scan::{Kind, Scanner, Token};
use super::{FrameError, MAX_DEPTH, text};

/// Python refuses longer ones by default; the conversion's cost grows with the square.
const MAX_DIGITS: usize = 4300;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;
const FLOAT64: u8 = 0xfb;

const POSITIVE_BIGNUM: u64 = 2;
const NEGATIVE_BIGNUM: u64 = 3;

/// Up to here members are compared pairwise, which is quicker than hashing.
const FEW_MEMBERS: usize = 16;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
    #[error("an integer of more than {MAX_DIGITS} digits")]
    TooManyDigits,
    #[error(transparent)]
    Malformed(#[from] FrameError),
}

/// The value of `token` in CBOR.
pub(super) fn transcode(token: &Token<'_>) -> Result<Bytes, ValueError> {
    if token.depth > MAX_DEPTH {
        return Err(ValueError::TooDeep);
    }
    let mut writer = Writer { out: Vec::with_capacity(token.text.len()), members: Vec::new() };
    writer.value(&mut Scanner::new(token.text))?;
    Ok(writer.out.into())
}

struct Writer {
    out: Vec<u8>,
    /// Members of the maps that are open, innermost last.
    members: Vec<Member>,
}

/// Where a member stands in the output.
struct Member {
    key: Range<usize>,
    end: usize,
}

impl Writer {
    fn value(&mut self, scanner: &mut Scanner<'_>) -> Result<(), ValueError> {
        match scanner.peek() {
            Some(b'{') => self.map(scanner),
            Some(b'[') => self.array(scanner),
            _ => self.scalar(&scanner.value()?),
        }
    }

    fn scalar(&mut self, token: &Token<'_>) -> Result<(), ValueError> {
        match token.kind {
            Kind::Null => self.out.push(NULL),
            Kind::True => self.out.push(TRUE),
            Kind::False => self.out.push(FALSE),
            Kind::Integer => self.integer(token.text)?,
            Kind::Float => self.float(token.text),
            Kind::Text | Kind::EscapedText => self.text(&text::decode(token)),
            Kind::Array | Kind::Object => return Err(ValueError::TooDeep),
        }
        Ok(())
    }

    fn array(&mut self, scanner: &mut Scanner<'_>) -> Result<(), ValueError> {
        let start = self.begin();
        let mut count = 0;
        scanner.open();
        let mut more = !scanner.close(b']');
        while more {
            self.value(scanner)?;
            count += 1;
            more = scanner.next_or_close(b']')?;
        }
        self.finish(ARRAY, start, count);
        Ok(())
    }

    fn map(&mut self, scanner: &mut Scanner<'_>) -> Result<(), ValueError> {
        let start = self.begin();
        let outer = self.members.len();
        scanner.open();
        let mut more = !scanner.close(b'}');
        while more {
            let key_start = self.out.len();
            let key = scanner.key()?;
            self.text(&text::decode(&key));
            let key = key_start..self.out.len();
            self.value(scanner)?;
            self.members.push(Member { key, end: self.out.len() });
            more = scanner.next_or_close(b'}')?;
        }
        let members: Vec<Member> = self.members.drain(outer..).collect();
        let repeated = overwritten(&self.out, &members);
        remove(&mut self.out, repeated.iter().map(|index| members[*index].key.start..members[*index].end));
        self.finish(MAP, start, members.len() - repeated.len());
        Ok(())
    }

    fn begin(&mut self) -> usize {
        self.out.push(0);
        self.out.len()
    }

    /// Writes the head of the container whose members begin at `start`, one byte behind its place.
    fn finish(&mut self, major: u8, start: usize, count: usize) {
        let mut head = Vec::with_capacity(9);
        write_head(&mut head, major, count as u64);
        self.out.splice(start - 1..start, head);
    }

    fn text(&mut self, text: &str) {
        write_head(&mut self.out, TEXT, text.len() as u64);
        self.out.extend_from_slice(text.as_bytes());
    }

    fn float(&mut self, text: &str) {
        // The scanner's numbers are a part of what `f64` reads; past its range they become infinite, as they should.
        let value: f64 = text.parse().unwrap_or(f64::NAN);
        self.out.push(FLOAT64);
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    fn integer(&mut self, text: &str) -> Result<(), ValueError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let negative = digits.len() < text.len();
        if digits.len() > MAX_DIGITS {
            return Err(ValueError::TooManyDigits);
        }
        // CBOR counts negative numbers down from -1.
        let magnitude = digits.parse::<u128>().map(|value| value.saturating_sub(u128::from(negative)));
        match magnitude.map(u64::try_from) {
            Ok(Ok(small)) if digits == "0" => write_head(&mut self.out, UNSIGNED, small),
            Ok(Ok(small)) => write_head(&mut self.out, if negative { NEGATIVE } else { UNSIGNED }, small),
            _ => self.bignum(digits, negative),
        }
        Ok(())
    }

    fn bignum(&mut self, digits: &str, negative: bool) {
        let magnitude = big_endian(digits, negative);
        write_head(&mut self.out, TAG, if negative { NEGATIVE_BIGNUM } else { POSITIVE_BIGNUM });
        write_head(&mut self.out, BYTES, magnitude.len() as u64);
        self.out.extend_from_slice(&magnitude);
    }
}

/// Members whose key comes again later, ascending.
fn overwritten(out: &[u8], members: &[Member]) -> Vec<usize> {
    let key = |member: &Member| &out[member.key.clone()];
    if members.len() <= FEW_MEMBERS {
        let comes_again =
            |index: &usize| members[index + 1..].iter().any(|it| key(it) == key(&members[*index]));
        return (0..members.len()).filter(comes_again).collect();
    }
    let mut seen = HashSet::with_capacity(members.len());
    let mut repeated: Vec<usize> =
        (0..members.len()).rev().filter(|index| !seen.insert(key(&members[*index]))).collect();
    repeated.reverse();
    repeated
}

/// Takes ascending ranges out. What stays is moved once, however many they are: a frame may repeat a key a million times.
fn remove(out: &mut Vec<u8>, ranges: impl Iterator<Item = Range<usize>>) {
    let mut ranges = ranges.peekable();
    let Some(first) = ranges.peek() else { return };
    let mut kept = first.start;
    while let Some(range) = ranges.next() {
        let next = ranges.peek().map_or(out.len(), |next| next.start);
        out.copy_within(range.end..next, kept);
        kept += next - range.end;
    }
    out.truncate(kept);
}

/// A data item's head: its major type and its argument in the shortest form.
fn write_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    match argument {
        0..24 => out.push(major | argument as u8),
        24..0x100 => out.extend_from_slice(&[major | 24, argument as u8]),
        0x100..0x1_0000 => {
            out.push(major | 25);
            out.extend_from_slice(&(argument as u16).to_be_bytes());
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend_from_slice(&(argument as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&argument.to_be_bytes());
        }
    }
}

/// Decimal digits as a big-endian number without leading zeros; `less_one` takes one off. More than 64 bits go in.
fn big_endian(digits: &str, less_one: bool) -> Vec<u8> {
    const CHUNK: usize = 18;
    let mut limbs: Vec<u64> = Vec::with_capacity(digits.len() / CHUNK + 1);
    for chunk in digits.as_bytes().chunks(CHUNK) {
        let value = chunk.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
        let mut carry = u128::from(value);
        let scale = u128::from(10_u64.pow(chunk.len() as u32));
        for limb in &mut limbs {
            carry += u128::from(*limb) * scale;
            *limb = carry as u64;
            carry >>= 64;
        }
        if carry > 0 {
            limbs.push(carry as u64);
        }
    }
    if less_one {
        for limb in &mut limbs {
            let (value, borrowed) = limb.overflowing_sub(1);
            *limb = value;
            if !borrowed {
                break;
            }
        }
    }
    let bytes = limbs.iter().rev().flat_map(|limb| limb.to_be_bytes());
    bytes.skip_while(|byte| *byte == 0).collect()
}

impl From<ValueError> for Cow<'static, str> {
    fn from(problem: ValueError) -> Self {
        Cow::Owned(problem.to_string())
    }
}
