//! Rules of MLflow for names and sizes.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::{MlflowError, Result};

/// Maximum characters of the key of a param, a metric or a tag.
pub(crate) const KEY_CHARS: usize = 250;
/// Maximum characters of the value of a param. Clients cut longer values.
pub(crate) const PARAM_CHARS: usize = 6_000;
/// Maximum characters of a tag of a run.
pub(crate) const TAG_CHARS: usize = 8_000;
/// Maximum characters of a tag of an experiment.
pub(crate) const EXPERIMENT_TAG_CHARS: usize = 20_000;
/// Maximum characters of a tag of a registered model or a version.
pub(crate) const MODEL_TAG_CHARS: usize = 100_000;
/// Maximum characters of the name of an experiment.
const EXPERIMENT_CHARS: usize = 500;
/// Maximum characters of an alias.
const ALIAS_CHARS: usize = 255;
/// Maximum characters of the name of a registered model. MLflow has no such limit, but its database has.
const MODEL_CHARS: usize = 256;

/// Checks the key of a param, a metric or a tag.
pub(crate) fn check_key(what: &str, key: &str) -> Result<()> {
    if key.is_empty() || !key.chars().all(|letter| letter.is_alphanumeric() || "/_.- :".contains(letter)) {
        return Err(MlflowError::invalid(format!(
            "Invalid value {} for parameter '{what}' supplied: Names may only contain alphanumerics, underscores \
             (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/).",
            quoted(key)
        )));
    }
    if is_path_of_another(key) {
        return Err(MlflowError::invalid(format!(
            "Invalid value {} for parameter '{what}' supplied: Names may be treated as files in certain cases, and \
             must not resolve to other names when treated as such.",
            quoted(key)
        )));
    }
    check_length(what, key, KEY_CHARS)
}

/// Returns whether a name, used as a path, would lead to another file.
fn is_path_of_another(name: &str) -> bool {
    name.starts_with('/')
        || name.starts_with("..")
        || name.split('/').any(|segment| matches!(segment, "" | "." | ".."))
}

/// Checks the number of characters.
pub(crate) fn check_length(what: &str, text: &str, limit: usize) -> Result<()> {
    // A character has at most four bytes.
    if text.len() <= limit || text.chars().count() <= limit {
        return Ok(());
    }
    Err(MlflowError::invalid(format!("{what} exceeds the maximum length of {limit} characters")))
}

/// A text with the limit of its characters. A longer text is cut, as MLflow does.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    match text.char_indices().nth(limit) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// Checks the name of a run, which is also its tag `mlflow.runName`.
pub(crate) fn check_run_name(name: &str) -> Result<()> {
    // A character has at most four bytes.
    check_length("The name of a run", name, matyan_proto::limits::NAME_BYTES / 4)
}

/// Checks the id of a run, which becomes a part of paths. Runs of other clients have ids such as `k3x:project`.
pub(crate) fn check_run_id(id: &str) -> Result<()> {
    if matches!(id, "" | "." | "..")
        || id.len() > matyan_proto::limits::RUN_ID_BYTES
        || id.contains(|letter: char| letter == '/' || letter.is_control())
    {
        return Err(MlflowError::invalid(format!(
            "Invalid value {} for parameter 'run_id' supplied: it must have 1 to {} bytes, without '/' and control \
             characters",
            quoted(id),
            matyan_proto::limits::RUN_ID_BYTES
        )));
    }
    Ok(())
}

/// Characters that clients put into paths and queries unchanged.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');

/// The id of a run as a segment of a URI.
pub(crate) fn encoded_run_id(id: &str) -> String {
    utf8_percent_encode(id, SEGMENT).to_string()
}

/// Returns whether a text has the form of the id of a logged model.
pub(crate) fn is_model_id(id: &str) -> bool {
    id.strip_prefix("m-")
        .is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Checks the name of an experiment.
pub(crate) fn check_experiment_name(name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(MlflowError::invalid("Invalid experiment name: it must not be empty"));
    }
    check_length("The name of an experiment", name, EXPERIMENT_CHARS)
}

/// Checks the name of a registered model, which is a part of URIs.
pub(crate) fn check_model_name(name: &str) -> Result<()> {
    if name.trim().is_empty()
        || matches!(name, "." | "..")
        || name.contains(|letter: char| matches!(letter, '/' | ':') || letter.is_control())
    {
        return Err(MlflowError::invalid(format!(
            "Invalid model name: {}. It must not be empty, and must not contain '/', ':' or control characters.",
            quoted(name)
        )));
    }
    check_length("The name of a registered model", name, MODEL_CHARS)
}

/// Checks an alias, which must not look like a version.
pub(crate) fn check_alias(alias: &str) -> Result<()> {
    if alias.is_empty() || !alias.chars().all(|letter| letter.is_alphanumeric() || "_-".contains(letter)) {
        let message = "Invalid alias name: it may only contain alphanumerics, underscores and dashes";
        return Err(MlflowError::invalid(message));
    }
    check_length("An alias", alias, ALIAS_CHARS)?;
    let digits = alias.strip_prefix(['v', 'V']);
    if digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(MlflowError::invalid(format!("Version alias name '{alias}' is reserved.")));
    }
    if alias.eq_ignore_ascii_case("latest") {
        return Err(MlflowError::invalid("'latest' alias name (case insensitive) is reserved."));
    }
    Ok(())
}

/// The start of a text of the caller, in quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", cut(text, KEY_CHARS).escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_the_rules_of_mlflow() {
        for key in ["a", "a/b", "val loss", "größe", "a.b:c-d_e", ".a", &"x".repeat(250)] {
            check_key("key", key).unwrap();
        }
        let long = "x".repeat(251);
        for key in ["", "a\nb", "a\"b", "/a", "a//b", "../a", "..a", "a/.", "a/", ".", "a{}", &long] {
            check_key("key", key).unwrap_err();
        }
    }

    #[test]
    fn other_names_are_checked() {
        for alias in ["", "a b", "v1", "V22", "Latest", &"a".repeat(256)] {
            check_alias(alias).unwrap_err();
        }
        for alias in ["champion", "v", "v1a", "1"] {
            check_alias(alias).unwrap();
        }
        for name in ["", " ", "a/b", "a:b", "..", "a\tb"] {
            check_model_name(name).unwrap_err();
        }
        check_model_name("my model").unwrap();
        for id in ["", ".", "..", "a/b", "a\nb", &"a".repeat(257)] {
            check_run_id(id).unwrap_err();
        }
        for id in ["0123456789abcdef0123456789abcdef", "k3x:project", "a b", "größe", "50%"] {
            check_run_id(id).unwrap();
        }
        assert_eq!(encoded_run_id("k3x:project"), "k3x:project");
        assert_eq!(encoded_run_id("a?b 5%"), "a%3Fb%205%25");
        check_experiment_name(" ").unwrap_err();
        assert_eq!(cut("größe", 3), "grö");
        assert_eq!(cut("ab", 3), "ab");
    }
}
