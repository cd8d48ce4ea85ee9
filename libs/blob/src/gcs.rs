//! Blobs in a bucket of Google Cloud Storage, through its JSON API, which the emulator also
//! supports. Credentials and signed URLs come from the `object_store` crate: Google's default
//! credentials or a configured key file.
//!
//! Signing a URL requires the key of a service account, or permission to have Google sign for
//! it. An emulator verifies no signatures, so without a key its URLs only resemble signed ones.

mod api;
mod resumable_upload;

pub use crate::cloud_settings::gcs::Settings;

use std::{borrow::Cow, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{
    gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder},
    path::Path,
    signer::{HeaderName, HeaderValue, Method, SignedUrlOptions, Signer},
};
use percent_encoding::{percent_decode_str, utf8_percent_encode};
use serde_json::json;

use crate::{
    BlobKey, BlobMeta, BucketCreation, Content, Error, ListedBlob, MAX_PAGE, MultipartUpload, OpenBucket,
    Part, PresignedUpload, Result,
    bucket::{
        Bucket, BucketBlobs, BucketPage, PartUpload, connect::unavailable,
        object_store_client::client_options,
    },
};
use api::{Api, ApiRequest, SEGMENT};
use resumable_upload::ResumableUpload;

/// Query parameter of a session URL. It is all that is needed to write to the session.
const SESSION_ID: &str = "upload_id";

/// Header of an upload with the least and the largest size that Google accepts, if the signature contains it.
const SIZE_RANGE: &str = "x-goog-content-length-range";

const GOOGLE: &str = "https://storage.googleapis.com";

/// Blobs deleted concurrently: each takes a request.
const CONCURRENT_DELETES: usize = 16;

pub fn open(settings: &Settings) -> Result<OpenBucket> {
    Ok(BucketBlobs::new(Gcs::new(settings)?, settings.lifetime).into())
}

/// Creates the bucket unless it exists.
pub async fn create_bucket(settings: &Settings) -> Result<BucketCreation> {
    let gcs = Gcs::new(settings)?;
    let mut request = ApiRequest::new(Method::POST, "/storage/v1/b".to_owned());
    request.query("project", &settings.project);
    request.json(&json!({ "name": settings.bucket }));
    let answer = gcs.api.send("creating the bucket", &request).await?;
    match answer.status().as_u16() {
        200..300 => Ok(BucketCreation::Created),
        // Bucket names are global: the bucket belongs to this account only if it can be listed.
        409 => match gcs.list("", None).await {
            Ok(_) => Ok(BucketCreation::AlreadyExists),
            Err(error) => Err(Error::Setup {
                reason: format!(
                    "the bucket belongs to another account: choose another name for GCS_BUCKET: {error}"
                ),
            }),
        },
        _ => Err(api::failure("creating the bucket", &settings.bucket, answer).await),
    }
}

struct Gcs {
    api: Arc<Api>,
    signer: Option<GoogleCloudStorage>,
    public: String,
}

impl Gcs {
    fn new(settings: &Settings) -> Result<Self> {
        let base = settings.emulator.as_deref().unwrap_or(GOOGLE).trim_end_matches('/');
        let public = settings.public_endpoint.as_deref().unwrap_or(base).trim_end_matches('/');
        let client = match (&settings.emulator, &settings.credentials) {
            // An emulator accepts unsigned URLs.
            (Some(_), None) => None,
            _ => Some(client(settings, public)?),
        };
        let credentials = match settings.emulator {
            Some(_) => None,
            None => client.as_ref().map(|client| client.credentials().clone()),
        };
        Ok(Self {
            api: Arc::new(Api::new(base, &settings.bucket, credentials)?),
            signer: client,
            public: public.to_owned(),
        })
    }

    fn object_request(&self, method: Method, key: &BlobKey) -> ApiRequest {
        let key = utf8_percent_encode(key.as_str(), SEGMENT);
        ApiRequest::new(method, format!("/storage/v1/b/{}/o/{key}", self.api.bucket))
    }

    fn upload_request(&self, kind: &str, key: &BlobKey) -> ApiRequest {
        let mut request =
            ApiRequest::new(Method::POST, format!("/upload/storage/v1/b/{}/o", self.api.bucket));
        request.query("uploadType", kind);
        request.query("name", key.as_str());
        request
    }

    /// Returns the URL to which the parts of an upload are sent.
    async fn start_session(&self, key: &BlobKey, content_type: &str) -> Result<String> {
        let mut request = self.upload_request("resumable", key);
        request.json(&json!({ "name": key.as_str(), "contentType": api::or_default_type(content_type) }));
        let answer = self.api.send_checked("starting an upload", &request).await?;
        let session = answer.headers().get("location").and_then(|location| location.to_str().ok());
        session
            .map(str::to_owned)
            .ok_or_else(|| Error::unavailable("starting an upload failed: the response has no session URL"))
    }

