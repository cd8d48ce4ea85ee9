//! Searches of sequences as a stream: the runs found, each written as a tree over one or several
//! messages, and the progress between them.

use matyan_proto::common::v1::Progress;
use matyan_proto::search::v1::Warning;

use super::stream_response::{EntryWriter, ProgressWriter};
use crate::stream::Encoder;

/// Writes runs with sequences of one kind. A run may be split over several rows.
pub(super) trait RowWriter: Send + 'static {
    type Message: Send + 'static;
    /// A run, or part of it, with some of its sequences.
    type Row;

    fn warnings(message: &Self::Message) -> &[Warning];

    fn into_page(message: Self::Message) -> SearchPage<Self::Row>;

    fn write_row(&mut self, row: Self::Row, encoder: &mut Encoder);

    /// Whether the last run is complete.
    fn is_complete(&self) -> bool;
}

/// The content of a message of a search.
pub(super) struct SearchPage<R> {
    pub(super) rows: Vec<R>,
    pub(super) progress: Option<Progress>,
    pub(super) done: bool,
}

pub(super) struct SearchWriter<W> {
    rows: W,
    progress: ProgressWriter,
    done: bool,
}

impl<W> SearchWriter<W> {
    pub(super) fn new(rows: W, progress: ProgressWriter) -> Self {
        SearchWriter { rows, progress, done: false }
    }
}

impl<W: RowWriter> EntryWriter for SearchWriter<W> {
    type Message = W::Message;

    fn warnings(message: &W::Message) -> &[Warning] {
        W::warnings(message)
    }

    fn write(&mut self, message: W::Message, encoder: &mut Encoder) {
        let SearchPage { rows, progress, done } = W::into_page(message);
        let is_keep_alive = rows.is_empty() && !done;
        for row in rows {
            self.rows.write_row(row, encoder);
        }
        // A progress entry in the middle of a run would split its tree.
        if let Some(progress) = progress.filter(|_| self.rows.is_complete()) {
            self.progress.write_search_progress(encoder, &progress, is_keep_alive);
        }
        self.done |= done;
    }

    fn finish(&mut self, encoder: &mut Encoder) -> bool {
        self.progress.write_end(encoder);
        self.done && self.rows.is_complete()
    }
}
