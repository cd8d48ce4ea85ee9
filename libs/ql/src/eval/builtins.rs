//! The built-in functions. Functions that could reach beyond values do not exist; the small set
//! that always failed still does. `hash` and `id` are stable: they depend on the value, not on
//! the process.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_traits::Signed;

use super::arguments::{Arguments, bind_arguments};
use super::integer::{Number, integer_of};
use super::{
    Arena, EvalError, Exception, Machine, Result, arithmetic, compare, convert, iterate, membership, repr,
    view,
};
use crate::limits::MAX_VALUE_DEPTH;
use crate::names::{Builtin, Class, Function};
use crate::tree::Operator;
use crate::value::Value;

pub(super) fn call_function<'a>(
    machine: &Machine<'a>,
    function: Function,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    match function {
        Function::Max => return min_or_max(machine, arguments, Ordering::Greater),
        Function::Min => return min_or_max(machine, arguments, Ordering::Less),
        Function::Sorted => return sorted(machine, arguments),
        Function::Sum => {
            let [items, start] = bind_arguments(arguments, ["", "start"], 1)?;
            return sum(machine, items, start);
        }
        Function::Round => {
            let [number, digits] = bind_arguments(arguments, ["number", "ndigits"], 1)?;
            return convert::round(
                &machine.arena,
                number.unwrap_or(Value::None),
                digits.unwrap_or(Value::None),
            );
        }
        Function::Pow => {
            let [base, exponent, modulus] = bind_arguments(arguments, ["base", "exp", "mod"], 2)?;
            return pow(&machine.arena, base, exponent, modulus.unwrap_or(Value::None));
        }
        _ if !arguments.keywords.is_empty() => return Err(Exception::TypeError.into()),
        _ => {}
    }
    match (function, arguments.positional) {
        (Function::Abs, [value]) => absolute(&machine.arena, *value),
        (Function::All, [items]) => any_or_all(machine, *items, false),
        (Function::Any, [items]) => any_or_all(machine, *items, true),
        (Function::Callable, [value]) => Ok(Value::Bool(is_callable(*value))),
        (Function::Chr, [value]) => {
            let code = match value {
                Value::Big(_) => return Err(Exception::OverflowError.into()),
                value => value.small_int().ok_or(Exception::TypeError)?,
            };
            let code = i32::try_from(code).map_err(|_| Exception::OverflowError)?.cast_unsigned();
            let character = char::from_u32(code).ok_or(Exception::ValueError)?;
            machine.arena.text(character.encode_utf8(&mut [0; 4]))
        }
        (Function::DivMod, [a, b]) => {
            let quotient = arithmetic::binary(&machine.arena, Operator::FloorDivide, *a, *b)?;
            machine.arena.tuple(&[quotient, arithmetic::binary(&machine.arena, Operator::Modulo, *a, *b)?])
        }
        (Function::Hash, [value]) => match (value.small_int(), value.float()) {
            // As in Python, an integer is its own hash, and an integral float hashes like the
            // integer.
            (Some(int), _) => Ok(Value::Int(int)),
            (None, Some(float)) if float.fract() == 0.0 && float.abs() < 1e15 => Ok(Value::Int(float as i64)),
            _ => Ok(Value::Int(compare::hash(&machine.arena, *value)?.cast_signed())),
        },
        (Function::Id, [value]) => match compare::hash(&machine.arena, *value) {
            Ok(hash) => Ok(Value::Int((hash >> 1).cast_signed() | 1)),
            Err(EvalError::Budget(budget)) => Err(budget.into()),
            // Unhashable values all have the same id.
            Err(EvalError::Exception(_)) => Ok(Value::Int(1)),
        },
        (Function::Hex, [value]) => in_radix(&machine.arena, *value, 16, "0x"),
        (Function::Oct, [value]) => in_radix(&machine.arena, *value, 8, "0o"),
        (Function::IsInstance, [value, classes]) => {
            is_instance(&machine.arena, *value, *classes, 0).map(Value::Bool)
        }
        (Function::IsSubclass, [class, classes]) => {
            is_subclass(&machine.arena, *class, *classes, 0).map(Value::Bool)
        }
        (Function::Len, [value]) => length(&machine.arena, *value),
        (Function::Ord, [value]) => ordinal(*value),
        (Function::Repr, [value]) => repr::repr(&machine.arena, *value),
        (Function::SameType, [first, rest @ ..]) => {
            Ok(Value::Bool(rest.iter().all(|value| value.type_name() == first.type_name())))
        }
        (Function::Test, arguments) => test(arguments),
        (Function::Reorder, [items, by]) => reorder(machine, *items, *by),
        _ => Err(Exception::TypeError.into()),
    }
}

/// `any` and `all`: stops at the first element whose truth decides the result.
fn any_or_all<'a>(machine: &Machine<'a>, items: Value<'a>, decisive: bool) -> Result<Value<'a>> {
    let mut found = false;
    machine.each(items, &mut |item| {
        found = item.truth() == decisive;
        Ok(!found)
    })?;
    Ok(Value::Bool(found == decisive))
}

