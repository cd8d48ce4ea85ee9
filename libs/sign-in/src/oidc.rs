//! A provider of OpenID Connect. Its addresses and keys are read when they are needed. They are read again when they
//! are old or when a token names an unknown key.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    address::{form, is_trustworthy, with_parameters},
    error::{SetUpError, SignInError, shown},
    http_client::{Credentials, HttpClient},
    id_token::{Claims, Requirements, TokenProblem, verify},
    key_set::{KeySet, PublishedKeys},
    person::{Answer, ClientSecret, ExpectedAnswer, OIDC, Person, PersonName},
    pkce::challenge,
};

/// Path of the document in which a provider describes itself.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Time for which addresses and keys of a provider are used.
const LIFETIME: Duration = Duration::from_secs(3_600);
/// Minimum time between two reads that unknown keys cause, because a wrong answer may name an unknown key.
const RELOAD_INTERVAL: Duration = Duration::from_secs(30);
/// Time for which a provider that could not be read is not asked again. Anyone can start to sign in, as often as they
/// like.
const FAILURE_LIFETIME: Duration = Duration::from_secs(10);

/// Method with which this server sends its secret to a provider that names no method.
const SECRET_IN_FORM: &str = "client_secret_post";
const SECRET_IN_HEADER: &str = "client_secret_basic";

/// Settings of a provider.
#[derive(Clone, Debug)]
pub struct OidcSettings {
    /// The issuer, exactly as in the tokens.
    pub issuer: String,
    pub client_id: String,
    /// `None` for a client that has no secret.
    pub client_secret: Option<ClientSecret>,
    /// The name on the button.
    pub title: String,
    /// Scopes besides `openid`, separated by spaces.
    pub scopes: String,
    /// Claim with the groups of a person.
    pub groups_claim: String,
    /// Claim with the name of a person; `None`: the email address, if it is verified, or else the subject.
    pub name_claim: Option<String>,
}

pub(crate) struct OidcProvider {
    settings: OidcSettings,
    http: HttpClient,
    /// Locked while the provider is read, so that concurrent callers share one read.
    reading: Mutex<LastRead>,
}

/// The result of the last read.
#[derive(Default)]
struct LastRead {
    known: Option<KnownProvider>,
    /// The reason and the time of the last failure; `None` if the last read succeeded.
    failure: Option<(Instant, SignInError)>,
}

#[derive(Clone)]
struct KnownProvider {
    at: Instant,
    description: Arc<Description>,
    keys: Arc<KeySet>,
}

/// The members that are used of the description that a provider publishes.
#[derive(Debug, Deserialize)]
struct Description {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// The answer of the token endpoint to a code.
#[derive(Deserialize)]
struct Tokens {
    id_token: String,
}

impl OidcProvider {
    pub(crate) fn new(settings: OidcSettings, http: HttpClient) -> Result<Self, SetUpError> {
        if !is_trustworthy(&settings.issuer) {
            return Err(SetUpError::Address(settings.issuer));
        }
        Ok(Self { settings, http, reading: Mutex::default() })
    }

    pub(crate) fn title(&self) -> &str {
        &self.settings.title
    }

    pub(crate) async fn begin(&self, state: &str, expected: &ExpectedAnswer) -> Result<String, SignInError> {
        let known = self.known(false).await?;
        let scope = format!("openid {}", self.settings.scopes);
        let challenge = challenge(&expected.verifier);
        let parameters = [
            ("response_type", "code"),
            ("client_id", self.settings.client_id.as_str()),
            ("redirect_uri", expected.redirect_uri.as_str()),
            ("scope", scope.trim_end()),
            ("state", state),
            ("nonce", expected.nonce.as_str()),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ];
        Ok(with_parameters(&known.description.authorization_endpoint, &parameters))
    }

    pub(crate) async fn finish(
        &self,
        answer: &Answer<'_>,
        expected: &ExpectedAnswer,
        now_s: i64,
    ) -> Result<Person, SignInError> {
        let known = self.known(false).await?;
        self.check_issuer(answer, &known.description)?;
        let Tokens { id_token } = self.tokens(answer, expected, &known.description).await?;
        let issuer = &self.settings.issuer;
        let client_id = &self.settings.client_id;
        let requirements = Requirements { issuer, client_id, nonce: &expected.nonce, now_s };
        let claims = match verify(&id_token, &known.keys, requirements) {
            // The provider may have changed its keys.
            Err(TokenProblem::UnknownKey) => {
                let known = self.known(true).await?;
                verify(&id_token, &known.keys, requirements)?
            }
            verified => verified?,
        };
        Ok(self.person(&claims))
    }

