//! Callers and projects, for processes that have no store. Only a signature of this deployment gets an answer.

use matyan_access::{Question, TokenDigest};
use matyan_model::{
    access::{ANONYMOUS, access_find, anonymous_grants},
    project::project_find,
};
use matyan_proto::access::v1::{self as pb, Role, resolve_service_server::ResolveService};
use tonic::{Request, Response};

use super::grants;
use crate::server::{
    RpcResult, Server,
    error::{Error, Result},
};

/// The service that says who callers are.
pub(crate) struct ResolveApi {
    server: Server,
}

impl ResolveApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }

    fn check(&self, question: Question<'_>, signature: &[u8]) -> Result<()> {
        let is_of_process = self.server.deps.process_key.verify(question, signature);
        if is_of_process { Ok(()) } else { Err(Error::WrongSignature) }
    }

    async fn caller(&self, digest: Option<&TokenDigest>) -> Result<Option<pb::ResolvedCaller>> {
        let deps = &self.server.deps;
        let snapshot = deps.store.snapshot().await?;
        let Some(digest) = digest else {
            let granted = anonymous_grants(snapshot.as_ref()).await?;
            let roles = granted.into_iter().map(grants::view).collect();
            let principal = ANONYMOUS.to_owned();
            return Ok(Some(pb::ResolvedCaller { principal, roles, ..Default::default() }));
        };
        let found = access_find(snapshot.as_ref(), &digest.0, (deps.clock)()).await?;
        Ok(found.map(|(credential, granted)| pb::ResolvedCaller {
            principal: credential.principal,
            roles: granted.into_iter().map(grants::view).collect(),
            project: credential.project,
            role: credential.role.unwrap_or(Role::Unspecified).into(),
        }))
    }
}

#[tonic::async_trait]
impl ResolveService for ResolveApi {
    async fn resolve_caller(
        &self,
        request: Request<pb::ResolveCallerRequest>,
    ) -> RpcResult<pb::ResolveCallerResponse> {
        let pb::ResolveCallerRequest { token_digest, signature } = request.into_inner();
        let digest = token_digest.map(|bytes| <[u8; 32]>::try_from(&bytes[..]).map(TokenDigest)).transpose();
        let digest = digest.map_err(|_| Error::field("token_digest", "does not have 32 bytes"))?;
        self.check(Question::Caller(digest.as_ref()), &signature)?;
        let caller = self.caller(digest.as_ref()).await?;
        Ok(Response::new(pb::ResolveCallerResponse { caller }))
    }

    async fn resolve_project(
        &self,
        request: Request<pb::ResolveProjectRequest>,
    ) -> RpcResult<pb::ResolveProjectResponse> {
        let pb::ResolveProjectRequest { name, signature } = request.into_inner();
        self.check(Question::Project(&name), &signature)?;
        let snapshot = self.server.deps.store.snapshot().await.map_err(Error::from)?;
        let found = project_find(snapshot.as_ref(), &name).await.map_err(Error::from)?;
        Ok(Response::new(pb::ResolveProjectResponse { exists: found.is_some() }))
    }
}
