//! Settings of blobs in a bucket of Google Cloud Storage.

use std::time::Duration;

#[derive(Clone)]
pub struct Settings {
    pub bucket: String,
    /// Project in which a missing bucket is created.
    pub project: String,
    /// A file with a service account's key or with the credentials that `gcloud` stores. If
    /// unset, Google's default locations are searched.
    pub credentials: Option<String>,
    /// Endpoint of an emulator, which needs no credentials.
    pub emulator: Option<String>,
    /// Endpoint used in upload URLs instead of Google's own.
    pub public_endpoint: Option<String>,
    /// Validity of upload URLs.
    pub lifetime: Duration,
}
