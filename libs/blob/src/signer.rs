//! Signed upload URLs of our own, for a store that has no network address and so cannot issue
//! presigned URLs. They are a separate type because the service that checks a token (the frontier)
//! need not hold the directory.

use std::{sync::Arc, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{BlobKey, Error, MultipartUpload, Part, PresignedUpload, Result};

/// Microseconds since the Unix epoch. A parameter, so that tests can let a URL expire.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Path under which the edge accepts uploads. Not a URL, because only the edge knows the origin
/// under which the caller reached it.
pub const UPLOAD_PATH: &str = "/api/v1/rest/blobs/";

/// Separate the signatures from each other, and from anything else derived from the same secret.
const PURPOSE: &str = "matyan upload url v1";
const SIZED_PURPOSE: &str = "matyan sized upload url v1";
const PART_PURPOSE: &str = "matyan part url v1";
const RECEIPT_PURPOSE: &str = "matyan part receipt v1";

/// Unreserved characters of RFC 3986, plus the slash between segments.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The write that a token permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadGrant {
    /// The whole blob. If there is a size, with content of that size.
    Blob { size: Option<u64> },
    /// `length` bytes at `offset` of an upload in parts.
    Part { upload: String, offset: u64, length: u64 },
}

/// Creates and verifies the token `expires={unix seconds}&signature={64 hex digits}`, the query
/// of an upload URL. The signature is a keyed BLAKE3 hash of expiry and key, and permits
/// writing that key until then. The content type is not signed because clients may omit it.
///
/// The token of an upload of known size, `length=…&expires=…&signature=…`, is signed with that size.
///
/// The token of a part, `upload=…&offset=…&length=…&expires=…&signature=…`, is signed with all of
/// its members.
#[derive(Clone)]
pub struct UrlSigner {
    key: [u8; 32],
    sized_key: [u8; 32],
    part_key: [u8; 32],
    receipt_key: [u8; 32],
    lifetime: Duration,
    clock: Clock,
}

impl UrlSigner {
    pub fn new(secret: &[u8], lifetime: Duration, clock: Clock) -> Self {
        let [key, sized_key, part_key, receipt_key] = [PURPOSE, SIZED_PURPOSE, PART_PURPOSE, RECEIPT_PURPOSE]
            .map(|purpose| blake3::derive_key(purpose, secret));
        Self { key, sized_key, part_key, receipt_key, lifetime, clock }
    }

    /// `{UPLOAD_PATH}{percent-encoded key}?{token}`. With a size, it accepts content of that size only.
    pub fn upload(&self, key: &BlobKey, size: Option<u64>) -> PresignedUpload {
        let token = match size {
            None => self.sign(key),
            Some(size) => {
                let expires = self.expiry();
                let signature = self.sized_signature(key, size, expires).to_hex();
                format!("length={size}&expires={expires}&signature={signature}")
            }
        };
        self.presigned(key, &token)
    }

    /// Like `upload`, for one part.
    pub(crate) fn upload_part(&self, upload: &MultipartUpload, part: &Part) -> PresignedUpload {
        let id = &upload.id;
        let expires = self.expiry();
        let Part { offset, length, .. } = *part;
        let signature = self.part_signature(&upload.key, id, offset, length, expires).to_hex();
        let token =
            format!("upload={id}&offset={offset}&length={length}&expires={expires}&signature={signature}");
        self.presigned(&upload.key, &token)
    }

    /// Returns the confirmation that a part was written, which only we can make.
    pub(crate) fn receipt(&self, key: &BlobKey, id: &str, offset: u64, length: u64) -> String {
        let hasher = part_hasher(&self.receipt_key, key, id, offset, length);
        hasher.finalize().to_hex().to_string()
    }

    fn presigned(&self, key: &BlobKey, token: &str) -> PresignedUpload {
        let path = utf8_percent_encode(key.as_str(), PLAIN);
        PresignedUpload {
            url: format!("{UPLOAD_PATH}{path}?{token}"),
            headers: Vec::new(),
            expires: self.lifetime,
        }
    }

    /// Returns a token that permits writing `key` until the lifetime ends.
    pub fn sign(&self, key: &BlobKey) -> String {
        let expires = self.expiry();
        format!("expires={expires}&signature={}", self.signature(key, expires).to_hex())
    }

    fn expiry(&self) -> i64 {
        self.now_s().saturating_add_unsigned(self.lifetime.as_secs())
    }

    /// Returns the permission of a token. Rejects tokens that were not made for this key and tokens
    /// that have expired.
    pub fn verify(&self, key: &BlobKey, token: &str) -> Result<UploadGrant> {
        let token = Token::parse(token)
            .ok_or(Error::BadToken { reason: "it does not have the form `expires=…&signature=…`" })?;
        let expected = match &token.grant {
            UploadGrant::Blob { size: None } => self.signature(key, token.expires),
            UploadGrant::Blob { size: Some(size) } => self.sized_signature(key, *size, token.expires),
            UploadGrant::Part { upload, offset, length } => {
                self.part_signature(key, upload, *offset, *length, token.expires)
            }
        };
        // `blake3::Hash` compares in constant time.
        if expected != token.signature {
            return Err(Error::BadToken { reason: "its signature does not match this key and expiry" });
        }
        if self.now_s() > token.expires {
            return Err(Error::BadToken { reason: "it has expired; request a new one" });
        }
        Ok(token.grant)
    }

