//! The first operator, and callers from the rows of a store.

use std::os::unix::fs::PermissionsExt as _;

use futures::future::try_join_all;
use matyan_access::{Denial, Right};
use matyan_model::{
    access::{SESSION_IDLE_US, Session, credential_find, grant_put},
    audit::{AuditFilter, audit_page},
    format::format_open,
    project::{ProjectInfo, project_create},
};
use matyan_proto::common::v1::Access as Needed;
use matyan_store::embedded::EmbeddedStore;

use super::*;

/// The time of the tests' store.
const NOW_US: i64 = 1_000;

struct Scene {
    folder: tempfile::TempDir,
    store: Arc<dyn Store>,
}

impl Scene {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("store"), Default::default()).await.unwrap();
        format_open(&store).await.unwrap();
        Self { folder, store: Arc::new(store) }
    }

    async fn start(
        &self,
        mode: Option<AccessMode>,
        token_file: Option<PathBuf>,
    ) -> Result<Option<Access>, Error> {
        let settings = AccessSettings { operator_token_file: token_file, ..access_settings(mode) };
        let origin = CallerOrigin::Store(&self.store);
        open(&settings, ServerRole::Up, origin, Some(self.folder.path())).await
    }

    async fn caller(&self, token: Option<&AccessToken>) -> Option<Caller> {
        let callers = StoredCallers { store: self.store.clone(), clock: Arc::new(|| NOW_US) };
        callers.find(token.map(AccessToken::digest).as_ref()).await.unwrap()
    }

    async fn put(&self, grant: Grant, credential: Credential) {
        let put = async |mut transaction: Transaction| {
            grant_put(&mut transaction, &grant).await?.unwrap();
            Ok::<_, Error>((transaction, ()))
        };
        transact(self.store.as_ref(), put).await.unwrap();
        let put = async |mut transaction: Transaction| {
            credential_put(&mut transaction, &credential).await?.unwrap();
            Ok::<_, Error>((transaction, ()))
        };
        transact(self.store.as_ref(), put).await.unwrap();
    }
}

fn access_settings(mode: Option<AccessMode>) -> AccessSettings {
    AccessSettings {
        mode,
        operator_token_file: None,
        file: None,
        link_host: None,
        providers: ProviderSettings::default(),
    }
}

fn new_token() -> AccessToken {
    (clock::new_token())()
}

fn grant(project: Option<&str>, role: StoredRole) -> Grant {
    let project = project.map(str::to_owned);
    let granted_by = OPERATOR.to_owned();
    Grant { principal: "ana".to_owned(), project, role, granted_us: 0, granted_by, provider: None }
}

fn credential(token: &AccessToken) -> Credential {
    Credential {
        digest: token.digest().0,
        kind: CredentialKind::Token,
        principal: "ana".to_owned(),
        label: String::new(),
        created_us: 0,
        created_by: OPERATOR.to_owned(),
        expires_us: Some(NOW_US + 1),
        project: None,
        role: None,
    }
}

fn is_operator(caller: Option<&Caller>) -> bool {
    caller.is_some_and(|caller| caller.check(Needed::Operate, "").is_ok())
}

#[tokio::test]
async fn rule_61_the_first_start_with_access_control_has_an_operator() {
    let scene = Scene::open().await;
    assert!(scene.start(None, None).await.unwrap().is_none(), "an unused store needs no setting");
    let file =
        scene.start(Some(AccessMode::On), None).await.unwrap().unwrap().first_operator.unwrap().token_file;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let token = read_token(&file).unwrap();
    assert!(is_operator(scene.caller(Some(&token)).await.as_ref()));
    let again = scene.start(Some(AccessMode::On), None).await.unwrap().unwrap();
    assert!(again.first_operator.is_none(), "there is an operator already");
    assert_eq!(read_token(&file).unwrap(), token);
    assert!(
        matches!(scene.start(None, None).await, Err(Error::Unset)),
        "a closed store does not open by itself"
    );
    assert!(scene.start(Some(AccessMode::Off), None).await.unwrap().is_none());
    for (mode, expected) in [(AccessMode::Off, true), (AccessMode::On, false)] {
        let settings = access_settings(Some(mode));
        let ignores = ignores_roles(&settings, ServerRole::Up, scene.store.as_ref()).await.unwrap();
        assert_eq!(ignores, expected, "{mode:?}");
    }
}

