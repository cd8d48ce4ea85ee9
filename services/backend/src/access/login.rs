//! Logins of programs by a code that a person types in a browser. A program gets its token before anyone has allowed
//! it; the store has the token's digest, in a row that proves nothing until then. The text of the token is in the
//! response to the program and nowhere else.

use std::net::{IpAddr, Ipv6Addr};

use matyan_access::{AccessToken, LoginCode, Role as AccessRole, TokenDigest};
use matyan_model::access::{
    Credential, CredentialKind, PendingLogin, TypedCode, code_type, credential_find, credential_put,
    credential_remove, grants_of, login_put,
};
use matyan_proto::{
    access::v1::{self as pb, LoginState, Role, login_service_server::LoginService},
    limits,
};
use matyan_store::{Transaction, transact};
use matyan_wire::headers::{CALLER, CLIENT_ADDRESS};
use tonic::{Request, Response, metadata::MetadataMap};

use crate::server::{
    RpcResult, Server, convert,
    deps::Deps,
    error::{Error, Result},
};

/// Time for which a code can be typed.
const CODE_S: u64 = 10 * 60;
/// Time that a program waits between two requests for the state of its login.
const INTERVAL_S: u64 = 2;

const DAY_S: u64 = 24 * 60 * 60;
const DEFAULT_LIFETIME_S: u64 = 30 * DAY_S;
/// Longest time of a token that a program gets by a code: as long as other tokens have by default.
const MAX_LIFETIME_S: u64 = 90 * DAY_S;

/// Bits of an IPv6 address that the owner of a site chooses: a provider gives a site 48 bits.
const SITE_BITS: u32 = 80;

const OPEN_SERVER: &str = "access control is off, so no program needs a token: leave out `matyan login`";
const NO_CODE: &str = "this is not a code: a code has two groups of four consonants, as the program shows it";
const NO_SESSION: &str = "your session has ended: sign in again";
const TOO_MANY_CODES: &str = "five wrong codes were typed in this session: sign out, sign in again, and type the code that the program shows";
const BEGUN_WITH_TOKEN: &str = "this session began with a token, and ends with it, but the program would keep a token of its own: sign \
                                in with a link or a provider, or give the program your token, with `matyan login --paste`";

/// The service of programs that wait.
pub(crate) struct LoginApi {
    server: Server,
}

impl LoginApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }

    async fn begin(&self, request: Request<pb::BeginLoginRequest>) -> Result<pb::BeginLoginResponse> {
        let deps = &self.server.deps;
        check_closed(request.metadata())?;
        let address = client_address(request.metadata());
        let pb::BeginLoginRequest { label, project, role, lifetime_s } = request.into_inner();
        let label = convert::bounded_text("label", &label, limits::NAME_BYTES)?;
        if let Some(project) = &project {
            convert::check_limit("project", project.len(), limits::NAME_BYTES)?;
        }
        // A role that this version does not know must not become all roles.
        let role = Role::try_from(role)
            .map_err(|_| Error::field("role", format!("is {role}, which is not a role")))?;
        let network = network_of(&address);
        let lifetime_us = lifetime_us(lifetime_s)?;
        let now_us = (deps.clock)();
        let token = (deps.new_token)();
        let login = Credential {
            digest: token.digest().0,
            kind: CredentialKind::PendingLogin(PendingLogin { address, network, lifetime_us }),
            principal: String::new(),
            label,
            created_us: now_us,
            created_by: String::new(),
            expires_us: Some(now_us.saturating_add(microseconds(CODE_S))),
            project,
            role: (role != Role::Unspecified).then_some(role),
        };
        let (put, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
            let put = login_put(&mut transaction, &login).await?;
            Ok::<_, Error>((transaction, put))
        })
        .await?;
        put.map_err(|refusal| Error::of_access(refusal, ""))?;
        Ok(pb::BeginLoginResponse {
            code: LoginCode::of(&token.digest()).shown(),
            token: token.reveal().to_owned(),
            lifetime_s: CODE_S,
            interval_s: INTERVAL_S,
        })
    }

    async fn state(&self, request: Request<pb::GetLoginRequest>) -> Result<LoginState> {
        let deps = &self.server.deps;
        check_closed(request.metadata())?;
        // The text is not repeated: it may be a token with a mistake.
        let token = AccessToken::parse(&request.into_inner().token);
        let token = token.ok_or_else(|| Error::field("token", "is not a token of this server"))?;
        let snapshot = deps.store.snapshot().await?;
        let found = credential_find(snapshot.as_ref(), &token.digest().0, (deps.clock)()).await?;
        Ok(match found {
            Some(login) if matches!(login.kind, CredentialKind::PendingLogin(_)) => LoginState::Pending,
            Some(token) if token.is_token() => LoginState::Allowed,
            _ => LoginState::Ended,
        })
    }
}

