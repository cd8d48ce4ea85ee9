//! Lists of the blocks that make a blob, for uploads in parts. The `object_store` crate commits
//! such a list without a content type, so the request is made here.

use std::fmt::Write as _;

use base64::{Engine, engine::general_purpose::STANDARD};
use object_store::{
    azure::{AzureAuthorizer, MicrosoftAzure},
    client::{HttpClient, HttpRequest, HttpRequestBody},
    signer::Method,
};
use percent_encoding::utf8_percent_encode;

use super::account::PATH;
use crate::{Error, MultipartUpload, Result, bucket::connect::unavailable};

const DOING: &str = "finishing an upload";

/// Azure's error codes for blocks that it does not have.
const MISSING_BLOCKS: [&str; 2] = ["InvalidBlockList", "InvalidBlockId"];

/// Sends lists of blocks to one container.
pub(super) struct BlockLists {
    pub(super) http: HttpClient,
    /// Knows the credentials.
    pub(super) client: MicrosoftAzure,
    pub(super) account: String,
    /// URL of the container.
    pub(super) container: String,
}

/// Name of a block. The names of all blocks of a blob have the same length, and no other upload
/// uses them.
pub(super) fn id(upload: &MultipartUpload, part: u32) -> String {
    STANDARD.encode(format!("{}-{part:08}", upload.id))
}

impl BlockLists {
    /// Makes the blob from its blocks. May be repeated.
    pub(super) async fn put(&self, upload: &MultipartUpload) -> Result<()> {
        let mut list = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        for part in upload.parts() {
            write!(list, "<Latest>{}</Latest>", id(upload, part.number))
                .expect("writing to a String succeeds");
        }
        list.push_str("</BlockList>");
        let answer = self.http.execute(self.request(upload, list).await?).await;
        let answer = answer.map_err(|error| unavailable(DOING, error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let said = answer.into_body().bytes().await.map_err(|error| unavailable(DOING, error))?;
        let said = String::from_utf8_lossy(&said);
        match status.as_u16() {
            400 if MISSING_BLOCKS.iter().any(|code| said.contains(code)) => {
                Err(Error::PartsMissing { reason: "the store does not have all of its blocks".to_owned() })
            }
            401 | 403 => Err(Error::Setup {
                reason: format!("{DOING} was refused: check the credentials and their permissions: {said}"),
            }),
            _ => Err(Error::unavailable(format!("{DOING} failed: {status} {said}"))),
        }
    }

    async fn request(&self, upload: &MultipartUpload, list: String) -> Result<HttpRequest> {
        let path = utf8_percent_encode(upload.key.as_str(), PATH);
        let url = format!("{}/{path}?comp=blocklist", self.container);
        let length = list.len();
        let mut request = HttpRequest::new(HttpRequestBody::from(list.into_bytes()));
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = url
            .parse()
            .map_err(|error| Error::Setup { reason: format!("invalid URL `{url}` of a blob: {error}") })?;
        request.headers_mut().insert("content-length", length.into());
        if !upload.content_type.is_empty() {
            let content_type = upload.content_type.parse();
            let content_type = content_type.map_err(|_| Error::BadContentType {
                reason: "it contains characters that a header cannot have",
            })?;
            request.headers_mut().insert("x-ms-blob-content-type", content_type);
        }
        let credential = self.client.credentials().get_credential().await;
        let credential = credential.map_err(|error| unavailable("requesting credentials", error))?;
        AzureAuthorizer::new(&credential, &self.account)
            .try_authorize(&mut request)
            .map_err(|error| unavailable("signing a request", error))?;
        Ok(request)
    }
}
