//! Logins of programs by a code.

use super::*;
use crate::access::credential::credentials_read;

/// A login that waits from 100 to 200.
fn login(digest: u8, network: &str) -> Credential {
    let login = PendingLogin { address: network.to_owned(), network: network.to_owned(), lifetime_us: 1_000 };
    Credential {
        kind: CredentialKind::PendingLogin(login),
        created_by: String::new(),
        project: None,
        role: None,
        ..credential("", digest)
    }
}

async fn begin(store: &TestStore, login: &Credential) -> Result<(), AccessRefusal> {
    store.run(async |transaction| login_put(transaction, login).await).await.unwrap()
}

/// Types the code of the login with this digest.
async fn type_code(store: &TestStore, session: u8, digest: u8, now_us: i64) -> TypedCode {
    let is_meant = |of_login: &[u8; 32]| *of_login == [digest; 32];
    store
        .run(async |transaction| code_type(transaction, &[session; 32], is_meant, now_us).await)
        .await
        .unwrap()
}

#[tokio::test]
async fn rule_121_a_pending_login_proves_nothing() {
    let store = TestStore::open().await;
    put(&store, grant("ana", None, Role::Viewer)).await;
    begin(&store, &login(7, "10.0.0.7")).await.unwrap();
    assert_eq!(find(&store, 7, 150).await, None);
    put_credential(&store, &session("ana", 1, None)).await.unwrap();
    let TypedCode::Found { login: found, session: typed_in } = type_code(&store, 1, 7, 150).await else {
        panic!("the login waits");
    };
    assert_eq!((found.digest, typed_in.principal.as_str()), ([7; 32], "ana"));
    // The login becomes a token in its own row, with the principal of the session.
    let token = Credential {
        kind: CredentialKind::LoginToken,
        principal: typed_in.principal.clone(),
        created_us: 150,
        expires_us: Some(1_150),
        ..*found
    };
    put_credential(&store, &token).await.unwrap();
    let (valid, roles) = find(&store, 7, 1_149).await.expect("the token is valid");
    assert_eq!((valid.principal.as_str(), roles.len()), ("ana", 1));
    assert_eq!(type_code(&store, 1, 7, 150).await, TypedCode::Wrong { left: 4 }, "a code is used once");
}

#[tokio::test]
async fn rule_121_five_wrong_codes_end_the_tries_of_a_session() {
    let store = TestStore::open().await;
    put(&store, grant("ana", None, Role::Viewer)).await;
    put_credential(&store, &session("ana", 1, None)).await.unwrap();
    begin(&store, &login(7, "10.0.0.7")).await.unwrap();
    for left in [4, 3, 2, 1] {
        assert_eq!(type_code(&store, 1, 9, 150).await, TypedCode::Wrong { left });
    }
    assert_eq!(type_code(&store, 1, 9, 150).await, TypedCode::TooMany);
    assert_eq!(type_code(&store, 1, 7, 150).await, TypedCode::TooMany, "also for the right one");
    // The session itself continues, and another session has its own tries.
    assert!(find(&store, 1, 150).await.is_some());
    put_credential(&store, &session("ana", 2, None)).await.unwrap();
    assert!(matches!(type_code(&store, 2, 7, 150).await, TypedCode::Found { .. }));
}

#[tokio::test]
async fn rule_121_a_code_is_typed_in_a_session_of_a_person_and_in_time() {
    let store = TestStore::open().await;
    put(&store, grant("ana", None, Role::Viewer)).await;
    begin(&store, &login(7, "10.0.0.7")).await.unwrap();
    put_credential(&store, &credential("ana", 1)).await.unwrap();
    put_credential(&store, &session("ana", 2, Some(1))).await.unwrap();
    put_credential(&store, &session("ana", 3, None)).await.unwrap();
    assert_eq!(type_code(&store, 9, 7, 150).await, TypedCode::NoSession, "there is none");
    assert_eq!(type_code(&store, 1, 7, 150).await, TypedCode::NoSession, "it is a token");
    assert_eq!(type_code(&store, 7, 7, 150).await, TypedCode::NoSession, "it is the login itself");
    assert_eq!(type_code(&store, 2, 7, 150).await, TypedCode::BegunWithToken);
    assert_eq!(type_code(&store, 3, 7, 200).await, TypedCode::Wrong { left: 4 }, "the login has expired");
    assert!(matches!(type_code(&store, 3, 7, 199).await, TypedCode::Found { .. }));
}

