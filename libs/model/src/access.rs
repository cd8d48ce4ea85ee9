//! Access control: principals, the roles that are granted to them, and their credentials.
//!
//! A principal is a name, which exists from its first role on, until it has neither a role nor a token. A credential is
//! known by the digest of its secret, so the store contains no secret. This module does not decide whether a caller may
//! do something: it reads the rows, and `matyan-access` decides.
//!
//! A program without access control would ask no one for a credential. It refuses the store because of its format.

mod refusal;

mod credential;

mod principal;

mod identity;

mod login;

pub use credential::{
    Credential, CredentialKind, Digest, Link, PendingLogin, SESSION_IDLE_US, Session, credential_find,
    credential_take, credentials_list, credentials_sweep, session_end, session_renew,
};
pub use identity::{GroupRoleChange, ProvidedIdentity, ProvidedSignIn, UsedState, identity_sign_in};
pub use login::{TypedCode, code_type, login_put};
pub use principal::{
    ANONYMOUS, Grant, Identity, PrincipalRemoval, credential_put, credential_remove, credential_replace,
    grant_put, grant_remove, grants_list, grants_of, operator_token_put, principal_disable, principal_enable,
    principal_is_active, principal_remove, principals_disabled, principals_sweep,
};
pub use refusal::AccessRefusal;

use matyan_store::{Result, Scan, Snapshot};

use crate::keys;

/// The credential with this digest and the roles of its principal, if a caller may show it and it has not expired.
pub async fn access_find(
    snapshot: &dyn Snapshot,
    digest: &Digest,
    now_us: i64,
) -> Result<Option<(Credential, Vec<Grant>)>> {
    let Some(credential) = credential::credential_of_caller(snapshot, digest, now_us).await? else {
        return Ok(None);
    };
    if !principal_is_active(snapshot, &credential.principal).await? {
        return Ok(None);
    }
    let grants = grants_of(snapshot, &credential.principal).await?;
    Ok(Some((credential, grants)))
}

/// The roles of everyone who shows no credential.
pub async fn anonymous_grants(snapshot: &dyn Snapshot) -> Result<Vec<Grant>> {
    if principal_is_active(snapshot, ANONYMOUS).await? {
        grants_of(snapshot, ANONYMOUS).await
    } else {
        Ok(Vec::new())
    }
}

/// Whether the store has rows of access control.
pub async fn access_is_used(snapshot: &dyn Snapshot) -> Result<bool> {
    for range in [keys::principals(), keys::grants(), keys::credentials()] {
        let scan = Scan { rows: 1, keys_only: true, ..Scan::default() };
        if !snapshot.scan(&range, scan).await?.rows.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
