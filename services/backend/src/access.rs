//! Access control for operators and owners of projects: the roles of principals, and their tokens.
//! The edge decides from the same rows whether a caller may make a call; this module decides nothing.

mod audit;
mod grants;
mod links;
mod login;
mod resolve;
mod sign_in;
mod tokens;

pub(crate) use audit::AuditApi;
pub(crate) use login::LoginApi;
pub(crate) use resolve::ResolveApi;
pub(crate) use sign_in::SignInApi;

use matyan_access::{Role, TokenLimits};
use matyan_model::access::AccessRefusal;
use matyan_proto::access::v1::{self as pb, access_service_server::AccessService};
use matyan_wire::headers::CREDENTIAL;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::server::{
    RpcResult, Server,
    call::{Call, known_projects, token_limits},
    error::{Error, Result},
};
use links::NewLink;
use tokens::NewToken;

/// The step that makes room for a further row.
const REMOVE_PRINCIPALS: &str = "an operator has to remove principals, with `matyan access remove NAME`";
const REVOKE_ROLES: &str = "an operator has to revoke roles, with `matyan access revoke NAME`";
const REVOKE_TOKENS: &str =
    "an operator has to revoke tokens, with `matyan access token revoke ID --everywhere`";
const REVOKE_LINKS: &str = "an operator has to revoke links, with `matyan access revoke-link ID --everywhere`, or wait until they \
                            are opened or expire, within 7 days";
const REVOKE_ROLES_OF_PROJECT: &str =
    "revoke roles in the project, with `matyan access revoke NAME --project PROJECT`";
const REVOKE_TOKENS_OF_PROJECT: &str =
    "revoke tokens for the project, with `matyan access token revoke ID --project PROJECT`";
const REVOKE_LINKS_OF_PROJECT: &str = "revoke links for the project, with `matyan access revoke-link ID --project PROJECT`, or wait \
                                       until they are opened or expire, within 7 days";

/// The service of access control.
pub(crate) struct AccessApi {
    server: Server,
}

impl AccessApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }

    async fn start<T>(&self, request: Request<T>) -> Result<(Call, T), Status> {
        start_checked(&self.server, request).await
    }
}

/// Starts a call of a caller whose rights the edge has checked.
async fn start_checked<T>(server: &Server, request: Request<T>) -> Result<(Call, T), Status> {
    let (call, message) = server.start_call(request).await?;
    // The edge names the caller if, and only if, access control is on.
    if call.caller.is_empty() {
        let reason = "access control is off: start the server with --access on, and use its operator token";
        return Err(Error::InvalidRequest(reason.to_owned()).into());
    }
    Ok((call, message))
}

/// The id of the token that the edge has seen in a call; empty if there is none.
fn credential_id(metadata: &MetadataMap) -> String {
    let id = metadata.get(CREDENTIAL).and_then(|id| id.to_str().ok());
    id.unwrap_or_default().to_owned()
}

impl Error {
    /// The error for a principal without a role in a project, whatever roles it has in others.
    fn without_role_in(project: &str, principal: &str) -> Self {
        let reason = if project.is_empty() {
            format!(
                "is `{principal}`, which has no role in the default project: grant one there, with `matyan access grant \
                 {principal} ROLE`, or name another project, with `--project NAME`"
            )
        } else {
            format!(
                "is `{principal}`, which has no role in the project `{project}`: grant one there first, with `matyan access grant \
                 {principal} ROLE --project {project}`"
            )
        };
        Self::field("principal", reason)
    }

