//! The headers that services get for callers whose rights cannot be looked up.

use matyan_access::{CallerCache, LIFETIME, Role};
use matyan_edge::{Metrics, Settings, Transport};
use tokio::time::advance;

use super::access::{OWN, TestCallers, Tester, grpc_call};
use super::projects::Recorder;

/// The backend must not refuse for good what a caller may have a right to.
#[tokio::test(start_paused = true)]
async fn rule_56_calls_say_that_rights_cannot_be_looked_up() {
    let recorder = Recorder::default();
    let callers = TestCallers::default();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let edge = matyan_edge::query(Settings::default(), metrics, Transport::new(recorder.clone()), None);
    let edge = edge.with_access(CallerCache::new(callers.clone()));
    let rights = async || {
        let write = "/matyan.documents.v1.DocumentService/Write";
        let request = grpc_call(write, Tester::In(OWN, Role::Editor), OWN, "application/grpc");
        edge.answer(request).await;
        recorder.last_headers()["matyan-rights"].to_str().unwrap().to_owned()
    };
    assert_eq!(rights().await, "READ,INGEST,EDIT");
    callers.0.lock().unwrap().is_away = true;
    advance(LIFETIME).await;
    assert_eq!(rights().await, "INGEST,AWAY");
}
