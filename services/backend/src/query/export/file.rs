//! The file of an export: messages of a search become batches of rows, and these become bytes.

use std::{sync::Arc, time::Duration};

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;
use matyan_export::{TableFormat, TableWriter};
use matyan_proto::{common::v1::Progress, export::v1::Piece, search::v1::Warning};

use crate::server::{
    deps::Deps,
    error::{Error, Result},
    stream::{Sender, StreamEnd},
};

/// Rows in a batch.
pub(super) const BATCH_ROWS: usize = 8 * 1024;

/// Bytes of texts after which a batch ends.
pub(super) const BATCH_TEXT_BYTES: usize = 1 << 20;

/// Bytes of the file that are written before they are sent.
const WRITTEN_BYTES: usize = 1 << 20;

/// Maximum size of a message.
const PIECE_BYTES: usize = 256 << 10;

/// The longest time that a client may take nothing, because there is only room for some exports.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);

/// The rows of a table, made of the messages of a search.
pub(super) trait TableRows: Send + 'static {
    type Message: Send + 'static;

    fn schema(&self) -> SchemaRef;

    /// Takes the next message, when the previous one is used up.
    fn add(&mut self, message: Self::Message) -> SearchStatus;

    /// The next full batch, or `None` if there is none without another message.
    fn batch(&mut self) -> Result<Option<RecordBatch>, RowsError>;

    /// The rows that filled no batch.
    fn rest(&mut self) -> Result<Option<RecordBatch>, RowsError>;
}

/// Why a message could not become rows.
pub(super) enum RowsError {
    Arrow(ArrowError),
    Failed(Error),
}

impl From<ArrowError> for RowsError {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(error)
    }
}

impl From<RowsError> for Error {
    fn from(error: RowsError) -> Self {
        match error {
            RowsError::Arrow(error) => matyan_export::Error::from(error).into(),
            RowsError::Failed(error) => error,
        }
    }
}

/// The state of a search as of a message.
pub(super) struct SearchStatus {
    pub(super) progress: Option<Progress>,
    pub(super) warnings: Vec<Warning>,
    pub(super) done: bool,
}

/// A table that is being written.
struct Table<R> {
    rows: R,
    writer: TableWriter,
    row_count: u64,
}

/// The next bytes of a file.
struct FilePart {
    bytes: Vec<u8>,
    /// Number of rows up to their end.
    rows: u64,
}

/// Parts of a file that were written together.
struct WrittenParts {
    parts: Vec<FilePart>,
    /// Whether more batches can be written without another message.
    more: bool,
}

impl<R: TableRows> Table<R> {
    /// Writes batches as long as there are any, up to about `WRITTEN_BYTES`.
    fn write_batches(&mut self) -> Result<WrittenParts> {
        let mut parts = Vec::new();
        let mut written = 0;
        while written < WRITTEN_BYTES {
            let Some(batch) = self.rows.batch()? else { return Ok(WrittenParts { parts, more: false }) };
            self.write(&batch)?;
            let bytes = self.writer.take();
            written += bytes.len();
            parts.push(FilePart { bytes, rows: self.row_count });
        }
        Ok(WrittenParts { parts, more: true })
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        if let Some(batch) = self.rows.rest()? {
            self.write(&batch)?;
        }
        self.writer.finish()?;
        Ok(self.writer.take())
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.writer.write(batch)?;
        self.row_count += batch.num_rows() as u64;
        Ok(())
    }
}

/// Works on a table on a thread of the queries.
async fn on_query_thread<R: TableRows, O: Send + 'static>(
    deps: &Deps,
    mut table: Box<Table<R>>,
    work: fn(&mut Table<R>) -> Result<O>,
) -> Result<(Box<Table<R>>, O)> {
    let done = deps.evaluation.run(move || work(&mut table).map(|done| (table, done)));
    done.await?
}

pub(super) struct FileExport<R: TableRows> {
    deps: Arc<Deps>,
    table: Box<Table<R>>,
}

impl<R: TableRows> FileExport<R> {
    pub(super) fn new(deps: Arc<Deps>, format: TableFormat, rows: R) -> Result<Self> {
        let writer = TableWriter::new(format, rows.schema())?;
        Ok(Self { deps, table: Box::new(Table { rows, writer, row_count: 0 }) })
    }

    /// Runs the search, and sends its results as a file.
    pub(super) async fn send<T, F>(
        self,
        search: impl FnOnce(Sender<R::Message>) -> F,
        sender: &Sender<T>,
        wrap: fn(Piece) -> T,
    ) -> Result<(), StreamEnd>
    where
        F: Future<Output = Result<(), StreamEnd>>,
    {
        let (messages, mut found) = sender.inner();
        let searching = Box::pin(search(messages));
        let Self { deps, mut table } = self;
        let writing = Box::pin(async move {
            let mut client = FileClient { sender, wrap, progress: None };
            while let Some(message) = found.recv().await {
                let SearchStatus { progress, warnings, done } = table.rows.add(message);
                client.progress = progress;
                if progress.is_some() || !warnings.is_empty() {
                    client.send(Piece { rows: table.row_count, warnings, ..Piece::default() }).await?;
                }
                let mut more = true;
                while more {
                    let written;
                    (table, written) = on_query_thread(&deps, table, Table::write_batches).await?;
                    more = written.more;
                    for FilePart { bytes, rows } in written.parts {
                        client.send_bytes(bytes, rows).await?;
                    }
                }
                if done {
                    let (table, written) = on_query_thread(&deps, table, Table::finish).await?;
                    client.send_bytes(written, table.row_count).await?;
                    return client.send(Piece { rows: table.row_count, done, ..Piece::default() }).await;
                }
            }
            // The search failed, which ends both.
            Err(Error::Broken.into())
        });
        tokio::try_join!(searching, writing)?;
        Ok(())
    }
}

/// The receiver of the file.
struct FileClient<'s, T> {
    sender: &'s Sender<T>,
    wrap: fn(Piece) -> T,
    progress: Option<Progress>,
}

impl<T> FileClient<'_, T> {
    async fn send(&self, piece: Piece) -> Result<(), StreamEnd> {
        let piece = Piece { progress: self.progress, ..piece };
        let sending = self.sender.send((self.wrap)(piece));
        tokio::time::timeout(CLIENT_TIMEOUT, sending).await.map_err(|_| Error::ClientStalled)?
    }

    async fn send_bytes(&self, written: Vec<u8>, rows: u64) -> Result<(), StreamEnd> {
        let mut written = Bytes::from(written);
        while !written.is_empty() {
            let data = written.split_to(written.len().min(PIECE_BYTES));
            self.send(Piece { data, rows, ..Piece::default() }).await?;
        }
        Ok(())
    }
}
