//! Blobs in a container of Azure Blob Storage. Upload URLs carry a shared access signature for
//! a single blob, signed with the account key or, without one, with a user delegation key that
//! Azure issues to our identity.

mod account;
mod block_lists;
mod container;
mod sas;

pub use crate::cloud_settings::azure::Settings;

use std::time::Duration;

use object_store::{
    RetryConfig,
    azure::{AzureAuthorizer, AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder},
    client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody},
    signer::Method,
};

use crate::{
    BucketCreation, Clock, Error, OpenBucket, Result,
    bucket::{
        BucketBlobs,
        connect::{ATTEMPTS, unavailable},
        object_store_client::{SizedTimeoutConnector, client_options},
    },
};
use account::Account;
use block_lists::BlockLists;
use container::{Container, UploadSigner};
use sas::AccountKey;

/// No attempt starts later than this.
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

pub fn open(settings: &Settings, clock: Clock) -> Result<OpenBucket> {
    let account = account(settings)?;
    let public = settings.public_endpoint.as_deref().unwrap_or(&account.endpoint);
    let signer: Box<dyn UploadSigner> = match &account.key {
        Some(key) => Box::new(AccountKey::new(&account.name, key, public, &settings.container, clock)?),
        None => Box::new(client(settings, &account, public, retry_config())?),
    };
    // `bucket::delete` retries deletions key by key, so their client must not retry.
    let deleter = client(settings, &account, &account.endpoint, without_retries())?;
    let client = client(settings, &account, &account.endpoint, retry_config())?;
    let block_lists = BlockLists {
        http: http_client(&account)?,
        client: client.clone(),
        account: account.name.clone(),
        container: container_url(&account, settings),
    };
    let container = Container { client, deleter, signer, block_lists, name: settings.container.clone() };
    Ok(BucketBlobs::new(container, settings.lifetime).into())
}

fn account(settings: &Settings) -> Result<Account> {
    match settings.connection_string.as_str() {
        "" => Account::from_url(&settings.account_url),
        text => Account::from_connection_string(text),
    }
}

fn client(
    settings: &Settings,
    account: &Account,
    endpoint: &str,
    retries: RetryConfig,
) -> Result<MicrosoftAzure> {
    let mut builder = MicrosoftAzureBuilder::new();
    if settings.connection_string.is_empty() {
        for (name, value) in &settings.credentials {
            // The list may hold variables that this client has no setting for.
            if let Ok(key) = name.to_lowercase().parse::<AzureConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
    }
    if let Some(key) = &account.key {
        builder = builder.with_access_key(key);
    }
    if let Some(token) = &account.shared_access_signature {
        builder = builder.with_config(AzureConfigKey::SasKey, token);
    }
    let built = builder
        .with_client_options(client_options(endpoint.starts_with("http://")))
        .with_http_connector(SizedTimeoutConnector)
        .with_retry(retries)
        .with_account(&account.name)
        .with_endpoint(endpoint.trim_end_matches('/').to_owned())
        .with_container_name(&settings.container)
        .build();
    built.map_err(|error| Error::Setup { reason: format!("invalid Azure settings: {error}") })
}

/// For the requests that the `object_store` crate does not make.
fn http_client(account: &Account) -> Result<HttpClient> {
    let options = client_options(account.endpoint.starts_with("http://"));
    let connected = SizedTimeoutConnector.connect(&options);
    connected.map_err(|error| unavailable("creating an HTTP client", error))
}

fn container_url(account: &Account, settings: &Settings) -> String {
    format!("{}/{}", account.endpoint.trim_end_matches('/'), settings.container)
}

fn retry_config() -> RetryConfig {
    let max_retries = ATTEMPTS as usize - 1;
    RetryConfig { max_retries, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() }
}

/// For requests that the caller retries.
fn without_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// Creates the container unless it exists.
pub async fn create_bucket(settings: &Settings) -> Result<BucketCreation> {
    let account = account(settings)?;
    let client = client(settings, &account, &account.endpoint, retry_config())?;
    let credential = client.credentials().get_credential().await;
    let credential = credential.map_err(|error| unavailable("requesting credentials", error))?;
    let url = format!("{}?restype=container", container_url(&account, settings));
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = Method::PUT;
    *request.uri_mut() = url
        .parse()
        .map_err(|error| Error::Setup { reason: format!("invalid container URL `{url}`: {error}") })?;
    // Azure requires a length even for an empty body.
    request.headers_mut().insert("content-length", 0.into());
    AzureAuthorizer::new(&credential, &account.name)
        .try_authorize(&mut request)
        .map_err(|error| unavailable("signing a request", error))?;

    let answer = http_client(&account)?.execute(request).await;
    let answer = answer.map_err(|error| unavailable("creating the container", error))?;
    let status = answer.status();
    let said =
        answer.into_body().bytes().await.map_err(|error| unavailable("creating the container", error))?;
    let said = String::from_utf8_lossy(&said);
    // Only the response body distinguishes an existing container from one being deleted.
    match status.as_u16() {
        200..300 => Ok(BucketCreation::Created),
        409 if said.contains("ContainerAlreadyExists") => Ok(BucketCreation::AlreadyExists),
        _ => Err(Error::Setup { reason: format!("creating the container failed: {status} {said}") }),
    }
}
