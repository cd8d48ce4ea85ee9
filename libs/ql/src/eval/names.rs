//! Bound names: reading and assigning slots, creating and calling lambdas. A closure keeps its
//! environment, not the values in it, so later assignments are visible, as in Python.

use super::{Exception, Machine, Result};
use crate::tree::{Assign, Lambda, Local, Node};
use crate::value::{Closure, Environment, Slots, Value};

/// Evaluated arguments of a call.
#[derive(Clone, Copy)]
pub(super) struct Arguments<'a> {
    pub(super) positional: &'a [Value<'a>],
    pub(super) keywords: &'a [(&'a str, Value<'a>)],
}

impl<'a> Arguments<'a> {
    pub(super) fn from_positional(positional: &'a [Value<'a>]) -> Self {
        Self { positional, keywords: &[] }
    }
}

fn enclosing_slots<'a>(environment: Environment<'a>, hops: u16) -> &'a Slots<'a> {
    let mut slots = environment.expect("the scope of a bound name has an environment");
    for _ in 0..hops {
        slots = slots.outer.expect("the scope of a bound name has an environment");
    }
    slots
}

impl<'a> Machine<'a> {
    pub(super) fn local(&self, environment: Environment<'a>, local: &'a Local) -> Result<Value<'a>> {
        match (enclosing_slots(environment, local.hops).values[usize::from(local.slot)].get(), &local.unbound)
        {
            (Some(value), _) => Ok(value),
            (None, Some(outside)) => self.eval(environment, outside),
            (None, None) => Err(Exception::NameError.into()),
        }
    }

    pub(super) fn assign(&self, environment: Environment<'a>, assign: &'a Assign) -> Result<Value<'a>> {
        let value = self.eval(environment, &assign.value)?;
        enclosing_slots(environment, assign.hops).values[usize::from(assign.slot)].set(Some(value));
        Ok(value)
    }

    pub(super) fn lambda(&self, environment: Environment<'a>, lambda: &'a Lambda) -> Result<Value<'a>> {
        let defaults = lambda.parameters.iter().filter_map(|parameter| parameter.default.as_ref());
        let defaults: Vec<Value<'a>> =
            defaults.map(|default: &'a Node| self.eval(environment, default)).collect::<Result<_>>()?;
        let defaults = self.alloc_values(&defaults)?;
        self.alloc(Closure { lambda, environment, defaults }).map(Value::Closure)
    }

    pub(super) fn call_closure(
        &self,
        closure: &'a Closure<'a>,
        arguments: Arguments<'a>,
    ) -> Result<Value<'a>> {
        let lambda = closure.lambda;
        let environment = self.new_environment(lambda.slots, closure.environment)?;
        if let Some(slots) = environment.filter(|_| lambda.slots > 0) {
            self.bind(closure, slots, arguments)?;
        } else if !arguments.positional.is_empty() || !arguments.keywords.is_empty() {
            return Err(Exception::TypeError.into());
        }
        self.nested(|| self.eval(environment, &lambda.body))
    }

    fn bind(&self, closure: &'a Closure<'a>, slots: &'a Slots<'a>, arguments: Arguments<'a>) -> Result<()> {
        let lambda = closure.lambda;
        let set = |slot: usize, value| slots.values[slot].set(Some(value));
        let taken = arguments.positional.len().min(lambda.positional);
        for (slot, value) in arguments.positional[..taken].iter().enumerate() {
            set(slot, *value);
        }
        match lambda.rest {
            Some(rest) => set(usize::from(rest), self.tuple(&arguments.positional[taken..])?),
            None if arguments.positional.len() > taken => return Err(Exception::TypeError.into()),
            None => {}
        }
        let extra = self.bind_keywords(lambda, slots, arguments)?;
        match lambda.keywords {
            Some(slot) => set(usize::from(slot), self.text_dict(&extra)?),
            None if !extra.is_empty() => return Err(Exception::TypeError.into()),
            None => {}
        }
        // Parameters without an argument get their default.
        let mut defaults = closure.defaults.iter();
        for (slot, parameter) in lambda.parameters.iter().enumerate() {
            let default = parameter.default.as_ref().and_then(|_| defaults.next());
            match (slots.values[slot].get(), default) {
                (None, Some(default)) => set(slot, *default),
                (None, None) => return Err(Exception::TypeError.into()),
                (Some(_), _) => {}
            }
        }
        Ok(())
    }

    /// Binds keyword arguments to parameters and returns those without a matching
    /// parameter.
    fn bind_keywords(
        &self,
        lambda: &'a Lambda,
        slots: &'a Slots<'a>,
        arguments: Arguments<'a>,
    ) -> Result<Vec<(&'a str, Value<'a>)>> {
        let mut extra = Vec::new();
        for &(name, value) in arguments.keywords {
            let named = lambda.parameters.iter().skip(lambda.positional_only);
            match named.clone().position(|parameter| &*parameter.name == name) {
                Some(position) => {
                    let cell = &slots.values[lambda.positional_only + position];
                    if cell.replace(Some(value)).is_some() {
                        return Err(Exception::TypeError.into());
                    }
                }
                None => extra.push((name, value)),
            }
        }
        Ok(extra)
    }
}
