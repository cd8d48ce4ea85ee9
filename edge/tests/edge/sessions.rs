//! A service of sessions that knows the callers of the tests, before another service.

use std::collections::HashMap;
use std::convert::Infallible;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response};
use matyan_access::{BrowserSecret, Role, SecretKind, TokenDigest};
use matyan_proto::access::v1::sign_in_service_server::{SignInService, SignInServiceServer};
use matyan_proto::access::v1::{
    AnswerLoginRequest, AnswerLoginResponse, AskedLogin, BeginSignInRequest, BeginSignInResponse,
    EndSessionRequest, EndSessionResponse, FindLoginRequest, FindLoginResponse, FinishSignInRequest,
    FinishSignInResponse, ListProvidersRequest, ListProvidersResponse, OpenLinkRequest, OpenLinkResponse,
    SignInProvider, StartSessionRequest, StartSessionResponse, StartedSession,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Request as Call, Response as Answer, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::Service;

use super::access::{OWN, TestCallers, Tester};
use super::projects::Recorder;

/// The person who signs in with the link and with the provider.
pub(super) const INVITED: Tester = Tester::In(OWN, Role::Viewer);

/// The link that can be opened once.
pub(super) fn link() -> BrowserSecret {
    BrowserSecret::generate(SecretKind::Link, &mut StdRng::seed_from_u64(100))
}

/// The state of a sign-in with the provider, by its number.
pub(super) fn state(number: usize) -> BrowserSecret {
    BrowserSecret::generate(SecretKind::State, &mut StdRng::seed_from_u64(200 + number as u64))
}

/// The secret that a browser keeps of a sign-in with the provider.
pub(super) fn kept(number: usize) -> String {
    format!("mtb_kept-{number}")
}

/// Sessions, and a recorder for all other calls.
#[derive(Clone)]
pub(super) struct SessionsAndRecorder {
    sessions: Routes,
    recorder: Recorder,
}

impl SessionsAndRecorder {
    pub(super) fn new(callers: TestCallers, recorder: Recorder) -> Self {
        let sessions = Routes::new(SignInServiceServer::new(Sessions(callers))).prepare();
        Self { sessions, recorder }
    }
}

impl Service<Request<Body>> for SessionsAndRecorder {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path().starts_with("/matyan.access.v1.SignInService/") {
            let mut sessions = self.sessions.clone();
            Box::pin(async move { sessions.call(request).await })
        } else {
            self.recorder.call(request)
        }
    }
}

struct Sessions(TestCallers);

impl Sessions {
    fn check_session(&self, session: &[u8]) -> Result<(), Status> {
        let is_known = self.0.0.lock().unwrap().sessions.contains_key(&digest(session));
        if is_known { Ok(()) } else { Err(Status::unauthenticated("your session has ended")) }
    }

    fn start(&self, tester: Tester) -> Option<StartedSession> {
        let mut state = self.0.0.lock().unwrap();
        state.started += 1;
        let seed = 1_000 + state.started;
        let secret = BrowserSecret::generate(SecretKind::Session, &mut StdRng::seed_from_u64(seed));
        state.sessions.insert(secret.digest(), tester);
        let principal = "service:test".to_owned();
        Some(StartedSession { principal, secret: secret.reveal().to_owned(), lifetime_s: 2_592_000 })
    }
}

/// The code of the program that waits.
pub(super) const CODE: &str = "BCDF-GHJK";

/// The login that the program asks for.
fn asked_login(code: &str) -> Result<AskedLogin, Status> {
    if code != CODE {
        return Err(Status::invalid_argument("no program waits for this code"));
    }
    Ok(AskedLogin {
        principal: "service:test".to_owned(),
        label: "laptop <b>".to_owned(),
        address: "10.0.0.7".to_owned(),
        project: None,
        role: 0,
        lifetime_s: 2_592_000,
    })
}

/// An error as the backend sends it.
fn failure(reason: &str, code: tonic::Code, text: &str, metadata: &[(&str, &str)]) -> Status {
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let details = ErrorDetails::with_error_info(reason, "matyan", metadata.collect::<HashMap<_, _>>());
    Status::with_error_details(code, text, details)
}

fn digest(bytes: &[u8]) -> TokenDigest {
    TokenDigest(bytes.try_into().unwrap())
}

#[tonic::async_trait]
impl SignInService for Sessions {
    async fn list_providers(
        &self,
        _: Call<ListProvidersRequest>,
    ) -> Result<Answer<ListProvidersResponse>, Status> {
        let provider = SignInProvider { id: "github".to_owned(), title: "GitHub <b>".to_owned() };
        Ok(Answer::new(ListProvidersResponse { providers: vec![provider] }))
    }

