//! Principals and the roles that are granted to them.

use std::collections::BTreeSet;

use matyan_proto::access::v1::Role;
use matyan_store::{Key, Result, Snapshot, Transaction, Value};
use minicbor::{Decode, Encode};

use super::{
    credential::{
        Credential, CredentialKind, Digest, credential_end, credential_insert, credential_set,
        credentials_read, decode_role, sessions_end, sessions_end_among,
    },
    refusal::AccessRefusal,
};
use crate::{keys, rows};

/// The name of everyone who shows no credential.
pub const ANONYMOUS: &str = "anonymous";

/// Maximum numbers of rows: far more than a team needs, and few enough to be listed at once.
const MAX_PRINCIPALS: usize = 10_000;
const MAX_GRANTS: usize = 20_000;
/// Maximum number of grants in one project: the owners of one project leave room for others.
const MAX_GRANTS_OF_PROJECT: usize = 2_000;

/// Someone whom a provider knows.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Identity {
    #[n(0)]
    pub issuer: String,
    #[n(1)]
    pub subject: String,
}

/// A principal without its roles.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(super) struct Principal {
    #[n(0)]
    pub(super) created_us: i64,
    #[n(1)]
    pub(super) created_by: String,
    /// Whether the principal may do nothing at the moment, whatever its roles.
    #[cbor(n(2), default)]
    pub(super) is_disabled: bool,
    /// The person who signs in as this principal with a provider; `None` if nobody has done so.
    #[cbor(n(3), default)]
    pub(super) identity: Option<Identity>,
}

impl Principal {
    /// Whether the principal stays without a role and a token, so that it comes back neither enabled nor under another
    /// name.
    fn is_kept(&self) -> bool {
        self.is_disabled || self.identity.is_some()
    }
}

/// A role of a principal in one project, or in all projects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub principal: String,
    /// Name of the project, which is empty for the default project; `None` for all projects.
    pub project: Option<String>,
    pub role: Role,
    pub granted_us: i64,
    /// Name of the principal that granted the role.
    pub granted_by: String,
    /// Id of the provider whose groups have given the role, and can take it at a later sign-in; `None` for a role
    /// that a person has granted.
    pub provider: Option<String>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
pub(super) struct GrantRow {
    #[n(0)]
    pub(super) role: i32,
    #[n(1)]
    pub(super) granted_us: i64,
    #[n(2)]
    pub(super) granted_by: String,
    #[cbor(n(3), default)]
    pub(super) provider: Option<String>,
}

impl Grant {
    fn decode(key: &Key, value: &Value) -> Result<Self> {
        let (principal, project) = keys::decode_grant(key)?;
        let GrantRow { role, granted_us, granted_by, provider } = rows::decode(key, value)?;
        Ok(Self { principal, project, role: decode_role(key, role)?, granted_us, granted_by, provider })
    }

    fn key(&self) -> Key {
        keys::grant(&self.principal, self.project.as_deref())
    }

    fn encode(&self) -> Value {
        let Self { role, granted_us, granted_by, provider, .. } = self.clone();
        rows::encode(&GrantRow { role: role.into(), granted_us, granted_by, provider })
    }
}

/// A principal; `None` if it has no role yet, was forgotten, or was removed.
async fn principal_get(snapshot: &dyn Snapshot, name: &str) -> Result<Option<Principal>> {
    rows::get(snapshot, &keys::principal(name)).await
}

/// A principal; the commit fails if the principal changes.
pub(super) async fn principal_read(transaction: &Transaction, name: &str) -> Result<Option<Principal>> {
    let key = keys::principal(name);
    match transaction.get(&key).await? {
        Some(value) => Ok(Some(rows::decode(&key, &value)?)),
        None => Ok(None),
    }
}

/// Whether a principal exists and is not disabled.
pub async fn principal_is_active(snapshot: &dyn Snapshot, name: &str) -> Result<bool> {
    Ok(principal_get(snapshot, name).await?.is_some_and(|principal| !principal.is_disabled))
}

