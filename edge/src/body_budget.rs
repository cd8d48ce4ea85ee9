//! Memory for request bodies of REST and gRPC, from their first bytes until the service has answered, has
//! sent a stream of responses, or asks for the next message: a body may wait for its service. All
//! connections of a port share a budget, and each has at most an eighth of it, so that one cannot take the
//! memory of all. Small bodies have their own budget, and never wait for large ones. A sender that holds
//! a share while others wait must send at a minimum rate, or loses it. For a stream of responses,
//! `unread_response` holds the memory of the request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};
use matyan_proto::limits::MESSAGE_BYTES;
use parking_lot::Mutex;
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
    /// Memory that its bodies wait for.
    demand: Demand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodySize {
    Small,
    Large,
}

impl BodyBudget {
    /// Returns the budgets, with this number of bytes for large bodies, but at least enough that the share of
    /// a connection fits a body of maximum size.
    pub(crate) fn new(bytes: usize) -> Self {
        let bytes = bytes.clamp(CONNECTION_PART * MESSAGE_BYTES, Semaphore::MAX_PERMITS);
        BodyBudget { small: SizeBudget::new(SMALL_BUDGET_BYTES), large: SizeBudget::new(bytes) }
    }

    pub(crate) fn of_connection(&self) -> ConnectionBudget {
        ConnectionBudget {
            small: self.small.of_connection(),
            large: self.large.of_connection(),
            demand: Demand::default(),
        }
    }

    fn of_size(&self, size: BodySize) -> &SizeBudget {
        match size {
            BodySize::Small => &self.small,
            BodySize::Large => &self.large,
        }
    }

    /// Waits for memory in the share of the connection, and then in the budget of the port: a connection that
    /// waits for its own bodies holds nothing that others need.
    async fn take(
        self,
        connection: ConnectionBudget,
        size: BodySize,
        bytes: usize,
    ) -> Result<Permits, Status> {
        let budget = self.of_size(size);
        let ConnectionBudget { small, large, demand } = connection;
        let connection = match size {
            BodySize::Small => small,
            BodySize::Large => large,
        };
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let closed = "the semaphore is never closed";
        let own = {
            let _waiting = demand.wait(bytes);
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
        let budget = &self.budget;
        let connection = &self.connection;
        let waiting = self.waiting.get_or_insert_with(|| {
            Box::pin(budget.clone().take(connection.clone(), size, bytes)) as BoxFuture<'_, _>
        });
        let taken = ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        self.held = Some((size, taken?));
        Poll::Ready(Ok(()))
    }

    /// The memory that the body needs: all of its announced size at once, or as much as a body of unknown
    /// size may still take.
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
        let may_be_blocked = self.connection.demand.exists();
        let held = of_port.num_permits();
        self.rate.poll_too_slow(context, may_be_blocked, || demand.release(held))
    }

    fn is_tiny(&self) -> bool {
        self.bytes <= TINY_BYTES
    }

    /// Takes the memory of the last message out of the share, for a stream of responses. The memory of a
    /// small message is given back: streams that are not read would keep the memory of all others.
    pub(crate) fn take_large(&mut self) -> Option<Permits> {
        let (size, permits) = self.held.take()?;
        (size == BodySize::Large).then_some(permits)
    }

    /// Gives back the memory of a message.
    fn release(&mut self) {
        self.held = None;
        self.expected = None;
        self.bytes = 0;
        self.rate = SendRate::default();
    }
}

/// The share of a call, which the body of the call takes memory for.
pub(crate) type CallShare = Arc<Mutex<BodyShare>>;

/// Messages of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Messages {
    /// Its memory is kept as long as the share, because the body ends before its service starts.
    One,
    /// The memory of each is kept until the service asks for the next one.
    Many,
}

/// The body of a gRPC call, whose messages are charged to the share.
pub(crate) fn metered(body: Body, share: CallShare, messages: Messages) -> Body {
    let framing = Framing::default();
    let data = Bytes::new();
    Body::new(MeteredBody { body, share, messages, framing, data, piece_bytes: 0 })
}

struct MeteredBody {
    body: Body,
    share: CallShare,
    messages: Messages,
    framing: Framing,
    /// Received, and not passed on yet.
    data: Bytes,
    /// Bytes at its start that are charged to the share, and passed on next.
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
        let mut of_message = 0;
        let mut size = None;
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
        let mut share = share.lock();
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
mod tests;
