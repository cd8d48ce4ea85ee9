//! Input and result of a sign-in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Ids of the providers. The names of the principals that sign in with a provider start with its id.
pub const OIDC: &str = "oidc";
pub const GITHUB: &str = "github";

/// Longest name that is proposed for a principal. Principals may have names of the same length (`PRINCIPAL_BYTES` of
/// the backend), so that a role can be granted before the first sign-in.
const NAME_BYTES: usize = 128;

/// The part of a name that announces a subject. It is shorter than a digest, so no other name has it there.
const SUBJECT: &str = "sub";

/// Digits of the digest of issuer and subject in a name.
const DIGITS: usize = 16;

/// Values that the answer of a provider is checked against.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedAnswer {
    pub nonce: String,
    /// Verifier of PKCE: 43 to 128 letters, digits and `-._~`.
    pub verifier: String,
    pub redirect_uri: String,
}

/// The answer of a provider, which a browser delivers.
#[derive(Clone, Copy)]
pub struct Answer<'a> {
    pub code: &'a str,
    /// `None` if the provider does not send it.
    pub issuer: Option<&'a str>,
}

/// Someone whom a provider knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub issuer: String,
    /// The subject, which never changes, and which the issuer never gives to anyone else.
    pub subject: String,
    /// Proposed name of the principal: the provider, a colon, and the name by which the provider calls the person. If
    /// that name does not fit, the proposed name is `unique_name`.
    pub name: String,
    /// A name of the principal with the digest of issuer and subject, which nobody else can have.
    pub unique_name: String,
    pub groups: Vec<String>,
}

/// The name by which a provider calls a person.
#[derive(Clone, Copy)]
pub(crate) enum PersonName<'a> {
    /// A name in which uppercase letters mean the same as lowercase letters.
    AnyCase(&'a str),
    /// A name of any kind.
    ExactCase(&'a str),
    /// The provider gives no name, only the subject.
    Subject,
}

/// The secret by which a provider knows this server.
#[derive(Clone)]
pub struct ClientSecret(String);

impl ClientSecret {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

/// Formats the client, and omits the secret.
impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Person {
    /// A person whom a provider calls by this name.
    pub(crate) fn new(
        provider: &str,
        issuer: String,
        subject: String,
        called: PersonName<'_>,
        groups: Vec<String>,
    ) -> Self {
        let (prefix, text) = match called {
            PersonName::AnyCase(text) => (provider.to_owned(), text.to_ascii_lowercase()),
            PersonName::ExactCase(text) => (provider.to_owned(), text.to_owned()),
            PersonName::Subject => (format!("{provider}:{SUBJECT}"), subject.clone()),
        };
        let letters: String = text.chars().map(letter).collect();
        let digest = blake3::hash(format!("{issuer}\0{subject}").as_bytes()).to_hex();
        let mut unique_name = format!("{provider}:{}:{letters}", &digest[..DIGITS]);
        // All letters are ASCII.
        unique_name.truncate(NAME_BYTES);
        let name = format!("{prefix}:{letters}");
        let is_exact = letters == text && name.len() <= NAME_BYTES;
        let name = if is_exact { name } else { unique_name.clone() };
        Self { issuer, subject, name, unique_name, groups }
    }
}

/// The letter itself if the names of principals may contain it, or else its replacement. A colon separates the parts
/// of a name, so a colon of a provider is replaced.
fn letter(letter: char) -> char {
    match letter.to_ascii_lowercase() {
        letter if letter.is_ascii_lowercase() || letter.is_ascii_digit() => letter,
        letter @ ('-' | '_' | '.' | '@' | '+') => letter,
        _ => '-',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(subject: &str, called: PersonName<'_>) -> Person {
        Person::new("oidc", "https://id.example".to_owned(), subject.to_owned(), called, Vec::new())
    }

    fn of_address(subject: &str, address: &str) -> Person {
        person(subject, PersonName::AnyCase(address))
    }

    #[test]
    fn rule_86_a_name_that_fits_is_used_as_it_is() {
        assert_eq!(of_address("1", "Ana@Example.org").name, "oidc:ana@example.org");
        assert_eq!(person("1", PersonName::ExactCase("ana.z+1")).name, "oidc:ana.z+1");
        assert_eq!(person("42", PersonName::Subject).name, "oidc:sub:42");
        let address = "christopher.montgomery@research.example.edu";
        assert_eq!(of_address("1", address).name, format!("oidc:{address}"));
        let login = "a".repeat(39);
        let github =
            Person::new("github", String::new(), "7".to_owned(), PersonName::AnyCase(&login), Vec::new());
        assert_eq!(github.name, format!("github:{login}"));
    }

    #[test]
    fn rule_86_a_name_that_was_changed_belongs_to_one_person() {
        let long = "a".repeat(NAME_BYTES);
        for (one, other) in [
            (PersonName::AnyCase("ana/smith@example.org"), PersonName::AnyCase("ana-smith@example.org")),
            (PersonName::AnyCase("ana/smith@example.org"), PersonName::AnyCase("ana!smith@example.org")),
            (PersonName::AnyCase("ana@ex\u{e4}mple.org"), PersonName::AnyCase("ana@ex-mple.org")),
            (PersonName::AnyCase(&format!("{long}x")), PersonName::AnyCase(&format!("{long}y"))),
            (PersonName::ExactCase("Ana"), PersonName::ExactCase("ana")),
            (PersonName::ExactCase("ana:b"), PersonName::ExactCase("ana-b")),
            // A subject that looks like the name of another person.
            (PersonName::Subject, PersonName::AnyCase("ana@example.org")),
            (PersonName::Subject, PersonName::ExactCase("sub:ana@example.org")),
        ] {
            let one = person("ana@example.org", one);
            let other = person("2", other);
            assert_ne!(one.name, other.name);
            assert_ne!(one.unique_name, other.unique_name);
            assert!(one.name.len() <= NAME_BYTES && other.name.len() <= NAME_BYTES);
        }
        let changed = of_address("1", "ana/smith@example.org");
        assert_eq!(changed.name, changed.unique_name);
        assert!(changed.name.starts_with("oidc:") && changed.name.ends_with(":ana-smith@example.org"));
        // Whatever name a person chooses, it is not the changed name of another person.
        let copied = changed.name.strip_prefix("oidc:").unwrap();
        assert_ne!(person("2", PersonName::ExactCase(copied)).name, changed.name);
        assert_eq!(of_address("1", "b c").name.split(':').nth(1), changed.name.split(':').nth(1));
    }

    #[test]
    fn a_unique_name_belongs_to_one_issuer_and_subject() {
        let named = |issuer: &str, subject: &str| {
            let called = PersonName::AnyCase("ana");
            Person::new("oidc", issuer.to_owned(), subject.to_owned(), called, Vec::new()).unique_name
        };
        assert_ne!(named("https://a.example", "1"), named("https://b.example", "1"));
        assert_ne!(named("https://a.example", "1"), named("https://a.example", "2"));
        assert_ne!(named("https://a.example/1", "2"), named("https://a.example/", "12"));
    }

    #[test]
    fn a_client_secret_is_not_printed() {
        assert_eq!(format!("{:?}", ClientSecret::new("s3cret")), "(secret)");
    }
}
