//! Memory for request bodies that are being read, of REST and gRPC. All connections of a port
//! share a budget, and each has at most an eighth of it, so that one cannot take the memory of
//! all. Small bodies need no share. A sender that holds a share while others wait must send at a
//! minimum rate, or loses it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};
use matyan_proto::limits::MESSAGE_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Bodies up to this size are read regardless of the budget.
const SMALL_BYTES: usize = 64 << 10;

/// Parts of the budget that a connection may have.
const CONNECTION_PART: usize = 8;

/// Length of the prefix of a gRPC message: a flag, and the size of the message.
const PREFIX_BYTES: usize = 5;

/// Time over which a rate is measured.
const WINDOW: Duration = Duration::from_secs(10);

/// Minimum number of bytes in that time, of a sender for which others wait: 50 kB/s.
const WINDOW_BYTES: usize = 500_000;

/// The budget of a port.
#[derive(Clone)]
pub(crate) struct BodyBudget {
    port: Arc<Semaphore>,
    bytes: usize,
    waiting: Arc<AtomicUsize>,
}

/// The share of a connection, in the extensions of its requests.
#[derive(Clone)]
pub(crate) struct ConnectionBudget(Arc<Semaphore>);

impl BodyBudget {
    /// At least one body of maximum size fits for each connection.
    pub(crate) fn new(bytes: usize) -> Self {
        let bytes = bytes.clamp(CONNECTION_PART * MESSAGE_BYTES, Semaphore::MAX_PERMITS);
        BodyBudget { port: Arc::new(Semaphore::new(bytes)), bytes, waiting: Arc::default() }
    }

    pub(crate) fn of_connection(&self) -> ConnectionBudget {
        ConnectionBudget(Arc::new(Semaphore::new(self.bytes / CONNECTION_PART)))
    }

    /// Returns whether a body waits for memory that others hold.
    pub(crate) fn is_contended(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Waits for memory. Of the connection first: a connection that waits for its own bodies
    /// holds nothing that others need.
    async fn take(self, connection: ConnectionBudget, bytes: usize) -> Permits {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let closed = "the semaphore is never closed";
        let own = connection.0.acquire_many_owned(permits).await.expect(closed);
        let _waiting = WaitingBody::new(&self.waiting);
        [own, self.port.acquire_many_owned(permits).await.expect(closed)]
    }
}

/// Counts a body that waits, until it is dropped.
struct WaitingBody<'a>(&'a AtomicUsize);

impl<'a> WaitingBody<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        WaitingBody(count)
    }
}

impl Drop for WaitingBody<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

type Permits = [OwnedSemaphorePermit; 2];

/// The memory of one body. All of it is taken at once, so that no two bodies wait for each other.
pub(crate) struct BodyShare {
    budget: BodyBudget,
    connection: ConnectionBudget,
    /// The announced size, or the maximum.
    expected: usize,
    bytes: usize,
    held: Option<Permits>,
    waiting: Option<BoxFuture<'static, Permits>>,
    rate: SendRate,
}

impl BodyShare {
    pub(crate) fn new(budget: BodyBudget, connection: Option<&ConnectionBudget>) -> Self {
        let connection = connection.cloned().unwrap_or_else(|| budget.of_connection());
        BodyShare {
            budget,
            connection,
            expected: MESSAGE_BYTES,
            bytes: 0,
            held: None,
            waiting: None,
            rate: SendRate::default(),
        }
    }

    /// Notes the size that the sender has announced.
    pub(crate) fn expect(&mut self, bytes: usize) {
        self.expected = bytes.min(MESSAGE_BYTES);
    }

    /// Counts bytes that have been read.
    pub(crate) fn received(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.rate.received(bytes);
    }

    /// Waits for memory, once a body has become large.
    pub(crate) fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.bytes <= SMALL_BYTES || self.held.is_some() {
            return Poll::Ready(());
        }
        let (budget, connection, expected) = (&self.budget, &self.connection, self.expected);
        let take = || Box::pin(budget.clone().take(connection.clone(), expected)) as BoxFuture<'_, _>;
        let waiting = self.waiting.get_or_insert_with(take);
        self.held = Some(ready!(waiting.as_mut().poll(context)));
        self.waiting = None;
        Poll::Ready(())
    }

    /// Ready if the sender has to give up its memory. Polled while nothing arrives.
    pub(crate) fn poll_too_slow(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.held.is_none() {
            return Poll::Pending;
        }
        let budget = &self.budget;
        self.rate.poll_too_slow(context, || budget.is_contended())
    }

    /// Gives back the memory: the bytes have been passed on.
    fn release(&mut self) {
        (self.held, self.bytes, self.rate) = (None, 0, SendRate::default());
    }
}

