//! Tests of the rows of access control, on the embedded store.

mod identity;

mod login;

use matyan_proto::access::v1::Role;
use matyan_store::{Batch, Commit, Error, Store as _, Transaction};

use super::{
    credential::{LISTED_AFTER_END_US, credential_set},
    principal::{GrantRow, Principal},
    *,
};
use crate::{
    format::{FORMAT, format_open},
    rows,
    testing::TestStore,
};

fn grant(principal: &str, project: Option<&str>, role: Role) -> Grant {
    let project = project.map(str::to_owned);
    let granted_by = "op".to_owned();
    Grant { principal: principal.to_owned(), project, role, granted_us: 5, granted_by, provider: None }
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

async fn roles_of(store: &TestStore, principal: &str) -> Vec<Role> {
    let granted = grants_of(&*store.snapshot().await.unwrap(), principal).await.unwrap();
    granted.into_iter().map(|grant| grant.role).collect()
}

async fn format(store: &TestStore) -> u32 {
    let key = keys::format();
    let value = store.snapshot().await.unwrap().get(&key).await.unwrap().unwrap();
    rows::decode(&key, &value).unwrap()
}

#[tokio::test]
async fn rule_61_programs_without_access_control_refuse_every_store() {
    let store = TestStore::open().await;
    // The newest format that such a program opens.
    let mut batch = matyan_store::Batch::default();
    batch.set(keys::format(), rows::encode(&4_u32));
    store.commit(batch).await.unwrap();
    format_open(&*store).await.unwrap();
    assert_eq!(format(&store).await, FORMAT);
    assert!(!access_is_used(&*store.snapshot().await.unwrap()).await.unwrap());
    put(&store, grant("ana", None, Role::Viewer)).await;
    assert!(access_is_used(&*store.snapshot().await.unwrap()).await.unwrap());
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
    assert_eq!(remove().await.unwrap(), Ok(PrincipalRemoval::Removed));
    assert_eq!(remove().await.unwrap(), Ok(PrincipalRemoval::Unknown));
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
    let change = async |name, role| {
        let grant = grant(name, None, role);
        store.run(async |transaction| grant_put(transaction, &grant).await).await.unwrap()
    };
    assert_eq!(remove("ana").await, Err(AccessRefusal::LastOperator));
    assert_eq!(revoke("ana").await, Err(AccessRefusal::LastOperator));
    for role in [Role::Viewer, Role::Owner, Role::Monitor] {
        assert_eq!(change("ana", role).await, Err(AccessRefusal::LastOperator));
    }
    assert_eq!(roles_of(&store, "ana").await, [Role::Operator, Role::Owner]);
    assert_eq!(change("ana", Role::Operator).await, Ok(()));
    put(&store, grant("ben", None, Role::Operator)).await;
    assert_eq!(change("ana", Role::Viewer).await, Ok(()));
    assert_eq!(change("ben", Role::Viewer).await, Err(AccessRefusal::LastOperator));
    assert_eq!(revoke("ana").await, Ok(true));
    assert_eq!(remove("ana").await, Ok(PrincipalRemoval::Removed));
    assert_eq!(remove("ben").await, Err(AccessRefusal::LastOperator));
}

#[tokio::test]
async fn a_damaged_role_is_an_error_and_not_a_missing_role() {
    let store = TestStore::open().await;
    put(&store, grant("ana", None, Role::Viewer)).await;
    put_credential(&store, &credential("ana", 1)).await.unwrap();
    let mut batch = Batch::default();
    let row = GrantRow { role: 77, granted_us: 0, granted_by: String::new(), provider: None };
    batch.set(keys::grant("ana", Some("speech")), rows::encode(&row));
    assert!(matches!(store.commit(batch).await.unwrap(), Commit::Done { .. }));
    let found = access_find(&*store.snapshot().await.unwrap(), &[1; 32], 0).await;
    assert!(matches!(found, Err(Error::Corrupt { .. })), "{found:?}");
}

/// A row in the form that it had before there were other kinds of credentials.
#[tokio::test]
async fn tokens_of_earlier_versions_are_valid() {
    #[derive(minicbor::Encode)]
    #[cbor(array)]
    struct EarlierRow<'a>(
        #[n(0)] u8,
        #[n(1)] &'a str,
        #[n(2)] &'a str,
        #[n(3)] i64,
        #[n(4)] &'a str,
        #[n(5)] Option<i64>,
        #[n(6)] Option<&'a str>,
        #[n(7)] Option<i32>,
    );
    #[derive(minicbor::Encode)]
    #[cbor(array)]
    struct EarlierPrincipal<'a>(#[n(0)] i64, #[n(1)] &'a str);
    #[derive(minicbor::Encode)]
    #[cbor(array)]
    struct EarlierGrant<'a>(#[n(0)] i32, #[n(1)] i64, #[n(2)] &'a str);
    let store = TestStore::open().await;
    let mut batch = Batch::default();
    let row = EarlierRow(0, "ana", "laptop", 100, "op", Some(200), Some(""), Some(Role::Viewer.into()));
    batch.set(keys::credential(&[1; 32]), rows::encode(&row));
    batch.set(keys::principal("ana"), rows::encode(&EarlierPrincipal(5, "op")));
    let row = EarlierGrant(Role::Editor.into(), 5, "op");
    batch.set(keys::grant("ana", Some("speech")), rows::encode(&row));
    assert!(matches!(store.commit(batch).await.unwrap(), Commit::Done { .. }));
    let expected = (credential("ana", 1), vec![grant("ana", Some("speech"), Role::Editor)]);
    assert_eq!(find(&store, 1, 199).await, Some(expected));
}

