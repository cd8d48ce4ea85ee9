//! Methods of lists, tuples, dicts, stored objects, sets, ranges, tags and the run. Mutating
//! methods are deliberately absent.

use crate::eval::arguments::{Arguments, bind_arguments};
use crate::eval::{Arena, Exception, Machine, Result, arithmetic, compare, index, iterate, membership};
use crate::names::Member;
use crate::tree::Operator;
use crate::value::{Set, Value};

pub(super) fn has_method(object: Value<'_>, member: Member) -> bool {
    match object {
        Value::List(_) => matches!(member, Member::Copy | Member::Count | Member::Index),
        Value::Tuple(_) | Value::Range(_) => matches!(member, Member::Count | Member::Index),
        Value::Dict(_) | Value::Object(_) => {
            matches!(member, Member::Copy | Member::Get | Member::Items | Member::Keys | Member::Values)
        }
        Value::Set(_) => matches!(
            member,
            Member::Copy
                | Member::Difference
                | Member::Intersection
                | Member::IsDisjoint
                | Member::IsSubset
                | Member::IsSuperset
                | Member::SymmetricDifference
                | Member::Union
        ),
        Value::Tags(_) => member == Member::Contains,
        Value::Run(_) => member == Member::Get,
        _ => false,
    }
}

pub(super) fn collection_method<'a>(
    machine: &Machine<'a>,
    object: Value<'a>,
    member: Member,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    if !arguments.keywords.is_empty() {
        return Err(Exception::TypeError.into());
    }
    match (object, member, arguments.positional) {
        (Value::Tags(_), Member::Contains, [name]) => {
            membership::contains(machine, object, *name).map(Value::Bool)
        }
        (Value::Run(_), Member::Get, _) => run_get(&machine.arena, object, arguments),
        (Value::Dict(dict) | Value::Object(dict), member, _) => match (member, arguments.positional) {
            (Member::Get, _) => {
                let [key, default] = bind_arguments(arguments, ["", ""], 1)?;
                let key = key.unwrap_or(Value::None);
                let found =
                    compare::find_entry(&machine.arena, dict, compare::hash(&machine.arena, key)?, key)?;
                Ok(found.map(|entry| entry.value).or(default).unwrap_or(Value::None))
            }
            (Member::Keys, []) => {
                let keys: Vec<_> = dict.entries().iter().map(|entry| entry.key).collect();
                machine.arena.list(&keys)
            }
            (Member::Values, []) => {
                let values: Vec<_> = dict.entries().iter().map(|entry| entry.value).collect();
                machine.arena.list(&values)
            }
            (Member::Items, []) => {
                let pairs = dict.entries().iter().map(|entry| machine.arena.tuple(&[entry.key, entry.value]));
                machine.arena.list(&pairs.collect::<Result<Vec<_>>>()?)
            }
            (Member::Copy, []) => Ok(object),
            _ => Err(Exception::TypeError.into()),
        },
        (Value::Set(set), member, others) => set_method(machine, set, member, others),
        (_, Member::Copy, []) => Ok(object),
        (_, Member::Count, [wanted]) => {
            let mut count = 0;
            machine.each(object, &mut |item| {
                count += i64::from(compare::equal(&machine.arena, item, *wanted)?);
                Ok(true)
            })?;
            Ok(Value::Int(count))
        }
        (_, Member::Index, [wanted, bounds @ ..]) => position_of(machine, object, *wanted, bounds),
        _ => Err(Exception::TypeError.into()),
    }
}

fn run_get<'a>(arena: &Arena<'a>, run: Value<'a>, arguments: Arguments<'a>) -> Result<Value<'a>> {
    let [key, default] = bind_arguments(arguments, ["", ""], 1)?;
    match index::index(arena, run, key.unwrap_or(Value::None))? {
        Value::None => Ok(default.unwrap_or(Value::None)),
        value => Ok(value),
    }
}

fn position_of<'a>(
    machine: &Machine<'a>,
    object: Value<'a>,
    wanted: Value<'a>,
    bounds: &[Value<'a>],
) -> Result<Value<'a>> {
    let items = machine.collect(object)?;
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    if bounds.len() > 2 {
        return Err(Exception::TypeError.into());
    }
    let start = bound(bounds.first(), length)?.unwrap_or(0);
    let stop = bound(bounds.get(1), length)?.unwrap_or(length);
    for at in start..stop {
        if compare::equal(&machine.arena, items[at as usize], wanted)? {
            return Ok(Value::Int(at));
        }
    }
    Err(Exception::ValueError.into())
}

/// Returns a bound of a search, clamped to the length; `None` if it is not given.
fn bound(bound: Option<&Value<'_>>, length: i64) -> Result<Option<i64>> {
    let Some(bound) = bound else { return Ok(None) };
    let bound = bound.small_int().ok_or(Exception::TypeError)?;
    Ok(Some(index::from_start(bound, length).min(length)))
}

fn set_method<'a>(
    machine: &Machine<'a>,
    set: &'a Set<'a>,
    member: Member,
    others: &[Value<'a>],
) -> Result<Value<'a>> {
    let operator = match member {
        Member::Union => Operator::Or,
        Member::Intersection => Operator::And,
        Member::Difference => Operator::Subtract,
        Member::SymmetricDifference => Operator::Xor,
        Member::Copy if others.is_empty() => return Ok(Value::Set(set)),
        _ => return set_test(machine, set, member, others),
    };
    if member == Member::SymmetricDifference && others.len() != 1 {
        return Err(Exception::TypeError.into());
    }
    let mut result = set;
    for other in others {
        result = match arithmetic::set_operation(&machine.arena, operator, result, as_set(machine, *other)?)?
        {
            Value::Set(set) => set,
            _ => return Err(Exception::TypeError.into()),
        };
    }
    Ok(Value::Set(result))
}

fn set_test<'a>(
    machine: &Machine<'a>,
    set: &'a Set<'a>,
    member: Member,
    others: &[Value<'a>],
) -> Result<Value<'a>> {
    let [other] = others else { return Err(Exception::TypeError.into()) };
    let other = as_set(machine, *other)?;
    Ok(Value::Bool(match member {
        Member::IsSubset => compare::is_subset(&machine.arena, set, other)?,
        Member::IsSuperset => compare::is_subset(&machine.arena, other, set)?,
        Member::IsDisjoint => {
            let mut disjoint = true;
            for item in set.items() {
                disjoint &= !compare::in_set(&machine.arena, other, item)?;
            }
            disjoint
        }
        _ => return Err(Exception::TypeError.into()),
    }))
}

fn as_set<'a>(machine: &Machine<'a>, value: Value<'a>) -> Result<&'a Set<'a>> {
    match value {
        Value::Set(set) => Ok(set),
        value => match iterate::collect_set(machine, value, false)? {
            Value::Set(set) => Ok(set),
            _ => Err(Exception::TypeError.into()),
        },
    }
}