    /// The error for a row about a principal that was not written.
    fn of_access(refusal: AccessRefusal, principal: &str) -> Self {
        match refusal {
            AccessRefusal::TooManyPrincipals { limit } => {
                Self::Full { what: "principals", limit, remedy: REMOVE_PRINCIPALS }
            }
            AccessRefusal::TooManyGrants { limit } => {
                Self::Full { what: "roles", limit, remedy: REVOKE_ROLES }
            }
            AccessRefusal::TooManyCredentials { limit } => {
                Self::Full { what: "tokens", limit, remedy: REVOKE_TOKENS }
            }
            AccessRefusal::TooManyLinks { limit } => {
                Self::Full { what: "links", limit, remedy: REVOKE_LINKS }
            }
            AccessRefusal::TooManyGrantsOfProject { limit } => {
                Self::Full { what: "roles in the project", limit, remedy: REVOKE_ROLES_OF_PROJECT }
            }
            AccessRefusal::TooManyTokensOfProject { limit } => {
                Self::Full { what: "tokens for the project", limit, remedy: REVOKE_TOKENS_OF_PROJECT }
            }
            AccessRefusal::TooManyLinksOfProject { limit } => {
                Self::Full { what: "links for the project", limit, remedy: REVOKE_LINKS_OF_PROJECT }
            }
            AccessRefusal::TooManySignIns { limit } => Self::sign_in_refused(
                principal,
                format!(
                    "`{principal}` has signed in {limit} times in the last minutes: wait ten minutes, then sign in again"
                ),
            ),
            AccessRefusal::TooManyLogins => Self::TooManyLogins,
            AccessRefusal::UnknownPrincipal => Self::field(
                "principal",
                format!(
                    "is `{principal}`, which has no role yet: grant a role first, with `matyan access grant {principal} ROLE \
                     --project NAME`"
                ),
            ),
            AccessRefusal::DisabledPrincipal => Self::sign_in_refused(
                principal,
                format!(
                    "`{principal}` is disabled: an operator can change that, with `matyan access enable {principal}`"
                ),
            ),
            AccessRefusal::LastOperator => Self::field(
                "principal",
                format!(
                    "is `{principal}`, the only operator: make another operator first, with `matyan access grant NAME operator \
                     --everywhere`"
                ),
            ),
        }
    }
}

#[tonic::async_trait]
impl AccessService for AccessApi {
    async fn get_caller(&self, request: Request<pb::GetCallerRequest>) -> RpcResult<pb::GetCallerResponse> {
        // A token for one project does not show the other roles.
        let known = known_projects(request.metadata())?;
        let TokenLimits { role, projects } = token_limits(request.metadata())?;
        let (call, _) = self.start(request).await?;
        let roles = grants::of_principal(&self.server.deps, &call.caller, known.as_ref()).await?;
        let token_role = role.map_or(pb::Role::Unspecified, Role::to_proto).into();
        // A token is for one project, or for all.
        let token_project = projects.and_then(|projects| projects.into_iter().next());
        let principal = call.caller;
        Ok(Response::new(pb::GetCallerResponse { principal, roles, token_role, token_project }))
    }

    async fn end_login(&self, request: Request<pb::EndLoginRequest>) -> RpcResult<pb::EndLoginResponse> {
        let credential = credential_id(request.metadata());
        let (call, request) = self.start(request).await?;
        let token = tokens::end_login(&self.server.deps, &call.caller, &credential, request.force).await?;
        Ok(Response::new(pb::EndLoginResponse { token }))
    }

    async fn list_grants(
        &self,
        request: Request<pb::ListGrantsRequest>,
    ) -> RpcResult<pb::ListGrantsResponse> {
        let (call, _) = self.start(request).await?;
        let grants = grants::list(&self.server.deps, Some(&call.project_name)).await?;
        Ok(Response::new(pb::ListGrantsResponse { grants }))
    }

    async fn list_all_grants(
        &self,
        request: Request<pb::ListAllGrantsRequest>,
    ) -> RpcResult<pb::ListAllGrantsResponse> {
        self.start(request).await?;
        let grants = grants::list(&self.server.deps, None).await?;
        let disabled = grants::disabled_without_role(&self.server.deps).await?;
        Ok(Response::new(pb::ListAllGrantsResponse { grants, disabled }))
    }

    async fn grant(&self, request: Request<pb::GrantRequest>) -> RpcResult<pb::GrantResponse> {
        let (call, request) = self.start(request).await?;
        let project = Some(call.project_name.clone());
        let role = request.role();
        let grant = grants::grant(&self.server.deps, &call, request.principal, project, role).await?;
        let unknown_provider = sign_in::unknown_provider(&self.server.deps, &grant.principal);
        Ok(Response::new(pb::GrantResponse { grant: Some(grant), unknown_provider }))
    }

    async fn grant_everywhere(
        &self,
        request: Request<pb::GrantEverywhereRequest>,
    ) -> RpcResult<pb::GrantEverywhereResponse> {
        let (call, request) = self.start(request).await?;
        let role = request.role();
        let grant = grants::grant(&self.server.deps, &call, request.principal, None, role).await?;
        let unknown_provider = sign_in::unknown_provider(&self.server.deps, &grant.principal);
        Ok(Response::new(pb::GrantEverywhereResponse { grant: Some(grant), unknown_provider }))
    }

