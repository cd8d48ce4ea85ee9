//! Access control of a process: its callers, as the store knows them, and its first operator.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use matyan_access::{
    AccessToken, BrowserSecret, Caller, CallerCache, CallerRights, CallerSource, LookupError, Role,
    SecretKind, TokenDigest, TokenLimits,
};
use matyan_model::{
    access::{
        Credential, CredentialKind, Grant, Link, access_find, access_is_used, anonymous_grants,
        credential_put, credentials_list, grants_list, operator_token_put, session_renew,
    },
    audit::{AuditEntry, AuditPosition, audit_put},
    project::projects_list,
};
use matyan_proto::access::v1::Role as StoredRole;
use matyan_store::{Snapshot, Store, Transaction, transact};
use tempfile::NamedTempFile;

use super::{access_file, clock, resolver::Resolver};
use crate::settings::{AccessFile, AccessMode, AccessSettings, ProviderSettings, Role as ServerRole};

/// The name of the first operator.
const OPERATOR: &str = "operator";

/// Time in which the link of the first start can be opened.
const FIRST_LINK_US: i64 = 15 * 60 * 1_000_000;

/// The file in the data directory with the token of the first operator.
const OPERATOR_TOKEN: &str = "operator-token";

type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "this store has access control, but MATYAN_ACCESS is not set: start with --access on, or open the store to \
         everyone who can connect with --access off"
    )]
    Unset,
    #[error(
        "the store has no operator yet, and this process has no data directory for the token of one: set \
         MATYAN_OPERATOR_TOKEN_FILE to a file with a token that `matyan access token generate` prints"
    )]
    NoOperator,
    #[error("cannot use the operator token in {} ({problem}): write a token there that `matyan access token generate` prints", path.display())]
    TokenFile { path: PathBuf, problem: String },
    #[error("failed to write the operator token to {}: check the permissions of its directory", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] matyan_store::Error),
}

/// The callers of a process that asks callers who they are.
pub(crate) struct Access {
    pub(crate) callers: CallerCache,
    /// The first operator, if this process has created it.
    pub(crate) first_operator: Option<FirstOperator>,
}

/// How the first operator gets in.
#[derive(Debug)]
pub(crate) struct FirstOperator {
    /// The file with the token.
    pub(crate) token_file: PathBuf,
    /// The secret of a link that signs a browser in once, to be shown to the person who has started the
    /// process.
    pub(crate) link: BrowserSecret,
}

/// Where a process finds its callers.
pub(crate) enum CallerOrigin<'a> {
    Store(&'a Arc<dyn Store>),
    /// A backend. `None` while access control is off.
    Backend(Option<Resolver>),
}

/// Opens access control, if it is on. Also makes sure that there is an operator.
pub(crate) async fn open(
    settings: &AccessSettings,
    role: ServerRole,
    origin: CallerOrigin<'_>,
    data_dir: Option<&Path>,
) -> Result<Option<Access>, Error> {
    let store = match origin {
        CallerOrigin::Store(store) => store,
        CallerOrigin::Backend(resolver) => {
            return Ok(resolver.map(|it| Access { callers: CallerCache::new(it), first_operator: None }));
        }
    };
    match settings.mode {
        Some(AccessMode::On) => {}
        Some(AccessMode::Off) => return Ok(None),
        None if !role.is_worker() && access_is_used(&*store.snapshot().await?).await? => {
            return Err(Error::Unset);
        }
        None => return Ok(None),
    }
    let first_operator = if role.has_backend() {
        name_roles_in_all_projects(&settings.providers);
        warn_about_missing_projects(&*store.snapshot().await?, &settings.providers).await?;
        let clock = clock::now_us();
        if let Some(file) = &settings.file {
            warn_about_other_providers(file, &settings.providers);
            // Before the first operator, whom the file may name.
            access_file::apply(store.as_ref(), file, clock()).await?;
        }
        open_first_operator(store.as_ref(), settings, data_dir, clock()).await?
    } else {
        None
    };
    let callers = CallerCache::new(StoredCallers { store: store.clone(), clock: clock::now_us() });
    Ok(Some(Access { callers, first_operator }))
}

/// Whether this process does not enforce the roles that are in the store.
pub(crate) async fn ignores_roles(
    settings: &AccessSettings,
    role: ServerRole,
    store: &dyn Store,
) -> Result<bool, Error> {
    if settings.mode != Some(AccessMode::Off) || role.is_worker() {
        return Ok(false);
    }
    Ok(access_is_used(&*store.snapshot().await?).await?)
}

/// Logs which groups have a role in all projects, because a row without a project is also a likely mistake.
fn name_roles_in_all_projects(providers: &ProviderSettings) {
    for (setting, rows) in providers.roles_in_all_projects() {
        tracing::info!(
            setting,
            rows = rows.join(", "),
            "groups have a role in all projects; use ROLE@PROJECT for one project"
        );
    }
}

