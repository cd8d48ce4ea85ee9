//! Artifacts of a run: a single one, or all as an archive. Bytes are passed through as they
//! arrive.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderValue, header};
use matyan_proto::artifacts::v1::get_response::Message;
use matyan_proto::artifacts::v1::{GetRequest, GetResponse, ZipRequest};
use schemars::JsonSchema;
use serde::Deserialize;
use std::io;
use std::sync::Arc;

use super::answer::Answer;
use super::call::Call;
use super::file::{self, FileDownload, FileInfo, FileSource, attachment, body, no_description, pieces};
use super::operation::Operation;
use super::shared::Id;
use crate::error::ApiResult;
use crate::services::Services;

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/runs/{id}/artifacts/download", "Download one artifact", download),
        Operation::get(
            "/runs/{id}/artifacts/download-all",
            "Download all artifacts of a run as a ZIP archive",
            download_all,
        ),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct ArtifactPath {
    id: String,
    path: String,
}

struct ZipDownload(Response);

impl Answer for ZipDownload {
    const MEDIA_TYPE: &str = "application/zip";

    fn into_response(self) -> Response {
        self.0
    }
}

/// An artifact. It may be replaced, so copies are checked again before they are used.
struct ArtifactSource {
    services: Arc<Services>,
    run_id: String,
    path: String,
}

impl FileSource for ArtifactSource {
    async fn open(&self, offset: u64, length: Option<u64>) -> ApiResult<(FileInfo, Body)> {
        let request = GetRequest { run_id: self.run_id.clone(), path: self.path.clone(), offset, length };
        let mut messages = self.services.backend().artifacts().get(request).await?.into_inner();
        let Some(GetResponse { message: Some(Message::Artifact(artifact)), version }) =
            messages.message().await?
        else {
            return Err(no_description("artifact"));
        };
        let body = body(messages, |it| match it.message {
            Some(Message::Chunk(chunk)) => chunk,
            _ => Bytes::new(),
        });
        let info = FileInfo {
            size: artifact.size,
            version,
            media_type: artifact.content_type,
            name: Some(artifact.path.rsplit('/').next().unwrap_or_default().to_owned()),
            caching: "private, no-cache",
        };
        Ok((info, body))
    }
}

/// Answers a request with these headers for an artifact.
#[cfg(feature = "mlflow")]
pub(crate) async fn artifact_response(
    services: Arc<Services>,
    headers: &http::HeaderMap,
    run_id: String,
    path: String,
) -> ApiResult<Response> {
    let source = ArtifactSource { services, run_id, path };
    Ok(file::answer(headers, &source).await?.into_response())
}

async fn download(call: Call<ArtifactPath>) -> ApiResult<FileDownload> {
    let ArtifactPath { id: run_id, path } = call.parameters;
    let source = ArtifactSource { services: call.services, run_id, path };
    file::answer(&call.head.headers, &source).await
}

async fn download_all(call: Call<Id>) -> ApiResult<ZipDownload> {
    let run_id = call.parameters.id;
    let request = ZipRequest { run_id: run_id.clone() };
    let mut messages = call.services.backend().artifacts().zip(request).await?.into_inner();
    // The first message is awaited before the status line, so that an unknown run is a 404.
    let first = messages.message().await?.map(|it| it.chunk).unwrap_or_default();
    let first = stream::iter([Ok::<_, io::Error>(first)]);
    let body = Body::from_stream(first.chain(pieces(messages, |it| it.chunk)));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(ZipDownload::MEDIA_TYPE));
    headers.insert(header::CONTENT_DISPOSITION, attachment(&format!("{run_id}-artifacts.zip")));
    Ok(ZipDownload(response))
}
