//! URIs of payloads: opaque to clients, bound to one blob, stable across calls and servers that
//! share the secret, and impossible to forge without it.
//!
//! A URI is URL-safe base64 of: the byte 1, a MAC of 16 bytes (keyed BLAKE3, truncated), the
//! blob key.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use matyan_blob::BlobKey;

const FORMAT: u8 = 1;
const MAC_BYTES: usize = 16;

/// The key that makes and verifies URIs.
#[derive(Clone)]
pub struct UriKey([u8; 32]);

impl UriKey {
    /// Derives the key from a secret of any length.
    pub fn new(secret: &[u8]) -> Self {
        Self(blake3::derive_key("matyan 2026-11 blob uri", secret))
    }

    fn mac(&self, key: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.0, key.as_bytes())
    }

    pub(crate) fn uri(&self, key: &BlobKey) -> String {
        let key = key.as_str();
        let mut token = Vec::with_capacity(1 + MAC_BYTES + key.len());
        token.push(FORMAT);
        token.extend_from_slice(&self.mac(key).as_bytes()[..MAC_BYTES]);
        token.extend_from_slice(key.as_bytes());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The blob of a URI made with this key.
    pub(crate) fn blob(&self, uri: &str) -> Option<BlobKey> {
        let token = URL_SAFE_NO_PAD.decode(uri).ok()?;
        let (&format, rest) = token.split_first()?;
        let (mac, key) = rest.split_at_checked(MAC_BYTES)?;
        let key = std::str::from_utf8(key).ok().filter(|_| format == FORMAT)?;
        // `Hash` compares in constant time, so the truncated MAC is extended to a full
        // hash first.
        let mut expected = *self.mac(key).as_bytes();
        expected[..MAC_BYTES].copy_from_slice(mac);
        (self.mac(key) == expected).then(|| BlobKey::new(key).ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_identifies_one_blob_and_cannot_be_forged() {
        let key = UriKey::new(b"secret");
        let blob = BlobKey::new("run/seq/images/1.png").unwrap();
        let uri = key.uri(&blob);
        assert_eq!(key.blob(&uri).unwrap().as_str(), "run/seq/images/1.png");
        assert_eq!(uri, UriKey::new(b"secret").uri(&blob), "URIs are stable");
        assert!(UriKey::new(b"other").blob(&uri).is_none());
        let bytes = URL_SAFE_NO_PAD.decode(&uri).unwrap();
        for place in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[place] ^= 1;
            assert!(key.blob(&URL_SAFE_NO_PAD.encode(forged)).is_none(), "byte {place} changed");
        }
        for wrong in ["", "AA", "not base64!", "AQ"] {
            assert!(key.blob(wrong).is_none(), "{wrong}");
        }
    }
}
