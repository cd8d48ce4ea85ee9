//! Attempts to sign in, sign-outs and denied calls: lines of the log and, in a process with a store, entries
//! of the audit log. A queue keeps requests from waiting for the store.

use std::{net::IpAddr, sync::Arc};

use matyan_access::{AccessEvent, AccessObserver, DeniedCall, SignInAttempt, SignInOutcome, SignOut};
use matyan_backend::{AuditEvent, AuditLog};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Code;

/// The name of sign-ins in the audit log, and of refused credentials and persons.
const SIGN_IN: &str = "sign-in";
/// The name of refusals by the pages for signing in and out. A filter for the name of sign-ins finds them as well.
const SIGN_IN_PAGE: &str = "sign-in-page";
/// The name of sign-outs.
const SIGN_OUT: &str = "sign-out";

/// Maximum number of events that wait for the store. Few of each kind are reported, so more are not to be expected.
const QUEUE: usize = 256;

/// Lines of the log, for a process without a store.
pub(super) struct AccessEventLines;

/// Entries of the audit log.
pub(super) struct AccessEventEntries {
    queue: mpsc::Sender<AccessEvent>,
}

impl AccessObserver for AccessEventLines {
    fn observe(&self, event: AccessEvent) {
        match event {
            AccessEvent::SignIn(SignInAttempt { principal, credential, address, request_id, outcome }) => {
                let address = address.map(tracing::field::display);
                let is_refused = outcome != SignInOutcome::SignedIn;
                let name = sign_in_name(outcome);
                tracing::info!(target: "audit", principal, credential, address, is_refused, request_id, "{name}");
            }
            AccessEvent::SignOut(SignOut { principal, credential, address, request_id }) => {
                let address = address.map(tracing::field::display);
                tracing::info!(target: "audit", principal, credential, address, request_id, "sign-out");
            }
            AccessEvent::Denial(DeniedCall { principal, credential, address, project, rpc, request_id }) => {
                let address = address.map(tracing::field::display);
                tracing::info!(target: "audit", principal, credential, address, project, rpc, request_id, "denied call");
            }
        }
    }
}

impl AccessObserver for AccessEventEntries {
    fn observe(&self, event: AccessEvent) {
        if let Err(error) = self.queue.try_send(event) {
            tracing::error!(target: "audit", %error, "failed to add an event to the audit log; only the log has it");
            AccessEventLines.observe(error.into_inner());
        }
    }
}

impl AccessEventEntries {
    /// Returns the observer, and the writer of what it observes.
    pub(super) fn new(log: AuditLog) -> (Arc<Self>, AccessEventWriter) {
        let (queue, events) = mpsc::channel(QUEUE);
        (Arc::new(Self { queue }), AccessEventWriter { log, events })
    }
}

/// Writes events to the audit log.
pub(super) struct AccessEventWriter {
    log: AuditLog,
    events: mpsc::Receiver<AccessEvent>,
}

impl AccessEventWriter {
    /// Runs until it is stopped, and then writes the events that wait.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while let Some(Some(event)) = stop.run_until_cancelled(self.events.recv()).await {
            self.write(event).await;
        }
        self.events.close();
        while let Some(event) = self.events.recv().await {
            self.write(event).await;
        }
        // Without access control no event arrives, and a part that ends would end the process.
        stop.cancelled().await;
    }

    async fn write(&self, event: AccessEvent) {
        let text = |address: Option<IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
        match event {
            AccessEvent::SignIn(SignInAttempt { principal, credential, address, request_id, outcome }) => {
                let code = sign_in_code(outcome);
                let address = text(address);
                let rpc = sign_in_name(outcome).to_owned();
                let event =
                    AuditEvent { principal, credential, address, rpc, request_id, ..AuditEvent::default() };
                self.log.write(event, code).await;
            }
            AccessEvent::SignOut(SignOut { principal, credential, address, request_id }) => {
                let address = text(address);
                let rpc = SIGN_OUT.to_owned();
                let event =
                    AuditEvent { principal, credential, address, rpc, request_id, ..AuditEvent::default() };
                self.log.write(event, Code::Ok).await;
            }
            AccessEvent::Denial(DeniedCall { principal, credential, address, project, rpc, request_id }) => {
                let address = text(address);
                let resource = String::new();
                let event = AuditEvent { principal, credential, address, project, rpc, resource, request_id };
                self.log.write(event, Code::PermissionDenied).await;
            }
        }
    }
}

/// The name of an attempt to sign in, in place of an rpc. Every version shows names that it does not know.
fn sign_in_name(outcome: SignInOutcome) -> &'static str {
    match outcome {
        SignInOutcome::SignedIn | SignInOutcome::CredentialRefused | SignInOutcome::PersonRefused => SIGN_IN,
        SignInOutcome::PageRefused => SIGN_IN_PAGE,
    }
}

/// The status of an attempt to sign in. A person who was refused is known, and has no right to sign in.
fn sign_in_code(outcome: SignInOutcome) -> Code {
    match outcome {
        SignInOutcome::SignedIn => Code::Ok,
        SignInOutcome::CredentialRefused | SignInOutcome::PageRefused => Code::Unauthenticated,
        SignInOutcome::PersonRefused => Code::PermissionDenied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_80_refused_people_credentials_and_forms_are_distinguished() {
        let entry = |outcome| (sign_in_name(outcome), sign_in_code(outcome));
        assert_eq!(entry(SignInOutcome::SignedIn), ("sign-in", Code::Ok));
        assert_eq!(entry(SignInOutcome::CredentialRefused), ("sign-in", Code::Unauthenticated));
        assert_eq!(entry(SignInOutcome::PageRefused), ("sign-in-page", Code::Unauthenticated));
        assert_eq!(entry(SignInOutcome::PersonRefused), ("sign-in", Code::PermissionDenied));
    }
}
