//! Which store, log and blob store a process uses, and what is wrong with how they are set. Each service is asked only for
//! what it uses. This version has the embedded ones alone: another choice is checked like every setting, and refused.

use super::{
    BlobStore, Role, Secret, blobs,
    names::{self, Name},
    parse,
    reader::Reader,
    source::Sources,
};

/// What is published with Matyan 0.3, and so is no secret.
const DEVELOPMENT_BLOB_SECRET: &str = "Juw5-cLlemQI2jAWvceOUB3_CrVfBmI99YIzkpGUXR4=";
const DEVELOPMENT_BROKER: &str = "localhost:9092";

const EMBEDDED: &str = "embedded:";

pub(super) fn check(role: Role, from: &Sources, reader: &mut Reader) {
    let production = is_production(from, reader);
    if role.has_store() {
        store_check(&uri(role, from, names::STORE), production, from, reader);
    }
    log_check(&uri(role, from, names::LOG), production, from, reader);
}

pub(super) fn blobs(role: Role, from: &Sources, reader: &mut Reader) -> BlobStore {
    let production = is_production(from, &mut Reader::default());
    blobs::read(&uri(role, from, names::BLOBS), production, from, reader)
}

/// Only a process with a data directory can make and keep one of its own.
pub(super) fn secret(role: Role, from: &Sources, reader: &mut Reader) -> Option<Secret> {
    let given = from.find(names::BLOB_URI_SECRET);
    let keeps_one =
        [names::STORE, names::LOG, names::BLOBS].iter().any(|name| uri(role, from, *name) == EMBEDDED);
    match &given {
        None if role == Role::Backend && !keeps_one => {
            reader.refuse(
                variable(names::BLOB_URI_SECRET),
                "it is not set; set the same random text for every backend",
            );
        }
        Some(found)
            if found.value == DEVELOPMENT_BLOB_SECRET && is_production(from, &mut Reader::default()) =>
        {
            reader.refuse(
                variable(names::BLOB_URI_SECRET),
                "it is the published development key; set a random text",
            );
        }
        _ => {}
    }
    given.map(|found| Secret::new(found.value))
}

/// What was asked for, or else what the names of Matyan 0.3 mean.
fn uri(role: Role, from: &Sources, name: Name) -> String {
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
        _ => Err("is no environment; give development or production".into()),
    })
}

fn scheme(uri: &str) -> &str {
    uri.split_once(':').map_or(uri, |(scheme, _)| scheme)
}

fn variable(name: Name) -> &'static str {
    name.variables[0]
}

fn store_check(uri: &str, production: bool, from: &Sources, reader: &mut Reader) {
    match scheme(uri) {
        "embedded" if uri == EMBEDDED => {}
        "fdb" => {
            if production && from.is_blank(names::FDB_CLUSTER_FILE) {
                reader.refuse(
                    variable(names::FDB_CLUSTER_FILE),
                    "it is blank; set the path of the cluster file",
                );
            }
            absent(names::STORE, "FoundationDB", reader);
        }
        _ => unknown(names::STORE, uri, reader),
    }
}

fn log_check(uri: &str, production: bool, from: &Sources, reader: &mut Reader) {
    match scheme(uri) {
        "embedded" if uri == EMBEDDED => {}
        "kafka" => {
            let name = names::KAFKA_BOOTSTRAP_SERVERS;
            match uri.strip_prefix("kafka://") {
                Some(brokers) => {
                    if let Err(problem) = parse::brokers(brokers) {
                        reader.refuse(variable(names::LOG), format!("`{uri}` {problem}"));
                    }
                }
                None => {
                    let brokers = reader.parse(from, name, DEVELOPMENT_BROKER, parse::brokers);
                    if production && brokers == DEVELOPMENT_BROKER {
                        reader
                            .refuse(variable(name), "it is blank or the development value; set your brokers");
                    }
                }
            }
            absent(names::LOG, "Apache Kafka", reader);
        }
        _ => unknown(names::LOG, uri, reader),
    }
}

fn absent(name: Name, what: &str, reader: &mut Reader) {
    let problem =
        format!("this version cannot use {what}; give --{} {EMBEDDED}, or run `matyan up`", name.key);
    reader.refuse(variable(name), problem);
}

fn unknown(name: Name, uri: &str, reader: &mut Reader) {
    reader.refuse(
        variable(name),
        format!("`{uri}` is nothing that can be used; give --{} {EMBEDDED}", name.key),
    );
}
