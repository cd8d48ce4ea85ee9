//! Searches of sequences of any kind: runs with a match are sent newest first, each with its
//! matching sequences. A run with many sequences is sent in pieces; only one piece, about the
//! size of a message, is in memory at a time.

use matyan_model::{ids::RunNumber, series::RunRef};
use matyan_proto::{
    runs::v1::{Run, RunParts},
    search::v1::Query,
};
use matyan_ql::Endpoint;
use matyan_store::{Error as StoreError, Snapshot};
use prost::Message as _;

use super::unknown_names::unknown_names;
use crate::{
    listing::{Cursor, request_digest},
    query::{
        candidates::{Candidate, MatchedRun, RunScanner, Sequence},
        catalog::Catalog,
        plan::CompiledQuery,
        row_stream::{Delivery, KeepAlive, MessageStatus, Rank, RowStream},
    },
    server::{
        call::Call,
        convert,
        deps::Deps,
        error::{Error, Result},
        large_runs::LargeRunRoom,
        stream::{MESSAGE_BYTES, Sender, StreamEnd},
    },
    view::{EntityNames, run_parts},
};

/// Maximum size of a message that combines several pieces: the params of a run and a large
/// object can each fill a message.
const SHARED_BYTES: usize = 2 * MESSAGE_BYTES;

/// The data sent for sequences of one kind.
pub(crate) trait SequenceKind: Send + Sync {
    type Message: Send;
    /// One run and some of its sequences.
    type Row: Send;
    /// The data sent for one sequence or a part of it.
    type Piece: Send;
    /// State of a run kept between two reads, including a partially read sequence: data too
    /// large for one message is sent in pieces.
    type State: Default + Send;

    /// Reads the requested data of the first sequences, in order, about as much as fits in
    /// a message. Returns how many of them were read to the end; the following one may be
    /// partially read. May be called again after an error.
    fn read(
        &self,
        deps: &Deps,
        call: &Call,
        snapshot: &dyn Snapshot,
        run: RunRef,
        sequences: &[Sequence],
        open: &mut Self::State,
    ) -> impl Future<Output = Result<(Vec<Self::Piece>, usize)>> + Send;

    /// Whether the next sequence is partially read.
    fn is_partial(open: &Self::State) -> bool;

    fn bytes(piece: &Self::Piece) -> usize;

    fn row(&self, run: Run, pieces: Vec<Self::Piece>, more: bool) -> Self::Row;

    fn message(rows: Vec<Self::Row>, about: MessageStatus) -> Self::Message;
}

/// A validated request.
pub(crate) struct SequenceSearch {
    catalog: Catalog,
    pub(super) call: Call,
    pub(super) compiled: CompiledQuery,
    pub(super) parts: RunParts,
    page: SequencePage,
    scope: SearchScope,
}

/// The part of a project that is searched.
#[derive(Clone, Default)]
pub(crate) struct SearchScope {
    /// Only these runs, ascending.
    pub(crate) runs: Option<Vec<RunNumber>>,
    /// Only this run and older runs.
    pub(crate) newest: Option<RunNumber>,
}

/// The runs that a request asks for.
pub(crate) struct SequencePage {
    /// Maximum number of runs with a match; 0 for all.
    pub(super) limit: u32,
    /// As in the request.
    pub(super) cursor: String,
    /// Digest of the parts of the request that a cursor of this list depends on.
    pub(super) digest: u64,
}

impl SequencePage {
    pub(crate) fn new(endpoint: Endpoint, query: Option<&Query>, limit: u32, cursor: String) -> Self {
        let query = query.map(|query| Query { report_progress: false, ..query.clone() });
        let query = query.unwrap_or_default().encode_to_vec();
        let digest = request_digest(&[format!("{endpoint:?}").as_bytes(), &query]);
        Self { limit, cursor, digest }
    }
}