/// The names of the principals that are disabled.
pub async fn principals_disabled(snapshot: &dyn Snapshot) -> Result<BTreeSet<String>> {
    let found = rows::scan_all(snapshot, &keys::principals()).await?;
    disabled_of(&found)
}

fn disabled_of(found: &[(Key, Value)]) -> Result<BTreeSet<String>> {
    let mut disabled = BTreeSet::new();
    for (key, value) in found {
        let principal: Principal = rows::decode(key, value)?;
        if principal.is_disabled {
            disabled.insert(keys::decode_principal(key)?);
        }
    }
    Ok(disabled)
}

/// The roles of a principal. A damaged row is an error, because nobody knows which role it granted.
pub async fn grants_of(snapshot: &dyn Snapshot, principal: &str) -> Result<Vec<Grant>> {
    decode_grants(rows::scan_all(snapshot, &keys::grants_of(principal)).await?)
}

/// The roles of a principal; the commit fails if one of them changes.
pub(super) async fn grants_read(transaction: &Transaction, principal: &str) -> Result<Vec<Grant>> {
    decode_grants(rows::read_all(transaction, &keys::grants_of(principal)).await?)
}

/// All roles of all principals, by principal and project.
pub async fn grants_list(snapshot: &dyn Snapshot) -> Result<Vec<Grant>> {
    decode_grants(rows::scan_all(snapshot, &keys::grants()).await?)
}

fn decode_grants(found: Vec<(Key, Value)>) -> Result<Vec<Grant>> {
    found.iter().map(|(key, value)| Grant::decode(key, value)).collect()
}

/// Writes a principal, if there is room for another principal.
pub(super) async fn principal_put(
    transaction: &mut Transaction,
    name: &str,
    principal: &Principal,
    is_new: bool,
) -> Result<Result<(), AccessRefusal>> {
    if is_new && rows::read_all(transaction, &keys::principals()).await?.len() >= MAX_PRINCIPALS {
        return Ok(Err(AccessRefusal::TooManyPrincipals { limit: MAX_PRINCIPALS }));
    }
    transaction.batch().set(keys::principal(name), rows::encode(principal));
    Ok(Ok(()))
}

/// Grants a role, instead of the role that the principal has in the same projects. A role that changes ends sessions of
/// the principal. The last operator stays an operator.
pub async fn grant_put(transaction: &mut Transaction, grant: &Grant) -> Result<Result<(), AccessRefusal>> {
    if principal_read(transaction, &grant.principal).await?.is_none() {
        let created_by = grant.granted_by.clone();
        let created_us = grant.granted_us;
        let principal = Principal { created_us, created_by, is_disabled: false, identity: None };
        if let Err(refusal) = principal_put(transaction, &grant.principal, &principal, true).await? {
            return Ok(Err(refusal));
        }
    }
    let key = grant.key();
    match transaction.get(&key).await? {
        Some(value) => {
            let held = Grant::decode(&key, &value)?.role;
            if held == Role::Operator
                && grant.role != Role::Operator
                && is_last_operator(transaction, &grant.principal).await?
            {
                return Ok(Err(AccessRefusal::LastOperator));
            }
            if held != grant.role {
                sessions_end_in(transaction, &grant.principal, grant.project.as_deref()).await?;
            }
        }
        None => {
            let room = match &grant.project {
                Some(project) => grants_check_room_in(transaction, project).await?,
                None => Ok(()),
            };
            let room = if room.is_ok() { grants_check_room(transaction, 1).await? } else { room };
            if let Err(refusal) = room {
                return Ok(Err(refusal));
            }
        }
    }
    grant_set(transaction, grant);
    Ok(Ok(()))
}

