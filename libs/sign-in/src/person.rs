//! What goes into a sign-in, and what comes out of it.

use std::fmt;

/// Ids of the providers, which also begin the names of the principals that sign in with them.
pub const OIDC: &str = "oidc";
pub const GITHUB: &str = "github";

/// Longest name that is proposed for a principal: it leaves room for an ending that tells namesakes apart.
const NAME_BYTES: usize = 44;

/// What the answer of a provider is checked against.
#[derive(Clone)]
pub struct Expected {
    pub nonce: String,
    /// Verifier of PKCE: 43 to 128 letters, digits and `-._~`.
    pub verifier: String,
    pub redirect_uri: String,
}

/// The answer of a provider, as a browser brings it.
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
    /// Never changes, and is never given to anyone else of this issuer.
    pub subject: String,
    /// Proposed name of the principal: the provider, a colon, and a name that may change.
    pub name: String,
    pub groups: Vec<String>,
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

/// Omits the secret.
impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A name for a principal, in the letters that such names may have.
pub(crate) fn principal_name(provider: &str, name: &str) -> String {
    let letter = |letter: char| match letter.to_ascii_lowercase() {
        letter if letter.is_ascii_lowercase() || letter.is_ascii_digit() => letter,
        letter @ ('-' | '_' | '.' | '@' | '+') => letter,
        _ => '-',
    };
    let mut name = format!("{provider}:{}", name.chars().map(letter).collect::<String>());
    name.truncate(NAME_BYTES);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_principals_have_a_provider_and_few_letters() {
        assert_eq!(principal_name("github", "Ana-Z"), "github:ana-z");
        assert_eq!(principal_name("oidc", "Ana@Example.org"), "oidc:ana@example.org");
        assert_eq!(principal_name("oidc", "a b/ä:c\n"), "oidc:a-b---c-");
        assert_eq!(principal_name("oidc", &"a".repeat(300)).len(), NAME_BYTES);
    }

    #[test]
    fn a_client_secret_is_not_printed() {
        assert_eq!(format!("{:?}", ClientSecret::new("s3cret")), "(secret)");
    }
}
