//! OpenID Connect: who is signed in, and everything that is refused.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::future::join_all;
use matyan_sign_in::{
    Answer, ClientSecret, ExpectedAnswer, OIDC, OidcSettings, Person, Providers, RoleTable, SignInError,
    TokenProblem,
};
use serde_json::{Value, json};

use super::{
    issuer::{Issuer, Prepared},
    signer::{Signer, hs256_token, unsigned_token},
};

const CLIENT: &str = "matyan";
const NONCE: &str = "nonce-1";
const NOW_S: i64 = 1_800_000_000;

/// A provider with one key, and a server that signs people in with this provider.
struct Scene {
    issuer: Issuer,
    providers: Providers,
    signer: Signer,
}

impl Scene {
    async fn open() -> Self {
        Self::open_with(Signer::es256(), |_| {}).await
    }

    async fn open_with(signer: Signer, change: impl FnOnce(&mut OidcSettings)) -> Self {
        let issuer = Issuer::start().await;
        let mut settings = OidcSettings {
            issuer: issuer.url.clone(),
            client_id: CLIENT.to_owned(),
            client_secret: Some(ClientSecret::new("s3:cret")),
            title: "Test".to_owned(),
            scopes: "email groups".to_owned(),
            groups_claim: "groups".to_owned(),
            name_claim: None,
        };
        change(&mut settings);
        let providers = Providers::new(Some((settings, RoleTable::default())), None).unwrap();
        let scene = Self { issuer, providers, signer };
        scene.publish(&[("key-1", &scene.signer)]);
        scene
    }

    fn publish(&self, keys: &[(&str, &Signer)]) {
        let keys: Vec<_> = keys.iter().map(|(id, signer)| signer.published(id)).collect();
        self.issuer.prepare("/keys", Prepared::Json(json!({"keys": keys})));
    }

    fn claims(&self) -> Value {
        json!({
            "iss": self.issuer.url,
            "aud": CLIENT,
            "sub": "42",
            "exp": NOW_S + 300,
            "iat": NOW_S,
            "nonce": NONCE,
            "email": "Ana@Example.org",
            "email_verified": true,
            "groups": ["ml-team", "ops"],
        })
    }

    /// The claims with some of them replaced. Null removes a claim.
    fn claims_with(&self, changes: Value) -> Value {
        let mut claims = self.claims();
        for (name, value) in changes.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        claims
    }

    fn header(&self) -> Value {
        json!({"alg": self.signer.algorithm(), "kid": "key-1"})
    }

    async fn finish_with_answer(&self, token: String, answer: Answer<'_>) -> Result<Person, SignInError> {
        self.issuer.prepare("/token", Prepared::Json(json!({"id_token": token, "access_token": "a"})));
        self.providers.finish(OIDC, &answer, &expected(), NOW_S).await
    }

    async fn finish(&self, token: String) -> Result<Person, SignInError> {
        self.finish_with_answer(token, Answer { code: "code&1", issuer: None }).await
    }

    /// The reason why a token with these claims is refused; `None` if the token is accepted.
    async fn problem(&self, changes: Value) -> Option<TokenProblem> {
        problem(self.finish(self.signer.token(&self.header(), &self.claims_with(changes))).await)
    }
}

fn expected() -> ExpectedAnswer {
    ExpectedAnswer {
        nonce: NONCE.to_owned(),
        verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned(),
        redirect_uri: "https://here.example/sign-in/callback".to_owned(),
    }
}

