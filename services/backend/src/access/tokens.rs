//! Tokens of principals. The text of a token is in the response to its creation and nowhere else.

use matyan_access::{AccessToken, RightSet};
use matyan_model::access::{
    ANONYMOUS, Credential, CredentialKind, Grant, credential_put, credential_remove, credentials_list,
    grants_of,
};
use matyan_proto::{
    access::v1::{self as pb, Role},
    limits,
};
use matyan_store::{Transaction, transact};

use super::grants::check_principal;
use crate::server::{
    audit::audit_resource,
    call::Call,
    convert,
    deps::Deps,
    error::{Error, Result},
};

const DAY_S: u64 = 24 * 60 * 60;
const DEFAULT_LIFETIME_S: u64 = 90 * DAY_S;
const MAX_LIFETIME_S: u64 = 366 * DAY_S;

/// Digits of an id that are enough to name a credential.
const MIN_ID_DIGITS: usize = 4;

/// A token to be created.
pub(super) struct NewToken {
    pub(super) principal: String,
    pub(super) label: String,
    /// 0: the default.
    pub(super) lifetime_s: u64,
    /// The largest role of the token. Unspecified: all roles of the principal.
    pub(super) role: Role,
    /// The only project of the token; `None` for all projects of the principal.
    pub(super) project: Option<String>,
}

fn view(credential: Credential) -> pb::TokenInfo {
    let id = credential.id();
    let Credential { principal, label, created_us, created_by, expires_us, project, role, .. } = credential;
    let role = role.unwrap_or(Role::Unspecified).into();
    pb::TokenInfo { id, principal, label, created_us, created_by, expires_us, project, role }
}

/// The tokens that are limited to a project, or all tokens, including tokens that expired recently.
pub(super) async fn list(deps: &Deps, project: Option<&str>) -> Result<Vec<pb::TokenInfo>> {
    let snapshot = deps.store.snapshot().await?;
    let listed = credentials_list(snapshot.as_ref()).await?;
    let now_us = (deps.clock)();
    let is_shown = |token: &Credential| is_in(token, project) && token.is_listed(now_us);
    Ok(listed.into_iter().filter(is_shown).map(view).collect())
}

/// Whether a credential is limited to a project; without a project, true for every credential.
pub(super) fn is_in(credential: &Credential, project: Option<&str>) -> bool {
    project.is_none() || credential.project.as_deref() == project
}

/// The only one of these credentials whose id starts with this text. `kind`: the noun for them.
pub(super) fn only_with_id(
    credentials: impl Iterator<Item = Credential>,
    kind: &'static str,
    id: &str,
) -> Result<Credential> {
    if id.len() < MIN_ID_DIGITS {
        return Err(Error::field("id", format!("has fewer than 4 digits: give more of the {kind}'s id")));
    }
    let mut found = credentials.filter(|credential| credential.id().starts_with(id));
    // People paste tokens and links where ids belong.
    let only = found.next().ok_or_else(|| Error::not_found(kind, AccessToken::masked(id)))?;
    if found.next().is_some() {
        let reason = format!("is the start of several ids: give more digits of the {kind}'s id");
        return Err(Error::field("id", reason));
    }
    Ok(only)
}

/// The roles of a principal.
pub(super) async fn roles_of(deps: &Deps, principal: &str) -> Result<Vec<Grant>> {
    let snapshot = deps.store.snapshot().await?;
    Ok(grants_of(snapshot.as_ref(), principal).await?)
}

/// Refuses a token or a link of a project for a principal that has no role there: an owner must not learn who has roles in
/// other projects. Refuses it also for a principal that has roles in all projects, except by an operator: an owner could
/// act under the name of an operator. `kind` is the noun for the refused credential.
pub(super) async fn check_principal_of_project(
    deps: &Deps,
    call: &Call,
    (principal, granted): (&str, &[Grant]),
    kind: &str,
) -> Result<()> {
    if principal == call.caller {
        return Ok(());
    }
    let is_there =
        |project: &Option<String>| project.as_ref().is_none_or(|project| *project == call.project_name);
    if !granted.iter().any(|grant| is_there(&grant.project)) {
        return Err(Error::without_role_in(&call.project_name, principal));
    }
    let own = roles_of(deps, &call.caller).await?;
    let is_operator = own.iter().any(|grant| grant.role == Role::Operator);
    if is_operator || granted.iter().all(|grant| grant.project.is_some()) {
        return Ok(());
    }
    let reason = format!(
        "has a role in all projects: only the principal itself or an operator creates a {kind} for it"
    );
    Err(Error::field("principal", reason))
}

