//! Access control: the roles of principals in projects, and their tokens and links.

mod audit;
mod check;
mod examples;
mod links;
mod tokens;

use clap::{Args, Subcommand, ValueEnum};
use matyan_access::AccessToken;
use matyan_model::access::ANONYMOUS;
use matyan_proto::access::v1::{
    DisablePrincipalRequest, EnablePrincipalRequest, GetCallerRequest, GetCallerResponse,
    GrantEverywhereRequest, GrantRequest, ListAllGrantsRequest, ListGrantsRequest, ListTokensRequest,
    PrincipalRole, RemovePrincipalRequest, RevokeEverywhereRequest, RevokeRequest, RevokeTokenRequest, Role,
    SignInProvider, access_service_client::AccessServiceClient, audit_service_client::AuditServiceClient,
};
use matyan_sign_in::{GITHUB, OIDC};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::{
    Error, client,
    confirmation::{confirm, confirm_for_everyone},
    connection::{Connection, project_of_url},
    flags::ClientFlags,
    is_about_project,
    output::{Output, cell, moment, notice},
    projects::shown_name,
};
use audit::AuditFlags;
use links::{LinkListFlags, LinkRevocationFlags};
use tokens::{InviteFlags, TokenCommand};

const WHOAMI_EXAMPLES: &str = "\
Examples:
  matyan whoami
  matyan whoami --server https://matyan.example --json
  matyan whoami --token-file token                           the principal of another token";

#[derive(Debug, Args)]
#[command(after_help = examples::ACCESS)]
pub(crate) struct AccessFlags {
    #[command(subcommand)]
    command: AccessCommand,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Args)]
#[command(after_help = WHOAMI_EXAMPLES)]
pub(crate) struct WhoamiFlags {
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    #[command(flatten)]
    Roles(RoleCommand),
    /// Show the principal of the token in use, and its roles
    #[command(after_help = examples::WHOAMI)]
    Whoami,
    /// Show the principal of another token, and what the token may do; reads it from --token-file, or asks for it
    #[command(after_help = examples::CHECK)]
    Check,
    /// Show who has changed roles and tokens, deleted data, read or restored backups, and signed in
    Audit(AuditFlags),
    /// List the links that sign a browser in once, and were not opened yet; for this project only
    #[command(after_help = examples::LINKS)]
    Links(LinkListFlags),
    /// Revoke a link that was not opened yet, and is for this project only
    #[command(after_help = examples::REVOKE_LINK)]
    RevokeLink(LinkRevocationFlags),
    /// Create, list and revoke tokens
    #[command(subcommand, after_help = examples::TOKEN)]
    Token(TokenCommand),
    /// Give the operator a new token if the old one is lost, without a server
    #[command(after_help = examples::RECOVER)]
    Recover,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// List who has which role in the project
    #[command(visible_alias = "list", after_help = examples::LS)]
    Ls {
        /// List the roles in all projects, and disabled principals without a role
        #[arg(long)]
        everywhere: bool,
    },
    /// Give a principal a role, instead of the role that it has there
    #[command(after_help = examples::GRANT)]
    Grant {
        /// Name of a person or a service; `anonymous` is everyone who sends no token
        principal: String,
        role: RoleName,
        /// In all projects, also in projects that are created later
        #[arg(long)]
        everywhere: bool,
        /// Skip the confirmation before everyone may read all projects
        #[arg(long, short)]
        yes: bool,
    },
    /// Take a role from a principal, with its tokens for the project
    #[command(after_help = examples::REVOKE)]
    Revoke {
        /// Name of the person or the service
        principal: String,
        /// The role in all projects, not the role in one
        #[arg(long)]
        everywhere: bool,
        /// Keep its tokens for the project, which work again with a new role
        #[arg(long)]
        keep_tokens: bool,
    },
    /// Give a principal a role, and print a link that signs a browser in once
    Invite(InviteFlags),
    /// End all sessions and tokens of a principal, and refuse it new ones; its roles stay
    #[command(after_help = examples::DISABLE)]
    Disable {
        /// Name of the person or the service
        principal: String,
        /// Do not ask for confirmation
        #[arg(long, short)]
        yes: bool,
    },
    /// Let a principal sign in again, with the roles that it has
    #[command(after_help = examples::ENABLE)]
    Enable {
        /// Name of the person or the service
        principal: String,
    },
    /// Take all roles, sessions and tokens from a principal
    #[command(visible_alias = "rm", after_help = examples::REMOVE)]
    Remove {
        /// Name of the person or the service
        principal: String,
        /// Do not ask for confirmation
        #[arg(long, short)]
        yes: bool,
    },
}

