//! BLOBS in a bucket of S3, or of what speaks like it. Upload URLs sign the host and nothing else, so that a client may send
//! the content type that it likes, or none; they may name another host than we use ourselves.

use std::{sync::Arc, time::Duration};

use object_store::{
    HeaderValue,
    aws::{AmazonS3, AmazonS3Builder, AwsAuthorizer, AwsCredential},
    client::{HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector},
    signer::{Method, Signer},
};

use crate::{
    Blobs, Created, Error, Result,
    bucket::{BucketBlobs, Stored, options, retries, unavailable},
};

/// Where buckets need not be told their region.
const NO_CONSTRAINT: &str = "us-east-1";

#[derive(Clone)]
pub struct Settings {
    /// `http://` or `https://`, with a host.
    pub endpoint: String,
    /// What upload URLs name instead of `endpoint`.
    pub public_endpoint: Option<String>,
    pub access_key: String,
    pub secret_key: String,
    pub bucket: String,
    pub region: String,
    /// The bucket stands before the host, as Amazon's own service likes it, and not before the key.
    pub virtual_host: bool,
    /// How long upload URLs are good for.
    pub lifetime: Duration,
}

pub fn open(settings: &Settings) -> Result<Arc<dyn Blobs>> {
    let client = Arc::new(client(settings, &settings.endpoint)?);
    let signer: Arc<dyn Signer> = match &settings.public_endpoint {
        Some(public) => Arc::new(self::client(settings, public)?),
        None => client.clone(),
    };
    let name = settings.bucket.clone();
    let stored = Stored {
        client,
        signer: Box::new(signer),
        upload_headers: Vec::new(),
        what: "bucket",
        name,
        takes_backslash: true,
    };
    Ok(Arc::new(BucketBlobs::new(stored, settings.lifetime)))
}

fn client(settings: &Settings, endpoint: &str) -> Result<AmazonS3> {
    let endpoint = match settings.virtual_host {
        true => with_bucket(endpoint, &settings.bucket)?,
        false => endpoint.to_owned(),
    };
    let built = AmazonS3Builder::new()
        .with_client_options(options(endpoint.starts_with("http://")))
        .with_retry(retries())
        .with_endpoint(endpoint.trim_end_matches('/'))
        .with_virtual_hosted_style_request(settings.virtual_host)
        .with_bucket_name(&settings.bucket)
        .with_region(&settings.region)
        .with_access_key_id(&settings.access_key)
        .with_secret_access_key(&settings.secret_key)
        .build();
    built.map_err(|error| Error::Setup { reason: format!("the settings of S3 are not good: {error}") })
}

/// `https://host:port` becomes `https://bucket.host:port`.
fn with_bucket(endpoint: &str, bucket: &str) -> Result<String> {
    match endpoint.split_once("://") {
        Some((scheme, host)) => Ok(format!("{scheme}://{bucket}.{host}")),
        None => Err(Error::Setup { reason: format!("`{endpoint}` is no URL of S3") }),
    }
}

/// Makes the bucket if it is not there. Needs more than the running system does: the right to make buckets.
pub async fn create_bucket(settings: &Settings) -> Result<Created> {
    let credential = AwsCredential {
        key_id: settings.access_key.clone(),
        secret_key: settings.secret_key.clone(),
        token: None,
    };
    // By its path everywhere: the name of a bucket that is not there yet need not resolve.
    let url = format!("{}/{}", settings.endpoint.trim_end_matches('/'), settings.bucket);
    let body = match settings.region.as_str() {
        NO_CONSTRAINT => String::new(),
        region => format!(
            "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
        ),
    };
    let mut request = HttpRequest::new(HttpRequestBody::from(body.into_bytes()));
    *request.method_mut() = Method::PUT;
    *request.uri_mut() =
        url.parse().map_err(|error| Error::Setup { reason: format!("`{url}` is no URL: {error}") })?;
    let length = HeaderValue::from(request.body().content_length());
    request.headers_mut().insert("content-length", length);
    AwsAuthorizer::new(&credential, "s3", &settings.region)
        .try_authorize(&mut request, None)
        .map_err(|error| unavailable("signing a request", error))?;

    let allow_http = settings.endpoint.starts_with("http://");
    let connected = ReqwestConnector::default().connect(&options(allow_http));
    let client = connected.map_err(|error| unavailable("making a client", error))?;
    let answer = client.execute(request).await.map_err(|error| unavailable("making the bucket", error))?;
    let status = answer.status();
    let said = answer.into_body().bytes().await.map_err(|error| unavailable("making the bucket", error))?;
    let said = String::from_utf8_lossy(&said);
    match status.as_u16() {
        200..300 => Ok(Created::Made),
        409 if said.contains("BucketAlreadyOwnedByYou") => Ok(Created::WasThere),
        _ => Err(Error::Setup { reason: format!("the bucket cannot be made: {status} {said}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlobKey;

    fn settings() -> Settings {
        Settings {
            endpoint: "http://inside:9000/".to_owned(),
            public_endpoint: Some("https://s3.example.org".to_owned()),
            access_key: "key".to_owned(),
            secret_key: "secret".to_owned(),
            bucket: "blobs".to_owned(),
            region: "eu-west-1".to_owned(),
            virtual_host: false,
            lifetime: Duration::from_secs(60),
        }
    }

    async fn url(settings: &Settings) -> String {
        let key = BlobKey::new("run/a b/ü.png").unwrap();
        open(settings).unwrap().presign(&key, "image/png").await.unwrap().url
    }

    #[tokio::test]
    async fn an_upload_url_names_the_public_host_and_signs_it_alone() {
        let by_path = url(&settings()).await;
        assert!(by_path.starts_with("https://s3.example.org/blobs/run/a%20b/%C3%BC.png?"), "{by_path}");
        assert!(by_path.contains("X-Amz-SignedHeaders=host&"), "{by_path}");
        assert!(by_path.contains("X-Amz-Expires=60") && !by_path.contains("secret"), "{by_path}");
        let by_host = url(&Settings { virtual_host: true, ..settings() }).await;
        assert!(by_host.starts_with("https://blobs.s3.example.org/run/a%20b/%C3%BC.png?"), "{by_host}");
        let own = url(&Settings { public_endpoint: None, ..settings() }).await;
        assert!(own.starts_with("http://inside:9000/blobs/run/"), "{own}");
    }
}
