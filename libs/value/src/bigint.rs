//! Integers of any size, in the representation of CBOR's bignums, and their decimal digits. The
//! cost of a conversion grows with the square of the number of digits, which `MAX_DIGITS` limits
//! for everything that clients send.

use std::cmp::Ordering;

/// Maximum number of decimal digits that Python reads or writes by default.
pub const MAX_DIGITS: usize = 4_300;

/// Number of decimal digits that fit into a machine word, and that power of ten.
const GROUP_DIGITS: usize = 18;
const GROUP: u64 = 1_000_000_000_000_000_000;

/// An integer beyond the range of `i64`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BigInteger {
    negative: bool,
    /// Big-endian, without leading zeros.
    magnitude: Vec<u8>,
}

impl BigInteger {
    pub(crate) fn new(negative: bool, magnitude: Vec<u8>) -> Self {
        Self { negative, magnitude }
    }

    /// Returns whether the number is negative.
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// Returns the bytes of the number, or of `-1 - n` for a negative `n`, big-endian.
    pub fn magnitude(&self) -> &[u8] {
        &self.magnitude
    }

    /// Returns the nearest float, which is infinite beyond the range of floats.
    pub fn to_f64(&self) -> f64 {
        self.decimal().parse().expect("decimal digits are a float")
    }

    /// Returns the decimal digits, after a `-` for a negative number.
    pub fn decimal(&self) -> String {
        decimal(self.negative, &self.magnitude)
    }
}

impl PartialOrd for BigInteger {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for BigInteger {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => compare_magnitudes(&self.magnitude, &other.magnitude),
            (true, true) => compare_magnitudes(&other.magnitude, &self.magnitude),
            (negative, _) => other.negative.cmp(&negative),
        }
    }
}

fn compare_magnitudes(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Reads at most eight bytes as a big-endian number.
fn limb(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Adds one. Returns whether the sum overflowed.
fn add_carry(limb: &mut u64) -> bool {
    let (sum, carry) = limb.overflowing_add(1);
    *limb = sum;
    carry
}

/// Returns the decimal digits of a big-endian magnitude, or of `-1 - magnitude`.
pub(crate) fn decimal(negative: bool, magnitude: &[u8]) -> String {
    let mut limbs: Vec<u64> = magnitude.rchunks(8).map(limb).collect();
    if negative && limbs.iter_mut().all(add_carry) {
        limbs.push(1);
    }
    let mut groups = Vec::new();
    loop {
        while limbs.last() == Some(&0) {
            limbs.pop();
        }
        if limbs.is_empty() {
            break;
        }
        let mut rest = 0_u128;
        for limb in limbs.iter_mut().rev() {
            let value = rest << 64 | u128::from(*limb);
            *limb = (value / u128::from(GROUP)) as u64;
            rest = value % u128::from(GROUP);
        }
        groups.push(rest as u64);
    }
    let mut digits = String::from(if negative { "-" } else { "" });
    digits.push_str(&groups.pop().unwrap_or(0).to_string());
    for group in groups.iter().rev() {
        digits.push_str(&format!("{group:0GROUP_DIGITS$}"));
    }
    digits
}

/// Returns decimal digits as a big-endian number without leading zeros, one less if `less_one`,
/// which takes a number above zero.
pub(crate) fn magnitude(digits: &str, less_one: bool) -> Vec<u8> {
    let mut limbs: Vec<u64> = Vec::with_capacity(digits.len() / GROUP_DIGITS + 1);
    for group in digits.as_bytes().chunks(GROUP_DIGITS) {
        let value = group.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
        let mut carry = u128::from(value);
        let scale = u128::from(10_u64.pow(group.len() as u32));
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
            let (value, borrow) = limb.overflowing_sub(1);
            *limb = value;
            if !borrow {
                break;
            }
        }
    }
    let bytes = limbs.iter().rev().flat_map(|limb| limb.to_be_bytes());
    bytes.skip_while(|byte| *byte == 0).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn magnitudes_of_any_length_have_digits() {
        for (negative, magnitude, digits) in [
            (false, &[][..], "0"),
            (true, &[], "-1"),
            (false, &[0, 0, 0, 0, 1], "1"),
            (true, &[0xff; 8], "-18446744073709551616"),
            (true, &[0xff; 16], "-340282366920938463463374607431768211456"),
        ] {
            assert_eq!(decimal(negative, magnitude), digits);
        }
    }

    proptest! {
        #[test]
        fn wide_integers_have_the_digits_that_rust_writes(wide: u128) {
            prop_assert_eq!(decimal(false, &wide.to_be_bytes()), wide.to_string());
            let bytes = magnitude(&wide.to_string(), false);
            prop_assert_eq!(decimal(false, &bytes), wide.to_string());
        }
    }
}
