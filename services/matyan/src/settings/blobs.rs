//! Where large objects are stored. Each cloud provider has its own settings, with the variable
//! names of Matyan 0.3 or of the provider's own tools.

use std::{path::PathBuf, time::Duration};

use matyan_blob::{
    Cloud,
    cloud_settings::{azure, gcs, s3},
};

use super::{clients, reader::Reader, setting::Setting, table};

/// Settings of Azure's default credential chain that this program supports.
const AZURE_CREDENTIALS: [&Setting<String>; 5] = [
    &table::AZURE_CLIENT_ID,
    &table::AZURE_CLIENT_SECRET,
    &table::AZURE_TENANT_ID,
    &table::AZURE_FEDERATED_TOKEN_FILE,
    &table::AZURE_AUTHORITY_HOST,
];

#[derive(Clone, Debug)]
pub(crate) enum BlobStore {
    /// Next to everything else in the data directory.
    Embedded,
    Directory(PathBuf),
    Cloud(Cloud),
}

/// Returns the given URI, or the default that the variables of Matyan 0.3 imply.
pub(super) fn uri(reader: &mut Reader) -> String {
    let cloud = match reader.read(&table::BLOB_BACKEND_TYPE).as_str() {
        "gcs" => "gs:".to_owned(),
        other => format!("{other}:"),
    };
    reader.read_or(&table::BLOBS, &cloud)
}

/// Parses `embedded:`, `file:///directory`, or a cloud with an optional bucket: `s3:` or
/// `s3://bucket`.
pub(super) fn read(uri: &str, upload_lifetime: Duration, reader: &mut Reader) -> BlobStore {
    let (scheme, rest) = uri.split_once(':').unwrap_or((uri, ""));
    let bucket = rest.trim_start_matches('/').trim_end_matches('/');
    match scheme {
        "embedded" if rest.is_empty() => return BlobStore::Embedded,
        "file" if rest.starts_with("///") => return BlobStore::Directory(rest[2..].into()),
        "s3" | "gs" | "azure" if !bucket.contains('/') => {}
        _ => {
            let problem = format!(
                "invalid blob store URI `{uri}`: use --blobs embedded:, file:///directory, s3://bucket, \
                 gs://bucket or azure://container"
            );
            reader.refuse(&table::BLOBS, problem);
            return BlobStore::Embedded;
        }
    }
    let (client, cloud) = match scheme {
        "s3" => (clients::S3, Cloud::S3(s3(bucket, upload_lifetime, reader))),
        "gs" => (clients::GCS, Cloud::Gcs(gcs(bucket, upload_lifetime, reader))),
        _ => (clients::AZURE, Cloud::Azure(azure(bucket, upload_lifetime, reader))),
    };
    reader.require_in_build(&table::BLOBS, &client);
    BlobStore::Cloud(cloud)
}

fn s3(bucket: &str, lifetime: Duration, reader: &mut Reader) -> s3::Settings {
    let settings = s3::Settings {
        endpoint: reader.read(&table::S3_ENDPOINT),
        public_endpoint: reader.optional(&table::S3_PUBLIC_ENDPOINT),
        credentials: s3_credentials(reader),
        bucket: bucket_name(bucket, &table::S3_BUCKET, "bucket", reader),
        region: reader.read(&table::S3_REGION),
        virtual_host: reader.read(&table::S3_ADDRESSING_STYLE),
        lifetime,
    };
    if reader.is_production() {
        refuse_development_value(&table::S3_ENDPOINT, &settings.endpoint, "endpoint", reader);
        if let s3::Credentials::Keys { access_key, secret_key } = &settings.credentials {
            refuse_development_value(&table::S3_ACCESS_KEY, access_key, "own", reader);
            refuse_development_value(&table::S3_SECRET_KEY, secret_key, "own", reader);
        }
    }
    settings
}

fn s3_credentials(reader: &mut Reader) -> s3::Credentials {
    if reader.read(&table::S3_CREDENTIALS) {
        return s3::Credentials::Default;
    }
    s3::Credentials::Keys {
        access_key: reader.read(&table::S3_ACCESS_KEY),
        secret_key: reader.read(&table::S3_SECRET_KEY),
    }
}

/// Refuses a setting's default, which is only for development.
fn refuse_development_value(setting: &Setting<String>, value: &str, what: &str, reader: &mut Reader) {
    if setting.definition.default == Some(value) {
        reader.refuse(setting, format!("blank or the development value; set your {what}"));
    }
}

fn gcs(bucket: &str, lifetime: Duration, reader: &mut Reader) -> gcs::Settings {
    gcs::Settings {
        bucket: bucket_name(bucket, &table::GCS_BUCKET, "bucket", reader),
        project: reader.read(&table::GOOGLE_CLOUD_PROJECT),
        credentials: reader.optional(&table::GOOGLE_APPLICATION_CREDENTIALS),
        emulator: reader.optional(&table::STORAGE_EMULATOR_HOST),
        public_endpoint: reader.optional(&table::GCS_PUBLIC_ENDPOINT),
        lifetime,
    }
}

fn azure(container: &str, lifetime: Duration, reader: &mut Reader) -> azure::Settings {
    let container = bucket_name(container, &table::AZURE_CONTAINER, "container", reader);
    if !reader.is_set(&table::AZURE_CONN_STR) && !reader.is_set(&table::AZURE_ACCOUNT_URL) {
        let problem = "neither this nor AZURE_ACCOUNT_URL is set; set one of them";
        reader.refuse(&table::AZURE_CONN_STR, problem);
    }
    let credentials = AZURE_CREDENTIALS.iter().filter_map(|setting| {
        let value = reader.optional(setting)?;
        Some((setting.definition.variable().to_owned(), value))
    });
    let credentials = credentials.collect();
    azure::Settings {
        connection_string: reader.read(&table::AZURE_CONN_STR),
        account_url: reader.optional(&table::AZURE_ACCOUNT_URL).unwrap_or_default(),
        container,
        public_endpoint: reader.optional(&table::AZURE_PUBLIC_ENDPOINT),
        credentials,
        lifetime,
    }
}

/// The bucket named in the URI, or otherwise the bucket in the variable.
fn bucket_name(in_uri: &str, setting: &Setting<String>, what: &str, reader: &mut Reader) -> String {
    if !in_uri.is_empty() {
        return in_uri.to_owned();
    }
    let name = reader.read(setting);
    if reader.is_blank(setting) {
        reader.refuse(setting, format!("blank; set the {what}, or unset it to use {name}"));
    }
    name
}
