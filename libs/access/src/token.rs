//! Tokens: `mtk_{secret}_{checksum}`. The secret has 256 random bits, in letters and digits. The checksum
//! lets scanners of source code recognize a token, and lets a server refuse a mistyped one without
//! looking it up. A server keeps only the digest of a token. The secrets of browsers that sign in have the same form
//! with other beginnings, so that none is ever used as another one.

use std::fmt;

use memchr::memmem;
use rand::distr::Alphanumeric;
use rand::{CryptoRng, Rng};

const PREFIX: &str = "mtk_";
/// Letters and digits that have at least 256 bits.
const SECRET_BYTES: usize = 43;
/// Letters and digits that have at least 32 bits.
const CHECKSUM_BYTES: usize = 6;
/// Bytes of a token: prefix, secret, separator and checksum.
const TOKEN_BYTES: usize = PREFIX.len() + SECRET_BYTES + 1 + CHECKSUM_BYTES;
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Prefix of the encrypted cookie of a browser that signs in with a provider.
pub const SIGN_IN_PREFIX: &str = "mtb_";

/// Maximum length of the page that follows a sign-in with a provider. The page is part of the cookie of the
/// sign-in, and browsers limit a cookie to 4,096 bytes.
pub const NEXT_PAGE_BYTES: usize = 1 << 10;

/// Beginnings of all secrets.
const PREFIXES: [&str; 5] = [
    PREFIX,
    SecretKind::Session.prefix(),
    SecretKind::Link.prefix(),
    SecretKind::State.prefix(),
    SIGN_IN_PREFIX,
];

/// Separates digests of tokens from everything else that BLAKE3 is used for.
const PURPOSE: &str = "matyan access token v1";

/// A token that has the right form. Whether anyone may use it is decided by its digest.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(String);

impl AccessToken {
    pub fn generate(random: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(generate(PREFIX, random))
    }

    /// `None` if the text is not a token, or is mistyped.
    pub fn parse(text: &str) -> Option<Self> {
        is_secret(PREFIX, text).then(|| Self(text.to_owned()))
    }

    /// The token in a text, such as a line for a shell or a link; `None` if there is none.
    pub fn find(text: &str) -> Option<Self> {
        let begin = text.find(PREFIX)?;
        let token = text[begin..].split(|it: char| !is_of_token(it)).next()?;
        Self::parse(token)
    }

    /// Replaces everything in a text that begins like a token or another secret, and keeps the beginning, such as
    /// `mtk_…`: people paste tokens and links where names and ids belong.
    pub fn masked(text: &str) -> String {
        PREFIXES.into_iter().fold(text.to_owned(), |text, prefix| {
            if text.contains(prefix) { masked(&text, prefix) } else { text }
        })
    }

    /// Replaces every token with a valid checksum by ASCII text of the same length, with the id by which the token is
    /// revoked: data that is laid out by its lengths stays valid. Returns the bytes and the number of tokens; `None` if
    /// there are none.
    pub fn mask_valid(bytes: &[u8]) -> Option<(Vec<u8>, u64)> {
        let mut masked: Option<(Vec<u8>, u64)> = None;
        let mut at = 0;
        while let Some(found) = memmem::find(&bytes[at..], PREFIX.as_bytes()) {
            let begin = at + found;
            let end = begin + TOKEN_BYTES;
            let text = bytes.get(begin..end).and_then(|text| std::str::from_utf8(text).ok());
            let Some(token) = text.and_then(Self::parse) else {
                at = begin + PREFIX.len();
                continue;
            };
            let (copy, count) = masked.get_or_insert_with(|| (bytes.to_vec(), 0));
            let mask = format!("{PREFIX}masked_{}_", token.digest().id());
            copy[begin..end].copy_from_slice(format!("{mask:*<TOKEN_BYTES$}").as_bytes());
            *count += 1;
            at = end;
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
        digest(&self.0)
    }
}

/// The purpose of a secret that is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// In the cookie of a browser that has signed in.
    Session,
    /// In a link that signs a browser in, once.
    Link,
    /// Sent through a provider with which a browser signs in.
    State,
}

impl SecretKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Session => "mts_",
            Self::Link => "mtl_",
            Self::State => "mto_",
        }
    }
}

/// A secret of a browser that has the right form. It is never accepted as a token.
#[derive(Clone, PartialEq, Eq)]
pub struct BrowserSecret(String);

impl BrowserSecret {
    pub fn generate(kind: SecretKind, random: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(generate(kind.prefix(), random))
    }

    /// `None` if the text is not a secret of this kind, or is mistyped.
    pub fn parse(kind: SecretKind, text: &str) -> Option<Self> {
        is_secret(kind.prefix(), text).then(|| Self(text.to_owned()))
    }

