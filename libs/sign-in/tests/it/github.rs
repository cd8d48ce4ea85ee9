//! GitHub: who is signed in is read from its API.

use std::collections::BTreeMap;

use matyan_access::Role;
use matyan_sign_in::{
    Answer, ClientSecret, ExpectedAnswer, GITHUB, GitHubSettings, Person, Providers, RoleTable, SignInError,
};
use serde_json::{Value, json};

use super::issuer::{Issuer, Prepared};

fn expected() -> ExpectedAnswer {
    ExpectedAnswer {
        nonce: "n".to_owned(),
        verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned(),
        redirect_uri: "https://here.example/sign-in/callback".to_owned(),
    }
}

/// An instance with one person, and a server that signs people in with this instance.
async fn open() -> (Issuer, Providers) {
    open_with_roles("my-org = viewer@speech, my-org/ml-team = editor@speech").await
}

async fn open_with_roles(roles: &str) -> (Issuer, Providers) {
    let issuer = Issuer::start().await;
    issuer.prepare("/login/oauth/access_token", Prepared::Json(json!({"access_token": "gho_1"})));
    issuer.prepare("/api/v3/user", Prepared::Json(json!({"id": 7, "login": "Ana-Z"})));
    issuer.prepare(&page("orgs", 1), Prepared::Json(json!([{"login": "My-Org"}])));
    let team = json!({"slug": "ml-team", "organization": {"login": "My-Org"}});
    issuer.prepare(&page("teams", 1), Prepared::Json(json!([team])));
    let settings = GitHubSettings {
        url: format!("{}/", issuer.url),
        client_id: "Iv1".to_owned(),
        client_secret: ClientSecret::new("s3cret"),
    };
    let roles = RoleTable::parse(roles).unwrap();
    let providers = Providers::new(None, Some((settings, roles))).unwrap();
    (issuer, providers)
}

fn page(list: &str, number: usize) -> String {
    format!("/api/v3/user/{list}?per_page=100&page={number}")
}

async fn finish(providers: &Providers) -> Result<Person, SignInError> {
    providers.finish(GITHUB, &Answer { code: "c1", issuer: None }, &expected(), 0).await
}

#[tokio::test]
async fn rule_85_a_person_of_github_is_known_by_number_with_organizations_and_teams() {
    let (issuer, providers) = open().await;
    let url = providers.begin(GITHUB, "state-1", &expected()).await.unwrap();
    let (address, query) = url.split_once('?').unwrap();
    assert_eq!(address, format!("{}/login/oauth/authorize", issuer.url));
    let parameters: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    assert_eq!(parameters["state"], "state-1");
    assert_eq!(parameters["scope"], "read:user read:org");
    assert_eq!(parameters["code_challenge"], "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");

    let person = finish(&providers).await.unwrap();
    let groups = vec!["my-org".to_owned(), "my-org/ml-team".to_owned()];
    let roles = providers.roles_of(GITHUB, &groups);
    assert_eq!((person.issuer.as_str(), person.subject.as_str()), (issuer.url.as_str(), "7"));
    assert_eq!((person.name.as_str(), &person.groups), ("github:ana-z", &groups));
    assert_eq!(roles, [(Some("speech".to_owned()), Role::Editor)]);
    let (_, form) = issuer.requests("/login/oauth/access_token").remove(0);
    let form: BTreeMap<_, _> = form_urlencoded::parse(form.as_bytes()).into_owned().collect();
    assert_eq!((form["code"].as_str(), form["client_secret"].as_str()), ("c1", "s3cret"));
    assert_eq!(form["code_verifier"], self::expected().verifier);
    assert_eq!(issuer.requests("/api/v3/user")[0].0, "Bearer gho_1");
    // A group of another provider gives nothing.
    assert_eq!(providers.roles_of("oidc", &person.groups), []);
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let (issuer, providers) = open().await;
    let organizations =
        |from: usize, to: usize| (from..to).map(|it| json!({"login": format!("o{it}")})).collect::<Value>();
    issuer.prepare(&page("orgs", 1), Prepared::Json(organizations(0, 100)));
    issuer.prepare(&page("orgs", 2), Prepared::Json(organizations(100, 150)));
    let groups = finish(&providers).await.unwrap().groups;
    assert_eq!((groups.len(), groups[149].as_str()), (151, "o149"));
    // A list without an end is cut off.
    for number in 1..=20 {
        issuer.prepare(&page("orgs", number), Prepared::Json(organizations(0, 100)));
    }
    assert_eq!(finish(&providers).await.unwrap().groups.len(), 1_001);
}

#[tokio::test]
async fn rule_85_a_code_that_github_refuses_signs_nobody_in() {
    let (issuer, providers) = open().await;
    for answer in [json!({"error": "bad_verification_code"}), json!({}), json!({"access_token": ""})] {
        issuer.prepare("/login/oauth/access_token", Prepared::Json(answer.clone()));
        let refused = finish(&providers).await;
        assert!(matches!(refused, Err(SignInError::Refused { .. })), "{answer}: {refused:?}");
    }
    let (issuer, providers) = open().await;
    issuer.prepare("/api/v3/user", Prepared::Status(401, json!({"message": "Bad credentials"})));
    let refused = finish(&providers).await;
    assert!(matches!(refused, Err(SignInError::Refused { status: 401, .. })), "{refused:?}");
    // Teams that cannot be read must not look like a person without teams.
    let (issuer, providers) = open().await;
    let message = format!("Resource protected by organization SAML enforcement.\n{}", "x".repeat(1 << 10));
    issuer.prepare(&page("teams", 1), Prepared::Status(403, json!({ "message": message })));
    let refused = finish(&providers).await.unwrap_err().to_string();
    assert!(
        refused.contains("status 403: Resource protected by organization SAML enforcement."),
        "{refused}"
    );
    assert!(refused.len() < 400 && !refused.contains('\n'), "{refused}");
}

#[tokio::test]
async fn a_wrong_secret_of_the_app_names_its_settings() {
    let (issuer, providers) = open().await;
    let answer = json!({
        "error": "incorrect_client_credentials",
        "error_description": "The client_id and/or client_secret passed are incorrect.",
    });
    issuer.prepare("/login/oauth/access_token", Prepared::Json(answer));
    let refused = finish(&providers).await.unwrap_err().to_string();
    for expected in
        ["incorrect_client_credentials", "MATYAN_GITHUB_CLIENT_ID", "MATYAN_GITHUB_CLIENT_SECRET_FILE"]
    {
        assert!(refused.contains(expected), "{refused}");
    }
    assert!(!refused.contains("s3cret"), "{refused}");
}

#[tokio::test]
async fn without_roles_of_groups_only_the_person_is_read() {
    let (issuer, providers) = open_with_roles("").await;
    let url = providers.begin(GITHUB, "state-1", &expected()).await.unwrap();
    let (_, query) = url.split_once('?').unwrap();
    let parameters: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    assert_eq!(parameters["scope"], "read:user");
    for list in ["orgs", "teams"] {
        issuer.prepare(&page(list, 1), Prepared::Status(403, json!({"message": "Forbidden"})));
    }
    let person = finish(&providers).await.unwrap();
    assert_eq!((person.name.as_str(), person.groups.len()), ("github:ana-z", 0));
    for list in ["orgs", "teams"] {
        assert!(issuer.requests(&page(list, 1)).is_empty(), "{list} were read");
    }
}
