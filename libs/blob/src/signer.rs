//! Signed upload URLs of our own, for a store that has no network address and so cannot issue
//! presigned URLs. They are a separate type because the service that checks a token (the frontier)
//! need not hold the directory.

use std::{sync::Arc, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{BlobKey, Error, PresignedUpload, Result};

/// Microseconds since the Unix epoch. A parameter, so that tests can let a URL expire.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Path under which the edge accepts uploads. Not a URL, as only the edge knows the origin
/// under which the caller reached it.
pub const UPLOAD_PATH: &str = "/api/v1/rest/blobs/";

/// Separates these signatures from anything else derived from the same secret.
const PURPOSE: &str = "matyan upload url v1";

/// Unreserved characters of RFC 3986, plus the slash between segments.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Creates and verifies the token `expires={unix seconds}&signature={64 hex digits}`, the query
/// of an upload URL. The signature is a keyed BLAKE3 hash of expiry and key, and permits
/// writing that key until then. The content type is not signed because clients may omit it.
#[derive(Clone)]
pub struct UrlSigner {
    key: [u8; 32],
    lifetime: Duration,
    clock: Clock,
}

impl UrlSigner {
    pub fn new(secret: &[u8], lifetime: Duration, clock: Clock) -> Self {
        Self { key: blake3::derive_key(PURPOSE, secret), lifetime, clock }
    }

    /// `{UPLOAD_PATH}{percent-encoded key}?{token}`.
    pub fn upload(&self, key: &BlobKey) -> PresignedUpload {
        let path = utf8_percent_encode(key.as_str(), PLAIN);
        PresignedUpload {
            url: format!("{UPLOAD_PATH}{path}?{}", self.sign(key)),
            headers: Vec::new(),
            expires: self.lifetime,
        }
    }

    /// Returns a token that permits writing `key` until the lifetime ends.
    pub fn sign(&self, key: &BlobKey) -> String {
        let expires = self.now_s().saturating_add_unsigned(self.lifetime.as_secs());
        format!("expires={expires}&signature={}", self.signature(key, expires).to_hex())
    }

    /// Rejects tokens that `sign` did not make for this key and tokens that have expired.
    pub fn verify(&self, key: &BlobKey, token: &str) -> Result<()> {
        let (expires, signature) = parse_token(token)
            .ok_or(Error::BadToken { reason: "it does not have the form `expires=…&signature=…`" })?;
        // `blake3::Hash` compares in constant time.
        if self.signature(key, expires) != signature {
            return Err(Error::BadToken { reason: "its signature does not match this key and expiry" });
        }
        if self.now_s() > expires {
            return Err(Error::BadToken { reason: "it has expired; request a new one" });
        }
        Ok(())
    }

    fn signature(&self, key: &BlobKey, expires: i64) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        // The expiry has a fixed width, so no two inputs yield the same bytes.
        hasher.update(&expires.to_be_bytes()).update(key.as_str().as_bytes());
        hasher.finalize()
    }

    fn now_s(&self) -> i64 {
        (self.clock)().div_euclid(1_000_000)
    }
}

fn parse_token(token: &str) -> Option<(i64, blake3::Hash)> {
    let (mut expires, mut signature) = (None, None);
    for pair in token.split('&') {
        match pair.split_once('=')? {
            ("expires", value) if expires.is_none() => expires = Some(value.parse().ok()?),
            ("signature", value) if signature.is_none() => {
                signature = Some(blake3::Hash::from_hex(value).ok()?)
            }
            _ => return None,
        }
    }
    Some((expires?, signature?))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const NOW_S: i64 = 1_700_000_000;

    fn signer(secret: &str) -> (UrlSigner, Arc<AtomicI64>) {
        let now = Arc::new(AtomicI64::new(NOW_S * 1_000_000));
        let clock = {
            let now = now.clone();
            Arc::new(move || now.load(Ordering::Relaxed))
        };
        (UrlSigner::new(secret.as_bytes(), Duration::from_secs(60), clock), now)
    }

    fn key(key: &str) -> BlobKey {
        BlobKey::new(key).unwrap()
    }

    fn check_refused(token: &str) {
        let (signer, _) = signer("secret");
        let answer = signer.verify(&key("run/a.png"), token);
        assert!(matches!(answer, Err(Error::BadToken { .. })), "{token}: {answer:?}");
    }

    #[test]
    fn a_token_is_valid_for_its_key_until_it_expires() {
        let (signer, now) = signer("secret");
        let token = signer.sign(&key("run/a.png"));
        signer.verify(&key("run/a.png"), &token).unwrap();
        signer.verify(&key("run/a.pn"), &token).unwrap_err();

        now.store((NOW_S + 60) * 1_000_000 + 999_999, Ordering::Relaxed);
        signer.verify(&key("run/a.png"), &token).unwrap();
        now.store((NOW_S + 61) * 1_000_000, Ordering::Relaxed);
        signer.verify(&key("run/a.png"), &token).unwrap_err();
    }

    #[test]
    fn a_token_that_the_signer_did_not_make_is_refused() {
        let good = signer("secret").0.sign(&key("run/a.png"));
        let (expires, signature) = good.split_once('&').unwrap();
        signer("secret").0.verify(&key("run/a.png"), &format!("{signature}&{expires}")).unwrap();

        check_refused("");
        check_refused("expires=1");
        check_refused(expires);
        check_refused(signature);
        check_refused(&format!("{good}&x=1"));
        check_refused(&format!("{good}&{expires}"));
        check_refused(&good[..good.len() - 2]);
        check_refused(&good.replace("expires=17", "expires=18"));
        check_refused(&good.replace("expires=", "expires=-"));
        check_refused(&signer("another").0.sign(&key("run/a.png")));
        check_refused(&signer("secret").0.sign(&key("run/b.png")));
    }

    #[test]
    fn the_url_is_encoded_and_keeps_slashes() {
        let url = signer("secret").0.upload(&key("run/a b/ü?#%+.png")).url;
        let path = url.split_once('?').unwrap().0;
        assert_eq!(path, "/api/v1/rest/blobs/run/a%20b/%C3%BC%3F%23%25%2B.png");
    }
}
