//! Roles and tokens, through the service that grants and creates them.

use matyan_proto::access::v1::{
    CreateTokenEverywhereRequest, CreateTokenRequest, DisablePrincipalRequest, EnablePrincipalRequest,
    GrantRequest, ListAllGrantsRequest, RevokeLinkRequest, RevokeRequest, RevokeTokenRequest, Role,
    access_service_client::AccessServiceClient,
};
use tonic::{Code, Request};

use crate::backend::{harness::Harness, projects::of};

const PROJECT: &str = "speech";

/// A request of the operator in the project, as an edge with access control passes it on.
fn of_operator<T>(message: T) -> Request<T> {
    let mut request = of(PROJECT, message);
    request.metadata_mut().insert("matyan-caller", "operator".parse().unwrap());
    request
}

fn grant(principal: &str, role: Role) -> Request<GrantRequest> {
    of_operator(GrantRequest { principal: principal.to_owned(), role: role.into() })
}

#[tokio::test]
async fn a_limit_has_no_rights_that_the_principal_lacks() {
    let harness = Harness::new().await;
    harness.create_project(PROJECT).await;
    let mut access = AccessServiceClient::new(harness.routes());
    access.grant(grant("ci", Role::Ingest)).await.unwrap();
    access.grant(grant("ana", Role::Editor)).await.unwrap();
    for (principal, limit, is_refused) in [
        ("ci", Role::Operator, true),
        ("ci", Role::Viewer, true),
        ("ci", Role::Ingest, false),
        ("ci", Role::Unspecified, false),
        ("ana", Role::Owner, true),
        ("ana", Role::Editor, false),
        ("ana", Role::Ingest, false),
    ] {
        let principal = principal.to_owned();
        let role = limit.into();
        let new = CreateTokenRequest { principal: principal.clone(), role, ..Default::default() };
        let in_project = access.create_token(of_operator(new)).await.map(drop);
        let new = CreateTokenEverywhereRequest { principal: principal.clone(), role, ..Default::default() };
        let everywhere = access.create_token_everywhere(of_operator(new)).await.map(drop);
        for created in [in_project, everywhere] {
            let problem = created.err().map(|status| (status.code(), status.message().to_owned()));
            assert_eq!(problem.is_some(), is_refused, "{principal} {limit:?}: {problem:?}");
            if let Some((code, message)) = problem {
                assert_eq!(code, Code::InvalidArgument);
                assert!(message.contains("choose a smaller role"), "{message}");
            }
        }
    }
    harness.end().await;
}

#[tokio::test]
async fn a_secret_in_place_of_an_id_is_not_repeated() {
    let harness = Harness::new().await;
    harness.create_project(PROJECT).await;
    let mut access = AccessServiceClient::new(harness.routes());
    let token = RevokeTokenRequest { id: "mtk_secret".to_owned() };
    let token = access.revoke_token(of_operator(token)).await.unwrap_err();
    let link = RevokeLinkRequest { id: "mtl_secret".to_owned() };
    let link = access.revoke_link(of_operator(link)).await.unwrap_err();
    for status in [token, link] {
        assert_eq!(status.code(), Code::NotFound);
        assert!(!format!("{status:?}").contains("secret"), "{status:?}");
    }
    harness.end().await;
}

#[tokio::test]
async fn a_disabled_principal_without_a_role_is_listed() {
    let harness = Harness::new().await;
    harness.create_project(PROJECT).await;
    let mut access = AccessServiceClient::new(harness.routes());
    for name in ["ana", "bob"] {
        access.grant(grant(name, Role::Viewer)).await.unwrap();
        let disable = DisablePrincipalRequest { principal: name.to_owned() };
        access.disable_principal(of_operator(disable)).await.unwrap();
    }
    let revoke = RevokeRequest { principal: "bob".to_owned() };
    access.revoke(of_operator(revoke)).await.unwrap();
    let listed = access.list_all_grants(of_operator(ListAllGrantsRequest {})).await.unwrap().into_inner();
    let granted: Vec<_> =
        listed.grants.iter().map(|grant| (grant.principal.as_str(), grant.disabled)).collect();
    assert_eq!((granted, listed.disabled), (vec![("ana", true)], vec!["bob".to_owned()]));
    let enable = EnablePrincipalRequest { principal: "bob".to_owned() };
    access.enable_principal(of_operator(enable)).await.unwrap();
    let listed = access.list_all_grants(of_operator(ListAllGrantsRequest {})).await.unwrap().into_inner();
    assert!(listed.disabled.is_empty(), "{listed:?}");
    harness.end().await;
}