/// A role on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleName {
    Monitor,
    Ingest,
    Viewer,
    Writer,
    Editor,
    Owner,
    Operator,
}

impl RoleName {
    pub(super) fn role(self) -> Role {
        match self {
            Self::Monitor => Role::Monitor,
            Self::Ingest => Role::Ingest,
            Self::Viewer => Role::Viewer,
            Self::Writer => Role::Writer,
            Self::Editor => Role::Editor,
            Self::Owner => Role::Owner,
            Self::Operator => Role::Operator,
        }
    }
}

impl AccessFlags {
    /// True for the command that needs no server, but the store.
    pub(crate) fn is_recovery(&self) -> bool {
        matches!(self.command, AccessCommand::Recover)
    }
}

/// `matyan whoami`.
pub(super) async fn run_whoami(flags: WhoamiFlags) -> Result<(), Error> {
    let out = &mut Output::new(flags.client.connection.json);
    whoami(&flags.client, out).await
}

/// The client of the service.
type AccessClient = AccessServiceClient<Connection>;

pub(super) async fn run(flags: AccessFlags) -> Result<(), Error> {
    let out = &mut Output::new(flags.client.connection.json);
    let AccessFlags { command, client } = flags;
    match command {
        AccessCommand::Roles(command) => run_on_roles(command, &client, out).await,
        AccessCommand::Whoami => whoami(&client, out).await,
        AccessCommand::Check => check::run(&client, out).await,
        AccessCommand::Audit(flags) => {
            let audit = &mut client!(AuditServiceClient, client.connect().await?);
            audit::run(audit, flags, out).await
        }
        AccessCommand::Links(flags) => {
            let access = &mut client!(AccessServiceClient, client.connect().await?);
            links::list(access, flags, out).await
        }
        AccessCommand::RevokeLink(flags) => {
            let access = &mut client!(AccessServiceClient, client.connect().await?);
            links::revoke(access, flags, out).await
        }
        AccessCommand::Token(TokenCommand::Generate) => tokens::generate(out),
        AccessCommand::Token(TokenCommand::Digest) => tokens::digest(&client, out),
        AccessCommand::Token(command) => {
            let access = &mut client!(AccessServiceClient, client.connect().await?);
            tokens::run(access, command, out).await
        }
        AccessCommand::Recover => unreachable!("needs no server, and is handled before a connection is made"),
    }
}

