//! An Azure container accessed through the `object_store` crate, which signs, sends, retries and
//! streams; this module converts its results to the types of this crate.

use std::{collections::HashSet, ops::Range, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream, stream::FuturesUnordered};
use object_store::{
    Attribute, Attributes, Error as StoreError, GetOptions, GetRange, GetResult,
    MultipartUpload as BlockUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, UploadPart,
    azure::MicrosoftAzure,
    list::{PaginatedListOptions, PaginatedListStore},
    path::Path,
    signer::{Method, Signer},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::block_lists::{self, BlockLists};
use crate::{
    BlobKey, BlobMeta, Content, Error, ListedBlob, MAX_PAGE, MultipartUpload, Part, PresignedUpload, Result,
    bucket::{
        Bucket, BucketPage, PartUpload,
        connect::{CONCURRENT_PARTS, unavailable},
    },
    multipart,
};

/// Azure's error code for a missing container.
const NO_CONTAINER: &str = "ContainerNotFound";

/// Azure treats a backslash as a slash, so two keys could name the same blob.
const BACKSLASH: char = '\\';

pub(super) struct Container {
    pub(super) client: MicrosoftAzure,
    /// Makes a single attempt; the caller retries.
    pub(super) deleter: MicrosoftAzure,
    /// May use a different endpoint than `client` does.
    pub(super) signer: Box<dyn UploadSigner>,
    pub(super) block_lists: BlockLists,
    pub(super) name: String,
}

/// Signs a URL for one PUT.
#[async_trait]
pub(super) trait UploadSigner: Send + Sync {
    async fn upload_url(&self, key: &BlobKey, lifetime: Duration) -> Result<String>;
}

#[async_trait]
impl UploadSigner for MicrosoftAzure {
    async fn upload_url(&self, key: &BlobKey, lifetime: Duration) -> Result<String> {
        let url = self.signed_url(Method::PUT, &object_path(key), lifetime).await;
        Ok(url.map_err(|error| unavailable("signing an upload URL", error))?.into())
    }
}

fn object_path(key: &BlobKey) -> Path {
    Path::parse(key.as_str()).expect("a blob key has no empty, `.` or `..` segment and no control character")
}

fn attributes(content_type: &str) -> Attributes {
    let mut attributes = Attributes::new();
    if !content_type.is_empty() {
        attributes.insert(Attribute::ContentType, content_type.to_owned().into());
    }
    attributes
}

fn listed_blob(meta: &ObjectMeta) -> ListedBlob {
    // Some stores report milliseconds in one response and whole seconds in the next.
    ListedBlob { size: meta.size, modified_us: meta.last_modified.timestamp() * 1_000_000 }
}

fn blob_meta(found: &GetResult) -> BlobMeta {
    let ListedBlob { size, modified_us } = listed_blob(&found.meta);
    let content_type = found.attributes.get(&Attribute::ContentType);
    let content_type = content_type.map(|value| value.as_ref().to_owned()).unwrap_or_default();
    BlobMeta { size, content_type, modified_us, version: found.meta.e_tag.clone().unwrap_or_default() }
}

impl Container {
    /// Maps an error to the variant that names the caller's next step.
    fn failure(&self, doing: &'static str, error: StoreError) -> Error {
        match error {
            StoreError::NotFound { .. } => self.missing(),
            // A listing reports a missing container only in the error text.
            StoreError::Generic { .. } if error.to_string().contains(NO_CONTAINER) => self.missing(),
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => Error::Setup {
                reason: format!("{doing} was refused: check the credentials and their permissions: {error}"),
            },
            error => unavailable(doing, error),
        }
    }

    fn missing(&self) -> Error {
        Error::NoBucket { what: "container", name: self.name.clone() }
    }

    async fn find(
        &self,
        doing: &'static str,
        key: &BlobKey,
        options: GetOptions,
    ) -> Result<Option<GetResult>> {
        // `check_key` keeps such a key from being written, so it cannot exist.
        if !can_hold(key) {
            return Ok(None);
        }
        match self.client.get_opts(&object_path(key), options).await {
            Ok(found) => Ok(Some(found)),
            // HEAD has no response body, so a missing container looks the same as a
            // missing blob.
            Err(StoreError::NotFound { source, .. }) => {
                if source.to_string().contains(NO_CONTAINER) {
                    Err(self.missing())
                } else {
                    Ok(None)
                }
            }
            Err(error) => Err(self.failure(doing, error)),
        }
    }
}

/// The error of a write that Azure will never accept, or may never accept. The client reports the status
/// only in the error text.
fn rejection(error: &StoreError) -> Option<Error> {
    let StoreError::Generic { source, .. } = error else { return None };
    let text = source.to_string();
    let is_any =
        |statuses: &[u16]| statuses.iter().any(|status| text.contains(&format!("status code: {status} ")));
    if is_any(&[413, 414]) || OF_BLOB.iter().any(|code| text.contains(code)) {
        return Some(Error::Rejected { reason: error.to_string() });
    }
    is_any(&[400]).then(|| Error::doubtful(error.to_string()))
}

/// Error codes that are about the name or the size of the blob.
const OF_BLOB: [&str; 4] =
    ["InvalidResourceName", "InvalidUri", "RequestBodyTooLarge", "RequestUrlFailedToParse"];

fn can_hold(key: &BlobKey) -> bool {
    !key.as_str().contains(BACKSLASH)
}

fn check_key(key: &BlobKey) -> Result<()> {
    if can_hold(key) {
        return Ok(());
    }
    Err(Error::BadKey {
        key: key.to_string(),
        reason: "it contains a backslash, which Azure treats as a slash",
    })
}

/// Falls back to an open-ended range, because servers parse the end as a signed integer.
fn get_range(range: Range<u64>) -> GetRange {
    match i64::try_from(range.end) {
        Ok(_) => GetRange::Bounded(range),
        Err(_) => GetRange::Offset(range.start),
    }
}

#[async_trait]
impl Bucket for Container {
    /// A shared access signature has no size, so the URL accepts any.
    async fn presign(&self, key: &BlobKey, _: Option<u64>, lifetime: Duration) -> Result<PresignedUpload> {
        check_key(key)?;
        let url = self.signer.upload_url(key, lifetime).await?;
        let headers = vec![("x-ms-blob-type".to_owned(), "BlockBlob".to_owned())];
        Ok(PresignedUpload { url, headers, expires: lifetime })
    }

    async fn get(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<Option<(BlobMeta, Content)>> {
        let options = GetOptions { range: range.map(get_range), ..GetOptions::default() };
        let Some(found) = self.find("reading a blob", key, options).await? else { return Ok(None) };
        let meta = blob_meta(&found);
        let content = found.into_stream().map_err(|error| unavailable("reading a blob", error)).boxed();
        Ok(Some((meta, content)))
    }

    async fn head(&self, key: &BlobKey) -> Result<Option<BlobMeta>> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        Ok(self.find("describing a blob", key, options).await?.as_ref().map(blob_meta))
    }

    async fn put(&self, key: &BlobKey, content_type: &str, content: Bytes) -> Result<()> {
        check_key(key)?;
        let options = PutOptions { attributes: attributes(content_type), ..PutOptions::default() };
        let put = self.client.put_opts(&object_path(key), content.into(), options).await;
        put.map(drop)
            .map_err(|error| rejection(&error).unwrap_or_else(|| self.failure("writing a blob", error)))
    }

    async fn put_parts(&self, key: &BlobKey, content_type: &str) -> Result<Box<dyn PartUpload>> {
        check_key(key)?;
        let options =
            PutMultipartOptions { attributes: attributes(content_type), ..PutMultipartOptions::default() };
        let upload = self.client.put_multipart_opts(&object_path(key), options).await;
        let upload = upload.map_err(|error| self.failure("starting an upload", error))?;
        Ok(Box::new(AzureUpload { upload, in_flight: FuturesUnordered::new(), is_empty: true }))
    }

    async fn delete(&self, keys: &[BlobKey]) -> Vec<(BlobKey, Error)> {
        let keys = keys.iter().filter(|key| can_hold(key));
        let paths: Vec<_> = keys.clone().map(|key| Ok(object_path(key))).collect();
        let answers = self.deleter.delete_stream(stream::iter(paths).boxed()).collect::<Vec<_>>().await;
        let mut gone = HashSet::new();
        let mut failures = Vec::new();
        for answer in answers {
            match answer {
                Ok(path) => drop(gone.insert(path.to_string())),
                // A missing blob counts as deleted.
                Err(StoreError::NotFound { path, .. }) => drop(gone.insert(path)),
                Err(error) => failures.push(self.failure("deleting", error)),
            }
        }
        // Failures come in key order, but a failed batch request yields one error for
        // all of its keys: repeat the last one.
        let left = keys.filter(|key| !gone.contains(key.as_str()));
        let mut failures = failures.into_iter();
        let mut failure = Error::unavailable("the store did not confirm the deletion");
        let with_reason = left.map(|key| {
            failure = failures.next().unwrap_or_else(|| failure.clone());
            (key.clone(), failure.clone())
        });
        with_reason.collect()
    }

    async fn list(&self, folder: &str, after: Option<&BlobKey>) -> Result<BucketPage> {
        let mut page = BucketPage::default();
        let mut page_token = None;
        loop {
            let options = PaginatedListOptions {
                offset: after.map(|key| key.as_str().to_owned()),
                max_keys: Some(MAX_PAGE),
                page_token,
                ..PaginatedListOptions::default()
            };
            let found = self.client.list_paginated(Some(folder).filter(|it| !it.is_empty()), options).await;
            let found = found.map_err(|error| self.failure("listing blobs", error))?;
            for object in &found.result.objects {
                match BlobKey::new(object.location.as_ref()) {
                    Ok(key) if after.is_none_or(|after| key > *after) => {
                        page.blobs.push((key, listed_blob(object)));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(%error, "skipped an object with an invalid key in a listing")
                    }
                }
            }
            page_token = found.page_token;
            page.more = page_token.is_some();
            // A response may have no matching keys although more follow.
            if !page.more || !page.blobs.is_empty() {
                return Ok(page);
            }
        }
    }

    const SEQUENTIAL_PARTS: bool = false;

    /// Sends no request: Azure accepts blocks at any time. The id distinguishes the blocks of this
    /// upload from the blocks of other uploads of the same blob.
    async fn begin(&self, key: &BlobKey, _content_type: &str, _size: u64) -> Result<String> {
        check_key(key)?;
        multipart::new_id()
    }

    async fn presign_part(
        &self,
        upload: &MultipartUpload,
        part: &Part,
        lifetime: Duration,
    ) -> Result<PresignedUpload> {
        check_key(&upload.key)?;
        let url = self.signer.upload_url(&upload.key, lifetime).await?;
        let block = block_lists::id(upload, part.number);
        let block = utf8_percent_encode(&block, NON_ALPHANUMERIC);
        let url = format!("{url}&comp=block&blockid={block}");
        Ok(PresignedUpload { url, headers: Vec::new(), expires: lifetime })
    }

    async fn complete(&self, upload: &MultipartUpload, _etags: &[String]) -> Result<()> {
        check_key(&upload.key)?;
        self.block_lists.put(upload).await
    }

    /// Azure discards blocks that are not committed after a week, and has no request for it.
    async fn abort(&self, _upload: &MultipartUpload) -> Result<()> {
        Ok(())
    }
}

struct AzureUpload {
    upload: Box<dyn BlockUpload>,
    in_flight: FuturesUnordered<UploadPart>,
    is_empty: bool,
}

#[async_trait]
impl PartUpload for AzureUpload {
    async fn put(&mut self, part: Bytes) -> Result<()> {
        while self.in_flight.len() >= CONCURRENT_PARTS {
            self.in_flight
                .try_next()
                .await
                .map_err(|error| unavailable("writing a part of a blob", error))?;
        }
        self.in_flight.push(self.upload.put_part(part.into()));
        self.is_empty = false;
        Ok(())
    }

    async fn finish(&mut self, last: Bytes) -> Result<()> {
        // An upload needs at least one part.
        if self.is_empty || !last.is_empty() {
            self.put(last).await?;
        }
        let ended = async {
            while self.in_flight.try_next().await?.is_some() {}
            self.upload.complete().await
        };
        ended.await.map(drop).map_err(|error| unavailable("finishing an upload", error))
    }

    async fn discard(&mut self) -> Result<()> {
        self.in_flight.clear();
        self.upload.abort().await.map_err(|error| unavailable("discarding an upload", error))
    }
}
