//! BLOBS in a container of Azure Blob Storage. Upload URLs carry a shared access signature for one blob: of the account's key,
//! or, where there is none, of a key that Azure gives to the identity we run as.

mod account;
mod container;
mod sas;

use std::{sync::Arc, time::Duration};

use object_store::{
    RetryConfig,
    azure::{AzureAuthorizer, AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder},
    client::{HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector},
    signer::Method,
};

use crate::{
    Blobs, Clock, Created, Error, Result,
    bucket::{BucketBlobs, Connector, once, options, retries, unavailable},
};
use account::Account;
use container::{Container, Sign};
use sas::AccountKey;

#[derive(Clone)]
pub struct Settings {
    /// Names the account, its key and its address. Empty: `account_url` does.
    pub connection_string: String,
    /// `https://{account}.blob.core.windows.net`, or another address; credentials come from the environment.
    pub account_url: String,
    pub container: String,
    /// What upload URLs name instead of the account's own address.
    pub public_endpoint: Option<String>,
    /// Variables of Azure's default credential chain (`AZURE_CLIENT_ID`, …) and their values; none: the managed identity.
    pub credentials: Vec<(String, String)>,
    /// How long upload URLs are good for.
    pub lifetime: Duration,
}

pub fn open(settings: &Settings, clock: Clock) -> Result<Arc<dyn Blobs>> {
    let account = account(settings)?;
    let connect = |endpoint: &str, retries| client(settings, &account, endpoint, retries);
    let public = settings.public_endpoint.as_deref().unwrap_or(&account.endpoint);
    let signer: Box<dyn Sign> = match &account.key {
        Some(key) => Box::new(AccountKey::new(&account.name, key, public, &settings.container, clock)?),
        None => Box::new(connect(public, retries())?),
    };
    let (client, deleter) = (connect(&account.endpoint, retries())?, connect(&account.endpoint, once())?);
    let container = Container { client, deleter, signer, name: settings.container.clone() };
    Ok(Arc::new(BucketBlobs::new(container, settings.lifetime)))
}

fn account(settings: &Settings) -> Result<Account> {
    match settings.connection_string.as_str() {
        "" => Account::of_url(&settings.account_url),
        text => Account::of_connection_string(text),
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
            // Others of these variables are none of this client's business.
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
        .with_client_options(options(endpoint.starts_with("http://")))
        .with_http_connector(Connector)
        .with_retry(retries)
        .with_account(&account.name)
        .with_endpoint(endpoint.trim_end_matches('/').to_owned())
        .with_container_name(&settings.container)
        .build();
    built.map_err(|error| Error::Setup { reason: format!("the settings of Azure are not good: {error}") })
}

/// Makes the container if it is not there.
pub async fn create_bucket(settings: &Settings) -> Result<Created> {
    let account = account(settings)?;
    let client = client(settings, &account, &account.endpoint, retries())?;
    let credential = client.credentials().get_credential().await;
    let credential = credential.map_err(|error| unavailable("asking for credentials", error))?;
    let url = format!("{}/{}?restype=container", account.endpoint.trim_end_matches('/'), settings.container);
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = Method::PUT;
    *request.uri_mut() =
        url.parse().map_err(|error| Error::Setup { reason: format!("`{url}` is no URL: {error}") })?;
    request.headers_mut().insert("content-length", 0.into());
    AzureAuthorizer::new(&credential, &account.name)
        .try_authorize(&mut request)
        .map_err(|error| unavailable("signing a request", error))?;

    let connected = ReqwestConnector::default().connect(&options(account.endpoint.starts_with("http://")));
    let client = connected.map_err(|error| unavailable("making a client", error))?;
    let answer = client.execute(request).await;
    let answer = answer.map_err(|error| unavailable("making the container", error))?;
    let status = answer.status();
    let said =
        answer.into_body().bytes().await.map_err(|error| unavailable("making the container", error))?;
    let said = String::from_utf8_lossy(&said);
    match status.as_u16() {
        200..300 => Ok(Created::Made),
        409 if said.contains("ContainerAlreadyExists") => Ok(Created::WasThere),
        _ => Err(Error::Setup { reason: format!("the container cannot be made: {status} {said}") }),
    }
}