/// A session that starts at 100, and ends 30 days later.
fn session(principal: &str, digest: u8, token: Option<u8>) -> Credential {
    let ends_us = 100 + 30 * 24 * 3_600 * 1_000_000;
    Credential {
        kind: CredentialKind::Session(Session {
            ends_us,
            token: token.map(|digest| [digest; 32]),
            wrong_codes: 0,
        }),
        expires_us: Some(100 + SESSION_IDLE_US),
        project: None,
        role: None,
        ..credential(principal, digest)
    }
}

async fn renew(store: &TestStore, digest: u8, now_us: i64) {
    store.run(async |transaction| session_renew(transaction, &[digest; 32], now_us).await).await.unwrap();
}

#[tokio::test]
async fn rule_82_a_session_ends_when_nobody_uses_it_and_at_its_end_in_any_case() {
    let store = TestStore::open().await;
    put(&store, grant("ana", None, Role::Viewer)).await;
    put_credential(&store, &session("ana", 1, None)).await.unwrap();
    assert!(find(&store, 1, 99 + SESSION_IDLE_US).await.is_some());
    assert_eq!(find(&store, 1, 100 + SESSION_IDLE_US).await, None, "nobody has used the session");
    let CredentialKind::Session(Session { ends_us, .. }) = session("ana", 1, None).kind else {
        unreachable!()
    };
    let mut now_us = 100;
    while now_us < ends_us {
        assert!(find(&store, 1, now_us).await.is_some(), "{now_us}");
        renew(&store, 1, now_us).await;
        now_us += SESSION_IDLE_US - 1;
    }
    assert_eq!(find(&store, 1, ends_us).await, None);
    // An ended session is not renewed.
    renew(&store, 1, ends_us).await;
    assert_eq!(find(&store, 1, ends_us).await, None);
}

