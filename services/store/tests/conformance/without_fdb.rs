//! In place of a FoundationDB where its client library is not linked: the suite shows as ignored, with the reason.

use matyan_store::conformance::{OpenInstance, without_fdb};
use matyan_store::layers::Faults;

#[derive(Default)]
pub(crate) struct Real(());

impl Real {
    pub(crate) fn open(&self, _faults: Option<Faults>) -> Result<OpenInstance, String> {
        without_fdb()
    }
}
