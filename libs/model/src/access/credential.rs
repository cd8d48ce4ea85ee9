//! Credentials: secrets that prove for a limited time who someone is. A credential is known by the digest of its
//! secret, so the store contains no secret. All kinds are rows of one table, so that there is one lookup and one
//! sweep.

use std::collections::HashMap;

use matyan_proto::access::v1::Role;
use matyan_store::{Batch, Key, Result, Snapshot, Transaction, Value};
use minicbor::{Decode, Encode};

use super::refusal::AccessRefusal;
use crate::{keys, rows};

/// Digest of the secret of a credential.
pub type Digest = [u8; 32];

/// Maximum numbers of valid credentials: far more than a team needs, and few enough to be listed at once.
const MAX_TOKENS: usize = 10_000;
const MAX_LINKS: usize = 1_000;
/// Maximum numbers of credentials that are limited to one project: the owners of one project leave room for others.
const MAX_TOKENS_OF_PROJECT: usize = 2_000;
const MAX_LINKS_OF_PROJECT: usize = 200;
/// Maximum numbers of sessions. A further session ends the oldest session of its principal, or of all principals.
const MAX_SESSIONS: usize = 10_000;
const MAX_SESSIONS_OF_PRINCIPAL: usize = 100;
/// Maximum number of sign-ins with a provider of one principal in the time that a provider has for its answer: more
/// than any browser needs.
const MAX_USED_STATES_OF_PRINCIPAL: usize = 100;

/// Maximum numbers of logins that wait for someone who types their code: more than a team starts in ten minutes. Anyone
/// can start a login, so a further login ends the oldest login of its network, or of the network with the most logins.
const MAX_LOGINS: usize = 1_000;
const MAX_LOGINS_OF_NETWORK: usize = 100;

/// Minimum age of a login that another login of its network may end: people behind one proxy are one network, and need
/// time to type their codes. 2 minutes.
const LOGIN_KEPT_US: i64 = 2 * 60 * 1_000_000;

/// Time for which an expired token is listed, so that an owner sees why a script has stopped: 30 days.
pub(super) const LISTED_AFTER_END_US: i64 = 30 * 24 * 3_600 * 1_000_000;

/// Time after which an unused session ends: 12 hours.
pub const SESSION_IDLE_US: i64 = 12 * 3_600 * 1_000_000;

/// Time after which the use of a session is stored again. Each write is a commit.
const SESSION_RENEWAL_US: i64 = 30 * 60 * 1_000_000;

/// A kind of credential, with the details that only this kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    Token,
    /// The token of the first operator, or of a recovery. At most one such token is valid. Earlier ones stay as expired
    /// rows, so that a file with such a token does not make it valid again.
    OperatorToken,
    /// A token that a program got by a code. Only this program has the token.
    LoginToken,
    /// A token with which a program waits until someone types its code. The token proves nothing yet.
    PendingLogin(PendingLogin),
    /// A browser that has signed in.
    Session(Session),
    /// A link that signs a browser in, once.
    Link(Link),
    /// A state that has come back from a provider with a person who has signed in. The state proves nothing any more,
    /// and is kept until its end so that it cannot be used again.
    UsedState,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Session {
    /// The end of the session, however much it is used.
    #[n(0)]
    pub ends_us: i64,
    /// The token with which the browser has signed in. The session ends with the token.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub token: Option<Digest>,
    /// Number of typed codes in this session that belong to no program.
    #[cbor(n(2), default)]
    pub wrong_codes: u8,
}

/// The details of a program that waits for someone who types its code.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct PendingLogin {
    /// Address of the program, or of the proxy in front of the server; empty if it is unknown.
    #[n(0)]
    pub address: String,
    /// The network that the login counts against; empty if it counts against no network.
    #[n(1)]
    pub network: String,
    /// Lifetime of the token, from the moment at which someone allows the program.
    #[n(2)]
    pub lifetime_us: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Link {
    /// The only host name under which the link can be opened; `None` for any name of the server.
    #[n(0)]
    pub host: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub digest: Digest,
    pub kind: CredentialKind,
    pub principal: String,
    pub label: String,
    pub created_us: i64,
    /// Name of the principal that created the credential.
    pub created_by: String,
    /// The end of the credential; `None` if it never ends. For a session: the end unless it is used.
    pub expires_us: Option<i64>,
    /// The only project that the credential is for; `None` for all projects of the principal.
    pub project: Option<String>,
    /// The largest role that the credential has; `None` for all roles of the principal.
    pub role: Option<Role>,
}

