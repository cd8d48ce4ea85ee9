//! Replacement for the FoundationDB suite when the client library is not linked: its cases are
//! reported as ignored, with the reason.

use matyan_servers::{foundationdb, unavailable_reason};
use matyan_store::conformance::OpenInstance;
use matyan_store::layers::Faults;

#[derive(Default)]
pub(crate) struct FdbServer(());

impl FdbServer {
    pub(crate) fn open(&self, _faults: Option<Faults>) -> Result<OpenInstance, String> {
        let reason = "built without the feature `fdb`, which links libfdb_c: `make fdb`".to_owned();
        let unavailable_reason = unavailable_reason::<()>(foundationdb::NAME, Err(reason));
        Err(unavailable_reason.expect("FoundationDB support is not built in"))
    }
}
