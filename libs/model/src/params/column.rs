//! Format of a column of params: the values of one param in the runs of a cohort, or in some of them.
//!
//! A column is written once, and read as a whole. It holds what indexes have of a param: scalars, where long
//! texts and numbers with too many digits are incomplete.
//!
//! Format:
//!
//! - the byte 1;
//! - a byte with a bit for each kind that occurs, see `Kind`;
//! - if there are numbers, the lowest and the highest as float64, little-endian. Integers and booleans count as the
//!   nearest float;
//! - the number of runs of the cohort as varint, and a byte: 0 if the column has a value of each of them, or 1, and a bit
//!   map (lowest bit first) of the runs that have one;
//! - the kinds of the values in an integer column, unless they are all the same;
//! - the integers as an integer column, and the floats as a float column;
//! - if there are texts, the number of different ones as varint, these in ascending order, and for each text its place
//!   among them in an integer column.

use std::{borrow::Cow, collections::HashSet, ops::Bound};

use bytes::Bytes;
use matyan_value::Value;

use crate::series::{
    COHORT_RUNS,
    column::{ColumnUse, float_column, integer_column, put_float_column, put_integer_column},
    wire::{FormatError, Input, bits, put_bits, put_text, put_varint},
};

const FORMAT: u8 = 1;

/// Size of a column above which it is written in halves: well below the limit of the store for a value. A column of one run
/// may be larger.
const SPLIT_BYTES: usize = 64 << 10;

/// Intervals up to which sorting the values takes longer than looking for each.
const FEW_INTERVALS: usize = 8;

/// Integers up to this magnitude are exact as floats.
pub(crate) const MAX_EXACT: u64 = 1 << 53;

/// A scalar of a run, as an index has it.
#[derive(Clone, Debug, PartialEq)]
pub enum IndexedParam<'p> {
    Null,
    Bool(bool),
    /// An integer that a float represents exactly.
    Integer(i64),
    /// Not NaN.
    Float(f64),
    /// The float nearest to an integer that no float represents.
    Rounded(f64),
    Text(Cow<'p, str>),
    /// A text that is too long for an index.
    LongText,
}

impl<'p> IndexedParam<'p> {
    /// Returns `None` for values that are in no index: maps, lists, bytes, and NaN. A text of more than
    /// `max_bytes` is long.
    pub(crate) fn of(value: &'p Value, max_bytes: usize) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Integer(value) if value.unsigned_abs() <= MAX_EXACT => Self::Integer(*value),
            Value::Integer(value) => Self::Rounded(*value as f64),
            Value::Big(value) => Self::Rounded(value.to_f64()),
            Value::Float(value) if value.is_nan() => return None,
            Value::Float(value) => Self::Float(*value),
            Value::Text(text) if text.len() > max_bytes => Self::LongText,
            Value::Text(text) => Self::Text(Cow::Borrowed(text)),
            Value::Bytes(_) | Value::List(_) | Value::Map(_) => return None,
        })
    }

    pub(crate) fn into_owned(self) -> IndexedParam<'static> {
        match self {
            Self::Null => IndexedParam::Null,
            Self::Bool(value) => IndexedParam::Bool(value),
            Self::Integer(value) => IndexedParam::Integer(value),
            Self::Float(value) => IndexedParam::Float(value),
            Self::Rounded(value) => IndexedParam::Rounded(value),
            Self::Text(text) => IndexedParam::Text(Cow::Owned(text.into_owned())),
            Self::LongText => IndexedParam::LongText,
        }
    }

    /// Size of its text.
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            _ => 0,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Null => Kind::Null,
            Self::Bool(false) => Kind::False,
            Self::Bool(true) => Kind::True,
            Self::Integer(_) => Kind::Integer,
            Self::Float(_) => Kind::Float,
            Self::Rounded(_) => Kind::Rounded,
            Self::Text(_) => Kind::Text,
            Self::LongText => Kind::LongText,
        }
    }

    /// The number as which it is compared.
    fn number(&self) -> Option<f64> {
        match self {
            Self::Bool(value) => Some(f64::from(u8::from(*value))),
            Self::Integer(value) => Some(*value as f64),
            Self::Float(value) | Self::Rounded(value) => Some(*value),
            Self::Null | Self::Text(_) | Self::LongText => None,
        }
    }
}

