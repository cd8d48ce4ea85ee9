//! Fixtures of the three clouds: a separate bucket for every case, created the way an operator
//! does it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture};
use libtest_mimic::{Failed, Trial};
use matyan_blob::{
    BlobKey, Blobs, BucketCreation, Clock, Cloud, Content, Error, OpenBucket, PresignedUpload, azure,
    conformance::{Backend, Fixture},
    gcs, s3,
};
use matyan_servers::objects::{ACCESS_KEY, Kind, SECRET_KEY, Server};
use tokio::sync::OnceCell;

const KINDS: [Kind; 3] = [Kind::S3, Kind::Gcs, Kind::Azure];

const LIFETIME: Duration = Duration::from_secs(600);

/// Shortest lifetime that every service signs.
const MOMENT: Duration = Duration::from_secs(1);

pub(crate) fn backends() -> Vec<Backend> {
    KINDS
        .map(|kind| Backend {
            name: kind.name(),
            make: match kind {
                Kind::S3 => || CloudFixture::shared(Kind::S3),
                Kind::Gcs => || CloudFixture::shared(Kind::Gcs),
                Kind::Azure => || CloudFixture::shared(Kind::Azure),
            },
            absent: kind.unavailable_reason(),
            lacks: missing_features(kind),
        })
        .into()
}

/// Conformance cases that a store cannot pass, with the reason.
fn missing_features(kind: Kind) -> &'static [(&'static str, &'static str)] {
    match kind {
        Kind::S3 => &[],
        Kind::Azure => &[
            ("url/size_is_signed", "a shared access signature has no size"),
            ("multipart/unknown_upload_is_reported", "Azure has no request that discards blocks"),
            ("multipart/url_of_another_part_is_refused", "the signature covers the blob"),
        ],
        Kind::Gcs => &[
            ("url/of_another_key_is_refused", "the emulator checks no signature"),
            ("url/size_is_signed", "the emulator checks no signature"),
            ("url/expires", "the emulator checks no signature"),
            ("multipart/parts_in_any_order_and_repeated", "sessions take their parts in order"),
            ("multipart/missing_part_is_reported", "the last part completes the session"),
            ("multipart/unknown_upload_is_reported", "the last part completes the session"),
            ("multipart/url_of_another_part_is_refused", "the session is the credential for all parts"),
        ],
    }
}

struct CloudFixture {
    kind: Kind,
    bucket: String,
    created: OnceCell<()>,
}

impl CloudFixture {
    fn new(kind: Kind) -> Self {
        static BUCKETS: AtomicU32 = AtomicU32::new(0);
        let bucket = format!("bucket-{}", BUCKETS.fetch_add(1, Ordering::Relaxed));
        Self { kind, bucket, created: OnceCell::new() }
    }

    fn shared(kind: Kind) -> Arc<dyn Fixture> {
        Arc::new(Self::new(kind))
    }

    async fn cloud(&self, lifetime: Duration) -> Cloud {
        let kind = self.kind;
        let port = tokio::task::spawn_blocking(move || port(kind)).await.expect("the server starts");
        cloud(kind, port, &self.bucket, lifetime)
    }
}

/// Servers, started by the first case that needs them and shared by all.
static SERVERS: Mutex<Vec<(Kind, Server)>> = Mutex::new(Vec::new());

fn port(kind: Kind) -> u16 {
    let mut servers = SERVERS.lock().expect("no case panics while it starts a server");
    if let Some((_, server)) = servers.iter().find(|(other, _)| *other == kind) {
        return server.port();
    }
    let server = Server::start(kind);
    let port = server.port();
    servers.push((kind, server));
    port
}

/// Kills the servers; call this after all cases have finished.
pub(crate) fn stop() {
    SERVERS.lock().expect("no case panics while it starts a server").clear();
}

/// The system clock, which the servers use too.
fn clock() -> Clock {
    Arc::new(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        i64::try_from(now.as_micros()).unwrap()
    })
}