/// The rate at which a sender has sent recently.
#[derive(Default)]
pub(crate) struct SendRate {
    window: Option<Pin<Box<Sleep>>>,
    bytes: usize,
}

impl SendRate {
    pub(crate) fn received(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Ready if too little has arrived in a window, and others wait at its end. Polled while
    /// nothing arrives.
    pub(crate) fn poll_too_slow(
        &mut self,
        context: &mut Context<'_>,
        is_contended: impl Fn() -> bool,
    ) -> Poll<()> {
        let window = self.window.get_or_insert_with(|| Box::pin(sleep(WINDOW)));
        while window.as_mut().poll(context).is_ready() {
            if std::mem::take(&mut self.bytes) < WINDOW_BYTES && is_contended() {
                return Poll::Ready(());
            }
            window.as_mut().reset(Instant::now() + WINDOW);
        }
        Poll::Pending
    }
}

/// The body of a gRPC call, whose current message is charged to the budget until it is complete.
pub(crate) fn metered(body: Body, budget: BodyBudget, connection: Option<&ConnectionBudget>) -> Body {
    Body::new(MeteredBody {
        body,
        share: BodyShare::new(budget, connection),
        framing: Framing::default(),
        frame: None,
    })
}

struct MeteredBody {
    body: Body,
    share: BodyShare,
    framing: Framing,
    /// A frame that waits for memory.
    frame: Option<Frame<Bytes>>,
}

/// The position in a stream of gRPC messages.
#[derive(Default)]
struct Framing {
    prefix: [u8; PREFIX_BYTES],
    prefix_bytes: usize,
    /// Bytes that the current message still lacks.
    left: usize,
}

impl Framing {
    /// Follows the bytes; returns how many of them belong to the last message, and its size if it
    /// began in them and its size is known.
    fn follow(&mut self, mut bytes: &[u8]) -> (usize, Option<usize>) {
        let (mut of_last, mut size) = (0, None);
        while !bytes.is_empty() {
            let taken = if self.left > 0 {
                let taken = bytes.len().min(self.left);
                self.left -= taken;
                taken
            } else {
                if self.prefix_bytes == 0 {
                    of_last = 0;
                }
                let taken = bytes.len().min(PREFIX_BYTES - self.prefix_bytes);
                self.prefix[self.prefix_bytes..][..taken].copy_from_slice(&bytes[..taken]);
                self.prefix_bytes += taken;
                if self.prefix_bytes == PREFIX_BYTES {
                    self.prefix_bytes = 0;
                    self.left = (&self.prefix[1..]).get_u32() as usize;
                    size = Some(self.left);
                }
                taken
            };
            of_last += taken;
            bytes = &bytes[taken..];
        }
        (of_last, size)
    }

