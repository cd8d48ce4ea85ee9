//! ID tokens of OpenID Connect: signed statements that say who has signed in, to which client, and in answer to which
//! request.
//!
//! The checks are written here, on the signatures of `ring`, because the crates for ID tokens need either another
//! implementation of RSA, which has an open advisory, or a second library for cryptography. A token has to be a JWS in
//! compact form with three parts; encrypted tokens, detached contents and critical extensions are refused.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::key_set::{Algorithm, KeySet};

/// Longest token that is read. A token with many groups is this long.
const TOKEN_BYTES: usize = 256 << 10;
/// Longest subject.
const SUBJECT_BYTES: usize = 255;
/// Tolerated difference between the clocks of two machines.
const CLOCK_SKEW_S: i64 = 60;

/// The reason why an ID token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenProblem {
    #[error("it is not a signed token in compact form")]
    Malformed,
    #[error("its algorithm `{0}` is not accepted: the provider has to sign with RS256, ES256 or EdDSA")]
    Algorithm(String),
    #[error("it has extensions that this server does not know")]
    Extension,
    #[error(
        "the provider has published no key with its key id, or it has none, and the provider has several"
    )]
    UnknownKey,
    #[error("its signature is wrong")]
    Signature,
    #[error("it comes from another issuer")]
    Issuer,
    #[error("it is for another client")]
    Audience,
    #[error("it was issued to another client")]
    AuthorizedParty,
    #[error("it has expired, or the clocks differ by more than a minute")]
    Expired,
    #[error("it is not valid yet, or the clocks differ by more than a minute")]
    NotYetValid,
    #[error("it answers another request")]
    Nonce,
    #[error("it names no subject of at most {limit} bytes", limit = SUBJECT_BYTES)]
    Subject,
}

/// The claims that a token must have.
#[derive(Clone, Copy)]
pub(crate) struct Requirements<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) nonce: &'a str,
    /// Seconds since the Unix epoch.
    pub(crate) now_s: i64,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// The statements of a token whose signature and receiver were checked.
#[derive(Debug)]
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        // Some providers write this claim as a text.
        self.0.get(name).is_some_and(|value| *value == Value::Bool(true) || *value == "true")
    }

    /// A claim that is a list of texts, or a single text.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        match self.0.get(name) {
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(texts)) => texts.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }

    fn seconds(&self, name: &str) -> Option<i64> {
        // Times may have a fraction.
        let value = self.0.get(name)?;
        value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64))
    }

    fn check(&self, requirements: Requirements<'_>) -> Result<(), TokenProblem> {
        let Requirements { issuer, client_id, nonce, now_s } = requirements;
        let audience = self.texts("aud");
        let party = self.text("azp");
        if self.text("iss") != Some(issuer) {
            return Err(TokenProblem::Issuer);
        }
        if !audience.iter().any(|receiver| receiver == client_id) {
            return Err(TokenProblem::Audience);
        }
        let is_own_party = match (self.0.get("azp"), audience.len()) {
            (None, 1) => true,
            // If there are several receivers, `azp` names the one that has asked for the token.
            (None, _) => false,
            (Some(_), _) => party == Some(client_id),
        };
        if !is_own_party {
            return Err(TokenProblem::AuthorizedParty);
        }
        if self.seconds("exp").is_none_or(|end| end.saturating_add(CLOCK_SKEW_S) <= now_s) {
            return Err(TokenProblem::Expired);
        }
        if self.0.contains_key("nbf")
            && self.seconds("nbf").is_none_or(|begin| begin.saturating_sub(CLOCK_SKEW_S) > now_s)
        {
            return Err(TokenProblem::NotYetValid);
        }
        if self.text("nonce") != Some(nonce) {
            return Err(TokenProblem::Nonce);
        }
        match self.text("sub") {
            Some(subject) if (1..=SUBJECT_BYTES).contains(&subject.len()) => Ok(()),
            _ => Err(TokenProblem::Subject),
        }
    }
}

/// Checks a token. `TokenProblem::UnknownKey` may mean that the keys are out of date.
pub(crate) fn verify(
    token: &str,
    keys: &KeySet,
    requirements: Requirements<'_>,
) -> Result<Claims, TokenProblem> {
    if token.len() > TOKEN_BYTES {
        return Err(TokenProblem::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenProblem::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(TokenProblem::Malformed)?;
    let header: Header = decoded(header)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenProblem::Malformed)?;
    if header.crit.is_some() {
        return Err(TokenProblem::Extension);
    }
    let algorithm = Algorithm::from_name(&header.alg).ok_or_else(|| {
        TokenProblem::Algorithm(header.alg.chars().filter(|letter| !letter.is_control()).take(20).collect())
    })?;
    let key = keys.find(header.kid.as_deref(), algorithm).ok_or(TokenProblem::UnknownKey)?;
    if !key.verify(signed.as_bytes(), &signature) {
        return Err(TokenProblem::Signature);
    }
    let claims = Claims(decoded(claims)?);
    claims.check(requirements)?;
    Ok(claims)
}

/// Decodes a part of a token. If the token has another dot, the part is not base64.
fn decoded<T: for<'a> Deserialize<'a>>(part: &str) -> Result<T, TokenProblem> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenProblem::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenProblem::Malformed)
}
