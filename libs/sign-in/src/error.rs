//! Errors of sign-ins with a provider. Their texts are for the log of an operator, and contain no secrets.

use std::error::Error as StdError;

use crate::id_token::TokenProblem;

/// The reason why someone is not signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    #[error("there is no provider `{0}`")]
    UnknownProvider(String),
    /// Try again later.
    #[error("{url} does not answer")]
    Unreachable {
        url: String,
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    #[error("{url} answered with status {status}{reason}")]
    Refused { url: String, status: u16, reason: String },
    #[error("{url} answered with a redirect, which is not followed: set the address that it leads to")]
    Redirected { url: String },
    #[error("the answer of {url} has more than {limit} bytes")]
    TooLarge { url: String, limit: usize },
    #[error("the answer of {url} is not what the protocol says: {reason}")]
    Malformed { url: String, reason: String },
    #[error("the issuer of the answer is `{found}`, and not `{expected}`")]
    WrongIssuer { expected: String, found: String },
    #[error("the ID token is refused")]
    Token(#[from] TokenProblem),
}

impl SignInError {
    pub(crate) fn unreachable(url: &str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Unreachable { url: url.to_owned(), source: source.into() }
    }

    pub(crate) fn malformed(url: &str, reason: impl ToString) -> Self {
        Self::Malformed { url: url.to_owned(), reason: reason.to_string() }
    }
}

/// The reason why a provider cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    #[error("the address {0} of a provider has to begin with https://, or with http:// on this machine")]
    Address(String),
    #[error("failed to set up the client for providers")]
    Client(#[source] Box<dyn StdError + Send + Sync>),
}