/// The login whose code was typed, within the limits of the session.
struct AllowedLogin {
    login: Credential,
    principal: String,
    project: Option<String>,
    role: Option<Role>,
    lifetime_us: i64,
}

impl AllowedLogin {
    fn view(&self) -> pb::AskedLogin {
        let CredentialKind::PendingLogin(PendingLogin { address, .. }) = &self.login.kind else {
            unreachable!("only pending logins are found by a code")
        };
        pb::AskedLogin {
            principal: self.principal.clone(),
            label: self.login.label.clone(),
            address: address.clone(),
            project: self.project.clone(),
            role: self.role.unwrap_or(Role::Unspecified).into(),
            lifetime_s: u64::try_from(self.lifetime_us / 1_000_000).unwrap_or_default(),
        }
    }

    /// The token that the program has, valid from now on.
    fn token(&self, now_us: i64) -> Credential {
        Credential {
            kind: CredentialKind::LoginToken,
            principal: self.principal.clone(),
            created_us: now_us,
            created_by: self.principal.clone(),
            expires_us: Some(now_us.saturating_add(self.lifetime_us)),
            project: self.project.clone(),
            role: self.role,
            ..self.login.clone()
        }
    }
}

/// Returns the details of the program with a code. A wrong code is counted.
pub(super) async fn find(deps: &Deps, request: pb::FindLoginRequest) -> Result<pb::AskedLogin> {
    let session = session_digest(&request.session_digest)?;
    let code = code(&request.code)?;
    let now_us = (deps.clock)();
    let (typed, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let typed = type_code(&mut transaction, &session, &code, now_us).await?;
        Ok::<_, Error>((transaction, typed))
    })
    .await?;
    Ok(typed?.view())
}

/// Allows the program with a code to use its token, or refuses it. The first caller to commit has decided.
pub(super) async fn answer(deps: &Deps, request: pb::AnswerLoginRequest) -> Result<pb::AnswerLoginResponse> {
    let session = session_digest(&request.session_digest)?;
    let code = code(&request.code)?;
    let now_us = (deps.clock)();
    let (answered, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let typed = type_code(&mut transaction, &session, &code, now_us).await?;
        let answered = match typed {
            Ok(allowed) if request.allowed => {
                let put = credential_put(&mut transaction, &allowed.token(now_us)).await?;
                put.map(|()| (allowed.view(), allowed.login.digest))
                    .map_err(|refusal| Error::of_access(refusal, &allowed.principal))
            }
            Ok(refused) => {
                credential_remove(&mut transaction, &refused.login).await?;
                Ok((refused.view(), refused.login.digest))
            }
            Err(error) => Err(error),
        };
        Ok::<_, Error>((transaction, answered))
    })
    .await?;
    let (login, token_digest) = answered?;
    Ok(pb::AnswerLoginResponse { login: Some(login), token_digest: token_digest.to_vec().into() })
}

/// The login with a code. The inner error is for the person: the count of wrong codes is committed with it.
async fn type_code(
    transaction: &mut Transaction,
    session: &TokenDigest,
    code: &LoginCode,
    now_us: i64,
) -> Result<Result<AllowedLogin>> {
    let is_meant = |digest: &[u8; 32]| LoginCode::of(&TokenDigest(*digest)) == *code;
    Ok(match code_type(transaction, &session.0, is_meant, now_us).await? {
        TypedCode::Found { login, session } => limited(transaction, *login, &session).await?,
        TypedCode::Wrong { left } => Err(Error::InvalidRequest(format!(
            "no program waits for the code {}: compare it with the program, whose code is valid for ten minutes ({left} more wrong \
             codes can be typed)",
            code.shown()
        ))),
        TypedCode::TooMany => Err(Error::LoginRefused(TOO_MANY_CODES.to_owned())),
        TypedCode::BegunWithToken => Err(Error::LoginRefused(BEGUN_WITH_TOKEN.to_owned())),
        TypedCode::NoSession => Err(Error::SignInFailed(NO_SESSION.to_owned())),
    })
}

