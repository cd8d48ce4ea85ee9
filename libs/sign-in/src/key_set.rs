//! Keys that a provider publishes (RFC 7517), and signatures by these keys. Only this file decides which algorithms are
//! accepted, whatever a token says: each key has one algorithm.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

/// Maximum number of keys that are read.
const MAX_KEYS: usize = 100;

/// Length of each coordinate of a point of P-256.
const COORDINATE_BYTES: usize = 32;

/// The accepted algorithms of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    /// `None` for an algorithm that is not accepted, such as `none` and all algorithms with a shared secret.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// The members of a published key that are used here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PublishedKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

/// The document with the keys of a provider.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct PublishedKeys {
    keys: Vec<PublishedKey>,
}

#[derive(Clone, Debug)]
enum KeyMaterial {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Marker of a point that is not compressed.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A key that signs ID tokens.
#[derive(Clone, Debug)]
pub(crate) struct VerificationKey {
    id: Option<String>,
    material: KeyMaterial,
}

impl VerificationKey {
    /// `None` for a key that is not for signatures, or has an algorithm that is not accepted.
    fn read(published: &PublishedKey) -> Option<Self> {
        if published.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| !bytes.is_empty());
        let material = match (published.kty.as_str(), published.crv.as_str()) {
            ("RSA", _) => {
                KeyMaterial::Rsa { n: number(bytes(&published.n)?), e: number(bytes(&published.e)?) }
            }
            ("EC", "P-256") => {
                let x = bytes(&published.x)?;
                let y = bytes(&published.y)?;
                let is_point = x.len() == COORDINATE_BYTES && y.len() == COORDINATE_BYTES;
                KeyMaterial::P256(is_point.then(|| [&[4][..], &x, &y].concat())?)
            }
            ("OKP", "Ed25519") => KeyMaterial::Ed25519(bytes(&published.x)?),
            _ => return None,
        };
        let key = Self { id: published.kid.clone(), material };
        let is_for_it = |name: &str| Algorithm::from_name(name) == Some(key.algorithm());
        published.alg.as_deref().is_none_or(is_for_it).then_some(key)
    }

    fn algorithm(&self) -> Algorithm {
        match self.material {
            KeyMaterial::Rsa { .. } => Algorithm::Rs256,
            KeyMaterial::P256(_) => Algorithm::Es256,
            KeyMaterial::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// Whether this key has signed a message.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.material {
            KeyMaterial::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            KeyMaterial::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            KeyMaterial::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
        };
        verified.is_ok()
    }
}

/// A number without leading zeros.
fn number(bytes: Vec<u8>) -> Vec<u8> {
    bytes.into_iter().skip_while(|byte| *byte == 0).collect()
}

/// The keys with which a provider signs.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeySet(Vec<VerificationKey>);

impl KeySet {
    pub(crate) fn read(published: &PublishedKeys) -> Self {
        Self(published.keys.iter().take(MAX_KEYS).filter_map(VerificationKey::read).collect())
    }

    /// The key with this id and algorithm. A token without an id is accepted only if the provider has one such key.
    pub(crate) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&VerificationKey> {
        let mut found = self
            .0
            .iter()
            .filter(|key| key.algorithm() == algorithm && id.is_none_or(|id| key.id.as_deref() == Some(id)));
        let key = found.next()?;
        found.next().is_none().then_some(key)
    }
}