    /// Returns the path and query of the session with this id. The URL is not taken from the
    /// client, because requests are sent to it with our credentials.
    fn session_target(&self, upload: &MultipartUpload) -> String {
        let mut request = self.upload_request("resumable", &upload.key);
        request.query(SESSION_ID, &upload.id);
        request.target_and_query()
    }

    async fn delete_one(&self, key: &BlobKey) -> Result<()> {
        let answer = self.api.send_once("deleting", &self.object_request(Method::DELETE, key)).await?;
        match answer.status().as_u16() {
            200..300 | 404 => Ok(()),
            _ => Err(api::failure("deleting", &self.api.bucket, answer).await),
        }
    }
}

fn client(settings: &Settings, base: &str) -> Result<GoogleCloudStorage> {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_client_options(client_options(base.starts_with("http://")))
        .with_base_url(base)
        .with_bucket_name(&settings.bucket);
    if let Some(path) = &settings.credentials {
        builder = builder.with_application_credentials(path);
    }
    let built = builder.build();
    built.map_err(|error| Error::Setup { reason: format!("invalid GCS settings: {error}") })
}

/// Signs an upload, with its size if that is known: Google verifies no Content-Length.
async fn signed_upload(
    signer: &dyn Signer,
    key: &BlobKey,
    size: Option<u64>,
    lifetime: Duration,
) -> Result<PresignedUpload> {
    let path = Path::parse(key.as_str()).expect("every blob key is a valid path");
    let range = size.map(|size| format!("{size},{size}"));
    let mut options = SignedUrlOptions::default();
    if let Some(range) = &range {
        let range = HeaderValue::from_str(range).expect("numbers and commas may be in a header");
        options = options.with_signed_header(HeaderName::from_static(SIZE_RANGE), range);
    }
    let url = signer.signed_url_opts(Method::PUT, &path, lifetime, &options).await;
    let url = url.map_err(|error| unavailable("signing an upload URL", error))?.into();
    let headers = range.into_iter().map(|range| (SIZE_RANGE.to_owned(), range)).collect();
    Ok(PresignedUpload { url, headers, expires: lifetime })
}

#[async_trait]
impl Bucket for Gcs {
    async fn presign(&self, key: &BlobKey, size: Option<u64>, lifetime: Duration) -> Result<PresignedUpload> {
        if let Some(signer) = &self.signer {
            return signed_upload(signer, key, size, lifetime).await;
        }
        let key = utf8_percent_encode(key.as_str(), api::PATH);
        let expires = lifetime.as_secs();
        let query = format!("X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Expires={expires}");
        let url = format!("{}/{}/{key}?{query}", self.public, self.api.bucket);
        Ok(PresignedUpload { url, headers: Vec::new(), expires: lifetime })
    }

