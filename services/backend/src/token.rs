//! URIs of payloads: opaque to clients, bound to one blob, the same for the same blob always and on every server that has
//! the secret, and impossible to make without it.
//!
//! A URI is URL-safe base64 of: the byte 1, a MAC of 16 bytes (keyed BLAKE3, cut), the blob key.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use matyan_blob::BlobKey;

const FORMAT: u8 = 1;
const MAC_BYTES: usize = 16;

/// The key that URIs are made and checked with.
#[derive(Clone)]
pub struct UriKey([u8; 32]);

impl UriKey {
    /// From a secret of any length.
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

    /// The blob of a URI that this key made.
    pub(crate) fn blob(&self, uri: &str) -> Option<BlobKey> {
        let token = URL_SAFE_NO_PAD.decode(uri).ok()?;
        let (&format, rest) = token.split_first()?;
        let (mac, key) = rest.split_at_checked(MAC_BYTES)?;
        let key = std::str::from_utf8(key).ok().filter(|_| format == FORMAT)?;
        // Equal in constant time: a `Hash` compares so, and what is cut off is put back before.
        let mut expected = *self.mac(key).as_bytes();
        expected[..MAC_BYTES].copy_from_slice(mac);
        (self.mac(key) == expected).then(|| BlobKey::new(key).ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_its_blob_and_no_other() {
        let key = UriKey::new(b"secret");
        let blob = BlobKey::new("run/seq/images/1.png").unwrap();
        let uri = key.uri(&blob);
        assert_eq!(key.blob(&uri).unwrap().as_str(), "run/seq/images/1.png");
        assert_eq!(uri, UriKey::new(b"secret").uri(&blob), "the same always");
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
