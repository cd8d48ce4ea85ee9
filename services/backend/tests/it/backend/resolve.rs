//! Questions of processes without a store: who has a token, and which projects exist.

use matyan_access::{AccessToken, ProcessKey, Question, TokenDigest};
use matyan_proto::access::v1::{
    CreateTokenRequest, GrantRequest, ResolveCallerRequest, ResolveProjectRequest, ResolvedCaller,
    RevokeTokenRequest, Role, access_service_client::AccessServiceClient,
    resolve_service_client::ResolveServiceClient,
};
use tonic::{Code, Request, Status};

use crate::backend::{
    harness::{Harness, create},
    projects::of,
};

/// A request of the operator in a project, as an edge with access control passes it on.
fn of_operator<T>(project: &str, message: T) -> Request<T> {
    let mut request = of(project, message);
    request.metadata_mut().insert("matyan-caller", "operator".parse().unwrap());
    request
}

async fn caller(
    harness: &Harness,
    digest: Option<&TokenDigest>,
    signature: Vec<u8>,
) -> Result<Option<ResolvedCaller>, Status> {
    let token_digest = digest.map(|digest| digest.0.to_vec().into());
    let request = ResolveCallerRequest { token_digest, signature: signature.into() };
    let answer = ResolveServiceClient::new(harness.routes()).resolve_caller(request).await?;
    Ok(answer.into_inner().caller)
}

async fn project(harness: &Harness, name: &str, signature: Vec<u8>) -> Result<bool, Status> {
    let request = ResolveProjectRequest {
        name: name.to_owned(),
        signature: signature.into(),
        ..ResolveProjectRequest::default()
    };
    let answer = ResolveServiceClient::new(harness.routes()).resolve_project(request).await?;
    Ok(answer.into_inner().exists)
}

/// Makes `ana` an editor of `speech`. Returns a token that is limited to reading there, and its id.
async fn invite(harness: &Harness) -> (TokenDigest, String) {
    let mut access = AccessServiceClient::new(harness.routes());
    let grant = GrantRequest { principal: "ana".to_owned(), role: Role::Editor.into() };
    access.grant(of_operator("speech", grant)).await.unwrap();
    let new = CreateTokenRequest {
        principal: "ana".to_owned(),
        role: Role::Viewer.into(),
        ..CreateTokenRequest::default()
    };
    let created = access.create_token(of_operator("speech", new)).await.unwrap().into_inner();
    (AccessToken::parse(&created.secret).unwrap().digest(), created.token.unwrap().id)
}

#[tokio::test]
async fn rule_78_a_process_of_the_deployment_learns_who_has_a_token() {
    let harness = Harness::new().await;
    harness.create_project("speech").await;
    let (digest, id) = invite(&harness).await;
    let key = ProcessKey::new(b"secret");
    let ask = async |digest: Option<&TokenDigest>| {
        caller(&harness, digest, key.sign(Question::Caller(digest))).await.unwrap()
    };
    let ana = ask(Some(&digest)).await.unwrap();
    assert_eq!(
        (ana.principal.as_str(), ana.role(), ana.project.as_deref()),
        ("ana", Role::Viewer, Some("speech"))
    );
    assert_eq!(ana.roles.len(), 1);
    assert_eq!((ana.roles[0].role(), ana.roles[0].project.as_deref()), (Role::Editor, Some("speech")));
    let everyone = ask(None).await.unwrap();
    assert_eq!((everyone.principal.as_str(), everyone.roles.len()), ("anonymous", 0));
    assert_eq!(ask(Some(&TokenDigest([9; 32]))).await, None);
    for (name, exists) in [("speech", true), ("vision", false)] {
        assert_eq!(
            project(&harness, name, key.sign(Question::Project(name))).await.unwrap(),
            exists,
            "{name}"
        );
    }

    let mut access = AccessServiceClient::new(harness.routes());
    access.revoke_token(of_operator("speech", RevokeTokenRequest { id })).await.unwrap();
    assert_eq!(ask(Some(&digest)).await, None, "the token is revoked");
    harness.end().await;
}

#[tokio::test]
async fn rule_78_a_process_of_the_deployment_learns_which_runs_exist() {
    let harness = Harness::new().await;
    harness.create_project("speech").await;
    harness.log_in("speech", "r", [create()]).await;
    harness.applied().await;
    let key = ProcessKey::new(b"secret");
    let ask = async |run_id: &str, question: Question<'_>| {
        let request = ResolveProjectRequest {
            name: "speech".to_owned(),
            run_id: run_id.to_owned(),
            signature: key.sign(question).into(),
        };
        let answer = ResolveServiceClient::new(harness.routes()).resolve_project(request).await;
        answer.map(|answer| answer.into_inner())
    };
    for (run_id, exists) in [("r", true), ("s", false)] {
        let answer = ask(run_id, Question::Run { project: "speech", run_id }).await.unwrap();
        assert_eq!((answer.exists, answer.has_run), (true, exists), "{run_id}");
        assert_eq!(answer.exceeded_quota, None);
        let about_project = ask(run_id, Question::Project("speech")).await.unwrap_err();
        assert_eq!(about_project.code(), Code::PermissionDenied, "{run_id}");
    }
    harness.end().await;
}

#[tokio::test]
async fn rule_78_without_the_key_of_the_deployment_nobody_gets_an_answer() {
    let harness = Harness::new().await;
    harness.create_project("speech").await;
    let (digest, _) = invite(&harness).await;
    let other = ProcessKey::new(b"other");
    let own = ProcessKey::new(b"secret");
    let asked = Question::Caller(Some(&digest));
    let wrong = [
        Vec::new(),
        vec![0; 32],
        other.sign(asked),
        own.sign(Question::Caller(None)),
        own.sign(Question::Project("speech")),
    ];
    for signature in wrong {
        let refused = caller(&harness, Some(&digest), signature.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
        assert!(refused.message().contains("BLOB_URI_SECRET"), "{refused:?}");
        assert!(!format!("{refused:?}").contains("ana"), "{refused:?}");
    }
    // The same answer for a project that exists and for another one.
    let [known, unknown] = ["speech", "vision"].map(|name| other.sign(Question::Project(name)));
    let known = project(&harness, "speech", known).await.unwrap_err();
    let unknown = project(&harness, "vision", unknown).await.unwrap_err();
    assert_eq!(known.code(), Code::PermissionDenied);
    assert_eq!(known.message(), unknown.message());
    harness.end().await;
}