/// Kinds of values, by their numbers in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null = 0,
    False = 1,
    True = 2,
    Integer = 3,
    Float = 4,
    Rounded = 5,
    Text = 6,
    LongText = 7,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Null,
        Self::False,
        Self::True,
        Self::Integer,
        Self::Float,
        Self::Rounded,
        Self::Text,
        Self::LongText,
    ];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

const NUMBERS: u8 =
    Kind::False.bit() | Kind::True.bit() | Kind::Integer.bit() | Kind::Float.bit() | Kind::Rounded.bit();

/// The values that a query looks for.
#[derive(Clone, Debug, PartialEq)]
pub enum ParamInterval {
    Numbers { low: Bound<f64>, high: Bound<f64> },
    Texts { low: Bound<Box<str>>, high: Bound<Box<str>> },
}

impl ParamInterval {
    fn has_number(&self, number: f64) -> bool {
        matches!(self, Self::Numbers { low, high } if is_from(*low, number) && is_up_to(*high, number))
    }

    /// Whether a column with these kinds of values, and these lowest and highest numbers, may have such a value.
    fn may_be_in(&self, header: &Header) -> bool {
        match (self, header.numbers) {
            (Self::Numbers { low, high }, Some((min, max))) => is_from(*low, max) && is_up_to(*high, min),
            (Self::Numbers { .. }, None) => false,
            (Self::Texts { .. }, _) => header.kinds & Kind::Text.bit() != 0,
        }
    }
}

fn is_from<T: PartialOrd>(low: Bound<T>, value: T) -> bool {
    match low {
        Bound::Included(low) => value >= low,
        Bound::Excluded(low) => value > low,
        Bound::Unbounded => true,
    }
}

fn is_up_to<T: PartialOrd>(high: Bound<T>, value: T) -> bool {
    match high {
        Bound::Included(high) => value <= high,
        Bound::Excluded(high) => value < high,
        Bound::Unbounded => true,
    }
}

