//! The run or sequence under evaluation, with the containers of it that were already built.

use std::cell::RefCell;

use crate::tree::Lookup;
use crate::value::Value;
use crate::view::{RunView, SequenceView};

pub(crate) struct Candidate<'a> {
    pub(super) run: &'a dyn RunView,
    pub(super) sequence: Option<&'a dyn SequenceView>,
    /// Lists and objects of the run, keyed by the lookup in the query that refers to them.
    containers: RefCell<Vec<(&'a Lookup, Value<'a>)>>,
}

impl<'a> Candidate<'a> {
    pub(super) fn new(run: &'a dyn RunView, sequence: Option<&'a dyn SequenceView>) -> Self {
        Self { run, sequence, containers: RefCell::default() }
    }

    /// Returns the list or object that this lookup has already built.
    #[inline]
    pub(super) fn built_container(&self, lookup: &'a Lookup) -> Option<Value<'a>> {
        let containers = self.containers.borrow();
        containers.iter().find(|(known, _)| std::ptr::eq(*known, lookup)).map(|(_, value)| *value)
    }

    /// Keeps the value of a lookup if it is a list or an object.
    #[inline]
    pub(super) fn keep_container(&self, lookup: &'a Lookup, value: Value<'a>) {
        if let Value::List(_) | Value::Object(_) = value {
            self.containers.borrow_mut().push((lookup, value));
        }
    }
}
