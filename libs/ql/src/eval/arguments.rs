//! Arguments of a call, and their match to the parameters of a built-in function.

use super::{Exception, Result};
use crate::value::Value;

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

    pub(super) fn keyword(&self, name: &str) -> Option<Value<'a>> {
        self.keywords.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
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
    if taken[..required].iter().any(Option::is_none) {
        return Err(Exception::TypeError.into());
    }
    Ok(taken)
}