/// The program's request, if the principal of a session has the rights for it within the limits of the session.
async fn limited(
    transaction: &Transaction,
    login: Credential,
    session: &Credential,
) -> Result<Result<AllowedLogin>> {
    let project = match limited_project(session, &login) {
        Ok(project) => project,
        Err(error) => return Ok(Err(error)),
    };
    let role = match limited_role(session, &login) {
        Ok(role) => role,
        Err(error) => return Ok(Err(error)),
    };
    let principal = session.principal.clone();
    let granted = grants_of(transaction.unchecked(), &principal).await?;
    let is_held = |of_grant: &Option<String>| of_grant.is_none() || project.is_none() || *of_grant == project;
    if !granted.iter().any(|grant| is_held(&grant.project)) {
        return Ok(Err(Error::LoginRefused(format!(
            "the program asks for {}, in which `{principal}` has no role: ask an owner for a role, or start the login again with \
             another --project",
            project_text(project.as_deref())
        ))));
    }
    let CredentialKind::PendingLogin(PendingLogin { lifetime_us, .. }) = login.kind else {
        return Ok(Err(Error::SignInFailed(NO_SESSION.to_owned())));
    };
    Ok(Ok(AllowedLogin { login, principal, project, role, lifetime_us }))
}

fn limited_project(session: &Credential, login: &Credential) -> Result<Option<String>> {
    match (&session.project, &login.project) {
        (None, asked) => Ok(asked.clone()),
        (Some(own), None) => Ok(Some(own.clone())),
        (Some(own), Some(asked)) if own == asked => Ok(Some(own.clone())),
        (Some(own), Some(asked)) => Err(Error::LoginRefused(format!(
            "the program asks for {}, and your session is for {} only: sign in there, or start the login again with another \
             --project",
            project_text(Some(asked)),
            project_text(Some(own))
        ))),
    }
}

fn limited_role(session: &Credential, login: &Credential) -> Result<Option<Role>> {
    let rights = |role: Role| AccessRole::from_proto(role).map(AccessRole::rights).unwrap_or_default();
    match (session.role, login.role) {
        (None, asked) => Ok(asked),
        (Some(own), None) => Ok(Some(own)),
        (Some(own), Some(asked)) if rights(asked).intersection(rights(own)) == rights(asked) => {
            Ok(Some(asked))
        }
        (Some(own), Some(asked)) => Err(Error::LoginRefused(format!(
            "the program asks for the role {}, and your session has the role {}: sign in with more rights, or start the login \
             again with another --limit",
            super::grants::role_name(asked),
            super::grants::role_name(own)
        ))),
    }
}

fn project_text(name: Option<&str>) -> String {
    match name {
        None => "all projects".to_owned(),
        Some("") => "the default project".to_owned(),
        Some(name) => format!("the project `{name}`"),
    }
}

fn session_digest(bytes: &[u8]) -> Result<TokenDigest> {
    let digest = <[u8; 32]>::try_from(bytes).map(TokenDigest);
    digest.map_err(|_| Error::field("session_digest", "does not have 32 bytes"))
}

fn code(text: &str) -> Result<LoginCode> {
    LoginCode::parse(text).ok_or_else(|| Error::InvalidRequest(NO_CODE.to_owned()))
}

/// The edge names a caller if, and only if, access control is on.
fn check_closed(metadata: &MetadataMap) -> Result<()> {
    if metadata.contains_key(CALLER) { Ok(()) } else { Err(Error::InvalidRequest(OPEN_SERVER.to_owned())) }
}

/// The address of a program, which the edge reports.
fn client_address(metadata: &MetadataMap) -> String {
    let address = metadata.get(CLIENT_ADDRESS).and_then(|address| address.to_str().ok());
    address.unwrap_or_default().to_owned()
}

