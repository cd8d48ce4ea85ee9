//! The caller of a request, and whether its calls are permitted. A credential is read when a request
//! arrives, before its body; each call is checked by `Transport`, and again while its response lasts.
//! Nothing else in the edge decides about access.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Request, header};
use matyan_access::{
    AccessToken, Caller, CallerCache, Denial, MAX_OUTAGE, RECHECK_INTERVAL, Right, Role, TokenDigest,
};
use matyan_proto::common::v1::{Access, Code as ProductCode};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use crate::cors::names_own_page;
use crate::error::{ApiError, ApiResult, refusal_status};
use crate::session_cookie::{may_write, read_session};

/// The principal of a request.
#[derive(Clone, Debug)]
pub(crate) enum RequestCaller {
    /// Access control is off: anyone may do everything.
    Unchecked,
    /// The caller with this token or session, or the anonymous one.
    Checked { callers: CallerCache, token: Option<TokenDigest>, origin: CredentialOrigin },
}

/// Where the credential of a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CredentialOrigin {
    /// The headers of the request, also of a request without a credential.
    Headers,
    /// The cookie of a browser that has signed in.
    Cookie,
    /// A permit in the URL of a file, which is signed for this file. It gives the right to read, and no other one.
    #[cfg_attr(not(feature = "wandb"), allow(dead_code, reason = "permits are for clients of W&B"))]
    Permit,
}

impl RequestCaller {
    /// Reads the credential of a request.
    pub(crate) fn read<B>(
        callers: Option<&CallerCache>,
        request: &Request<B>,
        base_path: &str,
    ) -> ApiResult<Self> {
        let Some(callers) = callers.cloned() else { return Ok(Self::Unchecked) };
        let headers = request.headers();
        let of_header = read_token(headers)?.map(|token| token.digest());
        let of_cookie = match of_header {
            Some(_) => None,
            None => read_session(request, base_path).map(|session| session.digest()),
        };
        if of_cookie.is_some() && may_write(request) && !names_own_page(request) {
            return Err(refusal_status(ProductCode::PermissionDenied, UNKNOWN_PAGE, &[]).into());
        }
        let origin = match of_cookie {
            Some(_) => CredentialOrigin::Cookie,
            None => CredentialOrigin::Headers,
        };
        let token = of_header.or(of_cookie);
        Ok(Self::Checked { callers, token, origin })
    }

    /// The caller of a request whose permit was verified. A request that shows its own credential has only
    /// the rights of that credential.
    #[cfg(feature = "wandb")]
    pub(crate) fn with_permit(self, permitted: TokenDigest) -> Self {
        match self {
            Self::Checked { callers, token: None, .. } => {
                Self::Checked { callers, token: Some(permitted), origin: CredentialOrigin::Permit }
            }
            other => other,
        }
    }

    /// Refuses a wrong credential, even where none is needed: its sender believes that it has rights. A browser
    /// whose session has ended is not signed in. Also returns the principal that has signed in or sent a token, if it
    /// can be looked up.
    pub(crate) async fn authenticate(mut self) -> ApiResult<(Self, Option<Arc<Caller>>)> {
        if self.token().is_none() {
            return Ok((self, None));
        }
        let found = self.find().await;
        match found {
            Ok(caller) => return Ok((self, caller.filter(|caller| !caller.is_anonymous()))),
            Err(status) if status.code() == Code::Unauthenticated => match &mut self {
                Self::Checked { token, origin: CredentialOrigin::Cookie, .. } => *token = None,
                Self::Checked { origin: CredentialOrigin::Permit, .. } => {
                    return Err(not_signed_in(ENDED_PERMIT).into());
                }
                _ => return Err(status.into()),
            },
            // Any other failure also fails the check of a call that needs a right.
            Err(_) => {}
        }
        Ok((self, None))
    }

    /// The principal that has signed in or sent a token, if it can be looked up. A request without a
    /// token needs no lookup: a health probe must not wait for the store.
    pub(crate) async fn signed_in(&self) -> Option<Arc<Caller>> {
        self.token()?;
        let caller = self.find().await.ok().flatten();
        caller.filter(|caller| !caller.is_anonymous())
    }

