//! Signing in by a code, for programs whose user has no token: the user types the code in a browser, and the token is kept in
//! the file that `matyan login` writes as well. Signing out ends the tokens that were got in this way.

use std::{path::Path, time::Duration};

use matyan_kept_tokens::{KeptTokens, TokenPlace};
use matyan_proto::access::v1::{
    BeginLoginRequest, BeginLoginResponse, EndLoginRequest, EndLoginResponse, GetCallerRequest,
    GetCallerResponse, GetLoginRequest, GetLoginResponse, LoginState as ProtoState, Role,
};

use super::backend::{BackendClient, BackendOptions};
use crate::{
    access_token::AccessToken,
    http::{HttpError, RequestToken},
};

const BEGIN: &str = "/matyan.access.v1.LoginService/BeginLogin";
const STATE: &str = "/matyan.access.v1.LoginService/GetLogin";
const CALLER: &str = "/matyan.access.v1.AccessService/GetCaller";
const END: &str = "/matyan.access.v1.AccessService/EndLogin";

/// Status of the answer to a token that is not valid.
const UNAUTHORIZED: u16 = 401;

/// The reason why a token is not kept, or not ended.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The server has no token for this user.
    #[error(transparent)]
    Server(#[from] HttpError),
    /// The file of tokens cannot be used.
    #[error(transparent)]
    File(#[from] matyan_kept_tokens::Error),
    /// Nobody may ask for such a role.
    #[error("there is no role `{0}`: use ingest, viewer, writer, editor, owner, operator or monitor")]
    Role(String),
    /// The text cannot be a token.
    #[error("this contains no token: a token begins with mtk_, and must be copied completely")]
    NoToken,
}

/// The token that a program asks for.
#[derive(Clone, Debug, Default)]
pub struct AskedToken {
    /// Text for the person who types the code, such as the name of the machine.
    pub label: String,
    /// The only project of the token; absent: all projects of the person.
    pub project: Option<String>,
    /// Name of the largest role of the token; absent: all roles of the person.
    pub role: Option<String>,
    /// Time until the token expires; 0: the default of the server.
    pub lifetime: Duration,
}

/// A token that is not valid before someone has typed its code.
#[derive(Clone, PartialEq, Eq)]
pub struct BegunLogin {
    /// The token.
    pub token: String,
    /// The code that a person types on the page `/sign-in/code` of the server.
    pub code: String,
    /// Seconds until the code expires.
    pub lifetime_s: u64,
    /// Seconds to wait between two questions.
    pub interval_s: u64,
}

/// Omits the token.
impl std::fmt::Debug for BegunLogin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BegunLogin").field("code", &self.code).finish_non_exhaustive()
    }
}

/// The state of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginState {
    /// Nobody has typed the code.
    Pending,
    /// The token is valid.
    Allowed,
    /// Someone has refused the token, or the time is over.
    Ended,
}

/// A token that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLogin {
    /// The principal for which it acts.
    pub principal: String,
    /// URL of the server, or of the only project of the token.
    pub place: String,
}

/// A token that was forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedToken {
    /// URL of the server or of the project for which it was kept.
    pub place: String,
    /// Whether the server refuses it from now on; otherwise the reason why that is not known, if there is one.
    pub revoked: Result<bool, String>,
}

impl BackendClient {
    /// Asks for a token that someone allows by typing a code. Sends no token: the one that is kept may have ended.
    pub fn begin_login(&self, asked: AskedToken) -> Result<BegunLogin, LoginError> {
        let AskedToken { label, project, role, lifetime } = asked;
        let role = role.map_or(Ok(Role::Unspecified), |name| role_named(&name))?;
        let request = BeginLoginRequest { label, project, role: role.into(), lifetime_s: lifetime.as_secs() };
        let begun: BeginLoginResponse = self.call_with(BEGIN, request, RequestToken::Absent)?;
        let BeginLoginResponse { token, code, lifetime_s, interval_s } = begun;
        Ok(BegunLogin { token, code, lifetime_s, interval_s })
    }

