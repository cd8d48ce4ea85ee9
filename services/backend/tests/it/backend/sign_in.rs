//! Sessions of browsers, through the services that start and end them.

use matyan_access::{AccessToken, BrowserSecret, ProcessKey, Question, SecretKind, TokenDigest};
use matyan_model::access::access_is_used;
use matyan_proto::access::v1::{
    BeginSignInRequest, CreateLinkEverywhereRequest, CreateLinkRequest, CreateTokenRequest,
    EndSessionRequest, FinishSignInRequest, GrantEverywhereRequest, GrantRequest, LinkInfo,
    ListAllLinksRequest, ListLinksRequest, ListProvidersRequest, OpenLinkRequest, ResolveCallerRequest,
    ResolvedCaller, RevokeAnyLinkRequest, RevokeLinkRequest, RevokeTokenRequest, Role, StartSessionRequest,
    StartedSession, access_service_client::AccessServiceClient, resolve_service_client::ResolveServiceClient,
    sign_in_service_client::SignInServiceClient,
};
use matyan_store::Store as _;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::backend::{harness::Harness, projects::of};

/// A request of the operator in a project, as an edge with access control passes it on.
fn of_operator<T>(project: &str, message: T) -> Request<T> {
    let mut request = of(project, message);
    request.metadata_mut().insert("matyan-caller", "operator".parse().unwrap());
    request
}

async fn grant(harness: &Harness, role: Role) {
    let mut access = AccessServiceClient::new(harness.routes());
    let grant = GrantRequest { principal: "ana".to_owned(), role: role.into() };
    access.grant(of_operator("speech", grant)).await.unwrap();
}

/// A link for `ana`, who may read at most.
async fn create_link(harness: &Harness, host: &str) -> String {
    let mut access = AccessServiceClient::new(harness.routes());
    let new = CreateLinkRequest {
        principal: "ana".to_owned(),
        role: Role::Viewer.into(),
        lifetime_s: 0,
        host: host.to_owned(),
    };
    access.create_link(of_operator("speech", new)).await.unwrap().into_inner().secret
}

async fn open_link(harness: &Harness, secret: &str, host: &str) -> Result<StartedSession, Status> {
    let request = OpenLinkRequest { secret: secret.to_owned(), hosts: vec![host.to_owned()] };
    let opened = SignInServiceClient::new(harness.routes()).open_link(request).await?;
    Ok(opened.into_inner().session.unwrap())
}

/// The owner of a credential, as a process without a store learns it.
async fn resolve(harness: &Harness, digest: TokenDigest) -> Option<ResolvedCaller> {
    let signature = ProcessKey::new(b"secret").sign(Question::Caller(Some(&digest))).into();
    let request = ResolveCallerRequest { token_digest: Some(digest.0.to_vec().into()), signature };
    let answer = ResolveServiceClient::new(harness.routes()).resolve_caller(request).await.unwrap();
    answer.into_inner().caller
}

fn digest(session: &StartedSession) -> TokenDigest {
    BrowserSecret::parse(SecretKind::Session, &session.secret).unwrap().digest()
}

#[tokio::test]
async fn a_grant_says_that_nobody_signs_in_with_an_unknown_provider() {
    let harness = Harness::new().await;
    harness.create_project("speech").await;
    let mut access = AccessServiceClient::new(harness.routes());
    for (principal, is_unknown) in
        [("ana", false), ("github:ana", false), ("gitlab:ana", true), ("oidc:ana@example.org", true)]
    {
        let role = Role::Viewer.into();
        let grant = GrantRequest { principal: principal.to_owned(), role };
        let granted = access.grant(of_operator("speech", grant)).await.unwrap().into_inner();
        assert_eq!(granted.grant.unwrap().principal, principal);
        let everywhere = GrantEverywhereRequest { principal: principal.to_owned(), role };
        let everywhere = access.grant_everywhere(of_operator("", everywhere)).await.unwrap().into_inner();
        assert_eq!(everywhere.unknown_provider, granted.unknown_provider);
        let providers = granted.unknown_provider.map(|it| it.providers);
        let known: Option<Vec<_>> = providers.map(|known| known.into_iter().map(|it| it.id).collect());
        assert_eq!(known, is_unknown.then(|| vec!["github".to_owned()]), "{principal}");
    }
    harness.end().await;
}

