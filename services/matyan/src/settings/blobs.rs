//! Where large objects are stored. Each cloud provider has its own settings, with the variable
//! names of Matyan 0.3 or those of the provider's own tools.

use std::{path::PathBuf, time::Duration};

use matyan_blob::{Cloud, azure, gcs, s3};

use super::{
    names::{self, SettingName},
    parse,
    reader::Reader,
    source::Sources,
};

const DEVELOPMENT_S3_KEY: &str = "rustfsadmin";
const DEVELOPMENT_S3_ENDPOINT: &str = "http://localhost:9000";
const DEFAULT_BUCKET: &str = "matyan-artifacts";

/// Settings of Azure's default credential chain that this program supports.
const AZURE_CREDENTIALS: [SettingName; 5] = [
    names::AZURE_CLIENT_ID,
    names::AZURE_CLIENT_SECRET,
    names::AZURE_TENANT_ID,
    names::AZURE_FEDERATED_TOKEN_FILE,
    names::AZURE_AUTHORITY_HOST,
];

#[derive(Clone, Debug)]
pub(crate) enum BlobStore {
    /// Next to everything else in the data directory.
    Embedded,
    Directory(PathBuf),
    Cloud(Cloud),
}

/// Parses `embedded:`, `file:///directory`, or a cloud with an optional bucket: `s3:` or
/// `s3://bucket`.
pub(super) fn read(uri: &str, production: bool, from: &Sources, reader: &mut Reader) -> BlobStore {
    let (scheme, rest) = uri.split_once(':').unwrap_or((uri, ""));
    let bucket = rest.trim_start_matches('/').trim_end_matches('/');
    // Violations of this setting are reported where it is read for directories.
    let lifetime = Reader::default().parse(from, names::S3_PRESIGN_EXPIRY, "3600", parse::lifetime);
    match scheme {
        "embedded" if rest.is_empty() => return BlobStore::Embedded,
        "file" if rest.starts_with("///") => return BlobStore::Directory(rest[2..].into()),
        "s3" | "gs" | "azure" if !bucket.contains('/') => {}
        _ => {
            let problem = format!(
                "invalid blob store URI `{uri}`: use --blobs embedded:, file:///directory, s3://bucket, \
                 gs://bucket or azure://container"
            );
            reader.refuse(names::BLOBS.variables[0], problem);
            return BlobStore::Embedded;
        }
    }
    BlobStore::Cloud(match scheme {
        "s3" => Cloud::S3(s3(bucket, lifetime, production, from, reader)),
        "gs" => Cloud::Gcs(gcs(bucket, lifetime, from, reader)),
        _ => Cloud::Azure(azure(bucket, lifetime, from, reader)),
    })
}

fn s3(
    bucket: &str,
    lifetime: Duration,
    production: bool,
    from: &Sources,
    reader: &mut Reader,
) -> s3::Settings {
    let settings = s3::Settings {
        endpoint: reader.parse(from, names::S3_ENDPOINT, DEVELOPMENT_S3_ENDPOINT, parse::web_url),
        public_endpoint: reader.optional(from, names::S3_PUBLIC_ENDPOINT, parse::web_url),
        credentials: s3_credentials(from, reader),
        bucket: bucket_name(bucket, names::S3_BUCKET, "bucket", from, reader),
        region: reader.parse(from, names::S3_REGION, "us-east-1", parse::text),
        virtual_host: reader.parse(from, names::S3_ADDRESSING_STYLE, "path", parse::is_virtual_host),
        lifetime,
    };
    if production {
        refuse_development_value(
            names::S3_ENDPOINT,
            &settings.endpoint,
            DEVELOPMENT_S3_ENDPOINT,
            "endpoint",
            reader,
        );
        if let s3::Credentials::Keys { access_key, secret_key } = &settings.credentials {
            refuse_development_value(names::S3_ACCESS_KEY, access_key, DEVELOPMENT_S3_KEY, "own", reader);
            refuse_development_value(names::S3_SECRET_KEY, secret_key, DEVELOPMENT_S3_KEY, "own", reader);
        }
    }
    settings
}

fn s3_credentials(from: &Sources, reader: &mut Reader) -> s3::Credentials {
    if reader.parse(from, names::S3_CREDENTIALS, "keys", parse::uses_aws_chain) {
        return s3::Credentials::Default;
    }
    s3::Credentials::Keys {
        access_key: reader.parse(from, names::S3_ACCESS_KEY, DEVELOPMENT_S3_KEY, parse::text),
        secret_key: reader.parse(from, names::S3_SECRET_KEY, DEVELOPMENT_S3_KEY, parse::text),
    }
}

fn refuse_development_value(
    name: SettingName,
    value: &str,
    published: &str,
    what: &str,
    reader: &mut Reader,
) {
    if value == published {
        let problem = format!("blank or the development value; set your {what}");
        reader.refuse(name.variables[0], problem);
    }
}

fn gcs(bucket: &str, lifetime: Duration, from: &Sources, reader: &mut Reader) -> gcs::Settings {
    gcs::Settings {
        bucket: bucket_name(bucket, names::GCS_BUCKET, "bucket", from, reader),
        project: reader.parse(from, names::GOOGLE_CLOUD_PROJECT, "", parse::text),
        credentials: reader.optional(from, names::GOOGLE_APPLICATION_CREDENTIALS, parse::text),
        emulator: reader.optional(from, names::STORAGE_EMULATOR_HOST, parse::emulator),
        public_endpoint: reader.optional(from, names::GCS_PUBLIC_ENDPOINT, parse::web_url),
        lifetime,
    }
}

fn azure(container: &str, lifetime: Duration, from: &Sources, reader: &mut Reader) -> azure::Settings {
    let container = bucket_name(container, names::AZURE_CONTAINER, "container", from, reader);
    let account = [names::AZURE_CONN_STR, names::AZURE_ACCOUNT_URL];
    if account.iter().all(|name| from.find(*name).is_none()) {
        let problem = "neither this nor AZURE_ACCOUNT_URL is set; set one of them";
        reader.refuse(names::AZURE_CONN_STR.variables[0], problem);
    }
    let credentials = AZURE_CREDENTIALS.iter().filter_map(|name| {
        let found = from.find(*name)?;
        Some((name.variables[0].to_owned(), found.value))
    });
    azure::Settings {
        connection_string: reader.parse(from, names::AZURE_CONN_STR, "", parse::text),
        account_url: reader.optional(from, names::AZURE_ACCOUNT_URL, parse::web_url).unwrap_or_default(),
        container,
        public_endpoint: reader.optional(from, names::AZURE_PUBLIC_ENDPOINT, parse::web_url),
        credentials: credentials.collect(),
        lifetime,
    }
}

/// The bucket named in the URI, or otherwise the one in the variable.
fn bucket_name(in_uri: &str, name: SettingName, what: &str, from: &Sources, reader: &mut Reader) -> String {
    if !in_uri.is_empty() {
        return in_uri.to_owned();
    }
    if from.is_blank(name) {
        let problem = format!("blank; set the {what}, or unset it to use {DEFAULT_BUCKET}");
        reader.refuse(name.variables[0], problem);
    }
    reader.parse(from, name, DEFAULT_BUCKET, parse::text)
}