fn keys(access_key: &str, secret_key: &str) -> s3::Credentials {
    s3::Credentials::Keys { access_key: access_key.to_owned(), secret_key: secret_key.to_owned() }
}

fn cloud(kind: Kind, port: u16, bucket: &str, lifetime: Duration) -> Cloud {
    // A host name instead of an IP address, so that a bucket name can be prefixed to it.
    let endpoint = format!("http://localhost:{port}");
    let bucket = bucket.to_owned();
    match kind {
        Kind::S3 => Cloud::S3(s3::Settings {
            endpoint,
            public_endpoint: None,
            credentials: keys(ACCESS_KEY, SECRET_KEY),
            bucket,
            region: "us-east-1".to_owned(),
            virtual_host: false,
            lifetime,
        }),
        Kind::Gcs => Cloud::Gcs(gcs::Settings {
            bucket,
            project: "project".to_owned(),
            credentials: None,
            emulator: Some(endpoint),
            public_endpoint: None,
            lifetime,
        }),
        Kind::Azure => Cloud::Azure(azure::Settings {
            // The account that every Azurite has, on another port.
            connection_string: format!(
                "AccountName=devstoreaccount1;AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;BlobEndpoint={endpoint}/devstoreaccount1"
            ),
            account_url: String::new(),
            container: bucket,
            public_endpoint: None,
            credentials: Vec::new(),
            lifetime,
        }),
    }
}

#[async_trait]
impl Fixture for CloudFixture {
    async fn open_bucket(&self) -> OpenBucket {
        let cloud = self.cloud(LIFETIME).await;
        let make =
            || async { assert_eq!(cloud.create_bucket(clock()).await.unwrap(), BucketCreation::Created) };
        self.created.get_or_init(make).await;
        cloud.open(clock()).await.unwrap()
    }

    async fn upload(&self, upload: &PresignedUpload, content_type: Option<&str>, body: Bytes) -> bool {
        put(upload, content_type, body).await.is_some()
    }

    async fn upload_part(&self, upload: &PresignedUpload, body: Bytes) -> Option<String> {
        let headers = put(upload, None, body).await?;
        Some(headers.get("etag").map(|etag| etag.to_str().unwrap().to_owned()).unwrap_or_default())
    }

    async fn presign_expired(&self, key: &BlobKey) -> PresignedUpload {
        let upload =
            self.cloud(MOMENT).await.open(clock()).await.unwrap().blobs.presign(key, "", None).await.unwrap();
        // The server uses a clock that no test can control.
        tokio::time::sleep(MOMENT * 2 + MOMENT / 2).await;
        upload
    }

    fn takes_backslash(&self) -> bool {
        self.kind != Kind::Azure
    }

    /// The S3 server keeps content types in file attributes.
    fn keeps_type_with_content(&self) -> bool {
        self.kind != Kind::S3
    }

    /// The S3 server keeps blobs in files.
    fn keys_nest(&self) -> bool {
        self.kind != Kind::S3
    }
}

/// Sends one PUT the way any client does. All host names resolve to the loopback address. Returns
/// the headers of the response, or `None` if the upload was refused.
async fn put(
    upload: &PresignedUpload,
    content_type: Option<&str>,
    body: Bytes,
) -> Option<reqwest::header::HeaderMap> {
    let url = reqwest::Url::parse(&upload.url).unwrap();
    let port = url.port().unwrap();
    let client = reqwest::Client::builder()
        .resolve(url.host_str().unwrap(), SocketAddr::from(([127, 0, 0, 1], port)))
        .build()
        .unwrap();
    // Without it, an empty body has no length, which S3 refuses.
    let mut request = client.put(url).header("content-length", body.len()).body(body);
    for (name, value) in &upload.headers {
        request = request.header(name, value);
    }
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status();
    // Google confirms a part with the status 308.
    if status.is_success() || status.as_u16() == 308 {
        return Some(answer.headers().clone());
    }
    let said = answer.text().await.unwrap();
    assert!(status.is_client_error(), "{status}: {said}");
    None
}

