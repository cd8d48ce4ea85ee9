//! Memory for request bodies of REST and gRPC, from their first bytes until the service has answered, has
//! sent a stream of responses, or asks for the next message: a body may wait for its service. All
//! connections of a port share a budget, and each has at most an eighth of it, so that one cannot take the
//! memory of all. Small bodies have a budget of their own, and never wait for large ones. A sender that holds
//! a share while others wait must send at a minimum rate, or loses it. `unread_response` has the memory of the
//! request of a stream of responses.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};
use matyan_proto::limits::MESSAGE_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::Status;

use crate::slow_sender::{Demand, SendRate, too_slow};

/// Bodies up to this size are read regardless of the budgets.
const TINY_BYTES: usize = 4 << 10;

/// Bodies up to this size have their own budget.
const SMALL_BYTES: usize = 64 << 10;

/// The budget of small bodies: 128 of the largest size for each connection.
const SMALL_BUDGET_BYTES: usize = 64 << 20;

/// Parts of a budget that a connection may have.
const CONNECTION_PART: usize = 8;

/// Length of the prefix of a gRPC message: a flag, and the size of the message.
const PREFIX_BYTES: usize = 5;

/// The longest wait for other bodies of the same connection. Bodies that wait fill the window of an HTTP/2
/// connection, so that those they wait for may never arrive.
const OWN_WAIT: Duration = Duration::from_secs(10);

/// The budgets of a port.
#[derive(Clone)]
pub(crate) struct BodyBudget {
    small: SizeBudget,
    large: SizeBudget,
}

/// The budget for bodies of some size.
#[derive(Clone)]
struct SizeBudget {
    port: Arc<Semaphore>,
    bytes: usize,
    demand: Demand,
}

/// The parts of a connection, in the extensions of its requests.
#[derive(Clone)]
pub(crate) struct ConnectionBudget {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    /// Number of bodies that wait for others of the connection.
    waiting: Arc<AtomicUsize>,
}

/// Counts a waiting body until it is dropped.
struct WaitingBody(Arc<AtomicUsize>);

impl WaitingBody {
    fn new(waiting: Arc<AtomicUsize>) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        WaitingBody(waiting)
    }
}

impl Drop for WaitingBody {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodySize {
    Small,
    Large,
}

impl BodyBudget {
    /// Returns the budgets, with this number of bytes for large bodies. At least one of maximum size fits
    /// for each connection.
    pub(crate) fn new(bytes: usize) -> Self {
        let bytes = bytes.clamp(CONNECTION_PART * MESSAGE_BYTES, Semaphore::MAX_PERMITS);
        BodyBudget { small: SizeBudget::new(SMALL_BUDGET_BYTES), large: SizeBudget::new(bytes) }
    }

    pub(crate) fn of_connection(&self) -> ConnectionBudget {
        ConnectionBudget {
            small: self.small.of_connection(),
            large: self.large.of_connection(),
            waiting: Arc::default(),
        }
    }

    fn of_size(&self, size: BodySize) -> &SizeBudget {
        match size {
            BodySize::Small => &self.small,
            BodySize::Large => &self.large,
        }
    }

    /// Waits for memory. Of the connection first: a connection that waits for its own bodies
    /// holds nothing that others need.
    async fn take(
        self,
        connection: ConnectionBudget,
        size: BodySize,
        bytes: usize,
    ) -> Result<Permits, Status> {
        let budget = self.of_size(size);
        let ConnectionBudget { small, large, waiting } = connection;
        let connection = match size {
            BodySize::Small => small,
            BodySize::Large => large,
        };
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let closed = "the semaphore is never closed";
        let own = {
            let _waiting = WaitingBody::new(waiting);
            timeout(OWN_WAIT, connection.acquire_many_owned(permits)).await
        };
        let own = own.map_err(|_| Status::unavailable(CONNECTION_FULL))?.expect(closed);
        let _waiting = budget.demand.wait(bytes);
        Ok([own, budget.port.clone().acquire_many_owned(permits).await.expect(closed)])
    }
}

impl SizeBudget {
    fn new(bytes: usize) -> Self {
        SizeBudget { port: Arc::new(Semaphore::new(bytes)), bytes, demand: Demand::default() }
    }