    async fn revoke(&self, request: Request<pb::RevokeRequest>) -> RpcResult<pb::RevokeResponse> {
        let (call, request) = self.start(request).await?;
        grants::revoke(&self.server.deps, &request.principal, Some(&call.project_name)).await?;
        Ok(Response::new(pb::RevokeResponse {}))
    }

    async fn revoke_everywhere(
        &self,
        request: Request<pb::RevokeEverywhereRequest>,
    ) -> RpcResult<pb::RevokeEverywhereResponse> {
        let (_, request) = self.start(request).await?;
        grants::revoke(&self.server.deps, &request.principal, None).await?;
        Ok(Response::new(pb::RevokeEverywhereResponse {}))
    }

    async fn remove_principal(
        &self,
        request: Request<pb::RemovePrincipalRequest>,
    ) -> RpcResult<pb::RemovePrincipalResponse> {
        let (_, request) = self.start(request).await?;
        let disabled = grants::remove_principal(&self.server.deps, &request.principal).await?;
        Ok(Response::new(pb::RemovePrincipalResponse { disabled }))
    }

    async fn disable_principal(
        &self,
        request: Request<pb::DisablePrincipalRequest>,
    ) -> RpcResult<pb::DisablePrincipalResponse> {
        let (_, request) = self.start(request).await?;
        grants::disable_principal(&self.server.deps, &request.principal).await?;
        Ok(Response::new(pb::DisablePrincipalResponse {}))
    }

    async fn enable_principal(
        &self,
        request: Request<pb::EnablePrincipalRequest>,
    ) -> RpcResult<pb::EnablePrincipalResponse> {
        let (_, request) = self.start(request).await?;
        grants::enable_principal(&self.server.deps, &request.principal).await?;
        Ok(Response::new(pb::EnablePrincipalResponse {}))
    }

    async fn create_link(
        &self,
        request: Request<pb::CreateLinkRequest>,
    ) -> RpcResult<pb::CreateLinkResponse> {
        let (call, request) = self.start(request).await?;
        let role = request.role();
        let pb::CreateLinkRequest { principal, lifetime_s, host, role: _ } = request;
        let project = Some(call.project_name.clone());
        let new = NewLink { principal, role, lifetime_s, host, project };
        let (secret, expires_us) = links::create(&self.server.deps, &call, new).await?;
        Ok(Response::new(pb::CreateLinkResponse { secret, expires_us }))
    }

    async fn create_link_everywhere(
        &self,
        request: Request<pb::CreateLinkEverywhereRequest>,
    ) -> RpcResult<pb::CreateLinkEverywhereResponse> {
        let (call, request) = self.start(request).await?;
        let role = request.role();
        let pb::CreateLinkEverywhereRequest { principal, lifetime_s, host, role: _ } = request;
        let new = NewLink { principal, role, lifetime_s, host, project: None };
        let (secret, expires_us) = links::create(&self.server.deps, &call, new).await?;
        Ok(Response::new(pb::CreateLinkEverywhereResponse { secret, expires_us }))
    }

    async fn list_links(&self, request: Request<pb::ListLinksRequest>) -> RpcResult<pb::ListLinksResponse> {
        let (call, _) = self.start(request).await?;
        let links = links::list(&self.server.deps, Some(&call.project_name)).await?;
        Ok(Response::new(pb::ListLinksResponse { links }))
    }

    async fn list_all_links(
        &self,
        request: Request<pb::ListAllLinksRequest>,
    ) -> RpcResult<pb::ListAllLinksResponse> {
        self.start(request).await?;
        let links = links::list(&self.server.deps, None).await?;
        Ok(Response::new(pb::ListAllLinksResponse { links }))
    }

    async fn revoke_link(
        &self,
        request: Request<pb::RevokeLinkRequest>,
    ) -> RpcResult<pb::RevokeLinkResponse> {
        let (call, request) = self.start(request).await?;
        let link = links::revoke(&self.server.deps, &request.id, Some(&call.project_name)).await?;
        Ok(Response::new(pb::RevokeLinkResponse { link }))
    }

    async fn revoke_any_link(
        &self,
        request: Request<pb::RevokeAnyLinkRequest>,
    ) -> RpcResult<pb::RevokeAnyLinkResponse> {
        let (_, request) = self.start(request).await?;
        let link = links::revoke(&self.server.deps, &request.id, None).await?;
        Ok(Response::new(pb::RevokeAnyLinkResponse { link }))
    }