/// Warns about projects in which groups have roles, and which do not exist. Someone may create them later.
async fn warn_about_missing_projects(
    snapshot: &dyn Snapshot,
    providers: &ProviderSettings,
) -> Result<(), Error> {
    let missing = missing_projects(snapshot, providers.projects()).await?;
    if !missing.is_empty() {
        tracing::warn!(
            projects = missing.join(", "),
            "MATYAN_OIDC_ROLES or MATYAN_GITHUB_ROLES names projects that do not exist: correct their names, or create them \
             with `matyan projects create`"
        );
    }
    Ok(())
}

/// Warns about principals of the access file whose names have the form of names of other providers.
fn warn_about_other_providers(file: &AccessFile, providers: &ProviderSettings) {
    let ids = providers.ids();
    let principals = Vec::from_iter(file.principals_of_other_providers(&ids));
    if !principals.is_empty() {
        tracing::warn!(
            principals = principals.join(", "),
            providers = ids.join(", "),
            "MATYAN_ACCESS_FILE names principals as whom nobody signs in: names of people start with the id of a provider \
             of this server, and a colon; others can have tokens and links"
        );
    }
}

/// Reduces names of projects to the names that no project has.
async fn missing_projects<'n>(
    snapshot: &dyn Snapshot,
    mut names: BTreeSet<&'n str>,
) -> Result<Vec<&'n str>, Error> {
    if !names.is_empty() {
        for project in projects_list(snapshot).await? {
            names.remove(project.name.as_str());
        }
    }
    Ok(names.into_iter().collect())
}

/// Makes sure that an operator can get in. Returns the operator if it is new.
async fn open_first_operator(
    store: &dyn Store,
    settings: &AccessSettings,
    data_dir: Option<&Path>,
    now_us: i64,
) -> Result<Option<FirstOperator>, Error> {
    if let Some(path) = settings.operator_token_file.as_deref() {
        let token = read_token(path)?;
        if put_operator_token(store, &token, TokenOrigin::File, now_us).await? {
            tracing::warn!(target: "audit", token = token.digest().id(), "took the operator's token from a file");
        }
        return Ok(None);
    }
    if has_operator(&*store.snapshot().await?, now_us).await? {
        return Ok(None);
    }
    let data_dir = data_dir.ok_or(Error::NoOperator)?;
    let token = (clock::new_token())();
    let token_file = write_token(data_dir, &token)?;
    if put_operator_token(store, &token, TokenOrigin::FirstStart, now_us).await? {
        let link = put_first_link(store, settings.link_host.clone(), now_us).await?;
        return Ok(Some(FirstOperator { token_file, link }));
    }
    // Another backend, which has started at the same time, was faster.
    fs::remove_file(&token_file).map_err(|source| Error::Write { path: token_file, source })?;
    Ok(None)
}

/// Creates a link with which the first operator signs a browser in.
async fn put_first_link(
    store: &dyn Store,
    host: Option<String>,
    now_us: i64,
) -> Result<BrowserSecret, Error> {
    let secret = (clock::new_secret())(SecretKind::Link);
    let link = Credential {
        digest: secret.digest().0,
        kind: CredentialKind::Link(Link { host }),
        principal: OPERATOR.to_owned(),
        label: "first start".to_owned(),
        created_us: now_us,
        created_by: OPERATOR.to_owned(),
        expires_us: Some(now_us.saturating_add(FIRST_LINK_US)),
        project: None,
        role: None,
    };
    let put = async |mut transaction: Transaction| {
        let put = credential_put(&mut transaction, &link).await?;
        Ok::<_, Error>((transaction, put))
    };
    if let Err(refusal) = transact(store, put).await?.0 {
        // The token in the file is enough to get in.
        tracing::warn!(?refusal, "failed to create a link for the first operator");
    }
    Ok(secret)
}

/// The file in a data directory with the token of the first operator, if it is there.
pub(crate) fn token_file(data_dir: &Path) -> Option<PathBuf> {
    let path = data_dir.join(OPERATOR_TOKEN);
    path.is_file().then_some(path)
}

/// A new token of the operator.
pub(crate) struct Recovery {
    pub(crate) token: AccessToken,
    /// The file that it was written to; `None` without a data directory.
    pub(crate) file: Option<PathBuf>,
}

/// Gives the operator a new token instead of its earlier one, and writes the new token to the data
/// directory, if there is one.
pub(crate) async fn recover(store: &dyn Store, data_dir: Option<&Path>) -> Result<Recovery, Error> {
    let token = (clock::new_token())();
    put_operator_token(store, &token, TokenOrigin::Recovery, (clock::now_us())()).await?;
    let file = data_dir.map(|data_dir| write_token(data_dir, &token)).transpose()?;
    tracing::warn!(target: "audit", token = token.digest().id(), "gave the operator a new token");
    Ok(Recovery { token, file })
}

async fn has_operator(snapshot: &dyn Snapshot, now_us: i64) -> Result<bool, Error> {
    let grants = grants_list(snapshot).await?;
    let is_operator = |credential: &Credential| {
        let is_whole =
            credential.project.is_none() && credential.role.is_none_or(|it| it == StoredRole::Operator);
        let has_role = |it: &Grant| it.principal == credential.principal && it.role == StoredRole::Operator;
        let is_valid = credential.is_token() && !credential.is_expired(now_us);
        is_whole && is_valid && grants.iter().any(has_role)
    };
    Ok(credentials_list(snapshot).await?.iter().any(is_operator))
}

