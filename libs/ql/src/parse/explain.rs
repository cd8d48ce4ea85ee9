//! Selects the parser error that explains a text best, and its position: errors in strings and
//! brackets come first, as in CPython. After an unclosed quote or a mismatched bracket, a
//! parser fails later, at a position that does not show the cause.

use ruff_python_ast::token::{Token, TokenKind};
use ruff_python_parser::{LexicalErrorType, ParseError, ParseErrorType};
use ruff_text_size::{Ranged, TextRange, TextSize};

use crate::error::Fault;

/// Returns the fault to report, or `None` if there are no errors.
pub(super) fn fault(wrapped: &str, tokens: &[Token], errors: &[ParseError]) -> Option<Fault> {
    let first = errors.first()?;
    let lexical = errors.iter().find(|error| is_lexical(&error.error));
    let (mismatch, unclosed) = match check_brackets(wrapped, tokens) {
        Bracket::Fits => (None, None),
        Bracket::Mismatch(fault) => (Some(fault), None),
        Bracket::Unclosed(fault) => (None, Some(fault)),
    };
    if let Some(fault) = mismatch
        // The error that comes first in the text is more likely to be the cause.
        && lexical.is_none_or(|error| fault.range.start() < error.location.start())
    {
        return Some(fault);
    }
    if let Some(error) = lexical {
        return Some(parser_fault(error, tokens));
    }
    // An open bracket explains an error on a later line or at the end.
    if let Some(fault) = unclosed {
        let between = TextRange::new(fault.range.start(), first.location.start().max(fault.range.start()));
        let is_at_end = first.location.end() >= TextSize::of(wrapped.trim_end_matches(')'));
        if wrapped[between].contains('\n') || is_at_end {
            return Some(fault);
        }
    }
    Some(parser_fault(first, tokens))
}

/// Whether the text cannot even be split into tokens. `$`, `?` and a premature end are left to
/// the parser.
fn is_lexical(error: &ParseErrorType) -> bool {
    match error {
        ParseErrorType::Lexical(LexicalErrorType::UnrecognizedToken { tok }) => !tok.is_ascii(),
        ParseErrorType::Lexical(LexicalErrorType::Eof) => false,
        ParseErrorType::Lexical(_) => true,
        _ => false,
    }
}

enum Bracket {
    Fits,
    /// A closing bracket that matches no opening one.
    Mismatch(Fault),
    /// The innermost bracket that is never closed.
    Unclosed(Fault),
}

fn check_brackets(wrapped: &str, tokens: &[Token]) -> Bracket {
    let mut open: Vec<&Token> = Vec::new();
    for token in tokens {
        if is_open(token.kind()) {
            open.push(token);
        } else if is_close(token.kind()) {
            let closing = &wrapped[token.range()];
            let message = match open.pop() {
                None => format!("unmatched '{closing}'"),
                Some(opening) if closes(opening.kind()) != token.kind() => {
                    let opening = &wrapped[opening.range()];
                    format!("closing parenthesis '{closing}' does not match opening parenthesis '{opening}'")
                }
                Some(_) => continue,
            };
            return Bracket::Mismatch(Fault::syntax(token.range(), message));
        }
    }
    open.last().map_or(Bracket::Fits, |opening| {
        let message = format!("'{}' was never closed", &wrapped[opening.range()]);
        Bracket::Unclosed(Fault::syntax(opening.range(), message))
    })
}

fn is_open(kind: TokenKind) -> bool {
    matches!(kind, TokenKind::Lpar | TokenKind::Lsqb | TokenKind::Lbrace | TokenKind::FStringStart)
}

fn is_close(kind: TokenKind) -> bool {
    matches!(kind, TokenKind::Rpar | TokenKind::Rsqb | TokenKind::Rbrace | TokenKind::FStringEnd)
}

fn closes(open: TokenKind) -> TokenKind {
    match open {
        TokenKind::Lpar => TokenKind::Rpar,
        TokenKind::Lsqb => TokenKind::Rsqb,
        TokenKind::Lbrace => TokenKind::Rbrace,
        _ => TokenKind::FStringEnd,
    }
}

fn parser_fault(error: &ParseError, tokens: &[Token]) -> Fault {
    let start = match error.error {
        ParseErrorType::ExpectedToken { expected, found } if covers_operand(expected, found) => {
            // Like CPython, the error covers the preceding expression.
            start_of_operand(tokens, error.location.start(), expected).unwrap_or(error.location.start())
        }
        _ => error.location.start(),
    };
    let range = TextRange::new(start, error.location.end());
    Fault { expected: expected(&error.error), ..Fault::syntax(range, message(&error.error)) }
}

/// Whether the error spans the previous operand: two adjacent expressions, or an expression
/// that cannot be assigned to.
fn covers_operand(expected: TokenKind, found: TokenKind) -> bool {
    let begins = matches!(
        found,
        TokenKind::Name
            | TokenKind::Int
            | TokenKind::Float
            | TokenKind::Complex
            | TokenKind::String
            | TokenKind::FStringStart
            | TokenKind::True
            | TokenKind::False
            | TokenKind::None
            | TokenKind::Ellipsis
            | TokenKind::Equal
            | TokenKind::Await
            | TokenKind::Lambda
    );
    expected == TokenKind::Else || begins && (is_close(expected) || expected == TokenKind::Comma)
}

/// Returns the start of the expression before a position, within the same brackets.
fn start_of_operand(tokens: &[Token], end: TextSize, expected: TokenKind) -> Option<TextSize> {
    let mut start = None;
    let mut depth = 0_u32;
    for token in tokens.iter().rev().skip_while(|token| token.start() >= end) {
        let kind = token.kind();
        if is_close(kind) {
            depth += 1;
        } else if is_open(kind) {
            let Some(outer) = depth.checked_sub(1) else { break };
            depth = outer;
        } else if depth == 0 && separates(kind, expected) {
            break;
        }
        if !kind.is_any_newline() {
            start = Some(token.start());
        }
    }
    start
}

fn separates(kind: TokenKind, expected: TokenKind) -> bool {
    match kind {
        TokenKind::Comma | TokenKind::Colon | TokenKind::ColonEqual | TokenKind::Equal => true,
        TokenKind::Else | TokenKind::For | TokenKind::Lambda => true,
        TokenKind::If => expected != TokenKind::Else,
        _ => false,
    }
}

fn message(error: &ParseErrorType) -> String {
    match error {
        ParseErrorType::ExpectedToken { found: TokenKind::Equal, expected } if is_close(*expected) => {
            "a query cannot assign; compare with '=='".into()
        }
        ParseErrorType::ExpectedToken { found, expected } if is_close(*expected) && !is_close(*found) => {
            format!("expected an operator, found {found}")
        }
        error => error.to_string(),
    }
}

fn expected(error: &ParseErrorType) -> Option<String> {
    match error {
        ParseErrorType::ExpectedToken { found: TokenKind::Equal, .. } => Some("'=='".into()),
        ParseErrorType::ExpectedToken { found, expected } if is_close(*expected) && !is_close(*found) => {
            Some("an operator, or the end of the expression".into())
        }
        ParseErrorType::ExpectedToken { expected, .. } => Some(expected.to_string()),
        ParseErrorType::ExpectedExpression => Some("an expression".into()),
        ParseErrorType::EmptySlice => Some("an index or a slice".into()),
        ParseErrorType::Lexical(LexicalErrorType::UnclosedStringError) => Some("a closing quote".into()),
        _ => None,
    }
}