#[tokio::test]
async fn rule_82_a_session_ends_with_its_token_its_principal_and_its_roles() {
    let store = TestStore::open().await;
    let open = async || {
        put(&store, grant("ana", None, Role::Viewer)).await;
        let token = Credential { expires_us: None, ..credential("ana", 1) };
        put_credential(&store, &token).await.unwrap();
        put_credential(&store, &session("ana", 2, Some(1))).await.unwrap();
        put_credential(&store, &session("ana", 3, None)).await.unwrap();
        assert!(find(&store, 2, 100).await.is_some() && find(&store, 3, 100).await.is_some());
    };
    open().await;
    let token = credentials_list(&*store.snapshot().await.unwrap()).await.unwrap().swap_remove(0);
    assert_eq!(token.digest, [1; 32]);
    let revoke = store.run(async |transaction| credential_remove(transaction, &token).await);
    revoke.await.unwrap();
    assert_eq!(find(&store, 2, 100).await, None, "its token was revoked");
    assert!(find(&store, 3, 100).await.is_some());

    open().await;
    put(&store, grant("ana", Some("speech"), Role::Editor)).await;
    assert!(find(&store, 3, 100).await.is_some(), "a further role takes nothing");
    put(&store, grant("ana", None, Role::Editor)).await;
    assert_eq!((find(&store, 2, 100).await, find(&store, 3, 100).await), (None, None), "a role has changed");
    assert!(find(&store, 1, 100).await.is_some(), "the token stays");

    open().await;
    let remove = async |project| {
        store.run(async |transaction| grant_remove(transaction, "ana", project).await).await.unwrap()
    };
    assert_eq!(remove(Some("speech")).await, Ok(true));
    assert!(find(&store, 3, 100).await.is_some(), "she has a role elsewhere");
    assert_eq!(remove(None).await, Ok(true));
    assert_eq!(find(&store, 3, 100).await, None);

    open().await;
    let ended =
        store.run(async |transaction| session_end(transaction, &[3; 32], 100).await).await.unwrap().unwrap();
    assert_eq!(ended.principal, "ana");
    assert_eq!(find(&store, 3, 100).await, None, "signed out");
    let ended = store.run(async |transaction| session_end(transaction, &[1; 32], 100).await).await.unwrap();
    assert_eq!(ended, None, "signing out ends no token");
}

#[tokio::test]
async fn rule_82_owners_of_one_project_sign_nobody_out_of_others() {
    let store = TestStore::open().await;
    put(&store, grant("op", None, Role::Operator)).await;
    put_credential(&store, &session("op", 1, None)).await.unwrap();
    for (digest, project) in [(2, "speech"), (3, "vision")] {
        let limited = Credential { project: Some(project.to_owned()), ..session("op", digest, None) };
        put_credential(&store, &limited).await.unwrap();
    }
    for role in [Role::Ingest, Role::Viewer] {
        put(&store, grant("op", Some("speech"), role)).await;
    }
    let mut left = Vec::new();
    for digest in [1, 2, 3] {
        left.push(find(&store, digest, 100).await.is_some());
    }
    assert_eq!(left, [true, false, true]);
}

#[tokio::test]
async fn rule_62_one_project_leaves_room_for_others() {
    let store = TestStore::open().await;
    put(&store, grant("ana", None, Role::Viewer)).await;
    let link = |number: u8, project: &str| Credential {
        kind: CredentialKind::Link(Link { host: None }),
        project: Some(project.to_owned()),
        ..credential("ana", number)
    };
    for number in 0..200 {
        put_credential(&store, &link(number, "speech")).await.unwrap();
    }
    let refused = AccessRefusal::TooManyLinksOfProject { limit: 200 };
    assert_eq!(put_credential(&store, &link(200, "speech")).await, Err(refused));
    assert_eq!(put_credential(&store, &link(200, "vision")).await, Ok(()));

    let mut batch = Batch::default();
    let row =
        GrantRow { role: Role::Viewer.into(), granted_us: 0, granted_by: String::new(), provider: None };
    for principal in 0..2_000 {
        batch.set(keys::grant(&format!("p{principal}"), Some("speech")), rows::encode(&row));
    }
    assert!(matches!(store.commit(batch).await.unwrap(), Commit::Done { .. }));
    let further = async |project| {
        let further = grant("ben", Some(project), Role::Viewer);
        store.run(async |transaction| grant_put(transaction, &further).await).await.unwrap()
    };
    let refused = AccessRefusal::TooManyGrantsOfProject { limit: 2_000 };
    assert_eq!(further("speech").await, Err(refused));
    assert_eq!(further("vision").await, Ok(()));
}

