//! Errors of sign-ins with a provider. Their texts are for the log of an operator, and contain no secrets.

use std::{error::Error as StdError, sync::Arc};

use crate::id_token::TokenProblem;

/// Longest text of a provider that an error repeats.
const SHOWN_CHARACTERS: usize = 200;

/// The reason why someone is not signed in.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SignInError {
    #[error("there is no provider `{0}`")]
    UnknownProvider(String),
    /// Try again later.
    #[error("{url} does not answer")]
    Unreachable {
        url: String,
        #[source]
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// The provider could not be read a moment ago, and was not asked a second time. Try again later.
    #[error("the provider is not asked again so soon after a failure")]
    Remembered(#[source] Box<SignInError>),
    #[error("{url} answered with status {status}{reason}")]
    Refused { url: String, status: u16, reason: String },
    #[error("{url} answered with a redirect, which is not followed: set the address that it leads to")]
    Redirected { url: String },
    #[error("the answer of {url} has more than {limit} bytes")]
    TooLarge { url: String, limit: usize },
    #[error("the answer of {url} breaks the protocol: {reason}")]
    Malformed { url: String, reason: String },
    #[error("the issuer of the answer is `{found}`, not `{expected}`")]
    WrongIssuer { expected: String, found: String },
    #[error("the ID token is refused")]
    Token(#[from] TokenProblem),
}

impl SignInError {
    pub(crate) fn unreachable(url: &str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source: Box<dyn StdError + Send + Sync> = source.into();
        Self::Unreachable { url: shown(url), source: source.into() }
    }

    pub(crate) fn malformed(url: &str, reason: &str) -> Self {
        Self::Malformed { url: shown(url), reason: shown(reason) }
    }

    /// The error for an answer that has another form. Texts of `serde_json` may quote a part of the answer, and this
    /// part may be a secret.
    pub(crate) fn of_json(url: &str, error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let reason = if text.starts_with("missing field") {
            text
        } else {
            let kind = if error.is_data() { "a member has another type" } else { "it is not JSON" };
            format!("{kind}, at line {} column {}", error.line(), error.column())
        };
        Self::malformed(url, &reason)
    }
}

/// A text from outside, shortened for an error.
pub(crate) fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(SHOWN_CHARACTERS).collect()
}

/// The reason why a provider cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    #[error("the address {0} of a provider has to begin with https://, or with http:// on this machine")]
    Address(String),
    #[error("failed to set up the client for providers")]
    Client(#[source] Box<dyn StdError + Send + Sync>),
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Tokens {
        #[expect(dead_code, reason = "only read by serde")]
        id_token: String,
    }

    #[test]
    fn an_error_repeats_no_part_of_an_answer() {
        for (answer, expected) in [
            ("\"gho_secret\"", "a member has another type, at line 1"),
            ("{\"id_token\": [\"gho_secret\"]}", "a member has another type, at line 1"),
            ("{\"access_token\": \"gho_secret\"}", "missing field `id_token`"),
            ("gho_secret", "it is not JSON, at line 1"),
        ] {
            let error = serde_json::from_str::<Tokens>(answer).unwrap_err();
            let text = SignInError::of_json("https://id.example/token", &error).to_string();
            assert!(text.contains(expected) && !text.contains("gho_secret"), "{text}");
        }
    }

    #[test]
    fn texts_from_outside_are_short() {
        assert_eq!(shown("a\nb\u{1b}[31m"), "ab[31m");
        assert_eq!(shown(&"x".repeat(1 << 20)).len(), SHOWN_CHARACTERS);
    }
}