#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
enum StoredKind {
    #[n(0)]
    Token,
    #[n(1)]
    OperatorToken,
    #[n(2)]
    Session,
    #[n(3)]
    Link,
    // Earlier versions wrote rows of this kind when a sign-in started. They prove nothing, like used states.
    #[n(4)]
    UsedState,
    #[n(5)]
    LoginToken,
    #[n(6)]
    PendingLogin,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct CredentialRow {
    #[n(0)]
    kind: StoredKind,
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
    // Absent in rows of earlier versions, which had tokens only.
    #[cbor(n(8), default)]
    session: Option<Session>,
    #[cbor(n(9), default)]
    link: Option<Link>,
    // Earlier versions had a tenth member, for sign-ins that had started.
    #[cbor(n(11), default)]
    login: Option<PendingLogin>,
}

impl CredentialKind {
    fn is_token(&self) -> bool {
        matches!(self, Self::Token | Self::OperatorToken | Self::LoginToken)
    }

    fn is_session(&self) -> bool {
        matches!(self, Self::Session(_))
    }

    fn stored(&self) -> StoredKind {
        match self {
            Self::Token => StoredKind::Token,
            Self::OperatorToken => StoredKind::OperatorToken,
            Self::LoginToken => StoredKind::LoginToken,
            Self::PendingLogin(_) => StoredKind::PendingLogin,
            Self::Session(_) => StoredKind::Session,
            Self::Link(_) => StoredKind::Link,
            Self::UsedState => StoredKind::UsedState,
        }
    }
}

impl Credential {
    pub(super) fn decode(key: &Key, value: &Value) -> Result<Self> {
        let digest = keys::decode_credential(key)?;
        let row: CredentialRow = rows::decode(key, value)?;
        let incomplete = || rows::corrupt(key, &"the details of its kind are missing");
        let kind = match row.kind {
            StoredKind::Token => CredentialKind::Token,
            StoredKind::OperatorToken => CredentialKind::OperatorToken,
            StoredKind::LoginToken => CredentialKind::LoginToken,
            StoredKind::PendingLogin => CredentialKind::PendingLogin(row.login.ok_or_else(incomplete)?),
            StoredKind::Session => CredentialKind::Session(row.session.ok_or_else(incomplete)?),
            StoredKind::Link => CredentialKind::Link(row.link.ok_or_else(incomplete)?),
            StoredKind::UsedState => CredentialKind::UsedState,
        };
        let role = row.role.map(|number| decode_role(key, number)).transpose()?;
        let CredentialRow { principal, label, created_us, created_by, expires_us, project, .. } = row;
        Ok(Self { digest, kind, principal, label, created_us, created_by, expires_us, project, role })
    }

    fn encode(&self) -> Value {
        let Self { kind, principal, label, created_us, created_by, expires_us, project, role, digest: _ } =
            self.clone();
        let mut row = CredentialRow {
            kind: kind.stored(),
            principal,
            label,
            created_us,
            created_by,
            expires_us,
            project,
            role: role.map(i32::from),
            session: None,
            link: None,
            login: None,
        };
        match kind {
            CredentialKind::Token
            | CredentialKind::OperatorToken
            | CredentialKind::LoginToken
            | CredentialKind::UsedState => {}
            CredentialKind::PendingLogin(login) => row.login = Some(login),
            CredentialKind::Session(session) => row.session = Some(session),
            CredentialKind::Link(link) => row.link = Some(link),
        }
        rows::encode(&row)
    }

    /// The name of the credential in lists: the first digits of its digest.
    pub fn id(&self) -> String {
        hex(&self.digest[..8])
    }

    /// Whether the credential is a token, rather than a session, a link, a pending login or a used state.
    pub fn is_token(&self) -> bool {
        self.kind.is_token()
    }

    /// Whether the principal of the credential stays without a role: the credential is a token, and none of the tokens
    /// of operators that stay as rows after their end.
    pub(super) fn keeps_principal(&self) -> bool {
        self.is_token() && !self.is_expired(0)
    }

    /// The details of a link; `None` for a credential of another kind.
    pub fn as_link(&self) -> Option<&Link> {
        match &self.kind {
            CredentialKind::Link(link) => Some(link),
            _ => None,
        }
    }