#[tokio::test]
async fn rule_62_a_principal_of_which_nothing_is_left_is_forgotten() {
    let store = TestStore::open().await;
    let is_known = async |name| principal_is_active(&*store.snapshot().await.unwrap(), name).await.unwrap();
    let remove = async |name, project| {
        store.run(async |transaction| grant_remove(transaction, name, project).await).await.unwrap()
    };
    for name in ["ana", "ben"] {
        put(&store, grant(name, Some("speech"), Role::Viewer)).await;
    }
    put(&store, grant("ana", None, Role::Viewer)).await;
    put_credential(&store, &credential("ben", 1)).await.unwrap();
    for name in ["ana", "ben"] {
        assert_eq!(remove(name, Some("speech")).await, Ok(true));
        assert!(is_known(name).await, "{name} has another role or a token");
    }
    assert_eq!(remove("ana", None).await, Ok(true));
    assert!(!is_known("ana").await);
    put_credential(&store, &session("ben", 2, None)).await.unwrap();
    let token = credential("ben", 1);
    store.run(async |transaction| credential_remove(transaction, &token).await).await.unwrap();
    assert!(!is_known("ben").await, "its last token has ended after its last role");
    put(&store, grant("ben", None, Role::Viewer)).await;
    assert_eq!(find(&store, 2, 100).await, None, "a namesake gets no session");
}

#[tokio::test]
async fn rule_62_a_disabled_principal_is_forgotten_when_it_is_enabled_with_nothing_left() {
    let store = TestStore::open().await;
    let is_known = async || !rows_of_principals(&store).await.is_empty();
    put(&store, grant("ana", None, Role::Viewer)).await;
    let disable = store.run(async |transaction| principal_disable(transaction, "ana").await).await;
    assert_eq!(disable.unwrap(), Ok(true));
    let remove = store.run(async |transaction| grant_remove(transaction, "ana", None).await).await;
    assert_eq!(remove.unwrap(), Ok(true));
    assert!(is_known().await, "it does not come back enabled with another role");
    let enable = async || store.run(async |transaction| principal_enable(transaction, "ana").await).await;
    assert!(enable().await.unwrap());
    assert!(!is_known().await);
    assert!(!enable().await.unwrap());
}

async fn rows_of_principals(store: &TestStore) -> Vec<String> {
    let found = rows::scan_all(&*store.snapshot().await.unwrap(), &keys::principals()).await.unwrap();
    found.iter().map(|(key, _)| keys::decode_principal(key).unwrap()).collect()
}

/// Principals whose last token has expired, or that an earlier version has kept.
#[tokio::test]
async fn rule_62_a_sweep_forgets_principals_of_which_nothing_is_left() {
    let store = TestStore::open().await;
    let mut batch = Batch::default();
    let row = Principal { created_us: 0, created_by: String::new(), is_disabled: false, identity: None };
    let name_of = |number: usize| format!("p{number:03}");
    for number in 0..250 {
        batch.set(keys::principal(&name_of(number)), rows::encode(&row));
    }
    batch.set(keys::principal("disabled"), rows::encode(&Principal { is_disabled: true, ..row }));
    assert!(matches!(store.commit(batch).await.unwrap(), Commit::Done { .. }));
    put(&store, grant("granted", None, Role::Viewer)).await;
    put_credential(&store, &credential(&name_of(1), 1)).await.unwrap();
    put_credential(&store, &session(&name_of(2), 2, None)).await.unwrap();
    let operator_token =
        Credential { kind: CredentialKind::OperatorToken, expires_us: Some(0), ..credential(&name_of(3), 3) };
    let put = async |transaction: &mut Transaction| {
        credential_set(transaction, &operator_token);
        Ok::<_, Error>(())
    };
    store.run(put).await.unwrap();
    let sweep = async || store.run(async |transaction| principals_sweep(transaction).await).await.unwrap();
    while sweep().await {}
    assert_eq!(rows_of_principals(&store).await, ["disabled", "granted", &name_of(1)]);
    let mut left = credentials_list(&*store.snapshot().await.unwrap()).await.unwrap();
    left.sort_by_key(|credential| credential.digest);
    assert_eq!(
        left.iter().map(Credential::id).collect::<Vec<_>>(),
        [credential("", 1).id(), credential("", 3).id()]
    );
}

