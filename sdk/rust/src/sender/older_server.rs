//! A notice about a server that is older than this package, from the handshake of a WebSocket, so
//! that it costs no request.

use std::sync::atomic::{AtomicBool, Ordering};

use matyan_wire::{headers, server_version};
use tokio_tungstenite::tungstenite::http::HeaderMap;

use crate::{
    notice::{NoticeLevel, Notices},
    per_process::PerProcess,
};

/// Whether this process has reported an older server: a sweep has hundreds of runs.
static REPORTED: PerProcess<AtomicBool> = PerProcess::new();

/// Reports a server that is older than this package, once. Servers before 0.4 do not tell their
/// version.
pub(crate) fn report(answer: &HeaderMap) {
    let version = answer.get(headers::VERSION).and_then(|version| version.to_str().ok());
    let Some(advice) = version.and_then(server_version::advice) else { return };
    let reported = REPORTED.get_or_make(|_| true, AtomicBool::default);
    if !reported.swap(true, Ordering::Relaxed) {
        Notices::of_process().push(NoticeLevel::Warning, advice);
    }
}
