//! Searches of sequences of any kind: runs with a match are sent newest first, each with its
//! matching sequences. A run with many sequences is sent in pieces; only one piece, about the
//! size of a message, is in memory at a time.

use std::sync::Arc;

use matyan_model::series::RunPlace;
use matyan_proto::{
    common::v1::Progress,
    runs::v1::{Run, RunParts},
    search::v1::Warning,
};
use matyan_store::{Error as StoreError, Snapshot};

use super::{
    candidate::{Candidate, Sequence},
    delivery::{Delivery, Place},
    judge::Matched,
    pulse::Pulse,
    runs::always_raised,
    scan::Scanner,
    text::Compiled,
};
use crate::{
    Context,
    call::Call,
    convert,
    error::{Error, Result},
    stream::{End, MESSAGE_BYTES, Sender},
    view::{Names, run_parts},
};

/// Maximum size of a message that combines several pieces: the params of a run and a large
/// object can each fill a message.
const SHARED_BYTES: usize = 2 * MESSAGE_BYTES;

/// The data sent for sequences of one kind.
pub(super) trait Kind: Send + Sync {
    type Message: Send;
    /// One run and some of its sequences.
    type Row: Send;
    /// The data sent for one sequence or a part of it.
    type Piece: Send;
    /// State of a run kept between two reads, including a partially read sequence: data too
    /// large for one message is sent in pieces.
    type Open: Default + Send;

    /// Reads the requested data of the first sequences, in order, about as much as fits
    /// into a message. Returns how many of them were read to the end; the following one may
    /// be partially read. May be called again after an error.
    fn read(
        &self,
        context: &Context,
        call: &Call,
        snapshot: &dyn Snapshot,
        run: RunPlace,
        sequences: &[Sequence],
        open: &mut Self::Open,
    ) -> impl Future<Output = Result<(Vec<Self::Piece>, usize)>> + Send;

    /// Whether the next sequence is partially read.
    fn is_inside(open: &Self::Open) -> bool;

    fn bytes(piece: &Self::Piece) -> usize;

    fn row(&self, run: Run, pieces: Vec<Self::Piece>, more: bool) -> Self::Row;

    fn message(rows: Vec<Self::Row>, about: About) -> Self::Message;
}

/// The content of a message other than its rows.
#[derive(Default)]
pub(super) struct About {
    pub(super) progress: Option<Progress>,
    pub(super) warnings: Vec<Warning>,
    pub(super) done: bool,
}

/// A validated request.
pub(super) struct SequenceSearch {
    pub(super) context: Arc<Context>,
    pub(super) call: Call,
    pub(super) compiled: Compiled,
    pub(super) parts: RunParts,
    /// Maximum number of runs with a match; 0 for all.
    pub(super) limit: u32,
}

impl SequenceSearch {
    pub(super) fn new(
        context: Arc<Context>,
        call: Call,
        compiled: Compiled,
        parts: Option<RunParts>,
        limit: u32,
    ) -> Result<Self> {
        let parts = convert::parts(parts)?;
        Ok(Self { context, call, compiled, parts, limit })
    }

    pub(super) async fn send<K: Kind>(self, kind: K, sender: &Sender<K::Message>) -> Result<(), End> {
        let mut pulse = Pulse::new(sender);
        let opened = Scanner::new(self.context.clone(), self.call.project, &self.compiled);
        let scanner = pulse.during(opened, || None).await??;
        let warnings = self.compiled.warnings;
        if !warnings.is_empty() {
            // Sent before the search starts, as in a search of runs.
            pulse.send(K::message(Vec::new(), About { warnings, ..About::default() })).await?;
        }
        let out = Out {
            pulse,
            scanner,
            names: Names::new(&self.call),
            left: (self.limit > 0).then_some(self.limit),
            found: 0,
            rows: Vec::new(),
            bytes: 0,
            report_progress: self.compiled.report_progress,
            context: self.context,
            call: self.call,
            parts: self.parts,
            kind,
        };
        out.run().await
    }
}