    /// Whether owners see the credential among the tokens: while it is valid, and for some time after its end.
    pub fn is_listed(&self, now_us: i64) -> bool {
        self.kind.is_token() && !self.is_expired(now_us.saturating_sub(LISTED_AFTER_END_US))
    }

    pub fn is_expired(&self, now_us: i64) -> bool {
        let has_ended = match &self.kind {
            CredentialKind::Session(session) => session.ends_us <= now_us,
            _ => false,
        };
        has_ended || self.expires_us.is_some_and(|expires_us| expires_us <= now_us)
    }

    /// Whether the use of a session must be stored, so that the session does not end while it is used.
    pub fn is_due(&self, now_us: i64) -> bool {
        let renewed = now_us.saturating_add(SESSION_IDLE_US - SESSION_RENEWAL_US);
        self.kind.is_session() && self.expires_us.is_some_and(|expires_us| expires_us < renewed)
    }
}

pub(super) fn decode_role(key: &Key, number: i32) -> Result<Role> {
    let role = Role::try_from(number).ok().filter(|role| *role != Role::Unspecified);
    role.ok_or_else(|| rows::corrupt(key, &format!("the role {number} is unknown")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The credential with this digest, if it has not expired.
pub async fn credential_find(
    snapshot: &dyn Snapshot,
    digest: &Digest,
    now_us: i64,
) -> Result<Option<Credential>> {
    let key = keys::credential(digest);
    let Some(value) = snapshot.get(&key).await? else { return Ok(None) };
    let credential = Credential::decode(&key, &value)?;
    Ok((!credential.is_expired(now_us)).then_some(credential))
}

/// The credential with this digest, if a caller may show it with a call: a token, or a session whose token has not
/// ended.
pub(super) async fn credential_of_caller(
    snapshot: &dyn Snapshot,
    digest: &Digest,
    now_us: i64,
) -> Result<Option<Credential>> {
    let Some(credential) = credential_find(snapshot, digest, now_us).await? else { return Ok(None) };
    let is_valid = match &credential.kind {
        CredentialKind::Token | CredentialKind::OperatorToken | CredentialKind::LoginToken => true,
        CredentialKind::Session(Session { token: None, .. }) => true,
        CredentialKind::Session(Session { token: Some(token), .. }) => {
            let token = credential_find(snapshot, token, now_us).await?;
            token.is_some_and(|token| token.kind.is_token() && token.principal == credential.principal)
        }
        CredentialKind::PendingLogin(_) | CredentialKind::Link(_) | CredentialKind::UsedState => false,
    };
    Ok(is_valid.then_some(credential))
}

/// All credentials of all kinds, also expired ones, in order of creation.
pub async fn credentials_list(snapshot: &dyn Snapshot) -> Result<Vec<Credential>> {
    decode_all(rows::scan_all(snapshot, &keys::credentials()).await?)
}

fn decode_all(found: Vec<(Key, Value)>) -> Result<Vec<Credential>> {
    let decoded = found.iter().map(|(key, value)| Credential::decode(key, value));
    let mut credentials = decoded.collect::<Result<Vec<_>>>()?;
    credentials.sort_by_key(|credential| (credential.created_us, credential.digest));
    Ok(credentials)
}

/// All credentials; the commit fails if one of them changes or a credential is added.
pub(super) async fn credentials_read(transaction: &Transaction) -> Result<Vec<Credential>> {
    decode_all(rows::read_all(transaction, &keys::credentials()).await?)
}

/// Writes a credential, and clears expired credentials. A principal that the credential names must exist. `ended` is a
/// credential that the transaction ends, which its reads still see.
pub(super) async fn credential_insert(
    transaction: &mut Transaction,
    credential: &Credential,
    ended: Option<&Digest>,
) -> Result<Result<(), AccessRefusal>> {
    let now_us = credential.created_us;
    let mut others = credentials_read(transaction).await?;
    // Only rows that remain count: an earlier row of the credential is replaced.
    others.retain(|other| other.digest != credential.digest && Some(&other.digest) != ended);
    let (expired, valid): (Vec<_>, Vec<_>) = others.into_iter().partition(|other| other.is_expired(now_us));
    if let Err(refusal) = make_room(transaction, &valid, credential) {
        return Ok(Err(refusal));
    }
    let is_full = valid.len() + expired.len() >= MAX_TOKENS;
    for other in expired.iter().filter(|other| is_swept(other, now_us, is_full)) {
        transaction.batch().clear(keys::credential(&other.digest));
    }
    credential_set(transaction, credential);
    Ok(Ok(()))
}

/// Checks that there is room for one more credential. Old sessions make room for a session, and old logins for a login.
fn make_room(
    transaction: &mut Transaction,
    valid: &[Credential],
    credential: &Credential,
) -> Result<(), AccessRefusal> {
    let alike: Vec<_> = valid.iter().filter(|other| is_alike(&other.kind, &credential.kind)).collect();
    let of_project =
        alike.iter().filter(|it| it.project.is_some() && it.project == credential.project).count();
    let of_principal = || alike.iter().copied().filter(|it| it.principal == credential.principal);
    match &credential.kind {
        kind if kind.is_token() && alike.len() >= MAX_TOKENS => {
            Err(AccessRefusal::TooManyCredentials { limit: MAX_TOKENS })
        }
        kind if kind.is_token() && of_project >= MAX_TOKENS_OF_PROJECT => {
            Err(AccessRefusal::TooManyTokensOfProject { limit: MAX_TOKENS_OF_PROJECT })
        }
        CredentialKind::PendingLogin(login) => {
            make_room_for_login(transaction, &alike, &login.network, credential.created_us)
        }
        CredentialKind::Link(_) if alike.len() >= MAX_LINKS => {
            Err(AccessRefusal::TooManyLinks { limit: MAX_LINKS })
        }
        CredentialKind::Link(_) if of_project >= MAX_LINKS_OF_PROJECT => {
            Err(AccessRefusal::TooManyLinksOfProject { limit: MAX_LINKS_OF_PROJECT })
        }
        CredentialKind::Session(_) => {
            let own: Vec<_> = of_principal().collect();
            clear_oldest(transaction, own.into_iter(), MAX_SESSIONS_OF_PRINCIPAL);
            clear_oldest(transaction, alike.iter().copied(), MAX_SESSIONS);
            Ok(())
        }
        CredentialKind::UsedState if of_principal().count() >= MAX_USED_STATES_OF_PRINCIPAL => {
            Err(AccessRefusal::TooManySignIns { limit: MAX_USED_STATES_OF_PRINCIPAL })
        }
        _ => Ok(()),
    }
}

/// Whether two credentials count against the same limit.
fn is_alike(one: &CredentialKind, other: &CredentialKind) -> bool {
    one.stored() == other.stored() || one.is_token() && other.is_token()
}

/// The network that a login counts against; empty if it counts against no network.
fn network_of_login(login: &Credential) -> &str {
    match &login.kind {
        CredentialKind::PendingLogin(login) => &login.network,
        _ => "",
    }
}

/// Clears one of the waiting logins, which are sorted by age, if one more from this network would exceed a limit.
fn make_room_for_login(
    transaction: &mut Transaction,
    waiting: &[&Credential],
    network: &str,
    now_us: i64,
) -> Result<(), AccessRefusal> {
    let own = waiting.iter().filter(|it| network_of_login(it) == network).count();
    let ended = if !network.is_empty() && own >= MAX_LOGINS_OF_NETWORK {
        waiting.iter().find(|it| network_of_login(it) == network)
    } else if waiting.len() >= MAX_LOGINS {
        // The network with the most logins loses one.
        let mut counts = HashMap::from([(network, 1)]);
        for login in waiting {
            *counts.entry(network_of_login(login)).or_default() += 1;
        }
        // The last of the maxima, which is the oldest login.
        waiting.iter().rev().max_by_key(|it| counts.get(network_of_login(it)))
    } else {
        None
    };
    let Some(ended) = ended else { return Ok(()) };
    let is_kept = now_us.saturating_sub(ended.created_us) < LOGIN_KEPT_US;
    if is_kept && network_of_login(ended) == network {
        return Err(AccessRefusal::TooManyLogins);
    }
    transaction.batch().clear(keys::credential(&ended.digest));
    Ok(())
}

/// Clears the oldest of these credentials, which are sorted by age, so that one more credential is within the limit.
fn clear_oldest<'a>(
    transaction: &mut Transaction,
    credentials: impl ExactSizeIterator<Item = &'a Credential>,
    limit: usize,
) {
    let excess = (credentials.len() + 1).saturating_sub(limit);
    for oldest in credentials.take(excess) {
        transaction.batch().clear(keys::credential(&oldest.digest));
    }
}

/// Whether an expired credential is cleared. Expired tokens are listed for some time, and tokens of operators stay.
fn is_swept(expired: &Credential, now_us: i64, is_full: bool) -> bool {
    match expired.kind {
        CredentialKind::OperatorToken => false,
        CredentialKind::Token | CredentialKind::LoginToken => is_full || !expired.is_listed(now_us),
        CredentialKind::PendingLogin(_)
        | CredentialKind::Session(_)
        | CredentialKind::Link(_)
        | CredentialKind::UsedState => true,
    }
}

/// Clears credentials that have expired.
pub async fn credentials_sweep(snapshot: &dyn Snapshot, now_us: i64, batch: &mut Batch) -> Result<()> {
    for (key, value) in rows::scan_all(snapshot, &keys::credentials()).await? {
        // A damaged row must not keep the other rows.
        let Some(credential) = rows::readable(Credential::decode(&key, &value))? else { continue };
        if credential.is_expired(now_us) && is_swept(&credential, now_us, false) {
            // A session stays if its use was stored since it was listed.
            batch.expect(key.clone(), Some(value));
            batch.clear(key);
        }
    }
    Ok(())
}

/// Writes a credential to which no limit applies.
pub(super) fn credential_set(transaction: &mut Transaction, credential: &Credential) {
    transaction.batch().set(keys::credential(&credential.digest), credential.encode());
}

/// Makes a credential invalid.
pub(super) fn credential_end(transaction: &mut Transaction, credential: &Credential) {
    match credential.kind {
        CredentialKind::OperatorToken => {
            // Expired by any clock.
            credential_set(transaction, &Credential { expires_us: Some(0), ..credential.clone() });
        }
        _ => {
            transaction.batch().clear(keys::credential(&credential.digest));
        }
    }
}

/// Ends the sessions of a principal, and makes its links invalid. `only`: the project to which they are limited; `None`
/// for all of them.
pub(super) async fn sessions_end(
    transaction: &mut Transaction,
    principal: &str,
    only: Option<&str>,
) -> Result<()> {
    let credentials = credentials_read(transaction).await?;
    sessions_end_among(transaction, &credentials, principal, only);
    Ok(())
}

/// Does what `sessions_end` does, with credentials that were read.
pub(super) fn sessions_end_among(
    transaction: &mut Transaction,
    credentials: &[Credential],
    principal: &str,
    only: Option<&str>,
) {
    for credential in credentials {
        let is_meant = only.is_none() || credential.project.as_deref() == only;
        let ends = matches!(credential.kind, CredentialKind::Session(_) | CredentialKind::Link(_));
        if credential.principal == principal && ends && is_meant {
            credential_end(transaction, credential);
        }
    }
}

/// Takes a credential that can be used once: the first caller to commit has used it. `None` if it does not exist or
/// has expired.
pub async fn credential_take(
    transaction: &mut Transaction,
    digest: &Digest,
    now_us: i64,
) -> Result<Option<Credential>> {
    let key = keys::credential(digest);
    let Some(value) = transaction.get(&key).await? else { return Ok(None) };
    let credential = Credential::decode(&key, &value)?;
    if credential.is_expired(now_us) {
        return Ok(None);
    }
    transaction.batch().clear(key);
    Ok(Some(credential))
}

/// Ends a session. Returns the session if it was valid.
pub async fn session_end(
    transaction: &mut Transaction,
    digest: &Digest,
    now_us: i64,
) -> Result<Option<Credential>> {
    let key = keys::credential(digest);
    let Some(value) = transaction.get(&key).await? else { return Ok(None) };
    let credential = Credential::decode(&key, &value)?;
    if !credential.kind.is_session() {
        return Ok(None);
    }
    transaction.batch().clear(key);
    Ok((!credential.is_expired(now_us)).then_some(credential))
}

/// Stores the use of a session, if that is due.
pub async fn session_renew(transaction: &mut Transaction, digest: &Digest, now_us: i64) -> Result<()> {
    let key = keys::credential(digest);
    let Some(value) = transaction.get(&key).await? else { return Ok(()) };
    let credential = Credential::decode(&key, &value)?;
    if credential.is_due(now_us) && !credential.is_expired(now_us) {
        let expires_us = Some(now_us.saturating_add(SESSION_IDLE_US));
        credential_set(transaction, &Credential { expires_us, ..credential });
    }
    Ok(())
}
