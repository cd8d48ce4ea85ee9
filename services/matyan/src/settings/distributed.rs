//! Which store, log and blob store a process uses, and what is wrong with how they are set. Each service is asked only for
//! what it uses. This version has the embedded ones alone: another choice is checked like every setting, and refused.

use std::path::PathBuf;

use super::{
    Role, Secret,
    names::{self, Name},
    parse,
    reader::Reader,
    source::Sources,
};

/// What is published with Matyan 0.3, and so is no secret.
const DEVELOPMENT_BLOB_SECRET: &str = "Juw5-cLlemQI2jAWvceOUB3_CrVfBmI99YIzkpGUXR4=";
const DEVELOPMENT_S3_KEY: &str = "rustfsadmin";
const DEVELOPMENT_S3_ENDPOINT: &str = "http://localhost:9000";
const DEVELOPMENT_BROKER: &str = "localhost:9092";

const EMBEDDED: &str = "embedded:";

pub(super) fn check(role: Role, from: &Sources, reader: &mut Reader) {
    let production = is_production(from, reader);
    if role.has_store() {
        store_check(&uri(role, from, names::STORE), production, from, reader);
    }
    log_check(&uri(role, from, names::LOG), production, from, reader);
    blobs_check(&uri(role, from, names::BLOBS), production, from, reader);
}

/// Of `file:///directory`; the data directory has its own.
pub(super) fn blobs_dir(role: Role, from: &Sources) -> Option<PathBuf> {
    uri(role, from, names::BLOBS).strip_prefix("file://").map(PathBuf::from)
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

fn blobs_check(uri: &str, production: bool, from: &Sources, reader: &mut Reader) {
    match scheme(uri) {
        "embedded" if uri == EMBEDDED => {}
        "file" if uri.starts_with("file:///") => {}
        "s3" => {
            s3_check(production, from, reader);
            absent(names::BLOBS, "S3", reader);
        }
        "gs" => {
            not_blank(names::GCS_BUCKET, "bucket", from, reader);
            absent(names::BLOBS, "Google Cloud Storage", reader);
        }
        "azure" => {
            not_blank(names::AZURE_CONTAINER, "container", from, reader);
            let account = [names::AZURE_CONN_STR, names::AZURE_ACCOUNT_URL];
            if production && account.iter().all(|name| from.find(*name).is_none()) {
                let problem = "neither it nor AZURE_ACCOUNT_URL is set; set one of them";
                reader.refuse(variable(names::AZURE_CONN_STR), problem);
            }
            absent(names::BLOBS, "Azure Blob Storage", reader);
        }
        _ => unknown(names::BLOBS, uri, reader),
    }
}

fn s3_check(production: bool, from: &Sources, reader: &mut Reader) {
    let endpoint = reader.parse(from, names::S3_ENDPOINT, DEVELOPMENT_S3_ENDPOINT, parse::web_url);
    reader.optional(from, names::S3_PUBLIC_ENDPOINT, parse::web_url);
    not_blank(names::S3_BUCKET, "bucket", from, reader);
    if !production {
        return;
    }
    if endpoint == DEVELOPMENT_S3_ENDPOINT {
        reader
            .refuse(variable(names::S3_ENDPOINT), "it is blank or the development value; set your endpoint");
    }
    for name in [names::S3_ACCESS_KEY, names::S3_SECRET_KEY] {
        if from.find(name).is_none_or(|found| found.value == DEVELOPMENT_S3_KEY) {
            reader.refuse(variable(name), "it is blank or the development value; set your own");
        }
    }
}

fn not_blank(name: Name, what: &str, from: &Sources, reader: &mut Reader) {
    if from.is_blank(name) {
        reader.refuse(
            variable(name),
            format!("it is blank; name the {what}, or remove it for matyan-artifacts"),
        );
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
