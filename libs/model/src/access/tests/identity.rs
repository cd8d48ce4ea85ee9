//! Tests of people who sign in with a provider.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

fn provided(subject: &str, name: &str, roles: &[(Option<&str>, Role)]) -> ProvidedIdentity {
    let identity = Identity { issuer: "https://id.example".to_owned(), subject: subject.to_owned() };
    let roles = roles.iter().map(|(project, role)| (project.map(str::to_owned), *role)).collect();
    let unique_name = format!("oidc:digest-of-{subject}:ana");
    ProvidedIdentity { provider: "oidc".to_owned(), identity, name: name.to_owned(), unique_name, roles }
}

/// A state that is used until 1,000.
fn state(number: u64) -> UsedState {
    let mut digest = [255; 32];
    digest[..8].copy_from_slice(&number.to_be_bytes());
    UsedState { digest, ends_us: 1_000 }
}

async fn sign_in_with(
    store: &TestStore,
    provided: &ProvidedIdentity,
    state: UsedState,
    digest: u8,
) -> ProvidedSignIn {
    sign_in_with_changes(store, provided, state, digest).await.0
}

async fn sign_in_with_changes(
    store: &TestStore,
    provided: &ProvidedIdentity,
    state: UsedState,
    digest: u8,
) -> (ProvidedSignIn, Vec<GroupRoleChange>) {
    let session = Credential { principal: String::new(), ..session("", digest, None) };
    store
        .run(async |transaction| identity_sign_in(transaction, provided, &state, &session).await)
        .await
        .unwrap_or_else(|error: Error| panic!("{error}"))
}

/// Signs in with its own state.
async fn sign_in(store: &TestStore, provided: &ProvidedIdentity, digest: u8) -> ProvidedSignIn {
    static STATES: AtomicU64 = AtomicU64::new(1_000_000);
    sign_in_with(store, provided, state(STATES.fetch_add(1, Ordering::Relaxed)), digest).await
}

async fn roles(store: &TestStore, principal: &str) -> Vec<(Option<String>, Role)> {
    let granted = grants_of(&*store.snapshot().await.unwrap(), principal).await.unwrap();
    granted.into_iter().map(|grant| (grant.project, grant.role)).collect()
}

#[tokio::test]
async fn rule_86_groups_give_and_take_roles_at_each_sign_in() {
    let store = TestStore::open().await;
    let done = ProvidedSignIn::Done("oidc:ana".to_owned());
    let ana = provided("1", "oidc:ana", &[(Some("speech"), Role::Editor), (Some("vision"), Role::Viewer)]);
    assert_eq!(sign_in(&store, &ana, 1).await, done);
    assert_eq!(find(&store, 1, 100).await.unwrap().0.principal, "oidc:ana");
    assert_eq!(sign_in(&store, &ana, 2).await, done);
    assert!(find(&store, 1, 100).await.is_some(), "the same roles end no session");

    // A person grants a role that no group gives, and another role in a project of a group.
    put(&store, grant("oidc:ana", Some("audio"), Role::Viewer)).await;
    put(&store, grant("oidc:ana", Some("vision"), Role::Owner)).await;
    let fewer = provided("1", "oidc:renamed", &[(Some("vision"), Role::Writer)]);
    assert_eq!(sign_in(&store, &fewer, 3).await, done, "the subject stays the same");
    let expected = [(Some("audio".to_owned()), Role::Viewer), (Some("vision".to_owned()), Role::Owner)];
    assert_eq!(roles(&store, "oidc:ana").await, expected);
    assert_eq!((find(&store, 1, 100).await, find(&store, 2, 100).await), (None, None), "roles have changed");
    assert!(find(&store, 3, 100).await.is_some());
}

#[tokio::test]
async fn rule_80_a_sign_in_says_which_roles_groups_give_and_take() {
    let store = TestStore::open().await;
    put(&store, grant("oidc:ana", Some("audio"), Role::Owner)).await;
    let changes = async |number: u64, roles: &[(Option<&str>, Role)]| {
        let ana = provided("1", "oidc:ana", roles);
        let (_, changes) = sign_in_with_changes(&store, &ana, state(number), 1).await;
        let shown = changes.into_iter().map(|change| {
            let (sign, grant) = match change {
                GroupRoleChange::Given(grant) => ('+', grant),
                GroupRoleChange::Taken(grant) => ('-', grant),
            };
            assert_eq!((grant.principal.as_str(), grant.provider.as_deref()), ("oidc:ana", Some("oidc")));
            format!("{sign} {} {:?}", grant.project.unwrap_or_default(), grant.role)
        });
        shown.collect::<Vec<_>>()
    };
    let roles =
        [(Some("audio"), Role::Viewer), (Some("speech"), Role::Editor), (Some("vision"), Role::Viewer)];
    assert_eq!(changes(1, &roles).await, ["+ speech Editor", "+ vision Viewer"], "the owner stays an owner");
    assert_eq!(changes(2, &roles).await, [""; 0]);
    assert_eq!(changes(3, &[(Some("speech"), Role::Viewer)]).await, ["- vision Viewer", "+ speech Viewer"]);
    // The role that a person has granted is left.
    assert_eq!(changes(4, &[]).await, ["- speech Viewer"]);
}