    /// Checks a call. Returns the caller; `None` if access control is off.
    pub(crate) async fn check(&self, access: Access, project: &str) -> Result<Option<Arc<Caller>>, Status> {
        // Probes of health and uploads to signed URLs are answered even while rights cannot be looked up.
        if matches!(access, Access::Public | Access::Signed) {
            return Ok(None);
        }
        if matches!(self, Self::Checked { origin: CredentialOrigin::Permit, .. }) && access != Access::Read {
            return Err(refusal_status(ProductCode::PermissionDenied, PERMIT_READS, &[]));
        }
        let Some(caller) = self.find().await? else { return Ok(None) };
        caller.check(access, project).map_err(|denial| refusal(denial, &caller, project))?;
        Ok(Some(caller))
    }

    /// Waits until a call is no longer permitted. While rights cannot be looked up, open calls continue for
    /// `MAX_OUTAGE`. For calls that send data, the cache applies this limit.
    pub(crate) async fn refused(&self, access: Access, project: &str) -> Status {
        let mut unavailable_since = None;
        loop {
            sleep(RECHECK_INTERVAL).await;
            match self.check(access, project).await {
                Ok(_) => unavailable_since = None,
                Err(status) if status.code() == Code::Unavailable && access != Access::Ingest => {
                    let since = *unavailable_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= MAX_OUTAGE {
                        return status;
                    }
                }
                Err(status) => return status,
            }
        }
    }

    /// The digest of the token or the session that the request shows.
    pub(crate) fn token(&self) -> Option<TokenDigest> {
        match self {
            Self::Unchecked => None,
            Self::Checked { token, .. } => *token,
        }
    }

    pub(crate) fn is_checked(&self) -> bool {
        matches!(self, Self::Checked { .. })
    }

    async fn find(&self) -> Result<Option<Arc<Caller>>, Status> {
        let Self::Checked { callers, token, .. } = self else { return Ok(None) };
        match callers.find(token.as_ref()).await {
            Ok(Some(caller)) => Ok(Some(caller)),
            Ok(None) => Err(not_signed_in(WRONG_TOKEN)),
            Err(_) => Err(refusal_status(ProductCode::Unavailable, LOOKUP_UNAVAILABLE, &[])),
        }
    }
}

const WRONG_TOKEN: &str = "the token is unknown, expired or revoked: get a new one from an owner of the project, and set \
                           MATYAN_TOKEN to it";
const ENDED_PERMIT: &str = "the token of the permit in this URL has expired or was revoked: ask for the URL of the file again, \
                            with another token";
const PERMIT_READS: &str = "the permit in this URL is for reading one file: send a token for anything else";
const UNKNOWN_PAGE: &str = "a request with the cookie of a browser does more than read, and does not say which page sends it: \
                            a browser sends `Origin`, which a proxy must pass on; programs send a token instead";
const MALFORMED_TOKEN: &str =
    "the credential is not a token of this server: a token begins with mtk_, and must be copied completely";
const NO_TOKEN: &str = "this server is not open to everyone: send a token, by MATYAN_TOKEN, WANDB_API_KEY or \
                        MLFLOW_TRACKING_TOKEN, or in the header `Authorization: Bearer`";
const LOOKUP_UNAVAILABLE: &str = "access rights cannot be looked up at the moment: try again";

/// The token in the headers of a request. Schemes other than Bearer and Basic are ignored, because pages
/// of Aim send what their storage happens to contain.
pub(crate) fn read_token(headers: &HeaderMap) -> ApiResult<Option<AccessToken>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(not_signed_in("the request has several Authorization headers: send one").into());
    }
    let malformed = || ApiError::from(not_signed_in(MALFORMED_TOKEN));
    let text = value.to_str().map_err(|_| malformed())?;
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return AccessToken::parse(rest).ok_or_else(malformed).map(Some);
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Ok(None);
    }
    let pair = STANDARD.decode(rest).ok().and_then(|pair| String::from_utf8(pair).ok());
    let password = pair.as_deref().and_then(|pair| pair.split_once(':')).map(|(_, password)| password);
    // Any other password is meant for a proxy.
    let Some(password) = password.filter(|it| AccessToken::looks_like_one(it)) else { return Ok(None) };
    if is_from_page(headers) {
        let message =
            "pages cannot send a token as a password: browsers would add it to the requests of any page";
        return Err(not_signed_in(message).into());
    }
    AccessToken::parse(password).ok_or_else(malformed).map(Some)
}

/// Returns whether a browser sends the request. A browser keeps the password of a URL, and adds it to
/// requests that pages of others cause.
fn is_from_page(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.keys().any(|name| name.as_str().starts_with("sec-fetch-"))
}

