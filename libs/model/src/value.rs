//! A free-form value: what clients put into params, objects, log arguments and contexts.
//! It keeps everything that their JSON and CBOR can say: integers of any size, every float to the bit.

use std::{cmp::Ordering, collections::BTreeMap};

pub type Map = BTreeMap<String, Value>;

/// Maps are ordered by the bytes of their keys.
#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    /// Outside of `i64`.
    Big(BigInteger),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Map(Map),
}

impl Value {
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }
}

/// Equal to the bit: NaN equals itself, 0.0 and -0.0 differ, 1 and 1.0 differ.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Big(a), Self::Big(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

/// An integer outside of `i64`, as CBOR's bignums hold it: a negative one is -1 - magnitude.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BigInteger {
    negative: bool,
    /// Big-endian, without leading zeros.
    magnitude: Vec<u8>,
}

/// More decimal digits than Python itself writes or reads; it also bounds the quadratic conversions below.
pub const MAX_DIGITS: usize = 4_300;

impl BigInteger {
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// Of a negative number n: the bytes of -1 - n.
    pub fn magnitude(&self) -> &[u8] {
        &self.magnitude
    }

    /// The nearest float, infinite beyond its range.
    pub fn to_f64(&self) -> f64 {
        self.decimal().parse().expect("decimal digits are a float")
    }

    pub fn decimal(&self) -> String {
        let mut magnitude = self.magnitude.clone();
        if self.negative {
            increment(&mut magnitude);
        }
        let mut groups = Vec::new();
        while !magnitude.is_empty() {
            groups.push(divide(&mut magnitude, GROUP));
        }
        let mut text = if self.negative { String::from("-") } else { String::new() };
        let (last, rest) = groups.split_last().expect("a big integer is not zero");
        text.push_str(&last.to_string());
        for group in rest.iter().rev() {
            text.push_str(&format!("{group:09}"));
        }
        text
    }
}

/// Decimal digits are converted nine at a time.
const GROUP: u32 = 1_000_000_000;

impl Value {
    /// The integer of this magnitude (of a negative n: -1 - n), in its smallest form.
    pub fn integer(negative: bool, magnitude: &[u8]) -> Self {
        let first = magnitude.iter().position(|byte| *byte != 0).unwrap_or(magnitude.len());
        let magnitude = &magnitude[first..];
        let mut low = [0; 8];
        if magnitude.len() <= low.len() {
            low[8 - magnitude.len()..].copy_from_slice(magnitude);
            if let Ok(small) = i64::try_from(u64::from_be_bytes(low)) {
                return Self::Integer(if negative { -1 - small } else { small });
            }
        }
        Self::Big(BigInteger { negative, magnitude: magnitude.to_vec() })
    }

    /// Decimal digits with an optional `-`; `None` if there are other characters, or too many digits.
    pub fn integer_from_decimal(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit())
        {
            return None;
        }
        if let Ok(small) = text.parse() {
            return Some(Self::Integer(small));
        }
        let mut magnitude = Vec::new();
        for group in digits.as_bytes().chunks(9) {
            let value = group.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
            multiply_and_add(&mut magnitude, 10_u32.pow(group.len() as u32), value);
        }
        if negative {
            decrement(&mut magnitude);
        }
        Some(Self::integer(negative, &magnitude))
    }
}

fn multiply_and_add(magnitude: &mut Vec<u8>, factor: u32, add: u32) {
    let mut carry = u64::from(add);
    for byte in magnitude.iter_mut().rev() {
        let sum = u64::from(*byte) * u64::from(factor) + carry;
        *byte = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
    while carry > 0 {
        magnitude.insert(0, (carry & 0xff) as u8);
        carry >>= 8;
    }
}

/// Divides in place and returns the rest; leading zeros go.
fn divide(magnitude: &mut Vec<u8>, by: u32) -> u32 {
    let mut rest = 0_u64;
    for byte in magnitude.iter_mut() {
        let value = (rest << 8) | u64::from(*byte);
        *byte = (value / u64::from(by)) as u8;
        rest = value % u64::from(by);
    }
    let zeros = magnitude.iter().take_while(|byte| **byte == 0).count();
    magnitude.drain(..zeros);
    rest as u32
}

fn increment(magnitude: &mut Vec<u8>) {
    multiply_and_add(magnitude, 1, 1);
}

fn decrement(magnitude: &mut [u8]) {
    for byte in magnitude.iter_mut().rev() {
        let (less, borrowed) = byte.overflowing_sub(1);
        *byte = less;
        if !borrowed {
            return;
        }
    }
}

impl PartialOrd for BigInteger {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for BigInteger {
    fn cmp(&self, other: &Self) -> Ordering {
        let size = |number: &Self| (number.magnitude.len(), number.magnitude.clone());
        match (self.negative, other.negative) {
            (false, false) => size(self).cmp(&size(other)),
            (true, true) => size(other).cmp(&size(self)),
            (negative, _) => {
                if negative {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_survive_decimal_and_back() {
        for text in [
            "0",
            "-1",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551615",
            "18446744073709551616",
            "-18446744073709551616",
            "-18446744073709551617",
            "12345678901234567890123",
            "1000000000000000000000000000",
            "-340282366920938463463374607431768211456",
        ] {
            let decimal = match Value::integer_from_decimal(text).unwrap() {
                Value::Integer(small) => small.to_string(),
                Value::Big(big) => big.decimal(),
                other => panic!("{other:?}"),
            };
            assert_eq!(decimal, text);
        }
    }

    #[test]
    fn what_is_no_integer_is_refused() {
        for text in ["", "-", "1.0", "+1", " 1", "1e3", "0x1", &"9".repeat(MAX_DIGITS + 1)] {
            assert!(Value::integer_from_decimal(text).is_none(), "{text}");
        }
    }

    #[test]
    fn equality_is_to_the_bit() {
        assert_eq!(Value::Float(f64::NAN), Value::Float(f64::NAN));
        assert_ne!(Value::Float(0.0), Value::Float(-0.0));
        assert_ne!(Value::Integer(1), Value::Float(1.0));
        assert_ne!(Value::Integer(1), Value::Bool(true));
    }

    #[test]
    fn big_integers_order_as_numbers() {
        let numbers = [
            "-99999999999999999999999",
            "-99999999999999999999",
            "99999999999999999999",
            "999999999999999999999999",
        ];
        let numbers = numbers.map(|text| match Value::integer_from_decimal(text) {
            Some(Value::Big(big)) => big,
            other => panic!("{other:?}"),
        });
        assert!(numbers.is_sorted());
    }
}
