//! A client's connection below hyper, with a time limit for the first bytes, and small reads at first.
//! hyper waits without limit for the bytes that distinguish HTTP/1 from HTTP/2; after those, each
//! protocol has its own timeouts. hyper also enlarges its buffer as long as reads fill it, which adds up
//! if a thousand bodies wait for memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// The client preface of HTTP/2. No HTTP/1 request starts with it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Maximum size of the first reads.
const FIRST_READ_BYTES: usize = 16 << 10;

/// Number of bytes of a connection that are read by such small reads. Later, larger reads save CPU time of
/// uploads.
const FIRST_BYTES: usize = 1 << 20;

/// A stream whose reads fail if the client does not reveal its protocol in time.
pub(crate) struct ClientStream<S> {
    stream: S,
    detection: Option<ProtocolDetection>,
    /// Number of bytes that are still read in small pieces.
    first_bytes_left: usize,
}

struct ProtocolDetection {
    deadline: Pin<Box<Sleep>>,
    /// Number of bytes of the preface received so far.
    matched: usize,
}

impl<S> ClientStream<S> {
    pub(crate) fn new(stream: S, timeout: Duration) -> Self {
        ClientStream {
            stream,
            detection: Some(ProtocolDetection { deadline: Box::pin(sleep(timeout)), matched: 0 }),
            first_bytes_left: FIRST_BYTES,
        }
    }
}

impl ProtocolDetection {
    /// Returns whether the protocol is still undecided after these bytes.
    fn is_undecided(&mut self, bytes: &[u8]) -> bool {
        let is_preface = PREFACE[self.matched..].starts_with(bytes);
        self.matched += bytes.len();
        is_preface && self.matched < PREFACE.len()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let filled = buffer.filled().len();
        if this.first_bytes_left == 0 {
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        let size = buffer.remaining().min(FIRST_READ_BYTES);
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(size));
        let read = Pin::new(&mut this.stream).poll_read(context, &mut part);
        let bytes = part.filled().len();
        buffer.advance(bytes);
        this.first_bytes_left = this.first_bytes_left.saturating_sub(bytes);
        let Some(detection) = &mut this.detection else { return read };
        if read.is_pending() {
            // Polling the timer also registers the wake-up that ends the wait of an idle client.
            ready!(detection.deadline.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if !detection.is_undecided(&buffer.filled()[filled..]) {
            this.detection = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::timeout;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// A stream from which `bytes` have been read, and its client.
    async fn started_stream(bytes: &[u8]) -> (ClientStream<DuplexStream>, DuplexStream) {
        let (mut client, stream) = duplex(64);
        let mut stream = ClientStream::new(stream, TIMEOUT);
        for byte in bytes {
            client.write_u8(*byte).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), *byte);
        }
        (stream, client)
    }

    #[tokio::test(start_paused = true)]
    async fn the_protocol_must_be_known_in_time() {
        for bytes in [&b""[..], b"P", &PREFACE[..23]] {
            let (mut stream, _client) = started_stream(bytes).await;
            assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut, "{bytes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_whose_protocol_is_known_may_be_idle() {
        for bytes in [PREFACE, b"G", b"PU"] {
            let (mut stream, _client) = started_stream(bytes).await;
            timeout(10 * TIMEOUT, stream.read_u8()).await.unwrap_err();
        }
    }
}
