//! Tokens: `mtk_{secret}_{checksum}`. The secret has 256 random bits, in letters and digits. The checksum
//! lets scanners of source code recognize a token, and lets a server refuse a mistyped one without
//! looking it up. A server keeps only the digest of a token.

use std::fmt;

use rand::distr::Alphanumeric;
use rand::{CryptoRng, Rng};

const PREFIX: &str = "mtk_";
/// Letters and digits that have at least 256 bits.
const SECRET_BYTES: usize = 43;
/// Letters and digits that have at least 32 bits.
const CHECKSUM_BYTES: usize = 6;
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Separates digests of tokens from everything else that BLAKE3 is used for.
const PURPOSE: &str = "matyan access token v1";

/// A token that has the right form. Whether anyone may use it is decided by its digest.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(String);

impl AccessToken {
    pub fn generate(random: &mut (impl CryptoRng + ?Sized)) -> Self {
        let secret: String = random.sample_iter(Alphanumeric).take(SECRET_BYTES).map(char::from).collect();
        let checksum = checksum(&secret);
        Self(format!("{PREFIX}{secret}_{checksum}"))
    }

    /// `None` if the text is not a token, or is mistyped.
    pub fn parse(text: &str) -> Option<Self> {
        let (secret, given) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let is_secret = secret.len() == SECRET_BYTES && secret.bytes().all(|it| it.is_ascii_alphanumeric());
        (is_secret && checksum(secret) == given).then(|| Self(text.to_owned()))
    }

    /// The token in a text, such as a line for a shell or a link; `None` if there is none.
    pub fn find(text: &str) -> Option<Self> {
        let begin = text.find(PREFIX)?;
        let token = text[begin..].split(|it: char| !is_of_token(it)).next()?;
        Self::parse(token)
    }

    /// Replaces everything in a text that begins like a token by `mtk_…`: people paste tokens where names
    /// and ids belong.
    pub fn masked(text: &str) -> String {
        let mut parts = text.split(PREFIX);
        let mut masked = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            masked.push_str(PREFIX);
            masked.push('…');
            masked.push_str(part.trim_start_matches(is_of_token));
        }
        masked
    }

    /// Whether a text begins like a token, and was therefore meant as one.
    pub fn looks_like_one(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The token, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub fn digest(&self) -> TokenDigest {
        TokenDigest(blake3::derive_key(PURPOSE, self.0.as_bytes()))
    }
}

/// Omits the secret.
impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessToken({})", self.digest().id())
    }
}

/// Whether a token may contain this character.
fn is_of_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

fn checksum(secret: &str) -> String {
    let mut rest = crc32fast::hash(secret.as_bytes()) as usize;
    let mut digits = [b'0'; CHECKSUM_BYTES];
    for digit in digits.iter_mut().rev() {
        *digit = LETTERS[rest % LETTERS.len()];
        rest /= LETTERS.len();
    }
    digits.map(char::from).iter().collect()
}

/// The digest of a token, by which a server knows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenDigest(pub [u8; 32]);

impl TokenDigest {
    /// The name of the token in lists and logs, which reveals nothing.
    pub fn id(&self) -> String {
        hex::encode(&self.0[..8])
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenDigest({})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn token(seed: u64) -> AccessToken {
        AccessToken::generate(&mut StdRng::seed_from_u64(seed))
    }

    #[test]
    fn a_token_has_a_form_that_scanners_and_other_clients_accept() {
        let token = token(1);
        let text = token.reveal();
        assert_eq!(text.len(), 54);
        assert!(text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_'), "{text}");
        assert_eq!(AccessToken::parse(text), Some(token.clone()));
        assert_ne!(self::token(2), token);
        // The checksum is CRC-32 in six digits of base 62, from the most significant.
        assert_eq!(checksum("abc"), "0yKviM");
    }

    #[test]
    fn a_token_is_found_in_what_people_paste() {
        let token = token(1);
        let text = token.reveal();
        for pasted in [
            format!(" {text}\n"),
            format!("export MATYAN_TOKEN={text}"),
            format!("'{text}'"),
            format!("Bearer {text}"),
            format!("http://host:53800/p/speech/sign-in#{text}"),
            format!("export MATYAN_BACKEND_URL=http://host\nexport MATYAN_TOKEN={text}\n# or in a browser:"),
        ] {
            assert_eq!(AccessToken::find(&pasted), Some(token.clone()), "{pasted}");
        }
        assert_eq!(AccessToken::find("mtk_…"), None);
        assert_eq!(AccessToken::find(""), None);
    }

    #[test]
    fn a_token_is_masked_where_another_text_belongs() {
        let token = token(1);
        let text = token.reveal();
        for (pasted, masked) in [
            (format!("token {text}"), "token mtk_…"),
            (format!("'{text}' viewer"), "'mtk_…' viewer"),
            (format!("{text} {text}"), "mtk_… mtk_…"),
            (text[..20].to_owned(), "mtk_…"),
            ("ana token 0123456789abcdef".to_owned(), "ana token 0123456789abcdef"),
            (String::new(), ""),
        ] {
            assert_eq!(AccessToken::masked(&pasted), masked);
        }
    }

    #[test]
    fn a_token_is_not_printed() {
        let token = token(1);
        let printed = format!("{token:?} {:?} {}", token.digest(), token.digest().id());
        let secret = token.reveal().split('_').nth(1).unwrap().to_owned();
        assert!(!printed.contains(&secret), "{printed}");
        assert!(printed.contains(&token.digest().id()), "{printed}");
    }

    proptest! {
        #[test]
        fn other_texts_are_no_tokens(text in ".{0,80}") {
            prop_assert_eq!(AccessToken::parse(&text), None);
        }

        #[test]
        fn a_mistyped_token_is_recognized(seed: u64, at in 4_usize..54, letter in "[0-9A-Za-z]") {
            let token = token(seed);
            let mut text = token.reveal().to_owned();
            text.replace_range(at..=at, &letter);
            prop_assert_eq!(AccessToken::parse(&text).is_some(), text == token.reveal());
        }
    }
}