fn refusal(denial: Denial, caller: &Caller, project: &str) -> Status {
    match denial {
        Denial::NotSignedIn => not_signed_in(NO_TOKEN),
        Denial::UnknownProject => unknown_project(project),
        Denial::MissingRight(right) => missing_right(right, caller, project),
        Denial::RightsAway => refusal_status(ProductCode::Unavailable, LOOKUP_UNAVAILABLE, &[]),
    }
}

pub(crate) fn not_signed_in(message: &str) -> Status {
    refusal_status(ProductCode::Unauthenticated, message, &[])
}

/// The answer for a project that does not exist, and for a project that the caller must not know of.
fn unknown_project(project: &str) -> Status {
    let problem = match project {
        // Everyone knows that it exists.
        "" => "you have no role in the default project".to_owned(),
        name => format!("there is no project `{name}`, or you have no role in it"),
    };
    let message = format!("{problem}: `matyan projects list` lists the projects that you may see");
    refusal_status(ProductCode::NotFound, &message, &[("resource", "project"), ("id", project)])
}

/// Names the role that is missing, because people are granted roles, not rights.
fn missing_right(right: Right, caller: &Caller, project: &str) -> Status {
    let role = right.least_role().name();
    let message = match right {
        Right::Operate | Right::Monitor => {
            format!("this needs the role {role}, which `{}` does not have: ask an operator", caller.name())
        }
        // The least role would take the right to read from a viewer.
        Right::Ingest => needed_role("ingest or writer", Role::Writer.name(), caller, project),
        Right::Read | Right::Edit | Right::Manage => needed_role(role, role, caller, project),
    };
    refusal_status(ProductCode::PermissionDenied, &message, &[])
}

/// Returns a message with the roles that are enough, the role of the caller, and the command that grants `role`.
fn needed_role(enough: &str, role: &str, caller: &Caller, project: &str) -> String {
    let name = caller.name();
    let held = match caller.role_in(project).map(Role::name) {
        None => format!("which `{name}` does not have: ask"),
        Some(held) if caller.limits().role.is_some() => {
            format!("and this token limits `{name}` to the role {held}: use another token, or ask")
        }
        Some(held) => format!("and `{name}` has the role {held}: ask"),
    };
    let flag = if project.is_empty() { String::new() } else { format!(" --project {project}") };
    let project = shown_project(project);
    format!(
        "this needs the role {enough} in {project}, {held} an owner or an operator, who can run `matyan access grant \
         {name} {role}{flag}`"
    )
}

