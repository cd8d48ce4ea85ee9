//! Parses the statement into ruff's Python tree, after checking over its tokens the limits that
//! keep the parser safe. Ruff recovers from errors and may report several; the author gets one,
//! at the position where CPython would report it.

mod depth;
mod explain;

use ruff_python_ast::{Expr, Mod, PythonVersion};
use ruff_python_parser::{Mode, ParseOptions, parse_unchecked};
use ruff_text_size::TextRange;

use crate::error::Fault;

/// Parses the wrapped statement.
pub(crate) fn parse(wrapped: &str) -> Result<Expr, Fault> {
    if let Some(at) = wrapped.find('\0') {
        let at = u32::try_from(at).expect("the query length was checked against MAX_QUERY_BYTES");
        let range = TextRange::at(at.into(), 1.into());
        return Err(Fault::syntax(range, "a query cannot contain null bytes"));
    }
    // The tree of a hostile text could not even be dropped safely, so this comes first.
    depth::check(wrapped)?;
    let options = ParseOptions::from(Mode::Expression).with_target_version(PythonVersion::PY312);
    let parsed = parse_unchecked(wrapped, options);
    if let Some(fault) = explain::fault(wrapped, parsed.tokens(), parsed.errors()) {
        return Err(fault);
    }
    if let Some(error) = parsed.unsupported_syntax_errors().first() {
        return Err(Fault::syntax(error.range, error.to_string()));
    }
    match parsed.into_syntax() {
        Mod::Expression(expression) => Ok(*expression.body),
        Mod::Module(module) => Err(Fault::syntax(module.range, "expected one expression")),
    }
}