struct Out<'s, K: Kind> {
    context: Arc<Context>,
    call: Call,
    kind: K,
    pulse: Pulse<'s, K::Message>,
    scanner: Scanner,
    names: Names,
    parts: RunParts,
    report_progress: bool,
    left: Option<u32>,
    /// Number of runs with a match so far.
    found: u64,
    /// Rows of the next message, and their size.
    rows: Vec<K::Row>,
    bytes: usize,
}

/// A run that has not been sent completely.
struct OpenRun<S> {
    place: RunPlace,
    /// Contains the requested parts until the first piece is sent.
    run: Run,
    sequences: Vec<Sequence>,
    read: usize,
    kept: S,
    /// Part of the run has been sent, so it cannot be restarted.
    is_begun: bool,
    /// The snapshot for the rest of the run, once the first one was dropped.
    snapshot: Option<Box<dyn Snapshot>>,
}

impl<K: Kind> Out<'_, K> {
    async fn run(mut self) -> Result<(), End> {
        while self.left != Some(0) {
            let life = self.sign_of_life();
            let Some(page) = self.pulse.during(self.scanner.next(), life).await?? else { break };
            let mut delivery = Delivery::of_page(page, std::iter::repeat(0));
            while self.left != Some(0) {
                let life = self.sign_of_life();
                let next = self.pulse.during(delivery.next(&mut self.scanner), life).await??;
                let Some((place, matched)) = next else { break };
                self.one(&mut delivery, place, matched).await?;
            }
            // Found rows are not held back while the scan continues.
            if !self.rows.is_empty() && !self.scanner.is_done() {
                self.flush(&mut delivery, &mut None).await?;
            }
        }
        let message = self.message(true);
        Ok(self.pulse.send(message).await?)
    }

    fn progress(&self) -> Option<Progress> {
        self.report_progress.then(|| self.scanner.progress(self.found))
    }

    fn sign_of_life(&self) -> impl Fn() -> Option<K::Message> + use<K> {
        let progress = self.progress();
        move || progress.map(|_| K::message(Vec::new(), About { progress, ..About::default() }))
    }

    async fn one(&mut self, delivery: &mut Delivery, place: Place, matched: Matched) -> Result<(), End> {
        let number = matched.candidate.number;
        match self.open(delivery, matched).await? {
            Ok(mut open) => {
                if let Err(error) = self.pieces(delivery, &mut open).await? {
                    delivery.take_back(number, place, error)?;
                    return Ok(());
                }
                self.found += 1;
                self.left = self.left.map(|left| left - 1);
            }
            Err(error) => delivery.take_back(number, place, error)?,
        }
        Ok(())
    }

    async fn open(&mut self, delivery: &Delivery, matched: Matched) -> Result<Result<OpenRun<K::Open>>, End> {
        let Matched { candidate, sequences: matching } = matched;
        let Candidate { number, document, sequences, .. } = candidate;
        let (snapshot, life) = (delivery.snapshot(), self.sign_of_life());
        let read = run_parts(&self.context, &mut self.names, snapshot, number, &document, &self.parts);
        let run = match self.pulse.during(read, life).await? {
            Ok(run) => run,
            Err(error) => return Ok(Err(error)),
        };
        let mut matching = matching.into_iter().peekable();
        let kept = sequences.into_iter().enumerate().filter(|(at, _)| matching.next_if_eq(at).is_some());
        let sequences = kept.map(|(_, sequence)| sequence).collect();
        let place = RunPlace { project: self.call.project, number };
        let kept = K::Open::default();
        Ok(Ok(OpenRun { place, run, sequences, read: 0, kept, is_begun: false, snapshot: None }))
    }

    /// Sends the sequences of a run; an inner error means that nothing of the run was sent.
    /// If it takes longer than a snapshot lives, it continues with a newer one.
    async fn pieces(
        &mut self,
        delivery: &mut Delivery,
        open: &mut OpenRun<K::Open>,
    ) -> Result<Result<()>, End> {
        let mut pieces = Vec::new();
        while open.read < open.sequences.len() {
            let (read, done) = match self.read(delivery, open).await? {
                Err(Error::Store(StoreError::SnapshotTooOld))
                    if open.read > 0 || K::is_inside(&open.kept) =>
                {
                    open.snapshot = Some(self.context.store.snapshot().await?);
                    self.read(delivery, open).await??
                }
                Err(error) if open.is_begun => return Err(error.into()),
                Err(error) => return Ok(Err(error)),
                Ok(read) => read,
            };
            open.read += done;
            let bytes = read.iter().map(K::bytes).sum::<usize>();
            let is_alone = self.rows.is_empty() && pieces.is_empty() && open.is_begun;
            // Large data is sent in a message of its own.
            if !is_alone && self.bytes + prost::Message::encoded_len(&open.run) + bytes > SHARED_BYTES {
                self.send_piece(delivery, open, std::mem::take(&mut pieces)).await?;
            }
            self.bytes += bytes;
            pieces.extend(read);
            if self.bytes >= MESSAGE_BYTES && open.read < open.sequences.len() {
                self.send_piece(delivery, open, std::mem::take(&mut pieces)).await?;
            }
        }
        self.push(open, pieces, false);
        if self.bytes >= MESSAGE_BYTES {
            self.flush(delivery, &mut open.snapshot).await?;
        }
        Ok(Ok(()))
    }

    /// Sends the pending rows, and the given pieces of a run that is not complete.
    async fn send_piece(
        &mut self,
        delivery: &mut Delivery,
        open: &mut OpenRun<K::Open>,
        pieces: Vec<K::Piece>,
    ) -> Result<(), End> {
        self.push(open, pieces, true);
        open.is_begun = true;
        self.flush(delivery, &mut open.snapshot).await?;
        if delivery.is_forgotten() && open.snapshot.is_none() {
            open.snapshot = Some(self.context.store.snapshot().await?);
        }
        Ok(())
    }

    async fn read(
        &mut self,
        delivery: &Delivery,
        open: &mut OpenRun<K::Open>,
    ) -> Result<Result<(Vec<K::Piece>, usize)>, End> {
        let OpenRun { place, sequences, read, kept, snapshot, .. } = open;
        let snapshot = snapshot.as_deref().unwrap_or_else(|| delivery.snapshot());
        let life = self.sign_of_life();
        let sequences = &sequences[*read..];
        let read = self.kind.read(&self.context, &self.call, snapshot, *place, sequences, kept);
        Ok(self.pulse.during(read, life).await?)
    }

    fn push(&mut self, open: &mut OpenRun<K::Open>, pieces: Vec<K::Piece>, more: bool) {
        let run_id = open.run.run_id.clone();
        let run = std::mem::replace(&mut open.run, Run { run_id, ..Run::default() });
        self.bytes += prost::Message::encoded_len(&run);
        self.rows.push(self.kind.row(run, pieces, more));
    }

    /// Sends the pending rows. No snapshot is held while waiting for a slow client.
    async fn flush(
        &mut self,
        delivery: &mut Delivery,
        newer: &mut Option<Box<dyn Snapshot>>,
    ) -> Result<(), End> {
        let message = self.message(false);
        let Err(message) = self.pulse.send_soon(message).await else { return Ok(()) };
        delivery.forget();
        *newer = None;
        Ok(self.pulse.send(message).await?)
    }

    fn message(&mut self, done: bool) -> K::Message {
        self.bytes = 0;
        let progress = self.progress();
        let warnings = always_raised(&self.scanner).filter(|_| done).into_iter().collect();
        K::message(std::mem::take(&mut self.rows), About { progress, warnings, done })
    }
}
