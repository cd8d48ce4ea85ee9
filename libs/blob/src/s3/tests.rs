mod rare_failures;
mod scripted_server;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError, future};
use aws_sdk_s3::config::SharedCredentialsProvider;

use super::{failure::Refusal, *};
use crate::{BlobKey, Error, MultipartUpload, Part, bucket::Bucket};

fn settings() -> Settings {
    Settings {
        endpoint: "http://inside:9000/".to_owned(),
        public_endpoint: Some("https://s3.example.org".to_owned()),
        credentials: Credentials::Keys { access_key: "key".to_owned(), secret_key: "secret".to_owned() },
        bucket: "blobs".to_owned(),
        region: "eu-west-1".to_owned(),
        virtual_host: false,
        lifetime: Duration::from_secs(60),
    }
}

fn clock() -> Clock {
    Arc::new(|| 1_700_000_000_000_000)
}

async fn presigned(settings: &Settings) -> Result<String> {
    presigned_for(settings, None).await
}

async fn presigned_for(settings: &Settings, size: Option<u64>) -> Result<String> {
    let key = BlobKey::new("run/a b/ü.png").unwrap();
    let upload = open(settings, clock()).await.unwrap().blobs.presign(&key, "image/png", size).await?;
    assert!(upload.headers.is_empty(), "a client need not send {:?}", upload.headers);
    Ok(upload.url)
}

#[tokio::test]
async fn an_upload_url_names_and_signs_only_the_public_host() {
    let by_path = presigned(&settings()).await.unwrap();
    assert!(by_path.starts_with("https://s3.example.org/blobs/run/a%20b/%C3%BC.png?"), "{by_path}");
    assert!(by_path.contains("X-Amz-SignedHeaders=host&"), "{by_path}");
    assert!(by_path.contains("X-Amz-Expires=60") && !by_path.contains("secret"), "{by_path}");
    assert!(by_path.contains("X-Amz-Date=20231114T221320Z"), "by the injected clock: {by_path}");
    let by_host = presigned(&Settings { virtual_host: true, ..settings() }).await.unwrap();
    assert!(by_host.starts_with("https://blobs.s3.example.org/run/a%20b/%C3%BC.png?"), "{by_host}");
    let own = presigned(&Settings { public_endpoint: None, ..settings() }).await.unwrap();
    assert!(own.starts_with("http://inside:9000/blobs/run/"), "{own}");
}

#[tokio::test]
async fn rule_71_an_upload_url_signs_the_size_of_its_content() {
    for size in [0, 7, 5 << 30] {
        let url = presigned_for(&settings(), Some(size)).await.unwrap();
        assert!(url.contains("X-Amz-SignedHeaders=content-length%3Bhost&"), "{url}");
        assert_ne!(url, presigned_for(&settings(), Some(size + 1)).await.unwrap());
    }
}

#[tokio::test]
async fn rule_71_the_url_of_a_part_signs_its_length() {
    let key = BlobKey::new("run/model.pt").unwrap();
    let upload =
        MultipartUpload { key, id: "id".to_owned(), content_type: String::new(), size: (32 << 20) + 7 };
    let blobs = open(&settings(), clock()).await.unwrap().multipart;
    let mut urls = Vec::new();
    for part in upload.parts() {
        let url = blobs.presign_part(&upload, &part).await.unwrap().url;
        assert!(url.contains("X-Amz-SignedHeaders=content-length%3Bhost&"), "{url}");
        let longer = Part { length: part.length + 1, ..part };
        assert_ne!(url, blobs.presign_part(&upload, &longer).await.unwrap().url);
        urls.push(url);
    }
    assert_eq!(urls.len(), 2);
}

#[tokio::test]
async fn a_lifetime_beyond_the_limit_of_s3_is_refused() {
    let week = Duration::from_secs(7 * 24 * 3_600);
    presigned(&Settings { lifetime: week, ..settings() }).await.unwrap();
    let error =
        presigned(&Settings { lifetime: week + Duration::from_secs(1), ..settings() }).await.unwrap_err();
    assert!(error.to_string().contains("S3_PRESIGN_EXPIRY"), "{error}");
}

fn refused(status: u16, code: &str, region: Option<&str>) -> Error {
    let code = code.to_owned();
    let message = "as S3 says".to_owned();
    let refusal = Refusal { status, code, message, region: region.map(str::to_owned) };
    BucketLocation::new(&settings()).refusal_error("reading a blob", &refusal)
}