    async fn get(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<Option<(BlobMeta, Content)>> {
        let mut request = self.object_request(Method::GET, key);
        request.query("alt", "media");
        if let Some(Range { start, end }) = range {
            // Servers parse the end as a signed integer.
            let end = i64::try_from(end).map_or_else(|_| String::new(), |end| (end - 1).to_string());
            request.header("range", &format!("bytes={start}-{end}"));
        }
        let answer = self.api.send("reading a blob", &request).await?;
        match answer.status().as_u16() {
            200..300 => {}
            404 => return api::check_bucket_exists(&self.api.bucket, answer).await,
            _ => return Err(api::failure("reading a blob", &self.api.bucket, answer).await),
        }
        let meta = api::blob_meta(answer.headers())?;
        let content = answer.into_body().bytes_stream();
        Ok(Some((meta, content.map_err(|error| unavailable("reading a blob", error)).boxed())))
    }

    async fn head(&self, key: &BlobKey) -> Result<Option<BlobMeta>> {
        let answer = self.api.send("describing a blob", &self.object_request(Method::GET, key)).await?;
        match answer.status().as_u16() {
            200..300 => {
                let object: api::ObjectResource = api::decode_json("describing a blob", answer).await?;
                let ListedBlob { size, modified_us } = object.listed_blob()?;
                let api::ObjectResource { content_type, generation: version, .. } = object;
                Ok(Some(BlobMeta { size, content_type, modified_us, version }))
            }
            404 => api::check_bucket_exists(&self.api.bucket, answer).await,
            _ => Err(api::failure("describing a blob", &self.api.bucket, answer).await),
        }
    }

    async fn put(&self, key: &BlobKey, content_type: &str, content: Bytes) -> Result<()> {
        let mut request = self.upload_request("media", key);
        request.header("content-type", api::or_default_type(content_type));
        request.body(content);
        self.api.send_checked("writing a blob", &request).await.map(drop)
    }

    async fn put_parts(&self, key: &BlobKey, content_type: &str) -> Result<Box<dyn PartUpload>> {
        let session = self.start_session(key, content_type).await?;
        Ok(Box::new(ResumableUpload::new(self.api.clone(), &session)))
    }

    async fn delete(&self, keys: &[BlobKey]) -> Vec<(BlobKey, Error)> {
        let deletes =
            keys.iter().map(|key| async move { Some((key.clone(), self.delete_one(key).await.err()?)) });
        let deletes: Vec<_> = deletes.collect();
        stream::iter(deletes).buffered(CONCURRENT_DELETES).filter_map(std::future::ready).collect().await
    }

    async fn list(&self, folder: &str, after: Option<&BlobKey>) -> Result<BucketPage> {
        let mut page = BucketPage::default();
        let mut token = String::new();
        loop {
            let mut request = ApiRequest::new(Method::GET, format!("/storage/v1/b/{}/o", self.api.bucket));
            request.query("prefix", folder);
            // One more than a page, because the first may be `after` itself.
            request.query("maxResults", &(MAX_PAGE + 1).to_string());
            request.query("startOffset", after.map_or("", BlobKey::as_str));
            request.query("pageToken", &token);
            let answer = self.api.send_checked("listing blobs", &request).await?;
            let listing: api::ObjectListing = api::decode_json("listing blobs", answer).await?;
            for object in listing.items {
                match BlobKey::new(&object.name) {
                    Ok(key) if after.is_none_or(|after| key > *after) => {
                        page.blobs.push((key, object.listed_blob()?));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(%error, "skipped an object with an invalid key in a listing");
                    }
                }
            }
            token = listing.next_page_token.unwrap_or_default();
            page.more = !token.is_empty();
            // A response may have no matching keys although more follow.
            if !page.more || !page.blobs.is_empty() {
                return Ok(page);
            }
        }
    }

    /// A session takes its parts in order.
    const SEQUENTIAL_PARTS: bool = true;

    async fn begin(&self, key: &BlobKey, content_type: &str, _size: u64) -> Result<String> {
        let session = self.start_session(key, content_type).await?;
        let query = session.split_once('?').map_or("", |(_, query)| query);
        let id = query.split('&').find_map(|pair| pair.strip_prefix(SESSION_ID)?.strip_prefix('='));
        let id = id.and_then(|id| percent_decode_str(id).decode_utf8().ok());
        id.map(Cow::into_owned).ok_or_else(|| {
            Error::unavailable("starting an upload failed: the session URL has no `upload_id`")
        })
    }

    async fn presign_part(
        &self,
        upload: &MultipartUpload,
        part: &Part,
        lifetime: Duration,
    ) -> Result<PresignedUpload> {
        let end = part.offset + part.length - 1;
        let total = if end + 1 == upload.size { upload.size.to_string() } else { "*".to_owned() };
        let headers = vec![
            ("content-type".to_owned(), api::or_default_type(&upload.content_type).to_owned()),
            ("content-range".to_owned(), format!("bytes {}-{end}/{total}", part.offset)),
        ];
        let url = format!("{}{}", self.public, self.session_target(upload));
        Ok(PresignedUpload { url, headers, expires: lifetime })
    }

    /// The last part has completed the session.
    async fn complete(&self, _upload: &MultipartUpload, _etags: &[String]) -> Result<()> {
        Ok(())
    }

    async fn abort(&self, upload: &MultipartUpload) -> Result<()> {
        ResumableUpload::new(self.api.clone(), &self.session_target(upload)).discard().await
    }
}

#[cfg(test)]
mod tests {
    use object_store::signer::Url;

    use super::*;

    /// Writes the headers that it is asked to sign into the URL.
    #[derive(Debug)]
    struct VisibleSigner;

    #[async_trait]
    impl Signer for VisibleSigner {
        async fn signed_url(&self, method: Method, path: &Path, _: Duration) -> object_store::Result<Url> {
            Ok(Url::parse(&format!("https://bucket/{path}?{method}")).expect("the test names a valid path"))
        }

        async fn signed_url_opts(
            &self,
            method: Method,
            path: &Path,
            lifetime: Duration,
            options: &SignedUrlOptions,
        ) -> object_store::Result<Url> {
            let mut url = self.signed_url(method, path, lifetime).await?;
            for (name, value) in &options.signed_headers {
                url.query_pairs_mut().append_pair(name.as_str(), value.to_str().expect("it is a text"));
            }
            Ok(url)
        }
    }

    #[tokio::test]
    async fn rule_71_the_url_of_an_upload_signs_the_range_of_its_size() {
        let key = BlobKey::new("run/model.pt").unwrap();
        let lifetime = Duration::from_secs(60);
        let signed = async |size| signed_upload(&VisibleSigner, &key, size, lifetime).await.unwrap();
        let upload = signed(Some(7)).await;
        assert_eq!(upload.url, "https://bucket/run/model.pt?PUT&x-goog-content-length-range=7%2C7");
        assert_eq!(upload.headers, [(SIZE_RANGE.to_owned(), "7,7".to_owned())], "the client must send it");
        let any = signed(None).await;
        assert_eq!((any.url.as_str(), any.headers), ("https://bucket/run/model.pt?PUT", Vec::new()));
    }
}
