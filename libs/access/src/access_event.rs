//! Events of access control that are no calls of a service: attempts to sign in, sign-outs, and denied calls. The audit
//! log records them.

use std::net::IpAddr;

/// A browser that has signed in, or a refusal of a credential, of a form or of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignInAttempt {
    /// Name of the principal; empty if it is unknown.
    pub principal: String,
    /// Id of the credential, which reveals nothing; empty if there is none.
    pub credential: String,
    /// `None` if the address of the client is unknown.
    pub address: Option<IpAddr>,
    pub request_id: String,
    pub outcome: SignInOutcome,
}

/// The outcome of an attempt to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignInOutcome {
    SignedIn,
    /// A call had a credential that is unknown, expired or revoked.
    CredentialRefused,
    /// A page for signing in or out has refused what a browser sent: a token, a link, the answer of a provider, or the
    /// form of another site.
    PageRefused,
    /// A provider knows the person, who is disabled or has no role.
    PersonRefused,
}

/// A browser that has signed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignOut {
    pub principal: String,
    /// Id of its session.
    pub credential: String,
    /// `None` if the address of the client is unknown.
    pub address: Option<IpAddr>,
    pub request_id: String,
}

/// A call that was denied because its caller has no sufficient role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeniedCall {
    pub principal: String,
    /// Id of the credential.
    pub credential: String,
    /// `None` if the address of the client is unknown.
    pub address: Option<IpAddr>,
    /// Name of the project, which is empty for the default one; `None` for a call that is about none.
    pub project: Option<String>,
    /// The rpc, such as `access.v1.AccessService/Grant`.
    pub rpc: String,
    pub request_id: String,
}

/// An event for the audit log that is not a call of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessEvent {
    SignIn(SignInAttempt),
    SignOut(SignOut),
    Denial(DeniedCall),
}

/// Takes note of events, without making anyone wait.
pub trait AccessObserver: Send + Sync {
    fn observe(&self, event: AccessEvent);
}
