//! What all sockets of a port may hold of frames that are being read, or wait for the log: memory is bounded in all, not
//! only for each.
//!
//! A frame's size is not known before it is read. So one that has become large waits for room for the largest, and keeps of
//! that what it turned out to need; small ones take what they need behind their end, and need nothing while they are alone.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use matyan_proto::limits::BATCH_BYTES;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// Up to here a frame is read whoever else holds how much. Four times what the Python client sends at once.
const SMALL_BYTES: usize = 64 << 10;

/// What the header of a control frame takes, with its mask.
const CONTROL_HEADER_BYTES: usize = 6;

/// A frame's part of the budget; none for a small frame that had none when it came.
pub(super) type Share = Option<OwnedSemaphorePermit>;

#[derive(Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    /// At least one frame of the largest size always fits.
    pub(super) fn new(bytes: usize) -> Self {
        Budget(Arc::new(Semaphore::new(bytes.clamp(BATCH_BYTES, Semaphore::MAX_PERMITS))))
    }

    /// For a small frame; none if nothing is left.
    pub(super) fn share(&self, bytes: usize) -> Share {
        self.0.clone().try_acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX)).ok()
    }
}

/// A connection whose reads are counted, and stop inside a large frame until there is room for it.
pub(super) struct Metered<S> {
    inner: S,
    /// Read in all.
    bytes: u64,
    /// Read since the last frame ended, so of one that has begun. It may miss what came together with that end.
    begun: usize,
    budget: PollSemaphore,
    share: Share,
    waits: bool,
}

impl<S> Metered<S> {
    pub(super) fn new(inner: S, budget: Budget) -> Self {
        Metered { inner, bytes: 0, begun: 0, budget: PollSemaphore::new(budget.0), share: None, waits: false }
    }

    /// Any byte is a sign of life, also in the middle of a long frame.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// True while nothing is read because others hold too much: then silence says nothing about the peer.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// The connection itself, for bytes that nobody keeps.
    pub(super) fn unmetered(&mut self) -> &mut S {
        &mut self.inner
    }

    pub(super) fn is_inside_frame(&self) -> bool {
        self.begun > 0
    }

    /// A data frame of so many bytes has ended.
    pub(super) fn frame_ended(&mut self, bytes: usize) -> Share {
        self.begun = 0;
        self.share.take().and_then(|mut share| share.split(bytes))
    }

    /// A control frame has ended, maybe between the fragments of another.
    pub(super) fn control_ended(&mut self, bytes: usize) {
        self.begun = self.begun.saturating_sub(CONTROL_HEADER_BYTES + bytes);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.begun > SMALL_BYTES && self.share.is_none() {
            self.waits = true;
            self.share = ready!(self.budget.poll_acquire_many(context, BATCH_BYTES as u32));
            self.waits = false;
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        self.bytes += read as u64;
        self.begun += read;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LARGE: usize = 4 * SMALL_BYTES;

    #[tokio::test]
    async fn a_large_frame_is_read_on_when_there_is_room_and_keeps_what_it_needed() {
        let budget = Budget::new(0);
        let others = budget.share(1).unwrap();
        let (mut peer, connection) = duplex(2 * LARGE);
        let mut metered = Metered::new(connection, budget.clone());
        peer.write_all(&vec![0; LARGE]).await.unwrap();
        let mut buffer = vec![0; LARGE];
        let mut read = 0;
        while let Poll::Ready(more) = futures::poll!(std::pin::pin!(metered.read(&mut buffer[..1_000]))) {
            read += more.unwrap();
        }
        assert!((SMALL_BYTES + 1..SMALL_BYTES + 1_001).contains(&read), "{read}");
        assert!(metered.waits() && metered.is_inside_frame());
        drop(others);
        metered.read_exact(&mut buffer[read..]).await.unwrap();
        assert!(!metered.waits());
        assert_eq!(budget.0.available_permits(), 0, "while it is read it has room for the largest");
        let share = metered.frame_ended(LARGE).unwrap();
        assert_eq!(budget.0.available_permits(), BATCH_BYTES - LARGE);
        assert!(!metered.is_inside_frame());
        drop(share);
        assert_eq!(budget.0.available_permits(), BATCH_BYTES);
    }

    #[tokio::test]
    async fn small_frames_and_pings_are_read_whoever_holds_how_much() {
        let budget = Budget::new(0);
        let _others = budget.share(BATCH_BYTES).unwrap();
        assert!(budget.share(1).is_none());
        let (mut peer, connection) = duplex(LARGE);
        let mut metered = Metered::new(connection, budget);
        let mut buffer = vec![0; SMALL_BYTES];
        for _ in 0..4 {
            peer.write_all(&buffer).await.unwrap();
            metered.read_exact(&mut buffer).await.unwrap();
            assert!(metered.frame_ended(SMALL_BYTES).is_none());
        }
        for _ in 0..2 * SMALL_BYTES / 10 {
            peer.write_all(&[0; 10]).await.unwrap();
            metered.read_exact(&mut buffer[..10]).await.unwrap();
            metered.control_ended(4);
        }
        assert!(!metered.is_inside_frame());
    }
}
