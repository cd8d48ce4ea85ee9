//! Logins of programs by a code, through the services that begin, answer and end them.

use matyan_access::{AccessToken, BrowserSecret, ProcessKey, Question, SecretKind, TokenDigest};
use matyan_proto::access::v1::{
    AnswerLoginRequest, AnswerLoginResponse, BeginLoginRequest, BeginLoginResponse, CreateLinkRequest,
    CreateTokenRequest, EndLoginRequest, FindLoginRequest, GetLoginRequest, GrantRequest,
    ListAllEntriesRequest, LoginState, OpenLinkRequest, ResolveCallerRequest, ResolvedCaller, Role,
    access_service_client::AccessServiceClient, audit_service_client::AuditServiceClient,
    login_service_client::LoginServiceClient, resolve_service_client::ResolveServiceClient,
    sign_in_service_client::SignInServiceClient,
};
use tonic::{Code, Request, Status};

use crate::backend::{harness::Harness, projects::of};

const PROJECT: &str = "speech";

/// A request of a principal in the project, as an edge with access control passes it on.
fn by<T>(principal: &str, message: T) -> Request<T> {
    let mut request = of(PROJECT, message);
    request.metadata_mut().insert("matyan-caller", principal.parse().unwrap());
    request
}

/// A request of a program without a credential, from this address.
fn from<T>(address: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("matyan-caller", "anonymous".parse().unwrap());
    request.metadata_mut().insert("matyan-client-address", address.parse().unwrap());
    request
}

/// A session of `ana`, who edits the project.
async fn session(harness: &Harness) -> Vec<u8> {
    let mut access = AccessServiceClient::new(harness.routes());
    let grant = GrantRequest { principal: "ana".to_owned(), role: Role::Editor.into() };
    access.grant(by("operator", grant)).await.unwrap();
    let link = CreateLinkRequest { principal: "ana".to_owned(), ..CreateLinkRequest::default() };
    let secret = access.create_link(by("operator", link)).await.unwrap().into_inner().secret;
    let open = OpenLinkRequest { secret, hosts: vec!["any.example".to_owned()] };
    let opened = SignInServiceClient::new(harness.routes()).open_link(open).await.unwrap().into_inner();
    let session = BrowserSecret::parse(SecretKind::Session, &opened.session.unwrap().secret).unwrap();
    session.digest().0.to_vec()
}

async fn begin(harness: &Harness, address: &str) -> Result<BeginLoginResponse, Status> {
    let asked = BeginLoginRequest { label: "laptop".to_owned(), ..BeginLoginRequest::default() };
    let begun = LoginServiceClient::new(harness.routes()).begin_login(from(address, asked)).await?;
    Ok(begun.into_inner())
}

async fn state(harness: &Harness, token: &str) -> LoginState {
    let request = from("10.0.0.7", GetLoginRequest { token: token.to_owned() });
    LoginServiceClient::new(harness.routes()).get_login(request).await.unwrap().into_inner().state()
}

async fn answer(
    harness: &Harness,
    session: &[u8],
    code: &str,
    allowed: bool,
) -> Result<AnswerLoginResponse, Status> {
    let code = code.to_owned();
    let request = AnswerLoginRequest { session_digest: session.to_vec().into(), code, allowed };
    Ok(SignInServiceClient::new(harness.routes()).answer_login(request).await?.into_inner())
}

/// The owner of a token, as a process without a store learns it.
async fn resolve(harness: &Harness, token: &str) -> Option<ResolvedCaller> {
    let TokenDigest(digest) = AccessToken::parse(token).unwrap().digest();
    let signature = ProcessKey::new(b"secret").sign(Question::Caller(Some(&TokenDigest(digest)))).into();
    let request = ResolveCallerRequest { token_digest: Some(digest.to_vec().into()), signature };
    let answer = ResolveServiceClient::new(harness.routes()).resolve_caller(request).await.unwrap();
    answer.into_inner().caller
}

