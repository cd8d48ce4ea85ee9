//! Applies the file of `MATYAN_ACCESS_FILE` to the store when a process starts: roles and tokens that the file has are put
//! there, and those that it had earlier are taken. What people have granted and created stays, except a role in the same
//! projects. Each change has an entry in the audit log. Several backends may apply the same file at once:
//! each change is its own transaction, and changes nothing the second time.

use std::collections::BTreeSet;

use matyan_access::{Role, TokenDigest};
use matyan_model::{
    access::{
        AccessRefusal, Credential, CredentialKind, Grant, credential_put, credential_remove,
        credential_replace, credentials_list, grant_put, grant_remove, grants_list,
    },
    audit::{AuditEntry, AuditPosition, audit_put},
};
use matyan_store::{Error, Result, Store, Transaction, transact};

use super::clock;
use crate::settings::{AccessFile, DeclaredRole, DeclaredToken};

/// The author of grants from the file. No principal can have this name, because it contains a space.
const ORIGIN: &str = "access file";

/// The name of these changes in the audit log.
const RPC: &str = "access-file";

/// Makes the roles and tokens in the store match the file.
pub(super) async fn apply(store: &dyn Store, file: &AccessFile, now_us: i64) -> Result<()> {
    apply_roles(store, file, now_us).await?;
    apply_tokens(store, file, now_us).await
}

async fn apply_roles(store: &dyn Store, file: &AccessFile, now_us: i64) -> Result<()> {
    let stored = grants_list(store.snapshot().await?.as_ref()).await?;
    let is_same = |grant: &Grant, role: &DeclaredRole| {
        grant.principal == role.principal && grant.project == role.project
    };
    // Grants come first, so that the last operator may be replaced by another one.
    for role in &file.roles {
        let grant = grant_of(role, now_us);
        let is_there = stored.iter().any(|it| {
            is_same(it, role) && it.role == grant.role && it.granted_by == ORIGIN && it.provider.is_none()
        });
        if !is_there {
            put_grant(store, &grant, now_us).await?;
        }
    }
    for grant in stored.iter().filter(|grant| grant.granted_by == ORIGIN) {
        if !file.roles.iter().any(|role| is_same(grant, role)) {
            remove_grant(store, grant, now_us).await?;
        }
    }
    Ok(())
}

async fn put_grant(store: &dyn Store, grant: &Grant, now_us: i64) -> Result<()> {
    let role = Role::from_proto(grant.role).map_or("unspecified", Role::name);
    let entry = entry(grant.project.clone(), format!("{} {role}", grant.principal), now_us);
    let put = async |mut transaction: Transaction| {
        let put = grant_put(&mut transaction, grant).await?;
        if put.is_ok() {
            audit_put(transaction.batch(), &entry);
        }
        Ok::<_, Error>((transaction, put))
    };
    report(&grant.principal, transact(store, put).await?.0);
    Ok(())
}

async fn remove_grant(store: &dyn Store, grant: &Grant, now_us: i64) -> Result<()> {
    let entry = entry(grant.project.clone(), format!("{} without role", grant.principal), now_us);
    let remove = async |mut transaction: Transaction| {
        let removed = grant_remove(&mut transaction, &grant.principal, grant.project.as_deref()).await?;
        if removed == Ok(true) {
            audit_put(transaction.batch(), &entry);
        }
        Ok::<_, Error>((transaction, removed))
    };
    report(&grant.principal, transact(store, remove).await?.0.map(drop));
    Ok(())
}

async fn apply_tokens(store: &dyn Store, file: &AccessFile, now_us: i64) -> Result<()> {
    let stored = credentials_list(store.snapshot().await?.as_ref()).await?;
    let wanted: BTreeSet<TokenDigest> = file.tokens.iter().map(|token| token.digest).collect();
    let is_obsolete = |token: &&Credential| {
        token.is_token() && token.created_by == ORIGIN && !wanted.contains(&TokenDigest(token.digest))
    };
    // The limits do not count expired tokens, so there is no room in their place.
    let (expired, mut obsolete): (Vec<_>, Vec<_>) =
        stored.iter().filter(is_obsolete).partition(|token| token.is_expired(now_us));
    let changed = changed_tokens(file, &stored, now_us);
    // New tokens come first: a principal without a role is forgotten with its last token.
    let mut waiting = Vec::new();
    for (token, replaced) in paired(changed, &mut obsolete) {
        let mut put = put_token(store, &token, None, now_us).await?;
        let mut left = replaced;
        if is_full(put)
            && let Some(replaced) = replaced
        {
            put = put_token(store, &token, Some(replaced), now_us).await?;
            left = left.filter(|_| put.is_err());
        }
        obsolete.extend(left);
        if is_full(put) {
            waiting.push(token);
        } else {
            report(&token.principal, put);
        }
    }
    for token in obsolete.into_iter().chain(expired) {
        remove_token(store, token, now_us).await?;
    }
    // There may be room now.
    for token in waiting {
        report(&token.principal, put_token(store, &token, None, now_us).await?);
    }
    Ok(())
}