#[tokio::test]
async fn rule_86_without_a_role_nobody_signs_in_and_nothing_is_stored() {
    let store = TestStore::open().await;
    let ana = provided("1", "oidc:ana", &[]);
    assert_eq!(sign_in(&store, &ana, 1).await, ProvidedSignIn::NoRole("oidc:ana".to_owned()));
    assert!(!access_is_used(&*store.snapshot().await.unwrap()).await.unwrap());
    // A principal that loses the last group loses the role with it.
    let member = provided("1", "oidc:ana", &[(None, Role::Viewer)]);
    assert_eq!(sign_in(&store, &member, 1).await, ProvidedSignIn::Done("oidc:ana".to_owned()));
    assert_eq!(sign_in(&store, &ana, 2).await, ProvidedSignIn::NoRole("oidc:ana".to_owned()));
    assert_eq!(roles(&store, "oidc:ana").await, []);
    assert_eq!((find(&store, 1, 100).await, find(&store, 2, 100).await), (None, None));
}

#[tokio::test]
async fn rule_86_a_name_belongs_to_the_person_who_signed_in_with_it_first() {
    let store = TestStore::open().await;
    // Granted before the first sign-in.
    put(&store, grant("oidc:ana", Some("speech"), Role::Editor)).await;
    assert_eq!(
        sign_in(&store, &provided("1", "oidc:ana", &[]), 1).await,
        ProvidedSignIn::Done("oidc:ana".to_owned())
    );
    // A role that waits for another person, whose name is similar.
    put(&store, grant("oidc:ana-2", Some("speech"), Role::Owner)).await;
    // Another person takes over the name at the provider.
    let namesake = provided("2", "oidc:ana", &[(Some("vision"), Role::Viewer)]);
    let own = "oidc:digest-of-2:ana";
    assert_eq!(sign_in(&store, &namesake, 2).await, ProvidedSignIn::Done(own.to_owned()));
    assert_eq!(roles(&store, own).await, [(Some("vision".to_owned()), Role::Viewer)]);
    assert_eq!(sign_in(&store, &namesake, 2).await, ProvidedSignIn::Done(own.to_owned()));
    let waiting = provided("3", "oidc:ana-2", &[]);
    assert_eq!(sign_in(&store, &waiting, 2).await, ProvidedSignIn::Done("oidc:ana-2".to_owned()));
    // The same subject of another issuer is another person.
    let mut stranger = provided("1", "oidc:ana", &[]);
    stranger.identity.issuer = "https://evil.example".to_owned();
    stranger.unique_name = "oidc:digest-of-evil:ana".to_owned();
    assert_eq!(sign_in(&store, &stranger, 3).await, ProvidedSignIn::NoRole(stranger.unique_name.clone()));
}

