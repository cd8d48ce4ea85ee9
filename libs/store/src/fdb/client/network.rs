//! The thread that does all the work of FoundationDB's client: one per process, started once,
//! stopped at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foundationdb::api::{FdbApiBuilder, NetworkAutoStop};

use super::errors::call_error;
use crate::{Error, Result};

static STARTED: AtomicBool = AtomicBool::new(false);

/// Handle to the network thread, which runs until all handles are dropped, including the handles of
/// stores. Dropping the last handle waits for the thread. The network cannot be restarted.
#[derive(Clone)]
pub struct Network {
    _running: Arc<NetworkAutoStop>,
}

impl Network {
    pub fn start() -> Result<Self> {
        if STARTED.swap(true, Ordering::SeqCst) {
            let reason =
                "FoundationDB's network was already started in this process; start it only once".to_owned();
            return Err(Error::InUse { reason });
        }
        let network = FdbApiBuilder::default().build().map_err(unsupported_api)?;
        #[expect(
            unsafe_code,
            reason = "`boot` requires that its result is dropped before exit, which this type's owner ensures"
        )]
        let running = unsafe { network.boot() }.map_err(call_error)?;
        Ok(Self { _running: Arc::new(running) })
    }
}

fn unsupported_api(error: foundationdb::FdbError) -> Error {
    let version = foundationdb::api::get_max_api_version();
    let reason = format!(
        "{error}: libfdb_c supports API {version} at most; install the client library of FoundationDB 7.3"
    );
    Error::Settings { reason }
}