    /// Returns whether the last message is complete.
    fn is_between_messages(&self) -> bool {
        self.left == 0 && self.prefix_bytes == 0
    }
}

impl HttpBody for MeteredBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.frame.is_none() {
            match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(data) = frame.data_ref() {
                        let (bytes, size) = this.framing.follow(data);
                        if let Some(size) = size {
                            this.share.release();
                            this.share.expect(size);
                        }
                        this.share.received(bytes);
                    }
                    this.frame = Some(frame);
                }
                Poll::Ready(other) => return Poll::Ready(other),
                Poll::Pending => {
                    ready!(this.share.poll_too_slow(context));
                    return Poll::Ready(Some(Err(axum::Error::new(too_slow()))));
                }
            }
        }
        ready!(this.share.poll_take(context));
        if this.framing.is_between_messages() {
            this.share.release();
        }
        Poll::Ready(this.frame.take().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frame.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The error of a sender that has lost its share.
pub(crate) fn too_slow() -> io::Error {
    let message = format!(
        "others wait for the memory of this body, and less than {} kB/s of it arrived: send it again",
        WINDOW_BYTES / 1_000 / WINDOW.as_secs() as usize
    );
    io::Error::new(io::ErrorKind::TimedOut, message)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use http_body_util::BodyExt;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    /// A smallest possible budget, and a connection.
    fn budget() -> (BodyBudget, ConnectionBudget) {
        let budget = BodyBudget::new(0);
        let connection = budget.of_connection();
        (budget, connection)
    }

    /// A body that is sent by the test.
    fn sent_body() -> (mpsc::Sender<Bytes>, Body) {
        let (sender, pieces) = mpsc::channel(1_000);
        (sender, Body::from_stream(ReceiverStream::new(pieces).map(Ok::<_, io::Error>)))
    }

    fn prefix(bytes: u32) -> Bytes {
        let mut prefix = vec![0];
        prefix.extend_from_slice(&bytes.to_be_bytes());
        prefix.into()
    }

    #[test]
    fn messages_are_followed_over_frames() {
        let mut framing = Framing::default();
        let check =
            |framing: &mut Framing, bytes: &[u8], expected: (usize, Option<usize>), is_between: bool| {
                assert_eq!((framing.follow(bytes), framing.is_between_messages()), (expected, is_between));
            };
        check(&mut framing, &[0, 0], (2, None), false);
        check(&mut framing, &[0, 0, 3], (3, Some(3)), false);
        check(&mut framing, &[1, 1], (2, None), false);
        check(&mut framing, &[1], (1, None), true);
        // The end of one message, an empty one, and the beginning of a third.
        check(&mut framing, &[0, 0, 0, 0, 2, 1], (6, Some(2)), false);
        check(&mut framing, &[1, 0, 0, 0, 0, 0, 0, 0], (2, Some(0)), false);
        check(&mut framing, &[0, 0, 9, 1], (4, Some(9)), false);
    }

    #[tokio::test]
    async fn a_connection_waits_for_its_own_bodies_and_others_do_not() {
        let (budget, connection) = budget();
        let begin = async |connection: &ConnectionBudget| {
            let (sender, body) = sent_body();
            let mut body = metered(body, budget.clone(), Some(connection));
            sender.send(prefix(MESSAGE_BYTES as u32)).await.unwrap();
            sender.send(vec![0; MESSAGE_BYTES - 1].into()).await.unwrap();
            body.frame().await.unwrap().unwrap();
            (sender, body)
        };
        let (first_sender, mut first) = begin(&connection).await;
        first.frame().await.unwrap().unwrap();
        // Half a message of maximum size is the whole share of its connection.
        let (_sender, mut second) = begin(&connection).await;
        assert!(futures::poll!(std::pin::pin!(second.frame())).is_pending());
        let (_sender, mut other) = begin(&budget.of_connection()).await;
        other.frame().await.unwrap().unwrap();
        // The end of the message gives its memory back.
        first_sender.send(vec![0].into()).await.unwrap();
        first.frame().await.unwrap().unwrap();
        second.frame().await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_sender_loses_its_share_if_others_wait() {
        let (budget, _) = budget();
        let mut slow = Vec::new();
        for _ in 0..CONNECTION_PART {
            let (sender, body) = sent_body();
            let mut body = metered(body, budget.clone(), Some(&budget.of_connection()));
            sender.send(prefix(MESSAGE_BYTES as u32)).await.unwrap();
            sender.send(vec![0; MESSAGE_BYTES - 1].into()).await.unwrap();
            body.frame().await.unwrap().unwrap();
            body.frame().await.unwrap().unwrap();
            slow.push((sender, body));
        }
        let (_, stalled) = &mut slow[0];
        let patient = tokio::time::timeout(100 * WINDOW, stalled.frame()).await;
        assert!(patient.is_err(), "no other body waits");

        let (sender, body) = sent_body();
        let mut body = metered(body, budget.clone(), Some(&budget.of_connection()));
        sender.send(prefix(MESSAGE_BYTES as u32)).await.unwrap();
        sender.send(vec![0; MESSAGE_BYTES - 1].into()).await.unwrap();
        body.frame().await.unwrap().unwrap();
        let waiting = tokio::spawn(async move { body.frame().await.unwrap().is_ok() });
        let (_stalled_sender, mut stalled) = slow.swap_remove(0);
        let error = stalled.frame().await.unwrap().unwrap_err();
        assert!(error.to_string().contains("50 kB/s"), "{error}");
        drop(stalled);
        assert!(waiting.await.unwrap(), "its memory is free");
    }
}
