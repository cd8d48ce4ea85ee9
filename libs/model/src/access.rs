//! Access control: principals, the roles that are granted to them, and their credentials.
//!
//! A principal is a name, which exists from its first role on. A credential is known by the digest of its
//! secret, so the store contains no secret. Whether a caller may do something is not decided here: the
//! rows are read, and `matyan-access` decides.
//!
//! Every write raises the format of the store, so that an older program refuses a store whose callers it
//! would not ask.

use matyan_proto::access::v1::Role;
use matyan_store::{Key, Range, Result, Scan, Snapshot, Transaction, Value};
use minicbor::{Decode, Encode};

use crate::{format::format_raise_for_access, keys, rows};

/// Digest of the secret of a credential.
pub type Digest = [u8; 32];

/// The name of everyone who shows no credential.
pub const ANONYMOUS: &str = "anonymous";

/// Maximum numbers of rows: far more than a team needs, and few enough to be listed at once.
const MAX_PRINCIPALS: usize = 10_000;
const MAX_GRANTS: usize = 20_000;
const MAX_CREDENTIALS: usize = 10_000;

/// Time for which an expired token is listed, so that an owner sees why a script has stopped: 30 days.
const LISTED_AFTER_END_US: i64 = 30 * 24 * 3_600 * 1_000_000;

/// A principal without its roles.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
struct Principal {
    #[n(0)]
    created_us: i64,
    #[n(1)]
    created_by: String,
}

/// A role of a principal in one project, or in all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub principal: String,
    /// Name of the project, which is empty for the default one; `None` for all projects.
    pub project: Option<String>,
    pub role: Role,
    pub granted_us: i64,
    /// Name of the principal that granted it.
    pub granted_by: String,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct GrantRow {
    #[n(0)]
    role: i32,
    #[n(1)]
    granted_us: i64,
    #[n(2)]
    granted_by: String,
}

/// The way in which a credential came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum CredentialKind {
    #[n(0)]
    Token,
    /// The token of the first operator, or of a recovery. At most one is valid; earlier ones stay as expired
    /// rows, so that a file with such a token does not make it valid again.
    #[n(1)]
    OperatorToken,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub digest: Digest,
    pub kind: CredentialKind,
    pub principal: String,
    pub label: String,
    pub created_us: i64,
    /// Name of the principal that created it.
    pub created_by: String,
    /// `None`: never.
    pub expires_us: Option<i64>,
    /// The only project that it is for; `None` for all projects of the principal.
    pub project: Option<String>,
    /// The largest role that it has; `None` for all roles of the principal.
    pub role: Option<Role>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct CredentialRow {
    #[n(0)]
    kind: CredentialKind,
    #[n(1)]
    principal: String,
    #[n(2)]
    label: String,
    #[n(3)]
    created_us: i64,
    #[n(4)]
    created_by: String,
    #[n(5)]
    expires_us: Option<i64>,
    #[n(6)]
    project: Option<String>,
    #[n(7)]
    role: Option<i32>,
}

impl Grant {
    fn decode(key: &Key, value: &Value) -> Result<Self> {
        let (principal, project) = keys::decode_grant(key)?;
        let GrantRow { role, granted_us, granted_by } = rows::decode(key, value)?;
        Ok(Self { principal, project, role: decode_role(key, role)?, granted_us, granted_by })
    }

    fn key(&self) -> Key {
        keys::grant(&self.principal, self.project.as_deref())
    }

    fn encode(&self) -> Value {
        let granted_by = self.granted_by.clone();
        rows::encode(&GrantRow { role: self.role.into(), granted_us: self.granted_us, granted_by })
    }
}

impl Credential {
    fn decode(key: &Key, value: &Value) -> Result<Self> {
        let digest = keys::decode_credential(key)?;
        let row: CredentialRow = rows::decode(key, value)?;
        let role = row.role.map(|role| decode_role(key, role)).transpose()?;
        let CredentialRow { kind, principal, label, created_us, created_by, expires_us, project, .. } = row;
        Ok(Self { digest, kind, principal, label, created_us, created_by, expires_us, project, role })
    }

    fn encode(&self) -> Value {
        let Self { kind, principal, label, created_us, created_by, expires_us, project, role, digest: _ } =
            self.clone();
        let role = role.map(i32::from);
        rows::encode(&CredentialRow {
            kind,
            principal,
            label,
            created_us,
            created_by,
            expires_us,
            project,
            role,
        })
    }

    /// The name of the credential in lists: the first digits of its digest.
    pub fn id(&self) -> String {
        hex(&self.digest[..8])
    }