#[tokio::test]
async fn rule_84_a_removed_person_does_not_come_back_with_a_group() {
    let store = TestStore::open().await;
    let ana = provided("1", "oidc:ana", &[(Some("speech"), Role::Editor)]);
    sign_in(&store, &ana, 1).await;
    let disable = store.run(async |transaction| principal_disable(transaction, "oidc:ana").await);
    assert_eq!(disable.await.unwrap(), Ok(true));
    // Someone cleans up.
    let remove = async || {
        store.run(async |transaction| principal_remove(transaction, "oidc:ana").await).await.unwrap()
    };
    assert_eq!(remove().await, Ok(PrincipalRemoval::Disabled));
    assert_eq!(roles(&store, "oidc:ana").await, []);
    let refused = ProvidedSignIn::Refused("oidc:ana".to_owned(), AccessRefusal::DisabledPrincipal);
    assert_eq!(sign_in(&store, &ana, 2).await, refused);
    assert_eq!(find(&store, 2, 100).await, None);
    // The name is not free for another person.
    let namesake = provided("2", "oidc:ana", &[(Some("speech"), Role::Viewer)]);
    assert_eq!(sign_in(&store, &namesake, 3).await, ProvidedSignIn::Done("oidc:digest-of-2:ana".to_owned()));
    // A role alone signs nobody in.
    put(&store, grant("oidc:ana", Some("vision"), Role::Viewer)).await;
    assert_eq!(sign_in(&store, &ana, 2).await, refused);
    let enable = store.run(async |transaction| principal_enable(transaction, "oidc:ana").await);
    assert!(enable.await.unwrap());
    assert_eq!(sign_in(&store, &ana, 2).await, ProvidedSignIn::Done("oidc:ana".to_owned()));
    // A principal that never signed in with a provider is forgotten.
    put(&store, grant("oidc:bob", Some("speech"), Role::Viewer)).await;
    let removed = store.run(async |transaction| principal_remove(transaction, "oidc:bob").await).await;
    assert_eq!(removed.unwrap(), Ok(PrincipalRemoval::Removed));
    let bob = provided("3", "oidc:bob", &[]);
    assert_eq!(sign_in(&store, &bob, 4).await, ProvidedSignIn::NoRole("oidc:bob".to_owned()));
}

#[tokio::test]
async fn rule_86_a_revoked_role_of_a_group_comes_back() {
    let store = TestStore::open().await;
    let ana = provided("1", "oidc:ana", &[(Some("speech"), Role::Editor)]);
    sign_in(&store, &ana, 1).await;
    let granted = grants_of(&*store.snapshot().await.unwrap(), "oidc:ana").await.unwrap();
    assert_eq!(granted[0].provider.as_deref(), Some("oidc"), "so that a revocation says what to do");
    let revoke = store.run(async |transaction| grant_remove(transaction, "oidc:ana", Some("speech")).await);
    assert_eq!(revoke.await.unwrap(), Ok(true));
    assert_eq!(find(&store, 1, 100).await, None);
    sign_in(&store, &ana, 2).await;
    assert_eq!(roles(&store, "oidc:ana").await, [(Some("speech".to_owned()), Role::Editor)]);
}

#[tokio::test]
async fn rule_84_a_disabled_principal_does_not_sign_in_with_a_provider() {
    let store = TestStore::open().await;
    let ana = provided("1", "oidc:ana", &[(Some("speech"), Role::Editor)]);
    sign_in(&store, &ana, 1).await;
    let disabled = store.run(async |transaction| principal_disable(transaction, "oidc:ana").await).await;
    assert_eq!(disabled.unwrap(), Ok(true));
    let refused = ProvidedSignIn::Refused("oidc:ana".to_owned(), AccessRefusal::DisabledPrincipal);
    assert_eq!(sign_in(&store, &ana, 2).await, refused);
    assert_eq!((find(&store, 1, 100).await, find(&store, 2, 100).await), (None, None));
}

#[tokio::test]
async fn rule_85_a_state_signs_in_once() {
    let store = TestStore::open().await;
    let ana = provided("1", "oidc:ana", &[(None, Role::Viewer)]);
    let done = ProvidedSignIn::Done("oidc:ana".to_owned());
    assert_eq!(sign_in_with(&store, &ana, state(1), 1).await, done);
    assert_eq!(sign_in_with(&store, &ana, state(1), 2).await, ProvidedSignIn::Repeated);
    assert_eq!(find(&store, 2, 100).await, None);
    assert!(find(&store, 1, 100).await.is_some());
    // The state proves nothing, and a changed role does not make it new.
    assert_eq!(access_find(&*store.snapshot().await.unwrap(), &state(1).digest, 100).await.unwrap(), None);
    let editor = provided("1", "oidc:ana", &[(None, Role::Editor)]);
    assert_eq!(sign_in_with(&store, &editor, state(2), 3).await, done);
    let disable = store.run(async |transaction| principal_disable(transaction, "oidc:ana").await);
    assert_eq!(disable.await.unwrap(), Ok(true));
    for number in 1..=2 {
        assert_eq!(sign_in_with(&store, &editor, state(number), 4).await, ProvidedSignIn::Repeated);
    }
    // Of two browsers that deliver the state at once, one signs in.
    let bob = provided("2", "oidc:bob", &[(None, Role::Viewer)]);
    let mut transactions = Vec::new();
    for digest in [5, 6] {
        let mut transaction = Transaction::new(store.snapshot().await.unwrap());
        let session = Credential { principal: String::new(), ..session("", digest, None) };
        let (signed_in, _) = identity_sign_in(&mut transaction, &bob, &state(3), &session).await.unwrap();
        assert_eq!(signed_in, ProvidedSignIn::Done("oidc:bob".to_owned()));
        transactions.push(transaction);
    }
    let mut commits = 0;
    for transaction in transactions {
        commits +=
            usize::from(matches!(store.commit(transaction.into_batch()).await, Ok(Commit::Done { .. })));
    }
    assert_eq!(commits, 1);
}

