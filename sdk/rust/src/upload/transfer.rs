//! One upload to the blob store: a URL from the gateway, then one PUT that streams the file, with
//! its BLAKE3 hash computed on the way.
//!
//! `put_file` is the only place that knows how content is transferred: an upload in parts begins
//! there, by the size of the file.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use matyan_value::{
    Map, Value,
    json::{self, JsonStyle},
};
use object_store_http::{
    Body, Method,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use tokio::{fs::File, io::AsyncReadExt as _};

use crate::{
    http::{HttpClient, HttpError, RestRequest, malformed},
    locks::lock,
};

const PRESIGN: &str = "/api/v1/rest/artifacts/presign";

/// Size of the pieces in which a file is read and sent.
const PIECE_BYTES: usize = 256 << 10;

/// Size and hash of what was uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UploadedContent {
    pub(super) size: u64,
    /// BLAKE3.
    pub(super) hash: [u8; 32],
}

/// Where and how the gateway wants the content.
struct UploadTarget {
    url: String,
    headers: HeaderMap,
}

/// Uploads a file under a path of a run.
pub(super) async fn upload(
    gateway: &HttpClient,
    run_id: &str,
    path: &str,
    content_type: &str,
    file: &Path,
) -> Result<UploadedContent, HttpError> {
    let target = presign(gateway, run_id, path, content_type).await?;
    put_file(gateway, target, file).await
}

async fn presign(
    gateway: &HttpClient,
    run_id: &str,
    path: &str,
    content_type: &str,
) -> Result<UploadTarget, HttpError> {
    let members = [("run_id", run_id), ("artifact_path", path), ("content_type", content_type)];
    let members: Map =
        members.into_iter().map(|(key, text)| (key.to_owned(), Value::Text(text.to_owned()))).collect();
    let request = RestRequest::json(Method::POST, PRESIGN, json::map_text(&members, JsonStyle::STRICT));
    let answer = gateway.json(&request).await?;
    let unexpected = || malformed(PRESIGN, "an answer without a usable `upload_url`");
    let Ok(Value::Map(mut answer)) = answer.parse() else { return Err(unexpected()) };
    let Some(Value::Text(url)) = answer.remove("upload_url") else { return Err(unexpected()) };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_str(content_type).map_err(|_| unexpected())?);
    if let Some(Value::Map(more)) = answer.remove("headers") {
        for (name, value) in more {
            let Value::Text(value) = value else { return Err(unexpected()) };
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unexpected())?;
            headers.insert(name, HeaderValue::from_str(&value).map_err(|_| unexpected())?);
        }
    }
    Ok(UploadTarget { url, headers })
}

async fn put_file(
    client: &HttpClient,
    target: UploadTarget,
    path: &Path,
) -> Result<UploadedContent, HttpError> {
    let failed = |source| HttpError::File { path: path.to_owned(), source };
    let file = File::open(path).await.map_err(failed)?;
    let size = file.metadata().await.map_err(failed)?.len();
    let sent = Arc::new(SentContent::default());
    let body = Body::wrap_stream(pieces(file, size, sent.clone()));
    let put = client.put(&target.url, target.headers, size, body);
    tokio::select! {
        outcome = put => outcome?,
        () = sent.stalled(client) => {
            // The query of the URL is a credential.
            let url = target.url.split('?').next().unwrap_or_default().to_owned();
            return Err(HttpError::TimedOut { url, after: client.timeouts().silence });
        }
    }
    Ok(UploadedContent { size, hash: *lock(&sent.hasher).finalize().as_bytes() })
}

/// Bytes that have been handed to the connection.
#[derive(Default)]
struct SentContent {
    hasher: Mutex<blake3::Hasher>,
    pieces: AtomicU64,
}

impl SentContent {
    fn add(&self, piece: &[u8]) {
        lock(&self.hasher).update(piece);
        self.pieces.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns when no piece has been sent for the limit of silence.
    async fn stalled(&self, client: &HttpClient) {
        let mut before = None;
        loop {
            let now = Some(self.pieces.load(Ordering::Relaxed));
            if now == before {
                return;
            }
            before = now;
            tokio::time::sleep(client.timeouts().silence).await;
        }
    }
}

/// The announced number of bytes of a file. A file that has become shorter is an error; what was
/// appended to it is not sent.
fn pieces(
    file: File,
    size: u64,
    sent: Arc<SentContent>,
) -> impl futures::Stream<Item = io::Result<Bytes>> + Send + 'static {
    futures::stream::try_unfold((file.take(size), size), move |(mut file, left)| {
        let sent = sent.clone();
        async move {
            if left == 0 {
                return Ok(None);
            }
            let mut piece = Vec::with_capacity(PIECE_BYTES.min(left as usize));
            (&mut file).take(PIECE_BYTES as u64).read_to_end(&mut piece).await?;
            if piece.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter"));
            }
            sent.add(&piece);
            let left = left - piece.len() as u64;
            Ok(Some((Bytes::from(piece), (file, left))))
        }
    })
}