    /// Whether owners still see the credential: while it is valid, and for some time after its end.
    pub fn is_listed(&self, now_us: i64) -> bool {
        !self.is_expired(now_us.saturating_sub(LISTED_AFTER_END_US))
    }

    pub fn is_expired(&self, now_us: i64) -> bool {
        self.expires_us.is_some_and(|expires_us| expires_us <= now_us)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decode_role(key: &Key, number: i32) -> Result<Role> {
    let role = Role::try_from(number).ok().filter(|role| *role != Role::Unspecified);
    role.ok_or_else(|| rows::corrupt(key, &format!("the role {number} is unknown")))
}

/// The credential with this digest, if it has not expired, and the roles of its principal.
pub async fn access_find(
    snapshot: &dyn Snapshot,
    digest: &Digest,
    now_us: i64,
) -> Result<Option<(Credential, Vec<Grant>)>> {
    let key = keys::credential(digest);
    let Some(value) = snapshot.get(&key).await? else { return Ok(None) };
    let credential = Credential::decode(&key, &value)?;
    if credential.is_expired(now_us) || snapshot.get(&keys::principal(&credential.principal)).await?.is_none()
    {
        return Ok(None);
    }
    let grants = grants_of(snapshot, &credential.principal).await?;
    Ok(Some((credential, grants)))
}

/// The roles of a principal. A damaged row is an error, because nobody knows which role it granted.
pub async fn grants_of(snapshot: &dyn Snapshot, principal: &str) -> Result<Vec<Grant>> {
    decode_grants(rows::scan_all(snapshot, &keys::grants_of(principal)).await?)
}

/// All roles of all principals, by principal and project.
pub async fn grants_list(snapshot: &dyn Snapshot) -> Result<Vec<Grant>> {
    decode_grants(rows::scan_all(snapshot, &keys::grants()).await?)
}

fn decode_grants(found: Vec<(Key, Value)>) -> Result<Vec<Grant>> {
    found.iter().map(|(key, value)| Grant::decode(key, value)).collect()
}

/// All credentials, also expired ones, in order of creation.
pub async fn credentials_list(snapshot: &dyn Snapshot) -> Result<Vec<Credential>> {
    let found = rows::scan_all(snapshot, &keys::credentials()).await?;
    let decoded = found.iter().map(|(key, value)| Credential::decode(key, value));
    let mut credentials = decoded.collect::<Result<Vec<_>>>()?;
    credentials.sort_by_key(|credential| (credential.created_us, credential.digest));
    Ok(credentials)
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

/// The reason why a row of access control was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessRefusal {
    TooManyPrincipals {
        limit: usize,
    },
    TooManyGrants {
        limit: usize,
    },
    TooManyCredentials {
        limit: usize,
    },
    /// The principal has never been granted a role, or was removed.
    UnknownPrincipal,
    /// Nobody else would be an operator.
    LastOperator,
}

/// Grants a role, instead of the role that the principal has in the same projects.
pub async fn grant_put(transaction: &mut Transaction, grant: &Grant) -> Result<Result<(), AccessRefusal>> {
    let principal = keys::principal(&grant.principal);
    if transaction.get(&principal).await?.is_none() {
        if read_all(transaction, &keys::principals()).await?.len() >= MAX_PRINCIPALS {
            return Ok(Err(AccessRefusal::TooManyPrincipals { limit: MAX_PRINCIPALS }));
        }
        let created_by = grant.granted_by.clone();
        let row = Principal { created_us: grant.granted_us, created_by };
        transaction.batch().set(principal, rows::encode(&row));
    }
    let key = grant.key();
    if transaction.get(&key).await?.is_none()
        && read_all(transaction, &keys::grants()).await?.len() >= MAX_GRANTS
    {
        return Ok(Err(AccessRefusal::TooManyGrants { limit: MAX_GRANTS }));
    }
    transaction.batch().set(key, grant.encode());
    format_raise_for_access(transaction).await?;
    Ok(Ok(()))
}

/// Takes a role from a principal. Returns whether the principal had one in these projects.
pub async fn grant_remove(
    transaction: &mut Transaction,
    principal: &str,
    project: Option<&str>,
) -> Result<Result<bool, AccessRefusal>> {
    let key = keys::grant(principal, project);
    let was_granted = transaction.get(&key).await?.is_some();
    if was_granted {
        if project.is_none() && is_last_operator(transaction, principal).await? {
            return Ok(Err(AccessRefusal::LastOperator));
        }
        transaction.batch().clear(key);
    }
    Ok(Ok(was_granted))
}

/// Removes a principal with its roles and credentials. Returns whether the principal existed.
pub async fn principal_remove(
    transaction: &mut Transaction,
    principal: &str,
) -> Result<Result<bool, AccessRefusal>> {
    let key = keys::principal(principal);
    if transaction.get(&key).await?.is_none() {
        return Ok(Ok(false));
    }
    if is_last_operator(transaction, principal).await? {
        return Ok(Err(AccessRefusal::LastOperator));
    }
    for (key, value) in read_all(transaction, &keys::credentials()).await? {
        let credential = Credential::decode(&key, &value)?;
        if credential.principal == principal {
            credential_remove(transaction, &credential);
        }
    }
    transaction.batch().clear_range(keys::grants_of(principal));
    transaction.batch().clear(key);
    Ok(Ok(true))
}

/// Whether a principal is the only operator. A commit fails if that changes.
async fn is_last_operator(transaction: &Transaction, principal: &str) -> Result<bool> {
    let grants = decode_grants(read_all(transaction, &keys::grants()).await?)?;
    let mut operators = grants.iter().filter(|grant| grant.role == Role::Operator);
    let is_operator = operators.clone().any(|grant| grant.principal == principal);
    Ok(is_operator && operators.all(|grant| grant.principal == principal))
}

/// Writes a credential of a principal that exists, and clears tokens that expired some time ago, or all expired
/// tokens if there are too many.
pub async fn credential_put(
    transaction: &mut Transaction,
    credential: &Credential,
) -> Result<Result<(), AccessRefusal>> {
    if transaction.get(&keys::principal(&credential.principal)).await?.is_none() {
        return Ok(Err(AccessRefusal::UnknownPrincipal));
    }
    let now_us = credential.created_us;
    let mut count = 0;
    let mut expired = Vec::new();
    for (key, value) in read_all(transaction, &keys::credentials()).await? {
        let other = Credential::decode(&key, &value)?;
        if !other.is_expired(now_us) {
            count += 1;
        } else if other.kind == CredentialKind::Token {
            expired.push((key, other));
        }
    }
    let is_full = count + expired.len() >= MAX_CREDENTIALS;
    for (key, other) in expired {
        if is_full || !other.is_listed(now_us) {
            transaction.batch().clear(key);
        }
    }
    if count >= MAX_CREDENTIALS {
        return Ok(Err(AccessRefusal::TooManyCredentials { limit: MAX_CREDENTIALS }));
    }
    transaction.batch().set(keys::credential(&credential.digest), credential.encode());
    format_raise_for_access(transaction).await?;
    Ok(Ok(()))
}

/// Makes a credential invalid.
pub fn credential_remove(transaction: &mut Transaction, credential: &Credential) {
    let key = keys::credential(&credential.digest);
    match credential.kind {
        CredentialKind::Token => {
            transaction.batch().clear(key);
        }
        CredentialKind::OperatorToken => {
            // Expired by any clock.
            let expired = Credential { expires_us: Some(0), ..credential.clone() };
            transaction.batch().set(key, expired.encode());
        }
    }
}

/// Makes this credential the only operator token, and its principal an operator. Returns whether it was new: a token that
/// was revoked or replaced stays invalid.
pub async fn operator_token_put(transaction: &mut Transaction, credential: &Credential) -> Result<bool> {
    let found = read_all(transaction, &keys::credentials()).await?;
    let others = found.iter().map(|(key, value)| Credential::decode(key, value));
    let others = others.collect::<Result<Vec<_>>>()?;
    if others.iter().any(|other| other.digest == credential.digest) {
        return Ok(false);
    }
    let principal = credential.principal.clone();
    let granted_by = credential.created_by.clone();
    let created_us = credential.created_us;
    for other in others.iter().filter(|other| other.kind == CredentialKind::OperatorToken) {
        credential_remove(transaction, other);
    }
    // Written without a check of the limits: an operator must always be able to get in.
    let row = Principal { created_us, created_by: granted_by.clone() };
    transaction.batch().set(keys::principal(&principal), rows::encode(&row));
    let grant = Grant { principal, project: None, role: Role::Operator, granted_us: created_us, granted_by };
    transaction.batch().set(grant.key(), grant.encode());
    transaction.batch().set(keys::credential(&credential.digest), credential.encode());
    format_raise_for_access(transaction).await?;
    Ok(true)
}

/// All rows of a range; the commit fails if one of them changes or another one appears.
async fn read_all(transaction: &Transaction, range: &Range) -> Result<Vec<(Key, Value)>> {
    let mut rest = range.clone();
    let mut found = Vec::new();
    loop {
        let page = transaction.scan(&rest, Scan::default()).await?;
        found.extend(page.rows);
        match found.last() {
            Some((last, _)) if page.more => rest = rest.after(last),
            _ => return Ok(found),
        }
    }
}

#[cfg(test)]
mod tests;