async fn run_on_roles(command: RoleCommand, client: &ClientFlags, out: &mut Output) -> Result<(), Error> {
    if let RoleCommand::Remove { principal, yes: false } = &command {
        confirm(&format!("all roles and tokens of {principal}"), out)?;
    }
    if let RoleCommand::Disable { principal, yes: false } = &command {
        confirm(&format!("all sessions and tokens of {principal}"), out)?;
    }
    if let RoleCommand::Grant { principal, everywhere: true, yes: false, .. } = &command
        && principal == ANONYMOUS
    {
        confirm_for_everyone("all projects, including future ones", out)?;
    }
    let mut access = client!(AccessServiceClient, client.connect().await?);
    match command {
        RoleCommand::Ls { everywhere: true } => {
            let listed = access.list_all_grants(ListAllGrantsRequest {}).await?.into_inner();
            print(&listed.grants, &listed.disabled, out)
        }
        RoleCommand::Ls { everywhere: false } => {
            print(&access.list_grants(ListGrantsRequest {}).await?.into_inner().grants, &[], out)
        }
        RoleCommand::Grant { principal, role, everywhere, yes: _ } => {
            let granted = grant(&mut access, principal, role, everywhere, out).await?;
            print(&[granted], &[], out)
        }
        RoleCommand::Revoke { principal, everywhere, keep_tokens } => {
            revoke(&mut access, principal, everywhere, keep_tokens, out).await
        }
        RoleCommand::Invite(invite) => tokens::invite(&mut access, invite, client, out).await,
        RoleCommand::Disable { principal, yes: _ } => {
            let request = DisablePrincipalRequest { principal: principal.clone() };
            access.disable_principal(request).await.map_err(unknown_principal)?;
            let line = format!(
                "{}  is disabled, and has no sessions and no tokens any more, within 30 s",
                cell(&principal)
            );
            Ok(out.result(&json!({"principal": principal, "disabled": true}), line)?)
        }
        RoleCommand::Enable { principal } => {
            let request = EnablePrincipalRequest { principal: principal.clone() };
            access.enable_principal(request).await.map_err(unknown_principal)?;
            let line = format!("{}  may sign in again, {}", cell(&principal), way_in(&principal));
            Ok(out.result(&json!({"principal": principal, "disabled": false}), line)?)
        }
        RoleCommand::Remove { principal, yes: _ } => {
            let request = RemovePrincipalRequest { principal: principal.clone() };
            let removed = access.remove_principal(request).await.map_err(unknown_principal)?;
            let disabled = removed.into_inner().disabled;
            let line = removal_text(&principal, disabled);
            Ok(out.result(&json!({"principal": principal, "disabled": disabled}), line)?)
        }
    }
}

/// The outcome of a removal.
fn removal_text(principal: &str, is_disabled: bool) -> String {
    let name = cell(principal);
    let text = format!("{name}  has no roles and no tokens any more, within 30 s");
    if is_disabled {
        format!(
            "{text}; it signs in with a provider, and is disabled so that its groups do not bring it back: `matyan access enable \
             {name}` lets it in again"
        )
    } else {
        text
    }
}

/// The way to sign in for a principal without a session or a token.
fn way_in(principal: &str) -> &'static str {
    match principal.split_once(':') {
        Some((GITHUB, _)) => "with GitHub",
        Some((OIDC, _)) => "with its provider",
        _ => "with a new link or token",
    }
}

/// The error of a call, with a next step if something other than the project does not exist.
fn or_missing(status: Status, next_step: &str) -> Error {
    let is_missing = status.code() == Code::NotFound && !is_about_project(&status);
    match Error::from(status) {
        Error::Message(message) if is_missing => Error::Message(format!("{message}{next_step}")),
        error => error,
    }
}

/// The error of a revocation by id. In a project, a revocation finds only credentials that are for this project alone.
fn revocation_error(status: Status) -> Error {
    let next_step = " that is for this project only: `--project NAME` names another project, and operators use `--everywhere`";
    or_missing(status, next_step)
}

/// The error of a change of a principal.
fn unknown_principal(status: Status) -> Error {
    or_missing(status, ": `matyan access ls --everywhere` lists all principals with a role")
}

/// Refuses a token or a link in place of its id, and does not repeat the text. `list` is the command that shows ids.
fn check_id(text: &str, list: &str) -> Result<(), Error> {
    if AccessToken::masked(text) == text {
        return Ok(());
    }
    let own_id = AccessToken::find(text).map(|token| format!(" {}", token.digest().id()));
    Err(Error::Message(format!(
        "nothing was done: give the id{} instead of the secret itself; `matyan access {list}` shows ids",
        own_id.unwrap_or_default()
    )))
}

/// The notice after the revocation of a role that groups give; `None` for a role that someone has granted.
fn group_warning(held: &PrincipalRole) -> Option<String> {
    let name = cell(&held.principal);
    (!held.provider.is_empty()).then(|| {
        format!(
            "groups of {} give {name} this role again when {name} signs in: take {name} out of the group there, or use `matyan \
             access disable {name}`",
            cell(&held.provider)
        )
    })
}

