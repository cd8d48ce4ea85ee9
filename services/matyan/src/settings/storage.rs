//! Choice of the store, log and blob store that a process uses, and of where it keeps its own
//! data. Each service reads only the settings that it needs. Settings of backends that this
//! build lacks are checked like all others; then the backend itself is refused.

use std::{path::PathBuf, time::Duration};

use matyan_wire::ingestion::RecordFormat;

use super::{
    blobs::{self, BlobStore},
    clients, fdb, kafka,
    reader::Reader,
    role::Role,
    secret::Secret,
    setting::Setting,
    table::{self, EMBEDDED},
};

/// The key published with Matyan 0.3, and therefore not a secret.
const DEVELOPMENT_BLOB_SECRET: &[u8] = b"Juw5-cLlemQI2jAWvceOUB3_CrVfBmI99YIzkpGUXR4=";

#[derive(Debug)]
pub(crate) struct StorageSettings {
    pub(crate) store: Store,
    pub(crate) log: Log,
    /// Format in which the process writes records.
    pub(crate) message_format: RecordFormat,
    pub(crate) blobs: BlobStore,
    /// Lifetime of an upload URL.
    pub(crate) upload_lifetime: Duration,
    /// `None` if the process stores nothing on this machine.
    pub(crate) data_dir: Option<PathBuf>,
    /// Key that signs blob tokens and upload URLs; if absent, one is kept in the data
    /// directory.
    pub(crate) secret: Option<Secret>,
}

/// The store for state.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    Embedded,
    Fdb(matyan_store::fdb::Settings),
}

/// The log between ingestion and store.
#[derive(Clone, Debug)]
pub(crate) enum Log {
    Embedded,
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "only used by builds with Kafka"))]
    Kafka(Box<matyan_log::kafka_settings::Settings>),
}

/// URIs of the backends of a process.
struct BackendUris {
    /// None if the process may not access state.
    store: Option<String>,
    log: String,
    blobs: String,
}

impl BackendUris {
    fn read(role: Role, reader: &mut Reader) -> Self {
        let store = role.has_store().then(|| reader.read(&table::STORE));
        Self { store, log: reader.read(&table::LOG), blobs: blobs::uri(reader) }
    }

    /// True if the process stores something in its own data directory.
    fn has_data_dir(&self) -> bool {
        self.store.iter().chain([&self.log, &self.blobs]).any(|uri| uri == EMBEDDED)
    }

    /// Refuses embedded backends for single services: they belong to one process, so the
    /// service could not reach any other.
    fn refuse_embedded(&self, reader: &mut Reader) {
        let store = self.store.iter().map(|uri| (&table::STORE, uri, "fdb:///path/to/fdb.cluster"));
        for (setting, uri, other) in store.chain([(&table::LOG, &self.log, "kafka://host:port")]) {
            if uri == EMBEDDED {
                let key = setting.definition.key;
                let problem = format!("`{EMBEDDED}` only works within one process; use --{key} {other}");
                reader.refuse(setting, problem);
            }
        }
    }
}

impl StorageSettings {
    pub(super) fn read(role: Role, reader: &mut Reader) -> Self {
        let uris = BackendUris::read(role, reader);
        if reader.is_production() && role != Role::Up {
            uris.refuse_embedded(reader);
        }
        let store = uris.store.as_deref().map_or(Store::Embedded, |uri| store_at(uri, reader));
        let log = read_log(&uris.log, reader);
        let upload_lifetime = reader.read(&table::S3_PRESIGN_EXPIRY);
        let data_dir = reader.read(&table::DATA_DIR);
        Self {
            store,
            log,
            message_format: reader.read(&table::KAFKA_MESSAGE_FORMAT),
            blobs: blobs::read(&uris.blobs, upload_lifetime, reader),
            upload_lifetime,
            data_dir: uris.has_data_dir().then_some(data_dir),
            secret: read_secret(role, &uris, reader),
        }
    }

    /// Whether state and blobs are both in the data directory, so that nothing else refers to the blobs.
    pub(super) fn is_in_one_directory(&self) -> bool {
        matches!((&self.store, &self.blobs), (Store::Embedded, BlobStore::Embedded))
    }
}

/// Reads the log settings for a command that works on Kafka directly.
pub(super) fn read_kafka(reader: &mut Reader) -> matyan_log::kafka_settings::Settings {
    let uri = reader.read(&table::LOG);
    if scheme(&uri) != "kafka" {
        refuse_uri(&table::LOG, &uri, "kafka://host:port", reader);
    }
    reader.require_in_build(&table::LOG, &clients::KAFKA);
    kafka::read(&uri, reader)
}

/// Reads the store settings for a command that works on a store directly.
pub(super) fn read_store(reader: &mut Reader) -> Store {
    let uri = reader.read(&table::STORE);
    store_at(&uri, reader)
}

/// Reads the blob settings for a command that works on a bucket directly.
pub(super) fn read_blobs(reader: &mut Reader) -> BlobStore {
    let uri = blobs::uri(reader);
    let upload_lifetime = reader.read(&table::S3_PRESIGN_EXPIRY);
    blobs::read(&uri, upload_lifetime, reader)
}

/// Reads the blob secret. It may be absent only if the process has a data directory in which to
/// create one. A frontier needs it to sign the upload URLs that it serves itself.
fn read_secret(role: Role, uris: &BackendUris, reader: &mut Reader) -> Option<Secret> {
    let given = reader.optional(&table::BLOB_URI_SECRET);
    let signs = role.has_backend() || (role.has_frontier() && scheme(&uris.blobs) == "file");
    match &given {
        None if signs && !uris.has_data_dir() => {
            reader.refuse(
                &table::BLOB_URI_SECRET,
                "not set; set the same random string for every backend and frontier",
            );
        }
        Some(secret) if secret.reveal() == DEVELOPMENT_BLOB_SECRET && reader.is_production() => {
            reader
                .refuse(&table::BLOB_URI_SECRET, "set to the published development key; use a random string");
        }
        _ => {}
    }
    given
}

fn scheme(uri: &str) -> &str {
    uri.split_once(':').map_or(uri, |(scheme, _)| scheme)
}

fn store_at(uri: &str, reader: &mut Reader) -> Store {
    match scheme(uri) {
        "fdb" if uri == "fdb:" || uri.starts_with("fdb:///") => {
            reader.require_in_build(&table::STORE, &clients::FOUNDATION_DB);
            return Store::Fdb(fdb::read(uri, reader));
        }
        "embedded" if uri == EMBEDDED => {}
        _ => refuse_uri(&table::STORE, uri, "embedded: or fdb:///path/to/fdb.cluster", reader),
    }
    Store::Embedded
}

fn read_log(uri: &str, reader: &mut Reader) -> Log {
    match scheme(uri) {
        "kafka" => {
            reader.require_in_build(&table::LOG, &clients::KAFKA);
            return Log::Kafka(Box::new(kafka::read(uri, reader)));
        }
        "embedded" if uri == EMBEDDED => {}
        _ => refuse_uri(&table::LOG, uri, "embedded: or kafka://host:port", reader),
    }
    Log::Embedded
}

fn refuse_uri(setting: &Setting<String>, uri: &str, known: &str, reader: &mut Reader) {
    let key = setting.definition.key;
    reader.refuse(setting, format!("invalid {key} URI `{uri}`: use --{key} {known}"));
}
