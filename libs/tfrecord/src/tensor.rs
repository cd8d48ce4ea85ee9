//! Tensors in event files, and their elements.

/// Elements of a tensor that are read. A tensor becomes a number, or a histogram with three elements for each bin, and
/// no writer makes a third of a million bins. One element may stand for all elements that a shape claims, so the limit
/// also bounds the memory that a short record takes, to 8 MiB.
const MAX_ELEMENTS: usize = 1 << 20;

const FLOAT: i32 = 1;
const DOUBLE: i32 = 2;
const INT_32: i32 = 3;
const UINT_8: i32 = 4;
const INT_16: i32 = 5;
const INT_8: i32 = 6;
const STRING: i32 = 7;
const INT_64: i32 = 9;
const BOOL: i32 = 10;
const BFLOAT_16: i32 = 14;
const UINT_16: i32 = 17;
const HALF: i32 = 19;
const UINT_32: i32 = 22;
const UINT_64: i32 = 23;

#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorProto {
    #[prost(int32, tag = "1")]
    pub element_type: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
    /// The elements in memory order, instead of one of the lists.
    #[prost(bytes = "vec", tag = "4")]
    pub content: Vec<u8>,
    #[prost(float, repeated, tag = "5")]
    pub floats: Vec<f32>,
    #[prost(double, repeated, tag = "6")]
    pub doubles: Vec<f64>,
    /// All signed integers of at most 32 bits, and unsigned integers of at most 16 bits.
    #[prost(int32, repeated, tag = "7")]
    pub small_integers: Vec<i32>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub texts: Vec<Vec<u8>>,
    #[prost(int64, repeated, tag = "10")]
    pub integers: Vec<i64>,
    #[prost(bool, repeated, tag = "11")]
    pub flags: Vec<bool>,
    /// The bits of floats of 16 bits.
    #[prost(int32, repeated, tag = "13")]
    pub half_bits: Vec<i32>,
    #[prost(uint32, repeated, tag = "16")]
    pub unsigned_32: Vec<u32>,
    #[prost(uint64, repeated, tag = "17")]
    pub unsigned_64: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Shape {
    #[prost(message, repeated, tag = "2")]
    pub dimensions: Vec<Dimension>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Dimension {
    #[prost(int64, tag = "1")]
    pub size: i64,
}

/// The elements of a tensor in the order of rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    Numbers(Vec<f64>),
    Texts(Vec<Vec<u8>>),
}

/// The reason why a tensor is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorProblem {
    #[error("tensors with elements that are neither real numbers nor texts")]
    UnknownType,
    #[error("tensors of more than a million elements")]
    TooLarge,
}

impl TensorProto {
    /// The sizes of the dimensions.
    pub fn sizes(&self) -> Vec<i64> {
        let dimensions = self.shape.iter().flat_map(|shape| &shape.dimensions);
        dimensions.map(|dimension| dimension.size).collect()
    }

    /// Returns the elements. If there are fewer elements than the shape claims, the last element stands for the others.
    pub fn elements(self) -> Result<Elements, TensorProblem> {
        if self.element_type == STRING {
            return Ok(Elements::Texts(self.texts));
        }
        let claimed = self.sizes().into_iter().try_fold(1_usize, |count, size| {
            count.checked_mul(usize::try_from(size).ok()?).filter(|count| *count <= MAX_ELEMENTS)
        });
        let claimed = claimed.ok_or(TensorProblem::TooLarge)?;
        let numbers =
            if self.content.is_empty() { self.listed() } else { packed(self.element_type, &self.content) };
        let mut numbers = numbers.ok_or(TensorProblem::UnknownType)?;
        if numbers.len() > MAX_ELEMENTS {
            return Err(TensorProblem::TooLarge);
        }
        if let Some(last) = numbers.last().copied()
            && numbers.len() < claimed
        {
            numbers.resize(claimed, last);
        }
        Ok(Elements::Numbers(numbers))
    }

    /// The elements of a tensor that has them as a list; `None` if they are not numbers.
    fn listed(&self) -> Option<Vec<f64>> {
        let half_bits = || self.half_bits.iter().map(|bits| *bits as u16);
        Some(match self.element_type {
            FLOAT => limited(self.floats.iter().map(|number| f64::from(*number))),
            DOUBLE => limited(self.doubles.iter().copied()),
            INT_32 | UINT_8 | INT_16 | INT_8 | UINT_16 => {
                limited(self.small_integers.iter().map(|number| f64::from(*number)))
            }
            INT_64 => limited(self.integers.iter().map(|number| *number as f64)),
            BOOL => limited(self.flags.iter().map(|flag| f64::from(u8::from(*flag)))),
            BFLOAT_16 => limited(half_bits().map(from_bfloat)),
            HALF => limited(half_bits().map(from_half)),
            UINT_32 => limited(self.unsigned_32.iter().map(|number| f64::from(*number))),
            UINT_64 => limited(self.unsigned_64.iter().map(|number| *number as f64)),
            _ => return None,
        })
    }
}

/// The elements of a tensor that has them in memory order; `None` if they are not numbers.
fn packed(element_type: i32, content: &[u8]) -> Option<Vec<f64>> {
    Some(match element_type {
        FLOAT => numbers(content, |bytes| f32::from_le_bytes(bytes).into()),
        DOUBLE => numbers(content, f64::from_le_bytes),
        INT_32 => numbers(content, |bytes| i32::from_le_bytes(bytes).into()),
        UINT_8 => numbers(content, |bytes| u8::from_le_bytes(bytes).into()),
        INT_16 => numbers(content, |bytes| i16::from_le_bytes(bytes).into()),
        INT_8 => numbers(content, |bytes| i8::from_le_bytes(bytes).into()),
        INT_64 => numbers(content, |bytes| i64::from_le_bytes(bytes) as f64),
        BOOL => numbers(content, |bytes: [u8; 1]| f64::from(u8::from(bytes != [0]))),
        BFLOAT_16 => numbers(content, |bytes| from_bfloat(u16::from_le_bytes(bytes))),
        UINT_16 => numbers(content, |bytes| u16::from_le_bytes(bytes).into()),
        HALF => numbers(content, |bytes| from_half(u16::from_le_bytes(bytes))),
        UINT_32 => numbers(content, |bytes| u32::from_le_bytes(bytes).into()),
        UINT_64 => numbers(content, |bytes| u64::from_le_bytes(bytes) as f64),
        _ => return None,
    })
}

