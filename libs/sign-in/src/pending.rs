//! Sign-ins that wait for their provider. Anyone can start a sign-in, so a server stores nothing about it: the values
//! for checking the answer are in a cookie of the browser, encrypted and authenticated with a key that all servers of
//! a deployment have. The key of a cookie is also derived from the state, which goes through the provider. So a
//! cookie belongs to one state, and nobody can read the cookie without the state.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use matyan_access::SIGN_IN_PREFIX;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

use crate::person::ExpectedAnswer;

/// Separates this key from all other uses of the deployment's secret.
const PURPOSE: &str = "matyan 2026-11 sign-ins that wait for a provider";

/// A sign-in that has started.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingSignIn {
    /// Id of the provider in the settings.
    pub provider: String,
    pub expected: ExpectedAnswer,
    /// Page of this server that the browser asked for; empty if it asked for none.
    pub next: String,
    /// The end of the time for an answer, in microseconds since the Unix epoch.
    pub ends_us: i64,
}

/// The key of a deployment for sign-ins that wait for their provider.
#[derive(Clone)]
pub struct SignInKey([u8; blake3::KEY_LEN]);

impl SignInKey {
    /// Derives the key from a secret of any length.
    pub fn new(secret: &[u8]) -> Self {
        Self(blake3::derive_key(PURPOSE, secret))
    }

    /// The text of a sign-in for the cookie of a browser. A state must not be used for a second sign-in.
    pub fn seal(&self, state: &str, pending: &PendingSignIn) -> String {
        let mut content = serde_json::to_vec(pending).expect("texts and numbers are JSON");
        let sealed = self.key_of(state).seal_in_place_append_tag(nonce(), Aad::empty(), &mut content);
        sealed.expect("a cookie is not too long for the cipher");
        format!("{SIGN_IN_PREFIX}{}", URL_SAFE_NO_PAD.encode(content))
    }

    /// The sign-in in a text that was made with this key and this state.
    pub fn open(&self, state: &str, sealed: &str) -> Option<PendingSignIn> {
        let mut content = URL_SAFE_NO_PAD.decode(sealed.strip_prefix(SIGN_IN_PREFIX)?).ok()?;
        let opened = self.key_of(state).open_in_place(nonce(), Aad::empty(), &mut content).ok()?;
        serde_json::from_slice(opened).ok()
    }

    fn key_of(&self, state: &str) -> LessSafeKey {
        let key = blake3::keyed_hash(&self.0, state.as_bytes());
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_bytes());
        LessSafeKey::new(key.expect("the key has the length that the cipher needs"))
    }
}

/// The nonce of all keys: each key encrypts one text.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> PendingSignIn {
        let expected = ExpectedAnswer {
            nonce: "nonce-1".to_owned(),
            verifier: "verifier-1".to_owned(),
            redirect_uri: "https://here.example/sign-in/callback".to_owned(),
        };
        let next = "/p/speech/runs?q=\"a\"".to_owned();
        PendingSignIn { provider: "github".to_owned(), expected, next, ends_us: 5 }
    }

    #[test]
    fn rule_85_a_sign_in_is_opened_with_its_state_by_every_server_of_the_deployment() {
        let sealed = SignInKey::new(b"secret").seal("state-1", &pending());
        assert!(SignInKey::new(b"secret").open("state-1", &sealed) == Some(pending()));
        assert!(SignInKey::new(b"other").open("state-1", &sealed).is_none());
        assert!(SignInKey::new(b"secret").open("state-2", &sealed).is_none());
        // The verifier cannot be read from a cookie.
        let bytes = URL_SAFE_NO_PAD.decode(sealed.strip_prefix(SIGN_IN_PREFIX).unwrap()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("verifier"));
        assert_ne!(sealed, SignInKey::new(b"secret").seal("state-2", &pending()));
    }

    #[test]
    fn rule_85_a_changed_cookie_is_no_sign_in() {
        let key = SignInKey::new(b"secret");
        let sealed = key.seal("state-1", &pending());
        let bytes = URL_SAFE_NO_PAD.decode(sealed.strip_prefix(SIGN_IN_PREFIX).unwrap()).unwrap();
        for place in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[place] ^= 1;
            let forged = format!("{SIGN_IN_PREFIX}{}", URL_SAFE_NO_PAD.encode(forged));
            assert!(key.open("state-1", &forged).is_none(), "byte {place} changed");
        }
        for wrong in ["", SIGN_IN_PREFIX, "mtb_AA", "mtb_not base64", &sealed[SIGN_IN_PREFIX.len()..]] {
            assert!(key.open("state-1", wrong).is_none(), "{wrong}");
        }
    }

    /// Browsers keep cookies of at most 4,096 bytes, with name and attributes.
    #[test]
    fn the_longest_sign_in_fits_into_a_cookie() {
        let secret = "x".repeat(54);
        let redirect_uri = "r".repeat(512);
        let expected = ExpectedAnswer { nonce: secret.clone(), verifier: secret, redirect_uri };
        // The worst case: each of these characters is written as two characters.
        let next = "\"".repeat(matyan_access::NEXT_PAGE_BYTES);
        let pending = PendingSignIn { provider: "github".to_owned(), expected, next, ends_us: i64::MAX };
        let sealed = SignInKey::new(b"secret").seal("state-1", &pending);
        assert!(sealed.len() <= 3_800, "{}", sealed.len());
    }
}