/// Shows the principal of the token. Asks outside of any project, because the principal may have no role in it.
async fn whoami(client: &ClientFlags, out: &mut Output) -> Result<(), Error> {
    let mut access = client!(AccessServiceClient, client.connection.connect().await?);
    let caller = access.get_caller(GetCallerRequest {}).await?.into_inner();
    show_caller(&caller, out)?;
    let asked = project_of_url(&client.connection.server)?.or(client.project.as_deref()).unwrap_or_default();
    let is_known = |role: &PrincipalRole| role.project.as_deref().is_none_or(|project| project == asked);
    let is_asked = !asked.is_empty() || caller.roles.is_empty();
    if !out.json && is_asked && !caller.roles.iter().any(is_known) {
        let principal = cell(&caller.principal);
        notice(format!(
            "{principal} has no role in {}: ask an owner or an operator for one",
            shown_name(asked)
        ));
    }
    Ok(())
}

/// Shows a principal with its roles, and the limits of its token.
fn show_caller(caller: &GetCallerResponse, out: &mut Output) -> Result<(), Error> {
    if out.json {
        let roles: Vec<_> = caller.roles.iter().map(object).collect();
        let limit = (caller.token_role() != Role::Unspecified).then(|| role_name(caller.token_role()));
        let token = json!({"limit": limit, "project": caller.token_project});
        return Ok(out.object(&json!({"principal": caller.principal, "roles": roles, "token": token}))?);
    }
    out.line(format!("{}\n", cell(&caller.principal)))?;
    print(&caller.roles, &[], out)?;
    if let Some(limits) = limits_text(caller) {
        notice(format!("the token is limited to {limits}"));
    }
    Ok(())
}

/// The limits of a token, such as `viewer in speech`; `None` for a token without limits.
fn limits_text(caller: &GetCallerResponse) -> Option<String> {
    let role = (caller.token_role() != Role::Unspecified).then(|| role_name(caller.token_role()));
    match (role, caller.token_project.as_deref()) {
        (None, None) => None,
        (Some(role), None) => Some(format!("the role {role}")),
        (None, Some(project)) => Some(format!("the project {}", shown_name(project))),
        (Some(role), Some(project)) => Some(format!("the role {role} in {}", shown_name(project))),
    }
}

/// Grants a role, and names the role that it replaces.
async fn grant(
    access: &mut AccessClient,
    principal: String,
    role: RoleName,
    everywhere: bool,
    out: &Output,
) -> Result<PrincipalRole, Error> {
    let held = held_role(access, &principal, everywhere).await?;
    let role = role.role();
    let (granted, unknown_provider) = if everywhere {
        let request = GrantEverywhereRequest { principal, role: role.into() };
        let answer = access.grant_everywhere(request).await?.into_inner();
        (answer.grant, answer.unknown_provider)
    } else {
        let answer = access.grant(GrantRequest { principal, role: role.into() }).await?.into_inner();
        (answer.grant, answer.unknown_provider)
    };
    let granted = granted.unwrap_or_default();
    if let Some(unknown) = unknown_provider {
        notice(unknown_provider_text(&granted.principal, &unknown.providers));
    }
    if let Some(held) = held.filter(|held| held.role() != role && !out.json) {
        let name = cell(&held.principal);
        notice(format!("{name} was {}; {} replaces it", role_text(&held), role_name(role)));
    }
    Ok(granted)
}

/// The notice after a grant to a name such as `gitlab:ana`, if the server has other providers, or none.
fn unknown_provider_text(principal: &str, providers: &[SignInProvider]) -> String {
    let name = cell(principal);
    let known = providers.iter().map(|it| format!("`{}:` ({})", cell(&it.id), cell(&it.title)));
    let known = known.collect::<Vec<_>>().join(" or ");
    let reason = if known.is_empty() {
        "this server has no provider with which people sign in".to_owned()
    } else {
        format!("names of people who sign in with a provider begin with {known} here")
    };
    format!("nobody signs in as {name}: {reason}. The role is granted, and {name} can use links and tokens")
}

