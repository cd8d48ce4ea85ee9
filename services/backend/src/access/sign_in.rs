//! Sessions of browsers: started with a token, a one-time link or a provider, and ended when the browser signs out. The
//! secret of a session is in the response to its start and nowhere else.

use matyan_access::{BrowserSecret, NEXT_PAGE_BYTES, SecretKind, TokenDigest};
use matyan_model::{
    access::{
        Credential, CredentialKind, GroupRoleChange, Identity, Link, ProvidedIdentity, ProvidedSignIn,
        SESSION_IDLE_US, Session, UsedState, access_find, credential_find, credential_put, credential_take,
        identity_sign_in, session_end,
    },
    audit::{AuditEntry, AuditPosition, audit_put},
};
use matyan_proto::access::v1::{self as pb, sign_in_service_server::SignInService};
use matyan_sign_in::{Answer, ExpectedAnswer, PendingSignIn, Person, SignInError};
use matyan_store::{Transaction, transact};
use matyan_wire::{headers::REQUEST_ID, loopback::is_loopback_host};
use tonic::{Code, Request, Response};

use super::grants::role_name;
use super::login;
use super::tokens::put_credential;
use crate::server::{
    RpcResult, Server,
    audit::write_audit_line,
    convert,
    deps::Deps,
    error::{Error, Result},
};

const DAY_US: i64 = 24 * 3_600 * 1_000_000;
/// Longest time of a session that was started with a link or a token.
const SESSION_US: i64 = 30 * DAY_US;
/// Longest time of a session that was started with a provider, which does not say when someone leaves.
const PROVIDED_SESSION_US: i64 = 7 * DAY_US;
/// Time in which a provider must send the browser back.
const SIGN_IN_US: i64 = 10 * 60 * 1_000_000;

/// Longest address to which a provider sends the browser back. The browser keeps it in a cookie.
const REDIRECT_BYTES: usize = 512;
/// Longest code of a provider.
const CODE_BYTES: usize = 4 << 10;
/// Maximum number of groups in a line of the log.
const SHOWN_GROUPS: usize = 50;
/// Maximum number of cookies that are tried.
const MAX_KEPT: usize = 8;
const MAX_HOSTS: usize = 8;

/// The names of roles that groups give and take in the audit log.
const GROUP_GRANT: &str = "group-grant";
const GROUP_REVOKE: &str = "group-revoke";

const USED_LINK: &str = "this link was used already, or has expired: ask for a new one";
const FOREIGN_ANSWER: &str =
    "this sign-in was not started in this browser, was finished already, or took too long: sign in again";

const REFUSED_ANSWER: &str = "the answer of the provider was refused: sign in again; if that does not help, ask an operator, \
                              who finds the reason in the log of the server";

/// The service of sessions.
pub(crate) struct SignInApi {
    server: Server,
}

/// A session that is not stored yet.
struct NewSession {
    secret: BrowserSecret,
    credential: Credential,
    lifetime_s: u64,
}

impl NewSession {
    /// A session of at most this time. Its principal is filled in later.
    fn new(deps: &Deps, longest_us: i64, token: Option<TokenDigest>) -> Self {
        let now_us = (deps.clock)();
        let secret = (deps.new_secret)(SecretKind::Session);
        let ends_us = now_us.saturating_add(longest_us);
        let credential = Credential {
            digest: secret.digest().0,
            kind: CredentialKind::Session(Session {
                ends_us,
                token: token.map(|token| token.0),
                wrong_codes: 0,
            }),
            principal: String::new(),
            label: String::new(),
            created_us: now_us,
            created_by: String::new(),
            expires_us: Some(now_us.saturating_add(SESSION_IDLE_US)),
            project: None,
            role: None,
        };
        Self { secret, credential, lifetime_s: u64::try_from(longest_us / 1_000_000).unwrap_or_default() }
    }