#[tokio::test]
async fn rule_83_a_link_starts_a_session_with_its_limits() {
    let harness = Harness::new().await;
    harness.create_project("speech").await;
    grant(&harness, Role::Owner).await;
    let link = create_link(&harness, "Tracker.example").await;
    let refused = open_link(&harness, &link, "evil.example").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("for the host name `tracker.example`"), "{refused:?}");
    let session = open_link(&harness, &link, "tracker.example").await.unwrap();
    assert_eq!((session.principal.as_str(), session.lifetime_s), ("ana", 30 * 24 * 3_600));
    let ana = resolve(&harness, digest(&session)).await.unwrap();
    assert_eq!(
        (ana.principal.as_str(), ana.role(), ana.project.as_deref()),
        ("ana", Role::Viewer, Some("speech"))
    );
    let again = open_link(&harness, &link, "tracker.example").await.unwrap_err();
    assert_eq!(again.code(), Code::Unauthenticated);
    for other in ["", "mtl_x", &session.secret, AccessToken::generate(&mut rand::rng()).reveal()] {
        let refused = open_link(&harness, other, "tracker.example").await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{other}");
    }

    let request = EndSessionRequest { session_digest: digest(&session).0.to_vec().into() };
    let mut sign_in = SignInServiceClient::new(harness.routes());
    assert_eq!(sign_in.end_session(request.clone()).await.unwrap().into_inner().principal, "ana");
    assert_eq!(resolve(&harness, digest(&session)).await, None);
    assert_eq!(sign_in.end_session(request).await.unwrap().into_inner().principal, "");
    harness.end().await;
}

#[tokio::test]
async fn rule_83_a_link_is_listed_without_its_secret_and_is_of_no_use_once_revoked() {
    let harness = Harness::new().await;
    for project in ["speech", "vision"] {
        harness.create_project(project).await;
    }
    grant(&harness, Role::Owner).await;
    let mut access = AccessServiceClient::new(harness.routes());
    let secret = create_link(&harness, "Tracker.example").await;
    let everywhere = CreateLinkEverywhereRequest { principal: "ana".to_owned(), ..Default::default() };
    access.create_link_everywhere(of_operator("speech", everywhere)).await.unwrap();
    let listed = access.list_links(of_operator("speech", ListLinksRequest {})).await.unwrap().into_inner();
    let [link] = <[LinkInfo; 1]>::try_from(listed.links).unwrap();
    let digest = BrowserSecret::parse(SecretKind::Link, &secret).unwrap().digest();
    assert_eq!((link.id.as_str(), link.principal.as_str()), (digest.id().as_str(), "ana"));
    assert_eq!((link.created_by.as_str(), link.role()), ("operator", Role::Viewer));
    assert_eq!((link.project.as_deref(), link.host.as_str()), (Some("speech"), "tracker.example"));
    assert_eq!(link.expires_us - link.created_us, 15 * 60 * 1_000_000);
    let all =
        access.list_all_links(of_operator("speech", ListAllLinksRequest {})).await.unwrap().into_inner();
    assert_eq!(
        all.links.iter().map(|link| link.project.as_deref()).collect::<Vec<_>>(),
        [Some("speech"), None]
    );

    // Links of other projects, and of all projects, are none of an owner's links.
    let mut revoke = async |project: &str, id: &str| {
        access.revoke_link(of_operator(project, RevokeLinkRequest { id: id.to_owned() })).await
    };
    for (project, id) in [("vision", &link.id), ("speech", &all.links[1].id)] {
        assert_eq!(revoke(project, id).await.unwrap_err().code(), Code::NotFound, "{project}");
    }
    assert_eq!(revoke("speech", "abc").await.unwrap_err().code(), Code::InvalidArgument);
    let revoked = revoke("speech", &link.id[..8]).await.unwrap().into_inner().link.unwrap();
    assert_eq!(revoked, link);
    assert_eq!(revoke("speech", &link.id).await.unwrap_err().code(), Code::NotFound, "again");
    let late = open_link(&harness, &secret, "tracker.example").await.unwrap_err();
    assert_eq!(late.code(), Code::Unauthenticated);
    let any = RevokeAnyLinkRequest { id: all.links[1].id.clone() };
    access.revoke_any_link(of_operator("speech", any)).await.unwrap();
    harness.end().await;
}