    /// Returns the state of a login.
    pub fn login_state(&self, token: &str) -> Result<LoginState, HttpError> {
        let request = GetLoginRequest { token: token.to_owned() };
        let answer: GetLoginResponse = self.call_with(STATE, request, RequestToken::Absent)?;
        Ok(match answer.state() {
            ProtoState::Pending => LoginState::Pending,
            ProtoState::Allowed => LoginState::Allowed,
            ProtoState::Ended | ProtoState::Unspecified => LoginState::Ended,
        })
    }

    /// Asks the server who a token is for, and keeps it in the file at this path for later programs of the user.
    pub fn keep_login(&self, token: &str, file: &Path) -> Result<KeptLogin, LoginError> {
        let token = token.trim();
        let sent = AccessToken::new(token).ok_or(LoginError::NoToken)?;
        let caller: GetCallerResponse =
            self.call_with(CALLER, GetCallerRequest {}, RequestToken::Own(sent.header()))?;
        let place =
            TokenPlace::of(self.url()).ok_or_else(|| HttpError::InvalidUrl { url: self.url().to_owned() })?;
        let place = match &caller.token_project {
            None => place.whole_server(),
            Some(project) => place.in_project(project),
        };
        KeptTokens::change(file, |tokens| tokens.keep(place.clone(), token.to_owned()))?;
        Ok(KeptLogin { principal: caller.principal, place: place.to_string() })
    }

    /// Ends a token at the server. Returns whether it is valid no longer.
    fn end_login(&self, token: &str, force: bool) -> Result<bool, HttpError> {
        let Some(token) = AccessToken::new(token) else { return Ok(false) };
        let request = EndLoginRequest { force };
        match self.call_with::<EndLoginResponse>(END, request, RequestToken::Own(token.header())) {
            Ok(ended) => Ok(ended.token.is_some()),
            // It has ended before.
            Err(HttpError::Refused { status: UNAUTHORIZED, .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Forgets the kept tokens of a server, or of all servers, and ends those that were got by a code; with `force`, all of them.
/// A server that does not answer keeps nobody from signing out here.
pub fn end_kept_tokens(
    server: Option<&str>,
    file: &Path,
    force: bool,
    options: BackendOptions,
) -> Result<Vec<EndedToken>, LoginError> {
    let wanted = server.map(|url| {
        let place = TokenPlace::of(url).ok_or_else(|| HttpError::InvalidUrl { url: url.to_owned() });
        place.map(|place| place.whole_server())
    });
    let wanted = wanted.transpose()?;
    let is_wanted = |place: &TokenPlace| wanted.as_ref().is_none_or(|server| place.whole_server() == *server);
    let tokens = KeptTokens::read(file)?;
    let meant = tokens.iter().filter(|(place, _)| is_wanted(place));
    let mut ended = Vec::new();
    for (place, token) in meant {
        // A proxy may expose the server at a path, which only the given URL has.
        let whole = place.whole_server().to_string();
        let url = server.unwrap_or(&whole);
        let revoked = BackendClient::new(url, options).and_then(|backend| backend.end_login(token, force));
        KeptTokens::change(file, |tokens| tokens.forget(place))?;
        ended.push(EndedToken {
            place: place.to_string(),
            revoked: revoked.map_err(|error| error.to_string()),
        });
    }
    Ok(ended)
}

fn role_named(name: &str) -> Result<Role, LoginError> {
    let role = Role::from_str_name(&format!("ROLE_{}", name.to_ascii_uppercase()));
    role.filter(|role| *role != Role::Unspecified).ok_or_else(|| LoginError::Role(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_named_as_in_commands() {
        assert_eq!(role_named("viewer").unwrap(), Role::Viewer);
        assert_eq!(role_named("operator").unwrap(), Role::Operator);
        for wrong in ["", "unspecified", "emperor"] {
            let error = role_named(wrong).unwrap_err().to_string();
            assert!(error.contains("ingest, viewer"), "{error}");
        }
    }

    #[test]
    fn no_token_is_printed() {
        let begun = BegunLogin {
            token: "mtk_secret".to_owned(),
            code: "BCDF-GHJK".to_owned(),
            lifetime_s: 600,
            interval_s: 2,
        };
        let printed = format!("{begun:?}");
        assert!(printed.contains("BCDF-GHJK") && !printed.contains("secret"), "{printed}");
    }
}
