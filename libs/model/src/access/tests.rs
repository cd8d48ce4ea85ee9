//! Tests of the rows of access control, on the embedded store.

use matyan_store::{Batch, Commit, Error, Store as _};

use super::*;
use crate::{
    format::{FORMAT, FORMAT_WITH_ACCESS, format_open},
    testing::TestStore,
};

fn grant(principal: &str, project: Option<&str>, role: Role) -> Grant {
    let project = project.map(str::to_owned);
    Grant { principal: principal.to_owned(), project, role, granted_us: 5, granted_by: "op".to_owned() }
}

fn credential(principal: &str, digest: u8) -> Credential {
    Credential {
        digest: [digest; 32],
        kind: CredentialKind::Token,
        principal: principal.to_owned(),
        label: "laptop".to_owned(),
        created_us: 100,
        created_by: "op".to_owned(),
        expires_us: Some(200),
        project: Some(String::new()),
        role: Some(Role::Viewer),
    }
}

async fn put(store: &TestStore, grant: Grant) {
    let put = store.run(async |transaction| grant_put(transaction, &grant).await);
    assert_eq!(put.await.unwrap(), Ok(()));
}

async fn put_credential(store: &TestStore, credential: &Credential) -> Result<(), AccessRefusal> {
    store.run(async |transaction| credential_put(transaction, credential).await).await.unwrap()
}

async fn find(store: &TestStore, digest: u8, now_us: i64) -> Option<(Credential, Vec<Grant>)> {
    access_find(&*store.snapshot().await.unwrap(), &[digest; 32], now_us).await.unwrap()
}

async fn format(store: &TestStore) -> u32 {
    let key = keys::format();
    let value = store.snapshot().await.unwrap().get(&key).await.unwrap().unwrap();
    rows::decode(&key, &value).unwrap()
}

#[tokio::test]
async fn rule_61_a_store_gets_another_format_with_its_first_role() {
    let store = TestStore::open().await;
    format_open(&*store).await.unwrap();
    assert!(!access_is_used(&*store.snapshot().await.unwrap()).await.unwrap());
    assert_eq!(format(&store).await, FORMAT, "an open store can be opened by older programs");
    put(&store, grant("ana", None, Role::Viewer)).await;
    assert!(access_is_used(&*store.snapshot().await.unwrap()).await.unwrap());
    assert_eq!(format(&store).await, FORMAT_WITH_ACCESS);
    format_open(&*store).await.unwrap();
    assert_eq!(format(&store).await, FORMAT_WITH_ACCESS);
}

#[tokio::test]
async fn a_credential_is_found_with_the_roles_of_its_principal() {
    let store = TestStore::open().await;
    assert_eq!(put_credential(&store, &credential("ana", 1)).await, Err(AccessRefusal::UnknownPrincipal));
    let granted = [
        grant("ana", None, Role::Viewer),
        grant("ana", Some(""), Role::Owner),
        grant("ana", Some("speech"), Role::Editor),
    ];
    for grant in &granted {
        put(&store, grant.clone()).await;
    }
    // Names that are prefixes of each other.
    put(&store, grant("an", Some("speech"), Role::Ingest)).await;
    put(&store, grant("anan", Some("speech"), Role::Ingest)).await;
    let token = credential("ana", 1);
    assert_eq!(put_credential(&store, &token).await, Ok(()));
    assert_eq!(find(&store, 1, 199).await, Some((token.clone(), granted.to_vec())));
    assert_eq!(find(&store, 1, 200).await, None, "it has expired");
    assert_eq!(find(&store, 2, 0).await, None);
    assert_eq!(token.id(), "0101010101010101");
}

