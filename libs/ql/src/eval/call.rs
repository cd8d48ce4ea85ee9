//! Calls: evaluates the arguments, then dispatches on the kind of the callee. `*args` and
//! `**kwargs` are supported; calling a value that is not callable raises.

use super::names::Arguments;
use super::{Exception, Machine, Result};
use crate::names::{Builtin, Class, Member};
use crate::tree::{Call, Item, MethodCall};
use crate::value::{Environment, Value};

impl<'a> Machine<'a> {
    pub(super) fn call(&self, environment: Environment<'a>, call: &'a Call) -> Result<Value<'a>> {
        let function = self.eval(environment, &call.function)?;
        let arguments = self.arguments(environment, &call.arguments)?;
        self.call_value(function, arguments)
    }

    pub(super) fn method_call(
        &self,
        environment: Environment<'a>,
        call: &'a MethodCall,
    ) -> Result<Value<'a>> {
        let object = self.eval(environment, &call.object)?;
        if let Value::Object(dict) = object
            && self.entry(dict, &call.name)?.is_some()
        {
            // A stored value with this name hides the method, and is not callable.
            return Err(Exception::TypeError.into());
        }
        // Not a method: an attribute of a module, class or sequence, or an unknown name.
        if let (Value::Builtin(_) | Value::Sequence(_), _) | (_, None) = (object, call.member) {
            let function = self.attribute(object, &call.name, call.member)?;
            let arguments = self.arguments(environment, &call.arguments)?;
            return self.call_value(function, arguments);
        }
        let member = call.member.expect("calls without a known member are handled above");
        let arguments = self.arguments(environment, &call.arguments)?;
        self.method(object, member, arguments)
    }

    fn arguments(
        &self,
        environment: Environment<'a>,
        arguments: &'a crate::tree::Arguments,
    ) -> Result<Arguments<'a>> {
        // Fast path for a single positional argument.
        if let ([Item::One(node)], []) = (&*arguments.positional, &*arguments.keywords) {
            let value = self.eval(environment, node)?;
            return Ok(Arguments::from_positional(std::slice::from_ref(self.alloc(value)?)));
        }
        let positional = self.items(environment, &arguments.positional)?;
        let mut keywords: Vec<(&'a str, Value<'a>)> = Vec::with_capacity(arguments.keywords.len());
        for (name, node) in &arguments.keywords {
            let value = self.eval(environment, node)?;
            match (name, value) {
                (Some(name), value) => keywords.push((name, value)),
                (None, Value::Dict(dict) | Value::Object(dict)) => {
                    for entry in dict.entries() {
                        keywords.push((entry.key.text().ok_or(Exception::TypeError)?, entry.value));
                    }
                }
                (None, _) => return Err(Exception::TypeError.into()),
            }
        }
        let repeated = |at: usize| keywords[..at].iter().any(|(name, _)| *name == keywords[at].0);
        // The check for repeated names is quadratic.
        self.spend((keywords.len() * keywords.len()) as u64)?;
        if (0..keywords.len()).any(repeated) {
            return Err(Exception::TypeError.into());
        }
        let positional = self.alloc_values(&positional)?;
        let keywords =
            self.bump.try_alloc_slice_copy(&keywords).map_err(|_| crate::limits::BudgetError::Memory)?;
        Ok(Arguments { positional, keywords })
    }

    pub(super) fn call_value(&self, function: Value<'a>, arguments: Arguments<'a>) -> Result<Value<'a>> {
        match function {
            Value::Closure(closure) => self.call_closure(closure, arguments),
            Value::BoundMethod(bound) => match bound.receiver {
                Value::Builtin(Builtin::Class(class)) => self.call_unbound(class, bound.member, arguments),
                receiver => self.method(receiver, bound.member, arguments),
            },
            Value::Builtin(Builtin::Class(class)) => self.construct(class, arguments),
            Value::Builtin(Builtin::Function(function)) => self.function(function, arguments),
            Value::Builtin(Builtin::Math(function)) => self.math(function, arguments),
            Value::Builtin(Builtin::Time(function)) => self.time_function(function, arguments),
            Value::Builtin(Builtin::Exception(kind)) => Ok(Value::Exception(kind)),
            Value::Builtin(Builtin::CapWords) => match arguments.positional {
                [Value::Text(text)] => self.cap_words(text),
                _ => Err(Exception::TypeError.into()),
            },
            _ => Err(Exception::TypeError.into()),
        }
    }

    /// `str.lower(name)`: the first argument is the receiver.
    fn call_unbound(&self, class: Class, member: Member, arguments: Arguments<'a>) -> Result<Value<'a>> {
        // `str.maketrans` is a static method.
        if (class, member) == (Class::Str, Member::MakeTrans) {
            return self.method(Value::Text(""), member, arguments);
        }
        let (receiver, rest) = arguments.positional.split_first().ok_or(Exception::TypeError)?;
        if matches!(member, Member::Format | Member::FormatMap) {
            return Err(Exception::NotImplementedError.into());
        }
        match self.is_instance_of(*receiver, class) {
            true => self.method(*receiver, member, Arguments { positional: rest, ..arguments }),
            false => Err(Exception::TypeError.into()),
        }
    }
}

/// Matches arguments to the parameters of a built-in function, by position or name.
pub(super) fn bind_arguments<'a, const N: usize>(
    arguments: Arguments<'a>,
    names: [&str; N],
    required: usize,
) -> Result<[Option<Value<'a>>; N]> {
    let mut taken = [None; N];
    if arguments.positional.len() > N {
        return Err(Exception::TypeError.into());
    }
    for (slot, value) in taken.iter_mut().zip(arguments.positional) {
        *slot = Some(*value);
    }
    for (name, value) in arguments.keywords {
        let position =
            names.iter().position(|known| known == name && !known.is_empty()).ok_or(Exception::TypeError)?;
        if taken[position].replace(*value).is_some() {
            return Err(Exception::TypeError.into());
        }
    }
    match taken[..required].iter().all(Option::is_some) {
        true => Ok(taken),
        false => Err(Exception::TypeError.into()),
    }
}