#[tokio::test]
async fn rule_83_a_link_that_was_opened_or_has_expired_is_not_listed() {
    let harness = Harness::new().await;
    harness.create_project("speech").await;
    grant(&harness, Role::Owner).await;
    let mut access = AccessServiceClient::new(harness.routes());
    let mut ids = async || {
        let listed =
            access.list_links(of_operator("speech", ListLinksRequest {})).await.unwrap().into_inner();
        listed.links.into_iter().map(|link| link.id).collect::<Vec<_>>()
    };
    let opened = create_link(&harness, "").await;
    create_link(&harness, "").await;
    assert_eq!(ids().await.len(), 2);
    open_link(&harness, &opened, "any.example").await.unwrap();
    let left = ids().await;
    assert_eq!(left.len(), 1);
    harness.advance_clock(15 * 60 + 1);
    assert!(ids().await.is_empty());
    let late = RevokeLinkRequest { id: left[0].clone() };
    let late = AccessServiceClient::new(harness.routes()).revoke_link(of_operator("speech", late)).await;
    assert_eq!(late.unwrap_err().code(), Code::NotFound);
    harness.end().await;
}

#[tokio::test]
async fn rule_82_a_session_ends_with_its_token_and_with_a_changed_role() {
    let harness = Harness::new().await;
    harness.create_project("speech").await;
    grant(&harness, Role::Editor).await;
    let mut access = AccessServiceClient::new(harness.routes());
    let new = CreateTokenRequest { principal: "ana".to_owned(), ..CreateTokenRequest::default() };
    let created = access.create_token(of_operator("speech", new)).await.unwrap().into_inner();
    let token = AccessToken::parse(&created.secret).unwrap().digest();
    let start = async |digest: TokenDigest| {
        let request = StartSessionRequest { token_digest: digest.0.to_vec().into() };
        let started = SignInServiceClient::new(harness.routes()).start_session(request).await?;
        Ok::<_, Status>(started.into_inner().session.unwrap())
    };
    let first = start(token).await.unwrap();
    assert!(resolve(&harness, digest(&first)).await.is_some());
    // A session starts no other one.
    assert_eq!(start(digest(&first)).await.unwrap_err().code(), Code::Unauthenticated);
    grant(&harness, Role::Viewer).await;
    assert_eq!(resolve(&harness, digest(&first)).await, None, "the role has changed");
    assert!(resolve(&harness, token).await.is_some(), "the token stays");
    let second = start(token).await.unwrap();
    assert!(resolve(&harness, digest(&second)).await.is_some());
    let id = created.token.unwrap().id;
    access.revoke_token(of_operator("speech", RevokeTokenRequest { id })).await.unwrap();
    assert_eq!(resolve(&harness, digest(&second)).await, None, "the token was revoked");
    harness.end().await;
}

#[tokio::test]
async fn rule_62_an_owner_learns_nothing_about_people_in_other_projects() {
    let harness = Harness::new().await;
    harness.create_project("vision").await;
    harness.create_project("speech").await;
    grant(&harness, Role::Owner).await;
    let mut access = AccessServiceClient::new(harness.routes());
    let mut refused = async |principal: &str| {
        let link = CreateLinkRequest { principal: principal.to_owned(), ..CreateLinkRequest::default() };
        let link = access.create_link(of_operator("vision", link)).await.unwrap_err();
        let token = CreateTokenRequest { principal: principal.to_owned(), ..CreateTokenRequest::default() };
        let token = access.create_token(of_operator("vision", token)).await.unwrap_err();
        assert_eq!((link.code(), token.code()), (Code::InvalidArgument, Code::InvalidArgument));
        [link, token].map(|status| status.message().replace(principal, "NAME"))
    };
    assert_eq!(refused("ana").await, refused("nobody").await);
    harness.end().await;
}

#[tokio::test]
async fn rule_82_a_session_that_nobody_uses_ends_after_12_hours() {
    let harness = Harness::new().await;
    harness.create_project("speech").await;
    grant(&harness, Role::Owner).await;
    let link = create_link(&harness, "").await;
    let session = open_link(&harness, &link, "any.example").await.unwrap();
    harness.advance_clock(12 * 3_600 - 60);
    assert!(resolve(&harness, digest(&session)).await.is_some());
    harness.advance_clock(120);
    assert_eq!(resolve(&harness, digest(&session)).await, None);
    // A link that nobody opens ends sooner.
    let link = create_link(&harness, "").await;
    harness.advance_clock(15 * 60 + 1);
    let late = open_link(&harness, &link, "any.example").await.unwrap_err();
    assert_eq!(late.code(), Code::Unauthenticated);
    harness.end().await;
}

