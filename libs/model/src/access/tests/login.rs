//! Logins of programs by a code.

use super::*;

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
    // The session itself continues, and another session has tries of its own.
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

/// Anyone can start a login.
#[tokio::test]
async fn rule_121_one_network_leaves_room_for_the_logins_of_others() {
    let store = TestStore::open().await;
    for digest in 0..100 {
        begin(&store, &login(digest, "10.0.0.7")).await.unwrap();
    }
    assert_eq!(begin(&store, &login(100, "10.0.0.7")).await, Err(AccessRefusal::TooManyLogins));
    begin(&store, &login(101, "10.0.0.8")).await.unwrap();
    // Logins end by themselves.
    let later = Credential { created_us: 200, expires_us: Some(300), ..login(102, "10.0.0.7") };
    begin(&store, &later).await.unwrap();
}