#[tokio::test]
async fn one_person_fills_no_store_by_signing_in() {
    let store = TestStore::open().await;
    let ana = provided("1", "oidc:ana", &[(None, Role::Viewer)]);
    let bob = provided("2", "oidc:bob", &[(None, Role::Viewer)]);
    for number in 1..=100 {
        let signed_in = sign_in_with(&store, &ana, state(number), 1).await;
        assert_eq!(signed_in, ProvidedSignIn::Done("oidc:ana".to_owned()), "{number}");
    }
    let refused = AccessRefusal::TooManySignIns { limit: 100 };
    let refused = ProvidedSignIn::Refused("oidc:ana".to_owned(), refused);
    assert_eq!(sign_in_with(&store, &ana, state(101), 1).await, refused);
    let signed_in = sign_in_with(&store, &bob, state(102), 2).await;
    assert_eq!(signed_in, ProvidedSignIn::Done("oidc:bob".to_owned()), "others are not affected");
    let mut batch = Batch::default();
    credentials_sweep(&*store.snapshot().await.unwrap(), 1_000, &mut batch).await.unwrap();
    assert!(matches!(store.commit(batch).await.unwrap(), Commit::Done { .. }));
    let left = credentials_list(&*store.snapshot().await.unwrap()).await.unwrap();
    assert!(left.iter().all(|credential| credential.kind != CredentialKind::UsedState));
}

#[tokio::test]
async fn roles_of_groups_count_against_the_limit_of_roles() {
    let store = TestStore::open().await;
    let row =
        GrantRow { role: Role::Viewer.into(), granted_us: 0, granted_by: String::new(), provider: None };
    let row = rows::encode(&row);
    for principal in 0..20 {
        let mut batch = Batch::default();
        // In all, 19,999 rows.
        for project in 0..1_000 - usize::from(principal == 0) {
            batch.set(keys::grant(&format!("p{principal}"), Some(&format!("{project}"))), row.clone());
        }
        assert!(matches!(store.commit(batch).await.unwrap(), Commit::Done { .. }));
    }
    let two = provided("1", "oidc:ana", &[(Some("speech"), Role::Editor), (Some("vision"), Role::Viewer)]);
    let refused = AccessRefusal::TooManyGrants { limit: 20_000 };
    assert_eq!(sign_in(&store, &two, 1).await, ProvidedSignIn::Refused("oidc:ana".to_owned(), refused));
    assert_eq!(roles(&store, "oidc:ana").await, []);
    let done = ProvidedSignIn::Done("oidc:ana".to_owned());
    let one = provided("1", "oidc:ana", &[(Some("speech"), Role::Editor)]);
    assert_eq!(sign_in(&store, &one, 1).await, done);
    // Another role in the same row, and a role in another row in place of one there.
    let other = provided("1", "oidc:ana", &[(Some("speech"), Role::Viewer)]);
    assert_eq!(sign_in(&store, &other, 1).await, done);
    let moved = provided("1", "oidc:ana", &[(Some("vision"), Role::Viewer)]);
    assert_eq!(sign_in(&store, &moved, 1).await, done);
    // A role that no group gives is taken, also without room for others.
    let more = provided("1", "oidc:ana", &[(Some("a"), Role::Viewer), (Some("b"), Role::Viewer)]);
    assert_eq!(sign_in(&store, &more, 1).await, ProvidedSignIn::Refused("oidc:ana".to_owned(), refused));
    assert_eq!(roles(&store, "oidc:ana").await, []);
    assert_eq!(find(&store, 1, 100).await, None);
    // A larger role that a smaller role replaces is taken as well: tokens have it until then.
    assert_eq!(sign_in(&store, &one, 1).await, done);
    let smaller =
        provided("1", "oidc:ana", &[(Some("speech"), Role::Viewer), (Some("vision"), Role::Viewer)]);
    assert_eq!(sign_in(&store, &smaller, 1).await, ProvidedSignIn::Refused("oidc:ana".to_owned(), refused));
    assert_eq!(roles(&store, "oidc:ana").await, [(Some("speech".to_owned()), Role::Viewer)]);
    assert_eq!(find(&store, 1, 100).await, None);
}