/// Takes a role from a principal, and, unless they are kept, its tokens for the project. Tokens for all projects
/// stay: they carry its other roles.
async fn revoke(
    access: &mut AccessClient,
    principal: String,
    everywhere: bool,
    keep_tokens: bool,
    out: &mut Output,
) -> Result<(), Error> {
    let held = held_role(access, &principal, everywhere).await?;
    let mut revoked = Vec::new();
    if held.is_some() && !everywhere && !keep_tokens {
        let tokens = access.list_tokens(ListTokensRequest {}).await?.into_inner().tokens;
        for token in tokens.into_iter().filter(|token| token.principal == principal) {
            access.revoke_token(RevokeTokenRequest { id: token.id.clone() }).await?;
            revoked.push(token.id);
        }
    }
    let without_role = |status| {
        or_missing(status, ": `matyan access ls` lists the roles, with `--everywhere` in all projects")
    };
    if everywhere {
        let request = RevokeEverywhereRequest { principal: principal.clone() };
        access.revoke_everywhere(request).await.map_err(without_role)?;
    } else {
        access.revoke(RevokeRequest { principal: principal.clone() }).await.map_err(without_role)?;
    }
    let role = held.as_ref().map(role_text).unwrap_or_default();
    let tokens = match revoked.len() {
        0 => String::new(),
        1 => ", with 1 token".to_owned(),
        count => format!(", with {count} tokens"),
    };
    if let Some(warning) = held.as_ref().and_then(group_warning) {
        notice(warning);
    }
    let line = format!("{}  loses the role {role}{tokens}, within 30 s", cell(&principal));
    Ok(out.result(&json!({"principal": principal, "revoked_tokens": revoked}), line)?)
}

/// The role that a principal has in the project, or in all of them. `None` also for a caller who may not see it: the change
/// itself is refused then, and the audit log has an entry of it.
async fn held_role(
    access: &mut AccessClient,
    principal: &str,
    everywhere: bool,
) -> Result<Option<PrincipalRole>, Error> {
    let listed = if everywhere {
        access.list_all_grants(ListAllGrantsRequest {}).await.map(|answer| answer.into_inner().grants)
    } else {
        access.list_grants(ListGrantsRequest {}).await.map(|answer| answer.into_inner().grants)
    };
    let grants = match listed {
        Err(status) if status.code() == Code::PermissionDenied => return Ok(None),
        listed => listed?,
    };
    Ok(grants.into_iter().find(|grant| grant.principal == principal && grant.project.is_none() == everywhere))
}

/// A role with its project, such as `editor in speech`.
fn role_text(grant: &PrincipalRole) -> String {
    let place = grant.project.as_deref().map_or_else(|| "all projects".to_owned(), shown_name);
    format!("{} in {place}", role_name(grant.role()))
}

/// The name of a role, as in the command.
fn role_name(role: Role) -> &'static str {
    matyan_access::Role::from_proto(role).map_or("unspecified", matyan_access::Role::name)
}

/// The project of a role or a token, for people.
fn place(project: Option<&str>) -> String {
    project.map_or_else(|| "(all)".to_owned(), shown_name)
}

fn object(grant: &PrincipalRole) -> Value {
    json!({
        "principal": grant.principal,
        "role": role_name(grant.role()),
        "everywhere": grant.project.is_none(),
        "project": grant.project,
        "granted": grant.granted_us as f64 / 1e6,
        "granted_by": grant.granted_by,
        "provider": (!grant.provider.is_empty()).then_some(&grant.provider),
        "disabled": grant.disabled,
    })
}

/// A principal without a role that is disabled, with the members of a role.
fn object_without_role(principal: &str) -> Value {
    json!({
        "principal": principal,
        "role": null,
        "everywhere": false,
        "project": null,
        "granted": null,
        "granted_by": null,
        "provider": null,
        "disabled": true,
    })
}

/// Prints roles, and then principals without a role that are disabled.
fn print(grants: &[PrincipalRole], disabled: &[String], out: &mut Output) -> Result<(), Error> {
    if out.json {
        let without_role = disabled.iter().map(|principal| object_without_role(principal));
        let mut objects = grants.iter().map(object).chain(without_role);
        return Ok(objects.try_for_each(|object| out.object(&object))?);
    }
    let without_role = disabled.iter().map(|principal| row_without_role(principal));
    let rows: Vec<_> = grants.iter().map(row).chain(without_role).collect();
    Ok(out.table(["PRINCIPAL", "ROLE", "PROJECT", "GRANTED (UTC)", "BY"], &rows)?)
}

