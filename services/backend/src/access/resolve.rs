//! Callers and projects, for processes that have no store. Only a signature of this deployment gets an answer.

use matyan_access::{Question, TokenDigest};
use matyan_model::{
    access::{ANONYMOUS, access_find, anonymous_grants},
    ids::NamedProject,
    project::project_find,
};
use matyan_proto::access::v1::{self as pb, Role, resolve_service_server::ResolveService};
use tonic::{Request, Response};

use super::grants;
use crate::{
    server::{
        RpcResult, Server,
        error::{Error, Result},
    },
    view::run_lookup::has_run,
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

    async fn project(&self, name: String, run_id: &str) -> Result<pb::ResolveProjectResponse> {
        let deps = &self.server.deps;
        let snapshot = deps.store.snapshot().await?;
        let Some(number) = project_find(snapshot.as_ref(), &name).await? else {
            return Ok(pb::ResolveProjectResponse::default());
        };
        let project = NamedProject { number, name };
        Ok(pb::ResolveProjectResponse {
            exists: true,
            exceeded_quota: deps.quotas.exceeded(snapshot.as_ref(), &project).await?,
            has_run: has_run(snapshot.as_ref(), number, run_id).await?,
        })
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
        let pb::ResolveProjectRequest { name, signature, run_id } = request.into_inner();
        let question = match run_id.as_str() {
            "" => Question::Project(&name),
            run_id => Question::Run { project: &name, run_id },
        };
        self.check(question, &signature)?;
        Ok(Response::new(self.project(name, &run_id).await?))
    }
}
