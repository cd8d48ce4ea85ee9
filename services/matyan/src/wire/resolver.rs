//! Callers and projects as a backend knows them, for a frontier, which has no store.

use std::time::Duration;

use async_trait::async_trait;
use matyan_access::{
    Caller, CallerRights, CallerSource, LookupError, ProcessKey, Question, Role, TokenDigest, TokenLimits,
};
use matyan_proto::access::v1::{
    PrincipalRole, ResolveCallerRequest, ResolveProjectRequest, ResolveProjectResponse, ResolvedCaller,
    Role as ProtoRole, resolve_service_client::ResolveServiceClient,
};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    endpoint::{EndpointError, endpoint},
    settings::{AccessMode, Secret, Settings},
};

/// Limit on the time of a call to a backend.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Questions to a backend, signed with a key that both have.
pub(crate) struct Resolver {
    backend: ResolveServiceClient<Channel>,
    key: ProcessKey,
}

impl Resolver {
    /// The resolver of a process that asks its callers who they are and has no store to look them up in.
    pub(crate) fn of_process(settings: &Settings, secret: &Secret) -> Result<Option<Self>, EndpointError> {
        let is_needed = settings.access.mode == Some(AccessMode::On) && !settings.role.has_store();
        // The settings refuse such a process without the address of a backend.
        let backend = settings.backend.url.as_deref().filter(|_| is_needed);
        backend.map(|url| Ok(Self::new(&endpoint(url)?, secret))).transpose()
    }

    /// Does not connect: the backend may start later.
    pub(super) fn new(backend: &Endpoint, secret: &Secret) -> Self {
        let channel = backend.clone().connect_timeout(CALL_TIMEOUT).connect_lazy();
        Self { backend: ResolveServiceClient::new(channel), key: ProcessKey::new(secret.reveal()) }
    }

    /// Asks about a project, and about one of its runs if the id is not empty.
    pub(crate) async fn find_project(
        &self,
        name: &str,
        run_id: &str,
    ) -> Result<ResolveProjectResponse, Status> {
        let question = match run_id {
            "" => Question::Project(name),
            run_id => Question::Run { project: name, run_id },
        };
        let signature = self.key.sign(question).into();
        let mut request = Request::new(ResolveProjectRequest {
            name: name.to_owned(),
            signature,
            run_id: run_id.to_owned(),
        });
        request.set_timeout(CALL_TIMEOUT);
        Ok(self.backend.clone().resolve_project(request).await?.into_inner())
    }
}

#[async_trait]
impl CallerSource for Resolver {
    async fn find(&self, token: Option<&TokenDigest>) -> Result<Option<Caller>, LookupError> {
        let signature = self.key.sign(Question::Caller(token)).into();
        let token_digest = token.map(|digest| digest.0.to_vec().into());
        let mut request = Request::new(ResolveCallerRequest { token_digest, signature });
        request.set_timeout(CALL_TIMEOUT);
        let answer = self.backend.clone().resolve_caller(request).await?.into_inner();
        let Some(ResolvedCaller { principal, roles, project, role }) = answer.caller else { return Ok(None) };
        let rights: CallerRights = roles.iter().filter_map(known_role).collect();
        if token.is_none() {
            return Ok(Some(Caller::anonymous(rights)));
        }
        let projects = project.map(|project| [project].into());
        let limits = TokenLimits { projects, role: limit(role)? };
        Ok(Some(Caller::limited(principal, &rights, limits)))
    }
}

/// A role that this version knows; a newer backend may have others.
fn known_role(granted: &PrincipalRole) -> Option<(Option<&str>, Role)> {
    let role = ProtoRole::try_from(granted.role).ok().and_then(Role::from_proto)?;
    Some((granted.project.as_deref(), role))
}

/// The largest role of a token; `None` for all roles. Fails for a role that this version does not know, because without a
/// limit the token would have all roles.
fn limit(role: i32) -> Result<Option<Role>, LookupError> {
    let role = ProtoRole::try_from(role)
        .map_err(|_| format!("the token is limited to the role {role}, which this version does not know"))?;
    Ok(Role::from_proto(role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_78_an_unknown_role_of_a_newer_backend_gives_no_right() {
        let granted = |role| PrincipalRole { role, ..PrincipalRole::default() };
        assert_eq!(known_role(&granted(ProtoRole::Viewer.into())), Some((None, Role::Viewer)));
        assert_eq!(known_role(&granted(1_000)), None);
        assert_eq!(limit(ProtoRole::Unspecified.into()).unwrap(), None);
        assert_eq!(limit(ProtoRole::Viewer.into()).unwrap(), Some(Role::Viewer));
        let error = limit(1_000).unwrap_err().to_string();
        assert!(error.contains("does not know"), "{error}");
    }
}
