//! The limit for JSON that clients send. It applies before the text is parsed, because three bytes can become a value
//! of hundreds.

use matyan_channels::MAX_REQUEST_VALUES;
use matyan_proto::limits::MAP_VALUES;
use matyan_value::json::tree_weight;

use crate::error::{Result, WandbError};

/// Checks the number of values in the body of a GraphQL request. Configs and summaries are texts in it, and are checked
/// on their own.
pub(crate) fn check_request(json: &[u8]) -> Result<()> {
    check_at_most(MAX_REQUEST_VALUES, "the body", json)
}

/// Checks the number of values of another text, such as a row of the history or a config.
pub(crate) fn check_values(what: &str, json: &[u8]) -> Result<()> {
    check_at_most(MAP_VALUES, what, json)
}

fn check_at_most(limit: usize, what: &str, json: &[u8]) -> Result<()> {
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
        let lists = format!("[{}[]]", "[],".repeat(MAP_VALUES / 2));
        let objects = format!("[{}{{}}]", "{},".repeat(MAP_VALUES / 11));
        for grown in [lists, objects] {
            let error = check_values("the row", grown.as_bytes()).unwrap_err();
            assert!(error.message.starts_with("the row has more than"), "{}", error.message);
        }
        let largest = format!("[{}1]", "1,".repeat(MAP_VALUES - 3));
        check_values("the row", largest.as_bytes()).unwrap();
    }
}
