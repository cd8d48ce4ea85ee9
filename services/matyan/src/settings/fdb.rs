//! Settings of a FoundationDB store (`fdb:`). Every build checks them; a build without the
//! client then refuses the store itself.

use std::{path::PathBuf, time::Duration};

use matyan_store::Prefix;

use super::{reader::Reader, table};

#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "fdb"), expect(dead_code, reason = "only used by builds with FoundationDB"))]
pub(crate) struct Fdb {
    pub(crate) cluster_file: PathBuf,
    /// Prefix of every key, so that other applications can share the cluster.
    pub(crate) prefix: Prefix,
    /// Maximum attempts at operations that definitely had no effect.
    pub(crate) attempts: u32,
    pub(crate) first_delay: Duration,
    pub(crate) longest_delay: Duration,
}

/// Reads the settings for a URI that starts with `fdb:`. Violations go to the reader.
pub(super) fn read(uri: &str, reader: &mut Reader) -> Fdb {
    let cluster_file = match uri.strip_prefix("fdb://") {
        Some(path) => path.into(),
        None => {
            if reader.is_production() && reader.is_blank(&table::FDB_CLUSTER_FILE) {
                reader.refuse(&table::FDB_CLUSTER_FILE, "blank; set the path of the cluster file");
            }
            reader.read(&table::FDB_CLUSTER_FILE)
        }
    };
    reader.optional(&table::FDB_API_VERSION);
    Fdb {
        cluster_file,
        prefix: reader.read(&table::FDB_KEY_PREFIX),
        attempts: reader.read(&table::FDB_RETRY_MAX_ATTEMPTS),
        first_delay: reader.read(&table::FDB_RETRY_INITIAL_DELAY),
        longest_delay: reader.read(&table::FDB_RETRY_MAX_DELAY),
    }
}
