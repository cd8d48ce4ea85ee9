//! A connection that counts its reads, and pauses inside a large frame until the memory budget has
//! room for its next bytes. Small frames take their share after they have been read, and need none
//! while they are the only frame.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use matyan_proto::limits::BATCH_BYTES;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::budget::{BudgetShare, FrameMemory, SocketBudget};
use crate::slow_sender::{SendRate, too_slow};

/// Frames up to this size are read regardless of the budget. Four times the usual size of a
/// frame of the Python client.
const SMALL_BYTES: usize = 64 << 10;

/// Size of the header of a control frame, including its mask.
const CONTROL_HEADER_BYTES: usize = 6;

pub(super) struct MeteredConnection<S> {
    inner: S,
    /// Total number of bytes read.
    bytes: u64,
    /// Number of bytes read since the last frame ended; they belong to a frame that has
    /// started. Bytes that arrived together with that end are not counted.
    frame_bytes: usize,
    budget: SocketBudget,
    /// Memory of the frame that is being read, unless it waits for more.
    memory: BudgetShare,
    waiting: Option<BoxFuture<'static, FrameMemory>>,
    rate: SendRate,
}

impl<S> MeteredConnection<S> {
    pub(super) fn new(inner: S, budget: SocketBudget) -> Self {
        let rate = SendRate::default();
        MeteredConnection { inner, bytes: 0, frame_bytes: 0, budget, memory: None, waiting: None, rate }
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

    /// Called at the end of a data frame of `bytes` bytes; returns its memory.
    pub(super) fn frame_ended(&mut self, bytes: usize) -> BudgetShare {
        self.frame_bytes = 0;
        self.rate = SendRate::default();
        let mut memory = self.memory.take()?;
        memory.shrink(bytes);
        Some(memory)
    }

    /// Called at the end of a control frame, which may be between the fragments of another
    /// frame.
    pub(super) fn control_ended(&mut self, bytes: usize) {
        // Some of these bytes may have arrived together with the end of the previous frame.
        self.frame_bytes = self.frame_bytes.saturating_sub(CONTROL_HEADER_BYTES + bytes);
    }

    /// Waits until a large frame has memory for the next bytes.
    fn poll_memory(&mut self, context: &mut Context<'_>, next: usize) -> Poll<()> {
        if self.frame_bytes <= SMALL_BYTES {
            return Poll::Ready(());
        }
        // A frame that turns out to be too large is refused.
        let needed = (self.frame_bytes + next).min(BATCH_BYTES);
        loop {
            if let Some(waiting) = &mut self.waiting {
                self.memory = Some(ready!(waiting.as_mut().poll(context)));
                self.waiting = None;
            }
            let memory = self.memory.take().unwrap_or_else(|| self.budget.frame());
            if memory.covers(needed) {
                self.memory = Some(memory);
                return Poll::Ready(());
            }
            self.waiting = Some(Box::pin(memory.grow(needed)));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MeteredConnection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_memory(context, buffer.remaining()));
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        self.bytes += read as u64;
        self.frame_bytes += read;
        let Self { memory, rate, .. } = &mut *self;
        if let Some(held) = memory {
            rate.received(read);
            // The peer connects again and repeats the frame; others need its memory.
            if polled.is_pending()
                && rate.poll_too_slow(context, false, || held.must_be_released()).is_ready()
            {
                *memory = None;
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

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::{JoinSet, yield_now};
    use tokio::time::{sleep, timeout};

    use super::super::budget::MemoryBudget;
    use super::*;
    use crate::slow_sender::WINDOW;

    const LARGE: usize = 4 * SMALL_BYTES;

    #[tokio::test]
    async fn a_large_frame_waits_for_room_and_keeps_only_what_it_needs() {
        let budget = MemoryBudget::new(0).of_client(None);
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
        assert_eq!(budget.left(), 0, "a frame that is read to its end has room for the largest");
        let share = metered.frame_ended(LARGE).unwrap();
        assert_eq!(budget.left(), BATCH_BYTES - LARGE);
        assert!(!metered.is_inside_frame());
        drop(share);
        assert_eq!(budget.left(), BATCH_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_loses_its_share_if_others_wait() {
        let (mut peer, connection) = duplex(2 * LARGE);
        let budget = MemoryBudget::new(0).of_client(None);
        let mut metered = MeteredConnection::new(connection, budget.clone());
        peer.write_all(&vec![0; LARGE]).await.unwrap();
        let mut buffer = vec![0; LARGE];
        for piece in buffer.chunks_mut(1_000) {
            metered.read_exact(piece).await.unwrap();
        }
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
        let _waiting = budget.wait(1);
        tokio::select! {
            () = &mut sending => unreachable!(),
            error = &mut reading => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
        }
    }

    /// Sockets that have begun a frame, and send nothing more: their peers, and the tasks that read them.
    async fn stalled(
        budget: &SocketBudget,
        frames: usize,
        sent: usize,
    ) -> (Vec<DuplexStream>, JoinSet<io::ErrorKind>) {
        let mut peers = Vec::new();
        let mut reading = JoinSet::new();
        for _ in 0..frames {
            let (mut peer, connection) = duplex(LARGE);
            let mut metered = MeteredConnection::new(connection, budget.clone());
            reading.spawn(async move {
                let mut buffer = vec![0; 16 << 10];
                loop {
                    if let Err(error) = metered.read(&mut buffer).await {
                        return error.kind();
                    }
                }
            });
            for _ in 0..sent / LARGE {
                peer.write_all(&vec![0; LARGE]).await.unwrap();
            }
            peers.push(peer);
        }
        (peers, reading)
    }

    async fn read_frame(budget: &SocketBudget) {
        let (mut peer, connection) = duplex(LARGE);
        let mut metered = MeteredConnection::new(connection, budget.clone());
        peer.write_all(&vec![0; LARGE]).await.unwrap();
        for _ in 0..LARGE / 1_024 {
            metered.read_exact(&mut [0; 1_024]).await.unwrap();
        }
    }

    /// More frames have begun than would fit if each had room for the largest.
    #[tokio::test(start_paused = true)]
    async fn rule_88_a_frame_does_not_wait_for_stalled_ones() {
        let budget = MemoryBudget::new(16 * BATCH_BYTES).of_client(None);
        let before = budget.left();
        let (_peers, mut reading) = stalled(&budget, 32, LARGE).await;
        while before - budget.left() < 32 * LARGE {
            yield_now().await;
        }
        // The clock is paused, so none of the stalled frames is cut off yet.
        read_frame(&budget).await;
        assert!(reading.try_join_next().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_many_stalled_frames_makes_room_for_a_frame_that_waits() {
        const FRAMES: usize = 16;
        let budget = MemoryBudget::new(FRAMES * BATCH_BYTES).of_client(None);
        let (_peers, mut reading) = stalled(&budget, FRAMES, BATCH_BYTES).await;
        while budget.left() > 0 {
            yield_now().await;
        }
        // The clock is paused, so this is not a matter of speed.
        timeout(3 * WINDOW, read_frame(&budget)).await.expect("a stalled frame is cut off");
        assert_eq!(reading.join_next().await.unwrap().unwrap(), io::ErrorKind::TimedOut);
        sleep(10 * WINDOW).await;
        assert!(reading.try_join_next().is_none(), "no other frame waits any more");
    }

    /// The stalled frames hold 1 MiB each; the frame that waits needs a quarter of that.
    #[tokio::test(start_paused = true)]
    async fn rule_45_one_small_stalled_frame_makes_room_for_a_step() {
        let budget = MemoryBudget::new(4 * BATCH_BYTES).of_client(None);
        let (_peers, mut reading) = stalled(&budget, 48, 3 * LARGE).await;
        while budget.left() > BATCH_BYTES {
            yield_now().await;
        }
        let (_last_peer, mut last_reading) = stalled(&budget, 1, LARGE).await;
        while budget.left() > 0 {
            yield_now().await;
        }
        timeout(3 * WINDOW, read_frame(&budget)).await.expect("a stalled frame is cut off");
        sleep(10 * WINDOW).await;
        let ended = [&mut reading, &mut last_reading]
            .map(|tasks| std::iter::from_fn(|| tasks.try_join_next()).filter(|error| error.is_ok()).count());
        assert_eq!(ended.iter().sum::<usize>(), 1);
    }

    #[tokio::test]
    async fn small_frames_and_pings_are_read_without_budget() {
        let budget = MemoryBudget::new(0).of_client(None);
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