/// Encodes the values of runs, each with the position of its run in a cohort of `runs`, in ascending order. Returns several
/// columns if one would be too large; an empty list if there are no values.
pub fn encode_columns(runs: usize, values: &[(usize, IndexedParam<'_>)]) -> Vec<Bytes> {
    let mut columns = Vec::new();
    let mut waiting = vec![values];
    while let Some(part) = waiting.pop() {
        if part.is_empty() {
            continue;
        }
        let encoded = encode(runs, part);
        if encoded.len() > SPLIT_BYTES && part.len() > 1 {
            let (first, second) = part.split_at(part.len() / 2);
            waiting.extend([second, first]);
        } else {
            columns.push(encoded);
        }
    }
    columns
}

fn encode(runs: usize, values: &[(usize, IndexedParam<'_>)]) -> Bytes {
    let kinds: Vec<Kind> = values.iter().map(|(_, value)| value.kind()).collect();
    let mut out = vec![FORMAT, kinds_mask(&kinds)];
    if let Some((min, max)) = range_of(values.iter().filter_map(|(_, value)| value.number())) {
        out.extend(min.to_le_bytes());
        out.extend(max.to_le_bytes());
    }
    put_varint(&mut out, runs as u64);
    if values.len() == runs {
        out.push(0);
    } else {
        out.push(1);
        let mut has_value = vec![false; runs];
        for (at, _) in values {
            has_value[*at] = true;
        }
        put_bits(&mut out, &has_value);
    }
    if kinds.windows(2).any(|pair| pair[0] != pair[1]) {
        let kinds: Vec<i64> = kinds.iter().map(|kind| *kind as i64).collect();
        put_integer_column(&mut out, &kinds, ColumnUse::Kept);
    }
    let integers: Vec<i64> = values.iter().filter_map(|(_, value)| integer(value)).collect();
    if !integers.is_empty() {
        put_integer_column(&mut out, &integers, ColumnUse::Kept);
    }
    let floats: Vec<f64> = values.iter().filter_map(|(_, value)| float(value)).collect();
    if !floats.is_empty() {
        put_float_column(&mut out, &floats, ColumnUse::Unordered);
    }
    let texts: Vec<&str> = values.iter().filter_map(|(_, value)| text(value)).collect();
    if !texts.is_empty() {
        put_texts(&mut out, &texts);
    }
    out.into()
}

fn kinds_mask(kinds: &[Kind]) -> u8 {
    kinds.iter().fold(0, |mask, kind| mask | kind.bit())
}

fn range_of(numbers: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    numbers
        .map(|number| (number, number))
        .reduce(|(min, max), (number, _)| (min.min(number), max.max(number)))
}

fn integer(value: &IndexedParam<'_>) -> Option<i64> {
    match value {
        IndexedParam::Integer(integer) => Some(*integer),
        _ => None,
    }
}

fn float(value: &IndexedParam<'_>) -> Option<f64> {
    match value {
        IndexedParam::Float(float) | IndexedParam::Rounded(float) => Some(*float),
        _ => None,
    }
}

fn text<'v>(value: &'v IndexedParam<'_>) -> Option<&'v str> {
    match value {
        IndexedParam::Text(text) => Some(text),
        _ => None,
    }
}

fn put_texts(out: &mut Vec<u8>, texts: &[&str]) {
    // Mostly they are few.
    let different: HashSet<&str> = texts.iter().copied().collect();
    let mut different: Vec<&str> = different.into_iter().collect();
    different.sort_unstable();
    put_varint(out, different.len() as u64);
    for text in &different {
        put_text(out, text);
    }
    let place = |text: &&str| different.partition_point(|other| other < text) as i64;
    put_integer_column(out, &texts.iter().map(place).collect::<Vec<_>>(), ColumnUse::Kept);
}

/// The start of a column, by which queries skip it.
struct Header {
    kinds: u8,
    /// The lowest and the highest number.
    numbers: Option<(f64, f64)>,
}

impl Header {
    fn read(input: &mut Input<'_>) -> Result<Self, FormatError> {
        let kinds = input.byte()?;
        let numbers = if kinds & NUMBERS == 0 {
            None
        } else {
            let min = f64::from_le_bytes(input.array()?);
            Some((min, f64::from_le_bytes(input.array()?)))
        };
        Ok(Self { kinds, numbers })
    }
}

/// A column that was read.
#[derive(Debug)]
pub(crate) struct ParamColumn<'c> {
    /// Number of runs of the cohort.
    runs: usize,
    /// Positions of the runs with a value, in ascending order.
    positions: Vec<u16>,
    kinds: Vec<Kind>,
    integers: Vec<i64>,
    floats: Vec<f64>,
    /// The different texts, in ascending order.
    texts: Vec<&'c str>,
    /// For each text, its place among the different ones.
    places: Vec<u32>,
}

impl<'c> ParamColumn<'c> {
    pub(crate) fn decode(bytes: &'c [u8]) -> Result<Self, FormatError> {
        let mut input = Input::with_format(bytes, FORMAT)?;
        let header = Header::read(&mut input)?;
        let column = Self::read(&header, input)?;
        // A query would skip the column by a wrong range.
        if range_of(column.iter().filter_map(|(_, value)| value.number())) != header.numbers {
            return Err(FormatError("column with a wrong range"));
        }
        Ok(column)
    }

    fn read(header: &Header, mut input: Input<'c>) -> Result<Self, FormatError> {
        let runs = input.count(COHORT_RUNS)?;
        let positions = positions(&mut input, runs)?;
        let kinds = kinds(&mut input, header.kinds, positions.len())?;
        let count = |of: &[Kind]| kinds.iter().filter(|kind| of.contains(kind)).count();
        let integers = match count(&[Kind::Integer]) {
            0 => Vec::new(),
            count => integer_column(&mut input, count)?,
        };
        let floats = match count(&[Kind::Float, Kind::Rounded]) {
            0 => Vec::new(),
            count => float_column(&mut input, count)?,
        };
        let (texts, places) = match count(&[Kind::Text]) {
            0 => (Vec::new(), Vec::new()),
            count => texts(&mut input, count)?,
        };
        input.end()?;
        let column = Self { runs, positions, kinds, integers, floats, texts, places };
        if column.floats.iter().any(|float| float.is_nan()) {
            return Err(FormatError("param that is NaN"));
        }
        Ok(column)
    }

    /// Number of runs of the cohort.
    pub(crate) fn runs(&self) -> usize {
        self.runs
    }

    /// The values, with the positions of their runs in the cohort.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, IndexedParam<'c>)> {
        let mut integers = self.integers.iter();
        let mut floats = self.floats.iter();
        let mut places = self.places.iter();
        self.positions.iter().zip(&self.kinds).map_while(move |(at, kind)| {
            let value = match kind {
                Kind::Null => IndexedParam::Null,
                Kind::False => IndexedParam::Bool(false),
                Kind::True => IndexedParam::Bool(true),
                Kind::Integer => IndexedParam::Integer(*integers.next()?),
                Kind::Float => IndexedParam::Float(*floats.next()?),
                Kind::Rounded => IndexedParam::Rounded(*floats.next()?),
                Kind::Text => IndexedParam::Text(Cow::Borrowed(self.texts[*places.next()? as usize])),
                Kind::LongText => IndexedParam::LongText,
            };
            Some((usize::from(*at), value))
        })
    }
}

impl ParamColumn<'_> {
    fn positions_within(&self, values: &ParamInterval) -> Vec<usize> {
        let positions = self.positions.iter().map(|at| usize::from(*at));
        match values {
            ParamInterval::Texts { low, high } => {
                let low = low.as_ref().map(|low| &**low);
                let high = high.as_ref().map(|high| &**high);
                let first = self.texts.partition_point(|text| !is_from(low, *text)) as u32;
                let end = self.texts.partition_point(|text| is_up_to(high, *text)) as u32;
                let of_texts = positions.zip(&self.kinds).filter(|(_, kind)| **kind == Kind::Text);
                let found = of_texts.zip(&self.places).filter(|(_, place)| (first..end).contains(*place));
                found.map(|((at, _), _)| at).collect()
            }
            // Most columns have one kind of number.
            ParamInterval::Numbers { .. } if self.floats.len() == self.positions.len() => {
                let found = positions.zip(&self.floats).filter(|(_, float)| values.has_number(**float));
                found.map(|(at, _)| at).collect()
            }
            ParamInterval::Numbers { .. } if self.integers.len() == self.positions.len() => {
                let found =
                    positions.zip(&self.integers).filter(|(_, integer)| values.has_number(**integer as f64));
                found.map(|(at, _)| at).collect()
            }
            ParamInterval::Numbers { .. } => {
                let has =
                    |value: &IndexedParam<'_>| value.number().is_some_and(|number| values.has_number(number));
                self.iter().filter(|(_, value)| has(value)).map(|(at, _)| at).collect()
            }
        }
    }
}

/// The positions of the runs of a column with a value in one of these intervals, in ascending order.
pub(crate) fn positions_within(bytes: &[u8], intervals: &[ParamInterval]) -> Result<Vec<usize>, FormatError> {
    let mut input = Input::with_format(bytes, FORMAT)?;
    let header = Header::read(&mut input)?;
    let possible: Vec<&ParamInterval> =
        intervals.iter().filter(|interval| interval.may_be_in(&header)).collect();
    if possible.is_empty() {
        return Ok(Vec::new());
    }
    let column = ParamColumn::read(&header, input)?;
    let mut found: Vec<usize> = Vec::new();
    for interval in &possible {
        found.extend(column.positions_within(interval));
    }
    if possible.len() > 1 {
        found.sort_unstable();
        found.dedup();
    }
    Ok(found)
}

/// Adds to each of the counts the number of values of a column in the interval at the same place.
pub(crate) fn count_within(
    bytes: &[u8],
    intervals: &[ParamInterval],
    counts: &mut [usize],
) -> Result<(), FormatError> {
    let mut input = Input::with_format(bytes, FORMAT)?;
    let header = Header::read(&mut input)?;
    let possible: Vec<_> =
        intervals.iter().zip(counts).filter(|(interval, _)| interval.may_be_in(&header)).collect();
    if possible.is_empty() {
        return Ok(());
    }
    let column = ParamColumn::read(&header, input)?;
    if possible.len() <= FEW_INTERVALS {
        for (interval, count) in possible {
            *count += column.positions_within(interval).len();
        }
        return Ok(());
    }
    let sorted = SortedValues::new(&column);
    for (interval, count) in possible {
        *count += sorted.count(interval);
    }
    Ok(())
}

/// The values of a column in ascending order, so that the values in many intervals are counted quickly.
struct SortedValues<'c> {
    numbers: Vec<f64>,
    /// The different texts.
    texts: &'c [&'c str],
    /// The number of values before each of the different texts, and the number of all texts.
    before: Vec<usize>,
}

