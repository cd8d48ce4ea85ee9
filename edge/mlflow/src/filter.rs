//! The grammar of MLflow's filters: comparisons that are joined by `AND`, such as
//! `metrics.loss < 0.2 AND params."learning rate" = '0.1'`. This module parses a filter; the meaning of its names
//! depends on the kind of search.

use crate::error::{MlflowError, Result};

/// Maximum bytes of a filter.
const MAX_BYTES: usize = 16 << 10;

/// A name on the left side: the kind of the value, and its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identifier {
    pub(crate) kind: IdentifierKind,
    pub(crate) key: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum IdentifierKind {
    Metric,
    Param,
    Tag,
    Attribute,
    Dataset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
    /// Like, without regard to case.
    CaselessLike,
    In,
    NotIn,
    IsNull,
    IsNotNull,
}

/// The right side of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Number(f64),
    Text(String),
    Texts(Vec<String>),
    /// After `IS NULL` and `IS NOT NULL`.
    Nothing,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Comparison {
    pub(crate) identifier: Identifier,
    pub(crate) comparator: Comparator,
    pub(crate) operand: Operand,
}

/// A token of a filter.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A name, a keyword, or a dotted path of names, some of which may have been in quotes.
    Word(Vec<WordPart>),
    /// A text in single quotes, or a text in double quotes that is not a part of a name.
    Text(String),
    Number(f64),
    Operator(Comparator),
    Open,
    Close,
    Comma,
}

/// A part of a name between dots.
#[derive(Clone, Debug, PartialEq)]
struct WordPart {
    text: String,
    is_quoted: bool,
}

/// Parses a filter. A blank filter has no comparisons.
pub(crate) fn parse(filter: &str) -> Result<Vec<Comparison>> {
    if filter.len() > MAX_BYTES {
        return Err(MlflowError::invalid(format!("the filter has more than {MAX_BYTES} bytes: shorten it")));
    }
    let mut parser = Parser { filter, tokens: tokens(filter)?, next: 0 };
    let mut comparisons = Vec::new();
    if parser.tokens.is_empty() {
        return Ok(comparisons);
    }
    loop {
        comparisons.push(parser.comparison()?);
        match parser.take() {
            None => return Ok(comparisons),
            Some(token) if is_keyword(&token, "AND") => {}
            Some(token) if is_keyword(&token, "OR") => {
                return Err(parser.error("`OR` is not supported: join comparisons by `AND`"));
            }
            Some(_) => return Err(parser.error("a comparison is followed by something other than `AND`")),
        }
    }
}

/// Parses a name of a filter or of an order, such as `metrics.loss`. A name without a kind is an attribute.
pub(crate) fn parse_identifier(text: &str) -> Result<Identifier> {
    match tokens(text)?.as_slice() {
        [Token::Word(parts)] => identifier(parts),
        _ => Err(MlflowError::invalid(format!("Invalid identifier '{text}'"))),
    }
}

struct Parser<'f> {
    filter: &'f str,
    tokens: Vec<Token>,
    next: usize,
}