impl SequenceSearch {
    pub(crate) fn new(
        catalog: &Catalog,
        call: Call,
        compiled: CompiledQuery,
        parts: Option<RunParts>,
        page: SequencePage,
    ) -> Result<Self> {
        let parts = convert::parts(parts)?;
        Ok(Self { catalog: catalog.clone(), call, compiled, parts, page, scope: SearchScope::default() })
    }

    /// Searches only a part of the project.
    pub(crate) fn within(self, scope: SearchScope) -> Self {
        Self { scope, ..self }
    }

    /// Sends what is found. Without a room, large runs do not wait for others.
    pub(crate) async fn send<K: SequenceKind>(
        self,
        kind: K,
        sender: &Sender<K::Message>,
        room: Option<&mut LargeRunRoom>,
    ) -> Result<(), StreamEnd> {
        let mut keep_alive = KeepAlive::new(sender);
        let last = match self.page.cursor.as_str() {
            "" => None,
            text => Some(Cursor::decode_newest_first(text, self.page.digest)?),
        };
        let deps = self.catalog.deps.clone();
        let project = self.call.project;
        let mut scanner = match self.scope.runs {
            Some(runs) => RunScanner::of_runs(deps, project, &self.compiled, runs),
            None => {
                let opened = RunScanner::new(deps, project, &self.compiled);
                keep_alive.during(opened, || None).await??
            }
        };
        if let Some(newest) = self.scope.newest {
            scanner.seek(newest);
        }
        if let Some(last) = last {
            scanner.seek_after(last);
        }
        let stream =
            RowStream::start(keep_alive, scanner, &self.compiled, |status| K::message(Vec::new(), status))
                .await?;
        let sequences = SequenceSender {
            stream,
            room,
            names: EntityNames::new(&self.call),
            sent: SentPage {
                left: (self.page.limit > 0).then_some(self.page.limit),
                last: None,
                is_first: last.is_none(),
                digest: self.page.digest,
            },
            rows: Vec::new(),
            bytes: 0,
            compiled: self.compiled,
            catalog: self.catalog,
            call: self.call,
            parts: self.parts,
            kind,
        };
        sequences.run().await
    }
}

struct SequenceSender<'s, K: SequenceKind> {
    catalog: Catalog,
    call: Call,
    kind: K,
    stream: RowStream<'s, K::Message>,
    room: Option<&'s mut LargeRunRoom>,
    names: EntityNames,
    parts: RunParts,
    compiled: CompiledQuery,
    sent: SentPage,
    /// Rows of the next message, and their size.
    rows: Vec<K::Row>,
    bytes: usize,
}

/// The progress of a page.
struct SentPage {
    /// Number of runs still wanted, or `None` for all.
    left: Option<u32>,
    /// The last run.
    last: Option<(RunNumber, String)>,
    /// Nothing was sent before it.
    is_first: bool,
    /// Digest of the list.
    digest: u64,
}

/// A run that has been sent only partly.
struct OpenRun<S> {
    run_ref: RunRef,
    /// Contains the requested parts until the first piece is sent.
    run: Run,
    sequences: Vec<Sequence>,
    read: usize,
    state: S,
    /// Part of the run has been sent, so it cannot be restarted.
    is_partly_sent: bool,
    /// The snapshot for the rest of the run, once the first one was dropped.
    snapshot: Option<Box<dyn Snapshot>>,
}

/// Why a run was not sent to its end.
enum RunEnd {
    /// The run could not be read, and nothing of it was sent.
    Unread(Error),
    /// The stream ends.
    Stream(StreamEnd),
}

impl RunEnd {
    /// The end of the stream, for a run that was sent in part.
    fn into_stream_end(self) -> StreamEnd {
        match self {
            Self::Unread(error) => error.into(),
            Self::Stream(end) => end,
        }
    }
}

impl<E: Into<StreamEnd>> From<E> for RunEnd {
    fn from(end: E) -> Self {
        Self::Stream(end.into())
    }
}