fn absolute<'a>(arena: &Arena<'a>, value: Value<'a>) -> Result<Value<'a>> {
    match value {
        Value::Complex(real, imaginary) => Ok(Value::Float(real.hypot(imaginary))),
        Value::Span(seconds) => Ok(Value::Span(seconds.abs())),
        value => match Number::from_value(value).ok_or(Exception::TypeError)? {
            Number::Int(int) => arena.integer(BigInt::from(int).abs()),
            Number::Big(big) => arena.integer(big.abs()),
            Number::Float(float) => Ok(Value::Float(float.abs())),
        },
    }
}

pub(super) fn length<'a>(arena: &Arena<'a>, value: Value<'a>) -> Result<Value<'a>> {
    let length = match value {
        Value::Text(text) => {
            arena.spend_bytes(text.len())?;
            text.chars().count()
        }
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) | Value::Tuple(items) => items.len(),
        Value::Dict(dict) | Value::Object(dict) => dict.entries().len(),
        Value::Set(set) => set.items().len(),
        Value::Range(range) => return Ok(Value::Int(range.len())),
        Value::Tags(run) => view::tags_of(arena, run)?.len(),
        _ => return Err(Exception::TypeError.into()),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn min_or_max<'a>(machine: &Machine<'a>, arguments: Arguments<'a>, wanted: Ordering) -> Result<Value<'a>> {
    let fallback = arguments.keyword("default");
    if arguments.keywords.iter().any(|(name, _)| !matches!(*name, "key" | "default")) {
        return Err(Exception::TypeError.into());
    }
    let items = match arguments.positional {
        [items] => machine.collect(*items)?,
        [] => return Err(Exception::TypeError.into()),
        items if fallback.is_some() => {
            return Err(if items.is_empty() { Exception::ValueError } else { Exception::TypeError }.into());
        }
        items => items.to_vec(),
    };
    let key = arguments.keyword("key").unwrap_or(Value::None);
    let mut best: Option<(Value<'a>, Value<'a>)> = None;
    for item in items {
        let rank = rank(machine, key, item)?;
        let better = match best {
            None => true,
            // As in Python, a strict comparison: the first of equal items wins.
            Some((_, known)) => order_of(&machine.arena, rank, known)? == Some(wanted),
        };
        if better {
            best = Some((item, rank));
        }
    }
    best.map(|(item, _)| item).or(fallback).ok_or(Exception::ValueError.into())
}

fn rank<'a>(machine: &Machine<'a>, key: Value<'a>, item: Value<'a>) -> Result<Value<'a>> {
    match key {
        Value::None => Ok(item),
        key => machine
            .call_value(key, Arguments::from_positional(std::slice::from_ref(machine.arena.alloc(item)?))),
    }
}

/// Compares the way `<` does. Sets, which are ordered by inclusion, may be unordered.
fn order_of<'a>(arena: &Arena<'a>, left: Value<'a>, right: Value<'a>) -> Result<Option<Ordering>> {
    match (left, right) {
        (Value::Set(left), Value::Set(right)) => {
            match (compare::is_subset(arena, left, right)?, compare::is_subset(arena, right, left)?) {
                (true, false) => Ok(Some(Ordering::Less)),
                (false, true) => Ok(Some(Ordering::Greater)),
                (true, true) => Ok(Some(Ordering::Equal)),
                (false, false) => Ok(None),
            }
        }
        _ => compare::order(arena, left, right, 0),
    }
}

fn sorted<'a>(machine: &Machine<'a>, arguments: Arguments<'a>) -> Result<Value<'a>> {
    let [items] = arguments.positional else { return Err(Exception::TypeError.into()) };
    let mut key = Value::None;
    let mut reverse = false;
    for (name, value) in arguments.keywords {
        match *name {
            "key" => key = *value,
            "reverse" => reverse = value.truth(),
            _ => return Err(Exception::TypeError.into()),
        }
    }
    let mut ranked = Vec::new();
    for item in machine.collect(*items)? {
        ranked.push((rank(machine, key, item)?, item));
    }
    sort(&machine.arena, &mut ranked, reverse)?;
    let items: Vec<Value<'a>> = ranked.into_iter().map(|(_, item)| item).collect();
    machine.arena.list(&items)
}