#[tokio::test]
async fn a_token_takes_the_place_of_another_one_although_there_is_no_room() {
    let store = TestStore::open().await;
    put(&store, grant("ana", None, Role::Viewer)).await;
    put(&store, grant("ben", Some("x"), Role::Viewer)).await;
    let token = |number: usize| {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        Credential { digest, expires_us: None, ..credential("ana", 0) }
    };
    let fill = async |transaction: &mut Transaction| {
        (0..2_000).for_each(|number| credential_set(transaction, &token(number)));
        Ok::<_, Error>(())
    };
    store.run(fill).await.unwrap();
    let full = Err(AccessRefusal::TooManyTokensOfProject { limit: 2_000 });
    assert_eq!(put_credential(&store, &token(2_000)).await, full);
    let replace = async |ended: &Credential, next: &Credential| {
        store.run(async |transaction| credential_replace(transaction, ended, next).await).await.unwrap()
    };
    assert_eq!(replace(&token(0), &token(2_000)).await, Ok(()));
    assert_eq!(put_credential(&store, &token(2_000)).await, Ok(()), "it is there");
    let of_other = Credential { principal: "ben".to_owned(), ..token(2_001) };
    assert_eq!(replace(&token(1), &of_other).await, Ok(()));
    let elsewhere = Credential { project: Some("y".to_owned()), ..token(2_002) };
    assert_eq!(replace(&elsewhere, &token(2_003)).await, full, "another project has the room");
    let left = credentials_list(&*store.snapshot().await.unwrap()).await.unwrap();
    assert_eq!(left.len(), 2_000);
    assert!(left.iter().all(|it| it.digest != token(0).digest && it.digest != token(1).digest));
}

#[tokio::test]
async fn rule_84_a_disabled_principal_has_no_credentials_and_gets_none() {
    let store = TestStore::open().await;
    put(&store, grant("ana", None, Role::Viewer)).await;
    put(&store, grant("op", None, Role::Operator)).await;
    put_credential(&store, &credential("ana", 1)).await.unwrap();
    put_credential(&store, &session("ana", 2, None)).await.unwrap();
    let disable =
        async |name| store.run(async |transaction| principal_disable(transaction, name).await).await.unwrap();
    assert_eq!(disable("ana").await, Ok(true));
    assert_eq!(disable("nobody").await, Ok(false));
    assert_eq!(disable("op").await, Err(AccessRefusal::LastOperator));
    assert_eq!((find(&store, 1, 100).await, find(&store, 2, 100).await), (None, None));
    assert_eq!(put_credential(&store, &credential("ana", 3)).await, Err(AccessRefusal::DisabledPrincipal));
    let disabled = principals_disabled(&*store.snapshot().await.unwrap()).await.unwrap();
    assert_eq!(disabled.into_iter().collect::<Vec<_>>(), ["ana"]);
    // A role that is granted while the principal is disabled is for later.
    put(&store, grant("ana", None, Role::Operator)).await;
    assert_eq!(
        disable("op").await,
        Err(AccessRefusal::LastOperator),
        "a disabled operator is not an operator"
    );
    let enable = store.run(async |transaction| principal_enable(transaction, "ana").await);
    assert!(enable.await.unwrap());
    assert_eq!((find(&store, 1, 100).await, find(&store, 2, 100).await), (None, None), "they have ended");
    assert_eq!(put_credential(&store, &credential("ana", 3)).await, Ok(()));
    assert_eq!(disable("op").await, Ok(true));
}

#[tokio::test]
async fn rule_84_everyone_without_a_credential_can_be_disabled_as_well() {
    let store = TestStore::open().await;
    put(&store, grant(ANONYMOUS, Some("demo"), Role::Viewer)).await;
    let granted = async || anonymous_grants(&*store.snapshot().await.unwrap()).await.unwrap().len();
    assert_eq!(granted().await, 1);
    let disable = store.run(async |transaction| principal_disable(transaction, ANONYMOUS).await);
    assert_eq!(disable.await.unwrap(), Ok(true));
    assert_eq!(granted().await, 0);
}

