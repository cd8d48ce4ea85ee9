//! Attempts to sign in, sign-outs and denied calls, as lines of the log and, in a process with a store, as entries of the audit log. A
//! queue keeps requests from waiting for the store.

use std::{net::IpAddr, sync::Arc};

use matyan_access::{AccessEvent, AccessObserver, DeniedCall, SignInAttempt, SignOut};
use matyan_backend::{AuditEvent, AuditLog};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Code;

/// The name of sign-ins in the audit log.
const SIGN_IN: &str = "sign-in";
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
            AccessEvent::SignIn(SignInAttempt { principal, credential, address, request_id, is_refused }) => {
                let address = address.map(tracing::field::display);
                tracing::info!(target: "audit", principal, credential, address, is_refused, request_id, "sign-in");
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
            AccessEvent::SignIn(SignInAttempt { principal, credential, address, request_id, is_refused }) => {
                let code = sign_in_code(&principal, is_refused);
                let address = text(address);
                let rpc = SIGN_IN.to_owned();
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

/// The outcome of a sign-in. A principal that was refused is known, and has no right to sign in.
fn sign_in_code(principal: &str, is_refused: bool) -> Code {
    match (is_refused, principal) {
        (false, _) => Code::Ok,
        (true, "") => Code::Unauthenticated,
        (true, _) => Code::PermissionDenied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_80_a_refused_person_is_told_from_a_refused_credential() {
        assert_eq!(sign_in_code("ana", false), Code::Ok);
        assert_eq!(sign_in_code("", true), Code::Unauthenticated);
        assert_eq!(sign_in_code("github:bob", true), Code::PermissionDenied);
    }
}