/// A merge sort, stable in both directions. Unlike the standard sort, it cannot panic
/// if the comparison raises or is not a total order (NaN).
fn sort<'a>(arena: &Arena<'a>, items: &mut Vec<(Value<'a>, Value<'a>)>, reverse: bool) -> Result<()> {
    let later = if reverse { Ordering::Greater } else { Ordering::Less };
    let mut width = 1;
    while width < items.len() {
        let mut merged = Vec::with_capacity(items.len());
        for pair in items.chunks(width * 2) {
            let (left, right) = pair.split_at(width.min(pair.len()));
            let mut a = 0;
            let mut b = 0;
            while a < left.len() && b < right.len() {
                arena.spend(1)?;
                if order_of(arena, right[b].0, left[a].0)? == Some(later) {
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

fn sum<'a>(machine: &Machine<'a>, items: Option<Value<'a>>, start: Option<Value<'a>>) -> Result<Value<'a>> {
    let mut total = start.unwrap_or(Value::Int(0));
    if matches!(total, Value::Text(_) | Value::Bytes(_)) {
        return Err(Exception::TypeError.into());
    }
    // Neumaier summation: rounding errors of floats are accumulated separately, as
    // in Python 3.12.
    let mut lost = 0.0;
    machine.each(items.unwrap_or(Value::None), &mut |item| {
        total = match (total, item) {
            (Value::Float(sum), Value::Float(term)) => {
                let next = sum + term;
                lost += if sum.abs() >= term.abs() { (sum - next) + term } else { (term - next) + sum };
                Value::Float(next)
            }
            (sum, item) => arithmetic::binary(&machine.arena, Operator::Add, sum, item)?,
        };
        Ok(true)
    })?;
    Ok(match total {
        // The correction is meaningless once the sum is infinite or NaN.
        Value::Float(sum) if lost.is_finite() => Value::Float(sum + lost),
        total => total,
    })
}

fn pow<'a>(
    arena: &Arena<'a>,
    base: Option<Value<'a>>,
    exponent: Option<Value<'a>>,
    modulus: Value<'a>,
) -> Result<Value<'a>> {
    let base = base.unwrap_or(Value::None);
    let exponent = exponent.unwrap_or(Value::None);
    if matches!(modulus, Value::None) {
        return arithmetic::binary(arena, Operator::Power, base, exponent);
    }
    let base = integer_of(base)?;
    let exponent = integer_of(exponent)?;
    let modulus = integer_of(modulus)?;
    if modulus == BigInt::ZERO {
        return Err(Exception::ValueError.into());
    }
    arena.spend(exponent.bits() * (modulus.bits() / 64 + 1) * (modulus.bits() / 64 + 1) / 8)?;
    if exponent.is_negative() {
        let inverse = base.modinv(&modulus).ok_or(Exception::ValueError)?;
        return arena.integer(inverse.modpow(&-exponent, &modulus));
    }
    arena.integer(base.modpow(&exponent, &modulus))
}

fn in_radix<'a>(arena: &Arena<'a>, value: Value<'a>, radix: u32, prefix: &str) -> Result<Value<'a>> {
    let integer = integer_of(value)?;
    let sign = if integer.is_negative() { "-" } else { "" };
    arena.text(&format!("{sign}{prefix}{}", integer.abs().to_str_radix(radix)))
}

fn is_instance<'a>(arena: &Arena<'a>, value: Value<'a>, classes: Value<'a>, depth: u32) -> Result<bool> {
    check_class_depth(arena, depth)?;
    match classes {
        Value::Builtin(Builtin::Class(class)) => Ok(is_instance_of(value, class)),
        Value::Builtin(Builtin::Exception(kind)) => {
            Ok(matches!(value, Value::Exception(other) if other == kind))
        }
        Value::Tuple(classes) => {
            for class in classes {
                if is_instance(arena, value, *class, depth + 1)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Err(Exception::TypeError.into()),
    }
}

pub(super) fn is_instance_of(value: Value<'_>, class: Class) -> bool {
    match (class, value) {
        // In Python, `bool` is a subclass of `int`.
        (Class::Int, Value::Bool(_)) => true,
        (Class::DateTime, value) => matches!(value, Value::Time(_)),
        (Class::TimeDelta, value) => matches!(value, Value::Span(_)),
        (class, value) => value.type_name() == class.name(),
    }
}

/// Checks the depth, because tuples of classes may be nested.
fn check_class_depth(arena: &Arena<'_>, depth: u32) -> Result<()> {
    if depth > MAX_VALUE_DEPTH { Err(Exception::RecursionError.into()) } else { arena.spend(1) }
}

fn is_subclass<'a>(arena: &Arena<'a>, class: Value<'a>, classes: Value<'a>, depth: u32) -> Result<bool> {
    check_class_depth(arena, depth)?;
    match (class, classes) {
        (Value::Builtin(Builtin::Class(class)), Value::Builtin(Builtin::Class(other))) => {
            Ok(class == other || (class, other) == (Class::Bool, Class::Int))
        }
        (Value::Builtin(Builtin::Class(_)), Value::Tuple(classes)) => {
            for other in classes {
                if is_subclass(arena, class, *other, depth + 1)? {
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
fn reorder<'a>(machine: &Machine<'a>, items: Value<'a>, by: Value<'a>) -> Result<Value<'a>> {
    let known = iterate::collect_set(machine, items, false)?;
    let mut ordered = Vec::new();
    machine.each(by, &mut |item| {
        if membership::contains(machine, known, item)? {
            ordered.push(item);
        }
        Ok(true)
    })?;
    machine.arena.list(&ordered)
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