#[test]
fn a_refusal_says_what_to_do() {
    for (status, code, region, told) in [
        (403, "InvalidAccessKeyId", None, "S3_ACCESS_KEY"),
        (403, "SignatureDoesNotMatch", None, "S3_SECRET_KEY"),
        (403, "RequestTimeTooSkewed", None, "NTP"),
        (400, "ExpiredToken", None, "renew"),
        (403, "AccessDenied", None, "read, write, list and delete objects in `blobs`"),
        (403, "", None, "check the credentials"),
        (301, "PermanentRedirect", Some("us-west-2"), "S3_REGION=us-west-2"),
        (400, "", Some("us-west-2"), "S3_REGION=us-west-2"),
        (400, "AuthorizationHeaderMalformed", None, "check S3_REGION and S3_ENDPOINT"),
        (301, "", None, "not in eu-west-1"),
    ] {
        let error = refused(status, code, region);
        assert!(matches!(error, Error::Setup { .. }) && !error.is_temporary(), "{error}");
        let text = error.to_string();
        assert!(text.contains(told) && text.contains("as S3 says"), "{status} {code}: {text}");
    }
    assert!(matches!(refused(404, "NoSuchBucket", None), Error::NoBucket { name, .. } if name == "blobs"));
    for (status, code) in
        [(503, "SlowDown"), (500, "InternalError"), (0, "InternalError"), (400, "RequestTimeout")]
    {
        assert!(refused(status, code, Some("eu-west-1")).is_temporary(), "{code}");
    }
}

/// A rejected blob is set aside, while the others wait for credentials or for the bucket.
#[test]
fn rule_39_only_what_s3_has_against_one_blob_is_final() {
    let waits = (false, false);
    let doubtful = (false, true);
    let is_final = (true, false);
    for (status, code, expected) in [
        (400, "KeyTooLongError", is_final),
        (400, "EntityTooLarge", is_final),
        (400, "XMinioInvalidObjectName", is_final),
        (413, "", is_final),
        (414, "", is_final),
        (400, "", doubtful),
        (400, "InvalidRequest", doubtful),
        (400, "InvalidArgument", doubtful),
        (422, "", doubtful),
        (405, "MethodNotAllowed", waits),
        (411, "MissingContentLength", waits),
        (412, "PreconditionFailed", waits),
        (400, "ExpiredToken", waits),
        (400, "RequestTimeout", waits),
        (400, "AuthorizationHeaderMalformed", waits),
        (401, "", waits),
        (403, "AccessDenied", waits),
        (404, "NoSuchBucket", waits),
        (409, "OperationAborted", waits),
        (429, "", waits),
        (503, "SlowDown", waits),
    ] {
        let refusal = Refusal { status, code: code.to_owned(), ..Refusal::default() };
        let error = BucketLocation::new(&settings()).put_refusal_error(&refusal);
        assert_eq!((error.is_of_blob(), error.is_doubtful()), expected, "{status} {code}: {error}");
    }
}

/// Temporary credentials, like the credentials of a machine's role.
#[derive(Debug)]
struct Role {
    lasts: Duration,
    requests: Arc<AtomicUsize>,
}

impl ProvideCredentials for Role {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let ends = Some(client::system_time(&clock()) + self.lasts);
        let token = Some("token".to_owned());
        future::ProvideCredentials::ready(Ok(aws_sdk_s3::config::Credentials::new(
            "key", "secret", token, ends, "a test",
        )))
    }
}

/// A setting in `~/.aws` that is not supported.
#[derive(Debug)]
struct SingleSignOn;

impl ProvideCredentials for SingleSignOn {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::invalid_configuration(
            "`sso` is not enabled",
        )))
    }
}

fn bucket_with(credentials: impl ProvideCredentials + 'static) -> S3Bucket {
    let settings = settings();
    let credentials = SharedCredentialsProvider::new(credentials);
    let client = client::connect(&settings, &settings.endpoint, false, &credentials, &clock());
    let connection = BucketConnection { client: client.clone(), location: BucketLocation::new(&settings) };
    S3Bucket { connection, signer: client, clock: clock() }
}

#[tokio::test]
async fn credentials_about_to_expire_are_renewed_before_signing() {
    for (minutes, expected) in [(60, 1), (5, 2)] {
        let requests = Arc::new(AtomicUsize::new(0));
        let bucket =
            bucket_with(Role { lasts: Duration::from_secs(60 * minutes), requests: requests.clone() });
        for _ in 0..2 {
            bucket.presign(&BlobKey::new("run/x").unwrap(), None, Duration::from_secs(60)).await.unwrap();
        }
        assert_eq!(requests.load(Ordering::Relaxed), expected, "credentials for {minutes} minutes");
    }
}

#[tokio::test]
async fn unreadable_credentials_are_a_setup_error() {
    let signed = bucket_with(SingleSignOn)
        .presign(&BlobKey::new("run/x").unwrap(), None, Duration::from_secs(60))
        .await;
    let error = signed.unwrap_err();
    assert!(
        matches!(error, Error::Setup { .. }) && error.to_string().contains("`sso` is not enabled"),
        "{error}"
    );
}