/// The network that a program counts against: an address of IPv4, or a site of IPv6. Programs on this machine, or
/// whose proxy is on it, count against no network.
fn network_of(address: &str) -> String {
    match address.parse().map(|address: IpAddr| address.to_canonical()) {
        Ok(address) if address.is_loopback() => String::new(),
        Ok(IpAddr::V4(address)) => address.to_string(),
        Ok(IpAddr::V6(address)) => {
            Ipv6Addr::from_bits(address.to_bits() >> SITE_BITS << SITE_BITS).to_string()
        }
        Err(_) => String::new(),
    }
}

fn lifetime_us(lifetime_s: u64) -> Result<i64> {
    let lifetime_s = if lifetime_s == 0 { DEFAULT_LIFETIME_S } else { lifetime_s };
    if lifetime_s > MAX_LIFETIME_S {
        return Err(Error::field(
            "lifetime_s",
            "is more than 90 days: choose a shorter time, or create a token",
        ));
    }
    Ok(microseconds(lifetime_s))
}

fn microseconds(seconds: u64) -> i64 {
    i64::try_from(seconds * 1_000_000).unwrap_or(i64::MAX)
}

#[tonic::async_trait]
impl LoginService for LoginApi {
    async fn begin_login(
        &self,
        request: Request<pb::BeginLoginRequest>,
    ) -> RpcResult<pb::BeginLoginResponse> {
        Ok(Response::new(self.begin(request).await?))
    }

    async fn get_login(&self, request: Request<pb::GetLoginRequest>) -> RpcResult<pb::GetLoginResponse> {
        let state = self.state(request).await?.into();
        Ok(Response::new(pb::GetLoginResponse { state }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_count_against_their_network() {
        for (address, network) in [
            ("10.0.0.7", "10.0.0.7"),
            ("::ffff:10.0.0.7", "10.0.0.7"),
            ("2001:db8::1:2:3:4", "2001:db8::"),
            ("2001:db8::ffff:1:2:3", "2001:db8::"),
            ("2001:db8:0:ffff::1", "2001:db8::"),
            ("2001:db8:1::1", "2001:db8:1::"),
            ("127.0.0.1", ""),
            ("::1", ""),
            ("", ""),
        ] {
            assert_eq!(network_of(address), network, "{address}");
        }
    }

    #[test]
    fn rule_121_a_token_has_no_more_than_the_session() {
        let credential = |project: Option<&str>, role| Credential {
            digest: [1; 32],
            kind: CredentialKind::Token,
            principal: "ana".to_owned(),
            label: String::new(),
            created_us: 0,
            created_by: String::new(),
            expires_us: None,
            project: project.map(str::to_owned),
            role,
        };
        let of = |own, asked| {
            let project = limited_project(&credential(own, None), &credential(asked, None));
            project.map_err(|error| error.to_string())
        };
        assert_eq!(of(None, None), Ok(None));
        assert_eq!(of(None, Some("speech")), Ok(Some("speech".to_owned())));
        assert_eq!(of(Some("speech"), None), Ok(Some("speech".to_owned())));
        assert_eq!(of(Some("speech"), Some("speech")), Ok(Some("speech".to_owned())));
        let error = of(Some(""), Some("speech")).unwrap_err();
        assert!(error.contains("`speech`") && error.contains("the default project only"), "{error}");
        let of = |own, asked| limited_role(&credential(None, own), &credential(None, asked)).ok();
        assert_eq!(of(None, None), Some(None));
        assert_eq!(of(None, Some(Role::Owner)), Some(Some(Role::Owner)));
        assert_eq!(of(Some(Role::Viewer), None), Some(Some(Role::Viewer)));
        assert_eq!(of(Some(Role::Editor), Some(Role::Ingest)), Some(Some(Role::Ingest)));
        for (own, asked) in
            [(Role::Viewer, Role::Ingest), (Role::Owner, Role::Operator), (Role::Viewer, Role::Writer)]
        {
            assert_eq!(of(Some(own), Some(asked)), None, "{own:?} {asked:?}");
        }
    }

    #[test]
    fn a_token_by_a_code_lives_for_90_days_at_most() {
        assert_eq!(lifetime_us(0).unwrap(), 30 * 86_400 * 1_000_000);
        assert_eq!(lifetime_us(90 * 86_400).unwrap(), 90 * 86_400 * 1_000_000);
        assert!(lifetime_us(90 * 86_400 + 1).unwrap_err().to_string().contains("lifetime_s"));
        assert!(lifetime_us(u64::MAX).is_err());
    }
}
