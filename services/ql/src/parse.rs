//! The statement as ruff's Python tree; before that, over its tokens, the limits that keep the parser safe.
//! Ruff recovers from errors and reports many; the author gets the first, and bracket errors where CPython sees them.

mod brackets;
mod depth;

use ruff_python_ast::token::TokenKind;
use ruff_python_ast::{Expr, Mod, PythonVersion};
use ruff_python_parser::{LexicalErrorType, Mode, ParseError, ParseErrorType, ParseOptions, parse_unchecked};

use crate::error::Fault;

/// Parses the wrapped statement.
pub(crate) fn parse(wrapped: &str) -> Result<Expr, Fault> {
    if let Some(at) = wrapped.find('\0') {
        return Err(Fault::syntax(one_byte(at), "a query cannot contain null bytes"));
    }
    depth::check(wrapped)?;
    let options = ParseOptions::from(Mode::Expression).with_target_version(PythonVersion::PY312);
    let parsed = parse_unchecked(wrapped, options);
    if let Some(error) = parsed.errors().first() {
        let bracket = brackets::fault(wrapped, parsed.tokens());
        return Err(bracket
            .filter(|bracket| bracket.explains(error))
            .map_or_else(|| fault(error), |b| b.fault));
    }
    if let Some(error) = parsed.unsupported_syntax_errors().first() {
        return Err(Fault::syntax(error.range, error.to_string()));
    }
    match parsed.into_syntax() {
        Mod::Expression(expression) => Ok(*expression.body),
        Mod::Module(module) => Err(Fault::syntax(module.range, "expected one expression")),
    }
}

fn one_byte(at: usize) -> ruff_text_size::TextRange {
    let at = u32::try_from(at).expect("a query is far shorter than 4 GB");
    ruff_text_size::TextRange::at(at.into(), 1.into())
}

fn fault(error: &ParseError) -> Fault {
    Fault { expected: expected(&error.error), ..Fault::syntax(error.location, error.error.to_string()) }
}

fn expected(error: &ParseErrorType) -> Option<String> {
    match error {
        ParseErrorType::ExpectedToken { expected: TokenKind::EndOfFile, .. } => {
            Some("the end of the query".into())
        }
        ParseErrorType::ExpectedToken { expected, .. } => Some(expected.to_string()),
        ParseErrorType::ExpectedExpression => Some("an expression".into()),
        ParseErrorType::EmptySlice => Some("an index or a slice".into()),
        ParseErrorType::Lexical(LexicalErrorType::UnclosedStringError) => Some("a closing quote".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