impl<'c> SortedValues<'c> {
    fn new(column: &'c ParamColumn<'c>) -> Self {
        let mut numbers: Vec<f64> = column.iter().filter_map(|(_, value)| value.number()).collect();
        numbers.sort_unstable_by(f64::total_cmp);
        let mut of_text = vec![0; column.texts.len()];
        for place in &column.places {
            of_text[*place as usize] += 1;
        }
        let mut before = vec![0];
        let mut sum = 0;
        for count in of_text {
            sum += count;
            before.push(sum);
        }
        Self { numbers, texts: &column.texts, before }
    }

    fn count(&self, values: &ParamInterval) -> usize {
        let (first, end) = match values {
            ParamInterval::Numbers { low, high } => (
                self.numbers.partition_point(|number| !is_from(*low, *number)),
                self.numbers.partition_point(|number| is_up_to(*high, *number)),
            ),
            ParamInterval::Texts { low, high } => {
                let low = low.as_ref().map(|low| &**low);
                let high = high.as_ref().map(|high| &**high);
                let first = self.texts.partition_point(|text| !is_from(low, *text));
                let end = self.texts.partition_point(|text| is_up_to(high, *text));
                (self.before[first], self.before[end])
            }
        };
        // An interval may end before its start.
        end.saturating_sub(first)
    }
}

