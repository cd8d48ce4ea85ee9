//! Tokens. The text of a new token is the only thing on standard output, so that a shell can store it in a
//! variable; everything about it is on standard error.

use clap::{Args, Subcommand};
use matyan_access::AccessToken;
use matyan_model::access::ANONYMOUS;
use matyan_proto::access::v1::{
    CreateLinkEverywhereRequest, CreateLinkRequest, CreateTokenEverywhereRequest, CreateTokenRequest,
    ListAllTokensRequest, ListTokensRequest, PrincipalRole, RevokeAnyTokenRequest, RevokeTokenRequest, Role,
    TokenInfo,
};
use matyan_wire::loopback::is_loopback_host;
use serde_json::{Value, json};
use tonic::{Code, Status, transport::Uri};

use super::{AccessClient, RoleName, check_id, examples, grant, place, revocation_error, role_name};
use crate::client::{
    Error,
    connection::project_of_url,
    flags::ClientFlags,
    output::{Output, cell, moment, notice, now_us},
    projects::shown_name,
};

const ANONYMOUS_INVITED: &str = "nothing was done: `anonymous` is everyone who sends no token, and does not sign in. To let everyone \
                                 read a project, run `matyan access grant anonymous viewer --project NAME`";

const DAY_S: u64 = 24 * 60 * 60;
const MINUTE_S: u64 = 60;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Create a token of a principal that has a role
    #[command(after_help = examples::TOKEN_CREATE)]
    Create {
        /// Name of the person or the service
        principal: String,
        #[command(flatten)]
        token: TokenFlags,
        /// For all projects of the principal, not for one
        #[arg(long)]
        everywhere: bool,
    },
    /// List the tokens that are for this project only
    #[command(visible_alias = "list", after_help = examples::TOKEN_LS)]
    Ls {
        /// List all tokens
        #[arg(long)]
        everywhere: bool,
    },
    /// Revoke a token that is for this project only
    #[command(visible_alias = "rm", after_help = examples::TOKEN_REVOKE)]
    Revoke {
        /// Its id as `ls` shows it, or the first digits of the id
        id: String,
        /// Revoke any token
        #[arg(long)]
        everywhere: bool,
    },
    /// Print a new token that no server knows yet, for MATYAN_OPERATOR_TOKEN_FILE
    #[command(after_help = examples::TOKEN_GENERATE)]
    Generate,
    /// Print the digest of a token, for MATYAN_ACCESS_FILE; reads the token from --token-file, or asks for it
    #[command(after_help = examples::TOKEN_DIGEST)]
    Digest,
}

/// Flags of a new token.
#[derive(Debug, Args)]
pub(crate) struct TokenFlags {
    /// Text that says what uses the token, such as the name of a machine
    #[arg(long, value_name = "TEXT", default_value = "")]
    label: String,
    /// Days until the token expires, at most 366
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=366))]
    days: u64,
    /// Largest role of the token, if the principal has a larger one
    #[arg(long, value_name = "ROLE")]
    limit: Option<RoleName>,
}

#[derive(Debug, Args)]
#[command(after_help = examples::INVITE)]
pub(crate) struct InviteFlags {
    /// Name of the person or the service
    principal: String,
    /// Role in the project
    #[arg(long)]
    role: RoleName,
    /// In all projects
    #[arg(long)]
    everywhere: bool,
    /// Minutes in which the link must be opened, at most 10080: a week
    #[arg(long, value_name = "MINUTES", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// Also print a token for scripts, with its address; a role that reads nothing gets only this
    #[arg(long)]
    with_token: bool,
    #[command(flatten)]
    token: TokenFlags,
}

/// A link that was created.
struct CreatedLink {
    secret: String,
    expires_us: i64,
}