/// Tokens of the file that the store lacks, or has in another form.
fn changed_tokens(file: &AccessFile, stored: &[Credential], now_us: i64) -> Vec<Credential> {
    let mut changed = Vec::new();
    for token in &file.tokens {
        let credential = credential_of(token, now_us);
        match stored.iter().find(|known| known.digest == credential.digest) {
            // Someone has created it, and may have revoked it for a reason.
            Some(known) if known.created_by != ORIGIN => tracing::warn!(
                token = token.digest.id(),
                "the access file has a token that was created otherwise; it is left as it is"
            ),
            Some(known) if is_unchanged(known, &credential) => {}
            _ => changed.push(credential),
        }
    }
    changed
}

/// Pairs each token with an obsolete token, as long as there are any: a token of the same principal and
/// project, else of the same project, else any token. The token may replace it if there is no room for both.
fn paired<'s>(
    tokens: Vec<Credential>,
    obsolete: &mut Vec<&'s Credential>,
) -> Vec<(Credential, Option<&'s Credential>)> {
    let mut pairs: Vec<_> = tokens.into_iter().map(|token| (token, None)).collect();
    let is_alike: [fn(&Credential, &Credential) -> bool; 3] = [
        |one, other| one.project == other.project && one.principal == other.principal,
        |one, other| one.project == other.project,
        |_, _| true,
    ];
    for is_alike in is_alike {
        for (token, replaced) in pairs.iter_mut().filter(|(_, replaced)| replaced.is_none()) {
            let found = obsolete.iter().position(|other| is_alike(token, other));
            *replaced = found.map(|found| obsolete.remove(found));
        }
    }
    pairs
}

/// Whether the store has no room for a token.
fn is_full(put: Result<(), AccessRefusal>) -> bool {
    use AccessRefusal::{TooManyCredentials, TooManyTokensOfProject};
    matches!(put, Err(TooManyCredentials { .. } | TooManyTokensOfProject { .. }))
}

/// Whether a stored token is as the file has it, whenever it was stored.
fn is_unchanged(known: &Credential, wanted: &Credential) -> bool {
    *known == Credential { created_us: known.created_us, ..wanted.clone() }
}

/// Puts a token, next to the stored tokens or in the place of `replaced`.
async fn put_token(
    store: &dyn Store,
    token: &Credential,
    replaced: Option<&Credential>,
    now_us: i64,
) -> Result<Result<(), AccessRefusal>> {
    let resource = format!("{} token {}", token.principal, token.id());
    let mut entries = vec![entry(token.project.clone(), resource, now_us)];
    entries.extend(replaced.map(|replaced| entry_of_removal(replaced, now_us)));
    let put = async |mut transaction: Transaction| {
        let put = match replaced {
            Some(replaced) => credential_replace(&mut transaction, replaced, token).await?,
            None => credential_put(&mut transaction, token).await?,
        };
        if put.is_ok() {
            for entry in &entries {
                audit_put(transaction.batch(), entry);
            }
        }
        Ok::<_, Error>((transaction, put))
    };
    Ok(transact(store, put).await?.0)
}

async fn remove_token(store: &dyn Store, token: &Credential, now_us: i64) -> Result<()> {
    let entry = entry_of_removal(token, now_us);
    let remove = async |mut transaction: Transaction| {
        credential_remove(&mut transaction, token).await?;
        audit_put(transaction.batch(), &entry);
        Ok::<_, Error>((transaction, ()))
    };
    transact(store, remove).await?;
    Ok(())
}

fn entry_of_removal(token: &Credential, now_us: i64) -> AuditEntry {
    let resource = format!("{} without token {}", token.principal, token.id());
    entry(token.project.clone(), resource, now_us)
}

/// Reports a change that the store refuses. The server starts nevertheless: an operator may need it to correct the file.
fn report(principal: &str, outcome: Result<(), AccessRefusal>) {
    if let Err(refusal) = outcome {
        tracing::warn!(target: "audit", principal, ?refusal, "a part of the access file is not applied");
    }
}