/// Where a token of the operator comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenOrigin {
    File,
    /// Only if there is no operator.
    FirstStart,
    Recovery,
}

impl TokenOrigin {
    /// The name in the audit log.
    fn name(self) -> &'static str {
        match self {
            Self::File => "token-file",
            Self::FirstStart => "first-start",
            Self::Recovery => "recover",
        }
    }
}

/// Makes this the only operator token, and grants its principal the role operator. Returns whether it did: not with a token
/// that is known, and not at a first start if there is an operator. Decided in the transaction, because several backends
/// may start at once.
async fn put_operator_token(
    store: &dyn Store,
    token: &AccessToken,
    origin: TokenOrigin,
    now_us: i64,
) -> Result<bool, Error> {
    let id = token.digest().id();
    let entry = AuditEntry {
        position: AuditPosition { time_us: now_us, id: id.clone() },
        principal: OPERATOR.to_owned(),
        credential: String::new(),
        address: String::new(),
        project: None,
        rpc: origin.name().to_owned(),
        resource: format!("{OPERATOR} token {id}"),
        code: 0,
        request_id: String::new(),
    };
    let credential = Credential {
        digest: token.digest().0,
        kind: CredentialKind::OperatorToken,
        principal: OPERATOR.to_owned(),
        label: "first operator".to_owned(),
        created_us: now_us,
        created_by: OPERATOR.to_owned(),
        expires_us: None,
        project: None,
        role: None,
    };
    let put = async |mut transaction: Transaction| {
        let is_needed =
            origin != TokenOrigin::FirstStart || !has_operator(transaction.unchecked(), now_us).await?;
        // The put reads all credentials, so another operator token in between is a conflict.
        let is_put = is_needed && operator_token_put(&mut transaction, &credential).await?;
        if is_put {
            audit_put(transaction.batch(), &entry);
        }
        Ok::<_, Error>((transaction, is_put))
    };
    Ok(transact(store, put).await?.0)
}

fn read_token(path: &Path) -> Result<AccessToken, Error> {
    let refused = |problem: String| Error::TokenFile { path: path.to_owned(), problem };
    let text = fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    AccessToken::parse(text.trim()).ok_or_else(|| refused("it contains no token".to_owned()))
}

fn write_token(data_dir: &Path, token: &AccessToken) -> Result<PathBuf, Error> {
    let path = data_dir.join(OPERATOR_TOKEN);
    match write_token_file(data_dir, &path, token) {
        Ok(()) => Ok(path),
        Err(source) => Err(Error::Write { path, source }),
    }
}

fn write_token_file(data_dir: &Path, path: &Path, token: &AccessToken) -> io::Result<()> {
    // A temporary file is readable only by its owner.
    let mut file = NamedTempFile::new_in(data_dir)?;
    writeln!(file, "{}", token.reveal())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(data_dir)?.sync_all()
}

/// Callers, from the rows of access control in the store. The use of a session is noted in its row, rarely.
struct StoredCallers {
    store: Arc<dyn Store>,
    clock: Clock,
}

#[async_trait]
impl CallerSource for StoredCallers {
    async fn find(&self, token: Option<&TokenDigest>) -> Result<Option<Caller>, LookupError> {
        let snapshot = self.store.snapshot().await?;
        let Some(digest) = token else {
            let granted = anonymous_grants(snapshot.as_ref()).await?;
            return Ok(Some(Caller::anonymous(roles(&granted).collect())));
        };
        let now_us = (self.clock)();
        let found = access_find(snapshot.as_ref(), &digest.0, now_us).await?;
        if found.as_ref().is_some_and(|(credential, _)| credential.is_due(now_us)) {
            renew_session(self.store.as_ref(), digest, now_us).await;
        }
        Ok(found.map(|(credential, granted)| {
            let projects = credential.project.map(|project| [project].into());
            let limits = TokenLimits { projects, role: credential.role.and_then(Role::from_proto) };
            let rights: CallerRights = roles(&granted).collect();
            Caller::limited(credential.principal, &rights, limits)
        }))
    }
}

/// Notes that a session is used. A store that cannot be written, such as one on a full disk, ends no session.
async fn renew_session(store: &dyn Store, digest: &TokenDigest, now_us: i64) {
    let renew = async |mut transaction: Transaction| {
        session_renew(&mut transaction, &digest.0, now_us).await?;
        Ok::<_, matyan_store::Error>((transaction, ()))
    };
    if let Err(error) = transact(store, renew).await {
        tracing::warn!(%error, "failed to note the use of a session; it ends 12 hours after the last note");
    }
}

fn roles(granted: &[Grant]) -> impl Iterator<Item = (Option<&str>, Role)> {
    granted.iter().filter_map(|grant| Some((grant.project.as_deref(), Role::from_proto(grant.role)?)))
}

#[cfg(test)]
mod tests;