    /// The session of the principal of another credential, with the limits of that credential.
    fn in_place_of(&self, other: &Credential) -> Credential {
        Credential {
            principal: other.principal.clone(),
            created_by: other.principal.clone(),
            label: other.label.clone(),
            project: other.project.clone(),
            role: other.role,
            ..self.credential.clone()
        }
    }

    fn started(&self, principal: String) -> pb::StartedSession {
        let secret = self.secret.reveal().to_owned();
        pb::StartedSession { principal, secret, lifetime_s: self.lifetime_s }
    }
}

fn failed(message: &str) -> Error {
    Error::SignInFailed(message.to_owned())
}

impl SignInApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }

    fn deps(&self) -> &Deps {
        &self.server.deps
    }

    /// Starts a sign-in. Anyone may do that, so nothing is stored: the browser keeps the values for checking the
    /// answer.
    async fn begin(&self, request: pb::BeginSignInRequest) -> Result<pb::BeginSignInResponse> {
        let deps = self.deps();
        let pb::BeginSignInRequest { provider, redirect_uri, next } = request;
        convert::check_limit("redirect_uri", redirect_uri.len(), REDIRECT_BYTES)?;
        convert::check_limit("next", next.len(), NEXT_PAGE_BYTES)?;
        let state = (deps.new_secret)(SecretKind::State);
        // Letters, digits and underscores, which a verifier of PKCE may contain.
        let [nonce, verifier] = [(); 2].map(|()| (deps.new_secret)(SecretKind::State).reveal().to_owned());
        let expected = ExpectedAnswer { nonce, verifier, redirect_uri };
        let begun = Box::pin(deps.providers.begin(&provider, state.reveal(), &expected));
        let url = begun.await.map_err(error_of_provider)?;
        let ends_us = (deps.clock)().saturating_add(SIGN_IN_US);
        let state = state.reveal().to_owned();
        let pending = PendingSignIn { provider, expected, next, ends_us };
        let browser_secret = deps.sign_in_key.seal(&state, &pending);
        Ok(pb::BeginSignInResponse { url, browser_secret, state })
    }

    /// The sign-in of an answer, if this browser has started it and nobody has signed in with it.
    async fn pending(&self, state: &BrowserSecret, kept: &[String]) -> Result<PendingSignIn> {
        let deps = self.deps();
        let now_us = (deps.clock)();
        let opened = kept.iter().find_map(|sealed| deps.sign_in_key.open(state.reveal(), sealed));
        let pending = opened.filter(|pending| pending.ends_us > now_us);
        let pending = pending.ok_or_else(|| failed(FOREIGN_ANSWER))?;
        // The session is stored only if the state is still unused then. A repeated answer is not shown to the provider.
        let snapshot = deps.store.snapshot().await?;
        match credential_find(snapshot.as_ref(), &state.digest().0, now_us).await? {
            None => Ok(pending),
            Some(_) => Err(failed(FOREIGN_ANSWER)),
        }
    }

    async fn finish(
        &self,
        request: pb::FinishSignInRequest,
        request_id: &str,
    ) -> Result<pb::FinishSignInResponse> {
        let pb::FinishSignInRequest { state, code, issuer, browser_secrets } = request;
        convert::check_limit("code", code.len(), CODE_BYTES)?;
        convert::check_limit("browser_secrets", browser_secrets.len(), MAX_KEPT)?;
        let state = BrowserSecret::parse(SecretKind::State, &state).ok_or_else(|| failed(FOREIGN_ANSWER))?;
        let pending = self.pending(&state, &browser_secrets).await?;
        let answer =
            Answer { code: &code, issuer: Some(issuer.as_str()).filter(|issuer| !issuer.is_empty()) };
        let next = pending.next.clone();
        // The person who tries again still wants the page.
        match Box::pin(self.finish_pending(pending, &answer, &state, request_id)).await {
            Ok(session) => Ok(pb::FinishSignInResponse { session: Some(session), next }),
            Err(error) => Err(Error::UnfinishedSignIn { next, source: Box::new(error) }),
        }
    }

    /// Starts the session of the person whom the provider names in its answer.
    async fn finish_pending(
        &self,
        pending: PendingSignIn,
        answer: &Answer<'_>,
        state: &BrowserSecret,
        request_id: &str,
    ) -> Result<pb::StartedSession> {
        let deps = self.deps();
        let PendingSignIn { provider, expected, ends_us, next: _ } = pending;
        let now_s = (deps.clock)() / 1_000_000;
        let finished = Box::pin(deps.providers.finish(&provider, answer, &expected, now_s));
        let person = finished.await.map_err(error_of_provider)?;
        let state = UsedState { digest: state.digest().0, ends_us };
        let session = NewSession::new(deps, PROVIDED_SESSION_US, None);
        let principal = sign_person_in(deps, provider, person, &state, &session, request_id).await?;
        Ok(session.started(principal))
    }

    async fn open_link(&self, request: pb::OpenLinkRequest) -> Result<pb::StartedSession> {
        let deps = self.deps();
        let pb::OpenLinkRequest { secret, hosts } = request;
        convert::check_limit("hosts", hosts.len(), MAX_HOSTS)?;
        let link = BrowserSecret::parse(SecretKind::Link, &secret).ok_or_else(|| failed(USED_LINK))?;
        let session = NewSession::new(deps, SESSION_US, None);
        let now_us = (deps.clock)();
        let (principal, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
            let taken = credential_take(&mut transaction, &link.digest().0, now_us).await?;
            let taken = taken.ok_or_else(|| failed(USED_LINK))?;
            let CredentialKind::Link(Link { host }) = &taken.kind else { return Err(failed(USED_LINK)) };
            check_host(host.as_deref(), &hosts)?;
            let session = session.in_place_of(&taken);
            let put = credential_put(&mut transaction, &session).await?;
            put.map_err(|refusal| Error::of_access(refusal, &session.principal))?;
            Ok::<_, Error>((transaction, session.principal))
        })
        .await?;
        Ok(session.started(principal))
    }

    async fn start_session(&self, token: &TokenDigest) -> Result<pb::StartedSession> {
        let deps = self.deps();
        let now_us = (deps.clock)();
        let snapshot = deps.store.snapshot().await?;
        let found = access_find(snapshot.as_ref(), &token.0, now_us).await?;
        let (found, _) = found
            .filter(|(credential, _)| credential.is_token())
            .ok_or_else(|| failed("this token is unknown, expired or revoked"))?;
        let session = NewSession::new(deps, SESSION_US, Some(*token));
        let credential = session.in_place_of(&found);
        put_credential(deps, &credential).await?;
        Ok(session.started(credential.principal))
    }
}

