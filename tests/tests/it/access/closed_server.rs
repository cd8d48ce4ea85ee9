//! A server with access control, whose projects, principals and tokens a test creates through its API.

use std::time::SystemTime;

use matyan_proto::{
    access::v1::{
        CreateLinkRequest, CreateTokenEverywhereRequest, CreateTokenEverywhereResponse, CreateTokenRequest,
        CreateTokenResponse, GrantEverywhereRequest, GrantRequest, RevokeAnyTokenRequest, Role, TokenInfo,
        access_service_client::AccessServiceClient,
    },
    project::v1::{CreateRequest, project_service_client::ProjectServiceClient},
};
use matyan_tests::{
    Server, channel, eventually,
    json::{JsonWriter, handshake},
};
use tokio_tungstenite::tungstenite::Error;
use tonic::{Request, transport::Channel};

use super::operator_token;

pub(super) struct ClosedServer {
    pub(super) server: Server,
    /// The token of the operator.
    pub(super) operator: String,
    pub(super) channel: Channel,
}

/// A token that the server has created.
#[derive(Clone, Debug)]
pub(super) struct CreatedToken {
    pub(super) secret: String,
    pub(super) info: TokenInfo,
}

impl ClosedServer {
    /// Starts with these projects, besides the default one.
    pub(super) async fn up(flags: &[&str], projects: &[&str]) -> Self {
        Self::up_with_variables(flags, &[], projects).await
    }

    /// Starts with these projects, and with variables of the environment.
    pub(super) async fn up_with_variables(
        flags: &[&str],
        variables: &[(&str, &str)],
        projects: &[&str],
    ) -> Self {
        let flags = [&["--access", "on"][..], flags].concat();
        let server = Server::up_with_variables(&flags, variables).await;
        let operator = operator_token(&server.data_dir());
        let channel = channel(&server.query).await;
        let closed = Self { server, operator, channel };
        for project in projects {
            let request = CreateRequest { name: (*project).to_owned(), ..Default::default() };
            let mut client = ProjectServiceClient::new(closed.channel.clone());
            client.create(closed.request("", request)).await.expect("an operator creates projects");
        }
        closed
    }

    /// A request of the operator in a project.
    pub(super) fn request<T>(&self, project: &str, message: T) -> Request<T> {
        request_of(&self.operator, project, message)
    }

    fn access(&self) -> AccessServiceClient<Channel> {
        AccessServiceClient::new(self.channel.clone())
    }

    /// Gives a principal a role in a project, and a token for this project.
    pub(super) async fn invite(&self, principal: &str, role: Role, project: &str) -> CreatedToken {
        let grant = GrantRequest { principal: principal.to_owned(), role: role.into() };
        self.access().grant(self.request(project, grant)).await.expect("the operator grants roles");
        self.create_token(principal, project, 0).await
    }

    /// A token of a principal for a project. With a lifetime of 0, it gets the default lifetime.
    pub(super) async fn create_token(&self, principal: &str, project: &str, lifetime_s: u64) -> CreatedToken {
        let create = CreateTokenRequest { principal: principal.to_owned(), lifetime_s, ..Default::default() };
        self.token(project, create).await
    }

    /// A token of a principal for a project, with at most a role.
    pub(super) async fn limited_token(&self, principal: &str, project: &str, role: Role) -> CreatedToken {
        let role = role.into();
        self.token(
            project,
            CreateTokenRequest { principal: principal.to_owned(), role, ..Default::default() },
        )
        .await
    }

    async fn token(&self, project: &str, create: CreateTokenRequest) -> CreatedToken {
        let created = self.access().create_token(self.request(project, create)).await;
        let CreateTokenResponse { token, secret } = created.expect("the principal has a role").into_inner();
        CreatedToken { secret, info: token.expect("the answer describes the token") }
    }

    /// The secret of a link that signs a principal in to a project, once.
    pub(super) async fn create_link(&self, principal: &str, project: &str) -> String {
        let create = CreateLinkRequest { principal: principal.to_owned(), ..Default::default() };
        let created = self.access().create_link(self.request(project, create)).await;
        created.expect("the principal has a role").into_inner().secret
    }

    /// Signs a browser in with a token or the secret of a link. Returns its cookie, as browsers send it.
    pub(super) async fn sign_in(&self, secret: &str) -> String {
        let (status, cookie) = super::sign_in(&self.server, secret).await;
        cookie.unwrap_or_else(|| panic!("signing in is refused with {status}"))
    }

    /// Gives a principal a role in all projects, and a token.
    pub(super) async fn invite_everywhere(&self, principal: &str, role: Role) -> CreatedToken {
        let grant = GrantEverywhereRequest { principal: principal.to_owned(), role: role.into() };
        self.access().grant_everywhere(self.request("", grant)).await.expect("the operator grants roles");
        let create = CreateTokenEverywhereRequest { principal: principal.to_owned(), ..Default::default() };
        let created = self.access().create_token_everywhere(self.request("", create)).await;
        let CreateTokenEverywhereResponse { token, secret } =
            created.expect("the principal has a role").into_inner();
        CreatedToken { secret, info: token.expect("the answer describes the token") }
    }

    pub(super) async fn revoke(&self, token: &CreatedToken) {
        let revoke = RevokeAnyTokenRequest { id: token.info.id.clone() };
        self.access().revoke_any_token(self.request("", revoke)).await.expect("the token exists");
    }

    /// A socket to a run, or the status with which it is refused.
    pub(super) async fn connect(&self, token: &str, project: &str, run_id: &str) -> Result<JsonWriter, u16> {
        let base = format!("{}/p/{project}", self.server.ingest);
        let request = handshake(&base, run_id, Some(token)).expect("the address is valid");
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => Ok(JsonWriter { socket }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// A token of a principal that has expired. It has not been used, so the server has not cached it.
    pub(super) async fn expired_token(&self, principal: &str, project: &str) -> CreatedToken {
        let token = self.create_token(principal, project, 1).await;
        let expires_us = token.info.expires_us.expect("every token expires");
        eventually("the token expires", async || {
            let now = SystemTime::UNIX_EPOCH.elapsed().expect("the clock is after 1970");
            if now.as_micros() > u128::from(expires_us.unsigned_abs()) { Ok(()) } else { Err(now) }
        })
        .await;
        token
    }
}

/// A request with a token in a project.
pub(super) fn request_of<T>(token: &str, project: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let authorization = format!("Bearer {token}").parse().expect("a token is ASCII");
    request.metadata_mut().insert("authorization", authorization);
    if !project.is_empty() {
        request.metadata_mut().insert("matyan-project", project.parse().expect("a name is ASCII"));
    }
    request
}
