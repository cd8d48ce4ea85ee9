//! Uploads that stop after their first bytes. They are streams of HTTP/2, because a connection for each upload would
//! reach the limit on connections first.

use std::convert::Infallible;

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use http_body_util::StreamBody;
use hyper::{
    Request, Uri,
    body::Frame,
    client::conn::http2::{self, Connection, SendRequest},
    header::CONTENT_LENGTH,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// Bytes of an upload that are sent.
const SENT_BYTES: usize = 1_000;

/// The first bytes of an upload, and no end.
pub type FirstBytes = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

pub type Sender = SendRequest<FirstBytes>;

/// A connection that sends and receives while it is polled.
pub type UploadConnection = Connection<TokioIo<TcpStream>, FirstBytes, TokioExecutor>;

pub async fn handshake(socket: TcpStream) -> hyper::Result<(Sender, UploadConnection)> {
    http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await
}

/// An upload to a signed URL that announces this many bytes.
pub fn request(url: Uri, announced_bytes: usize) -> Request<FirstBytes> {
    let first = Frame::data(Bytes::from_static(&[7; SENT_BYTES]));
    let body = stream::iter([Ok(first)]).chain(stream::pending()).boxed();
    Request::put(url)
        .header(CONTENT_LENGTH, announced_bytes)
        .body(StreamBody::new(body))
        .expect("the request is valid")
}