fn numbers<const BYTES: usize>(content: &[u8], read: impl Fn([u8; BYTES]) -> f64) -> Vec<f64> {
    limited(content.as_chunks::<BYTES>().0.iter().map(|bytes| read(*bytes)))
}

/// Collects at most one element more than a tensor may have. A content of single bytes takes eight times its size.
fn limited(elements: impl Iterator<Item = f64>) -> Vec<f64> {
    elements.take(MAX_ELEMENTS + 1).collect()
}

/// A bfloat16, which is the upper half of a float of 32 bits.
fn from_bfloat(bits: u16) -> f64 {
    f32::from_bits(u32::from(bits) << 16).into()
}

/// A float of 16 bits: a sign, 5 bits of exponent, 10 bits of fraction.
fn from_half(bits: u16) -> f64 {
    let fraction = f64::from(bits & 0x3ff) / 1_024.0;
    let magnitude = match (bits >> 10) & 0x1f {
        0 => fraction * 2_f64.powi(-14),
        0x1f if bits & 0x3ff == 0 => f64::INFINITY,
        0x1f => f64::NAN,
        exponent => (1.0 + fraction) * 2_f64.powi(i32::from(exponent) - 15),
    };
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped(sizes: &[i64], tensor: TensorProto) -> TensorProto {
        let dimensions = sizes.iter().map(|size| Dimension { size: *size }).collect();
        TensorProto { shape: Some(Shape { dimensions }), ..tensor }
    }

    fn check(tensor: TensorProto, expected: &[f64]) {
        assert_eq!(tensor.clone().elements(), Ok(Elements::Numbers(expected.to_vec())), "{tensor:?}");
    }

    #[test]
    fn elements_of_all_types_are_numbers() {
        let list = TensorProto::default();
        check(TensorProto { element_type: FLOAT, floats: vec![0.5], ..list.clone() }, &[0.5]);
        check(TensorProto { element_type: DOUBLE, doubles: vec![0.1], ..list.clone() }, &[0.1]);
        check(TensorProto { element_type: INT_8, small_integers: vec![-3], ..list.clone() }, &[-3.0]);
        check(TensorProto { element_type: INT_64, integers: vec![-3], ..list.clone() }, &[-3.0]);
        check(TensorProto { element_type: BOOL, flags: vec![true], ..list.clone() }, &[1.0]);
        check(TensorProto { element_type: UINT_32, unsigned_32: vec![7], ..list.clone() }, &[7.0]);
        check(TensorProto { element_type: UINT_64, unsigned_64: vec![7], ..list.clone() }, &[7.0]);
        // One, the smallest number above zero, minus infinity.
        let halves = vec![0x3c00, 0x0001, 0xfc00];
        let expected = [1.0, 2_f64.powi(-24), f64::NEG_INFINITY];
        check(TensorProto { element_type: HALF, half_bits: halves, ..list.clone() }, &expected);
        // Only the lowest 16 bits count.
        let halves = vec![0x1_3c00, -0xc400];
        check(TensorProto { element_type: HALF, half_bits: halves, ..list.clone() }, &[1.0, 1.0]);
        check(TensorProto { element_type: BFLOAT_16, half_bits: vec![0xbf80], ..list }, &[-1.0]);
        assert!(from_half(0x7e00).is_nan());
    }

    #[test]
    fn elements_may_be_packed() {
        for (element_type, content, expected) in [
            (FLOAT, 0.5_f32.to_le_bytes().to_vec(), 0.5),
            (DOUBLE, 0.1_f64.to_le_bytes().to_vec(), 0.1),
            (INT_16, (-2_i16).to_le_bytes().to_vec(), -2.0),
            (INT_8, vec![0xff], -1.0),
            (UINT_8, vec![0xff], 255.0),
            (BOOL, vec![0xff], 1.0),
            (HALF, 0xc000_u16.to_le_bytes().to_vec(), -2.0),
            (BFLOAT_16, 0x3f80_u16.to_le_bytes().to_vec(), 1.0),
        ] {
            check(TensorProto { element_type, content, ..TensorProto::default() }, &[expected]);
        }
    }

    #[test]
    fn a_shape_is_not_trusted() {
        let one = TensorProto { element_type: FLOAT, floats: vec![2.0], ..TensorProto::default() };
        check(shaped(&[2, 2], one.clone()), &[2.0; 4]);
        for sizes in [&[1 << 40][..], &[1 << 32, 1 << 32], &[-1]] {
            assert_eq!(shaped(sizes, one.clone()).elements(), Err(TensorProblem::TooLarge), "{sizes:?}");
        }
        for count in [MAX_ELEMENTS, MAX_ELEMENTS + 1] {
            let large =
                TensorProto { element_type: UINT_8, content: vec![1; count], ..TensorProto::default() };
            assert_eq!(large.elements().is_ok(), count == MAX_ELEMENTS, "{count}");
        }
        let complex = TensorProto { element_type: 8, ..TensorProto::default() };
        assert_eq!(complex.elements(), Err(TensorProblem::UnknownType));
    }
}