    fn of_connection(&self) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(self.bytes / CONNECTION_PART))
    }
}

const CONNECTION_FULL: &str =
    "other requests of this connection take its memory: send fewer at a time, and retry";

/// The memory of a message: of its connection, and of the port.
pub(crate) type Permits = [OwnedSemaphorePermit; 2];

/// The memory of one body. All of it is taken at once, so that no two bodies wait for each other.
pub(crate) struct BodyShare {
    budget: BodyBudget,
    connection: ConnectionBudget,
    /// The size that the sender has announced.
    expected: Option<usize>,
    bytes: usize,
    held: Option<(BodySize, Permits)>,
    waiting: Option<BoxFuture<'static, Result<Permits, Status>>>,
    rate: SendRate,
}

impl BodyShare {
    pub(crate) fn new(budget: BodyBudget, connection: Option<&ConnectionBudget>) -> Self {
        let connection = connection.cloned().unwrap_or_else(|| budget.of_connection());
        BodyShare {
            budget,
            connection,
            expected: None,
            bytes: 0,
            held: None,
            waiting: None,
            rate: SendRate::default(),
        }
    }

    /// Notes the size that the sender has announced.
    pub(crate) fn expect(&mut self, bytes: usize) {
        self.expected = Some(bytes.min(MESSAGE_BYTES));
    }

    /// Counts bytes that have been read.
    pub(crate) fn received(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.rate.received(bytes);
    }

    /// Waits for memory, once a body is no longer tiny.
    pub(crate) fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let held = self.held.as_ref().map(|(size, _)| *size);
        let Some((size, bytes)) = self.needed().filter(|(size, _)| held != Some(*size)) else {
            return Poll::Ready(Ok(()));
        };
        // A body that has become large does not keep small ones waiting.
        self.held = None;
        let (budget, connection) = (&self.budget, &self.connection);
        let take = || Box::pin(budget.clone().take(connection.clone(), size, bytes)) as BoxFuture<'_, _>;
        let waiting = self.waiting.get_or_insert_with(take);
        let taken = ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        self.held = Some((size, taken?));
        Poll::Ready(Ok(()))
    }

    /// The memory that the body needs: of its whole announced size at once, or as much as one of
    /// unknown size may still take.
    fn needed(&self) -> Option<(BodySize, usize)> {
        match self.expected {
            _ if self.is_tiny() => None,
            Some(bytes) if bytes > SMALL_BYTES => Some((BodySize::Large, bytes)),
            Some(bytes) => Some((BodySize::Small, bytes)),
            None if self.bytes > SMALL_BYTES => Some((BodySize::Large, MESSAGE_BYTES)),
            None => Some((BodySize::Small, SMALL_BYTES)),
        }
    }

    /// Ready if the sender has to give up its memory. Polled while nothing arrives.
    pub(crate) fn poll_too_slow(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some((size, [_, of_port])) = &self.held else { return Poll::Pending };
        let demand = &self.budget.of_size(*size).demand;
        // Bodies that wait may fill the window of the connection, so that nothing else arrives.
        let is_blameless = self.connection.waiting.load(Ordering::Relaxed) > 0;
        self.rate.poll_too_slow(context, is_blameless, of_port.num_permits(), demand)
    }

    fn is_tiny(&self) -> bool {
        self.bytes <= TINY_BYTES
    }

    /// Takes the memory of the last message out of the share, for a stream of responses. The memory of a
    /// small one is given back: streams that are not read would keep that of all others.
    pub(crate) fn take_large(&mut self) -> Option<Permits> {
        let (size, permits) = self.held.take()?;
        (size == BodySize::Large).then_some(permits)
    }

    /// Gives back the memory of a message.
    fn release(&mut self) {
        (self.held, self.expected, self.bytes, self.rate) = (None, None, 0, SendRate::default());
    }
}

/// The share of a call, which the body of the call takes memory for.
pub(crate) type CallShare = Arc<Mutex<BodyShare>>;

/// Messages of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Messages {
    /// Its memory is kept as long as the share, because the body ends before its service begins.
    One,
    /// The memory of each is kept until the service asks for the next one.
    Many,
}