pub(super) async fn run(
    access: &mut AccessClient,
    command: TokenCommand,
    out: &mut Output,
) -> Result<(), Error> {
    match command {
        TokenCommand::Create { principal, token, everywhere } => {
            let created = create(access, principal, token, everywhere).await;
            let (token, secret) = created.map_err(creation_error)?;
            print_new(&token, &secret, out)
        }
        TokenCommand::Ls { everywhere } => {
            let tokens = if everywhere {
                access.list_all_tokens(ListAllTokensRequest {}).await?.into_inner().tokens
            } else {
                access.list_tokens(ListTokensRequest {}).await?.into_inner().tokens
            };
            print(&tokens, out)
        }
        TokenCommand::Revoke { id, everywhere } => {
            check_id(&id, "token ls")?;
            let revoked = if everywhere {
                access.revoke_any_token(RevokeAnyTokenRequest { id }).await?.into_inner().token
            } else {
                let answer = access.revoke_token(RevokeTokenRequest { id }).await;
                answer.map_err(revocation_error)?.into_inner().token
            };
            let revoked = revoked.unwrap_or_default();
            let line = format!("{}  revoked; it is refused within 30 s", cell(&revoked.id));
            Ok(out.result(&object(&revoked), line)?)
        }
        TokenCommand::Generate => generate(out),
        TokenCommand::Digest => unreachable!("needs no server, and is handled before a connection is made"),
    }
}

/// Prints the digest of a token, which proves nothing.
pub(super) fn digest(client: &ClientFlags, out: &mut Output) -> Result<(), Error> {
    // The text is not repeated: it may be a token with a mistake.
    let token = AccessToken::find(&client.connection.token_text()?).ok_or_else(|| {
        Error::Message(
            "this contains no token: a token begins with mtk_, and must be copied completely".to_owned(),
        )
    })?;
    let digest = hex::encode(token.digest().0);
    Ok(out.result(&json!({"token_id": token.digest().id(), "digest": digest}), &digest)?)
}

/// Prints a token that no server knows.
pub(super) fn generate(out: &mut Output) -> Result<(), Error> {
    let token = AccessToken::generate(&mut rand::rng());
    Ok(out.result(&json!({"secret": token.reveal(), "id": token.digest().id()}), token.reveal())?)
}

/// Grants a role, creates a link and, if it is wanted, a token, and prints what their user needs.
pub(super) async fn invite(
    access: &mut AccessClient,
    flags: InviteFlags,
    client: &ClientFlags,
    out: &mut Output,
) -> Result<(), Error> {
    let InviteFlags { principal, role, everywhere, minutes, with_token, token } = flags;
    // Before the grant, which would succeed.
    if principal == ANONYMOUS {
        return Err(Error::Message(ANONYMOUS_INVITED.to_owned()));
    }
    // A browser shows nothing to a principal that only sends data, or only reads metrics.
    let roles = [Some(role), token.limit].into_iter().flatten();
    let reads_nothing = roles.into_iter().any(|it| matches!(it, RoleName::Ingest | RoleName::Monitor));
    let limit = token.limit;
    let granted = grant(access, principal.clone(), role, everywhere, out).await?;
    let url = invited_url(&client.connection.server, granted.project.as_deref())?;
    let link = if reads_nothing {
        None
    } else {
        let host = host_of(&url);
        let created =
            create_link(access, principal.clone(), limit, minutes * MINUTE_S, host, everywhere).await;
        Some(created.map_err(|error| refused_after_grant(&granted, "link", error))?)
    };
    let created = if with_token || reads_nothing {
        let created = create(access, principal, token, everywhere).await;
        Some(created.map_err(|status| refused_after_grant(&granted, "token", status.into()))?)
    } else {
        None
    };
    let sign_in = link.as_ref().map(|link| sign_in_url(&url, &link.secret));
    if out.json {
        let mut object = match &created {
            Some((token, _)) => object(token),
            None => json!({
                "principal": granted.principal,
                "everywhere": granted.project.is_none(),
                "project": granted.project,
            }),
        };
        object["granted"] = role_name(granted.role()).into();
        object["sign_in"] = sign_in.into();
        object["sign_in_expires"] = link.map(|link| link.expires_us as f64 / 1e6).into();
        object["server"] = url.into();
        object["secret"] = created.map(|(_, secret)| secret).into();
        return Ok(out.object(&object)?);
    }
    let place = granted
        .project
        .as_deref()
        .map_or_else(|| "all projects".to_owned(), |name| format!("the project {}", shown_name(name)));
    let link_end = link.as_ref().map(|link| moment(link.expires_us)).unwrap_or_default();
    let what = match &created {
        None => format!("Send this link over a safe channel; it signs one browser in, until {link_end}:"),
        Some((token, _)) => format!(
            "Send these lines over a safe channel; the token is not shown again, and expires on {}:",
            token.expires_us.map(moment).unwrap_or_default()
        ),
    };
    notice(format!(
        "{} now has the role {} in {place}. {what}\n",
        cell(&granted.principal),
        role_name(granted.role()),
    ));
    if granted.project.as_deref() == Some("") {
        notice("(for another project: --project NAME)\n");
    }
    if is_loopback(&url) {
        notice(format!(
            "({url} is of use on this machine only: --server URL names the address for others)\n"
        ));
    }
    let sign_in = sign_in.unwrap_or_default();
    let Some((_, secret)) = created else { return Ok(out.line(sign_in)?) };
    let browser = if sign_in.is_empty() {
        String::new()
    } else {
        format!("\n# or in a browser, once, until {link_end}:\n{sign_in}")
    };
    Ok(out.line(format!("export MATYAN_BACKEND_URL={url}\nexport MATYAN_TOKEN={secret}{browser}"))?)
}

