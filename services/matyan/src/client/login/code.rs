//! A token by a code: the command shows the code, the user types it in a browser that has signed in, and the command waits
//! until the token is allowed.

use std::time::Duration;

use matyan_access::AccessToken;
use matyan_proto::access::v1::{
    BeginLoginRequest, BeginLoginResponse, GetLoginRequest, LoginState, Role,
    login_service_client::LoginServiceClient,
};
use tokio::time::sleep;
use tonic::{Code, Status};

use super::AskedFlags;
use crate::client::{
    Error, access::RoleName, client, connection::Connection, flags::ConnectionFlags, output::notice,
};

const MINUTE_S: u64 = 60;

/// Limits of the time between two questions, whatever a server says.
const MIN_INTERVAL_S: u64 = 1;
const MAX_INTERVAL_S: u64 = 30;

const ENDED: &str = "the code was refused, or nobody has typed it in time: run `matyan login` again";
const TOO_OLD: &str = "the server has no codes: update it, or get a token from an owner of the project, and run `matyan login --paste`";
const NO_TOKEN: &str = "the answer of the server contains no token: run `matyan status` to see its version";

/// Shows a code, and waits until someone has typed it and allowed the token.
pub(super) async fn token_by_code(
    connection: &ConnectionFlags,
    asked: &AskedFlags,
) -> Result<AccessToken, Error> {
    // A token that is kept already may have ended.
    let mut logins = client!(LoginServiceClient, connection.connect_as_stranger().await?);
    let role = asked.limit.map_or(Role::Unspecified, RoleName::role);
    let begin = BeginLoginRequest {
        label: label(),
        project: asked.project.clone(),
        role: role.into(),
        lifetime_s: asked.days * Duration::from_hours(24).as_secs(),
    };
    let begun = logins.begin_login(begin).await.map_err(refused)?.into_inner();
    let BeginLoginResponse { token, code, lifetime_s, interval_s } = begun;
    let token = AccessToken::parse(&token).ok_or_else(|| Error::Message(NO_TOKEN.to_owned()))?;
    let server = connection.server.trim_end_matches('/');
    notice(format!("open {server}/sign-in/code in a browser, and type the code {code}"));
    notice(format!("(it is valid for {} minutes; waiting …)", lifetime_s / MINUTE_S));
    let interval = Duration::from_secs(interval_s.clamp(MIN_INTERVAL_S, MAX_INTERVAL_S));
    wait(&mut logins, &token, interval).await?;
    Ok(token)
}

/// Waits until the token is valid. The server says when the time is over.
async fn wait(
    logins: &mut LoginServiceClient<Connection>,
    token: &AccessToken,
    interval: Duration,
) -> Result<(), Error> {
    loop {
        sleep(interval).await;
        let request = GetLoginRequest { token: token.reveal().to_owned() };
        let state = match logins.get_login(request).await {
            Ok(answer) => answer.into_inner().state(),
            // A server that is started again knows the login.
            Err(status) if status.code() == Code::Unavailable => LoginState::Pending,
            Err(status) => return Err(status.into()),
        };
        match state {
            LoginState::Pending => {}
            LoginState::Allowed => return Ok(()),
            LoginState::Ended | LoginState::Unspecified => return Err(Error::Message(ENDED.to_owned())),
        }
    }
}

/// The description of this program that the person who types the code sees.
fn label() -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    format!("matyan login on {host}")
}

fn refused(status: Status) -> Error {
    match status.code() {
        Code::Unimplemented => Error::Message(TOO_OLD.to_owned()),
        Code::InvalidArgument | Code::FailedPrecondition => {
            Error::Message(format!("nothing was kept: {}", status.message()))
        }
        _ => status.into(),
    }
}