    /// The secret of this kind in a text, such as a link; `None` if there is none.
    pub fn find(kind: SecretKind, text: &str) -> Option<Self> {
        let begin = text.find(kind.prefix())?;
        let secret = text[begin..].split(|it: char| !is_of_token(it)).next()?;
        Self::parse(kind, secret)
    }

    /// The secret, for the browser.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub fn digest(&self) -> TokenDigest {
        digest(&self.0)
    }
}

/// Omits the secret.
impl fmt::Debug for BrowserSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrowserSecret({})", self.digest().id())
    }
}

fn generate(prefix: &str, random: &mut (impl CryptoRng + ?Sized)) -> String {
    let secret: String = random.sample_iter(Alphanumeric).take(SECRET_BYTES).map(char::from).collect();
    let checksum = checksum(&secret);
    format!("{prefix}{secret}_{checksum}")
}

fn is_secret(prefix: &str, text: &str) -> bool {
    let Some((secret, given)) = text.strip_prefix(prefix).and_then(|rest| rest.split_once('_')) else {
        return false;
    };
    let has_form = secret.len() == SECRET_BYTES && secret.bytes().all(|it| it.is_ascii_alphanumeric());
    has_form && checksum(secret) == given
}

/// Includes the beginning, so that a digest belongs to one kind.
fn digest(text: &str) -> TokenDigest {
    TokenDigest(blake3::derive_key(PURPOSE, text.as_bytes()))
}

fn masked(text: &str, prefix: &str) -> String {
    let mut parts = text.split(prefix);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked.push_str(prefix);
        masked.push('…');
        // Encrypted texts contain hyphens as well.
        masked.push_str(part.trim_start_matches(|letter: char| is_of_token(letter) || letter == '-'));
    }
    masked
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
            ("cookie mtb_a-b_C-9.".to_owned(), "cookie mtb_…."),
            ("ana token 0123456789abcdef".to_owned(), "ana token 0123456789abcdef"),
            (String::new(), ""),
        ] {
            assert_eq!(AccessToken::masked(&pasted), masked);
        }
    }

    #[test]
    fn rule_104_only_tokens_with_a_checksum_are_masked_in_data() {
        let token = token(1);
        let text = token.reveal();
        let mask = format!("mtk_masked_{}_{}", token.digest().id(), "*".repeat(26));
        assert_eq!(mask.len(), text.len());
        let check = |data: String, expected: Option<(String, u64)>| {
            let expected = expected.map(|(text, count)| (text.into_bytes(), count));
            assert_eq!(AccessToken::mask_valid(data.as_bytes()), expected, "{data}");
        };
        check(text.to_owned(), Some((mask.clone(), 1)));
        check(format!("{text}{text} ä"), Some((format!("{mask}{mask} ä"), 2)));
        check(format!("mtk_mtk_{text}_x"), Some((format!("mtk_mtk_{mask}_x"), 1)));
        for other in [&text[..53], &text.replace("mtk_", "mtk-"), &mask, "mtk_", "mtk_ä", ""] {
            check(other.to_owned(), None);
        }
        // The secret ends in the middle of a letter.
        check(format!("mtk_{}ä", "x".repeat(49)), None);
        let binary = [&[0xff, 0x78, 54][..], text.as_bytes(), &[0xff]].concat();
        let (masked, count) = AccessToken::mask_valid(&binary).unwrap();
        assert_eq!((masked.len(), count), (binary.len(), 1));
        assert_eq!(&masked[3..57], mask.as_bytes());
    }

    #[test]
    fn a_token_is_not_printed() {
        let token = token(1);
        let printed = format!("{token:?} {:?} {}", token.digest(), token.digest().id());
        let secret = token.reveal().split('_').nth(1).unwrap().to_owned();
        assert!(!printed.contains(&secret), "{printed}");
        assert!(printed.contains(&token.digest().id()), "{printed}");
    }

    #[test]
    fn rule_82_a_secret_of_a_browser_is_of_one_kind_and_no_token() {
        let kinds = [SecretKind::Session, SecretKind::Link, SecretKind::State];
        for kind in kinds {
            let secret = BrowserSecret::generate(kind, &mut StdRng::seed_from_u64(1));
            let text = secret.reveal();
            for other in kinds {
                assert_eq!(BrowserSecret::parse(other, text).is_some(), other == kind, "{text}");
            }
            assert_eq!((AccessToken::parse(text), AccessToken::find(text)), (None, None));
            assert_ne!(secret.digest(), token(1).digest(), "the same random letters");
            let prefix = &text[..4];
            assert_eq!(AccessToken::masked(&format!("at {text}.")), format!("at {prefix}…."));
            assert!(!format!("{secret:?}").contains(&text[4..20]));
        }
        assert_eq!(BrowserSecret::parse(SecretKind::Session, token(1).reveal()), None);
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