/// Begins to sign in with a provider that does not answer. Returns the state and what the browser keeps.
async fn begin(harness: &Harness) -> (String, String) {
    let request = BeginSignInRequest {
        provider: "github".to_owned(),
        redirect_uri: "http://here/sign-in/callback".to_owned(),
        next: "/runs".to_owned(),
    };
    let mut sign_in = SignInServiceClient::new(harness.routes());
    let begun = sign_in.begin_sign_in(request).await.unwrap().into_inner();
    let (_, rest) = begun.url.split_once("state=").unwrap();
    let state = rest.split('&').next().unwrap();
    assert!(BrowserSecret::parse(SecretKind::State, state).is_some(), "{}", begun.url);
    assert!(
        begun.url.starts_with("http://127.0.0.1:1/login/oauth/authorize?client_id=Iv1&"),
        "{}",
        begun.url
    );
    assert_eq!(state, begun.state);
    (begun.state, begun.browser_secret)
}

async fn finish(harness: &Harness, state: &str, kept: &[&String]) -> Code {
    refused_answer(harness, state, kept).await.code()
}

async fn refused_answer(harness: &Harness, state: &str, kept: &[&String]) -> Status {
    let request = FinishSignInRequest {
        state: state.to_owned(),
        code: "c".to_owned(),
        issuer: String::new(),
        browser_secrets: kept.iter().map(|text| (*text).clone()).collect(),
    };
    SignInServiceClient::new(harness.routes()).finish_sign_in(request).await.unwrap_err()
}

/// The page that a failed sign-in names as the one that the browser wants.
fn next_page(refused: &Status) -> Option<String> {
    refused.get_details_error_info().unwrap().metadata.get("next").cloned()
}

#[tokio::test]
async fn rule_85_the_answer_of_a_provider_is_taken_from_its_browser() {
    let harness = Harness::new().await;
    let mut sign_in = SignInServiceClient::new(harness.routes());
    let listed = sign_in.list_providers(ListProvidersRequest {}).await.unwrap().into_inner().providers;
    assert_eq!(
        listed.iter().map(|it| (it.id.as_str(), it.title.as_str())).collect::<Vec<_>>(),
        [("github", "GitHub")]
    );

    let (state, browser) = begin(&harness).await;
    let (other_state, other_browser) = begin(&harness).await;
    assert_ne!((&state, &browser), (&other_state, &other_browser));
    for (state, browser) in
        [(&state, &other_browser), (&other_state, &browser), (&state, &String::new()), (&browser, &state)]
    {
        assert_eq!(finish(&harness, state, &[browser]).await, Code::Unauthenticated);
    }
    assert_eq!(finish(&harness, &state, &[]).await, Code::Unauthenticated);
    // The provider is asked, and does not answer. Another cookie of this name, and another tab, do no harm.
    assert_eq!(finish(&harness, &state, &[&other_browser, &browser]).await, Code::Unavailable);
    assert_eq!(finish(&harness, &other_state, &[&other_browser]).await, Code::Unavailable);
    let many = vec![&browser; 9];
    assert_eq!(finish(&harness, &state, &many).await, Code::ResourceExhausted);
    // Only the browser that started the sign-in learns where it leads.
    let own = refused_answer(&harness, &state, &[&browser]).await;
    assert_eq!(next_page(&own).as_deref(), Some("/runs"));
    assert_eq!(next_page(&refused_answer(&harness, &state, &[&other_browser]).await), None);
    harness.advance_clock(10 * 60 + 1);
    assert_eq!(finish(&harness, &other_state, &[&other_browser]).await, Code::Unauthenticated, "too late");
    harness.end().await;
}

/// Anyone can start a sign-in, so it must not take resources from others.
#[tokio::test]
async fn rule_85_beginning_to_sign_in_stores_nothing() {
    let harness = Harness::new().await;
    let (state, browser) = begin(&harness).await;
    for _ in 0..1_100 {
        begin(&harness).await;
    }
    assert!(!access_is_used(&*harness.store.snapshot().await.unwrap()).await.unwrap());
    // The first sign-in is still valid.
    assert_eq!(finish(&harness, &state, &[&browser]).await, Code::Unavailable);
    assert!(!access_is_used(&*harness.store.snapshot().await.unwrap()).await.unwrap());
    for (field, redirect_uri, next) in [
        ("redirect_uri", "r".repeat(513), String::new()),
        ("next", "http://here/".to_owned(), "n".repeat(1_025)),
    ] {
        let request = BeginSignInRequest { provider: "github".to_owned(), redirect_uri, next };
        let refused = SignInServiceClient::new(harness.routes()).begin_sign_in(request).await.unwrap_err();
        assert!(refused.message().contains(field), "{refused:?}");
    }
    harness.end().await;
}