/// Refuses grants in this number of further rows, if there is no room for them.
pub(super) async fn grants_check_room(
    transaction: &Transaction,
    further: usize,
) -> Result<Result<(), AccessRefusal>> {
    let stored = rows::read_all(transaction, &keys::grants()).await?.len();
    let is_full = stored + further > MAX_GRANTS;
    Ok(if is_full { Err(AccessRefusal::TooManyGrants { limit: MAX_GRANTS }) } else { Ok(()) })
}

/// Refuses a further grant in this project, if there is no room for it.
async fn grants_check_room_in(transaction: &Transaction, project: &str) -> Result<Result<(), AccessRefusal>> {
    let mut stored = 0;
    for (key, _) in rows::read_all(transaction, &keys::grants()).await? {
        let (_, of_grant) = keys::decode_grant(&key)?;
        stored += usize::from(of_grant.as_deref() == Some(project));
    }
    let refusal = AccessRefusal::TooManyGrantsOfProject { limit: MAX_GRANTS_OF_PROJECT };
    Ok(if stored >= MAX_GRANTS_OF_PROJECT { Err(refusal) } else { Ok(()) })
}

/// Ends the sessions of a principal whose role in these projects changes, and makes its links invalid. Of a principal with
/// roles elsewhere, only sessions for this project alone end: the owners of a project must not sign people out of other
/// projects, or an operator out of the server. A session that goes on has the rights of the new role, which is read
/// with each call.
async fn sessions_end_in(
    transaction: &mut Transaction,
    principal: &str,
    project: Option<&str>,
) -> Result<()> {
    let granted = grants_read(transaction, principal).await?;
    let has_others = granted.iter().any(|grant| grant.project.as_deref() != project);
    sessions_end(transaction, principal, project.filter(|_| has_others)).await
}

/// Writes a grant to which no limit applies.
pub(super) fn grant_set(transaction: &mut Transaction, grant: &Grant) {
    transaction.batch().set(grant.key(), grant.encode());
}

/// Clears a grant.
pub(super) fn grant_clear(transaction: &mut Transaction, grant: &Grant) {
    transaction.batch().clear(grant.key());
}

/// Takes a role from a principal, and ends sessions of the principal. Forgets the principal if nothing is left of it.
/// Returns whether the principal had a role in these projects.
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
        sessions_end_in(transaction, principal, project).await?;
        transaction.batch().clear(key);
        if let Some(row) = principal_read(transaction, principal).await? {
            principal_forget_unused(transaction, principal, &row, RemovedPart::Role(project)).await?;
        }
    }
    Ok(Ok(was_granted))
}

/// Makes a credential invalid. Forgets its principal if nothing is left of the principal.
pub async fn credential_remove(transaction: &mut Transaction, credential: &Credential) -> Result<()> {
    credential_end(transaction, credential);
    let name = &credential.principal;
    if credential.is_token()
        && let Some(row) = principal_read(transaction, name).await?
    {
        principal_forget_unused(transaction, name, &row, RemovedPart::Token(&credential.digest)).await?;
    }
    Ok(())
}