/// Creates a token. Returns the token with its text.
pub(super) async fn create(deps: &Deps, call: &Call, new: NewToken) -> Result<(pb::TokenInfo, String)> {
    let NewToken { principal, label, lifetime_s, role, project } = new;
    audit_resource(&principal);
    check_principal(&principal)?;
    if principal == ANONYMOUS {
        return Err(Error::field("principal", "is `anonymous`, which has no token: choose another name"));
    }
    let granted = roles_of(deps, &principal).await?;
    if project.is_some() {
        check_principal_of_project(deps, call, (&principal, &granted), "token").await?;
    }
    check_limit((&principal, &granted), project.as_deref(), role)?;
    let now_us = (deps.clock)();
    let token = (deps.new_token)();
    let credential = Credential {
        digest: token.digest().0,
        kind: CredentialKind::Token,
        principal,
        label: convert::bounded_text("label", &label, limits::NAME_BYTES)?,
        created_us: now_us,
        created_by: call.caller.clone(),
        expires_us: Some(now_us.saturating_add(lifetime_us(lifetime_s)?)),
        project,
        role: (role != Role::Unspecified).then_some(role),
    };
    put_credential(deps, &credential).await?;
    audit_resource(format_args!("{} token {}", credential.principal, credential.id()));
    Ok((view(credential), token.reveal().to_owned()))
}

/// Refuses a limit with rights that the principal lacks: the token would silently gain them with a later role.
fn check_limit((principal, granted): (&str, &[Grant]), project: Option<&str>, limit: Role) -> Result<()> {
    let Some(limit) = matyan_access::Role::from_proto(limit) else { return Ok(()) };
    let is_there =
        |grant: &&Grant| project.is_none() || grant.project.is_none() || grant.project.as_deref() == project;
    let held =
        granted.iter().filter(is_there).filter_map(|grant| matyan_access::Role::from_proto(grant.role));
    let rights = held.fold(RightSet::NONE, |rights, role| rights | role.rights());
    // Without any role, the principal itself is refused.
    if granted.is_empty() || rights.contains_all(limit.rights()) {
        return Ok(());
    }
    Err(Error::field(
        "role",
        format!(
            "is `{}`, which has rights that `{principal}` does not have there: choose a smaller role, or none",
            limit.name()
        ),
    ))
}

/// Stores a credential of a principal who exists and is not disabled.
pub(super) async fn put_credential(deps: &Deps, credential: &Credential) -> Result<()> {
    let (put, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let put = credential_put(&mut transaction, credential).await?;
        Ok::<_, Error>((transaction, put))
    })
    .await?;
    put.map_err(|refusal| Error::of_access(refusal, &credential.principal))
}

/// Ends the token with which a call was made, in any case or only if a program got it by a code. `id` is the token's
/// id; a call of a browser has the id of a session. Returns the token that has ended.
pub(super) async fn end_login(
    deps: &Deps,
    caller: &str,
    id: &str,
    force: bool,
) -> Result<Option<pb::TokenInfo>> {
    if caller == ANONYMOUS {
        let reason = "this call ends the token that is sent with it, and none was sent";
        return Err(Error::SignInFailed(reason.to_owned()));
    }
    let is_own = |token: &Credential| token.is_token() && token.principal == caller && token.id() == id;
    let (ended, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let listed = credentials_list(transaction.unchecked()).await?;
        let token = listed.into_iter().find(is_own);
        let token = token.filter(|token| force || token.kind == CredentialKind::LoginToken);
        if let Some(token) = &token {
            // A call that ends nothing has no entry.
            audit_resource(format_args!("{caller} token {id}"));
            credential_remove(&mut transaction, token).await?;
        }
        Ok::<_, Error>((transaction, token))
    })
    .await?;
    Ok(ended.map(view))
}

fn lifetime_us(lifetime_s: u64) -> Result<i64> {
    let lifetime_s = if lifetime_s == 0 { DEFAULT_LIFETIME_S } else { lifetime_s };
    if lifetime_s > MAX_LIFETIME_S {
        return Err(Error::field("lifetime_s", "is more than 366 days: choose a shorter time"));
    }
    Ok(i64::try_from(lifetime_s * 1_000_000).unwrap_or(i64::MAX))
}

/// Revokes the token whose id starts like this.
pub(super) async fn revoke(deps: &Deps, id: &str, project: Option<&str>) -> Result<pb::TokenInfo> {
    audit_resource(format_args!("token {id}"));
    let (revoked, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let listed = credentials_list(transaction.unchecked()).await?;
        let tokens = listed.into_iter().filter(|token| token.is_token() && is_in(token, project));
        let token = only_with_id(tokens, "token", id)?;
        credential_remove(&mut transaction, &token).await?;
        Ok::<_, Error>((transaction, token))
    })
    .await?;
    audit_resource(format_args!("{} token {}", revoked.principal, revoked.id()));
    Ok(view(revoked))
}