fn problem(finished: Result<Person, SignInError>) -> Option<TokenProblem> {
    match finished {
        Ok(_) => None,
        Err(SignInError::Token(problem)) => Some(problem),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn rule_85_a_browser_is_sent_to_the_provider_with_pkce() {
    let scene = Scene::open().await;
    let url = scene.providers.begin(OIDC, "state-1", &expected()).await.unwrap();
    let (address, query) = url.split_once('?').unwrap();
    assert_eq!(address, format!("{}/authorize", scene.issuer.url));
    let parameters: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let expected = [
        ("client_id", CLIENT),
        ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("code_challenge_method", "S256"),
        ("nonce", NONCE),
        ("redirect_uri", "https://here.example/sign-in/callback"),
        ("response_type", "code"),
        ("scope", "openid email groups"),
        ("state", "state-1"),
        ("tenant", "1"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(parameters, BTreeMap::from(expected));
    assert!(matches!(
        scene.providers.begin("github", "s", &self::expected()).await,
        Err(SignInError::UnknownProvider(_))
    ));
}

#[tokio::test]
async fn rule_85_a_person_is_known_by_issuer_and_subject() {
    for signer in [Signer::rs256(), Signer::es256(), Signer::ed_dsa()] {
        let scene = Scene::open_with(signer, |_| {}).await;
        let token = scene.signer.token(&scene.header(), &scene.claims());
        let person = scene.finish(token).await.unwrap();
        let issuer = scene.issuer.url.as_str();
        assert_eq!((person.issuer.as_str(), person.subject.as_str()), (issuer, "42"));
        assert_eq!(person.name, "oidc:ana@example.org", "{}", scene.signer.algorithm());
        assert_eq!(person.groups, ["ml-team", "ops"]);
        let asked = scene.issuer.requests("/token");
        let secret = format!("Basic {}", STANDARD.encode("matyan:s3%3Acret"));
        assert_eq!(asked[0].0, secret);
        let form: BTreeMap<_, _> = form_urlencoded::parse(asked[0].1.as_bytes()).into_owned().collect();
        assert_eq!(form["code"], "code&1");
        assert_eq!(form["code_verifier"], self::expected().verifier);
        assert_eq!(form["grant_type"], "authorization_code");
        assert!(!form.contains_key("client_secret"));
    }
}

#[tokio::test]
async fn a_name_that_anyone_may_choose_is_not_used() {
    let scene = Scene::open().await;
    let named = async |changes| {
        let token = scene.signer.token(&scene.header(), &scene.claims_with(changes));
        scene.finish(token).await.unwrap()
    };
    assert_eq!(named(json!({"email_verified": false})).await.name, "oidc:sub:42");
    assert_eq!(named(json!({"email_verified": null})).await.name, "oidc:sub:42");
    assert_eq!(named(json!({"email_verified": "true"})).await.name, "oidc:ana@example.org");
    assert_eq!(named(json!({"groups": "ml-team"})).await.groups, ["ml-team"]);
    assert_eq!(named(json!({"groups": null})).await.groups, [""; 0]);
    assert_eq!(named(json!({"groups": [1, {"a": 2}, "b"]})).await.groups, ["b"]);
    let by_claim = |settings: &mut OidcSettings| settings.name_claim = Some("preferred_username".to_owned());
    let scene = Scene::open_with(Signer::es256(), by_claim).await;
    let named = async |name: &str| {
        let claims = scene.claims_with(json!({"preferred_username": name}));
        scene.finish(scene.signer.token(&scene.header(), &claims)).await.unwrap().name
    };
    assert_eq!(named("ana.z").await, "oidc:ana.z");
    let changed = named("Ana Z").await;
    assert!(changed.starts_with("oidc:") && changed.ends_with(":ana-z"), "{changed}");
    assert_ne!(changed, "oidc:ana-z");
}

#[tokio::test]
async fn rule_85_a_token_for_someone_or_something_else_is_refused() {
    use TokenProblem::{Audience, AuthorizedParty, Expired, Issuer, Nonce, NotYetValid, Subject};
    let scene = Scene::open().await;
    for (changes, expected) in [
        (json!({}), None),
        (json!({"iss": "https://evil.example"}), Some(Issuer)),
        (json!({"iss": format!("{}/", scene.issuer.url)}), Some(Issuer)),
        (json!({"iss": null}), Some(Issuer)),
        (json!({"aud": "another"}), Some(Audience)),
        (json!({"aud": []}), Some(Audience)),
        (json!({"aud": null}), Some(Audience)),
        (json!({"aud": [CLIENT]}), None),
        (json!({"aud": [CLIENT, "another"]}), Some(AuthorizedParty)),
        (json!({"aud": [CLIENT, "another"], "azp": CLIENT}), None),
        (json!({"aud": [CLIENT, "another"], "azp": "another"}), Some(AuthorizedParty)),
        (json!({"azp": "another"}), Some(AuthorizedParty)),
        (json!({"azp": 1}), Some(AuthorizedParty)),
        (json!({"exp": NOW_S - 60}), Some(Expired)),
        (json!({"exp": NOW_S - 59}), None),
        (json!({"exp": null}), Some(Expired)),
        (json!({"exp": "2100-01-01"}), Some(Expired)),
        (json!({"exp": NOW_S as f64 + 0.5}), None),
        (json!({"nbf": NOW_S + 61}), Some(NotYetValid)),
        (json!({"nbf": NOW_S + 60}), None),
        (json!({"nbf": "soon"}), Some(NotYetValid)),
        (json!({"nonce": "nonce-2"}), Some(Nonce)),
        (json!({"nonce": null}), Some(Nonce)),
        (json!({"sub": null}), Some(Subject)),
        (json!({"sub": ""}), Some(Subject)),
        (json!({"sub": "x".repeat(256)}), Some(Subject)),
    ] {
        assert_eq!(scene.problem(changes.clone()).await, expected, "{changes}");
    }
}

#[tokio::test]
async fn rule_85_only_the_keys_of_the_provider_sign() {
    let scene = Scene::open_with(Signer::rs256(), |_| {}).await;
    let claims = scene.claims();
    let own = scene.signer.token(&scene.header(), &claims);
    assert_eq!(problem(scene.finish(own.clone()).await), None);
    let none = unsigned_token(&claims);
    assert_eq!(problem(scene.finish(none).await), Some(TokenProblem::Algorithm("none".to_owned())));
    // The public key is used as a shared secret.
    let public = scene.signer.published("key-1").to_string();
    let shared = hs256_token(&public, "key-1", &claims);
    assert_eq!(problem(scene.finish(shared).await), Some(TokenProblem::Algorithm("HS256".to_owned())));
    for algorithm in ["RS512", "PS256", "ES384", "rs256", "NONE", ""] {
        let token = scene.signer.token(&json!({"alg": algorithm, "kid": "key-1"}), &claims);
        assert_eq!(problem(scene.finish(token).await), Some(TokenProblem::Algorithm(algorithm.to_owned())));
    }
    // The key of another person, under the id of the right key, and in the header of the token.
    let stranger = Signer::es256();
    let token = stranger.token(&json!({"alg": "ES256", "kid": "key-1"}), &claims);
    assert_eq!(problem(scene.finish(token).await), Some(TokenProblem::UnknownKey));
    let header = json!({"alg": "ES256", "kid": "x", "jwk": stranger.published("x")});
    assert_eq!(problem(scene.finish(stranger.token(&header, &claims)).await), Some(TokenProblem::UnknownKey));
    let header = json!({"alg": "RS256", "kid": "key-1", "crit": ["exp"], "exp": 0});
    let token = scene.signer.token(&header, &claims);
    assert_eq!(problem(scene.finish(token).await), Some(TokenProblem::Extension));
    // Other claims under the same signature.
    let mut parts: Vec<_> = own.split('.').map(str::to_owned).collect();
    let forged = scene.signer.token(&scene.header(), &scene.claims_with(json!({"sub": "1"})));
    parts[1] = forged.split('.').nth(1).unwrap().to_owned();
    assert_eq!(problem(scene.finish(parts.join(".")).await), Some(TokenProblem::Signature));
    for malformed in ["", "a.b", "a.b.c", "e30.e30.e30", &format!("{own}.x"), &format!("{own}=")] {
        assert_eq!(
            problem(scene.finish(malformed.to_owned()).await),
            Some(TokenProblem::Malformed),
            "{malformed}"
        );
    }
}

#[tokio::test]
async fn a_token_without_a_key_id_needs_one_key() {
    let scene = Scene::open().await;
    let header = json!({"alg": "ES256"});
    let token = scene.signer.token(&header, &scene.claims());
    assert_eq!(problem(scene.finish(token).await), None);
    let scene = Scene::open().await;
    let other = Signer::es256();
    scene.publish(&[("key-1", &scene.signer), ("key-2", &other)]);
    let token = scene.signer.token(&header, &scene.claims());
    assert_eq!(problem(scene.finish(token).await), Some(TokenProblem::UnknownKey));
    // Keys for other purposes are ignored.
    let scene = Scene::open().await;
    let mut unusable = other.published("key-2");
    unusable["use"] = json!("enc");
    let mut of_another_algorithm = other.published("key-3");
    of_another_algorithm["alg"] = json!("ES384");
    let unknown = [json!({"kty": "oct", "k": "AAAA"}), json!({"kty": "new"})];
    let keys = [scene.signer.published("key-1"), unusable, of_another_algorithm];
    let keys = [&keys[..], &unknown].concat();
    scene.issuer.prepare("/keys", Prepared::Json(json!({"keys": keys})));
    let token = scene.signer.token(&header, &scene.claims());
    assert_eq!(problem(scene.finish(token).await), None);
}

#[tokio::test]
async fn rule_85_rotated_keys_are_read_again_and_not_for_every_wrong_answer() {
    let scene = Scene::open().await;
    let first = scene.signer.token(&scene.header(), &scene.claims());
    assert_eq!(problem(scene.finish(first.clone()).await), None);
    let next = Signer::ed_dsa();
    scene.publish(&[("key-2", &next)]);
    let token = next.token(&json!({"alg": "EdDSA", "kid": "key-2"}), &scene.claims());
    // The keys were read a moment ago.
    assert_eq!(problem(scene.finish(token.clone()).await), Some(TokenProblem::UnknownKey));
    // With a stopped clock, requests would be late as soon as nothing else is left to do.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    assert_eq!(problem(scene.finish(token).await), None);
    assert_eq!(problem(scene.finish(first).await), Some(TokenProblem::UnknownKey), "the first key is gone");
    let reads = scene.issuer.requests("/keys").len();
    for _ in 0..100 {
        let token = next.token(&json!({"alg": "EdDSA", "kid": "guessed"}), &scene.claims());
        assert_eq!(problem(scene.finish(token).await), Some(TokenProblem::UnknownKey));
    }
    assert_eq!(scene.issuer.requests("/keys").len(), reads);
}

#[tokio::test]
async fn rule_85_an_answer_of_another_provider_is_refused() {
    let scene = Scene::open().await;
    let token = || scene.signer.token(&scene.header(), &scene.claims());
    let own = Answer { code: "c", issuer: Some(&scene.issuer.url) };
    scene.finish_with_answer(token(), own).await.unwrap();
    let other = Answer { code: "c", issuer: Some("https://evil.example") };
    let refused = scene.finish_with_answer(token(), other).await;
    assert!(matches!(refused, Err(SignInError::WrongIssuer { .. })), "{refused:?}");
    // A provider that names itself in its answers does so always.
    let scene = Scene::open().await;
    let mut description = scene.issuer.description();
    description["authorization_response_iss_parameter_supported"] = json!(true);
    scene.issuer.prepare("/.well-known/openid-configuration", Prepared::Json(description));
    let token = scene.signer.token(&scene.header(), &scene.claims());
    let refused = scene.finish(token).await;
    assert!(matches!(refused, Err(SignInError::WrongIssuer { .. })), "{refused:?}");
}

#[tokio::test]
async fn rule_85_a_description_of_another_issuer_is_refused() {
    for (change, value) in [
        ("issuer", json!("https://evil.example")),
        ("authorization_endpoint", json!("http://id.example/authorize")),
        ("jwks_uri", json!("http://id.example/keys")),
    ] {
        let scene = Scene::open().await;
        let mut description = scene.issuer.description();
        description[change] = value;
        scene.issuer.prepare("/.well-known/openid-configuration", Prepared::Json(description));
        let refused = scene.providers.begin(OIDC, "s", &expected()).await;
        assert!(
            matches!(refused, Err(SignInError::WrongIssuer { .. } | SignInError::Malformed { .. })),
            "{change}: {refused:?}"
        );
    }
    let settings = OidcSettings {
        issuer: "http://id.example".to_owned(),
        client_id: CLIENT.to_owned(),
        client_secret: None,
        title: String::new(),
        scopes: String::new(),
        groups_claim: String::new(),
        name_claim: None,
    };
    assert!(Providers::new(Some((settings, RoleTable::default())), None).is_err());
}

#[tokio::test]
async fn rule_85_a_provider_that_does_not_answer_is_given_up() {
    let scene = Scene::open().await;
    scene.providers.begin(OIDC, "s", &expected()).await.unwrap();
    scene.issuer.prepare("/token", Prepared::Silent);
    let answer = Answer { code: "c", issuer: None };
    let expected = expected();
    let finish = scene.providers.finish(OIDC, &answer, &expected, NOW_S);
    let late = async {
        while scene.issuer.requests("/token").is_empty() {
            tokio::task::yield_now().await;
        }
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(11)).await;
    };
    let (finished, ()) = tokio::join!(finish, late);
    assert!(matches!(finished, Err(SignInError::Unreachable { .. })), "{finished:?}");
}

#[tokio::test]
async fn rule_85_answers_are_limited_in_size_and_redirects_are_not_followed() {
    for path in ["/.well-known/openid-configuration", "/keys", "/token"] {
        let again = format!("{path}?again");
        // A provider that could not be read is not read again at once.
        let finish = async |prepared: Option<Prepared>| {
            let scene = Scene::open().await;
            let token = scene.signer.token(&scene.header(), &scene.claims());
            scene.issuer.prepare("/token", Prepared::Json(json!({"id_token": token})));
            let redirect = Prepared::Redirect(format!("{}{again}", scene.issuer.url));
            scene.issuer.prepare(path, prepared.unwrap_or(redirect));
            let answer = Answer { code: "c", issuer: None };
            let error = scene.providers.finish(OIDC, &answer, &expected(), NOW_S).await.unwrap_err();
            assert_eq!(scene.issuer.requests(&again).len(), 0);
            error
        };
        let endless = finish(Some(Prepared::Endless)).await;
        assert!(matches!(endless, SignInError::TooLarge { limit: 1_048_576, .. }), "{path}: {endless}");
        let redirect = finish(None).await;
        assert!(matches!(redirect, SignInError::Redirected { .. }), "{path}: {redirect}");
        let broken = finish(Some(Prepared::Status(502, json!({})))).await;
        assert!(matches!(broken, SignInError::Unreachable { .. }), "{path}: {broken}");
        let wrong = finish(Some(Prepared::Status(400, json!({"error": "invalid_grant\n"})))).await;
        assert!(wrong.to_string().ends_with("status 400: invalid_grant"), "{path}: {wrong}");
        let other = finish(Some(Prepared::Json(json!([1])))).await;
        assert!(matches!(other, SignInError::Malformed { .. }), "{path}: {other}");
    }
}

#[tokio::test]
async fn rule_85_a_provider_is_read_once_by_all_and_not_again_after_a_failure() {
    const DESCRIPTION: &str = "/.well-known/openid-configuration";
    let begin_often = async |scene: &Scene| {
        let expected = expected();
        let begun = join_all((0..100).map(|_| scene.providers.begin(OIDC, "s", &expected))).await;
        let remembered = begun.iter().filter(|it| matches!(it, Err(SignInError::Remembered(_)))).count();
        (begun.into_iter().filter(Result::is_ok).count(), remembered)
    };
    let scene = Scene::open().await;
    assert_eq!(begin_often(&scene).await, (100, 0));
    assert_eq!(scene.issuer.requests(DESCRIPTION).len(), 1);
    assert_eq!(scene.issuer.requests("/keys").len(), 1);

    let scene = Scene::open().await;
    let description = Prepared::Json(scene.issuer.description());
    scene.issuer.prepare(DESCRIPTION, Prepared::Status(503, json!({})));
    // Only the failure of the read is for the log.
    assert_eq!(begin_often(&scene).await, (0, 99));
    assert_eq!(scene.issuer.requests(DESCRIPTION).len(), 1);
    scene.issuer.prepare(DESCRIPTION, description);
    assert_eq!(begin_often(&scene).await, (0, 100), "the provider is not asked yet");
    assert_eq!(scene.issuer.requests(DESCRIPTION).len(), 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    assert_eq!(begin_often(&scene).await, (100, 0));
    assert_eq!(scene.issuer.requests(DESCRIPTION).len(), 2);
    // Keys that cannot be read are not read for every wrong answer either.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    scene.issuer.prepare(DESCRIPTION, Prepared::Status(503, json!({})));
    for attempt in 0..10 {
        let token = scene.signer.token(&json!({"alg": "ES256", "kid": "guessed"}), &scene.claims());
        match scene.finish(token).await.unwrap_err() {
            SignInError::Unreachable { .. } if attempt == 0 => {}
            SignInError::Remembered(failure) if attempt > 0 => {
                assert!(matches!(*failure, SignInError::Unreachable { .. }), "{failure}");
            }
            other => panic!("{attempt}: {other}"),
        }
    }
    assert_eq!(scene.issuer.requests(DESCRIPTION).len(), 3);
}

#[tokio::test]
async fn a_client_sends_its_secret_in_the_form_that_the_provider_asks_for() {
    let scene = Scene::open().await;
    let mut description = scene.issuer.description();
    description["token_endpoint_auth_methods_supported"] = json!(["client_secret_post"]);
    scene.issuer.prepare("/.well-known/openid-configuration", Prepared::Json(description));
    let token = scene.signer.token(&scene.header(), &scene.claims());
    scene.finish(token).await.unwrap();
    let (authorization, body) = scene.issuer.requests("/token").remove(0);
    assert_eq!(authorization, "");
    assert!(body.contains("client_id=matyan&client_secret=s3%3Acret"), "{body}");

    let scene = Scene::open_with(Signer::es256(), |settings| settings.client_secret = None).await;
    let token = scene.signer.token(&scene.header(), &scene.claims());
    scene.finish(token).await.unwrap();
    let (authorization, body) = scene.issuer.requests("/token").remove(0);
    assert_eq!(authorization, "");
    assert!(body.contains("client_id=matyan") && !body.contains("client_secret"), "{body}");
}