impl Parser<'_> {
    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.next).cloned();
        self.next += 1;
        token
    }

    fn error(&self, problem: &str) -> MlflowError {
        MlflowError::invalid(format!("Invalid filter '{}': {problem}", self.filter))
    }

    fn comparison(&mut self) -> Result<Comparison> {
        let identifier = match self.take() {
            Some(Token::Word(parts)) => identifier(&parts)?,
            _ => return Err(self.error("a comparison must begin with a name such as `metrics.loss`")),
        };
        let comparator = self.comparator()?;
        let operand = match comparator {
            Comparator::IsNull | Comparator::IsNotNull => Operand::Nothing,
            Comparator::In | Comparator::NotIn => Operand::Texts(self.texts()?),
            _ => match self.take() {
                Some(Token::Number(number)) => Operand::Number(number),
                Some(Token::Text(text)) => Operand::Text(text),
                // Double quotes make a name, but MLflow also takes them for a text here.
                Some(Token::Word(parts)) if parts.len() == 1 && parts[0].is_quoted => {
                    Operand::Text(parts[0].text.clone())
                }
                _ => return Err(self.error("a comparator must be followed by a number or a text in quotes")),
            },
        };
        Ok(Comparison { identifier, comparator, operand })
    }

    fn comparator(&mut self) -> Result<Comparator> {
        let unknown = "after a name there must be =, !=, <, <=, >, >=, LIKE, ILIKE, IN, NOT IN or IS NULL";
        let keyword = match self.take() {
            Some(Token::Operator(comparator)) => return Ok(comparator),
            Some(Token::Word(parts)) => keyword(&parts),
            _ => None,
        };
        match keyword.as_deref() {
            Some("LIKE") => Ok(Comparator::Like),
            Some("ILIKE") => Ok(Comparator::CaselessLike),
            Some("IN") => Ok(Comparator::In),
            Some("NOT") => match self.take() {
                Some(token) if is_keyword(&token, "IN") => Ok(Comparator::NotIn),
                _ => Err(self.error(unknown)),
            },
            Some("IS") => match self.take() {
                Some(token) if is_keyword(&token, "NULL") => Ok(Comparator::IsNull),
                Some(token) if is_keyword(&token, "NOT") => match self.take() {
                    Some(token) if is_keyword(&token, "NULL") => Ok(Comparator::IsNotNull),
                    _ => Err(self.error(unknown)),
                },
                _ => Err(self.error(unknown)),
            },
            _ => Err(self.error(unknown)),
        }
    }

    /// A list of texts in parentheses. It may end with a comma, because Python writes a tuple of one text like that.
    fn texts(&mut self) -> Result<Vec<String>> {
        let wrong = "`IN` must be followed by a list of texts in quotes, such as ('a', 'b')";
        if self.take() != Some(Token::Open) {
            return Err(self.error(wrong));
        }
        let mut texts = Vec::new();
        loop {
            match self.take() {
                Some(Token::Text(text)) => texts.push(text),
                Some(Token::Word(parts)) if parts.len() == 1 && parts[0].is_quoted => {
                    texts.push(parts[0].text.clone());
                }
                Some(Token::Close) if !texts.is_empty() => return Ok(texts),
                _ => return Err(self.error(wrong)),
            }
            match self.take() {
                Some(Token::Comma) => {}
                Some(Token::Close) => return Ok(texts),
                _ => return Err(self.error(wrong)),
            }
        }
    }
}

/// The keyword of a word, in upper case.
fn keyword(parts: &[WordPart]) -> Option<String> {
    match parts {
        [WordPart { text, is_quoted: false }] => Some(text.to_ascii_uppercase()),
        _ => None,
    }
}

fn is_keyword(token: &Token, wanted: &str) -> bool {
    matches!(token, Token::Word(parts) if keyword(parts).as_deref() == Some(wanted))
}

fn identifier(parts: &[WordPart]) -> Result<Identifier> {
    let (first, rest) =
        parts.split_first().ok_or_else(|| MlflowError::invalid("the filter has an empty name"))?;
    if rest.is_empty() {
        return Ok(Identifier { kind: IdentifierKind::Attribute, key: first.text.clone() });
    }
    let kind = match first.text.as_str() {
        "metric" | "metrics" => IdentifierKind::Metric,
        "parameter" | "parameters" | "param" | "params" => IdentifierKind::Param,
        "tag" | "tags" => IdentifierKind::Tag,
        "attribute" | "attributes" | "attr" | "run" => IdentifierKind::Attribute,
        "dataset" | "datasets" => IdentifierKind::Dataset,
        other => {
            return Err(MlflowError::invalid(format!(
                "Invalid entity type '{other}'. Valid values are ['metric', 'parameter', 'tag', 'attribute', 'dataset']"
            )));
        }
    };
    let texts: Vec<&str> = rest.iter().map(|part| part.text.as_str()).collect();
    Ok(Identifier { kind, key: texts.join(".") })
}