    /// Refuses an answer that another provider has sent (RFC 9207).
    fn check_issuer(&self, answer: &Answer<'_>, description: &Description) -> Result<(), SignInError> {
        let expected = &self.settings.issuer;
        match answer.issuer {
            Some(issuer) if issuer == expected => Ok(()),
            None if !description.authorization_response_iss_parameter_supported => Ok(()),
            found => Err(SignInError::WrongIssuer {
                expected: expected.clone(),
                found: shown(found.unwrap_or_default()),
            }),
        }
    }

    async fn tokens(
        &self,
        answer: &Answer<'_>,
        expected: &ExpectedAnswer,
        description: &Description,
    ) -> Result<Tokens, SignInError> {
        let client_id = self.settings.client_id.as_str();
        let mut parameters = vec![
            ("grant_type", "authorization_code"),
            ("code", answer.code),
            ("redirect_uri", expected.redirect_uri.as_str()),
            ("code_verifier", expected.verifier.as_str()),
        ];
        let methods = description.token_endpoint_auth_methods_supported.as_deref();
        let supports = |name: &str| methods.is_some_and(|methods| methods.iter().any(|it| it == name));
        // RFC 6749 encodes both like values of a form.
        let encoded = |text: &str| form(&[("", text)])[1..].to_owned();
        let name;
        let password;
        let credentials = match &self.settings.client_secret {
            None => {
                parameters.push(("client_id", client_id));
                Credentials::None
            }
            Some(secret) if supports(SECRET_IN_FORM) && !supports(SECRET_IN_HEADER) => {
                parameters.extend([("client_id", client_id), ("client_secret", secret.reveal())]);
                Credentials::None
            }
            Some(secret) => {
                name = encoded(client_id);
                password = encoded(secret.reveal());
                Credentials::Basic(&name, &password)
            }
        };
        self.http.post(&description.token_endpoint, &parameters, credentials).await
    }

    fn person(&self, claims: &Claims) -> Person {
        let issuer = self.settings.issuer.clone();
        let subject = claims.text("sub").unwrap_or_default().to_owned();
        let text = |claim: &str| claims.text(claim).filter(|text| !text.trim().is_empty());
        let called = match &self.settings.name_claim {
            Some(claim) => text(claim).map(PersonName::ExactCase),
            None => text("email").filter(|_| claims.is_true("email_verified")).map(PersonName::AnyCase),
        };
        let groups = claims.texts(&self.settings.groups_claim);
        Person::new(OIDC, issuer, subject, called.unwrap_or(PersonName::Subject), groups)
    }

    /// The provider's description and keys. `is_outdated`: a token has named a key that is not among the keys.
    async fn known(&self, is_outdated: bool) -> Result<KnownProvider, SignInError> {
        let (lifetime, failure_lifetime) =
            if is_outdated { (RELOAD_INTERVAL, RELOAD_INTERVAL) } else { (LIFETIME, FAILURE_LIFETIME) };
        let mut reading = self.reading.lock().await;
        if let Some(known) = reading.known.as_ref().filter(|known| known.at.elapsed() < lifetime) {
            return Ok(known.clone());
        }
        if let Some((at, error)) = &reading.failure
            && at.elapsed() < failure_lifetime
        {
            return Err(SignInError::Remembered(Box::new(error.clone())));
        }
        let read = self.read().await;
        match &read {
            Ok(known) => *reading = LastRead { known: Some(known.clone()), failure: None },
            Err(error) => reading.failure = Some((Instant::now(), error.clone())),
        }
        read
    }

    async fn read(&self) -> Result<KnownProvider, SignInError> {
        let at = Instant::now();
        let url = format!("{}{DISCOVERY}", self.settings.issuer.trim_end_matches('/'));
        let description: Description = self.http.get(&url, Credentials::None).await?;
        let Description { issuer, authorization_endpoint, jwks_uri, .. } = &description;
        if *issuer != self.settings.issuer {
            let expected = self.settings.issuer.clone();
            return Err(SignInError::WrongIssuer { expected, found: shown(issuer) });
        }
        // A browser goes there with the client id.
        if !is_trustworthy(authorization_endpoint) {
            return Err(SignInError::malformed(&url, "its authorization_endpoint is not encrypted"));
        }
        let published: PublishedKeys = self.http.get(jwks_uri, Credentials::None).await?;
        let keys = Arc::new(KeySet::read(&published));
        Ok(KnownProvider { at, description: Arc::new(description), keys })
    }
}
