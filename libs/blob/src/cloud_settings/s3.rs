//! Settings of blobs in a bucket of S3.

use std::time::Duration;

#[derive(Clone)]
pub struct Settings {
    /// `http://` or `https://`, with a host.
    pub endpoint: String,
    /// Endpoint used in upload URLs instead of `endpoint`.
    pub public_endpoint: Option<String>,
    pub credentials: Credentials,
    pub bucket: String,
    pub region: String,
    /// The bucket is part of the host name, the form that Amazon prefers, instead of the path.
    pub virtual_host: bool,
    /// Validity of upload URLs.
    pub lifetime: Duration,
}

#[derive(Clone)]
pub enum Credentials {
    Keys {
        access_key: String,
        secret_key: String,
    },
    /// The sources that Amazon's own tools use: `AWS_…` variables, `~/.aws`, a web
    /// identity, the role of a container or a machine. Single sign-on and
    /// `credential_process` are not supported.
    Default,
}