#[tokio::test]
async fn projects_of_role_tables_that_do_not_exist_are_found() {
    let scene = Scene::open().await;
    let info =
        ProjectInfo { name: String::new(), description: String::new(), updated_us: 0, pinned_updated_us: 0 };
    let create = async |mut transaction: Transaction| {
        project_create(&mut transaction, "speech", &info, NOW_US, 10).await?;
        Ok::<_, Error>((transaction, ()))
    };
    transact(scene.store.as_ref(), create).await.unwrap();
    let snapshot = scene.store.snapshot().await.unwrap();
    let named = BTreeSet::from(["", "speech", "speach", "vision"]);
    assert_eq!(missing_projects(snapshot.as_ref(), named).await.unwrap(), ["speach", "vision"]);
}

#[tokio::test]
async fn rule_83_the_first_start_has_a_link_that_is_no_token() {
    let scene = Scene::open().await;
    let access = scene.start(Some(AccessMode::On), None).await.unwrap().unwrap();
    let link = access.first_operator.unwrap().link;
    let snapshot = scene.store.snapshot().await.unwrap();
    let links = credentials_list(snapshot.as_ref()).await.unwrap();
    let links: Vec<_> = links.into_iter().filter(|it| !it.is_token()).collect();
    assert_eq!(links.len(), 1);
    assert_eq!((links[0].digest, links[0].principal.as_str()), (link.digest().0, OPERATOR));
    assert_eq!(links[0].expires_us, Some(links[0].created_us + FIRST_LINK_US));
    assert_eq!(access.callers.find(Some(&link.digest())).await.unwrap(), None, "nobody calls with a link");
}

#[tokio::test]
async fn rule_82_a_session_that_is_used_stays_valid() {
    let scene = Scene::open().await;
    let token = new_token();
    let session = (clock::new_secret())(SecretKind::Session);
    let ends_us = NOW_US + 10 * SESSION_IDLE_US;
    let kind = CredentialKind::Session(Session { ends_us, token: None, wrong_codes: 0 });
    let expires_us = Some(NOW_US + 1);
    let row = Credential { digest: session.digest().0, kind, expires_us, ..credential(&token) };
    scene.put(grant(None, StoredRole::Viewer), row).await;
    let callers = StoredCallers { store: scene.store.clone(), clock: Arc::new(|| NOW_US) };
    assert!(callers.find(Some(&session.digest())).await.unwrap().is_some());
    let end = async || {
        let snapshot = scene.store.snapshot().await.unwrap();
        credential_find(snapshot.as_ref(), &session.digest().0, NOW_US).await.unwrap().unwrap().expires_us
    };
    assert_eq!(end().await, Some(NOW_US + SESSION_IDLE_US));
    let later = StoredCallers { store: scene.store.clone(), clock: Arc::new(|| NOW_US + 60_000_000) };
    assert!(later.find(Some(&session.digest())).await.unwrap().is_some());
    assert_eq!(end().await, Some(NOW_US + SESSION_IDLE_US), "not every use is noted");
}

#[tokio::test]
async fn a_recovery_replaces_the_token_of_the_operator() {
    let scene = Scene::open().await;
    let file =
        scene.start(Some(AccessMode::On), None).await.unwrap().unwrap().first_operator.unwrap().token_file;
    let first = read_token(&file).unwrap();
    let recovery = recover(scene.store.as_ref(), Some(scene.folder.path())).await.unwrap();
    assert_eq!(recovery.file.as_ref(), Some(&file));
    let second = recovery.token;
    assert_eq!(read_token(&file).unwrap(), second);
    assert!(is_operator(scene.caller(Some(&second)).await.as_ref()));
    assert_eq!(scene.caller(Some(&first)).await, None);
    // Both are in the audit log.
    let snapshot = scene.store.snapshot().await.unwrap();
    let logged = audit_page(snapshot.as_ref(), &AuditFilter::default(), None, 10).await.unwrap().entries;
    let mut logged: Vec<_> = logged.into_iter().map(|entry| (entry.rpc, entry.resource)).collect();
    logged.sort();
    let about = |token: &AccessToken| format!("operator token {}", token.digest().id());
    assert_eq!(logged, [("first-start".to_owned(), about(&first)), ("recover".to_owned(), about(&second))]);
}