/// The body of a gRPC call, whose messages are charged to the share.
pub(crate) fn metered(body: Body, share: CallShare, messages: Messages) -> Body {
    let (framing, data) = (Framing::default(), Bytes::new());
    Body::new(MeteredBody { body, share, messages, framing, data, piece_bytes: 0 })
}

struct MeteredBody {
    body: Body,
    share: CallShare,
    messages: Messages,
    framing: Framing,
    /// Received, and not passed on yet.
    data: Bytes,
    /// Bytes at its beginning that are charged to the share, and passed on next.
    piece_bytes: usize,
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
    /// Follows the bytes to the end of the current message; returns how many belong to it, and its
    /// size once that is known.
    fn follow(&mut self, mut bytes: &[u8]) -> (usize, Option<usize>) {
        let (mut of_message, mut size) = (0, None);
        while !bytes.is_empty() {
            let taken = if self.left > 0 {
                let taken = bytes.len().min(self.left);
                self.left -= taken;
                taken
            } else {
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
            of_message += taken;
            bytes = &bytes[taken..];
            if self.is_between_messages() {
                break;
            }
        }
        (of_message, size)
    }

    /// Returns whether the last message is complete.
    fn is_between_messages(&self) -> bool {
        self.left == 0 && self.prefix_bytes == 0
    }
}

impl MeteredBody {
    /// Charges the next piece of the data to the share. A piece ends with a message that is not tiny, which
    /// keeps its memory until more is asked for.
    fn charge_piece(&mut self, share: &mut BodyShare) {
        while self.piece_bytes < self.data.len() {
            if self.framing.is_between_messages() {
                if !share.is_tiny() && self.piece_bytes > 0 {
                    return;
                }
                if self.messages == Messages::Many {
                    share.release();
                }
            }
            let (bytes, size) = self.framing.follow(&self.data[self.piece_bytes..]);
            if let Some(size) = size {
                share.expect(size);
            }
            share.received(bytes);
            self.piece_bytes += bytes;
        }
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
        let share = this.share.clone();
        let mut share = share.lock().unwrap_or_else(PoisonError::into_inner);
        if this.data.is_empty() {
            if this.messages == Messages::Many && this.framing.is_between_messages() {
                share.release();
            }
            match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => this.data = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Poll::Ready(other) => return Poll::Ready(other),
                Poll::Pending => {
                    ready!(share.poll_too_slow(context));
                    return Poll::Ready(Some(Err(axum::Error::new(too_slow()))));
                }
            }
        }
        if this.piece_bytes == 0 {
            this.charge_piece(&mut share);
        }
        if let Err(full) = ready!(share.poll_take(context)) {
            return Poll::Ready(Some(Err(axum::Error::new(full))));
        }
        let piece = this.data.split_to(std::mem::take(&mut this.piece_bytes));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io;

    use futures::StreamExt;
    use http_body_util::BodyExt;
    use tokio::sync::mpsc;
    use tokio::time::sleep;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;
    use crate::slow_sender::WINDOW;
    use crate::unread_response::{UNREAD, drop_if_unread};

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

    /// The body of a call with many messages.
    fn metered_messages(body: Body, budget: &BodyBudget, connection: &ConnectionBudget) -> Body {
        let share = BodyShare::new(budget.clone(), Some(connection));
        metered(body, CallShare::new(Mutex::new(share)), Messages::Many)
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
        // The end of a message, before the next one begins.
        check(&mut framing, &[1, 0], (1, None), true);
        check(&mut framing, &[0, 0, 0, 0, 2, 1, 1, 0], (7, Some(2)), true);
        check(&mut framing, &[0, 0, 0, 0, 0, 0], (5, Some(0)), true);
        check(&mut framing, &[0, 0, 0, 0, 9, 1], (6, Some(9)), false);
    }

