//! The built-in functions. Those that could reach beyond values do not exist; the small set
//! that always failed still does. `hash` and `id` are stable: they depend on the value, not on
//! the process.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_traits::Signed;

use super::call::bind_arguments;
use super::integer::Number;
use super::names::Arguments;
use super::{EvalError, Exception, Machine, Result};
use crate::limits::MAX_VALUE_DEPTH;
use crate::names::{Builtin, Class, Function};
use crate::tree::Operator;
use crate::value::Value;

impl<'a> Machine<'a> {
    pub(super) fn function(&self, function: Function, arguments: Arguments<'a>) -> Result<Value<'a>> {
        match function {
            Function::Max => return self.min_or_max(arguments, Ordering::Greater),
            Function::Min => return self.min_or_max(arguments, Ordering::Less),
            Function::Sorted => return self.sorted(arguments),
            Function::Sum => {
                let [items, start] = bind_arguments(arguments, ["", "start"], 1)?;
                return self.sum(items, start);
            }
            Function::Round => {
                let [number, digits] = bind_arguments(arguments, ["number", "ndigits"], 1)?;
                return self.round(number.unwrap_or(Value::None), digits.unwrap_or(Value::None));
            }
            Function::Pow => {
                let [base, exponent, modulus] = bind_arguments(arguments, ["base", "exp", "mod"], 2)?;
                return self.pow(base, exponent, modulus.unwrap_or(Value::None));
            }
            _ if !arguments.keywords.is_empty() => return Err(Exception::TypeError.into()),
            _ => {}
        }
        match (function, arguments.positional) {
            (Function::Abs, [value]) => self.absolute(*value),
            (Function::All, [items]) => self.any_or_all(*items, false),
            (Function::Any, [items]) => self.any_or_all(*items, true),
            (Function::Callable, [value]) => Ok(Value::Bool(is_callable(*value))),
            (Function::Chr, [value]) => {
                let code = match value {
                    Value::Big(_) => return Err(Exception::OverflowError.into()),
                    value => value.small_int().ok_or(Exception::TypeError)?,
                };
                let code = i32::try_from(code).map_err(|_| Exception::OverflowError)?.cast_unsigned();
                let character = char::from_u32(code).ok_or(Exception::ValueError)?;
                self.text(character.encode_utf8(&mut [0; 4]))
            }
            (Function::DivMod, [a, b]) => {
                let quotient = self.binary(Operator::FloorDivide, *a, *b)?;
                self.tuple(&[quotient, self.binary(Operator::Modulo, *a, *b)?])
            }
            (Function::Hash, [value]) => match (value.small_int(), value.float()) {
                // As in Python, an integer is its own hash, and an integral float hashes like the
                // integer.
                (Some(int), _) => Ok(Value::Int(int)),
                (None, Some(float)) if float.fract() == 0.0 && float.abs() < 1e15 => {
                    Ok(Value::Int(float as i64))
                }
                _ => Ok(Value::Int(self.hash(*value)?.cast_signed())),
            },
            (Function::Id, [value]) => match self.hash(*value) {
                Ok(hash) => Ok(Value::Int((hash >> 1).cast_signed() | 1)),
                Err(EvalError::Budget(budget)) => Err(budget.into()),
                // Unhashable values all have the same id.
                Err(EvalError::Exception(_)) => Ok(Value::Int(1)),
            },
            (Function::Hex, [value]) => self.in_radix(*value, 16, "0x"),
            (Function::Oct, [value]) => self.in_radix(*value, 8, "0o"),
            (Function::IsInstance, [value, classes]) => {
                self.is_instance(*value, *classes, 0).map(Value::Bool)
            }
            (Function::IsSubclass, [class, classes]) => {
                self.is_subclass(*class, *classes, 0).map(Value::Bool)
            }
            (Function::Len, [value]) => self.length(*value),
            (Function::Ord, [value]) => ordinal(*value),
            (Function::Repr, [value]) => self.repr(*value),
            (Function::SameType, [first, rest @ ..]) => {
                Ok(Value::Bool(rest.iter().all(|value| type_name(*value) == type_name(*first))))
            }
            (Function::Test, arguments) => test(arguments),
            (Function::Reorder, [items, by]) => self.reorder(*items, *by),
            _ => Err(Exception::TypeError.into()),
        }
    }

    /// `any` and `all`: stops at the first element whose truth decides the result.
    fn any_or_all(&self, items: Value<'a>, decisive: bool) -> Result<Value<'a>> {
        let mut found = false;
        self.each(items, &mut |item| {
            found = item.truth() == decisive;
            Ok(!found)
        })?;
        Ok(Value::Bool(found == decisive))
    }

    fn absolute(&self, value: Value<'a>) -> Result<Value<'a>> {
        match value {
            Value::Complex(real, imaginary) => Ok(Value::Float(real.hypot(imaginary))),
            Value::Span(seconds) => Ok(Value::Span(seconds.abs())),
            value => match Number::from_value(value).ok_or(Exception::TypeError)? {
                Number::Int(int) => self.integer(BigInt::from(int).abs()),
                Number::Big(big) => self.integer(big.abs()),
                Number::Float(float) => Ok(Value::Float(float.abs())),
            },
        }
    }

    pub(super) fn length(&self, value: Value<'a>) -> Result<Value<'a>> {
        let length = match value {
            Value::Text(text) => {
                self.spend_bytes(text.len())?;
                text.chars().count()
            }
            Value::Bytes(bytes) => bytes.len(),
            Value::List(items) | Value::Tuple(items) => items.len(),
            Value::Dict(dict) | Value::Object(dict) => dict.entries().len(),
            Value::Set(set) => set.items().len(),
            Value::Range(range) => return Ok(Value::Int(range.len())),
            Value::Tags => self.run.tags().len(),
            _ => return Err(Exception::TypeError.into()),
        };
        Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
    }

    fn min_or_max(&self, arguments: Arguments<'a>, wanted: Ordering) -> Result<Value<'a>> {
        let keyword =
            |name: &str| arguments.keywords.iter().find(|(known, _)| *known == name).map(|(_, v)| *v);
        if arguments.keywords.iter().any(|(name, _)| !matches!(*name, "key" | "default")) {
            return Err(Exception::TypeError.into());
        }
        let items = match arguments.positional {
            [items] => self.collect(*items)?,
            [] => return Err(Exception::TypeError.into()),
            items if keyword("default").is_some() => {
                return Err(
                    if items.is_empty() { Exception::ValueError } else { Exception::TypeError }.into()
                );
            }
            items => items.to_vec(),
        };
        let key = keyword("key").unwrap_or(Value::None);
        let mut best: Option<(Value<'a>, Value<'a>)> = None;
        for item in items {
            let rank = self.rank(key, item)?;
            let better = match best {
                None => true,
                // A strict comparison: the first of equal items wins, as in Python.
                Some((_, known)) => self.order_of(rank, known)? == Some(wanted),
            };
            if better {
                best = Some((item, rank));
            }
        }
        best.map(|(item, _)| item).or(keyword("default")).ok_or(Exception::ValueError.into())
    }

    fn rank(&self, key: Value<'a>, item: Value<'a>) -> Result<Value<'a>> {
        match key {
            Value::None => Ok(item),
            key => self.call_value(key, Arguments::from_positional(std::slice::from_ref(self.alloc(item)?))),
        }
    }

    /// Compares the way `<` does. Sets, which are ordered by inclusion, may be unordered.
    fn order_of(&self, left: Value<'a>, right: Value<'a>) -> Result<Option<Ordering>> {
        match (left, right) {
            (Value::Set(left), Value::Set(right)) => {
                match (self.is_subset(left, right)?, self.is_subset(right, left)?) {
                    (true, false) => Ok(Some(Ordering::Less)),
                    (false, true) => Ok(Some(Ordering::Greater)),
                    (true, true) => Ok(Some(Ordering::Equal)),
                    (false, false) => Ok(None),
                }
            }
            _ => self.order(left, right, 0),
        }
    }

    fn sorted(&self, arguments: Arguments<'a>) -> Result<Value<'a>> {
        let [items] = arguments.positional else { return Err(Exception::TypeError.into()) };
        let (mut key, mut reverse) = (Value::None, false);
        for (name, value) in arguments.keywords {
            match *name {
                "key" => key = *value,
                "reverse" => reverse = value.truth(),
                _ => return Err(Exception::TypeError.into()),
            }
        }
        let mut ranked = Vec::new();
        for item in self.collect(*items)? {
            ranked.push((self.rank(key, item)?, item));
        }
        self.sort(&mut ranked, reverse)?;
        let items: Vec<Value<'a>> = ranked.into_iter().map(|(_, item)| item).collect();
        self.list(&items)
    }

    /// A merge sort, stable in both directions. Unlike the standard sort, it cannot panic
    /// if the comparison raises or is not a total order (NaN).
    fn sort(&self, items: &mut Vec<(Value<'a>, Value<'a>)>, reverse: bool) -> Result<()> {
        let later = if reverse { Ordering::Greater } else { Ordering::Less };
        let mut width = 1;
        while width < items.len() {
            let mut merged = Vec::with_capacity(items.len());
            for pair in items.chunks(width * 2) {
                let (left, right) = pair.split_at(width.min(pair.len()));
                let (mut a, mut b) = (0, 0);
                while a < left.len() && b < right.len() {
                    self.spend(1)?;
                    if self.order_of(right[b].0, left[a].0)? == Some(later) {
                        merged.push(right[b]);
                        b += 1;
                    } else {
                        merged.push(left[a]);
                        a += 1;
                    }
                }
                merged.extend_from_slice(&left[a..]);
                merged.extend_from_slice(&right[b..]);
            }
            *items = merged;
            width *= 2;
        }
        Ok(())
    }

    fn sum(&self, items: Option<Value<'a>>, start: Option<Value<'a>>) -> Result<Value<'a>> {
        let mut total = start.unwrap_or(Value::Int(0));
        if matches!(total, Value::Text(_) | Value::Bytes(_)) {
            return Err(Exception::TypeError.into());
        }
        // Neumaier summation: rounding errors of floats are accumulated separately, as
        // in Python 3.12.
        let mut lost = 0.0;
        self.each(items.unwrap_or(Value::None), &mut |item| {
            total = match (total, item) {
                (Value::Float(sum), Value::Float(term)) => {
                    let next = sum + term;
                    lost += match sum.abs() >= term.abs() {
                        true => (sum - next) + term,
                        false => (term - next) + sum,
                    };
                    Value::Float(next)
                }
                (sum, item) => self.binary(Operator::Add, sum, item)?,
            };
            Ok(true)
        })?;
        Ok(match total {
            // The correction is meaningless once the sum is infinite or NaN.
            Value::Float(sum) if lost.is_finite() => Value::Float(sum + lost),
            total => total,
        })
    }

    fn pow(
        &self,
        base: Option<Value<'a>>,
        exponent: Option<Value<'a>>,
        modulus: Value<'a>,
    ) -> Result<Value<'a>> {
        let (base, exponent) = (base.unwrap_or(Value::None), exponent.unwrap_or(Value::None));
        if matches!(modulus, Value::None) {
            return self.binary(Operator::Power, base, exponent);
        }
        let integer = |value| {
            Number::from_value(value).and_then(|number| number.to_bigint()).ok_or(Exception::TypeError)
        };
        let (base, exponent, modulus) = (integer(base)?, integer(exponent)?, integer(modulus)?);
        if modulus == BigInt::ZERO {
            return Err(Exception::ValueError.into());
        }
        self.spend(exponent.bits() * (modulus.bits() / 64 + 1) * (modulus.bits() / 64 + 1) / 8)?;
        if exponent.is_negative() {
            let inverse = base.modinv(&modulus).ok_or(Exception::ValueError)?;
            return self.integer(inverse.modpow(&-exponent, &modulus));
        }
        self.integer(base.modpow(&exponent, &modulus))
    }

    fn in_radix(&self, value: Value<'a>, radix: u32, prefix: &str) -> Result<Value<'a>> {
        let integer =
            Number::from_value(value).and_then(|number| number.to_bigint()).ok_or(Exception::TypeError)?;
        let sign = if integer.is_negative() { "-" } else { "" };
        self.text(&format!("{sign}{prefix}{}", integer.abs().to_str_radix(radix)))
    }

    fn is_instance(&self, value: Value<'a>, classes: Value<'a>, depth: u32) -> Result<bool> {
        self.check_class_depth(depth)?;
        match classes {
            Value::Builtin(Builtin::Class(class)) => Ok(self.is_instance_of(value, class)),
            Value::Builtin(Builtin::Exception(kind)) => {
                Ok(matches!(value, Value::Exception(other) if other == kind))
            }
            Value::Tuple(classes) => {
                for class in classes {
                    if self.is_instance(value, *class, depth + 1)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            _ => Err(Exception::TypeError.into()),
        }
    }

    pub(super) fn is_instance_of(&self, value: Value<'a>, class: Class) -> bool {
        match (class, value) {
            // In Python, `bool` is a subclass of `int`.
            (Class::Int, Value::Bool(_)) => true,
            (Class::DateTime, value) => matches!(value, Value::Time(_)),
            (Class::TimeDelta, value) => matches!(value, Value::Span(_)),
            (class, value) => type_name(value) == class.name(),
        }
    }

    /// Checks the depth, as tuples of classes may be nested.
    fn check_class_depth(&self, depth: u32) -> Result<()> {
        if depth > MAX_VALUE_DEPTH { Err(Exception::RecursionError.into()) } else { self.spend(1) }
    }

    fn is_subclass(&self, class: Value<'a>, classes: Value<'a>, depth: u32) -> Result<bool> {
        self.check_class_depth(depth)?;
        match (class, classes) {
            (Value::Builtin(Builtin::Class(class)), Value::Builtin(Builtin::Class(other))) => {
                Ok(class == other || (class, other) == (Class::Bool, Class::Int))
            }
            (Value::Builtin(Builtin::Class(_)), Value::Tuple(classes)) => {
                for other in classes {
                    if self.is_subclass(class, *other, depth + 1)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Value::Builtin(Builtin::Exception(class)), Value::Builtin(Builtin::Exception(other))) => {
                Ok(class == other)
            }
            _ => Err(Exception::TypeError.into()),
        }
    }

    /// Returns the elements of the first argument that are in the second, in the order of
    /// the second.
    fn reorder(&self, items: Value<'a>, by: Value<'a>) -> Result<Value<'a>> {
        let known = self.collect_set(items, false)?;
        let mut ordered = Vec::new();
        self.each(by, &mut |item| {
            if self.contains(known, item)? {
                ordered.push(item);
            }
            Ok(true)
        })?;
        self.list(&ordered)
    }
}

/// `test(c1, v1, c2, v2, …, default)`: returns the value of the first true condition.
fn test<'a>(arguments: &[Value<'a>]) -> Result<Value<'a>> {
    let pairs = arguments.chunks_exact(2);
    let default = pairs.remainder().first().copied().unwrap_or(Value::None);
    Ok(pairs.into_iter().find(|pair| pair[0].truth()).map_or(default, |pair| pair[1]))
}

fn ordinal<'a>(value: Value<'a>) -> Result<Value<'a>> {
    match value {
        Value::Text(text) => {
            let mut characters = text.chars();
            match (characters.next(), characters.next()) {
                (Some(character), None) => Ok(Value::Int(i64::from(u32::from(character)))),
                _ => Err(Exception::TypeError.into()),
            }
        }
        Value::Bytes([byte]) => Ok(Value::Int(i64::from(*byte))),
        _ => Err(Exception::TypeError.into()),
    }
}

fn is_callable(value: Value<'_>) -> bool {
    match value {
        Value::Builtin(builtin) => !matches!(builtin, Builtin::Module(_)),
        Value::BoundMethod(_) | Value::Closure(_) => true,
        _ => false,
    }
}

/// Returns the name of a value's type; times count as floats, stored objects as dicts.
pub(super) fn type_name(value: Value<'_>) -> &'static str {
    match value {
        Value::None => "NoneType",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::Big(_) => "int",
        Value::Float(_) | Value::Time(_) | Value::Span(_) => "float",
        Value::Complex(..) => "complex",
        Value::Text(_) => "str",
        Value::Bytes(_) => "bytes",
        Value::List(_) => "list",
        Value::Tuple(_) => "tuple",
        Value::Dict(_) | Value::Object(_) => "dict",
        Value::Set(set) if set.frozen => "frozenset",
        Value::Set(_) => "set",
        Value::Range(_) => "range",
        Value::Slice(_) => "slice",
        Value::Run => "Run",
        Value::Tags => "Tags",
        Value::Metrics => "Metrics",
        Value::Sequence(_) | Value::NoSequence => "Sequence",
        Value::Builtin(Builtin::Class(_) | Builtin::Exception(_)) => "type",
        Value::Builtin(Builtin::Module(_)) => "module",
        Value::Builtin(_) | Value::BoundMethod(_) => "builtin_function_or_method",
        Value::Closure(_) => "function",
        Value::Iterator(lazy) => lazy.type_name(),
        Value::Exception(_) => "Exception",
    }
}