fn row_without_role(principal: &str) -> [String; 5] {
    [
        format!("{} (disabled)", cell(principal)),
        "(none)".to_owned(),
        String::new(),
        String::new(),
        String::new(),
    ]
}

fn row(grant: &PrincipalRole) -> [String; 5] {
    let disabled = if grant.disabled { " (disabled)" } else { "" };
    let by = if grant.provider.is_empty() {
        cell(&grant.granted_by)
    } else {
        format!("groups of {}", cell(&grant.provider))
    };
    [
        format!("{}{disabled}", cell(&grant.principal)),
        role_name(grant.role()).to_owned(),
        place(grant.project.as_deref()),
        moment(grant.granted_us),
        by,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_84_answers_say_how_someone_with_a_provider_stays_out() {
        let text = removal_text("github:bob", true);
        assert!(text.contains("is disabled so that its groups do not bring it back"), "{text}");
        assert!(text.contains("`matyan access enable github:bob`"), "{text}");
        assert_eq!(removal_text("ana", false), "ana  has no roles and no tokens any more, within 30 s");
        let granted = PrincipalRole { principal: "github:bob".to_owned(), ..PrincipalRole::default() };
        assert_eq!(group_warning(&granted), None);
        let warning = group_warning(&PrincipalRole { provider: "github".to_owned(), ..granted }).unwrap();
        assert!(warning.contains("groups of github give github:bob this role again"), "{warning}");
        assert!(warning.contains("`matyan access disable github:bob`"), "{warning}");
    }

    #[test]
    fn a_principal_that_is_enabled_signs_in_as_before() {
        for (principal, expected) in [
            ("github:ana", "with GitHub"),
            ("oidc:ana@example.org", "with its provider"),
            ("service:ci", "with a new link or token"),
            ("github", "with a new link or token"),
        ] {
            assert_eq!(way_in(principal), expected, "{principal}");
        }
    }

    #[test]
    fn a_grant_to_a_name_of_another_provider_names_those_of_the_server() {
        let provider = |id: &str, title: &str| SignInProvider { id: id.to_owned(), title: title.to_owned() };
        let text = unknown_provider_text("gitlab:ana", &[provider("oidc", "GitLab")]);
        assert!(text.starts_with("nobody signs in as gitlab:ana: names of people"), "{text}");
        assert!(text.contains("begin with `oidc:` (GitLab) here"), "{text}");
        let two = [provider("oidc", "GitLab"), provider("github", "GitHub")];
        let text = unknown_provider_text("google:ana", &two);
        assert!(text.contains("`oidc:` (GitLab) or `github:` (GitHub)"), "{text}");
        let text = unknown_provider_text("oidc:ana", &[]);
        assert!(text.contains("this server has no provider") && text.contains("links and tokens"), "{text}");
    }

    #[test]
    fn a_missing_principal_leads_to_the_list() {
        let text = unknown_principal(Status::not_found("there is no principal `bo`")).to_string();
        assert!(text.starts_with("there is no principal `bo`: `matyan access ls"), "{text}");
    }

    #[test]
    fn a_secret_in_place_of_an_id_is_not_repeated() {
        check_id("0123abcd", "token ls").unwrap();
        let token = AccessToken::generate(&mut rand::rng());
        for secret in [token.reveal(), &token.reveal()[..20], "mtl_secret"] {
            let error = check_id(secret, "token ls").unwrap_err().to_string();
            assert!(error.contains("`matyan access token ls`") && !error.contains(secret), "{error}");
            let is_whole = secret == token.reveal();
            assert_eq!(error.contains(&token.digest().id()), is_whole, "{error}");
        }
    }

    #[test]
    fn a_revocation_that_finds_nothing_names_the_flags_for_other_projects() {
        let text = revocation_error(Status::not_found("there is no token `0123`")).to_string();
        assert!(text.starts_with("there is no token `0123` that is for this project only: "), "{text}");
        assert!(text.contains("`--project NAME`") && text.contains("`--everywhere`"), "{text}");
        let text = revocation_error(Status::permission_denied("this needs the role owner")).to_string();
        assert_eq!(text, "this needs the role owner");
    }
}