/// A login that begins ten seconds after the one with the number before, and waits for days.
fn numbered_login(number: u16, network: &str) -> Credential {
    let mut digest = [0; 32];
    digest[..2].copy_from_slice(&number.to_be_bytes());
    let created_us = i64::from(number) * 10_000_000;
    Credential { digest, created_us, expires_us: Some(1_000_000_000_000), ..login(0, network) }
}

/// The numbers of the waiting logins.
async fn waiting(store: &TestStore) -> Vec<u16> {
    let logins = store.run(async |transaction| credentials_read(transaction).await).await.unwrap();
    logins.iter().map(|login| u16::from_be_bytes([login.digest[0], login.digest[1]])).collect()
}

/// Anyone can start a login.
#[tokio::test]
async fn rule_121_one_network_leaves_room_for_the_logins_of_others() {
    let store = TestStore::open().await;
    begin(&store, &numbered_login(0, "10.0.0.8")).await.unwrap();
    for number in 1..=102 {
        begin(&store, &numbered_login(number, "10.0.0.7")).await.unwrap();
    }
    // The network has ended its own oldest logins.
    let expected: Vec<u16> = [0].into_iter().chain(3..=102).collect();
    assert_eq!(waiting(&store).await, expected);
}

/// People behind one proxy are one network, and strangers may be behind it as well.
#[tokio::test]
async fn rule_121_no_login_of_a_network_ends_another_one_within_two_minutes() {
    let store = TestStore::open().await;
    let login_at = |seconds: i64, number: u16, network: &str| Credential {
        created_us: seconds * 1_000_000,
        ..numbered_login(number, network)
    };
    begin(&store, &login_at(0, 0, "10.0.0.7")).await.unwrap();
    for number in 1..100 {
        begin(&store, &login_at(60, number, "10.0.0.7")).await.unwrap();
    }
    let refused: Result<(), AccessRefusal> = Err(AccessRefusal::TooManyLogins);
    assert_eq!(begin(&store, &login_at(119, 100, "10.0.0.7")).await, refused);
    begin(&store, &login_at(119, 101, "10.0.0.8")).await.unwrap();
    begin(&store, &login_at(120, 102, "10.0.0.7")).await.unwrap();
    assert_eq!(begin(&store, &login_at(121, 103, "10.0.0.7")).await, refused, "the others are younger");
    let expected: Vec<u16> = (1..100).chain([101, 102]).collect();
    assert_eq!(waiting(&store).await, expected);
}

/// Someone with many networks fills all places.
#[tokio::test]
async fn rule_121_strangers_do_not_keep_others_from_logging_in() {
    let store = TestStore::open().await;
    let own = numbered_login(0, "10.0.0.8");
    store
        .run(async |transaction| {
            credential_set(transaction, &own);
            for number in 1..1_000 {
                let network = format!("10.1.0.{}", number / 90);
                credential_set(transaction, &numbered_login(number, &network));
            }
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
    // The first network has one login less than the others, and the last has few.
    begin(&store, &numbered_login(1_000, "10.0.0.9")).await.unwrap();
    let left = waiting(&store).await;
    assert_eq!(left.len(), 1_000);
    assert_eq!((left[0], left[1], left[999]), (0, 1, 1_000));
    assert!(!left.contains(&90), "the oldest login of a network with the most logins has ended");
    // Logins from this machine count together.
    for number in 1_001..1_200 {
        begin(&store, &numbered_login(number, "")).await.unwrap();
    }
    let left = waiting(&store).await;
    assert_eq!(left.len(), 1_000);
    assert!(left.contains(&0) && left.contains(&1_000), "networks with few logins keep them");
}