fn grant_of(role: &DeclaredRole, now_us: i64) -> Grant {
    let DeclaredRole { principal, project, role } = role.clone();
    let granted_by = ORIGIN.to_owned();
    Grant { principal, project, role: role.to_proto(), granted_us: now_us, granted_by, provider: None }
}

fn credential_of(token: &DeclaredToken, now_us: i64) -> Credential {
    let DeclaredToken { digest, principal, label, project, limit, expires_us } = token.clone();
    Credential {
        digest: digest.0,
        kind: CredentialKind::Token,
        principal,
        label,
        created_us: now_us,
        created_by: ORIGIN.to_owned(),
        expires_us,
        project,
        role: limit.map(Role::to_proto),
    }
}

/// An entry of the audit log. Its id has to differ from the ids of other changes at the same time.
fn entry(project: Option<String>, resource: String, now_us: i64) -> AuditEntry {
    AuditEntry {
        position: AuditPosition { time_us: now_us, id: (clock::new_id_text())() },
        principal: ORIGIN.to_owned(),
        credential: String::new(),
        address: String::new(),
        project,
        rpc: RPC.to_owned(),
        resource,
        code: 0,
        request_id: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use matyan_access::AccessToken;
    use matyan_model::{
        access::{access_find, grants_of},
        audit::{AuditFilter, audit_page},
        format::format_open,
    };
    use matyan_proto::access::v1::Role as StoredRole;
    use matyan_store::embedded::EmbeddedStore;

    use super::*;

    const NOW_US: i64 = 1_000;

    async fn store() -> (tempfile::TempDir, Arc<dyn Store>) {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("store"), Default::default()).await.unwrap();
        format_open(&store).await.unwrap();
        (folder, Arc::new(store))
    }

    fn role(principal: &str, project: Option<&str>, role: Role) -> DeclaredRole {
        DeclaredRole { principal: principal.to_owned(), project: project.map(str::to_owned), role }
    }

    fn token(token: &AccessToken, principal: &str) -> DeclaredToken {
        DeclaredToken {
            digest: token.digest(),
            principal: principal.to_owned(),
            label: "build server".to_owned(),
            project: Some("speech".to_owned()),
            limit: Some(Role::Ingest),
            expires_us: None,
        }
    }

    async fn roles_of(store: &Arc<dyn Store>, principal: &str) -> Vec<(Option<String>, StoredRole)> {
        let granted = grants_of(store.snapshot().await.unwrap().as_ref(), principal).await.unwrap();
        granted.into_iter().map(|grant| (grant.project, grant.role)).collect()
    }

    async fn is_valid(store: &Arc<dyn Store>, token: &AccessToken) -> bool {
        let snapshot = store.snapshot().await.unwrap();
        access_find(snapshot.as_ref(), &token.digest().0, NOW_US).await.unwrap().is_some()
    }

    async fn entries(store: &Arc<dyn Store>) -> usize {
        let snapshot = store.snapshot().await.unwrap();
        let page = audit_page(snapshot.as_ref(), &AuditFilter::default(), None, 100).await.unwrap();
        page.entries.len()
    }

    #[tokio::test]
    async fn rule_122_the_store_has_what_the_file_has_and_what_people_have_granted() {
        let (_folder, store) = store().await;
        let secret = (clock::new_token())();
        let by_hand = Grant { granted_by: "ana".to_owned(), ..grant_of(&role("bo", None, Role::Viewer), 5) };
        put_grant(store.as_ref(), &by_hand, NOW_US).await.unwrap();
        let file = AccessFile {
            roles: vec![role("ana", Some("speech"), Role::Editor), role("ci", Some("speech"), Role::Ingest)],
            tokens: vec![token(&secret, "ci")],
        };
        apply(store.as_ref(), &file, NOW_US).await.unwrap();
        assert_eq!(roles_of(&store, "ana").await, [(Some("speech".to_owned()), StoredRole::Editor)]);
        assert!(is_valid(&store, &secret).await);
        assert_eq!(entries(&store).await, 4, "the grant by hand, two roles and a token");
        apply(store.as_ref(), &file, NOW_US + 1).await.unwrap();
        assert_eq!(entries(&store).await, 4, "nothing has changed");

        // Somebody has changed a role of the file, and the next start changes it back.
        let smaller =
            Grant { granted_by: "bo".to_owned(), role: StoredRole::Viewer, ..grant_of(&file.roles[0], 6) };
        put_grant(store.as_ref(), &smaller, NOW_US).await.unwrap();
        apply(store.as_ref(), &file, NOW_US + 2).await.unwrap();
        assert_eq!(roles_of(&store, "ana").await, [(Some("speech".to_owned()), StoredRole::Editor)]);

        // What is taken out of the file is taken from the store, and nothing else.
        apply(store.as_ref(), &AccessFile::default(), NOW_US + 3).await.unwrap();
        assert!(roles_of(&store, "ana").await.is_empty() && roles_of(&store, "ci").await.is_empty());
        assert!(!is_valid(&store, &secret).await);
        assert_eq!(roles_of(&store, "bo").await, [(None, StoredRole::Viewer)]);
    }

    #[tokio::test]
    async fn rule_122_a_file_leaves_an_operator_and_tokens_of_others_as_they_are() {
        let (_folder, store) = store().await;
        let first = AccessFile { roles: vec![role("ops", None, Role::Operator)], tokens: Vec::new() };
        apply(store.as_ref(), &first, NOW_US).await.unwrap();
        apply(store.as_ref(), &AccessFile::default(), NOW_US + 1).await.unwrap();
        assert_eq!(roles_of(&store, "ops").await, [(None, StoredRole::Operator)], "there is one operator");
        let next = AccessFile { roles: vec![role("new", None, Role::Operator)], tokens: Vec::new() };
        apply(store.as_ref(), &next, NOW_US + 2).await.unwrap();
        assert!(roles_of(&store, "ops").await.is_empty());

        let secret = (clock::new_token())();
        let created =
            Credential { created_by: "new".to_owned(), ..credential_of(&token(&secret, "new"), NOW_US) };
        put_token(store.as_ref(), &created, None, NOW_US).await.unwrap().unwrap();
        let roles = vec![role("new", None, Role::Operator), role("ci", None, Role::Ingest)];
        let file = AccessFile { roles, tokens: vec![token(&secret, "ci")] };
        apply(store.as_ref(), &file, NOW_US + 3).await.unwrap();
        let snapshot = store.snapshot().await.unwrap();
        let (found, _) = access_find(snapshot.as_ref(), &created.digest, NOW_US).await.unwrap().unwrap();
        assert_eq!(found.principal, "new");
    }

    #[tokio::test]
    async fn a_token_is_replaced_although_its_principal_has_no_role() {
        let (_folder, store) = store().await;
        let first = (clock::new_token())();
        let next = (clock::new_token())();
        let roles = vec![role("ci", Some("speech"), Role::Ingest)];
        let file = AccessFile { roles, tokens: vec![token(&first, "ci")] };
        apply(store.as_ref(), &file, NOW_US).await.unwrap();
        let file = AccessFile { roles: Vec::new(), tokens: vec![token(&next, "ci")] };
        apply(store.as_ref(), &file, NOW_US + 1).await.unwrap();
        let left = credentials_list(store.snapshot().await.unwrap().as_ref()).await.unwrap();
        let digests: Vec<_> = left.iter().map(|credential| credential.digest).collect();
        assert_eq!(digests, [next.digest().0]);
    }

    /// Fills a project with tokens of someone else, except for `room` tokens.
    async fn fill_project(store: &Arc<dyn Store>, room: usize) {
        let ana = Grant { granted_by: "ops".to_owned(), ..grant_of(&role("ana", None, Role::Viewer), 5) };
        put_grant(store.as_ref(), &ana, NOW_US).await.unwrap();
        let by_hand = |secret| Credential {
            created_by: "ana".to_owned(),
            ..credential_of(&token(&secret, "ana"), NOW_US)
        };
        let put = async |mut transaction: Transaction| {
            for _ in room..2_000 {
                let put = credential_put(&mut transaction, &by_hand((clock::new_token())())).await?;
                assert_eq!(put, Ok(()));
            }
            Ok::<_, Error>((transaction, ()))
        };
        transact(store.as_ref(), put).await.unwrap();
    }

    #[tokio::test]
    async fn rule_122_all_tokens_are_rotated_although_there_is_no_room_for_old_and_new_ones() {
        let (_folder, store) = store().await;
        fill_project(&store, 3).await;
        let secrets = |count| (0..count).map(|_| (clock::new_token())()).collect::<Vec<_>>();
        // The first has no role, and is forgotten if it has no token in between.
        let principals = ["nobody", "ci", "ci", "ci"];
        let file = |secrets: &[AccessToken], label: &str| AccessFile {
            roles: vec![role("ci", Some("speech"), Role::Ingest)],
            tokens: secrets
                .iter()
                .zip(principals)
                .map(|(secret, principal)| DeclaredToken {
                    label: label.to_owned(),
                    ..token(secret, principal)
                })
                .collect(),
        };
        let first = secrets(3);
        let mut granted = file(&first, "first");
        granted.roles.push(role("nobody", Some("speech"), Role::Ingest));
        apply(store.as_ref(), &granted, NOW_US).await.unwrap();
        let before = entries(&store).await;
        let next = secrets(3);
        apply(store.as_ref(), &file(&next, "next"), NOW_US + 1).await.unwrap();
        for (old, new) in first.iter().zip(&next) {
            assert_eq!((is_valid(&store, old).await, is_valid(&store, new).await), (false, true));
        }
        assert_eq!(entries(&store).await - before, 7, "one role fewer, and three replaced tokens");

        // A token that changes needs no more room.
        apply(store.as_ref(), &file(&next, "renamed"), NOW_US + 2).await.unwrap();
        let stored = credentials_list(store.snapshot().await.unwrap().as_ref()).await.unwrap();
        assert_eq!(stored.iter().filter(|token| token.label == "renamed").count(), 3);
        // There is no room for a fourth.
        let more = [next.clone(), secrets(1)].concat();
        apply(store.as_ref(), &file(&more, "renamed"), NOW_US + 3).await.unwrap();
        assert_eq!((is_valid(&store, &more[2]).await, is_valid(&store, &more[3]).await), (true, false));
    }

    #[tokio::test]
    async fn rule_122_an_old_token_ends_although_the_new_one_finds_no_room() {
        let (_folder, store) = store().await;
        fill_project(&store, 0).await;
        let old = (clock::new_token())();
        let new = (clock::new_token())();
        let file = |token| AccessFile {
            roles: ["speech", "vision"].map(|project| role("ci", Some(project), Role::Ingest)).to_vec(),
            tokens: vec![token],
        };
        let elsewhere = DeclaredToken { project: Some("vision".to_owned()), ..token(&old, "ci") };
        apply(store.as_ref(), &file(elsewhere), NOW_US).await.unwrap();
        assert!(is_valid(&store, &old).await);
        apply(store.as_ref(), &file(token(&new, "ci")), NOW_US + 1).await.unwrap();
        assert_eq!((is_valid(&store, &old).await, is_valid(&store, &new).await), (false, false));
    }

    #[tokio::test]
    async fn rule_122_a_token_takes_the_place_of_a_valid_one() {
        let (_folder, store) = store().await;
        fill_project(&store, 2).await;
        let [expired, old, new] = [(); 3].map(|()| (clock::new_token())());
        let ends = DeclaredToken { expires_us: Some(NOW_US + 1), ..token(&expired, "ci") };
        let file = |tokens| AccessFile { roles: vec![role("ci", Some("speech"), Role::Ingest)], tokens };
        apply(store.as_ref(), &file(vec![ends, token(&old, "ci")]), NOW_US).await.unwrap();
        // Someone else takes the place of the expired one.
        let other = (clock::new_token())();
        let by_hand =
            Credential { created_by: "ana".to_owned(), ..credential_of(&token(&other, "ana"), NOW_US + 2) };
        put_token(store.as_ref(), &by_hand, None, NOW_US + 2).await.unwrap().unwrap();
        apply(store.as_ref(), &file(vec![token(&new, "ci")]), NOW_US + 3).await.unwrap();
        assert_eq!((is_valid(&store, &old).await, is_valid(&store, &new).await), (false, true));
    }

    #[tokio::test]
    async fn rule_122_a_token_is_put_when_another_one_has_made_room() {
        let (_folder, store) = store().await;
        fill_project(&store, 2).await;
        let [first, second, third] = [(); 3].map(|()| (clock::new_token())());
        let file = |secrets: &[&AccessToken]| AccessFile {
            roles: vec![role("ci", Some("speech"), Role::Ingest)],
            tokens: secrets.iter().map(|secret| token(secret, "ci")).collect(),
        };
        apply(store.as_ref(), &file(&[&first]), NOW_US).await.unwrap();
        apply(store.as_ref(), &file(&[&second, &third]), NOW_US + 1).await.unwrap();
        let mut valid = Vec::new();
        for secret in [&first, &second, &third] {
            valid.push(is_valid(&store, secret).await);
        }
        assert_eq!(valid, [false, true, true]);
    }
}