/// Part of a principal that a transaction removes, which its reads still see.
#[derive(Clone, Copy)]
enum RemovedPart<'a> {
    Nothing,
    /// The role in a project, or in all projects (`None`).
    Role(Option<&'a str>),
    Token(&'a Digest),
}

/// Forgets a principal that is left with neither a role nor a token, because names would otherwise fill the store. Its
/// sessions and links end, so that a namesake does not get them. A principal that is disabled, or that has signed in
/// with a provider, stays.
async fn principal_forget_unused(
    transaction: &mut Transaction,
    name: &str,
    row: &Principal,
    taken: RemovedPart<'_>,
) -> Result<()> {
    // Damaged rows that are not needed must not keep a role or a token from being taken.
    if row.is_kept() {
        return Ok(());
    }
    let taken_grant = match taken {
        RemovedPart::Role(project) => Some(keys::grant(name, project)),
        RemovedPart::Nothing | RemovedPart::Token(_) => None,
    };
    let granted = rows::read_all(transaction, &keys::grants_of(name)).await?;
    if granted.iter().any(|(key, _)| Some(key) != taken_grant.as_ref()) {
        return Ok(());
    }
    let credentials = credentials_read(transaction).await?;
    let is_own_token = |token: &Credential| {
        token.principal == name
            && token.keeps_principal()
            && !matches!(taken, RemovedPart::Token(digest) if token.digest == *digest)
    };
    if !credentials.iter().any(is_own_token) {
        principal_forget(transaction, name, &credentials);
    }
    Ok(())
}

fn principal_forget(transaction: &mut Transaction, name: &str, credentials: &[Credential]) {
    transaction.batch().clear(keys::principal(name));
    sessions_end_among(transaction, credentials, name, None);
}

/// Maximum number of principals that a sweep forgets in a transaction.
const FORGOTTEN_AT_ONCE: usize = 100;

/// Forgets principals that have neither a role nor a token. Returns whether there may be more.
pub async fn principals_sweep(transaction: &mut Transaction) -> Result<bool> {
    // A damaged row may be the last token of any principal.
    let Some(credentials) = rows::readable(credentials_read(transaction).await)? else { return Ok(false) };
    let tokens = credentials.iter().filter(|credential| credential.keeps_principal());
    let mut used: BTreeSet<String> = tokens.map(|token| token.principal.clone()).collect();
    for (key, _) in rows::read_all(transaction, &keys::grants()).await? {
        used.insert(keys::decode_grant(&key)?.0);
    }
    let mut forgotten = 0;
    for (key, value) in rows::read_all(transaction, &keys::principals()).await? {
        // A damaged row must not keep the other rows.
        let Some(row) = rows::readable(rows::decode::<Principal>(&key, &value))? else { continue };
        let name = keys::decode_principal(&key)?;
        if !row.is_kept() && !used.contains(&name) {
            principal_forget(transaction, &name, &credentials);
            forgotten += 1;
            if forgotten == FORGOTTEN_AT_ONCE {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The result of removing a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalRemoval {
    /// There is no such principal.
    Unknown,
    Removed,
    /// The principal has signed in with a provider, and would come back with the roles of its groups. So it stays, without
    /// roles, and is disabled.
    Disabled,
}

/// Removes a principal with its roles and credentials.
pub async fn principal_remove(
    transaction: &mut Transaction,
    name: &str,
) -> Result<Result<PrincipalRemoval, AccessRefusal>> {
    let Some(principal) = principal_read(transaction, name).await? else {
        return Ok(Ok(PrincipalRemoval::Unknown));
    };
    if is_last_operator(transaction, name).await? {
        return Ok(Err(AccessRefusal::LastOperator));
    }
    credentials_end(transaction, name).await?;
    transaction.batch().clear_range(keys::grants_of(name));
    let key = keys::principal(name);
    Ok(Ok(if principal.identity.is_some() {
        let disabled = Principal { is_disabled: true, ..principal };
        transaction.batch().set(key, rows::encode(&disabled));
        PrincipalRemoval::Disabled
    } else {
        transaction.batch().clear(key);
        PrincipalRemoval::Removed
    }))
}

/// Ends all credentials of a principal, and refuses it new ones. Its roles stay. Returns whether the principal exists.
pub async fn principal_disable(
    transaction: &mut Transaction,
    name: &str,
) -> Result<Result<bool, AccessRefusal>> {
    let Some(principal) = principal_read(transaction, name).await? else { return Ok(Ok(false)) };
    if is_last_operator(transaction, name).await? {
        return Ok(Err(AccessRefusal::LastOperator));
    }
    credentials_end(transaction, name).await?;
    let disabled = Principal { is_disabled: true, ..principal };
    transaction.batch().set(keys::principal(name), rows::encode(&disabled));
    Ok(Ok(true))
}

/// Lets a principal sign in again, with its present roles, or forgets it if nothing is left of it. Returns whether the
/// principal existed.
pub async fn principal_enable(transaction: &mut Transaction, name: &str) -> Result<bool> {
    let Some(principal) = principal_read(transaction, name).await? else { return Ok(false) };
    let enabled = Principal { is_disabled: false, ..principal };
    transaction.batch().set(keys::principal(name), rows::encode(&enabled));
    principal_forget_unused(transaction, name, &enabled, RemovedPart::Nothing).await?;
    Ok(true)
}

async fn credentials_end(transaction: &mut Transaction, principal: &str) -> Result<()> {
    for credential in credentials_read(transaction).await? {
        // A used state stays used.
        if credential.principal == principal && credential.kind != CredentialKind::UsedState {
            credential_end(transaction, &credential);
        }
    }
    Ok(())
}

/// Whether a principal is the only operator who is not disabled. The commit fails if that changes.
pub(super) async fn is_last_operator(transaction: &Transaction, principal: &str) -> Result<bool> {
    let grants = decode_grants(rows::read_all(transaction, &keys::grants()).await?)?;
    let disabled = disabled_of(&rows::read_all(transaction, &keys::principals()).await?)?;
    let is_operator = |grant: &&Grant| grant.role == Role::Operator && !disabled.contains(&grant.principal);
    let mut operators = grants.iter().filter(is_operator).peekable();
    Ok(operators.peek().is_some() && operators.all(|grant| grant.principal == principal))
}

/// Writes a credential of a principal that exists and is not disabled, and clears expired credentials.
pub async fn credential_put(
    transaction: &mut Transaction,
    credential: &Credential,
) -> Result<Result<(), AccessRefusal>> {
    put_checked(transaction, credential, None).await
}

/// Writes a token and ends another token, which must be a different one, in one transaction. The ended token does not count
/// against the limits.
pub async fn credential_replace(
    transaction: &mut Transaction,
    ended: &Credential,
    credential: &Credential,
) -> Result<Result<(), AccessRefusal>> {
    let put = put_checked(transaction, credential, Some(&ended.digest)).await?;
    if put.is_ok() && ended.principal == credential.principal {
        credential_end(transaction, ended);
    } else if put.is_ok() {
        credential_remove(transaction, ended).await?;
    }
    Ok(put)
}

async fn put_checked(
    transaction: &mut Transaction,
    credential: &Credential,
    ended: Option<&Digest>,
) -> Result<Result<(), AccessRefusal>> {
    match principal_read(transaction, &credential.principal).await? {
        None => Ok(Err(AccessRefusal::UnknownPrincipal)),
        Some(principal) if principal.is_disabled => Ok(Err(AccessRefusal::DisabledPrincipal)),
        Some(_) => credential_insert(transaction, credential, ended).await,
    }
}

/// Makes this credential the only operator token, and its principal an operator. Returns whether the token was new: a
/// token that was revoked or replaced stays invalid.
pub async fn operator_token_put(transaction: &mut Transaction, credential: &Credential) -> Result<bool> {
    let others = credentials_read(transaction).await?;
    if others.iter().any(|other| other.digest == credential.digest) {
        return Ok(false);
    }
    let principal = credential.principal.clone();
    let granted_by = credential.created_by.clone();
    let created_us = credential.created_us;
    for other in others.iter().filter(|other| other.kind == CredentialKind::OperatorToken) {
        credential_end(transaction, other);
    }
    // Written without a check of the limits: an operator must always be able to get in.
    let row = Principal { created_us, created_by: granted_by.clone(), is_disabled: false, identity: None };
    transaction.batch().set(keys::principal(&principal), rows::encode(&row));
    let grant = Grant {
        principal,
        project: None,
        role: Role::Operator,
        granted_us: created_us,
        granted_by,
        provider: None,
    };
    grant_set(transaction, &grant);
    credential_set(transaction, credential);
    Ok(true)
}
