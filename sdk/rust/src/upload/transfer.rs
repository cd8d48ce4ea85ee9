//! One upload to the blob store: a URL from the gateway, then one PUT that streams the file, with
//! its BLAKE3 hash computed on the way.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use matyan_value::{
    Map, Value,
    json::{self, JsonStyle},
};
use object_store_http::{
    Body, Method,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
};

use super::{
    content_file::{ContentFile, FileVersion, TransferError},
    target::UploadTarget,
};
use crate::{
    http::{HttpClient, HttpError, RestRequest, malformed},
    locks::lock,
};

const PRESIGN: &str = "/api/v1/rest/artifacts/presign";

/// Size of the pieces in which a file is read and sent.
const PIECE_BYTES: usize = 256 << 10;

/// Size and hash of the uploaded content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UploadedContent {
    pub(super) size: u64,
    /// BLAKE3.
    pub(super) hash: [u8; 32],
}

/// A file, and its path within a run.
pub(super) struct Artifact<'a> {
    pub(super) run_id: &'a str,
    pub(super) path: &'a str,
    pub(super) content_type: &'a str,
    pub(super) file: &'a ContentFile,
    /// Version of the file that is uploaded.
    pub(super) version: FileVersion,
}

impl Artifact<'_> {
    /// Members that describe it in requests.
    pub(super) fn members(&self) -> Map {
        let members =
            [("run_id", self.run_id), ("artifact_path", self.path), ("content_type", self.content_type)];
        members.into_iter().map(|(key, text)| (key.to_owned(), Value::Text(text.to_owned()))).collect()
    }

    /// Fails if the file is not the version any more that is uploaded.
    pub(super) fn check_unchanged(&self) -> Result<(), TransferError> {
        if self.file.version()? == self.version { Ok(()) } else { Err(TransferError::FileChanged) }
    }
}

/// A range of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct FilePiece {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Uploads a file in one request.
pub(super) async fn upload(
    gateway: &HttpClient,
    artifact: &Artifact<'_>,
) -> Result<UploadedContent, TransferError> {
    let target = presign(gateway, artifact).await?;
    let size = artifact.version.size;
    let whole = FilePiece { offset: 0, length: size };
    let (_, hasher) = put_file(gateway, target, artifact.file, whole, blake3::Hasher::new()).await?;
    artifact.check_unchanged()?;
    Ok(UploadedContent { size, hash: *hasher.finalize().as_bytes() })
}

async fn presign(gateway: &HttpClient, artifact: &Artifact<'_>) -> Result<UploadTarget, HttpError> {
    let mut members = artifact.members();
    let size = i64::try_from(artifact.version.size).unwrap_or(i64::MAX);
    members.insert("size".to_owned(), Value::Integer(size));
    let body = json::map_text(&members, JsonStyle::STRICT);
    let answer = gateway.short_json(&RestRequest::json(Method::POST, PRESIGN, body)).await?;
    let Ok(Value::Map(answer)) = answer.parse() else {
        return Err(malformed(PRESIGN, "an answer that is not a JSON object"));
    };
    let mut target = UploadTarget::read(gateway, PRESIGN, &answer).await?;
    let content_type = HeaderValue::from_str(artifact.content_type);
    let content_type =
        content_type.map_err(|_| malformed(PRESIGN, "a content type that is not valid in a header"))?;
    target.headers.entry(CONTENT_TYPE).or_insert(content_type);
    Ok(target)
}

pub(super) fn member_text(answer: &Map, name: &str) -> Option<String> {
    match answer.get(name) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    }
}

/// Sends a piece of a file, and returns the headers of the answer and the hasher of the content.
pub(super) async fn put_file(
    client: &HttpClient,
    target: UploadTarget,
    content: &ContentFile,
    piece: FilePiece,
    hasher: blake3::Hasher,
) -> Result<(HeaderMap, blake3::Hasher), TransferError> {
    let failed = |source| content.failed(source);
    let mut file = File::open(content.path()).await.map_err(failed)?;
    content.check_identity(&file.metadata().await.map_err(failed)?)?;
    file.seek(io::SeekFrom::Start(piece.offset)).await.map_err(failed)?;
    let sent = Arc::new(SentContent {
        hasher: Mutex::new(hasher),
        pieces: AtomicU64::new(0),
        is_short: AtomicBool::new(false),
    });
    let is_of_gateway = target.is_of(client);
    let body = Body::wrap_stream(pieces(file, piece.length, sent.clone()));
    let put = client.put(target.url.as_str(), target.headers, piece.length, body);
    let outcome = tokio::select! {
        outcome = put => outcome,
        () = sent.stalled(client) => {
            // The query of the URL is a credential.
            let url = target.url.as_str().split('?').next().unwrap_or_default().to_owned();
            Err(HttpError::TimedOut { url, after: client.timeouts().silence })
        }
    };
    if sent.is_short.load(Ordering::Relaxed) {
        return Err(TransferError::FileChanged);
    }
    let hasher = lock(&sent.hasher).clone();
    let headers = outcome.map_err(|error| if is_of_gateway { error } else { of_store(error) })?;
    Ok((headers, hasher))
}

/// The refusal of a store without its code: only the gateway says by a code that a file can never be stored.
fn of_store(error: HttpError) -> HttpError {
    match error {
        HttpError::Refused { status, message, .. } => {
            HttpError::Refused { status, code: String::new(), message }
        }
        other => other,
    }
}

/// Bytes that have been handed to the connection.
struct SentContent {
    hasher: Mutex<blake3::Hasher>,
    pieces: AtomicU64,
    /// Whether the file ended before its announced size.
    is_short: AtomicBool,
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

/// The announced number of bytes of a file. A file that has become shorter is an error; bytes that
/// were appended since are not sent.
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
                sent.is_short.store(true, Ordering::Relaxed);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter"));
            }
            sent.add(&piece);
            let left = left - piece.len() as u64;
            Ok(Some((Bytes::from(piece), (file, left))))
        }
    })
}
