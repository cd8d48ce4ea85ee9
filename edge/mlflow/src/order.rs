//! The order of results: `metrics.loss DESC`, `attributes.start_time`.

use crate::error::{MlflowError, Result};
use crate::filter::{Identifier, parse_identifier};

/// Maximum number of keys.
const MAX_KEYS: usize = 16;

/// A key to sort by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OrderKey {
    pub(crate) identifier: Identifier,
    pub(crate) is_descending: bool,
}

/// Refuses an order with too many keys.
pub(crate) fn check_length(keys: usize) -> Result<()> {
    if keys > MAX_KEYS {
        return Err(MlflowError::invalid(format!("`order_by` has more than {MAX_KEYS} keys: sort by fewer")));
    }
    Ok(())
}

/// Parses the keys of an order.
pub(crate) fn parse(texts: &[String]) -> Result<Vec<OrderKey>> {
    check_length(texts.len())?;
    let mut keys: Vec<OrderKey> = Vec::new();
    for text in texts {
        let key = parse_key(text)?;
        if keys.iter().any(|other| other.identifier == key.identifier) {
            return Err(MlflowError::invalid("`order_by` contains duplicate fields"));
        }
        keys.push(key);
    }
    Ok(keys)
}

fn parse_key(text: &str) -> Result<OrderKey> {
    let text = text.trim();
    let (name, direction) = match text.rsplit_once(char::is_whitespace) {
        Some((name, last)) if last.eq_ignore_ascii_case("asc") => (name, false),
        Some((name, last)) if last.eq_ignore_ascii_case("desc") => (name, true),
        _ => (text, false),
    };
    let identifier = parse_identifier(name).map_err(|_| {
        MlflowError::invalid(format!("Invalid order_by clause '{text}'. Could not be parsed."))
    })?;
    Ok(OrderKey { identifier, is_descending: direction })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::IdentifierKind;

    #[test]
    fn keys_have_a_direction() {
        let check = |text: &str, kind, key: &str, is_descending| {
            let identifier = Identifier { kind, key: key.to_owned() };
            let expected = OrderKey { identifier, is_descending };
            assert_eq!(parse(&[text.to_owned()]).unwrap(), [expected], "{text}");
        };
        check("metrics.loss", IdentifierKind::Metric, "loss", false);
        check(" metrics.loss  desc ", IdentifierKind::Metric, "loss", true);
        check("params.`learning rate` ASC", IdentifierKind::Param, "learning rate", false);
        check("attribute.start_time DESC", IdentifierKind::Attribute, "start_time", true);
        check("start_time", IdentifierKind::Attribute, "start_time", false);
        for wrong in ["", "a b", "metrics.a down", "foo.bar", "metrics.a, metrics.b", "desc desc desc"] {
            parse(&[wrong.to_owned()]).expect_err(wrong);
        }
        let twice = ["metrics.a".to_owned(), "metric.a desc".to_owned()];
        parse(&twice).unwrap_err();
    }
}
