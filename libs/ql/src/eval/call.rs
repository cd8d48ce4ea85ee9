//! Calls: evaluates the arguments, then dispatches on the kind of the callee. `*args` and
//! `**kwargs` are supported; calling a value that is not callable raises. A closure keeps its
//! environment instead of the values in it: as in Python, later assignments are visible.

use super::arguments::Arguments;
use super::{Arena, Exception, Machine, Result, attribute, builtins, convert, math, method, tables};
use crate::names::{Builtin, Class, Member};
use crate::tree::{Call, Item, Lambda, MethodCall, Node};
use crate::value::{Closure, Environment, Value, Variable};

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
            && attribute::entry(&self.arena, dict, &call.name)?.is_some()
        {
            // A stored value with this name hides the method, and is not callable.
            return Err(Exception::TypeError.into());
        }
        // Not a method: an attribute of a module, class or sequence, or an unknown name.
        if let (Value::Builtin(_) | Value::Sequence(_), _) | (_, None) = (object, call.member) {
            let function = attribute::attribute(self, object, &call.name, call.member)?;
            let arguments = self.arguments(environment, &call.arguments)?;
            return self.call_value(function, arguments);
        }
        let member = call.member.expect("calls without a known member are handled above");
        let arguments = self.arguments(environment, &call.arguments)?;
        method::call_method(self, object, member, arguments)
    }

    fn arguments(
        &self,
        environment: Environment<'a>,
        arguments: &'a crate::tree::Arguments,
    ) -> Result<Arguments<'a>> {
        // Fast path for a single positional argument.
        if let ([Item::One(node)], []) = (&*arguments.positional, &*arguments.keywords) {
            let value = self.eval(environment, node)?;
            return Ok(Arguments::from_positional(std::slice::from_ref(self.arena.alloc(value)?)));
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
        // The check for repeated names is quadratic.
        self.arena.spend((keywords.len() * keywords.len()) as u64)?;
        for (at, (name, _)) in keywords.iter().enumerate() {
            if keywords[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(Exception::TypeError.into());
            }
        }
        let positional = self.arena.alloc_values(&positional)?;
        let keywords = self.arena.pairs(&keywords)?;
        Ok(Arguments { positional, keywords })
    }

    pub(super) fn call_value(&self, function: Value<'a>, arguments: Arguments<'a>) -> Result<Value<'a>> {
        match function {
            Value::Closure(closure) => self.call_closure(closure, arguments),
            Value::BoundMethod(bound) => match bound.receiver {
                Value::Builtin(Builtin::Class(class)) => call_unbound(self, class, bound.member, arguments),
                receiver => method::call_method(self, receiver, bound.member, arguments),
            },
            Value::Builtin(Builtin::Class(class)) => convert::construct(self, class, arguments),
            Value::Builtin(Builtin::Function(function)) => builtins::call_function(self, function, arguments),
            Value::Builtin(Builtin::Math(function)) => math::call_math(self, function, arguments),
            Value::Builtin(Builtin::Time(function)) => self.clock.time_function(function, arguments),
            Value::Builtin(Builtin::Exception(kind)) => Ok(Value::Exception(kind)),
            Value::Builtin(Builtin::CapWords) => match arguments.positional {
                [Value::Text(text)] => method::cap_words(&self.arena, text),
                _ => Err(Exception::TypeError.into()),
            },
            _ => Err(Exception::TypeError.into()),
        }
    }

    pub(super) fn lambda(&self, environment: Environment<'a>, lambda: &'a Lambda) -> Result<Value<'a>> {
        let defaults = lambda.parameters.iter().filter_map(|parameter| parameter.default.as_ref());
        let defaults: Vec<Value<'a>> =
            defaults.map(|default: &'a Node| self.eval(environment, default)).collect::<Result<_>>()?;
        let defaults = self.arena.alloc_values(&defaults)?;
        self.arena.alloc(Closure { lambda, environment, defaults }).map(Value::Closure)
    }

    pub(super) fn call_closure(
        &self,
        closure: &'a Closure<'a>,
        arguments: Arguments<'a>,
    ) -> Result<Value<'a>> {
        let lambda = closure.lambda;
        let environment = self.arena.new_environment(lambda.slots, closure.environment)?;
        if lambda.slots > 0 {
            bind(&self.arena, closure, environment.innermost(), arguments)?;
        } else if !arguments.positional.is_empty() || !arguments.keywords.is_empty() {
            return Err(Exception::TypeError.into());
        }
        self.depth.nested(|| self.eval(environment, &lambda.body))
    }
}

/// `str.lower(name)`: the first argument is the receiver.
fn call_unbound<'a>(
    machine: &Machine<'a>,
    class: Class,
    member: Member,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    // `str.maketrans` is a static method.
    if (class, member) == (Class::Str, Member::MakeTrans) {
        return method::call_method(machine, Value::Text(""), member, arguments);
    }
    let (receiver, rest) = arguments.positional.split_first().ok_or(Exception::TypeError)?;
    if matches!(member, Member::Format | Member::FormatMap) {
        return Err(Exception::NotImplementedError.into());
    }
    if !builtins::is_instance_of(*receiver, class) {
        return Err(Exception::TypeError.into());
    }
    method::call_method(machine, *receiver, member, Arguments { positional: rest, ..arguments })
}

fn bind<'a>(
    arena: &Arena<'a>,
    closure: &'a Closure<'a>,
    slots: &'a [Variable<'a>],
    arguments: Arguments<'a>,
) -> Result<()> {
    let lambda = closure.lambda;
    let taken = arguments.positional.len().min(lambda.positional);
    for (slot, value) in arguments.positional[..taken].iter().enumerate() {
        slots[slot].set(Some(*value));
    }
    match lambda.rest {
        Some(rest) => {
            let values = arena.tuple(&arguments.positional[taken..])?;
            slots[usize::from(rest)].set(Some(values));
        }
        None if arguments.positional.len() > taken => return Err(Exception::TypeError.into()),
        None => {}
    }
    let extra = bind_keywords(lambda, slots, arguments)?;
    match lambda.keywords {
        Some(slot) => slots[usize::from(slot)].set(Some(tables::text_dict(arena, &extra)?)),
        None if !extra.is_empty() => return Err(Exception::TypeError.into()),
        None => {}
    }
    // Parameters without an argument get their default.
    let mut defaults = closure.defaults.iter();
    for (slot, parameter) in lambda.parameters.iter().enumerate() {
        let default = parameter.default.as_ref().and_then(|_| defaults.next());
        match (slots[slot].get(), default) {
            (None, Some(default)) => slots[slot].set(Some(*default)),
            (None, None) => return Err(Exception::TypeError.into()),
            (Some(_), _) => {}
        }
    }
    Ok(())
}

/// Binds keyword arguments to parameters, and returns the arguments without a matching
/// parameter.
fn bind_keywords<'a>(
    lambda: &'a Lambda,
    slots: &'a [Variable<'a>],
    arguments: Arguments<'a>,
) -> Result<Vec<(&'a str, Value<'a>)>> {
    let mut extra = Vec::new();
    for &(name, value) in arguments.keywords {
        let named = lambda.parameters.iter().skip(lambda.positional_only);
        match named.clone().position(|parameter| &*parameter.name == name) {
            Some(position) => {
                let cell = &slots[lambda.positional_only + position];
                if cell.replace(Some(value)).is_some() {
                    return Err(Exception::TypeError.into());
                }
            }
            None => extra.push((name, value)),
        }
    }
    Ok(extra)
}