    async fn begin_sign_in(
        &self,
        request: Call<BeginSignInRequest>,
    ) -> Result<Answer<BeginSignInResponse>, Status> {
        let request = request.into_inner();
        if request.provider == "away" {
            let text = "the provider does not answer: try again, or sign in with a token";
            return Err(failure("UNAVAILABLE", tonic::Code::Unavailable, text, &[]));
        }
        if request.provider != "github" {
            return Err(Status::not_found(format!("there is no provider `{}`", request.provider)));
        }
        let mut callers = self.0.0.lock().unwrap();
        let number = callers.pending.len();
        let state = state(number).reveal().to_owned();
        callers.pending.insert(state.clone(), (kept(number), request.next.clone()));
        callers.begun = Some((request.redirect_uri, request.next));
        let url = format!("https://id.example/?state={state}");
        Ok(Answer::new(BeginSignInResponse { url, browser_secret: kept(number), state }))
    }

    async fn finish_sign_in(
        &self,
        request: Call<FinishSignInRequest>,
    ) -> Result<Answer<FinishSignInResponse>, Status> {
        let FinishSignInRequest { state, code, issuer, browser_secrets } = request.into_inner();
        let pending = self.0.0.lock().unwrap().pending.get(&state).cloned();
        match pending {
            Some((kept, next)) if code == "c" && browser_secrets.contains(&kept) => {
                assert_eq!(issuer, "https://id.example");
                // The sign-in can be finished once.
                self.0.0.lock().unwrap().pending.insert(state, (String::new(), String::new()));
                Ok(Answer::new(FinishSignInResponse { session: self.start(INVITED), next }))
            }
            Some((kept, next)) if code == "disabled" && browser_secrets.contains(&kept) => {
                let bob = [("principal", "github:bob"), ("next", next.as_str())];
                Err(failure(
                    "PERMISSION_DENIED",
                    tonic::Code::PermissionDenied,
                    "`github:bob` is disabled",
                    &bob,
                ))
            }
            _ => Err(Status::unauthenticated("this sign-in was not started in this browser")),
        }
    }

    async fn open_link(&self, request: Call<OpenLinkRequest>) -> Result<Answer<OpenLinkResponse>, Status> {
        let OpenLinkRequest { secret, hosts } = request.into_inner();
        let is_used = std::mem::replace(&mut self.0.0.lock().unwrap().is_link_used, true);
        if is_used || secret != link().reveal() || hosts.iter().any(|host| host.contains(':')) {
            return Err(Status::unauthenticated("this link was used already"));
        }
        Ok(Answer::new(OpenLinkResponse { session: self.start(INVITED) }))
    }

    async fn start_session(
        &self,
        request: Call<StartSessionRequest>,
    ) -> Result<Answer<StartSessionResponse>, Status> {
        let token = digest(&request.into_inner().token_digest);
        let tester = Tester::with_token(&token).ok_or_else(|| Status::unauthenticated("unknown"))?;
        Ok(Answer::new(StartSessionResponse { session: self.start(tester) }))
    }

    async fn find_login(&self, request: Call<FindLoginRequest>) -> Result<Answer<FindLoginResponse>, Status> {
        let FindLoginRequest { session_digest, code } = request.into_inner();
        self.check_session(&session_digest)?;
        Ok(Answer::new(FindLoginResponse { login: Some(asked_login(&code)?) }))
    }

    async fn answer_login(
        &self,
        request: Call<AnswerLoginRequest>,
    ) -> Result<Answer<AnswerLoginResponse>, Status> {
        let AnswerLoginRequest { session_digest, code, allowed } = request.into_inner();
        self.check_session(&session_digest)?;
        let login = Some(asked_login(&code)?);
        self.0.0.lock().unwrap().answered_logins.push(allowed);
        Ok(Answer::new(AnswerLoginResponse { login, token_digest: vec![7; 32].into() }))
    }

    async fn end_session(
        &self,
        request: Call<EndSessionRequest>,
    ) -> Result<Answer<EndSessionResponse>, Status> {
        let session = digest(&request.into_inner().session_digest);
        let mut state = self.0.0.lock().unwrap();
        if state.is_away || state.ends_nothing {
            return Err(Status::unavailable("away"));
        }
        let ended = state.sessions.remove(&session);
        let principal = ended.map(|_| "service:test".to_owned()).unwrap_or_default();
        Ok(Answer::new(EndSessionResponse { principal }))
    }
}
