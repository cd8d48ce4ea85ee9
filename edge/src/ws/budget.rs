//! Memory budget for the frames of all sockets of a port, while they are read or wait for the
//! log: memory is bounded in total, and not only per socket.
//!
//! The size of a frame is unknown before it is read. So once a frame has become large, it waits
//! for room for the largest possible frame, and afterwards keeps only the share it needs. Small
//! frames take their share after they have been read, and need none while they are the only
//! frame.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use matyan_proto::limits::BATCH_BYTES;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

use crate::slow_sender::{Demand, SendRate, WaitingBytes, too_slow};

/// Frames up to this size are read regardless of the budget. Four times the usual size of a
/// frame of the Python client.
const SMALL_BYTES: usize = 64 << 10;

/// Size of the header of a control frame, including its mask.
const CONTROL_HEADER_BYTES: usize = 6;

/// A frame's share of the budget; `None` for a small frame that had none when it arrived.
pub(super) type BudgetShare = Option<OwnedSemaphorePermit>;

#[derive(Clone)]
pub(super) struct MemoryBudget {
    left: Arc<Semaphore>,
    demand: Demand,
}

impl MemoryBudget {
    /// At least one frame of maximum size always fits.
    pub(super) fn new(bytes: usize) -> Self {
        let bytes = bytes.clamp(BATCH_BYTES, Semaphore::MAX_PERMITS);
        MemoryBudget { left: Arc::new(Semaphore::new(bytes)), demand: Demand::default() }
    }

    /// Takes a share for a small frame; `None` if too little remains.
    pub(super) fn share(&self, bytes: usize) -> BudgetShare {
        self.left.clone().try_acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX)).ok()
    }
}

/// A connection that counts its reads, and pauses inside a large frame until the budget has
/// room for it.
pub(super) struct MeteredConnection<S> {
    inner: S,
    /// Total number of bytes read.
    bytes: u64,
    /// Number of bytes read since the last frame ended; they belong to a frame that has
    /// begun. Bytes that arrived together with that end are not counted.
    frame_bytes: usize,
    budget: PollSemaphore,
    share: BudgetShare,
    rate: SendRate,
    demand: Demand,
    waiting: Option<WaitingBytes>,
}

impl<S> MeteredConnection<S> {
    pub(super) fn new(inner: S, budget: MemoryBudget) -> Self {
        MeteredConnection {
            inner,
            bytes: 0,
            frame_bytes: 0,
            budget: PollSemaphore::new(budget.left),
            share: None,
            rate: SendRate::default(),
            demand: budget.demand,
            waiting: None,
        }
    }

    /// Total number of bytes read. Any byte shows that the peer is alive, even in the
    /// middle of a long frame.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// True while reading is paused because the budget is exhausted; during that time, a
    /// silent peer does not count as dead.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// The underlying connection, for reading bytes that are discarded.
    pub(super) fn unmetered(&mut self) -> &mut S {
        &mut self.inner
    }

    pub(super) fn is_inside_frame(&self) -> bool {
        self.frame_bytes > 0
    }

    /// Called at the end of a data frame of `bytes` bytes; returns its share.
    pub(super) fn frame_ended(&mut self, bytes: usize) -> BudgetShare {
        self.frame_bytes = 0;
        self.rate = SendRate::default();
        // The rest of the share is released when it is dropped.
        self.share.take().and_then(|mut share| share.split(bytes))
    }

