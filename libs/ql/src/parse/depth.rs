//! Upper bound on the depth of a text's tree, computed over its tokens before the tree exists.
//! It is needed because the parser's tree is dropped recursively, which a hostile text could
//! turn into a stack overflow.

use ruff_python_ast::token::TokenKind;
use ruff_python_parser::{Mode, lexer};
use ruff_text_size::{TextRange, TextSize};

use crate::error::{ErrorKind, Fault};
use crate::limits::{MAX_BRACKETS, MAX_TOKEN_DEPTH};

/// An open bracket with the depth of its content so far.
#[derive(Default)]
struct BracketGroup {
    /// Keywords such as `not` and `lambda`, under which everything that follows may nest,
    /// even across commas.
    prefixes: usize,
    /// Operators since the last comma, `and`, `or` or comparison, which produce lists in
    /// the tree, not levels.
    operators: usize,
    /// Depth of the deepest bracket since then.
    inner: usize,
    /// Depth of the deepest part before that.
    deepest: usize,
}

impl BracketGroup {
    fn end_part(&mut self) {
        self.deepest = self.deepest.max(self.operators + self.inner);
        self.operators = 0;
        self.inner = 0;
    }

    fn depth(&self) -> usize {
        self.prefixes + self.deepest.max(self.operators + self.inner)
    }
}

enum TooDeep {
    Brackets,
    Tree,
}

/// Refuses a text whose tree could be too deep to handle.
pub(super) fn check(wrapped: &str) -> Result<(), Fault> {
    let Err(kind) = measure(wrapped) else { return Ok(()) };
    let range = first_too_deep(wrapped);
    Err(match kind {
        TooDeep::Brackets => Fault::syntax(range, "too many nested parentheses"),
        TooDeep::Tree => Fault::new(ErrorKind::Limit, range, "the query nests too deeply; make it simpler"),
    })
}

/// Finds the position of the error by binary search for the shortest prefix that is too deep,
/// because the lexer reports token kinds without positions.
fn first_too_deep(wrapped: &str) -> TextRange {
    let mut fine = 0;
    let mut deep = wrapped.len();
    while deep - fine > 1 {
        let middle = fine.midpoint(deep);
        match measure(&wrapped[..wrapped.floor_char_boundary(middle)]) {
            Ok(()) => fine = middle,
            Err(_) => deep = middle,
        }
    }
    TextRange::new(
        text_size(wrapped.floor_char_boundary(deep - 1)),
        text_size(wrapped.ceil_char_boundary(deep)),
    )
}

fn text_size(at: usize) -> TextSize {
    TextSize::new(u32::try_from(at).expect("the query length was checked against MAX_QUERY_BYTES"))
}

fn measure(text: &str) -> Result<(), TooDeep> {
    let mut lexer = lexer::lex(text, Mode::Expression);
    let mut groups = vec![BracketGroup::default()];
    loop {
        match lexer.next_token() {
            TokenKind::EndOfFile => return Ok(()),
            TokenKind::Lpar | TokenKind::Lsqb | TokenKind::Lbrace | TokenKind::FStringStart => {
                groups.last_mut().expect("the outermost group is never removed").operators += 1;
                groups.push(BracketGroup::default());
            }
            TokenKind::Rpar | TokenKind::Rsqb | TokenKind::Rbrace | TokenKind::FStringEnd => {
                close(&mut groups)
            }
            kind => count_token(groups.last_mut().expect("the outermost group is never removed"), kind),
        }
        if groups.len() > MAX_BRACKETS + 1 {
            return Err(TooDeep::Brackets);
        }
        if groups.iter().map(BracketGroup::depth).sum::<usize>() > MAX_TOKEN_DEPTH {
            return Err(TooDeep::Tree);
        }
    }
}

fn close(groups: &mut Vec<BracketGroup>) {
    if groups.len() == 1 {
        return;
    }
    let depth = groups.pop().map_or(0, |group| group.depth());
    let outer = groups.last_mut().expect("the outermost group is never removed");
    outer.inner = outer.inner.max(depth);
}

fn count_token(group: &mut BracketGroup, kind: TokenKind) {
    use TokenKind as T;
    match kind {
        T::Name | T::Int | T::Float | T::Complex | T::String | T::FStringMiddle => {}
        T::True | T::False | T::None | T::Ellipsis => {}
        T::Comment | T::Newline | T::NonLogicalNewline => {}
        _ if kind.is_soft_keyword() => {}
        T::Comma | T::And | T::Or | T::In | T::Is => group.end_part(),
        T::EqEqual | T::NotEqual | T::Less | T::LessEqual | T::Greater | T::GreaterEqual => group.end_part(),
        _ if kind.is_keyword() || kind == T::ColonEqual => group.prefixes += 1,
        _ => group.operators += 1,
    }
}