/// Gives the roles of the groups, and stores the session. Returns the principal.
async fn sign_person_in(
    deps: &Deps,
    provider: String,
    person: Person,
    state: &UsedState,
    session: &NewSession,
    request_id: &str,
) -> Result<String> {
    let Person { issuer, subject, name, unique_name, groups } = person;
    let roles = deps.providers.roles_of(&provider, &groups);
    if roles.is_empty() {
        let groups = &groups[..groups.len().min(SHOWN_GROUPS)];
        tracing::debug!(provider, name, ?groups, "no group of someone who signs in has a role");
    }
    let roles = roles.into_iter().map(|(project, role)| (project, role.to_proto())).collect();
    let identity = Identity { issuer, subject };
    let provided = ProvidedIdentity { provider, identity, name, unique_name, roles };
    let ((done, entries), _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let (done, changes) =
            identity_sign_in(&mut transaction, &provided, state, &session.credential).await?;
        let is_done = matches!(done, ProvidedSignIn::Done(_));
        let credential = if is_done { session.credential.id() } else { String::new() };
        let entry = |change| group_entry(deps, change, &credential, request_id);
        let entries: Vec<_> = changes.into_iter().map(entry).collect();
        for entry in &entries {
            audit_put(transaction.batch(), entry);
        }
        Ok::<_, Error>((transaction, (done, entries)))
    })
    .await?;
    for entry in &entries {
        write_audit_line(entry);
    }
    match done {
        ProvidedSignIn::Done(principal) => Ok(principal),
        ProvidedSignIn::Repeated => Err(failed(FOREIGN_ANSWER)),
        ProvidedSignIn::Refused(principal, refusal) => Err(Error::of_access(refusal, &principal)),
        ProvidedSignIn::NoRole(principal) => {
            let reason = format!(
                "you are known as `{principal}`, and have no role here: ask an owner of a project for a role, who grants it with \
                 `matyan access grant {principal} viewer --project NAME`"
            );
            Err(Error::sign_in_refused(&principal, reason))
        }
    }
}

