//! Signing in at the command line: a token is got by a code that the user types in a browser, or asked for, checked by the
//! server, and kept for the later commands and scripts of the user. Signing out ends a token that was got by a code, and
//! forgets any other one.

mod code;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use clap::Args;
use matyan_access::{AccessToken, BrowserSecret, SecretKind};
use matyan_kept_tokens::{KeptTokens, TokenPlace};
use matyan_proto::access::v1::{
    EndLoginRequest, GetCallerRequest, GetCallerResponse, access_service_client::AccessServiceClient,
};
use matyan_wire::loopback::is_loopback_host;
use serde_json::json;
use tonic::{Code, Status, transport::Uri};

use super::{
    Error,
    access::RoleName,
    client,
    connection::kept_tokens_path,
    flags::ConnectionFlags,
    output::{Output, cell, notice},
    projects::shown_name,
};
use crate::endpoint::EndpointError;

const LOGIN_EXAMPLES: &str = "\
Examples:
  matyan login --server https://matyan.example            shows a code, which you type in a browser
  matyan login --project speech --limit ingest --days 7   for one project, and for sending data only
  matyan login --paste                                    asks for a token, and does not show it
  matyan login --token-file matyan-data/operator-token    keeps the token in a file
  vault read -field=token secret/matyan | matyan login    keeps the token that a program prints

With a code, the server creates a token for this program alone, and `matyan logout` ends it. A token is kept for the server of
--server or MATYAN_BACKEND_URL, or only for its project if the token is for one project, in ~/.config/matyan/tokens.json, which only you can read. It is sent to this server only. --token-file and MATYAN_TOKEN take precedence over it.";

const NO_TOKEN: &str =
    "this contains no token, so nothing was kept: a token begins with mtk_, and must be copied completely";
const IS_LINK: &str = "this is a link that signs a browser in, so nothing was kept: open it in a browser, then run \
                       `matyan login` on a terminal, or `matyan login --code`, and type the code there";
const NO_FOLDER: &str = "there is no folder for the file of tokens: set HOME or XDG_CONFIG_HOME";

#[derive(Debug, Args)]
#[command(after_help = LOGIN_EXAMPLES)]
pub(crate) struct LoginFlags {
    #[command(flatten)]
    asked: AskedFlags,
    #[command(flatten)]
    connection: ConnectionFlags,
}

/// The way to a token, and the token that is asked for.
#[derive(Debug, Args)]
pub(crate) struct AskedFlags {
    /// Show a code to type in a browser; the default on a terminal
    #[arg(long, conflicts_with_all = ["paste", "token_file"])]
    code: bool,
    /// Ask for a token; the default if the input is not a terminal
    #[arg(long, conflicts_with = "token_file")]
    paste: bool,
    /// With a code: for this project only
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// With a code: largest role of the token
    #[arg(long, value_name = "ROLE")]
    limit: Option<RoleName>,
    /// With a code: days until the token expires, at most 90
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=90))]
    days: u64,
}

const LOGOUT_EXAMPLES: &str = "\
Examples:
  matyan logout                                           ends a token obtained with a code; forgets a pasted token
  matyan logout --server https://matyan.example --revoke  also ends pasted tokens
  matyan logout --all                                     for all servers";

#[derive(Debug, Args)]
#[command(after_help = LOGOUT_EXAMPLES)]
pub(crate) struct LogoutFlags {
    /// Forget the tokens for all servers
    #[arg(long)]
    all: bool,
    /// Also end tokens that were pasted, which other programs may use
    #[arg(long)]
    revoke: bool,
    #[command(flatten)]
    connection: ConnectionFlags,
}

fn file() -> Result<PathBuf, Error> {
    kept_tokens_path().ok_or_else(|| Error::Message(NO_FOLDER.to_owned()))
}

fn place(connection: &ConnectionFlags) -> Result<TokenPlace, Error> {
    let server = &connection.server;
    TokenPlace::of(server).ok_or_else(|| EndpointError::Address(server.clone()).into())
}

pub(super) async fn run_login(flags: LoginFlags) -> Result<(), Error> {
    let LoginFlags { asked, connection } = flags;
    let out = &mut Output::new(connection.json);
    let place = place(&connection)?;
    let path = file()?;
    // Before anybody is asked for a token.
    KeptTokens::read(&path)?;
    if is_in_clear(&connection.server) {
        notice(
            "the token is sent without TLS, and others on the network can read it: use an https:// address",
        );
    }
    let is_pasted = asked.paste || connection.token_file.is_some() || !io::stdin().is_terminal();
    let token = if asked.code || !is_pasted {
        code::token_by_code(&connection, &asked).await?
    } else {
        new_token(&connection)?
    };
    let caller = caller(&connection, &token).await?;
    let place = match &caller.token_project {
        None => place.whole_server(),
        Some(project) => place.in_project(project),
    };
    KeptTokens::change(&path, |tokens| tokens.keep(place.clone(), token.reveal().to_owned()))?;
    let of_project = place.project().map(|name| format!(" in the project {}", shown_name(name)));
    let line = format!(
        "signed in to {} as {}{}; the token is kept in {}",
        cell(&place.whole_server().to_string()),
        cell(&caller.principal),
        of_project.unwrap_or_default(),
        path.display()
    );
    let object = json!({
        "server": place.whole_server().to_string(),
        "project": caller.token_project,
        "principal": caller.principal,
        "token_id": token.digest().id(),
        "file": path.to_string_lossy(),
    });
    out.result(&object, line)?;
    if connection.token.is_some_and(|token| !token.reveal().is_empty()) {
        notice("MATYAN_TOKEN is set, and comes before the token that is kept: unset it");
    }
    Ok(())
}