/// Trials about buckets and credentials instead of blobs.
pub(crate) fn own_trials() -> Vec<Trial> {
    // Google's emulator gives the same response for a missing blob and a missing bucket.
    let mut trials: Vec<_> = KINDS
        .into_iter()
        .map(|kind| {
            trial(kind, format!("{}/bucket/is_created_once", kind.name()), move || is_created_once(kind))
        })
        .collect();
    trials.extend([Kind::S3, Kind::Azure].map(|kind| {
        trial(kind, format!("{}/bucket/is_reported_missing_to_readers", kind.name()), move || {
            is_reported_missing_to_readers(kind)
        })
    }));
    trials.extend([
        s3_trial("url/has_the_bucket_in_the_host_name", || Box::pin(has_the_bucket_in_the_host_name())),
        s3_trial("setup/wrong_credentials_are_reported", || Box::pin(wrong_credentials_are_reported())),
        s3_trial("setup/wrong_clock_is_reported", || Box::pin(wrong_clock_is_reported())),
        s3_trial("whole/an_abandoned_upload_leaves_no_parts", || {
            Box::pin(an_abandoned_upload_leaves_no_parts())
        }),
    ]);
    trials
}

fn s3_trial(name: &str, case: fn() -> BoxFuture<'static, ()>) -> Trial {
    trial(Kind::S3, format!("s3/{name}"), case)
}

fn trial<F: Future<Output = ()>>(
    kind: Kind,
    name: String,
    case: impl Fn() -> F + Send + Sync + 'static,
) -> Trial {
    let absent = kind.unavailable_reason();
    let name = absent.as_ref().map_or(name.clone(), |reason| format!("{name} ({reason})"));
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.map_err(Failed::from)?.block_on(case());
        Ok(())
    })
    .with_ignored_flag(absent.is_some())
}

async fn is_created_once(kind: Kind) {
    let fixture = CloudFixture::new(kind);
    let cloud = fixture.cloud(LIFETIME).await;
    let missing = cloud.open(clock()).await.unwrap().blobs.list(".ready/", None).await;
    assert!(
        matches!(&missing, Err(Error::NoBucket { name, .. }) if *name == fixture.bucket),
        "a missing bucket is reported: {missing:?}"
    );
    assert_eq!(cloud.create_bucket(clock()).await.unwrap(), BucketCreation::Created);
    assert_eq!(cloud.create_bucket(clock()).await.unwrap(), BucketCreation::AlreadyExists);
    assert!(cloud.open(clock()).await.unwrap().blobs.list(".ready/", None).await.unwrap().blobs.is_empty());
}

async fn is_reported_missing_to_readers(kind: Kind) {
    let blobs = CloudFixture::new(kind).cloud(LIFETIME).await.open(clock()).await.unwrap().blobs;
    let Err(error) = blobs.read(&BlobKey::new("run/x").unwrap(), None).await else {
        panic!("a missing bucket was reported as a missing blob");
    };
    assert!(matches!(error, Error::NoBucket { .. }), "{error}");
}

/// Returns an existing bucket with its settings.
async fn in_s3() -> (s3::Settings, Arc<dyn Blobs>, CloudFixture) {
    let fixture = CloudFixture::new(Kind::S3);
    let blobs = fixture.open().await;
    let Cloud::S3(settings) = fixture.cloud(LIFETIME).await else { unreachable!("the fixture is S3") };
    (settings, blobs, fixture)
}

async fn refused(settings: s3::Settings, clock: Clock, told: &str) {
    let blobs = s3::open(&settings, clock).await.unwrap().blobs;
    let key = BlobKey::new("run/x").unwrap();
    let content = Box::pin(futures::stream::once(async { Ok(Bytes::from_static(b"x")) }));
    let put = blobs.put(&key, "", None, content).await.unwrap_err();
    let left = blobs.delete(std::slice::from_ref(&key)).await.unwrap();
    let list = blobs.list("", None).await.unwrap_err();
    let ready = matyan_blob::probe(&*blobs).await.unwrap_err();
    for error in [&put, &left[0].1, &list] {
        assert!(matches!(error, Error::Setup { reason } if reason.contains(told)), "{error}");
    }
    assert!(ready.contains(told), "{ready}");
    // A HEAD response has no body, so the error shows only that the request was refused.
    let head = blobs.describe(&key).await.unwrap_err();
    assert!(matches!(head, Error::Setup { .. }), "{head}");
}

