//! Methods of lists, tuples, dicts, stored objects, sets, ranges, tags and the run. Mutating
//! methods are deliberately absent.

use crate::eval::call::bind_arguments;
use crate::eval::names::Arguments;
use crate::eval::{Exception, Machine, Result};
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
        Value::Tags => member == Member::Contains,
        Value::Run => member == Member::Get,
        _ => false,
    }
}

impl<'a> Machine<'a> {
    pub(super) fn collection_method(
        &self,
        object: Value<'a>,
        member: Member,
        arguments: Arguments<'a>,
    ) -> Result<Value<'a>> {
        if !arguments.keywords.is_empty() {
            return Err(Exception::TypeError.into());
        }
        match (object, member, arguments.positional) {
            (Value::Tags, Member::Contains, [name]) => self.contains(object, *name).map(Value::Bool),
            (Value::Run, Member::Get, _) => self.run_get(arguments),
            (Value::Dict(dict) | Value::Object(dict), member, _) => {
                let parts = |of: fn(&crate::value::table::TableEntry<'a>) -> Value<'a>| {
                    dict.entries().iter().map(of).collect::<Vec<_>>()
                };
                match (member, arguments.positional) {
                    (Member::Get, _) => {
                        let [key, default] = bind_arguments(arguments, ["", ""], 1)?;
                        let key = key.unwrap_or(Value::None);
                        let found = self.find_entry(dict, self.hash(key)?, key)?;
                        Ok(found.map(|entry| entry.value).or(default).unwrap_or(Value::None))
                    }
                    (Member::Keys, []) => self.list(&parts(|entry| entry.key)),
                    (Member::Values, []) => self.list(&parts(|entry| entry.value)),
                    (Member::Items, []) => {
                        let pairs = dict.entries().iter().map(|entry| self.tuple(&[entry.key, entry.value]));
                        self.list(&pairs.collect::<Result<Vec<_>>>()?)
                    }
                    (Member::Copy, []) => Ok(object),
                    _ => Err(Exception::TypeError.into()),
                }
            }
            (Value::Set(set), member, others) => self.set_method(set, member, others),
            (_, Member::Copy, []) => Ok(object),
            (_, Member::Count, [wanted]) => {
                let mut count = 0;
                self.each(object, &mut |item| {
                    count += i64::from(self.equal(item, *wanted)?);
                    Ok(true)
                })?;
                Ok(Value::Int(count))
            }
            (_, Member::Index, [wanted, bounds @ ..]) => self.position_of(object, *wanted, bounds),
            _ => Err(Exception::TypeError.into()),
        }
    }

    fn run_get(&self, arguments: Arguments<'a>) -> Result<Value<'a>> {
        let [key, default] = bind_arguments(arguments, ["", ""], 1)?;
        match self.index(Value::Run, key.unwrap_or(Value::None))? {
            Value::None => Ok(default.unwrap_or(Value::None)),
            value => Ok(value),
        }
    }

    fn position_of(&self, object: Value<'a>, wanted: Value<'a>, bounds: &[Value<'a>]) -> Result<Value<'a>> {
        let items = self.collect(object)?;
        let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
        let bound = |at: usize, default: i64| match bounds.get(at) {
            None => Ok(default),
            Some(value) => {
                let value = value.small_int().ok_or(Exception::TypeError)?;
                Ok::<i64, Exception>(if value < 0 { (value + length).max(0) } else { value.min(length) })
            }
        };
        if bounds.len() > 2 {
            return Err(Exception::TypeError.into());
        }
        for at in bound(0, 0)?..bound(1, length)? {
            if self.equal(items[at as usize], wanted)? {
                return Ok(Value::Int(at));
            }
        }
        Err(Exception::ValueError.into())
    }

    fn set_method(&self, set: &'a Set<'a>, member: Member, others: &[Value<'a>]) -> Result<Value<'a>> {
        let operator = match member {
            Member::Union => Operator::Or,
            Member::Intersection => Operator::And,
            Member::Difference => Operator::Subtract,
            Member::SymmetricDifference => Operator::Xor,
            Member::Copy if others.is_empty() => return Ok(Value::Set(set)),
            _ => return self.set_test(set, member, others),
        };
        if member == Member::SymmetricDifference && others.len() != 1 {
            return Err(Exception::TypeError.into());
        }
        let mut result = set;
        for other in others {
            result = match self.set_operation(operator, result, self.as_set(*other)?)? {
                Value::Set(set) => set,
                _ => return Err(Exception::TypeError.into()),
            };
        }
        Ok(Value::Set(result))
    }

    fn set_test(&self, set: &'a Set<'a>, member: Member, others: &[Value<'a>]) -> Result<Value<'a>> {
        let [other] = others else { return Err(Exception::TypeError.into()) };
        let other = self.as_set(*other)?;
        Ok(Value::Bool(match member {
            Member::IsSubset => self.is_subset(set, other)?,
            Member::IsSuperset => self.is_subset(other, set)?,
            Member::IsDisjoint => {
                let mut disjoint = true;
                for item in set.items() {
                    disjoint &= !self.in_set(other, item)?;
                }
                disjoint
            }
            _ => return Err(Exception::TypeError.into()),
        }))
    }

    fn as_set(&self, value: Value<'a>) -> Result<&'a Set<'a>> {
        match value {
            Value::Set(set) => Ok(set),
            value => match self.collect_set(value, false)? {
                Value::Set(set) => Ok(set),
                _ => Err(Exception::TypeError.into()),
            },
        }
    }
}
