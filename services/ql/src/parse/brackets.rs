//! The first bracket that does not fit, over the tokens of a text that did not parse.
//! A parser stumbles behind such a bracket, at a place that does not show its author what is wrong.

use ruff_python_ast::token::{Token, TokenKind};
use ruff_python_parser::{LexicalErrorType, ParseError, ParseErrorType};
use ruff_text_size::Ranged;

use crate::error::Fault;

pub(super) struct BracketFault {
    pub(super) fault: Fault,
    /// Found at the end only, so anything wrong before the end is the better explanation.
    unclosed: bool,
}

impl BracketFault {
    /// Is this bracket the reason for what the parser reports?
    pub(super) fn explains(&self, error: &ParseError) -> bool {
        let string = matches!(error.error, ParseErrorType::Lexical(LexicalErrorType::UnclosedStringError));
        match self.unclosed {
            true => !string,
            false => !string || self.fault.range.start() < error.location.start(),
        }
    }
}

pub(super) fn fault(wrapped: &str, tokens: &[Token]) -> Option<BracketFault> {
    let mut open: Vec<&Token> = Vec::new();
    let last = tokens.iter().rfind(|token| token.kind() != TokenKind::EndOfFile)?;
    for token in tokens {
        match token.kind() {
            TokenKind::Lpar | TokenKind::Lsqb | TokenKind::Lbrace | TokenKind::FStringStart => {
                open.push(token)
            }
            TokenKind::Rpar | TokenKind::Rsqb | TokenKind::Rbrace | TokenKind::FStringEnd => {
                let closing = &wrapped[token.range()];
                let message = match open.pop() {
                    None => format!("unmatched '{closing}'"),
                    Some(opening) if closes(opening.kind()) != token.kind() => {
                        let opening = &wrapped[opening.range()];
                        format!(
                            "closing parenthesis '{closing}' does not match opening parenthesis '{opening}'"
                        )
                    }
                    // The pair that wraps the query must close at its end.
                    Some(_) => continue,
                };
                return Some(BracketFault { fault: Fault::syntax(token.range(), message), unclosed: false });
            }
            _ => {}
        }
    }
    let opening = open.last()?;
    let message = format!("'{}' was never closed", &wrapped[opening.range()]);
    (last.kind() != TokenKind::Unknown)
        .then(|| BracketFault { fault: Fault::syntax(opening.range(), message), unclosed: true })
}

fn closes(open: TokenKind) -> TokenKind {
    match open {
        TokenKind::Lpar => TokenKind::Rpar,
        TokenKind::Lsqb => TokenKind::Rsqb,
        TokenKind::Lbrace => TokenKind::Rbrace,
        _ => TokenKind::FStringEnd,
    }
}