fn tokens(filter: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = filter.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = token(rest, first).ok_or_else(|| {
            MlflowError::invalid(format!("Invalid filter '{filter}': cannot read `{rest}`"))
        })?;
        tokens.push(token);
        rest = after.trim_start();
    }
    Ok(tokens)
}

/// The token at the start of a text that is not empty, and the rest of the text.
fn token(text: &str, first: char) -> Option<(Token, &str)> {
    const OPERATORS: [(&str, Comparator); 8] = [
        ("!=", Comparator::NotEqual),
        ("<>", Comparator::NotEqual),
        ("<=", Comparator::LessOrEqual),
        (">=", Comparator::GreaterOrEqual),
        ("==", Comparator::Equal),
        ("=", Comparator::Equal),
        ("<", Comparator::Less),
        (">", Comparator::Greater),
    ];
    let simple = match first {
        '(' => Some(Token::Open),
        ')' => Some(Token::Close),
        ',' => Some(Token::Comma),
        _ => None,
    };
    if let Some(token) = simple {
        return Some((token, &text[1..]));
    }
    for (sign, comparator) in OPERATORS {
        if let Some(after) = text.strip_prefix(sign) {
            return Some((Token::Operator(comparator), after));
        }
    }
    match first {
        '\'' => {
            let (content, after) = quoted(text, '\'')?;
            Some((Token::Text(content), after))
        }
        '-' | '+' | '.' => number(text),
        digit if digit.is_ascii_digit() => number(text),
        _ => word(text),
    }
}

/// A text between quotes, and the rest. A doubled quote stands for one quote.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut content = String::new();
    let mut rest = text.strip_prefix(quote)?;
    loop {
        let (piece, after) = rest.split_once(quote)?;
        content.push_str(piece);
        match after.strip_prefix(quote) {
            Some(after) => {
                content.push(quote);
                rest = after;
            }
            None => return Some((content, after)),
        }
    }
}

fn number(text: &str) -> Option<(Token, &str)> {
    let mut end = 0;
    let mut previous = ' ';
    for letter in text.chars() {
        let is_sign = matches!(letter, '+' | '-') && (end == 0 || matches!(previous, 'e' | 'E'));
        if !(is_sign || letter.is_ascii_digit() || matches!(letter, '.' | 'e' | 'E')) {
            break;
        }
        end += letter.len_utf8();
        previous = letter;
    }
    let (number, after) = text.split_at(end);
    // Another name must not follow at once.
    if after.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_') {
        return None;
    }
    Some((Token::Number(number.parse().ok()?), after))
}

