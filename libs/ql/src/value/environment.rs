//! Variables by scope. They are cells, because a closure sees later assignments.

use std::cell::Cell;

use super::Value;

pub(crate) type Variable<'a> = Cell<Option<Value<'a>>>;

/// The variables of a scope and of the scopes around it.
#[derive(Clone, Copy)]
pub(crate) struct Environment<'a>(Option<&'a Scope<'a>>);

pub(crate) struct Scope<'a> {
    variables: &'a [Variable<'a>],
    outer: Environment<'a>,
}

impl<'a> Environment<'a> {
    pub(crate) const EMPTY: Self = Self(None);

    pub(crate) fn new(scope: &'a Scope<'a>) -> Self {
        Self(Some(scope))
    }

    /// Returns the variables of the innermost scope.
    pub(crate) fn innermost(self) -> &'a [Variable<'a>] {
        self.scope(0).variables
    }

    /// Returns a variable of the scope that is this many scopes further out.
    #[inline]
    pub(crate) fn variable(self, hops: u16, slot: u16) -> &'a Variable<'a> {
        &self.scope(hops).variables[usize::from(slot)]
    }

    #[inline]
    fn scope(self, hops: u16) -> &'a Scope<'a> {
        const BOUND: &str = "the scope of a bound name has an environment";
        let mut scope = self.0.expect(BOUND);
        for _ in 0..hops {
            scope = scope.outer.0.expect(BOUND);
        }
        scope
    }
}

impl<'a> Scope<'a> {
    pub(crate) fn new(variables: &'a [Variable<'a>], outer: Environment<'a>) -> Self {
        Self { variables, outer }
    }
}