/// The entry of the audit log for a role that groups have given or taken. The entry of the sign-in has the address and
/// the same request id.
fn group_entry(deps: &Deps, change: GroupRoleChange, credential: &str, request_id: &str) -> AuditEntry {
    let (rpc, grant) = match change {
        GroupRoleChange::Given(grant) => (GROUP_GRANT, grant),
        GroupRoleChange::Taken(grant) => (GROUP_REVOKE, grant),
    };
    AuditEntry {
        position: AuditPosition { time_us: (deps.clock)(), id: (deps.new_id)() },
        credential: credential.to_owned(),
        address: String::new(),
        rpc: rpc.to_owned(),
        resource: format!("{} {}", grant.principal, role_name(grant.role)),
        code: Code::Ok as i32,
        request_id: request_id.to_owned(),
        principal: grant.principal,
        project: grant.project,
    }
}

/// The providers of the server, with the names on their buttons.
fn providers(deps: &Deps) -> Vec<pb::SignInProvider> {
    deps.providers
        .titles()
        .map(|(id, title)| pb::SignInProvider { id: id.to_owned(), title: title.to_owned() })
        .collect()
}

/// Says that nobody can sign in under this name, although it looks like the name of a provider's user. `None`
/// for other names.
pub(super) fn unknown_provider(deps: &Deps, principal: &str) -> Option<pb::UnknownProvider> {
    let (prefix, _) = principal.split_once(':')?;
    let providers = providers(deps);
    let is_unknown = providers.iter().all(|provider| provider.id != prefix);
    is_unknown.then_some(pb::UnknownProvider { providers })
}

/// Refuses a link under another name of this server. All names of the local machine count as the same name.
fn check_host(host: Option<&str>, named: &[String]) -> Result<()> {
    let Some(host) = host else { return Ok(()) };
    let is_same = |named: &String| {
        named.eq_ignore_ascii_case(host) || is_loopback_host(named) && is_loopback_host(host)
    };
    if named.iter().any(is_same) {
        return Ok(());
    }
    let reached = match named {
        [] => "under no name".to_owned(),
        named => format!("as `{}`", named.join("`, `")),
    };
    Err(Error::SignInFailed(format!(
        "this link is for the host name `{host}`, and the server was reached {reached}: open the link under its name, or ask for a \
         new one; if you are at its name, a proxy hides it: an operator has the proxy pass on the header Host, or set \
         X-Forwarded-Host"
    )))
}

/// The error for the person who signs in. The log has the provider's mistake, for the operator. A failure that is
/// returned again is in the log already: anyone can start to sign in, and must not fill the log.
fn error_of_provider(error: SignInError) -> Error {
    let cause = &error as &dyn std::error::Error;
    match &error {
        SignInError::UnknownProvider(id) => Error::not_found("provider", id),
        SignInError::Unreachable { .. } => {
            tracing::warn!(error = cause, "failed to reach a provider");
            Error::ProviderAway
        }
        SignInError::Remembered(failure) => {
            tracing::debug!(error = cause, "did not ask a provider again");
            match **failure {
                SignInError::Unreachable { .. } => Error::ProviderAway,
                _ => failed(REFUSED_ANSWER),
            }
        }
        _ => {
            tracing::warn!(error = cause, "refused the answer of a provider");
            failed(REFUSED_ANSWER)
        }
    }
}

