//! The thread on which FoundationDB's client does all its work: one per process, started once, stopped at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foundationdb::api::{FdbApiBuilder, NetworkAutoStop};

use super::errors::failed;
use crate::{Error, Result};

static STARTED: AtomicBool = AtomicBool::new(false);

/// Runs until it is dropped, and every store that was opened with it: the last of them waits for the thread. It cannot be
/// started again.
#[derive(Clone)]
pub struct Network {
    _running: Arc<NetworkAutoStop>,
}

impl Network {
    pub fn start() -> Result<Self> {
        if STARTED.swap(true, Ordering::SeqCst) {
            let reason = "FoundationDB's network runs, or ran, in this process: start it once".to_owned();
            return Err(Error::InUse { reason });
        }
        let network = FdbApiBuilder::default().build().map_err(too_old)?;
        #[expect(unsafe_code, reason = "the client asks that what `boot` returns is dropped: it is, with us")]
        let running = unsafe { network.boot() }.map_err(failed)?;
        Ok(Self { _running: Arc::new(running) })
    }
}

fn too_old(error: foundationdb::FdbError) -> Error {
    let version = foundationdb::api::get_max_api_version();
    let reason = format!(
        "{error}: libfdb_c speaks API {version} at most; install the client library of FoundationDB 7.3"
    );
    Error::Settings { reason }
}
