//! The limit for JSON that clients send. It applies before the text is parsed, because three bytes can become a value
//! of hundreds.

use matyan_value::json::tree_weight;

use crate::error::{Result, WandbError};

/// Maximum number of values in the body of a GraphQL request. Configs and summaries are texts in it, and have
/// a limit of their own.
pub(crate) const MAX_REQUEST_VALUES: usize = 200_000;

/// Maximum number of values in another text, such as a row of the history.
const MAX_VALUES: usize = 1_000_000;

/// Checks the number of values of a text.
pub(crate) fn check_values(what: &str, json: &[u8]) -> Result<()> {
    check_at_most(MAX_VALUES, what, json)
}

/// Like `check_values`, with another limit.
pub(crate) fn check_at_most(limit: usize, what: &str, json: &[u8]) -> Result<()> {
    if tree_weight(json) <= limit {
        return Ok(());
    }
    Err(WandbError::invalid(format!(
        "{what} has more than {limit} values, where an object counts as ten: log fewer values at a time, or a file"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_116_text_that_would_grow_is_not_parsed() {
        let lists = format!("[{}[]]", "[],".repeat(MAX_VALUES / 2));
        let objects = format!("[{}{{}}]", "{},".repeat(MAX_VALUES / 11));
        for grown in [lists, objects] {
            let error = check_values("the row", grown.as_bytes()).unwrap_err();
            assert!(error.message.starts_with("the row has more than"), "{}", error.message);
        }
        let largest = format!("[{}1]", "1,".repeat(MAX_VALUES - 3));
        check_values("the row", largest.as_bytes()).unwrap();
    }
}