async fn wrong_credentials_are_reported() {
    let (settings, ..) = in_s3().await;
    let unknown = s3::Settings { credentials: keys("unknown", SECRET_KEY), ..settings.clone() };
    refused(unknown, clock(), "S3_ACCESS_KEY").await;
    let guessed = s3::Settings { credentials: keys(ACCESS_KEY, "guessed"), ..settings };
    refused(guessed, clock(), "S3_SECRET_KEY").await;
}

async fn wrong_clock_is_reported() {
    const HOUR_US: i64 = 3_600_000_000;
    let (settings, ..) = in_s3().await;
    let real = clock();
    refused(settings, Arc::new(move || real() - HOUR_US), "clock").await;
}

/// Covers uploads that break off, and an upload whose caller is canceled, which the next put cleans
/// up.
async fn an_abandoned_upload_leaves_no_parts() {
    const PARTS: usize = 3 * (8 << 20);
    let (settings, blobs, fixture) = in_s3().await;
    fn content(end: Content) -> Content {
        let pieces = (0..PARTS >> 20).map(|_| Ok(Bytes::from(vec![b'x'; 1 << 20])));
        futures::stream::iter(pieces).chain(end).boxed()
    }
    let key = BlobKey::new("run/x").unwrap();
    let broken =
        content(futures::stream::once(async { Err(Error::unavailable("the client disconnected")) }).boxed());
    blobs.put(&key, "", None, broken).await.unwrap_err();
    assert_eq!(unfinished(&settings, &fixture).await, 0, "after a broken upload");

    let (taken, all_taken) = tokio::sync::oneshot::channel();
    let silence = futures::stream::once(async {
        taken.send(()).unwrap();
        std::future::pending().await
    });
    tokio::select! {
        _ = blobs.put(&key, "", None, content(silence.boxed())) => panic!("the content never ends"),
        taken = all_taken => taken.unwrap(),
    }
    assert_eq!(unfinished(&settings, &fixture).await, 1, "of the canceled put");
    blobs.put(&key, "", None, content(futures::stream::empty().boxed())).await.unwrap();
    assert_eq!(unfinished(&settings, &fixture).await, 0, "after the next put");
    assert_eq!(blobs.describe(&key).await.unwrap().unwrap().size, PARTS as u64);
}

/// Counts the unfinished uploads in the bucket through Amazon's API, because `Blobs` has no call
/// for this.
async fn unfinished(settings: &s3::Settings, fixture: &CloudFixture) -> usize {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version_latest()
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(&settings.endpoint)
        .force_path_style(true)
        .region(aws_sdk_s3::config::Region::new(settings.region.clone()))
        .credentials_provider(aws_sdk_s3::config::Credentials::new(
            ACCESS_KEY, SECRET_KEY, None, None, "test",
        ))
        .build();
    let client = aws_sdk_s3::Client::from_conf(config);
    let uploads = client.list_multipart_uploads().bucket(&fixture.bucket).send().await.unwrap();
    uploads.uploads().len()
}

async fn has_the_bucket_in_the_host_name() {
    let (settings, blobs, fixture) = in_s3().await;
    let by_host = s3::open(&s3::Settings { virtual_host: true, ..settings }, clock()).await.unwrap().blobs;
    let key = BlobKey::new("run/a b.png").unwrap();
    let upload = by_host.presign(&key, "", None).await.unwrap();
    assert!(upload.url.contains(&format!("://{}.localhost:", fixture.bucket)), "{}", upload.url);
    assert!(put(&upload, Some("image/png"), "by host".into()).await.is_some());
    let meta = blobs.describe(&key).await.unwrap().unwrap();
    assert_eq!((meta.size, meta.content_type.as_str()), (7, "image/png"));
}
