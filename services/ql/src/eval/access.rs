//! Reading the run, its sequences and the parts of values: properties, params, attributes and items.
//! By contract attribute access never fails (what is not there is None), item access does.

use super::{Machine, Raise, Result};
use crate::limits::{BudgetError, MAX_VALUE_DEPTH};
use crate::names::{self, Builtin, Member, Property, SequenceField};
use crate::tree::{Lookup, Metric, Node, Step};
use crate::value::{Bound, Dict, Frame, Value};
use crate::view::{Datum, Path, SequenceView};
use num_bigint::{BigInt, Sign};

impl<'a> Machine<'a> {
    pub(super) fn property(&self, property: Property) -> Result<Value<'a>> {
        let text = |text: Option<&'a str>| text.map_or(Value::None, Value::Text);
        let run = self.run;
        Ok(match property {
            Property::Hash => Value::Text(run.hash()),
            Property::Name => text(run.name()),
            Property::Description => text(run.description()),
            Property::Experiment => text(run.experiment()),
            Property::CreatedAt | Property::CreationTime => Value::Time(run.created_at()),
            Property::EndTime => run.end_time().map_or(Value::None, Value::Time),
            Property::Duration => Value::Span(run.end_time().map_or(0.0, |end| end - run.created_at())),
            Property::Active => Value::Bool(run.active()),
            Property::Archived | Property::IsArchived => Value::Bool(run.archived()),
        })
    }

    pub(super) fn param(&self, lookup: &'a Lookup) -> Result<Value<'a>> {
        match self.run.param(&lookup.path) {
            Some(datum) => self.datum(datum),
            None if lookup.absent_is_none() => Ok(Value::None),
            None => {
                let first = &lookup.path.keys()[0];
                let top = self.param_of(first)?;
                self.follow(top, &lookup.path.keys()[1..], &lookup.steps[1..])
            }
        }
    }

    /// A top-level param.
    fn param_of(&self, key: &str) -> Result<Value<'a>> {
        self.run.param(&Path::new([key])).map_or(Ok(Value::None), |datum| self.datum(datum))
    }

    pub(super) fn context(&self, lookup: &'a Lookup) -> Result<Value<'a>> {
        let sequence = self.sequence.ok_or(Raise::NameError)?;
        match sequence.context(&lookup.path) {
            Some(datum) => self.datum(datum),
            None if lookup.absent_is_none() => Ok(Value::None),
            None => self.follow(self.whole_context(sequence)?, lookup.path.keys(), &lookup.steps),
        }
    }

    fn whole_context(&self, sequence: &'a dyn SequenceView) -> Result<Value<'a>> {
        sequence.context(&Path::default()).map_or(Ok(Value::None), |datum| self.datum(datum))
    }

    /// Takes the steps of a path one by one, where a missing part or a member decides.
    fn follow(&self, top: Value<'a>, keys: &'a [Box<str>], steps: &[Step]) -> Result<Value<'a>> {
        let mut value = top;
        for (key, step) in keys.iter().zip(steps) {
            value = match step {
                Step::Attribute(member) => self.attribute(value, key, *member)?,
                Step::Item => self.index(value, Value::Text(key))?,
                Step::Lenient => match value {
                    Value::Object(object) => self.entry(object, key)?.unwrap_or(Value::None),
                    _ => Value::None,
                },
            };
        }
        Ok(value)
    }

    pub(super) fn sequence_field(&self, field: SequenceField) -> Result<Value<'a>> {
        let sequence = self.sequence.ok_or(Raise::NameError)?;
        self.field_of(sequence, field)
    }

    fn field_of(&self, sequence: &'a dyn SequenceView, field: SequenceField) -> Result<Value<'a>> {
        let number = |value: Option<f64>| value.map_or(Value::None, Value::Float);
        let step = |value: Option<i64>| value.map_or(Value::None, Value::Int);
        Ok(match field {
            SequenceField::Name => Value::Text(sequence.name()),
            SequenceField::Context => self.whole_context(sequence)?,
            SequenceField::Run => Value::Run,
            SequenceField::Dtype => Value::Text(sequence.dtype()),
            SequenceField::First => number(sequence.summary().first),
            SequenceField::Last => number(sequence.summary().last),
            SequenceField::Min => number(sequence.summary().min),
            SequenceField::Max => number(sequence.summary().max),
            SequenceField::FirstStep => step(sequence.summary().first_step),
            SequenceField::LastStep => step(sequence.summary().last_step),
        })
    }

    pub(super) fn metric(&self, frame: Frame<'a>, metric: &'a Metric) -> Result<Value<'a>> {
        let name = self.eval(frame, &metric.name)?;
        match &metric.context {
            None if matches!(name, Value::Tuple([_, _])) => self.index(Value::Metrics, name),
            None => self.metric_of(name, None),
            Some(context) => {
                let context = self.eval(frame, context)?;
                self.metric_of(name, Some(context))
            }
        }
    }

    /// The sequence of that name: in that context, else without one, else the first.
    fn metric_of(&self, name: Value<'a>, context: Option<Value<'a>>) -> Result<Value<'a>> {
        let Value::Text(name) = name else { return Ok(Value::NoSequence) };
        let sequences = self.run.sequences(name);
        self.spend(sequences.len() as u64)?;
        let mut equal = None;
        for &sequence in &sequences {
            let known = self.whole_context(sequence)?;
            match context {
                None if !known.truth() => return Ok(Value::Sequence(sequence)),
                None => {}
                Some(wanted) if self.same_context(known, wanted, true)? => {
                    return Ok(Value::Sequence(sequence));
                }
                Some(wanted) if equal.is_none() && self.same_context(known, wanted, false)? => {
                    equal = Some(sequence);
                }
                Some(_) => {}
            }
        }
        let first = context.is_none().then(|| sequences.first().copied()).flatten();
        Ok(equal.or(first).map_or(Value::NoSequence, Value::Sequence))
    }

    pub(super) fn has_sequence(&self, name: Value<'a>) -> Result<bool> {
        let found = match name {
            Value::Tuple([name, context]) => self.metric_of(*name, Some(*context))?,
            name => self.metric_of(name, None)?,
        };
        Ok(matches!(found, Value::Sequence(_)))
    }

    pub(super) fn attribute(
        &self,
        object: Value<'a>,
        name: &str,
        member: Option<Member>,
    ) -> Result<Value<'a>> {
        match object {
            Value::Object(dict) => Ok(self.entry(dict, name)?.unwrap_or(Value::None)),
            Value::Run => self.run_attribute(name),
            Value::Sequence(sequence) => match SequenceField::find(name) {
                Some(field) => self.field_of(sequence, field),
                None => Ok(Value::None),
            },
            Value::Builtin(builtin) => self.builtin_attribute(builtin, name, member),
            _ => match member {
                Some(member) => self.member(object, member),
                None => Ok(Value::None),
            },
        }
    }

    fn run_attribute(&self, name: &str) -> Result<Value<'a>> {
        match name {
            "tags" => Ok(Value::Tags),
            "metrics" => Ok(Value::Metrics),
            _ => match Property::find(name) {
                Some(property) => self.property(property),
                None => self.param_of(name),
            },
        }
    }

    fn builtin_attribute(&self, owner: Builtin, name: &str, member: Option<Member>) -> Result<Value<'a>> {
        if let Builtin::Module(module) = owner {
            if let Some(number) = names::module_number(module, name) {
                return Ok(Value::Float(number));
            }
            if let Some(text) = names::module_text(module, name) {
                return Ok(Value::Text(text));
            }
        }
        match (names::member_function(owner, name), owner, member) {
            (Some(function), _, _) => self.builtin(function),
            (None, Builtin::Class(_), Some(member)) => {
                self.alloc(Bound { receiver: Value::Builtin(owner), member }).map(Value::Bound)
            }
            _ => Ok(Value::None),
        }
    }

    /// A built-in name as a value; `string.Formatter` is refused as soon as it is touched.
    pub(super) fn builtin(&self, builtin: Builtin) -> Result<Value<'a>> {
        match builtin {
            Builtin::Formatter => Err(Raise::NotImplementedError.into()),
            _ => Ok(Value::Builtin(builtin)),
        }
    }

    /// The value at a text key of a dict.
    pub(super) fn entry(&self, dict: &'a Dict<'a>, key: &str) -> Result<Option<Value<'a>>> {
        self.spend(1)?;
        let same = |known: &Value<'a>| Ok::<bool, super::Stop>(known.text() == Some(key));
        Ok(dict.find(super::compare::hash_text(key), same)?.map(|entry| entry.value))
    }

    pub(super) fn index(&self, object: Value<'a>, index: Value<'a>) -> Result<Value<'a>> {
        if let Value::Slice(parts) = index {
            return self.slice(object, parts);
        }
        match object {
            Value::Dict(dict) | Value::Object(dict) => {
                let hash = self.hash(index)?;
                let found = dict.find(hash, |known| self.equal(*known, index))?;
                Ok(found.ok_or(Raise::KeyError)?.value)
            }
            Value::List(items) | Value::Tuple(items) => Ok(items[self.position(index, items.len())?]),
            Value::Text(text) => self.character(text, index),
            Value::Bytes(bytes) => Ok(Value::Int(i64::from(bytes[self.position(index, bytes.len())?]))),
            Value::Range(range) => {
                let length = usize::try_from(range.len()).unwrap_or(usize::MAX);
                Ok(Value::Int(range.at(self.position(index, length)? as i64)))
            }
            Value::Run => match index {
                Value::Text(key) => self.param_of(key),
                Value::Tuple([Value::Text(key), rest @ ..]) => self.path_of(key, rest),
                _ => Ok(Value::None),
            },
            Value::Metrics => match index {
                Value::Tuple([name, context]) => self.metric_of(*name, Some(*context)),
                name => self.metric_of(name, None),
            },
            _ => Err(Raise::TypeError.into()),
        }
    }

    /// `run["a", "b"]`.
    fn path_of(&self, first: &'a str, rest: &[Value<'a>]) -> Result<Value<'a>> {
        let rest = rest.iter().map(Value::text);
        match [Some(first)].into_iter().chain(rest).collect::<Option<Vec<&str>>>() {
            Some(keys) => self.run.param(&Path::new(keys)).map_or(Ok(Value::None), |datum| self.datum(datum)),
            None => Ok(Value::None),
        }
    }

    fn position(&self, index: Value<'a>, length: usize) -> Result<usize> {
        let index = match index {
            Value::Big(_) => return Err(Raise::IndexError.into()),
            index => index.small_int().ok_or(Raise::TypeError)?,
        };
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let index = if index < 0 { index.saturating_add(length) } else { index };
        match (0..length).contains(&index) {
            true => Ok(index as usize),
            false => Err(Raise::IndexError.into()),
        }
    }

    fn character(&self, text: &'a str, index: Value<'a>) -> Result<Value<'a>> {
        self.spend_bytes(text.len())?;
        if text.is_ascii() {
            let at = self.position(index, text.len())?;
            return Ok(Value::Text(&text[at..=at]));
        }
        let at = self.position(index, text.chars().count())?;
        let (start, character) = text.char_indices().nth(at).ok_or(Raise::IndexError)?;
        Ok(Value::Text(&text[start..start + character.len_utf8()]))
    }

    fn slice(&self, object: Value<'a>, parts: &[Value<'a>; 3]) -> Result<Value<'a>> {
        match object {
            Value::List(items) => self.sliced(items, parts).map(Value::List),
            Value::Tuple(items) => self.sliced(items, parts).map(Value::Tuple),
            Value::Bytes(bytes) => {
                let positions = self.slice_positions(parts, bytes.len())?;
                let taken: Vec<u8> = positions.map(|at| bytes[at]).collect();
                self.alloc_bytes(&taken).map(Value::Bytes)
            }
            Value::Text(text) => self.sliced_text(text, parts),
            Value::Range(range) => self.sliced_range(range, parts),
            _ => Err(Raise::TypeError.into()),
        }
    }

    fn sliced(&self, items: &'a [Value<'a>], parts: &[Value<'a>; 3]) -> Result<&'a [Value<'a>]> {
        let taken: Vec<Value<'a>> = self.slice_positions(parts, items.len())?.map(|at| items[at]).collect();
        self.alloc_values(&taken)
    }

    fn sliced_text(&self, text: &'a str, parts: &[Value<'a>; 3]) -> Result<Value<'a>> {
        self.spend_bytes(text.len())?;
        let (start, stop, step) = self.slice_bounds(parts, text.chars().count())?;
        if step == 1 {
            let at = |position: i64| {
                text.char_indices().nth(position as usize).map_or(text.len(), |(offset, _)| offset)
            };
            return Ok(Value::Text(if start < stop { &text[at(start)..at(stop)] } else { "" }));
        }
        let characters: Vec<char> = text.chars().collect();
        let taken: String = positions(start, stop, step).map(|at| characters[at]).collect();
        self.text(&taken)
    }

    fn sliced_range(&self, range: &crate::value::Range, parts: &[Value<'a>; 3]) -> Result<Value<'a>> {
        let length = usize::try_from(range.len()).unwrap_or(usize::MAX);
        let (start, stop, step) = self.slice_bounds(parts, length)?;
        let sliced = crate::value::Range {
            start: range.at(start),
            stop: range.at(stop),
            step: range.step.checked_mul(step).ok_or(Raise::OverflowError)?,
        };
        self.alloc(sliced).map(Value::Range)
    }

    fn slice_positions(
        &self,
        parts: &[Value<'a>; 3],
        length: usize,
    ) -> Result<impl Iterator<Item = usize> + use<>> {
        let (start, stop, step) = self.slice_bounds(parts, length)?;
        self.spend(length as u64 / 8)?;
        Ok(positions(start, stop, step))
    }

    /// Python's clamping of a slice to a length.
    fn slice_bounds(&self, parts: &[Value<'a>; 3], length: usize) -> Result<(i64, i64, i64)> {
        let part = |value: Value<'a>| match value {
            Value::None => Ok(None),
            Value::Big(big) => Ok(Some(if big.negative { i64::MIN } else { i64::MAX })),
            value => value.small_int().map(Some).ok_or(Raise::TypeError),
        };
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let step = part(parts[2])?.unwrap_or(1);
        if step == 0 {
            return Err(Raise::ValueError.into());
        }
        let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
        let clamp = |bound: i64| {
            let bound = if bound < 0 { bound.saturating_add(length) } else { bound };
            bound.clamp(low, high)
        };
        let (first, last) = if step > 0 { (low, high) } else { (high, low) };
        Ok((part(parts[0])?.map_or(first, clamp), part(parts[1])?.map_or(last, clamp), step))
    }

    /// A stored value as one of evaluation.
    pub(super) fn datum(&self, datum: Datum<'a>) -> Result<Value<'a>> {
        Ok(match datum {
            Datum::None => Value::None,
            Datum::Bool(value) => Value::Bool(value),
            Datum::Int(value) => Value::Int(value),
            Datum::Float(value) => Value::Float(value),
            Datum::Text(std::borrow::Cow::Borrowed(text)) => Value::Text(text),
            datum => self.large_datum(datum, 0)?,
        })
    }

    fn large_datum(&self, datum: Datum<'a>, depth: u32) -> Result<Value<'a>> {
        use std::borrow::Cow;
        if depth > MAX_VALUE_DEPTH {
            return Err(BudgetError::Depth.into());
        }
        self.spend(1)?;
        Ok(match datum {
            Datum::Text(Cow::Owned(text)) => self.text(&text)?,
            Datum::Bytes(Cow::Borrowed(bytes)) => Value::Bytes(bytes),
            Datum::Bytes(Cow::Owned(bytes)) => Value::Bytes(self.alloc_bytes(&bytes)?),
            Datum::BigInt { negative, magnitude } => {
                let sign = if negative { Sign::Minus } else { Sign::Plus };
                self.integer(BigInt::from_bytes_be(sign, &magnitude))?
            }
            Datum::List(items) => {
                let items = items.into_iter().map(|item| self.large_datum(item, depth + 1));
                self.list(&items.collect::<Result<Vec<_>>>()?)?
            }
            Datum::Object(entries) => {
                let mut values = Vec::with_capacity(entries.len());
                for (key, datum) in entries {
                    let key = match key {
                        Cow::Borrowed(key) => key,
                        Cow::Owned(key) => self.text(&key)?.text().unwrap_or_default(),
                    };
                    values.push((key, self.large_datum(datum, depth + 1)?));
                }
                match self.text_dict(&values)? {
                    Value::Dict(dict) => Value::Object(dict),
                    other => other,
                }
            }
            scalar => self.datum(scalar)?,
        })
    }

    pub(super) fn in_constants(&self, needle: Value<'a>, haystack: &'a Node) -> Result<Option<bool>> {
        let Some(constants) = haystack.constants() else { return Ok(None) };
        if matches!(haystack, Node::Display(crate::tree::Display::Set, _)) {
            self.hash(needle)?;
        }
        for constant in constants {
            self.spend(1)?;
            if self.equal(needle, Value::constant(constant))? {
                return Ok(Some(true));
            }
        }
        Ok(Some(false))
    }

    /// An attribute that the type of a value has: a field at once, a method bound to the value.
    pub(super) fn member(&self, object: Value<'a>, member: Member) -> Result<Value<'a>> {
        if let Some(value) = self.field(object, member)? {
            return Ok(value);
        }
        match self.has_method(object, member) {
            true => self.alloc(Bound { receiver: object, member }).map(Value::Bound),
            false => Ok(Value::None),
        }
    }

    fn field(&self, object: Value<'a>, member: Member) -> Result<Option<Value<'a>>> {
        Ok(Some(match (object, member) {
            (Value::Bool(_) | Value::Int(_) | Value::Big(_), Member::Real | Member::Numerator) => {
                self.unary(crate::tree::Unary::Plus, object)?
            }
            (Value::Bool(_) | Value::Int(_) | Value::Big(_), Member::Imag) => Value::Int(0),
            (Value::Bool(_) | Value::Int(_) | Value::Big(_), Member::Denominator) => Value::Int(1),
            (Value::Float(value), Member::Real) => Value::Float(value),
            (Value::Float(_), Member::Imag) => Value::Float(0.0),
            (Value::Complex(real, _), Member::Real) => Value::Float(real),
            (Value::Complex(_, imaginary), Member::Imag) => Value::Float(imaginary),
            (Value::Range(range), Member::Start) => Value::Int(range.start),
            (Value::Range(range), Member::Stop) => Value::Int(range.stop),
            (Value::Range(range), Member::Step) => Value::Int(range.step),
            (Value::Slice(parts), Member::Start) => parts[0],
            (Value::Slice(parts), Member::Stop) => parts[1],
            (Value::Slice(parts), Member::Step) => parts[2],
            (Value::Time(seconds), member) => return self.time_field(seconds, member),
            (Value::Span(seconds), member) => return Ok(super::time::span_field(seconds, member)),
            _ => return Ok(None),
        }))
    }
}

fn positions(start: i64, stop: i64, step: i64) -> impl Iterator<Item = usize> + use<> {
    let mut at = start;
    std::iter::from_fn(move || {
        let more = if step > 0 { at < stop } else { at > stop };
        more.then(|| {
            let current = at as usize;
            at = at.saturating_add(step);
            current
        })
    })
}