#[tokio::test]
async fn the_operator_may_come_from_a_file() {
    let scene = Scene::open().await;
    let path = scene.folder.path().join("given");
    let refused = scene.start(Some(AccessMode::On), Some(path.clone())).await;
    assert!(matches!(refused, Err(Error::TokenFile { .. })), "there is no file");
    fs::write(&path, "mtk_x").unwrap();
    let refused = scene.start(Some(AccessMode::On), Some(path.clone())).await;
    assert!(matches!(refused, Err(Error::TokenFile { .. })), "that is not a token");
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let token = new_token();
        fs::write(&path, token.reveal()).unwrap();
        let started = scene.start(Some(AccessMode::On), Some(path.clone())).await.unwrap().unwrap();
        assert!(started.first_operator.is_none());
        tokens.push(token);
    }
    assert_eq!(scene.caller(Some(&tokens[0])).await, None, "another token in the file replaces it");
    assert!(is_operator(scene.caller(Some(&tokens[1])).await.as_ref()));
    // A process that starts with the earlier file, such as a pod with an old secret, does not bring it back.
    fs::write(&path, tokens[0].reveal()).unwrap();
    scene.start(Some(AccessMode::On), Some(path.clone())).await.unwrap().unwrap();
    assert_eq!(scene.caller(Some(&tokens[0])).await, None);
    assert!(is_operator(scene.caller(Some(&tokens[1])).await.as_ref()));
    let settings = access_settings(Some(AccessMode::On));
    let other = Scene::open().await;
    let refused = open(&settings, ServerRole::Backend, CallerOrigin::Store(&other.store), None).await;
    assert!(matches!(refused, Err(Error::NoOperator)), "there is no place for a token");
}

#[tokio::test]
async fn backends_that_start_together_have_one_operator_and_one_entry() {
    let logged = async |scene: &Scene| {
        let snapshot = scene.store.snapshot().await.unwrap();
        let page = audit_page(snapshot.as_ref(), &AuditFilter::default(), None, 100).await.unwrap();
        page.entries.into_iter().map(|entry| entry.rpc).collect::<Vec<_>>()
    };
    let given = Scene::open().await;
    let path = given.folder.path().join("given");
    fs::write(&path, new_token().reveal()).unwrap();
    let starts = (0..8).map(|_| given.start(Some(AccessMode::On), Some(path.clone())));
    try_join_all(starts).await.unwrap();
    assert_eq!(logged(&given).await, ["token-file"]);

    let first = Scene::open().await;
    let folders: Vec<_> = (0..8).map(|_| tempfile::tempdir().unwrap()).collect();
    let settings = access_settings(Some(AccessMode::On));
    let starts = folders.iter().map(|folder| {
        open(&settings, ServerRole::Backend, CallerOrigin::Store(&first.store), Some(folder.path()))
    });
    let started = try_join_all(starts).await.unwrap();
    let operators: Vec<_> = started.into_iter().filter_map(|access| access.unwrap().first_operator).collect();
    assert_eq!(logged(&first).await, ["first-start"]);
    let files: Vec<_> = operators.into_iter().map(|operator| operator.token_file).collect();
    assert_eq!(files.len(), 1);
    assert!(is_operator(first.caller(Some(&read_token(&files[0]).unwrap())).await.as_ref()));
    let left = folders.iter().filter_map(|folder| token_file(folder.path()));
    assert_eq!(left.collect::<Vec<_>>(), files, "a token in a file is invalid");
}

#[tokio::test]
async fn a_token_has_the_roles_of_its_principal_within_its_limits() {
    let scene = Scene::open().await;
    assert_eq!(scene.caller(Some(&new_token())).await, None);
    let anonymous = scene.caller(None).await.unwrap();
    assert_eq!(anonymous.check(Needed::Read, "speech"), Err(Denial::NotSignedIn));

    let whole = new_token();
    scene.put(grant(Some("speech"), StoredRole::Owner), credential(&whole)).await;
    scene.put(grant(None, StoredRole::Viewer), credential(&whole)).await;
    let ana = scene.caller(Some(&whole)).await.unwrap();
    assert_eq!(ana.name(), "ana");
    assert_eq!(ana.check(Needed::Manage, "speech"), Ok(()));
    assert_eq!(ana.check(Needed::Read, "vision"), Ok(()));
    assert_eq!(ana.check(Needed::Edit, "vision"), Err(Denial::MissingRight(Right::Edit)));

    let part = new_token();
    let limited =
        Credential { project: Some("speech".into()), role: Some(StoredRole::Writer), ..credential(&part) };
    scene.put(grant(None, StoredRole::Viewer), limited).await;
    let ana = scene.caller(Some(&part)).await.unwrap();
    assert_eq!(ana.check(Needed::Ingest, "speech"), Ok(()));
    assert_eq!(ana.check(Needed::Edit, "speech"), Err(Denial::MissingRight(Right::Edit)));
    assert_eq!(ana.check(Needed::Read, "vision"), Err(Denial::UnknownProject));

    let expired = new_token();
    scene
        .put(grant(None, StoredRole::Viewer), Credential { expires_us: Some(NOW_US), ..credential(&expired) })
        .await;
    assert_eq!(scene.caller(Some(&expired)).await, None);
}
