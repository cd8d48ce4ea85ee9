//! Settings of blobs in a container of Azure Blob Storage.

use std::time::Duration;

#[derive(Clone)]
pub struct Settings {
    /// Supplies the account name, key and endpoint. If empty, `account_url` is used.
    pub connection_string: String,
    /// `https://{account}.blob.core.windows.net` or a custom endpoint; credentials come
    /// from the environment.
    pub account_url: String,
    pub container: String,
    /// Endpoint used in upload URLs instead of the account's own.
    pub public_endpoint: Option<String>,
    /// Variables of Azure's default credential chain (`AZURE_CLIENT_ID`, ...) with their
    /// values. If empty, the managed identity is used.
    pub credentials: Vec<(String, String)>,
    /// Validity of upload URLs.
    pub lifetime: Duration,
}
