//! People who sign in with a provider. Names and addresses change, but issuer and subject never do, so a provider and
//! the store know people by issuer and subject. The name of the principal is chosen at the first sign-in. A role may
//! be granted to a name earlier, so a person takes over a principal without an identity by its exact name only, and
//! never by a similar name.

use matyan_proto::access::v1::Role;
use matyan_store::{Result, Transaction};

use super::{
    credential::{Credential, CredentialKind, Digest, credential_insert, sessions_end},
    principal::{
        Grant, Identity, Principal, grant_clear, grant_set, grants_check_room, grants_read, is_last_operator,
        principal_put, principal_read,
    },
    refusal::AccessRefusal,
};
use crate::{keys, rows};

/// The statements of a provider about a person who signs in, and the roles of the person's groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvidedIdentity {
    /// Id of the provider in the settings.
    pub provider: String,
    pub identity: Identity,
    /// The name for a principal that does not exist yet, or with which nobody has signed in.
    pub name: String,
    /// The name to use if another person has signed in with the first name. Nobody else can have this name.
    pub unique_name: String,
    /// At most one role for each project, and one role for all projects (`None`).
    pub roles: Vec<(Option<String>, Role)>,
}

/// A state that has come back from a provider, and cannot be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedState {
    pub digest: Digest,
    /// The end of the session in any case.
    pub ends_us: i64,
}

/// The result of a sign-in with a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProvidedSignIn {
    /// The session of this principal exists.
    Done(String),
    /// Someone has already signed in with this state.
    Repeated,
    /// Neither a group nor a person has given the principal a role.
    NoRole(String),
    Refused(String, AccessRefusal),
}

/// A role that the groups of a person have given at a sign-in, perhaps in place of another role, or have taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRoleChange {
    Given(Grant),
    Taken(Grant),
}

/// Signs in a person whom a provider knows: gives the principal the roles of the groups, takes group roles that no
/// group gives any longer, and writes the session, whose principal is filled in. Roles that people have granted stay,
/// and come before roles of groups in the same projects. Changed roles end all other sessions of the principal. The
/// state counts as used if there is a session. Also returns the changes of roles, which may exist even without a
/// session.
pub async fn identity_sign_in(
    transaction: &mut Transaction,
    provided: &ProvidedIdentity,
    state: &UsedState,
    session: &Credential,
) -> Result<(ProvidedSignIn, Vec<GroupRoleChange>)> {
    if transaction.get(&keys::credential(&state.digest)).await?.is_some() {
        return Ok((ProvidedSignIn::Repeated, Vec::new()));
    }
    let (name, principal) = find_principal(transaction, provided).await?;
    if principal.as_ref().is_some_and(|principal| principal.is_disabled) {
        return Ok((ProvidedSignIn::Refused(name, AccessRefusal::DisabledPrincipal), Vec::new()));
    }
    let granted = grants_read(transaction, &name).await?;
    let changes = GroupChanges::of(provided, &name, &granted, session.created_us);
    let further = changes.added.len().saturating_sub(changes.removed.len());
    let room = if further > 0 { grants_check_room(transaction, further).await? } else { Ok(()) };
    let count = granted.len() + changes.added.len() - changes.removed.len();
    if !changes.are_none() {
        sessions_end(transaction, &name, None).await?;
    }
    // The provider decides who is in its groups, also if no operator is left.
    if changes.takes_operator() && is_last_operator(transaction, &name).await? {
        tracing::warn!(
            principal = name,
            "the groups of the only operator do not give the role operator any longer: if nobody else gets it, `matyan access \
             recover` makes another one"
        );
    }
    // Roles are taken and replaced even if there is no room for further roles.
    for grant in &changes.removed {
        grant_clear(transaction, grant);
    }
    for grant in &changes.replacements {
        grant_set(transaction, grant);
    }
    if let Err(refusal) = room {
        return Ok((ProvidedSignIn::Refused(name, refusal), changes.made(&[])));
    }
    if count == 0 {
        return Ok((ProvidedSignIn::NoRole(name), changes.made(&[])));
    }
    if let Err(refusal) = identity_put(transaction, provided, &name, principal, session.created_us).await? {
        return Ok((ProvidedSignIn::Refused(name, refusal), changes.made(&[])));
    }
    for grant in &changes.added {
        grant_set(transaction, grant);
    }
    let made = changes.made(&changes.added);
    let session = Credential { principal: name.clone(), created_by: name.clone(), ..session.clone() };
    let used = Credential {
        digest: state.digest,
        kind: CredentialKind::UsedState,
        expires_us: Some(state.ends_us),
        ..session.clone()
    };
    for credential in [used, session] {
        if let Err(refusal) = credential_insert(transaction, &credential, None).await? {
            return Ok((ProvidedSignIn::Refused(name, refusal), made));
        }
    }
    Ok((ProvidedSignIn::Done(name), made))
}