fn positions(input: &mut Input<'_>, runs: usize) -> Result<Vec<u16>, FormatError> {
    let all = 0..runs as u16;
    match input.byte()? {
        0 => Ok(all.collect()),
        1 => Ok(all.zip(bits(input, runs)?).filter(|(_, has_value)| *has_value).map(|(at, _)| at).collect()),
        _ => Err(FormatError("unknown form of bit map")),
    }
}

fn kinds(input: &mut Input<'_>, mask: u8, count: usize) -> Result<Vec<Kind>, FormatError> {
    if mask.count_ones() == 1 {
        return Ok(vec![Kind::ALL[mask.trailing_zeros() as usize]; count]);
    }
    let numbers = integer_column(input, count)?;
    let kinds: Option<Vec<Kind>> = numbers
        .into_iter()
        .map(|number| usize::try_from(number).ok().and_then(|number| Kind::ALL.get(number)).copied())
        .collect();
    let kinds = kinds.ok_or(FormatError("unknown kind of param"))?;
    if kinds_mask(&kinds) == mask { Ok(kinds) } else { Err(FormatError("column with wrong kinds")) }
}

fn texts<'c>(input: &mut Input<'c>, count: usize) -> Result<(Vec<&'c str>, Vec<u32>), FormatError> {
    let different = input.count(count)?;
    let texts: Vec<&str> = (0..different).map(|_| input.text()).collect::<Result<_, _>>()?;
    if !texts.is_sorted_by(|left, right| left < right) {
        return Err(FormatError("texts out of order"));
    }
    let places = integer_column(input, count)?;
    let known = |place: i64| u32::try_from(place).ok().filter(|place| (*place as usize) < different);
    let places: Option<Vec<u32>> = places.into_iter().map(known).collect();
    Ok((texts, places.ok_or(FormatError("text out of bounds"))?))
}

/// Decodes bytes as a column, which must not panic, and checks that what is decoded survives another round trip.
pub fn fuzz_column(bytes: &[u8]) {
    let Ok(column) = ParamColumn::decode(bytes) else { return };
    let values: Vec<_> = column.iter().collect();
    assert!(values.iter().all(|(at, _)| *at < column.runs()), "a value is of no run");
    for again in encode_columns(column.runs(), &values) {
        let again = ParamColumn::decode(&again).expect("an encoded column can be decoded");
        assert!(again.iter().all(|value| values.contains(&value)), "a value changed in a round trip");
    }
}

#[cfg(test)]
mod tests;