    #[tokio::test]
    async fn a_connection_waits_for_its_own_bodies_and_others_do_not() {
        let (budget, connection) = budget();
        let begin = async |connection: &ConnectionBudget| {
            let (sender, body) = sent_body();
            let mut body = metered_messages(body, &budget, connection);
            sender.send(prefix(MESSAGE_BYTES as u32)).await.unwrap();
            sender.send(vec![0; MESSAGE_BYTES - 1].into()).await.unwrap();
            body.frame().await.unwrap().unwrap();
            (sender, body)
        };
        let (first_sender, mut first) = begin(&connection).await;
        first.frame().await.unwrap().unwrap();
        // A message of maximum size is the whole share of its connection.
        let (_sender, mut second) = begin(&connection).await;
        assert!(futures::poll!(std::pin::pin!(second.frame())).is_pending());
        let (_sender, mut other) = begin(&budget.of_connection()).await;
        other.frame().await.unwrap().unwrap();
        // The service has the whole message, and keeps it until it asks for another. It arrived
        // together with the beginning of that.
        first_sender.send([&[0][..], &prefix(1)].concat().into()).await.unwrap();
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap().len(), 1);
        assert!(futures::poll!(std::pin::pin!(second.frame())).is_pending());
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap().len(), PREFIX_BYTES);
        second.frame().await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn small_bodies_wait_for_small_ones_of_their_connection_only() {
        let (budget, connection) = budget();
        let message = |bytes: usize| [&prefix(bytes as u32)[..], &vec![0; bytes]].concat();
        let take = async |bytes: usize, connection: &ConnectionBudget| {
            let share = BodyShare::new(budget.clone(), Some(connection));
            let share = CallShare::new(Mutex::new(share));
            let body = metered(message(bytes).into(), share.clone(), Messages::One);
            body.collect().await.unwrap();
            share
        };
        let mut held = Vec::new();
        let share = take(SMALL_BYTES / 2, &connection).await;
        assert!(share.lock().unwrap().take_large().is_none());
        for _ in 0..SMALL_BUDGET_BYTES / CONNECTION_PART / SMALL_BYTES {
            held.push(take(SMALL_BYTES - PREFIX_BYTES, &connection).await);
        }
        assert!(futures::poll!(Box::pin(take(SMALL_BYTES / 2, &connection))).is_pending());
        take(TINY_BYTES - PREFIX_BYTES, &connection).await;
        take(SMALL_BYTES, &budget.of_connection()).await;
        take(MESSAGE_BYTES - PREFIX_BYTES, &connection).await;
        drop(held);
        take(SMALL_BYTES / 2, &connection).await;
    }