/// Writes the principal of an identity, whether it is new or not, and the row by which the identity finds the
/// principal.
async fn identity_put(
    transaction: &mut Transaction,
    provided: &ProvidedIdentity,
    name: &str,
    principal: Option<Principal>,
    now_us: i64,
) -> Result<Result<(), AccessRefusal>> {
    let is_new = principal.is_none();
    let identity = Some(provided.identity.clone());
    let principal = match principal {
        Some(principal) => Principal { identity, ..principal },
        None => Principal { created_us: now_us, created_by: name.to_owned(), is_disabled: false, identity },
    };
    if let Err(refusal) = principal_put(transaction, name, &principal, is_new).await? {
        return Ok(Err(refusal));
    }
    let Identity { issuer, subject } = &provided.identity;
    let row = rows::encode(&IdentityRow { name: name.to_owned() });
    transaction.batch().set(keys::identity(issuer, subject), row);
    Ok(Ok(()))
}

#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
struct IdentityRow {
    #[n(0)]
    name: String,
}

/// The principal of an identity, and its name. An unknown identity gets a name with which nobody else signs in: a
/// principal of this name that was granted a role before its first sign-in, or a new principal.
async fn find_principal(
    transaction: &Transaction,
    provided: &ProvidedIdentity,
) -> Result<(String, Option<Principal>)> {
    let Identity { issuer, subject } = &provided.identity;
    let key = keys::identity(issuer, subject);
    if let Some(value) = transaction.get(&key).await? {
        let IdentityRow { name } = rows::decode(&key, &value)?;
        let principal = principal_read(transaction, &name).await?;
        return Ok((name, principal));
    }
    let namesake = principal_read(transaction, &provided.name).await?;
    if namesake.as_ref().is_none_or(|principal| principal.identity.is_none()) {
        return Ok((provided.name.clone(), namesake));
    }
    let principal = principal_read(transaction, &provided.unique_name).await?;
    Ok((provided.unique_name.clone(), principal))
}

/// The roles that a sign-in gives and takes.
struct GroupChanges {
    removed: Vec<Grant>,
    /// Roles of groups that other roles replace.
    replaced: Vec<Grant>,
    /// The roles that replace them, in the same rows.
    replacements: Vec<Grant>,
    /// Roles in further rows.
    added: Vec<Grant>,
}

impl GroupChanges {
    fn of(provided: &ProvidedIdentity, name: &str, granted: &[Grant], now_us: i64) -> Self {
        let of_groups = |grant: &&Grant| grant.provider.as_ref() == Some(&provided.provider);
        let role_in = |project: &Option<String>| {
            provided.roles.iter().find(|(wanted, _)| wanted == project).map(|(_, role)| *role)
        };
        let removed = granted.iter().filter(of_groups).filter(|grant| role_in(&grant.project).is_none());
        let replaced = granted.iter().filter(of_groups);
        let replaced =
            replaced.filter(|grant| role_in(&grant.project).is_some_and(|role| role != grant.role));
        let removed: Vec<_> = removed.cloned().collect();
        let replaced: Vec<_> = replaced.cloned().collect();
        let new = |(project, role): &(Option<String>, Role)| Grant {
            principal: name.to_owned(),
            project: project.clone(),
            role: *role,
            granted_us: now_us,
            granted_by: name.to_owned(),
            provider: Some(provided.provider.clone()),
        };
        let is_in =
            |grants: &[Grant], project: &Option<String>| grants.iter().any(|it| it.project == *project);
        let replacements = provided.roles.iter().filter(|(project, _)| is_in(&replaced, project));
        let added = provided.roles.iter().filter(|(project, _)| !is_in(granted, project));
        let replacements = replacements.map(new).collect();
        let added = added.map(new).collect();
        Self { removed, replaced, replacements, added }
    }

    /// The changes, including the further rows that were written.
    fn made(&self, added: &[Grant]) -> Vec<GroupRoleChange> {
        let taken = self.removed.iter().cloned().map(GroupRoleChange::Taken);
        let given = self.replacements.iter().chain(added).cloned().map(GroupRoleChange::Given);
        taken.chain(given).collect()
    }

    fn takes_operator(&self) -> bool {
        self.removed.iter().chain(&self.replaced).any(|grant| grant.role == Role::Operator)
    }

    fn are_none(&self) -> bool {
        self.removed.is_empty() && self.replaced.is_empty() && self.added.is_empty()
    }
}