    async fn list_tokens(
        &self,
        request: Request<pb::ListTokensRequest>,
    ) -> RpcResult<pb::ListTokensResponse> {
        let (call, _) = self.start(request).await?;
        let tokens = tokens::list(&self.server.deps, Some(&call.project_name)).await?;
        Ok(Response::new(pb::ListTokensResponse { tokens }))
    }

    async fn list_all_tokens(
        &self,
        request: Request<pb::ListAllTokensRequest>,
    ) -> RpcResult<pb::ListAllTokensResponse> {
        self.start(request).await?;
        let tokens = tokens::list(&self.server.deps, None).await?;
        Ok(Response::new(pb::ListAllTokensResponse { tokens }))
    }

    async fn create_token(
        &self,
        request: Request<pb::CreateTokenRequest>,
    ) -> RpcResult<pb::CreateTokenResponse> {
        let (call, request) = self.start(request).await?;
        let role = request.role();
        let pb::CreateTokenRequest { principal, label, lifetime_s, role: _ } = request;
        let project = Some(call.project_name.clone());
        let new = NewToken { principal, label, lifetime_s, role, project };
        let (token, secret) = tokens::create(&self.server.deps, &call, new).await?;
        Ok(Response::new(pb::CreateTokenResponse { token: Some(token), secret }))
    }

    async fn create_token_everywhere(
        &self,
        request: Request<pb::CreateTokenEverywhereRequest>,
    ) -> RpcResult<pb::CreateTokenEverywhereResponse> {
        let (call, request) = self.start(request).await?;
        let role = request.role();
        let pb::CreateTokenEverywhereRequest { principal, label, lifetime_s, role: _ } = request;
        let new = NewToken { principal, label, lifetime_s, role, project: None };
        let (token, secret) = tokens::create(&self.server.deps, &call, new).await?;
        Ok(Response::new(pb::CreateTokenEverywhereResponse { token: Some(token), secret }))
    }

    async fn revoke_token(
        &self,
        request: Request<pb::RevokeTokenRequest>,
    ) -> RpcResult<pb::RevokeTokenResponse> {
        let (call, request) = self.start(request).await?;
        let project = Some(call.project_name.as_str());
        let token = tokens::revoke(&self.server.deps, &request.id, project).await?;
        Ok(Response::new(pb::RevokeTokenResponse { token: Some(token) }))
    }

    async fn revoke_any_token(
        &self,
        request: Request<pb::RevokeAnyTokenRequest>,
    ) -> RpcResult<pb::RevokeAnyTokenResponse> {
        let (_, request) = self.start(request).await?;
        let token = tokens::revoke(&self.server.deps, &request.id, None).await?;
        Ok(Response::new(pb::RevokeAnyTokenResponse { token: Some(token) }))
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    #[test]
    fn a_missing_role_is_granted_in_the_project_that_was_asked_about() {
        let text = |project| Error::without_role_in(project, "dd").to_string();
        let default = text("");
        assert!(default.contains("`dd`, which has no role in the default project"), "{default}");
        assert!(default.contains("grant dd ROLE`") && default.contains("`--project NAME`"), "{default}");
        let named = text("speech");
        assert!(named.contains("no role in the project `speech`"), "{named}");
        assert!(named.ends_with("`matyan access grant dd ROLE --project speech`"), "{named}");
    }

    #[test]
    fn refusals_name_the_principal() {
        let text = |refusal| Error::of_access(refusal, "dd").to_string();
        let unknown = text(AccessRefusal::UnknownPrincipal);
        assert!(
            unknown.contains("`dd`, which has no role yet")
                && unknown.contains("grant dd ROLE --project NAME"),
            "{unknown}"
        );
        let disabled = Status::from(Error::of_access(AccessRefusal::DisabledPrincipal, "dd"));
        assert_eq!(disabled.get_details_error_info().unwrap().metadata["principal"], "dd");
        let full = text(AccessRefusal::TooManyGrants { limit: 20_000 });
        assert!(full.contains("there are 20000 roles already"), "{full}");
        assert!(full.ends_with("with `matyan access revoke NAME`"), "{full}");
        let links = text(AccessRefusal::TooManyLinks { limit: 1_000 });
        assert!(
            links.contains("expire") && links.contains("`matyan access revoke-link ID --everywhere`"),
            "{links}"
        );
        let last = text(AccessRefusal::LastOperator);
        assert!(last.contains("`dd`, the only operator"), "{last}");
    }
}