/// A name of parts with dots between them. Parts may be in double quotes or backticks; the key of a tag may
/// have dots, dashes and slashes of its own.
fn word(text: &str) -> Option<(Token, &str)> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = match rest.chars().next()? {
            quote @ ('"' | '`') => {
                let (text, after) = quoted(rest, quote)?;
                (WordPart { text, is_quoted: true }, after)
            }
            _ => {
                let end = rest
                    .find(|letter: char| !(letter.is_alphanumeric() || "_-/:@".contains(letter)))
                    .unwrap_or(rest.len());
                if end == 0 {
                    return None;
                }
                (WordPart { text: rest[..end].to_owned(), is_quoted: false }, &rest[end..])
            }
        };
        parts.push(part);
        match after.strip_prefix('.') {
            Some(after) => rest = after,
            None => return Some((Token::Word(parts), after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorCode;

    fn comparison(kind: IdentifierKind, key: &str, comparator: Comparator, operand: Operand) -> Comparison {
        Comparison { identifier: Identifier { kind, key: key.to_owned() }, comparator, operand }
    }

    fn text(text: &str) -> Operand {
        Operand::Text(text.to_owned())
    }

    #[test]
    fn comparisons_are_joined_by_and() {
        use Comparator::*;
        use IdentifierKind::*;
        let check = |filter: &str, expected: &[Comparison]| {
            assert_eq!(parse(filter).unwrap(), expected, "{filter}");
        };
        check("", &[]);
        check("  ", &[]);
        check("metrics.loss < 0.2", &[comparison(Metric, "loss", Less, Operand::Number(0.2))]);
        check("metric.a>=-1e-3", &[comparison(Metric, "a", GreaterOrEqual, Operand::Number(-1e-3))]);
        check(
            "params.lr = '0.1' and tags.mlflow.user != \"ana\"",
            &[
                comparison(Param, "lr", Equal, text("0.1")),
                comparison(Tag, "mlflow.user", NotEqual, text("ana")),
            ],
        );
        check(
            "params.\"learning rate\" = 'it''s'",
            &[comparison(Param, "learning rate", Equal, text("it's"))],
        );
        check("tags.`a.b c` LIKE '%x'", &[comparison(Tag, "a.b c", Like, text("%x"))]);
        check("`metrics`.`a` = 1", &[comparison(Metric, "a", Equal, Operand::Number(1.0))]);
        check("status ILIKE 'fin%'", &[comparison(Attribute, "status", CaselessLike, text("fin%"))]);
        check(
            "attributes.run_id IN ('a', \"b\") AND run.start_time > 5",
            &[
                comparison(Attribute, "run_id", In, Operand::Texts(vec!["a".into(), "b".into()])),
                comparison(Attribute, "start_time", Greater, Operand::Number(5.0)),
            ],
        );
        check(
            "attr.run_id not in ('a',)",
            &[comparison(Attribute, "run_id", NotIn, Operand::Texts(vec!["a".into()]))],
        );
        check(
            "tags.a IS NULL AND tags.b is not null",
            &[
                comparison(Tag, "a", IsNull, Operand::Nothing),
                comparison(Tag, "b", IsNotNull, Operand::Nothing),
            ],
        );
        check("dataset.name = 'x'", &[comparison(Dataset, "name", Equal, text("x"))]);
        check("metrics.system/cpu = 1", &[comparison(Metric, "system/cpu", Equal, Operand::Number(1.0))]);
        check("name = 'and'", &[comparison(Attribute, "name", Equal, text("and"))]);
    }

    #[test]
    fn wrong_filters_are_refused() {
        for filter in [
            "metrics.loss",
            "metrics.loss <",
            "< 5",
            "metrics.loss < 0.2 OR metrics.loss > 5",
            "metrics.loss < 0.2 metrics.acc > 5",
            "metrics.loss < 0.2 AND",
            "models.x = 1",
            "params.a = x",
            "params.a = 'x",
            "params.\"a = 'x'",
            "run_id IN 'a'",
            "run_id IN ()",
            "run_id IN (,)",
            "run_id IN ('a',,)",
            "run_id NOT 'a'",
            "tags.a IS 'x'",
            "metrics.loss = 5x",
            "metrics.loss = 1e",
            "metrics. = 1",
            "(metrics.loss = 1)",
            "metrics.loss = 1; drop",
            &format!("tags.a = '{}'", "x".repeat(MAX_BYTES)),
        ] {
            let refused = parse(filter).expect_err(filter);
            assert_eq!(refused.code, ErrorCode::InvalidParameterValue, "{filter}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(filter in "\\PC{0,60}") {
            let _ = parse(&filter);
            let _ = parse_identifier(&filter);
        }

        #[test]
        fn a_quoted_key_and_value_are_kept(key in "[a-z '.%]{1,12}", value in "[a-z\".%_ ]{0,12}") {
            let filter = format!("tags.\"{key}\" = '{value}'");
            let expected = comparison(IdentifierKind::Tag, &key, Comparator::Equal, Operand::Text(value));
            prop_assert_eq!(parse(&filter).unwrap(), vec![expected]);
        }
    }
}
