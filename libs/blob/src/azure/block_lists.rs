//! Lists of the blocks that make a blob, for uploads in parts. The `object_store` crate commits
//! such a list without a content type, so the request is made here.
//!
//! Azure does not sign the size of a block, so its URL accepts any size. The sizes of the blocks are therefore compared
//! with the announced size before they become a blob.

use std::{collections::HashMap, fmt::Write as _};

use base64::{Engine, engine::general_purpose::STANDARD};
use object_store::{
    azure::{AzureAuthorizer, MicrosoftAzure},
    client::{HttpClient, HttpRequest, HttpRequestBody},
    signer::Method,
};
use percent_encoding::utf8_percent_encode;

use super::account::PATH;
use crate::{Error, MultipartUpload, Result, bucket::connect::unavailable};

const ACTION: &str = "finishing an upload";

/// Azure's error code for a blob that does not exist and for which no block was sent.
const NO_BLOB: &str = "BlobNotFound";

/// Azure's error codes for blocks that it does not have.
const MISSING_BLOCKS: [&str; 2] = ["InvalidBlockList", "InvalidBlockId"];

/// Sends lists of blocks to one container.
pub(super) struct BlockLists {
    pub(super) http: HttpClient,
    /// Supplies the credentials.
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
    /// Makes the blob from its blocks, after a check of their sizes. A block that is replaced after the check changes
    /// the size of the blob, which the caller checks afterward. May be repeated.
    pub(super) async fn put(&self, upload: &MultipartUpload) -> Result<()> {
        check_blocks(upload, &self.get(upload).await?)?;
        let mut list = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        for part in upload.parts() {
            write!(list, "<Latest>{}</Latest>", id(upload, part.number))
                .expect("writing to a String succeeds");
        }
        list.push_str("</BlockList>");
        let length = list.len();
        let mut request = self.request(upload, "comp=blocklist")?;
        *request.method_mut() = Method::PUT;
        *request.body_mut() = HttpRequestBody::from(list.into_bytes());
        request.headers_mut().insert("content-length", length.into());
        if !upload.content_type.is_empty() {
            let content_type = upload.content_type.parse();
            let content_type = content_type.map_err(|_| Error::BadContentType {
                reason: "it contains characters that a header cannot have",
            })?;
            request.headers_mut().insert("x-ms-blob-content-type", content_type);
        }
        match self.send(request).await? {
            (200..300, _) => Ok(()),
            (400, said) if MISSING_BLOCKS.iter().any(|code| said.contains(code)) => {
                Err(Error::PartsMissing { reason: "the store does not have all of its blocks".to_owned() })
            }
            (status, said) => Err(failure(status, &said)),
        }
    }

    /// The blocks that a blob has, and the blocks that were sent for it, in XML.
    async fn get(&self, upload: &MultipartUpload) -> Result<String> {
        let request = self.request(upload, "comp=blocklist&blocklisttype=all")?;
        match self.send(request).await? {
            (200..300, list) => Ok(list),
            (404, said) if said.contains(NO_BLOB) => Ok(String::new()),
            (status, said) => Err(failure(status, &said)),
        }
    }

    /// A request about the blob of an upload.
    fn request(&self, upload: &MultipartUpload, query: &str) -> Result<HttpRequest> {
        let path = utf8_percent_encode(upload.key.as_str(), PATH);
        let url = format!("{}/{path}?{query}", self.container);
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = url
            .parse()
            .map_err(|error| Error::Setup { reason: format!("invalid URL `{url}` of a blob: {error}") })?;
        Ok(request)
    }

    /// Signs and sends a request, and returns the status and the text of the answer.
    async fn send(&self, mut request: HttpRequest) -> Result<(u16, String)> {
        let credential = self.client.credentials().get_credential().await;
        let credential = credential.map_err(|error| unavailable("requesting credentials", error))?;
        AzureAuthorizer::new(&credential, &self.account)
            .try_authorize(&mut request)
            .map_err(|error| unavailable("signing a request", error))?;
        let answer = self.http.execute(request).await.map_err(|error| unavailable(ACTION, error))?;
        let status = answer.status().as_u16();
        let said = answer.into_body().bytes().await.map_err(|error| unavailable(ACTION, error))?;
        Ok((status, String::from_utf8_lossy(&said).into_owned()))
    }
}

fn failure(status: u16, said: &str) -> Error {
    match status {
        401 | 403 => Error::Setup {
            reason: format!("{ACTION} was refused: check the credentials and their permissions: {said}"),
        },
        _ => Error::unavailable(format!("{ACTION} failed: {status} {said}")),
    }
}

/// Checks that every part of an upload was sent with its size. `list` names committed blocks before uncommitted ones,
/// so the size that counts is the one sent last.
fn check_blocks(upload: &MultipartUpload, list: &str) -> Result<()> {
    let sizes: HashMap<&str, u64> = list.split("<Block>").skip(1).filter_map(block_size).collect();
    for part in upload.parts() {
        let wrong = match sizes.get(id(upload, part.number).as_str()) {
            Some(size) if *size == part.length => continue,
            Some(size) => format!("has {size} bytes instead of {}", part.length),
            None => "was not received".to_owned(),
        };
        return Err(Error::PartsMissing { reason: format!("part {} {wrong}: send it again", part.number) });
    }
    Ok(())
}

/// The name and the size of a block.
fn block_size(block: &str) -> Option<(&str, u64)> {
    let text = |start: &str, end: &str| Some(block.split_once(start)?.1.split_once(end)?.0.trim());
    Some((text("<Name>", "</Name>")?, text("<Size>", "</Size>")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlobKey, part_bytes};

    /// An upload of two parts.
    fn upload() -> MultipartUpload {
        let key = BlobKey::new("run/x").unwrap();
        let size = part_bytes(1) + 5;
        MultipartUpload { key, id: "id".to_owned(), content_type: String::new(), size }
    }

    fn block(part: u32, size: u64) -> String {
        format!("<Block><Name>{}</Name><Size>{size}</Size></Block>", id(&upload(), part))
    }

    fn list(committed: &str, uncommitted: &str) -> String {
        format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>\
             <CommittedBlocks>{committed}</CommittedBlocks>\
             <UncommittedBlocks>{uncommitted}</UncommittedBlocks></BlockList>"
        )
    }

    #[track_caller]
    fn check_refused(list: &str, expected: &str) {
        match check_blocks(&upload(), list) {
            Err(Error::PartsMissing { reason }) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn rule_71_blocks_of_another_size_do_not_become_a_blob() {
        let whole = part_bytes(1);
        let [first, last] = [block(1, whole), block(2, 5)];
        let other = "<Block><Name>b3RoZXI=</Name><Size>7</Size></Block>";
        check_blocks(&upload(), &list("", &format!("{other}{last}{first}"))).unwrap();
        check_refused(&list("", &first), "part 2 was not received");
        check_refused(&list("", &format!("{first}{}", block(2, 6))), "part 2 has 6 bytes instead of 5");
        check_refused(&list("", &format!("{}{last}", block(1, whole + 1))), "part 1 has");
        check_refused("", "part 1 was not received");
        // A repeated request finds the blocks committed.
        check_blocks(&upload(), &list(&format!("{first}{last}"), other)).unwrap();
        check_refused(&list(&format!("{first}{last}"), &block(2, 9)), "part 2 has 9 bytes");
    }
}
