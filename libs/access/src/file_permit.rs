//! Permits in the URLs of files, for clients that are given a URL and read it without their credential. A permit is about
//! one file, and gives the right to read it with the rights that its token has at that time, until the permit ends.
//!
//! Nothing is stored: a permit is `{format}{end}{digest of the token}{signature}` as hex digits, signed with a key that is
//! derived from the secret which all processes of a deployment share, so it outlives restarts. A digest of a token is
//! not a secret: no one can derive the token from it, and no call accepts it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::token::TokenDigest;

/// Time after which a permit ends: as long as upload URLs are valid by default. A client that begins a download later
/// asks for the URL again.
pub const PERMIT_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Separates these signatures from everything else that the secret is used for.
const PURPOSE: &str = "matyan 2026-11 permit of a file";

const FORMAT: u8 = 1;
const END_BYTES: usize = 8;
const DIGEST_BYTES: usize = 32;
const PERMIT_BYTES: usize = 1 + END_BYTES + DIGEST_BYTES + blake3::OUT_LEN;

/// Microseconds since the Unix epoch. A parameter, so that tests can let a permit end.
type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The file that a permit is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermittedFile<'a> {
    /// The project of the server; empty for the default one.
    pub project: &'a str,
    /// The name of the run's experiment in the URL.
    pub experiment: &'a str,
    /// The id of the run in the URL.
    pub run: &'a str,
    pub path: &'a str,
}

/// Why a permit is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitProblem {
    /// It was not made by this deployment, or is about another file.
    Invalid,
    /// It has ended.
    Ended,
}

/// Makes and verifies permits. Cheap to clone.
#[derive(Clone)]
pub struct FilePermits {
    key: [u8; blake3::KEY_LEN],
    now_us: Clock,
}

impl FilePermits {
    /// Derives the key from a secret of any length.
    pub fn new(secret: &[u8], now_us: Clock) -> Self {
        Self { key: blake3::derive_key(PURPOSE, secret), now_us }
    }

    /// A permit to read a file with the rights of a token.
    pub fn sign(&self, token: &TokenDigest, file: PermittedFile<'_>) -> String {
        let end = self.now_s().saturating_add_unsigned(PERMIT_LIFETIME.as_secs());
        let mut permit = Vec::with_capacity(PERMIT_BYTES);
        permit.push(FORMAT);
        permit.extend_from_slice(&end.to_be_bytes());
        permit.extend_from_slice(&token.0);
        let signature = self.signature(&permit, file);
        permit.extend_from_slice(signature.as_bytes());
        hex::encode(permit)
    }

    /// Returns the token of a permit that was made for this file and has not ended. Whether the token is still valid is
    /// for the caller to find out.
    pub fn verify(&self, permit: &str, file: PermittedFile<'_>) -> Result<TokenDigest, PermitProblem> {
        let mut bytes = [0; PERMIT_BYTES];
        hex::decode_to_slice(permit, &mut bytes).map_err(|_| PermitProblem::Invalid)?;
        let (signed, signature) = bytes.split_at(PERMIT_BYTES - blake3::OUT_LEN);
        let given = <[u8; blake3::OUT_LEN]>::try_from(signature).map_err(|_| PermitProblem::Invalid)?;
        // `Hash` compares in constant time.
        if self.signature(signed, file) != given || signed[0] != FORMAT {
            return Err(PermitProblem::Invalid);
        }
        let (end, digest) = signed[1..].split_at(END_BYTES);
        let end = <[u8; END_BYTES]>::try_from(end).map_err(|_| PermitProblem::Invalid)?;
        let digest = <[u8; DIGEST_BYTES]>::try_from(digest).map_err(|_| PermitProblem::Invalid)?;
        if self.now_s() > i64::from_be_bytes(end) {
            return Err(PermitProblem::Ended);
        }
        Ok(TokenDigest(digest))
    }

    /// Every text is preceded by its length, so no two files yield the same bytes.
    fn signature(&self, signed: &[u8], file: PermittedFile<'_>) -> blake3::Hash {
        let PermittedFile { project, experiment, run, path } = file;
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(signed);
        for text in [project, experiment, run, path] {
            hasher.update(&(text.len() as u64).to_be_bytes()).update(text.as_bytes());
        }
        hasher.finalize()
    }

    fn now_s(&self) -> i64 {
        (self.now_us)().div_euclid(1_000_000)
    }
}

/// Omits the key.
impl fmt::Debug for FilePermits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FilePermits")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const NOW_S: i64 = 1_700_000_000;
    const TOKEN: TokenDigest = TokenDigest([7; 32]);
    const FILE: PermittedFile<'_> =
        PermittedFile { project: "speech", experiment: "demo", run: "r", path: "a/b.txt" };

    fn permits(secret: &str) -> (FilePermits, Arc<AtomicI64>) {
        let now_s = Arc::new(AtomicI64::new(NOW_S));
        let clock = Arc::clone(&now_s);
        let clock = move || clock.load(Ordering::Relaxed) * 1_000_000;
        (FilePermits::new(secret.as_bytes(), Arc::new(clock)), now_s)
    }

    #[test]
    fn rule_113_a_permit_is_about_one_file() {
        let (permits, _) = permits("secret");
        let permit = permits.sign(&TOKEN, FILE);
        assert_eq!(permits.verify(&permit, FILE), Ok(TOKEN));
        for other in [
            PermittedFile { project: "", ..FILE },
            PermittedFile { project: "vision", ..FILE },
            PermittedFile { experiment: "dem", ..FILE },
            PermittedFile { run: "s", ..FILE },
            PermittedFile { path: "a/b.tx", ..FILE },
            // The same letters in other places.
            PermittedFile { experiment: "demor", run: "", ..FILE },
            PermittedFile { run: "ra", path: "/b.txt", ..FILE },
        ] {
            assert_eq!(permits.verify(&permit, other), Err(PermitProblem::Invalid), "{other:?}");
        }
    }

    #[test]
    fn rule_113_a_permit_ends() {
        let (permits, now_s) = permits("secret");
        let permit = permits.sign(&TOKEN, FILE);
        let lifetime = i64::try_from(PERMIT_LIFETIME.as_secs()).unwrap();
        now_s.store(NOW_S + lifetime, Ordering::Relaxed);
        assert_eq!(permits.verify(&permit, FILE), Ok(TOKEN));
        now_s.store(NOW_S + lifetime + 1, Ordering::Relaxed);
        assert_eq!(permits.verify(&permit, FILE), Err(PermitProblem::Ended));
    }

    #[test]
    fn rule_113_a_permit_cannot_be_forged() {
        let (permits, _) = permits("secret");
        let permit = permits.sign(&TOKEN, FILE);
        assert_eq!(self::permits("secret").0.verify(&permit, FILE), Ok(TOKEN), "processes share the secret");
        assert_eq!(self::permits("other").0.verify(&permit, FILE), Err(PermitProblem::Invalid));
        let bytes = hex::decode(&permit).unwrap();
        for place in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[place] ^= 1;
            let forged = permits.verify(&hex::encode(forged), FILE);
            assert_eq!(forged, Err(PermitProblem::Invalid), "byte {place} changed");
        }
        for wrong in ["", "00", "no digits", &permit[2..], &format!("{permit}00"), &TOKEN.id()] {
            assert_eq!(permits.verify(wrong, FILE), Err(PermitProblem::Invalid), "{wrong}");
        }
        assert!(!format!("{permits:?}").contains(&hex::encode(permits.key)));
    }
}
