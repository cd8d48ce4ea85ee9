//! The scope of a request, in which all of its calls are made: its project and its caller. Transports
//! that are given a scope check each call and stamp the scope on it. They remove headers of these
//! names that a client has sent.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};
#[cfg(feature = "wandb")]
use matyan_access::TokenDigest;
use matyan_access::{Caller, DeniedCall, TokenLimits, is_about_instance, rpc_name};
use matyan_proto::common::v1::Access;
use matyan_wire::headers::{
    CALLER, CLIENT_ADDRESS, CREDENTIAL, KNOWN_PROJECTS, RIGHTS, TOKEN_PROJECT, TOKEN_ROLE, TRANSLATED,
};
use percent_encoding::{CONTROLS, utf8_percent_encode};
use tonic::{Code, Status};

use crate::access_reports::AccessReports;
use crate::peer_network::PeerAddress;
use crate::project::{self, RequestProject};
use crate::request_caller::RequestCaller;
use crate::request_id;

/// The name of a caller of whom no credential is asked.
const STRANGER: &str = "anonymous";

#[derive(Clone, Debug)]
pub(crate) struct Scope {
    project: RequestProject,
    caller: RequestCaller,
    /// `None` if it is unknown.
    address: Option<PeerAddress>,
    reports: AccessReports,
    /// Whether a translator of another tracker's protocol makes the calls.
    is_translated: bool,
}

tokio::task_local! {
    static CURRENT: Scope;
}

impl Scope {
    pub(crate) fn new(
        project: RequestProject,
        caller: RequestCaller,
        address: Option<PeerAddress>,
        reports: AccessReports,
    ) -> Self {
        Scope { project, caller, address, reports, is_translated: false }
    }

    /// The same scope, for the calls of a translator.
    #[cfg(any(feature = "mlflow", feature = "wandb"))]
    pub(crate) fn of_translator(self) -> Self {
        Scope { is_translated: true, ..self }
    }

    /// Does the work of a request.
    pub(crate) async fn enclose<T>(self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self, work).await
    }

    /// The scope of the current request. Panics outside of one: work that is not about a project must
    /// not use the default one by accident.
    pub(crate) fn current() -> Self {
        CURRENT.with(Scope::clone)
    }

    /// The name of the project; empty for the default one.
    pub(crate) fn project_name(&self) -> &str {
        project::name(self.project.as_ref())
    }

    /// Checks that the caller has a right. Returns the caller; `None` if no one is asked who it is.
    pub(crate) async fn check(&self, access: Access) -> Result<Option<Arc<Caller>>, Status> {
        self.caller.check(access, self.project_name()).await
    }

    /// Reports that a call with this path was denied, if it would have managed a project or operated the instance. A project
    /// in which the caller has no role does not exist for it, so its calls there are not reported.
    pub(crate) async fn report_denial(&self, denial: &Status, access: Access, path: &str) {
        let is_reported = matches!(access, Access::Manage | Access::Operate);
        if denial.code() != Code::PermissionDenied || !is_reported {
            return;
        }
        let Some(caller) = self.signed_in().await else { return };
        self.reports.denied(DeniedCall {
            principal: caller.name().to_owned(),
            credential: self.caller.token().map(|token| token.id()).unwrap_or_default(),
            address: self.address.map(|PeerAddress(address)| address),
            project: (!is_about_instance(path)).then(|| self.project_name().to_owned()),
            rpc: rpc_name(path).to_owned(),
            request_id: request_id::current(),
        });
    }

    /// Waits until the caller has lost a right.
    pub(crate) async fn refused(&self, access: Access) -> Status {
        self.caller.refused(access, self.project_name()).await
    }

    /// The principal that has signed in or sent a token, if it can be looked up.
    pub(crate) async fn signed_in(&self) -> Option<Arc<Caller>> {
        self.caller.signed_in().await
    }

    /// The digest of the token or the session that the request shows.
    #[cfg(feature = "wandb")]
    pub(crate) fn token(&self) -> Option<TokenDigest> {
        self.caller.token()
    }

    /// Whether access control is on.
    pub(crate) fn is_checked(&self) -> bool {
        self.caller.is_checked()
    }

    /// Makes an outgoing call part of this scope. `caller` is the result of the check of this access. Calls that
    /// every caller may make also get the projects that the caller may know of, and the limits of its token; calls that
    /// manage a project, whether the caller manages all of them.
    pub(crate) fn stamp(&self, headers: &mut HeaderMap, access: Access, caller: Option<&Caller>) {
        for name in [
            CALLER,
            KNOWN_PROJECTS,
            RIGHTS,
            TRANSLATED,
            CREDENTIAL,
            CLIENT_ADDRESS,
            TOKEN_ROLE,
            TOKEN_PROJECT,
        ] {
            headers.remove(name);
        }
        for name in [project::HEADER, header::AUTHORIZATION, header::COOKIE] {
            headers.remove(name);
        }
        if let Some(project) = &self.project {
            headers.insert(project::HEADER, project.clone());
        }
        if let Some(caller) = caller {
            headers.insert(CALLER, ascii(caller.name()));
            match access {
                Access::Caller => stamp_limits(headers, caller),
                // It may ask for data of projects that do not exist, which belongs to no owner.
                Access::Manage if !caller.manages_all_projects() => {
                    headers.insert(KNOWN_PROJECTS, ascii(&format!("/{}", self.project_name())));
                }
                _ => {}
            }
        }
    }

    /// Stamps the rights of the caller in the project, and whether a translator makes the call.
    pub(crate) fn stamp_rights(&self, headers: &mut HeaderMap, caller: &Caller) {
        let rights = caller.known_rights(self.project_name());
        headers.insert(RIGHTS, ascii(&rights.names()));
        if self.is_translated {
            headers.insert(TRANSLATED, HeaderValue::from_static("1"));
        }
    }

    /// Stamps the address of a caller that needs no credential. The name of the caller says that access control is on.
    pub(crate) fn stamp_stranger(&self, headers: &mut HeaderMap) {
        headers.insert(CALLER, HeaderValue::from_static(STRANGER));
        if let Some(PeerAddress(address)) = self.address {
            headers.insert(CLIENT_ADDRESS, ascii(&address.to_string()));
        }
    }

    /// Stamps the token and the address of the caller, for the audit log.
    pub(crate) fn stamp_origin(&self, headers: &mut HeaderMap) {
        if let Some(token) = self.caller.token() {
            headers.insert(CREDENTIAL, ascii(&token.id()));
        }
        if let Some(PeerAddress(address)) = self.address {
            headers.insert(CLIENT_ADDRESS, ascii(&address.to_string()));
        }
    }
}

/// Stamps the projects that a caller may know, and the limits of its token.
fn stamp_limits(headers: &mut HeaderMap, caller: &Caller) {
    if let Some(known) = caller.known_projects() {
        let known: String = known.flat_map(|name| ["/", name]).collect();
        headers.insert(KNOWN_PROJECTS, ascii(&known));
    }
    let TokenLimits { projects, role } = caller.limits();
    if let Some(role) = role {
        headers.insert(TOKEN_ROLE, ascii(role.name()));
    }
    if let Some(projects) = projects {
        let projects: String = projects.iter().flat_map(|name| ["/", name]).collect();
        headers.insert(TOKEN_PROJECT, ascii(&projects));
    }
}

fn ascii(text: &str) -> HeaderValue {
    let text = utf8_percent_encode(text, CONTROLS).to_string();
    HeaderValue::from_str(&text).expect("percent-encoded text is visible ASCII")
}