#[tokio::test]
async fn a_role_replaces_the_role_in_the_same_project() {
    let store = TestStore::open().await;
    put(&store, grant("ana", Some("speech"), Role::Editor)).await;
    put(&store, grant("ana", Some("speech"), Role::Viewer)).await;
    let listed = grants_list(&*store.snapshot().await.unwrap()).await.unwrap();
    assert_eq!(listed, [grant("ana", Some("speech"), Role::Viewer)]);
    let revoke =
        async |project| store.run(async |transaction| grant_remove(transaction, "ana", project).await).await;
    assert_eq!(revoke(Some("vision")).await.unwrap(), Ok(false));
    assert_eq!(revoke(None).await.unwrap(), Ok(false));
    assert_eq!(revoke(Some("speech")).await.unwrap(), Ok(true));
    assert!(grants_list(&*store.snapshot().await.unwrap()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_removed_principal_leaves_nothing_that_a_namesake_gets() {
    let store = TestStore::open().await;
    for name in ["ana", "ben"] {
        put(&store, grant(name, Some("speech"), Role::Editor)).await;
    }
    put_credential(&store, &credential("ana", 1)).await.unwrap();
    put_credential(&store, &credential("ben", 2)).await.unwrap();
    let remove = async || store.run(async |transaction| principal_remove(transaction, "ana").await).await;
    assert_eq!(remove().await.unwrap(), Ok(true));
    assert_eq!(remove().await.unwrap(), Ok(false));
    put(&store, grant("ana", None, Role::Viewer)).await;
    assert_eq!(find(&store, 1, 0).await, None);
    assert!(find(&store, 2, 0).await.is_some());
}

#[tokio::test]
async fn expired_tokens_are_listed_for_a_while_and_then_cleared() {
    let store = TestStore::open().await;
    put(&store, grant("ana", None, Role::Viewer)).await;
    put_credential(&store, &credential("ana", 1)).await.unwrap();
    let put_later = async |digest, created_us| {
        let later = Credential { created_us, expires_us: None, ..credential("ana", digest) };
        put_credential(&store, &later).await.unwrap();
        credentials_list(&*store.snapshot().await.unwrap()).await.unwrap().len()
    };
    assert_eq!(put_later(2, 200).await, 2, "an expired token is listed for a while");
    assert_eq!(find(&store, 1, 200).await, None, "and is not valid");
    assert_eq!(put_later(3, 199 + LISTED_AFTER_END_US).await, 3);
    assert_eq!(put_later(4, 200 + LISTED_AFTER_END_US).await, 3);
}

#[tokio::test]
async fn there_is_one_operator_token() {
    let store = TestStore::open().await;
    put(&store, grant("operator", None, Role::Viewer)).await;
    put_credential(&store, &credential("operator", 1)).await.unwrap();
    // A token that was replaced does not come back.
    for (digest, is_new) in [(2, true), (3, true), (2, false), (3, false)] {
        let kind = CredentialKind::OperatorToken;
        let token = Credential { kind, expires_us: None, ..credential("operator", digest) };
        let put = store.run(async |transaction| operator_token_put(transaction, &token).await);
        assert_eq!(put.await.unwrap(), is_new, "{digest}");
    }
    assert!(find(&store, 1, 0).await.is_some(), "other tokens stay");
    assert_eq!(find(&store, 2, 0).await, None);
    let (_, grants) = find(&store, 3, 0).await.unwrap();
    assert_eq!(grants.iter().map(|it| it.role).collect::<Vec<_>>(), [Role::Operator]);
}

#[tokio::test]
async fn the_last_operator_stays() {
    let store = TestStore::open().await;
    put(&store, grant("ana", None, Role::Operator)).await;
    put(&store, grant("ana", Some("speech"), Role::Owner)).await;
    let remove =
        async |name| store.run(async |transaction| principal_remove(transaction, name).await).await.unwrap();
    let revoke = async |name| {
        store.run(async |transaction| grant_remove(transaction, name, None).await).await.unwrap()
    };
    assert_eq!(remove("ana").await, Err(AccessRefusal::LastOperator));
    assert_eq!(revoke("ana").await, Err(AccessRefusal::LastOperator));
    put(&store, grant("ben", None, Role::Operator)).await;
    assert_eq!(revoke("ana").await, Ok(true));
    assert_eq!(remove("ana").await, Ok(true));
    assert_eq!(remove("ben").await, Err(AccessRefusal::LastOperator));
}

#[tokio::test]
async fn a_damaged_role_is_an_error_and_not_a_missing_role() {
    let store = TestStore::open().await;
    put(&store, grant("ana", None, Role::Viewer)).await;
    put_credential(&store, &credential("ana", 1)).await.unwrap();
    let mut batch = Batch::default();
    let row = GrantRow { role: 77, granted_us: 0, granted_by: String::new() };
    batch.set(keys::grant("ana", Some("speech")), rows::encode(&row));
    assert!(matches!(store.commit(batch).await.unwrap(), Commit::Done { .. }));
    let found = access_find(&*store.snapshot().await.unwrap(), &[1; 32], 0).await;
    assert!(matches!(found, Err(Error::Corrupt { .. })), "{found:?}");
}