fn digest(field: &'static str, bytes: &[u8]) -> Result<TokenDigest> {
    let digest = <[u8; 32]>::try_from(bytes).map(TokenDigest);
    digest.map_err(|_| Error::field(field, "does not have 32 bytes"))
}

#[tonic::async_trait]
impl SignInService for SignInApi {
    async fn list_providers(
        &self,
        _: Request<pb::ListProvidersRequest>,
    ) -> RpcResult<pb::ListProvidersResponse> {
        Ok(Response::new(pb::ListProvidersResponse { providers: providers(self.deps()) }))
    }

    async fn begin_sign_in(
        &self,
        request: Request<pb::BeginSignInRequest>,
    ) -> RpcResult<pb::BeginSignInResponse> {
        Ok(Response::new(Box::pin(self.begin(request.into_inner())).await?))
    }

    async fn finish_sign_in(
        &self,
        request: Request<pb::FinishSignInRequest>,
    ) -> RpcResult<pb::FinishSignInResponse> {
        let id = request.metadata().get(REQUEST_ID).and_then(|id| id.to_str().ok());
        let id = id.unwrap_or_default().to_owned();
        Ok(Response::new(Box::pin(self.finish(request.into_inner(), &id)).await?))
    }

    async fn open_link(&self, request: Request<pb::OpenLinkRequest>) -> RpcResult<pb::OpenLinkResponse> {
        let session = SignInApi::open_link(self, request.into_inner()).await?;
        Ok(Response::new(pb::OpenLinkResponse { session: Some(session) }))
    }

    async fn start_session(
        &self,
        request: Request<pb::StartSessionRequest>,
    ) -> RpcResult<pb::StartSessionResponse> {
        let token = digest("token_digest", &request.into_inner().token_digest)?;
        let session = SignInApi::start_session(self, &token).await?;
        Ok(Response::new(pb::StartSessionResponse { session: Some(session) }))
    }

    async fn find_login(&self, request: Request<pb::FindLoginRequest>) -> RpcResult<pb::FindLoginResponse> {
        let login = login::find(self.deps(), request.into_inner()).await?;
        Ok(Response::new(pb::FindLoginResponse { login: Some(login) }))
    }

    async fn answer_login(
        &self,
        request: Request<pb::AnswerLoginRequest>,
    ) -> RpcResult<pb::AnswerLoginResponse> {
        Ok(Response::new(login::answer(self.deps(), request.into_inner()).await?))
    }

    async fn end_session(
        &self,
        request: Request<pb::EndSessionRequest>,
    ) -> RpcResult<pb::EndSessionResponse> {
        let session = digest("session_digest", &request.into_inner().session_digest)?;
        let deps = self.deps();
        let now_us = (deps.clock)();
        let (ended, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
            let ended = session_end(&mut transaction, &session.0, now_us).await?;
            Ok::<_, Error>((transaction, ended))
        })
        .await?;
        let principal = ended.map(|session| session.principal).unwrap_or_default();
        Ok(Response::new(pb::EndSessionResponse { principal }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_83_a_link_is_for_one_host() {
        let check = |host: Option<&str>, named: &[&str]| {
            let named: Vec<_> = named.iter().map(|name| (*name).to_owned()).collect();
            check_host(host, &named).is_ok()
        };
        assert!(check(None, &["any.example"]) && check(None, &[]));
        assert!(check(Some("tracker.example"), &["10.0.0.1", "Tracker.example"]));
        assert!(check(Some("127.0.0.1"), &["localhost"]));
        assert!(check(Some("127.0.1.1"), &["::1"]));
        assert!(!check(Some("tracker.example"), &["evil.example"]));
        assert!(!check(Some("tracker.example"), &["localhost"]));
        assert!(!check(Some("tracker.example"), &[]));
        let text = check_host(Some("tracker.example"), &["backend".to_owned()]).unwrap_err().to_string();
        assert!(text.contains("for the host name `tracker.example`"), "{text}");
        assert!(text.contains("was reached as `backend`") && text.contains("X-Forwarded-Host"), "{text}");
    }
}
