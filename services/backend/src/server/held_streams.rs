//! Streams that hold memory until their clients have read them. Clients may be slow, but a client that reads
//! nothing while others wait for memory loses its stream.

use std::{
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Stream, StreamExt};
use matyan_access::RequestAnswer;
use parking_lot::Mutex;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};
use tonic::Status;

use super::{error::Error, stream::ResponseStream};

/// Time after which a stream that its client does not read is dropped, if others wait for memory. The largest message, a
/// chart of 15 MB, takes that long at 500 kB/s.
pub(crate) const UNREAD: Duration = Duration::from_secs(30);

/// Time between two searches for streams that are not read, while a call waits.
pub(crate) const UNREAD_CHECK: Duration = Duration::from_secs(1);

/// The streams that hold memory of one kind. Clones share their state.
#[derive(Clone, Default)]
pub(crate) struct HeldStreams(Arc<Mutex<Vec<Weak<dyn DropUnread>>>>);

impl HeldStreams {
    /// Holds memory until the client of a stream has read the last message, or others need the memory: the answer is then
    /// given up. Memory of messages that the transport may have is held until the transport drops the stream, or informs
    /// its client.
    pub(crate) fn hold<T, M, I>(
        &self,
        messages: ResponseStream<T>,
        memory: M,
        in_transport: I,
        answer: RequestAnswer,
    ) -> HeldStream<T, M, I>
    where
        T: Send + 'static,
        M: Send + 'static,
        I: InTransport + 'static,
    {
        let held = Held::Reading { messages, unread_since: None, _memory: memory };
        let stream = Arc::new(Mutex::new(Some(Share { held, in_transport, answer })));
        let shared: Arc<dyn DropUnread> = stream.clone();
        let mut streams = self.0.lock();
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(&shared));
        HeldStream(stream)
    }

    /// Waits for memory. Until then, drops streams that are not read.
    pub(crate) async fn drop_unread_until<F: Future>(&self, taking: F) -> F::Output {
        self.drop_unread_while(|| true, taking).await
    }

    /// Waits for memory. Until then, drops streams that are not read if that helps.
    pub(crate) async fn drop_unread_while<F: Future>(
        &self,
        helps: impl Fn() -> bool,
        taking: F,
    ) -> F::Output {
        let mut taking = pin!(taking);
        loop {
            if let Ok(taken) = timeout(UNREAD_CHECK, &mut taking).await {
                return taken;
            }
            if !helps() {
                continue;
            }
            let streams: Vec<_> = self.0.lock().iter().filter_map(Weak::upgrade).collect();
            for stream in &streams {
                stream.drop_unread();
            }
        }
    }
}

/// A stream that a client reads. `None` once it has ended.
pub(crate) struct HeldStream<T, M, I>(Arc<Mutex<Option<Share<T, M, I>>>>);

struct Share<T, M, I> {
    held: Held<T, M>,
    in_transport: I,
    /// The answer that the stream is a part of.
    answer: RequestAnswer,
}

enum Held<T, M> {
    Reading {
        messages: ResponseStream<T>,
        /// Time since which a message is known to have been ready.
        unread_since: Option<Instant>,
        _memory: M,
    },
    /// The memory was needed. The client has not been informed yet.
    Dropped,
}

/// Memory of messages that the transport may have.
pub(crate) trait InTransport: Send {
    /// Whether the stream holds memory at all.
    fn is_held(&self) -> bool {
        true
    }
}

impl InTransport for () {}

impl InTransport for OwnedSemaphorePermit {}

/// A stream with messages of any type.
trait DropUnread: Send + Sync {
    /// Drops the stream if it has not been read for some time.
    fn drop_unread(&self);
}

impl<T: Send, M: Send, I: InTransport> DropUnread for Mutex<Option<Share<T, M, I>>> {
    fn drop_unread(&self) {
        let mut share = self.lock();
        let Some(Share { held, in_transport, answer }) = &mut *share else { return };
        if let Held::Reading { messages, unread_since, .. } = held
            && in_transport.is_held()
            && messages.is_ready()
            && unread_since.get_or_insert_with(Instant::now).elapsed() >= UNREAD
        {
            *held = Held::Dropped;
            answer.give_up();
        }
    }
}

impl<T, M, I> Stream for HeldStream<T, M, I> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut share = self.0.lock();
        let next = match share.as_mut().map(|share| &mut share.held) {
            Some(Held::Reading { messages, unread_since, .. }) => {
                *unread_since = None;
                let next = ready!(messages.poll_next_unpin(context));
                *unread_since = messages.is_ready().then(Instant::now);
                next
            }
            Some(Held::Dropped) => Some(Err(Error::ClientStalled.into())),
            None => None,
        };
        if !matches!(next, Some(Ok(_))) {
            *share = None;
        }
        Poll::Ready(next)
    }
}