    /// The next message may have begun in the same frame.
    #[tokio::test]
    async fn a_small_message_of_many_keeps_its_memory_until_more_is_asked_for() {
        let (budget, connection) = budget();
        let message = [&prefix(60_000)[..], &vec![0; 60_000]].concat();
        let mut body = metered_messages(message.repeat(2).into(), &budget, &connection);
        let left = || connection.small.available_permits();
        let all = left();
        for _ in 0..2 {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), message.len());
            assert_eq!(left(), all - 60_000);
        }
        assert!(body.frame().await.is_none());
        assert_eq!(left(), all);
    }

    #[tokio::test]
    async fn a_body_of_unknown_size_is_small_until_it_is_large() {
        let (budget, connection) = budget();
        let mut share = BodyShare::new(budget.clone(), Some(&connection));
        let left = || [&connection.small, &connection.large].map(|it| it.available_permits());
        let [small, large] = left();
        for (received, expected) in [
            (TINY_BYTES, [small, large]),
            (1, [small - SMALL_BYTES, large]),
            (SMALL_BYTES - TINY_BYTES, [small, large - MESSAGE_BYTES]),
        ] {
            share.received(received);
            poll_fn(|context| share.poll_take(context)).await.unwrap();
            assert_eq!(left(), expected, "{}", share.bytes);
        }
        drop(share);
        assert_eq!(left(), [small, large]);
    }

    #[tokio::test]
    async fn a_message_of_any_number_of_frames_is_passed_on_whole() {
        let (budget, connection) = budget();
        let messages: Vec<u8> = [3, 2 * SMALL_BYTES, 0, SMALL_BYTES, 2 * SMALL_BYTES, 1]
            .into_iter()
            .flat_map(|bytes| [&prefix(bytes as u32)[..], &vec![7; bytes]].concat())
            .collect();
        for frame_bytes in [1 << 10, 100_001, usize::MAX] {
            let frames: Vec<_> = messages.chunks(frame_bytes.min(messages.len())).collect();
            let frames = frames.into_iter().map(|it| Ok::<_, io::Error>(Bytes::copy_from_slice(it)));
            let body = Body::from_stream(futures::stream::iter(frames.collect::<Vec<_>>()));
            let passed = metered_messages(body, &budget, &connection).collect().await.unwrap().to_bytes();
            assert!(passed == messages, "{frame_bytes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_keeps_the_memory_of_its_request_while_it_is_read() {
        let (budget, connection) = budget();
        // The service reads the call to its end before it handles it.
        let call = async || {
            let share = BodyShare::new(budget.clone(), Some(&connection));
            let share = CallShare::new(Mutex::new(share));
            let message = [&prefix(MESSAGE_BYTES as u32)[..], &vec![0; MESSAGE_BYTES]].concat();
            metered(message.into(), share.clone(), Messages::One).collect().await.unwrap();
            share.lock().unwrap().take_large()
        };
        let is_free =
            async || budget.clone().take(connection.clone(), BodySize::Large, MESSAGE_BYTES).await.is_ok();
        let complete = drop_if_unread("answer".into(), call().await);
        assert!(is_free().await, "the service has dropped the request");
        drop(complete);

        let (sender, stream) = sent_body();
        let mut response = drop_if_unread(stream, call().await);
        for _ in 0..3 {
            sleep(UNREAD * 9 / 10).await;
            assert!(!is_free().await);
            sender.send("piece".into()).await.unwrap();
            response.frame().await.unwrap().unwrap();
        }
        assert!(timeout(10 * UNREAD, response.frame()).await.is_err());
        assert!(!is_free().await, "the client waits for the service");
        sender.send("piece".into()).await.unwrap();
        response.frame().await.unwrap().unwrap();
        sleep(UNREAD).await;
        assert!(is_free().await, "the client does not read");
        assert!(sender.is_closed(), "the rest is dropped");
        assert!(response.frame().await.unwrap().is_err());

        drop(drop_if_unread(sent_body().1, call().await));
        assert!(is_free().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_does_not_wait_forever_for_others_of_its_connection() {
        let (budget, connection) = budget();
        let bodies = [(); 2].map(|()| {
            let (sender, body) = sent_body();
            sender.try_send(prefix(MESSAGE_BYTES as u32)).unwrap();
            sender.try_send(vec![0; MESSAGE_BYTES - 1].into()).unwrap();
            (sender, metered_messages(body, &budget, &connection))
        });
        let [(_first_sender, mut first), (_second_sender, mut second)] = bodies;
        for _ in 0..2 {
            first.frame().await.unwrap().unwrap();
        }
        second.frame().await.unwrap().unwrap();
        let error = second.frame().await.unwrap().unwrap_err();
        let status = Status::from_error(error.into());
        assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, CONNECTION_FULL));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_sender_loses_its_share_if_others_wait() {
        let (budget, _) = budget();
        let (mut slow, mut connections) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTION_PART {
            let (sender, body) = sent_body();
            let connection = budget.of_connection();
            let mut body = metered_messages(body, &budget, &connection);
            connections.push(connection);
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
        let mut body = metered_messages(body, &budget, &budget.of_connection());
        sender.send(prefix(MESSAGE_BYTES as u32)).await.unwrap();
        sender.send(vec![0; MESSAGE_BYTES - 1].into()).await.unwrap();
        body.frame().await.unwrap().unwrap();
        let waiting = tokio::spawn(async move { body.frame().await.unwrap().is_ok() });
        let (_stalled_sender, mut stalled) = slow.swap_remove(0);
        // Its data may be stuck in the connection, after that of a body which waits for it.
        let waiting_body = WaitingBody::new(connections.swap_remove(0).waiting);
        let patient = tokio::time::timeout(10 * WINDOW, stalled.frame()).await;
        assert!(patient.is_err(), "it cannot send");
        drop(waiting_body);
        let error = stalled.frame().await.unwrap().unwrap_err();
        assert!(error.to_string().contains("50 kB/s"), "{error}");
        drop(stalled);
        assert!(waiting.await.unwrap(), "its memory is free");
    }
}
