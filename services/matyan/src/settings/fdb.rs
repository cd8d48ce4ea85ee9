//! Settings of a FoundationDB store (`fdb:`). Every build checks them; a build without the
//! client then refuses the store itself.

use matyan_store::fdb::{Retries, Settings};

use super::{reader::Reader, table};

/// Reads the settings for a URI that starts with `fdb:`. Violations go to the reader.
pub(super) fn read(uri: &str, reader: &mut Reader) -> Settings {
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
    Settings {
        cluster_file,
        prefix: reader.read(&table::FDB_KEY_PREFIX),
        retries: Retries {
            attempts: reader.read(&table::FDB_RETRY_MAX_ATTEMPTS),
            first_delay: reader.read(&table::FDB_RETRY_INITIAL_DELAY),
            longest_delay: reader.read(&table::FDB_RETRY_MAX_DELAY),
        },
    }
}