/// The error of an invitation that granted the role, but got no token or link. `kind` is the noun for the refused
/// credential.
fn refused_after_grant(granted: &PrincipalRole, kind: &str, error: Error) -> Error {
    let Error::Message(message) = error else { return error };
    let place = match granted.project.as_deref() {
        None => " --everywhere".to_owned(),
        Some("") => String::new(),
        Some(name) => format!(" --project {name}"),
    };
    Error::Message(format!(
        "{} now has the role {}, but the {kind} was not created: {message}. Invite again once this is solved, or take the role \
         back with `matyan access revoke {}{place}`",
        cell(&granted.principal),
        role_name(granted.role()),
        cell(&granted.principal),
    ))
}

async fn create_link(
    access: &mut AccessClient,
    principal: String,
    limit: Option<RoleName>,
    lifetime_s: u64,
    host: String,
    everywhere: bool,
) -> Result<CreatedLink, Error> {
    let role = limit.map_or(Role::Unspecified, RoleName::role).into();
    if everywhere {
        let request = CreateLinkEverywhereRequest { principal, role, lifetime_s, host };
        let created = access.create_link_everywhere(request).await?.into_inner();
        Ok(CreatedLink { secret: created.secret, expires_us: created.expires_us })
    } else {
        let request = CreateLinkRequest { principal, role, lifetime_s, host };
        let created = access.create_link(request).await?.into_inner();
        Ok(CreatedLink { secret: created.secret, expires_us: created.expires_us })
    }
}

/// The name of the host in a URL, without a port; empty if there is none.
fn host_of(url: &str) -> String {
    let url: Result<Uri, _> = url.parse();
    let host = url.ok().and_then(|url| url.host().map(str::to_owned)).unwrap_or_default();
    host.trim_matches(['[', ']']).to_owned()
}

/// Whether a URL names the local machine, so that it leads each of its readers to another one.
fn is_loopback(url: &str) -> bool {
    is_loopback_host(&host_of(url))
}

/// The link with which a browser signs in. The browser does not send the text after `#`; the page at the link
/// does.
fn sign_in_url(invited_url: &str, secret: &str) -> String {
    format!("{invited_url}/sign-in#{secret}")
}

/// The URL that an invited person uses.
fn invited_url(server: &str, project: Option<&str>) -> Result<String, Error> {
    let base = server.trim_end_matches('/');
    let base = match project_of_url(server)? {
        Some(name) => base.strip_suffix(&format!("/p/{name}")).unwrap_or(base),
        None => base,
    };
    Ok(match project.unwrap_or_default() {
        "" => base.to_owned(),
        name => format!("{base}/p/{name}"),
    })
}

async fn create(
    access: &mut AccessClient,
    principal: String,
    flags: TokenFlags,
    everywhere: bool,
) -> Result<(TokenInfo, String), Status> {
    let TokenFlags { label, days, limit } = flags;
    let role = limit.map_or(Role::Unspecified, RoleName::role).into();
    let lifetime_s = days * DAY_S;
    let (token, secret) = if everywhere {
        let request = CreateTokenEverywhereRequest { principal, label, role, lifetime_s };
        let created = access.create_token_everywhere(request).await?.into_inner();
        (created.token, created.secret)
    } else {
        let request = CreateTokenRequest { principal, label, role, lifetime_s };
        let created = access.create_token(request).await?.into_inner();
        (created.token, created.secret)
    };
    Ok((token.unwrap_or_default(), secret))
}

/// The error of a command that creates a token. A caller who may not create tokens for others gets a
/// token by signing in.
fn creation_error(status: Status) -> Error {
    let is_denied = status.code() == Code::PermissionDenied;
    match Error::from(status) {
        Error::Message(message) if is_denied => {
            Error::Message(format!("{message}. For a token of your own, run `matyan login`"))
        }
        error => error,
    }
}

