//! Dependencies of the workers: the substrates, the clock, and the randomness. All are
//! injected, so that tests can control them.

use std::sync::Arc;

use matyan_blob::Blobs;
use matyan_log::{LogReader, LogWriter};
use matyan_store::Store;

/// Microseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Fresh random bytes for ids and tokens.
pub type Random = Arc<dyn Fn() -> [u8; 16] + Send + Sync>;

#[derive(Clone)]
pub struct Deps {
    pub store: Arc<dyn Store>,
    pub log_reader: Arc<dyn LogReader>,
    pub log_writer: Arc<dyn LogWriter>,
    pub blobs: Arc<dyn Blobs>,
    pub clock: Clock,
    pub random: Random,
}

impl Deps {
    /// A new id for an entity: a version 4 UUID as text.
    pub(crate) fn new_id(&self) -> String {
        uuid::Builder::from_random_bytes((self.random)()).into_uuid().to_string()
    }

    pub(crate) fn maintenance(&self) -> matyan_maintenance::Deps<'_> {
        matyan_maintenance::Deps {
            store: &*self.store,
            log: &*self.log_writer,
            blobs: &*self.blobs,
            clock: &*self.clock,
        }
    }

    pub(crate) fn now_us(&self) -> i64 {
        (self.clock)()
    }
}
