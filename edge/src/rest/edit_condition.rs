//! Versions of entities in HTTP: the `ETag` of an answer is the time of the entity's last change, and
//! `If-Match` makes an update conditional on it.

use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{ApiError, ApiResult};

/// Name of the header, in the case in which parameters are looked up.
pub(crate) const IF_MATCH: &str = "if-match";

/// The version that an update expects.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct EditCondition {
    /// the `ETag` of the entity as the caller has read it; if it has changed since then, the answer is 412
    #[serde(rename = "if-match")]
    if_match: Option<String>,
}

impl EditCondition {
    /// For `if_updated_us`. A weak tag counts as well: proxies that compress answers make tags weak, and a
    /// tag identifies a state of the entity, not the bytes of an answer.
    pub(crate) fn updated_us(&self) -> ApiResult<Option<i64>> {
        let Some(text) = self.if_match.as_deref().map(str::trim).filter(|it| *it != "*") else {
            return Ok(None);
        };
        let tag = text.strip_prefix("W/").unwrap_or(text);
        let quoted = tag.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
        let version = quoted.and_then(|it| it.parse().ok());
        version.map(Some).ok_or_else(|| {
            let message = "If-Match: must be one ETag as an answer of this server has it, with its quotes, such as \
                           \"1700000000000000\", or `*`";
            ApiError::new(StatusCode::BAD_REQUEST, message)
        })
    }
}

/// The parameters of the update of most entities.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct EditedId {
    pub(crate) id: String,
    #[serde(flatten)]
    pub(crate) condition: EditCondition,
}

/// The entity tag of a version.
pub(crate) fn etag(updated_us: i64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{updated_us}\"")).expect("digits are valid in a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_the_tag_of_a_version() {
        let read = |text: &str| EditCondition { if_match: Some(text.to_owned()) }.updated_us();
        assert_eq!(EditCondition { if_match: None }.updated_us(), Ok(None));
        let tag = etag(1_700_000_000_000_001);
        assert_eq!(read(tag.to_str().unwrap()), Ok(Some(1_700_000_000_000_001)));
        for (text, expected) in
            [("\"-5\"", Some(-5)), ("W/\"7\"", Some(7)), (" \"7\" ", Some(7)), ("*", None)]
        {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
        for wrong in ["", "7", "\"\"", "\"", "\"a\"", "\"7\", \"8\"", "\"99999999999999999999\"", "w/\"7\""] {
            let error = read(wrong).unwrap_err();
            assert_eq!(error.status(), StatusCode::BAD_REQUEST, "{wrong}");
            assert!(error.message().starts_with("If-Match: "), "{wrong}");
        }
    }
}
