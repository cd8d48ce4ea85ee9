//! Settings of a FoundationDB store (`fdb:`). Every build checks them; a build without the
//! client then refuses the store itself.

use std::{path::PathBuf, time::Duration};

use matyan_store::Prefix;

use super::{names, parse, reader::Reader, source::Sources};

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

/// Reads the settings for a URI that begins with `fdb:`. Violations go to the reader.
pub(super) fn read(uri: &str, production: bool, from: &Sources, reader: &mut Reader) -> Fdb {
    let cluster_file = match uri.strip_prefix("fdb://") {
        Some(path) => path.into(),
        None => {
            if production && from.is_blank(names::FDB_CLUSTER_FILE) {
                let name = names::FDB_CLUSTER_FILE.variables[0];
                reader.refuse(name, "blank; set the path of the cluster file");
            }
            reader.parse(from, names::FDB_CLUSTER_FILE, "fdb.cluster", parse::path)
        }
    };
    reader.optional(from, names::FDB_API_VERSION, parse::fdb_api_version);
    Fdb {
        cluster_file,
        prefix: reader.parse(from, names::FDB_KEY_PREFIX, "matyan", Prefix::new),
        attempts: reader.parse(from, names::FDB_RETRY_MAX_ATTEMPTS, "5", parse::attempts),
        first_delay: reader.parse(from, names::FDB_RETRY_INITIAL_DELAY, "0.05", parse::delay),
        longest_delay: reader.parse(from, names::FDB_RETRY_MAX_DELAY, "2", parse::delay),
    }
}