    fn part_signature(
        &self,
        key: &BlobKey,
        id: &str,
        offset: u64,
        length: u64,
        expires: i64,
    ) -> blake3::Hash {
        part_hasher(&self.part_key, key, id, offset, length).update(&expires.to_be_bytes()).finalize()
    }

    fn signature(&self, key: &BlobKey, expires: i64) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        // The expiry has a fixed width, so no two inputs yield the same bytes.
        hasher.update(&expires.to_be_bytes()).update(key.as_str().as_bytes());
        hasher.finalize()
    }

    fn sized_signature(&self, key: &BlobKey, size: u64, expires: i64) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.sized_key);
        hasher.update(&size.to_be_bytes()).update(&expires.to_be_bytes()).update(key.as_str().as_bytes());
        hasher.finalize()
    }

    fn now_s(&self) -> i64 {
        (self.clock)().div_euclid(1_000_000)
    }
}

/// Every member has a fixed width or is preceded by its length, so no two inputs yield the same
/// bytes.
fn part_hasher(secret: &[u8; 32], key: &BlobKey, id: &str, offset: u64, length: u64) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    hasher.update(&offset.to_be_bytes()).update(&length.to_be_bytes());
    for text in [id, key.as_str()] {
        hasher.update(&(text.len() as u64).to_be_bytes()).update(text.as_bytes());
    }
    hasher
}

struct Token {
    grant: UploadGrant,
    expires: i64,
    signature: blake3::Hash,
}

impl Token {
    /// Parses the members in any order, each of them once.
    fn parse(token: &str) -> Option<Self> {
        let [mut expires, mut signature, mut upload, mut offset, mut length] = [None::<&str>; 5];
        for pair in token.split('&') {
            let (name, value) = pair.split_once('=')?;
            let member = match name {
                "expires" => &mut expires,
                "signature" => &mut signature,
                "upload" => &mut upload,
                "offset" => &mut offset,
                "length" => &mut length,
                _ => return None,
            };
            if member.replace(value).is_some() {
                return None;
            }
        }
        let grant = match (upload, offset, length) {
            (None, None, None) => UploadGrant::Blob { size: None },
            (None, None, Some(length)) => UploadGrant::Blob { size: Some(length.parse().ok()?) },
            (Some(upload), Some(offset), Some(length)) => UploadGrant::Part {
                upload: upload.to_owned(),
                offset: offset.parse().ok()?,
                length: length.parse().ok()?,
            },
            _ => return None,
        };
        let signature = blake3::Hash::from_hex(signature?).ok()?;
        Some(Self { grant, expires: expires?.parse().ok()?, signature })
    }
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
    fn rule_71_a_sized_token_permits_only_its_size() {
        let (signer, _) = signer("secret");
        let url = signer.upload(&key("run/a.png"), Some(7)).url;
        let (_, token) = url.split_once('?').unwrap();
        assert_eq!(signer.verify(&key("run/a.png"), token).unwrap(), UploadGrant::Blob { size: Some(7) });
        signer.verify(&key("run/b.png"), token).unwrap_err();
        check_refused(&token.replace("length=7", "length=8"));
        check_refused(token.strip_prefix("length=7&").unwrap());
        check_refused(&format!("length=7&{}", signer.sign(&key("run/a.png"))));
    }

    fn part_url(signer: &UrlSigner, offset: u64) -> String {
        let key = key("run/a.png");
        let content_type = String::new();
        let upload = MultipartUpload { key, id: "id".to_owned(), content_type, size: 9 };
        signer.upload_part(&upload, &Part { number: 1, offset, length: 9 }).url
    }

    #[test]
    fn a_part_token_permits_only_its_part() {
        let (signer, now) = signer("secret");
        let url = part_url(&signer, 0);
        let (_, token) = url.split_once('?').unwrap();
        let grant = UploadGrant::Part { upload: "id".to_owned(), offset: 0, length: 9 };
        assert_eq!(signer.verify(&key("run/a.png"), token).unwrap(), grant);

        signer.verify(&key("run/b.png"), token).unwrap_err();
        for (old, new) in [("upload=id", "upload=ix"), ("offset=0", "offset=1"), ("length=9", "length=8")] {
            check_refused(&token.replace(old, new));
        }
        let (part, whole) = token.split_once("&expires").unwrap();
        check_refused(&format!("expires{whole}"));
        check_refused(&format!("{part}&{}", signer.sign(&key("run/a.png"))));
        check_refused(&token.replace("&length=9", ""));
        now.store((NOW_S + 61) * 1_000_000, Ordering::Relaxed);
        signer.verify(&key("run/a.png"), token).unwrap_err();
    }

    #[test]
    fn a_receipt_is_for_one_part() {
        let (signer, _) = signer("secret");
        let receipts = [
            ("run/a", "id", 0, 9),
            ("run/b", "id", 0, 9),
            ("run/a", "idr", 0, 9),
            ("run/a", "id", 9, 9),
            ("run/a", "id", 0, 8),
        ]
        .map(|(name, id, offset, length)| signer.receipt(&key(name), id, offset, length));
        for (index, one) in receipts.iter().enumerate() {
            assert!(!receipts[index + 1..].contains(one));
        }
    }

    #[test]
    fn the_url_is_encoded_and_keeps_slashes() {
        let url = signer("secret").0.upload(&key("run/a b/ü?#%+.png"), None).url;
        let path = url.split_once('?').unwrap().0;
        assert_eq!(path, "/api/v1/rest/blobs/run/a%20b/%C3%BC%3F%23%25%2B.png");
    }
}