#[tokio::test]
async fn rule_121_a_login_is_allowed_once_and_in_time() {
    let harness = Harness::new().await;
    harness.create_project(PROJECT).await;
    let session = session(&harness).await;
    let begun = begin(&harness, "10.0.0.7").await.unwrap();
    assert_eq!((begun.lifetime_s, begun.code.len()), (600, 9));
    assert_eq!(state(&harness, &begun.token).await, LoginState::Pending);
    assert_eq!(resolve(&harness, &begun.token).await, None);
    let find = FindLoginRequest { session_digest: session.clone().into(), code: begun.code.clone() };
    let found = SignInServiceClient::new(harness.routes()).find_login(find).await.unwrap().into_inner();
    let login = found.login.unwrap();
    assert_eq!((login.principal.as_str(), login.label.as_str()), ("ana", "laptop"));
    assert_eq!((login.address.as_str(), login.project.as_deref()), ("10.0.0.7", Some(PROJECT)));
    assert_eq!(login.lifetime_s, 30 * 86_400);

    let answered = answer(&harness, &session, &begun.code, true).await.unwrap();
    let digest = AccessToken::parse(&begun.token).unwrap().digest();
    assert_eq!(answered.token_digest[..], digest.0[..]);
    assert_eq!(state(&harness, &begun.token).await, LoginState::Allowed);
    let ana = resolve(&harness, &begun.token).await.unwrap();
    assert_eq!((ana.principal.as_str(), ana.project.as_deref()), ("ana", Some(PROJECT)));
    let again = answer(&harness, &session, &begun.code, true).await.unwrap_err();
    assert_eq!(again.code(), Code::InvalidArgument, "{again:?}");

    let late = begin(&harness, "10.0.0.7").await.unwrap();
    harness.advance_clock(10 * 60 + 1);
    assert_eq!(answer(&harness, &session, &late.code, true).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(state(&harness, &late.token).await, LoginState::Ended);
    harness.advance_clock(30 * 86_400);
    assert_eq!(resolve(&harness, &begun.token).await, None, "it has expired");
    harness.end().await;
}

/// Anyone can begin a login.
#[tokio::test]
async fn rule_121_one_network_leaves_room_for_others() {
    let harness = Harness::new().await;
    let of_others = begin(&harness, "2001:db8:1::1").await.unwrap();
    let first = begin(&harness, "2001:db8::1").await.unwrap();
    for number in 1..=99 {
        begin(&harness, &format!("2001:db8:0:{number:x}::1")).await.unwrap();
    }
    let refused = begin(&harness, "2001:db8::1").await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("matyan login --paste"), "{refused:?}");
    assert_eq!(state(&harness, &first.token).await, LoginState::Pending);
    harness.advance_clock(2 * 60);
    let last = begin(&harness, "2001:db8::1").await.unwrap();
    // The oldest login of the network makes room.
    assert_eq!(state(&harness, &first.token).await, LoginState::Ended);
    for left in [last, of_others] {
        assert_eq!(state(&harness, &left.token).await, LoginState::Pending);
    }
    harness.end().await;
}

#[tokio::test]
async fn rule_121_an_open_server_begins_no_login_and_wrong_requests_name_their_field() {
    let harness = Harness::new().await;
    let mut logins = LoginServiceClient::new(harness.routes());
    let open = logins.begin_login(BeginLoginRequest::default()).await.unwrap_err();
    assert!(open.message().contains("access control is off"), "{open:?}");
    for (field, asked) in [
        ("role", BeginLoginRequest { role: 99, ..BeginLoginRequest::default() }),
        ("lifetime_s", BeginLoginRequest { lifetime_s: 91 * 86_400, ..BeginLoginRequest::default() }),
        ("label", BeginLoginRequest { label: "x".repeat(100_000), ..BeginLoginRequest::default() }),
        ("project", BeginLoginRequest { project: Some("x".repeat(100_000)), ..BeginLoginRequest::default() }),
    ] {
        let refused = logins.begin_login(from("10.0.0.7", asked)).await.unwrap_err();
        assert!(refused.message().contains(field), "{refused:?}");
    }
    let request = from("10.0.0.7", GetLoginRequest { token: "mtk_secret".to_owned() });
    let refused = logins.get_login(request).await.unwrap_err();
    assert!(refused.message().contains("token") && !refused.message().contains("secret"), "{refused:?}");
    harness.end().await;
}

#[tokio::test]
async fn rule_121_signing_out_ends_the_callers_token_and_no_other() {
    let harness = Harness::new().await;
    harness.create_project(PROJECT).await;
    let session = session(&harness).await;
    let begun = begin(&harness, "10.0.0.7").await.unwrap();
    answer(&harness, &session, &begun.code, true).await.unwrap();
    let mut access = AccessServiceClient::new(harness.audited());
    let new = CreateTokenRequest { principal: "ana".to_owned(), ..CreateTokenRequest::default() };
    let created = access.create_token(by("operator", new)).await.unwrap().into_inner().secret;
    let mut end = async |principal: &str, token: &str, force: bool| {
        let id = AccessToken::parse(token).unwrap().digest().id();
        let mut request = by(principal, EndLoginRequest { force });
        request.metadata_mut().insert("matyan-credential", id.parse().unwrap());
        access.end_login(request).await.unwrap().into_inner().token.map(|token| token.id == id)
    };
    assert_eq!(end("bo", &begun.token, true).await, None, "it is the token of someone else");
    assert_eq!(end("ana", &created, false).await, None, "other programs may use it");
    assert!(resolve(&harness, &created).await.is_some());
    assert_eq!(end("ana", &begun.token, false).await, Some(true));
    assert_eq!(resolve(&harness, &begun.token).await, None);
    assert_eq!(end("ana", &created, true).await, Some(true));
    assert_eq!(resolve(&harness, &created).await, None);
    assert_eq!(end("ana", &created, true).await, None, "it has ended before");
    let anonymous = access.end_login(by("anonymous", EndLoginRequest { force: true })).await;
    assert_eq!(anonymous.unwrap_err().code(), Code::Unauthenticated);
    // Only a call that ends a token has an entry.
    let mut audit = AuditServiceClient::new(harness.routes());
    let every = ListAllEntriesRequest::default();
    let entries = audit.list_all_entries(by("operator", every)).await.unwrap().into_inner().entries;
    let ended = entries.iter().filter(|entry| entry.rpc == "access.v1.AccessService/EndLogin");
    assert_eq!(ended.map(|entry| entry.outcome.as_str()).collect::<Vec<_>>(), ["OK", "OK"]);
    harness.end().await;
}