    /// Called at the end of a control frame, which may be between the fragments of another
    /// frame.
    pub(super) fn control_ended(&mut self, bytes: usize) {
        // Some of these bytes may have arrived together with the end of the previous frame.
        self.frame_bytes = self.frame_bytes.saturating_sub(CONTROL_HEADER_BYTES + bytes);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MeteredConnection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.frame_bytes > SMALL_BYTES && self.share.is_none() {
            if self.waiting.is_none() {
                self.waiting = Some(self.demand.wait(BATCH_BYTES));
            }
            self.share = ready!(self.budget.poll_acquire_many(context, BATCH_BYTES as u32));
            self.waiting = None;
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        self.bytes += read as u64;
        self.frame_bytes += read;
        if self.share.is_some() {
            let this = &mut *self;
            this.rate.received(read);
            // The peer connects again and repeats the frame; others need its memory.
            if polled.is_pending()
                && this.rate.poll_too_slow(context, false, BATCH_BYTES, &this.demand).is_ready()
            {
                this.share = None;
                return Poll::Ready(Err(too_slow()));
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MeteredConnection<S> {
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
    use std::pin::pin;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::task::{JoinSet, yield_now};
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::slow_sender::WINDOW;

    const LARGE: usize = 4 * SMALL_BYTES;

    #[tokio::test]
    async fn a_large_frame_waits_for_room_and_keeps_only_what_it_needs() {
        let budget = MemoryBudget::new(0);
        let other_share = budget.share(1).unwrap();
        let (mut peer, connection) = duplex(2 * LARGE);
        let mut metered = MeteredConnection::new(connection, budget.clone());
        peer.write_all(&vec![0; LARGE]).await.unwrap();
        let mut buffer = vec![0; LARGE];
        let mut read = 0;
        while let Poll::Ready(more) = futures::poll!(std::pin::pin!(metered.read(&mut buffer[..1_000]))) {
            read += more.unwrap();
        }
        assert!((SMALL_BYTES + 1..SMALL_BYTES + 1_001).contains(&read), "{read}");
        assert!(metered.is_waiting() && metered.is_inside_frame());
        drop(other_share);
        metered.read_exact(&mut buffer[read..]).await.unwrap();
        assert!(!metered.is_waiting());
        assert_eq!(budget.left.available_permits(), 0, "a frame being read has room for the largest");
        let share = metered.frame_ended(LARGE).unwrap();
        assert_eq!(budget.left.available_permits(), BATCH_BYTES - LARGE);
        assert!(!metered.is_inside_frame());
        drop(share);
        assert_eq!(budget.left.available_permits(), BATCH_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_loses_its_share_if_others_wait() {
        let (mut peer, connection) = duplex(2 * LARGE);
        let budget = MemoryBudget::new(0);
        let mut metered = MeteredConnection::new(connection, budget.clone());
        peer.write_all(&vec![0; LARGE]).await.unwrap();
        let mut buffer = vec![0; LARGE];
        metered.read_exact(&mut buffer).await.unwrap();
        metered.read_exact(&mut buffer[..0]).await.unwrap();
        // The peer sends a byte from time to time, which would keep the connection alive.
        let mut sending = pin!(async {
            loop {
                sleep(WINDOW / 2).await;
                peer.write_u8(0).await.unwrap();
            }
        });
        let mut reading = pin!(async {
            loop {
                if let Err(error) = metered.read_u8().await {
                    return error;
                }
            }
        });
        tokio::select! {
            () = &mut sending => unreachable!(),
            ended = timeout(100 * WINDOW, &mut reading) => assert!(ended.is_err(), "no other waits"),
        }
        let _waiting = budget.demand.wait(1);
        tokio::select! {
            () = &mut sending => unreachable!(),
            error = &mut reading => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_many_stalled_frames_makes_room_for_a_frame_that_waits() {
        const FRAMES: usize = 16;
        let budget = MemoryBudget::new(FRAMES * BATCH_BYTES);
        let connect = async || {
            let (mut peer, connection) = duplex(LARGE);
            peer.write_all(&vec![0; LARGE]).await.unwrap();
            (peer, MeteredConnection::new(connection, budget.clone()))
        };
        let (mut peers, mut stalled) = (Vec::new(), JoinSet::new());
        for _ in 0..FRAMES {
            let (peer, mut metered) = connect().await;
            peers.push(peer);
            stalled.spawn(async move { metered.read_to_end(&mut Vec::new()).await.unwrap_err().kind() });
        }
        while budget.left.available_permits() > 0 {
            yield_now().await;
        }
        let (_peer, mut metered) = connect().await;
        let reading = async {
            for _ in 0..LARGE / 1_024 {
                metered.read_exact(&mut [0; 1_024]).await.unwrap();
            }
        };
        // The clock is paused, so this is not a matter of speed.
        timeout(3 * WINDOW, reading).await.expect("a stalled frame is cut off");
        assert_eq!(stalled.join_next().await.unwrap().unwrap(), io::ErrorKind::TimedOut);
        sleep(10 * WINDOW).await;
        assert!(stalled.try_join_next().is_none(), "no other waits any more");
    }

    #[tokio::test]
    async fn small_frames_and_pings_are_read_without_budget() {
        let budget = MemoryBudget::new(0);
        let _other_share = budget.share(BATCH_BYTES).unwrap();
        assert!(budget.share(1).is_none());
        let (mut peer, connection) = duplex(LARGE);
        let mut metered = MeteredConnection::new(connection, budget);
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