fn shown_project(name: &str) -> String {
    if name.is_empty() { "the default project".to_owned() } else { format!("the project `{name}`") }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;
    use matyan_access::{CallerRights, CallerSource, LookupError, TokenLimits};
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    /// A source of one owner, until it is away.
    #[derive(Clone, Default)]
    struct OwnerSource {
        is_away: Arc<AtomicBool>,
    }

    #[async_trait]
    impl CallerSource for OwnerSource {
        async fn find(&self, _: Option<&TokenDigest>) -> Result<Option<Caller>, LookupError> {
            if self.is_away.load(Ordering::Relaxed) {
                return Err("away".into());
            }
            let mut rights = CallerRights::default();
            rights.grant_in("team", Role::Owner);
            Ok(Some(Caller::new("ana", rights)))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rule_56_without_a_source_open_calls_end_after_15_minutes() {
        for access in [Access::Ingest, Access::Read] {
            let source = OwnerSource::default();
            let callers = CallerCache::new(source.clone());
            let origin = CredentialOrigin::Headers;
            let caller = RequestCaller::Checked { callers, token: None, origin };
            caller.check(access, "team").await.unwrap();
            source.is_away.store(true, Ordering::Relaxed);
            let begin = Instant::now();
            let status = caller.refused(access, "team").await;
            assert_eq!(status.code(), Code::Unavailable);
            let elapsed = begin.elapsed();
            assert!(
                (MAX_OUTAGE..=MAX_OUTAGE + matyan_access::LIFETIME + 2 * RECHECK_INTERVAL).contains(&elapsed),
                "{access:?}: {elapsed:?}"
            );
        }
    }

    #[cfg(feature = "wandb")]
    #[tokio::test]
    async fn rule_113_a_permit_gives_the_right_to_read_and_no_other() {
        let digest = AccessToken::generate(&mut StdRng::seed_from_u64(1)).digest();
        let callers = CallerCache::new(OwnerSource::default());
        let headers = |token| RequestCaller::Checked {
            callers: callers.clone(),
            token,
            origin: CredentialOrigin::Headers,
        };
        let permitted = headers(None).with_permit(digest);
        for access in
            [Access::Caller, Access::Read, Access::Ingest, Access::Edit, Access::Manage, Access::Operate]
        {
            let checked = permitted.check(access, "team").await;
            assert_eq!(checked.is_ok(), access == Access::Read, "{access:?}");
        }
        let own = TokenDigest([1; 32]);
        let caller = headers(Some(own)).with_permit(digest);
        assert_eq!(caller.token(), Some(own), "a permit replaces no credential");
        caller.check(Access::Edit, "team").await.unwrap();
    }

    #[test]
    fn refusals_name_the_role_that_is_missing_and_who_grants_it() {
        let caller = Caller::new("ana", [(Some("speech"), Role::Viewer)].into_iter().collect());
        let message = |denial, project| refusal(denial, &caller, project).message().to_owned();
        let missing = |right, project| message(Denial::MissingRight(right), project);
        assert_eq!(
            missing(Right::Manage, "speech"),
            "this needs the role owner in the project `speech`, and `ana` has the role viewer: ask an owner or an \
             operator, who can run `matyan access grant ana owner --project speech`"
        );
        let limits = TokenLimits { role: Some(Role::Viewer), ..TokenLimits::default() };
        let limited = Caller::limited("ana", &[(None, Role::Owner)].into_iter().collect(), limits);
        let status = refusal(Denial::MissingRight(Right::Edit), &limited, "speech");
        let text = "and this token limits `ana` to the role viewer: use another token, or ask an owner";
        assert!(status.message().contains(text), "{status}");
        let ingest = missing(Right::Ingest, "");
        assert!(ingest.contains("the role ingest or writer in the default project"), "{ingest}");
        assert!(ingest.ends_with("`matyan access grant ana writer`"), "{ingest}");
        assert!(missing(Right::Read, "speech").contains("the role viewer in"));
        let operate = missing(Right::Operate, "speech");
        assert!(operate.contains("the role operator") && operate.ends_with("ask an operator"), "{operate}");
        let monitor = missing(Right::Monitor, "");
        assert!(monitor.contains("the role monitor") && monitor.ends_with("ask an operator"), "{monitor}");
        let unknown = message(Denial::UnknownProject, "vision");
        assert!(
            unknown.starts_with("there is no project `vision`, or you have no role in it: "),
            "{unknown}"
        );
        let unknown = message(Denial::UnknownProject, "");
        assert!(unknown.starts_with("you have no role in the default project: "), "{unknown}");
    }

    #[test]
    fn tokens_are_read_from_two_schemes() {
        let token = AccessToken::generate(&mut StdRng::seed_from_u64(1));
        let text = token.reveal();
        let read = |headers: &[(&'static str, String)]| {
            let mut all = HeaderMap::new();
            for (name, value) in headers {
                all.append(*name, value.parse().unwrap());
            }
            read_token(&all).map_err(|error| error.status().as_u16())
        };
        let authorization = |value: String| [("authorization", value)];
        let found = Ok(Some(token.clone()));
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&authorization(format!("Bearer {text}"))), found);
        assert_eq!(read(&authorization(format!("bearer  {text}"))), found);
        let basic = |pair: String| format!("Basic {}", STANDARD.encode(pair));
        assert_eq!(read(&authorization(basic(format!("_:{text}")))), found);
        assert_eq!(read(&authorization(basic(format!("api:{text}")))), found);
        // Values that the pages of Aim send after a failed refresh, and passwords of a proxy.
        let password = basic("ana:secret".to_owned());
        for other in ["undefined undefined", "Digest x", "Token x", "Basic x", &password] {
            assert_eq!(read(&authorization(other.to_owned())), Ok(None), "{other}");
        }
        let mistyped = text.replace("mtk_", "mtk");
        for wrong in [
            "Bearer".to_owned(),
            "Bearer x".to_owned(),
            format!("Bearer {mistyped}"),
            basic(format!("_:{text}x")),
        ] {
            assert_eq!(read(&authorization(wrong.clone())), Err(401), "{wrong}");
        }
        for (name, value) in [("origin", "http://here"), ("sec-fetch-site", "same-origin")] {
            let headers = [("authorization", basic(format!("_:{text}"))), (name, value.to_owned())];
            assert_eq!(read(&headers), Err(401), "{name}");
        }
        let twice =
            [("authorization", format!("Bearer {text}")), ("authorization", format!("Bearer {text}"))];
        assert_eq!(read(&twice), Err(401));
    }
}
