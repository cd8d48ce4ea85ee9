//! Choice of the store, log and blob store that a process uses. Each service reads only the
//! settings that it needs. Settings of backends that this build lacks are checked like all
//! others; then the backend itself is refused.

use super::{
    BlobStore, Role, Secret, blobs,
    fdb::{self, Fdb},
    kafka,
    names::{self, SettingName},
    reader::Reader,
    source::Sources,
};

/// The key published with Matyan 0.3, and therefore not a secret.
const DEVELOPMENT_BLOB_SECRET: &str = "Juw5-cLlemQI2jAWvceOUB3_CrVfBmI99YIzkpGUXR4=";

const EMBEDDED: &str = "embedded:";

/// The store for state.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    Embedded,
    #[cfg_attr(not(feature = "fdb"), expect(dead_code, reason = "only used by builds with FoundationDB"))]
    Fdb(Fdb),
}

/// The log between ingestion and store.
#[derive(Clone, Debug)]
pub(crate) enum Log {
    Embedded,
    Kafka(Box<matyan_log::kafka::Settings>),
}

/// Reads the store and log settings. A process that may not access state does not need a store
/// URI.
pub(super) fn read(role: Role, from: &Sources, reader: &mut Reader) -> (Store, Log) {
    let production = is_production(from, reader);
    if production && role != Role::Up {
        refuse_embedded(role, from, reader);
    }
    let store = match role.has_store() {
        true => read_store(&uri(role, from, names::STORE), production, from, reader),
        false => Store::Embedded,
    };
    (store, read_log(&uri(role, from, names::LOG), production, from, reader))
}

/// Refuses embedded backends for single services: they belong to one process, so the service
/// could not reach any other.
fn refuse_embedded(role: Role, from: &Sources, reader: &mut Reader) {
    let store = role.has_store().then_some((names::STORE, "fdb:///path/to/fdb.cluster"));
    for (name, other) in store.into_iter().chain([(names::LOG, "kafka://host:port")]) {
        if uri(role, from, name) == EMBEDDED {
            let problem = format!("`{EMBEDDED}` only works within one process; use --{} {other}", name.key);
            reader.refuse(variable(name), problem);
        }
    }
}

/// Reads the log settings for a command that works on Kafka directly.
pub(super) fn kafka(from: &Sources, reader: &mut Reader) -> matyan_log::kafka::Settings {
    let production = is_production(from, reader);
    let uri = from.find(names::LOG).map_or_else(|| "kafka:".to_owned(), |found| found.value);
    if scheme(&uri) != "kafka" {
        refuse_uri(names::LOG, &uri, "kafka://host:port", reader);
    }
    kafka::read(&uri, production, from, reader)
}

/// True if the process stores something in its own data directory.
pub(super) fn has_data_dir(role: Role, from: &Sources) -> bool {
    let store = role.has_store().then_some(names::STORE);
    store.into_iter().chain([names::LOG, names::BLOBS]).any(|name| uri(role, from, name) == EMBEDDED)
}

pub(super) fn blobs(role: Role, from: &Sources, reader: &mut Reader) -> BlobStore {
    let production = is_production(from, &mut Reader::default());
    blobs::read(&uri(role, from, names::BLOBS), production, from, reader)
}

/// True if blobs are stored in a given directory, rather than in the data directory.
fn is_directory(role: Role, from: &Sources) -> bool {
    scheme(&uri(role, from, names::BLOBS)) == "file"
}

/// Reads the blob secret. It may be absent only if the process has a data directory in which to
/// create one. A frontier needs it to sign the upload URLs that it serves itself.
pub(super) fn secret(role: Role, from: &Sources, reader: &mut Reader) -> Option<Secret> {
    let given = from.find(names::BLOB_URI_SECRET);
    let signs = role.has_backend() || (role.has_frontier() && is_directory(role, from));
    match &given {
        None if signs && !has_data_dir(role, from) => {
            reader.refuse(
                variable(names::BLOB_URI_SECRET),
                "not set; set the same random string for every backend and frontier",
            );
        }
        Some(found)
            if found.value == DEVELOPMENT_BLOB_SECRET && is_production(from, &mut Reader::default()) =>
        {
            reader.refuse(
                variable(names::BLOB_URI_SECRET),
                "set to the published development key; use a random string",
            );
        }
        _ => {}
    }
    given.map(|found| Secret::new(found.value))
}

/// The given URI, or the default that the variables of Matyan 0.3 imply.
fn uri(role: Role, from: &Sources, name: SettingName) -> String {
    if let Some(found) = from.find(name) {
        return found.value;
    }
    if role == Role::Up {
        return EMBEDDED.to_owned();
    }
    match name.key {
        "store" => "fdb:".to_owned(),
        "log" => "kafka:".to_owned(),
        _ => match from.find(names::BLOB_BACKEND_TYPE).map(|found| found.value).as_deref() {
            None | Some("s3") => "s3:".to_owned(),
            Some("gcs") => "gs:".to_owned(),
            Some(other) => format!("{other}:"),
        },
    }
}

fn is_production(from: &Sources, reader: &mut Reader) -> bool {
    reader.parse(from, names::ENVIRONMENT, "development", |text| match text {
        "production" => Ok(true),
        "development" => Ok(false),
        _ => Err("is not an environment; use development or production".into()),
    })
}

fn scheme(uri: &str) -> &str {
    uri.split_once(':').map_or(uri, |(scheme, _)| scheme)
}

fn variable(name: SettingName) -> &'static str {
    name.variables[0]
}

fn read_store(uri: &str, production: bool, from: &Sources, reader: &mut Reader) -> Store {
    match scheme(uri) {
        "fdb" if uri == "fdb:" || uri.starts_with("fdb:///") => {
            if !cfg!(feature = "fdb") {
                reader.refuse(
                    variable(names::STORE),
                    "this program was built without FoundationDB; build it with `--features fdb`, or use --store embedded:",
                );
            }
            return Store::Fdb(fdb::read(uri, production, from, reader));
        }
        "embedded" if uri == EMBEDDED => {}
        _ => refuse_uri(names::STORE, uri, "embedded: or fdb:///path/to/fdb.cluster", reader),
    }
    Store::Embedded
}

fn read_log(uri: &str, production: bool, from: &Sources, reader: &mut Reader) -> Log {
    match scheme(uri) {
        "kafka" => return Log::Kafka(Box::new(kafka::read(uri, production, from, reader))),
        "embedded" if uri == EMBEDDED => {}
        _ => refuse_uri(names::LOG, uri, "embedded: or kafka://host:port", reader),
    }
    Log::Embedded
}

fn refuse_uri(name: SettingName, uri: &str, known: &str, reader: &mut Reader) {
    let problem = format!("invalid {} URI `{uri}`: use --{} {known}", name.key, name.key);
    reader.refuse(variable(name), problem);
}