/// The principal of a token, according to the server.
async fn caller(connection: &ConnectionFlags, token: &AccessToken) -> Result<GetCallerResponse, Error> {
    let mut access = client!(AccessServiceClient, connection.connect_with(token).await?);
    Ok(access.get_caller(GetCallerRequest {}).await.map_err(refused)?.into_inner())
}

/// The error for a token that the server does not accept, or for a call that fails.
fn refused(status: Status) -> Error {
    match status.code() {
        Code::Unauthenticated | Code::FailedPrecondition | Code::InvalidArgument => {
            Error::Message(format!("nothing was kept: {}", status.message()))
        }
        _ => status.into(),
    }
}

/// The token to keep, from the file after --token-file, the keyboard or a pipe. It may be a part of a text, such
/// as the line of an invitation.
fn new_token(connection: &ConnectionFlags) -> Result<AccessToken, Error> {
    let text = connection.token_text()?;
    // The text is not repeated: it may be a token with a mistake.
    AccessToken::find(&text).ok_or_else(|| {
        let is_link = BrowserSecret::find(SecretKind::Link, &text).is_some();
        Error::Message(if is_link { IS_LINK } else { NO_TOKEN }.to_owned())
    })
}

/// Whether others on the network can read what is sent to a server.
fn is_in_clear(server: &str) -> bool {
    let Ok(server) = server.parse::<Uri>() else { return false };
    server.scheme_str() == Some("http") && !server.host().is_some_and(is_loopback_host)
}

pub(super) async fn run_logout(flags: LogoutFlags) -> Result<(), Error> {
    let LogoutFlags { all, revoke, connection } = flags;
    let out = &mut Output::new(connection.json);
    let server = place(&connection)?.whole_server();
    let path = file()?;
    let kept: Vec<_> = {
        let tokens = KeptTokens::read(&path)?;
        let is_meant = |place: &TokenPlace| all || place.whole_server() == server;
        let meant = tokens.iter().filter(|(place, _)| is_meant(place));
        meant.map(|(place, token)| (place.clone(), token.to_owned())).collect()
    };
    if kept.is_empty() {
        let place = if all { "any server".to_owned() } else { cell(&server.to_string()) };
        notice(format!("no token is kept for {place}"));
        return Ok(());
    }
    let mut is_any_left = false;
    for (place, text) in kept {
        let token = AccessToken::parse(&text);
        let is_ended = match &token {
            Some(token) => end(&connection, &place, token, revoke).await,
            None => false,
        };
        KeptTokens::change(&path, |tokens| tokens.forget(&place))?;
        is_any_left |= !is_ended;
        let id = token.map(|token| token.digest().id());
        let shown = id.as_deref().unwrap_or("(unreadable)");
        let what = if is_ended { "is revoked and forgotten" } else { "is forgotten" };
        let line = format!("{shown}  {what}; it was for {}", cell(&place.to_string()));
        let server = place.whole_server().to_string();
        let object =
            json!({"server": server, "project": place.project(), "token_id": id, "revoked": is_ended});
        out.result(&object, line)?;
    }
    if is_any_left {
        notice(
            "(a token that is only forgotten stays valid until it expires, or is revoked: matyan logout --revoke, or matyan \
             access token revoke ID --project NAME)",
        );
    }
    Ok(())
}

/// Ends a token at its server. Returns whether it is no longer valid. A server that does not answer does not prevent
/// a sign-out here.
async fn end(connection: &ConnectionFlags, place: &TokenPlace, token: &AccessToken, force: bool) -> bool {
    match try_end(connection, place, token, force).await {
        Ok(is_ended) => is_ended,
        Err(error) => {
            notice(format!("the token for {} could not be revoked: {error}", cell(&place.to_string())));
            false
        }
    }
}

async fn try_end(
    connection: &ConnectionFlags,
    place: &TokenPlace,
    token: &AccessToken,
    force: bool,
) -> Result<bool, Error> {
    let channel = connection.connect_to_place(place, token).await?;
    let mut access = client!(AccessServiceClient, channel);
    match access.end_login(EndLoginRequest { force }).await {
        Ok(ended) => Ok(ended.into_inner().token.is_some()),
        // It has ended before.
        Err(status) if status.code() == Code::Unauthenticated => Ok(true),
        Err(status) => Err(status.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_in_cleartext_only_without_tls_to_another_machine() {
        for (server, expected) in [
            ("http://matyan.example:53800", true),
            ("http://10.0.0.7/p/speech", true),
            ("https://matyan.example", false),
            ("http://localhost:53800", false),
            ("http://[::1]:53800", false),
        ] {
            assert_eq!(is_in_clear(server), expected, "{server}");
        }
    }
}
