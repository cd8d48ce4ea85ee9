//! One-time links, with which an invited person signs a browser in. The text of a link is in the response to its
//! creation and nowhere else: a list of links has their ids.

use matyan_access::SecretKind;
use matyan_model::access::{ANONYMOUS, Credential, CredentialKind, Link, credential_take, credentials_list};
use matyan_proto::access::v1::{self as pb, Role};
use matyan_store::{Transaction, transact};

use super::{
    grants::check_principal,
    tokens::{check_principal_of_project, is_in, only_with_id, put_credential, roles_of},
};
use crate::server::{
    audit::audit_resource,
    call::Call,
    convert,
    deps::Deps,
    error::{Error, Result},
};

const DEFAULT_LIFETIME_S: u64 = 15 * 60;
const MAX_LIFETIME_S: u64 = 7 * 24 * 60 * 60;

/// Longest name of a host.
const HOST_BYTES: usize = 253;

/// A link to be created.
pub(super) struct NewLink {
    pub(super) principal: String,
    /// The largest role of the session. Unspecified: all roles of the principal.
    pub(super) role: Role,
    /// 0: the default.
    pub(super) lifetime_s: u64,
    /// The only host name of the link; empty: any.
    pub(super) host: String,
    /// The only project of the session; `None` for all projects of the principal.
    pub(super) project: Option<String>,
}

/// Creates a link. Returns its secret, and the time at which it expires.
pub(super) async fn create(deps: &Deps, call: &Call, new: NewLink) -> Result<(String, i64)> {
    let NewLink { principal, role, lifetime_s, host, project } = new;
    audit_resource(&principal);
    check_principal(&principal)?;
    if principal == ANONYMOUS {
        return Err(Error::field("principal", "is `anonymous`, which does not sign in: choose another name"));
    }
    if project.is_some() {
        let granted = roles_of(deps, &principal).await?;
        check_principal_of_project(deps, call, (&principal, &granted), "link").await?;
    }
    let host = convert::bounded_text("host", &host, HOST_BYTES)?.to_ascii_lowercase();
    let now_us = (deps.clock)();
    let expires_us = now_us.saturating_add(lifetime_us(lifetime_s)?);
    let secret = (deps.new_secret)(SecretKind::Link);
    let link = Credential {
        digest: secret.digest().0,
        kind: CredentialKind::Link(Link { host: (!host.is_empty()).then_some(host) }),
        principal,
        label: String::new(),
        created_us: now_us,
        created_by: call.caller.clone(),
        expires_us: Some(expires_us),
        project,
        role: (role != Role::Unspecified).then_some(role),
    };
    put_credential(deps, &link).await?;
    audit_resource(format!("{} link {}", link.principal, link.id()));
    Ok((secret.reveal().to_owned(), expires_us))
}

fn lifetime_us(lifetime_s: u64) -> Result<i64> {
    let lifetime_s = if lifetime_s == 0 { DEFAULT_LIFETIME_S } else { lifetime_s };
    if lifetime_s > MAX_LIFETIME_S {
        return Err(Error::field(
            "lifetime_s",
            "is more than 7 days: choose a shorter time, or create a token",
        ));
    }
    Ok(i64::try_from(lifetime_s * 1_000_000).unwrap_or(i64::MAX))
}

/// `None` for a credential of another kind.
fn view(credential: Credential) -> Option<pb::LinkInfo> {
    let host = credential.as_link()?.host.clone().unwrap_or_default();
    let id = credential.id();
    let Credential { principal, created_us, created_by, expires_us, project, role, .. } = credential;
    let role = role.unwrap_or(Role::Unspecified).into();
    let expires_us = expires_us.unwrap_or(i64::MAX);
    Some(pb::LinkInfo { id, principal, created_us, created_by, expires_us, project, role, host })
}

/// Whether a credential is a link that can be opened.
fn is_open(credential: &Credential, now_us: i64) -> bool {
    credential.as_link().is_some() && !credential.is_expired(now_us)
}

/// The links that are limited to a project, or all links, if they can still be opened.
pub(super) async fn list(deps: &Deps, project: Option<&str>) -> Result<Vec<pb::LinkInfo>> {
    let snapshot = deps.store.snapshot().await?;
    let now_us = (deps.clock)();
    let listed = credentials_list(snapshot.as_ref()).await?;
    let links = listed.into_iter().filter(|link| is_open(link, now_us) && is_in(link, project));
    Ok(links.filter_map(view).collect())
}

/// Revokes the link whose id starts like this. Either the link is revoked, or a browser has opened it.
pub(super) async fn revoke(deps: &Deps, id: &str, project: Option<&str>) -> Result<Option<pb::LinkInfo>> {
    audit_resource(format_args!("link {id}"));
    let now_us = (deps.clock)();
    let (revoked, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let listed = credentials_list(transaction.unchecked()).await?;
        let links = listed.into_iter().filter(|link| is_open(link, now_us) && is_in(link, project));
        let link = only_with_id(links, "link", id)?;
        let taken = credential_take(&mut transaction, &link.digest, now_us).await?;
        let taken = taken.ok_or_else(|| Error::not_found("link", id))?;
        Ok::<_, Error>((transaction, taken))
    })
    .await?;
    audit_resource(format_args!("{} link {}", revoked.principal, revoked.id()));
    Ok(view(revoked))
}