fn print_new(token: &TokenInfo, secret: &str, out: &mut Output) -> Result<(), Error> {
    if out.json {
        let mut object = object(token);
        object["secret"] = secret.into();
        return Ok(out.object(&object)?);
    }
    out.line(secret)?;
    let place = token
        .project
        .as_deref()
        .map_or_else(|| "all projects".to_owned(), |name| format!("the project {}", shown_name(name)));
    notice(format!(
        "token {} of {} for {place}, until {}; it is not shown again",
        cell(&token.id),
        cell(&token.principal),
        token.expires_us.map(moment).unwrap_or_default()
    ));
    Ok(())
}

fn object(token: &TokenInfo) -> Value {
    let role = (token.role() != Role::Unspecified).then(|| role_name(token.role()));
    json!({
        "id": token.id,
        "principal": token.principal,
        "label": token.label,
        "everywhere": token.project.is_none(),
        "project": token.project,
        "limit": role,
        "created": token.created_us as f64 / 1e6,
        "created_by": token.created_by,
        "expires": token.expires_us.map(|us| us as f64 / 1e6),
    })
}

fn print(tokens: &[TokenInfo], out: &mut Output) -> Result<(), Error> {
    if out.json {
        return Ok(tokens.iter().try_for_each(|token| out.object(&object(token)))?);
    }
    let now_us = now_us();
    let end = |us: i64| if us <= now_us { format!("{} (expired)", moment(us)) } else { moment(us) };
    let row = |token: &TokenInfo| {
        let limit = if token.role() == Role::Unspecified { "" } else { role_name(token.role()) };
        [
            cell(&token.id),
            cell(&token.principal),
            place(token.project.as_deref()),
            limit.to_owned(),
            token.expires_us.map_or_else(|| "never".to_owned(), end),
            cell(&token.label),
        ]
    };
    let rows: Vec<_> = tokens.iter().map(row).collect();
    Ok(out.table(["ID", "PRINCIPAL", "PROJECT", "LIMIT", "EXPIRES (UTC)", "LABEL"], &rows)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_machine_is_no_address_for_others() {
        for (url, expected) in [
            ("http://127.0.0.1:53800/p/speech", true),
            ("http://LOCALHOST:53800", true),
            ("http://[::1]:53800", true),
            ("https://localhost.example/p/speech", false),
            ("http://10.0.0.7:53800", false),
        ] {
            assert_eq!(is_loopback(url), expected, "{url}");
        }
    }

    #[test]
    fn an_invitation_has_the_url_of_its_project() {
        let check = |server: &str, project, expected: &str| {
            assert_eq!(invited_url(server, project).unwrap(), expected, "{server}");
        };
        check("http://host:1/", Some("speech"), "http://host:1/p/speech");
        check("http://host:1/p/speech", Some("speech"), "http://host:1/p/speech");
        check("https://host/matyan/p/speech/", None, "https://host/matyan");
        check("http://host:1/", Some(""), "http://host:1");
        check("https://host/p/p", Some("p"), "https://host/p/p");
    }

    #[test]
    fn a_caller_who_may_create_no_tokens_learns_of_login() {
        let denied = creation_error(Status::permission_denied("this needs the role owner")).to_string();
        assert_eq!(denied, "this needs the role owner. For a token of your own, run `matyan login`");
        let unknown = creation_error(Status::invalid_argument("`principal` is `bo`")).to_string();
        assert_eq!(unknown, "`principal` is `bo`");
    }

    #[test]
    fn an_invitation_that_is_refused_late_says_that_the_role_was_granted() {
        let granted = |project: Option<&str>| PrincipalRole {
            principal: "ana".to_owned(),
            role: Role::Editor.into(),
            project: project.map(str::to_owned),
            ..PrincipalRole::default()
        };
        for (project, command) in [
            (Some("speech"), "`matyan access revoke ana --project speech`"),
            (Some(""), "`matyan access revoke ana`"),
            (None, "`matyan access revoke ana --everywhere`"),
        ] {
            let refused = Error::Message("`principal` is disabled".to_owned());
            let error = refused_after_grant(&granted(project), "link", refused).to_string();
            let start = "ana now has the role editor, but the link was not created: `principal` is disabled.";
            assert!(error.starts_with(start) && error.contains(command), "{error}");
        }
    }
}
