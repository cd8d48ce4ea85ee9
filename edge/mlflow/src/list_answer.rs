//! Answers with a list.

use serde_json::{Value, json};

/// An answer with a list, and with the token of the next page if there is one. The entries are moved: `json!` would copy
/// each of them.
pub(crate) fn list_answer(name: &str, entries: impl Into<Value>, next_token: Option<String>) -> Value {
    let mut answer = json!({});
    answer[name] = entries.into();
    if let Some(token) = next_token {
        answer["next_page_token"] = token.into();
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_with_a_next_page_has_a_token() {
        let entries = || vec![json!(1), json!(2)];
        assert_eq!(list_answer("runs", entries(), None), json!({"runs": [1, 2]}));
        let expected = json!({"runs": [1, 2], "next_page_token": "x"});
        assert_eq!(list_answer("runs", entries(), Some("x".to_owned())), expected);
    }
}