#[tokio::test]
async fn rule_83_a_link_is_no_token_and_is_taken_once() {
    let store = TestStore::open().await;
    put(&store, grant("ana", None, Role::Viewer)).await;
    let kind = CredentialKind::Link(Link { host: Some("tracker.example".to_owned()) });
    let link = Credential { kind, ..credential("ana", 1) };
    put_credential(&store, &link).await.unwrap();
    assert_eq!(find(&store, 1, 100).await, None, "nobody calls with a link");
    assert!(!link.is_listed(100), "a link is not among the tokens");
    let take = async |now_us| {
        store.run(async |transaction| credential_take(transaction, &[1; 32], now_us).await).await.unwrap()
    };
    assert_eq!(take(200).await, None, "it has expired");
    assert_eq!(take(199).await, Some(link.clone()));
    assert_eq!(take(199).await, None);
    // Of two browsers that open the link at once, one signs in.
    put_credential(&store, &link).await.unwrap();
    let mut transactions = Vec::new();
    for _ in 0..2 {
        let mut transaction = Transaction::new(store.snapshot().await.unwrap());
        assert!(credential_take(&mut transaction, &[1; 32], 100).await.unwrap().is_some());
        transactions.push(transaction);
    }
    let mut done = 0;
    for transaction in transactions {
        done += usize::from(matches!(store.commit(transaction.into_batch()).await, Ok(Commit::Done { .. })));
    }
    assert_eq!(done, 1);
}

#[tokio::test]
async fn a_damaged_row_that_is_not_needed_keeps_no_token() {
    let store = TestStore::open().await;
    put(&store, grant("ana", None, Role::Viewer)).await;
    put_credential(&store, &credential("ana", 1)).await.unwrap();
    let mut batch = Batch::default();
    batch.set(keys::credential(&[9; 32]), b"damaged".to_vec());
    batch.set(keys::grant("ana", Some("speech")), b"damaged".to_vec());
    assert!(matches!(store.commit(batch).await.unwrap(), Commit::Done { .. }));
    let token = credential("ana", 1);
    store.run(async |transaction| credential_remove(transaction, &token).await).await.unwrap();
    assert!(store.snapshot().await.unwrap().get(&keys::credential(&token.digest)).await.unwrap().is_none());
}

#[tokio::test]
async fn one_sweep_clears_expired_credentials() {
    let store = TestStore::open().await;
    put(&store, grant("ana", None, Role::Viewer)).await;
    put_credential(&store, &credential("ana", 1)).await.unwrap();
    put_credential(&store, &session("ana", 2, None)).await.unwrap();
    let kind = CredentialKind::Link(Link { host: None });
    put_credential(&store, &Credential { kind, ..credential("ana", 3) }).await.unwrap();
    let left_after = async |now_us| {
        let mut batch = Batch::default();
        credentials_sweep(&*store.snapshot().await.unwrap(), now_us, &mut batch).await.unwrap();
        assert!(matches!(store.commit(batch).await.unwrap(), Commit::Done { .. }));
        let left = credentials_list(&*store.snapshot().await.unwrap()).await.unwrap();
        left.iter().map(|credential| credential.digest[0]).collect::<Vec<_>>()
    };
    assert_eq!(left_after(199).await, [1, 2, 3]);
    assert_eq!(left_after(200).await, [1, 2], "an expired token is listed for a while");
    assert_eq!(left_after(100 + SESSION_IDLE_US).await, [1]);
    assert_eq!(left_after(200 + LISTED_AFTER_END_US).await, [0_u8; 0]);
}

/// A row that earlier versions wrote when a sign-in with a provider started.
#[tokio::test]
async fn sign_ins_of_earlier_versions_do_no_harm() {
    #[derive(minicbor::Encode)]
    #[cbor(array)]
    struct EarlierRow<'a>(
        #[n(0)] u8,
        #[n(1)] &'a str,
        #[n(2)] &'a str,
        #[n(3)] i64,
        #[n(4)] &'a str,
        #[n(5)] Option<i64>,
        #[n(6)] Option<&'a str>,
        #[n(7)] Option<i32>,
        #[n(8)] Option<i64>,
        #[n(9)] Option<i64>,
        #[n(10)] (&'a str, &'a str),
    );
    let store = TestStore::open().await;
    let mut batch = Batch::default();
    let begun = ("github", "nonce");
    let row = EarlierRow(4, "", "", 100, "", Some(200), None, None, None, None, begun);
    batch.set(keys::credential(&[9; 32]), rows::encode(&row));
    assert!(matches!(store.commit(batch).await.unwrap(), Commit::Done { .. }));
    assert_eq!(find(&store, 9, 100).await, None);
    put(&store, grant("ana", None, Role::Viewer)).await;
    assert_eq!(put_credential(&store, &credential("ana", 1)).await, Ok(()));
    assert!(find(&store, 1, 100).await.is_some());
}