impl<K: SequenceKind> SequenceSender<'_, K> {
    async fn run(mut self) -> Result<(), StreamEnd> {
        while self.sent.left != Some(0) {
            let Some(page) = self.stream.next_page().await? else { break };
            if self.sent.left.is_none_or(|left| left as usize > page.matched.len()) {
                self.stream.read_ahead();
            }
            let mut delivery = Delivery::from_page(page, std::iter::repeat(None));
            while self.sent.left != Some(0) {
                let Some((rank, matched)) = self.stream.next_run(&mut delivery).await? else { break };
                self.send_run(&mut delivery, rank, matched).await?;
            }
            // Found rows are not held back while the scan continues.
            if !self.rows.is_empty() && !self.stream.scanner.is_done() {
                self.flush(&mut delivery, &mut None).await?;
            }
        }
        if self.stream.found == 0 && self.sent.is_first {
            let unknown = unknown_names(&self.catalog, &self.call, &self.compiled);
            let warnings = self.stream.during(unknown).await??;
            if !warnings.is_empty() {
                let status = MessageStatus { warnings, ..MessageStatus::default() };
                self.stream.send(K::message(Vec::new(), status)).await?;
            }
        }
        let last = self.sent.last.as_ref().filter(|_| self.sent.left == Some(0));
        let next_cursor =
            last.map(|(number, run_id)| Cursor::newest_first(self.sent.digest, *number, run_id).encode());
        let status = self.stream.last_status(Vec::new(), next_cursor.unwrap_or_default());
        let message = K::message(self.rows, status);
        self.stream.send(message).await
    }

    async fn send_run(
        &mut self,
        delivery: &mut Delivery,
        rank: Rank,
        matched: MatchedRun,
    ) -> Result<(), StreamEnd> {
        let number = matched.candidate.number;
        let run_id = matched.candidate.document.props.run_id.clone();
        match self.open_and_send(delivery, matched).await {
            Ok(false) => self.wait_for_room(delivery, (number, rank)).await,
            Ok(true) => {
                self.stream.found += 1;
                self.sent.last = Some((number, run_id));
                self.sent.left = self.sent.left.map(|left| left - 1);
                Ok(())
            }
            Err(RunEnd::Unread(error @ Error::Damaged(_))) => self.leave_out((number, &run_id), error),
            Err(RunEnd::Unread(error)) => Ok(delivery.take_back(number, rank, error)?),
            Err(RunEnd::Stream(end)) => Err(end),
        }
    }

    async fn wait_for_room(
        &mut self,
        delivery: &mut Delivery,
        run: (RunNumber, Rank),
    ) -> Result<(), StreamEnd> {
        if !self.rows.is_empty() {
            self.flush(delivery, &mut None).await?;
        }
        let room = self.room.as_mut().expect("without one, there is room for every run");
        self.stream.wait_for_room(room, delivery, run).await
    }

    /// Returns false if there is no room for the run.
    async fn open_and_send(&mut self, delivery: &mut Delivery, matched: MatchedRun) -> Result<bool, RunEnd> {
        let Some(mut open) = self.open(delivery, matched).await? else { return Ok(false) };
        self.send_pieces(delivery, &mut open).await?;
        Ok(true)
    }

    fn leave_out(&mut self, run: (RunNumber, &str), error: Error) -> Result<(), StreamEnd> {
        let metrics = &self.catalog.deps.metrics;
        Ok(self.stream.scanner.left_out.leave_out(metrics, run, error)?)
    }

    async fn open(
        &mut self,
        delivery: &Delivery,
        matched: MatchedRun,
    ) -> Result<Option<OpenRun<K::State>>, RunEnd> {
        let MatchedRun { candidate, sequences: matching } = matched;
        let Candidate { number, document, sequences, .. } = candidate;
        let snapshot = delivery.snapshot();
        let read = run_parts(&self.catalog.deps, &mut self.names, snapshot, number, &document, &self.parts);
        let run = self.stream.during(read).await?.map_err(RunEnd::Unread)?;
        if let Some(room) = &mut self.room
            && !room.is_enough_for(&run)
        {
            return Ok(None);
        }
        let mut matching = matching.into_iter().peekable();
        let selected =
            sequences.into_vec().into_iter().enumerate().filter(|(at, _)| matching.next_if_eq(at).is_some());
        let sequences = selected.map(|(_, sequence)| sequence).collect();
        Ok(Some(OpenRun {
            run_ref: RunRef { project: self.call.project, number },
            run,
            sequences,
            read: 0,
            state: K::State::default(),
            is_partly_sent: false,
            snapshot: None,
        }))
    }

    /// Sends the sequences of a run. If that takes longer than a snapshot lives, it continues with a
    /// newer snapshot.
    async fn send_pieces(
        &mut self,
        delivery: &mut Delivery,
        open: &mut OpenRun<K::State>,
    ) -> Result<(), RunEnd> {
        let mut pieces = Vec::new();
        while open.read < open.sequences.len() {
            let (read, done) = match self.read(delivery, open).await {
                Err(RunEnd::Unread(Error::Store(StoreError::SnapshotTooOld)))
                    if open.read > 0 || K::is_partial(&open.state) =>
                {
                    open.snapshot = Some(self.catalog.deps.store.snapshot().await?);
                    self.read(delivery, open).await.map_err(RunEnd::into_stream_end)?
                }
                // The rest of a run that was sent in part.
                Err(RunEnd::Unread(error @ Error::Damaged(_))) if open.is_partly_sent => {
                    self.leave_out((open.run_ref.number, &open.run.run_id), error)?;
                    break;
                }
                Err(end) if open.is_partly_sent => return Err(RunEnd::Stream(end.into_stream_end())),
                read => read?,
            };
            open.read += done;
            // Others have their turn.
            tokio::task::yield_now().await;
            let bytes = read.iter().map(K::bytes).sum::<usize>();
            let is_alone = self.rows.is_empty() && pieces.is_empty() && open.is_partly_sent;
            // Large data is sent in a separate message.
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
        Ok(())
    }

    /// Sends the pending rows, and the given pieces of an incomplete run.
    async fn send_piece(
        &mut self,
        delivery: &mut Delivery,
        open: &mut OpenRun<K::State>,
        pieces: Vec<K::Piece>,
    ) -> Result<(), StreamEnd> {
        self.push(open, pieces, true);
        open.is_partly_sent = true;
        self.flush(delivery, &mut open.snapshot).await?;
        if delivery.has_no_snapshot() && open.snapshot.is_none() {
            open.snapshot = Some(self.catalog.deps.store.snapshot().await?);
        }
        Ok(())
    }

    async fn read(
        &mut self,
        delivery: &Delivery,
        open: &mut OpenRun<K::State>,
    ) -> Result<(Vec<K::Piece>, usize), RunEnd> {
        let OpenRun { run_ref, sequences, read, state, snapshot, .. } = open;
        let snapshot = snapshot.as_deref().unwrap_or_else(|| delivery.snapshot());
        let sequences = &sequences[*read..];
        let read = self.kind.read(&self.catalog.deps, &self.call, snapshot, *run_ref, sequences, state);
        self.stream.during(read).await?.map_err(RunEnd::Unread)
    }

    fn push(&mut self, open: &mut OpenRun<K::State>, pieces: Vec<K::Piece>, more: bool) {
        let run_id = open.run.run_id.clone();
        let run = std::mem::replace(&mut open.run, Run { run_id, ..Run::default() });
        self.bytes += prost::Message::encoded_len(&run);
        self.rows.push(self.kind.row(run, pieces, more));
    }

    /// Sends the pending rows.
    async fn flush(
        &mut self,
        delivery: &mut Delivery,
        newer: &mut Option<Box<dyn Snapshot>>,
    ) -> Result<(), StreamEnd> {
        self.bytes = 0;
        let status = MessageStatus { progress: self.stream.progress(), ..MessageStatus::default() };
        let message = K::message(std::mem::take(&mut self.rows), status);
        self.stream.flush(message, delivery, newer).await
    }
}
