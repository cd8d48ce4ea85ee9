//! Searches of object sequences, with the requested steps and objects of each.

use std::sync::Arc;

use matyan_model::series::RunPlace;
use matyan_proto::{
    common::v1::{SeriesType, StepRange},
    objects::v1::{Selection, Sequence as Answer},
    runs::v1::Run,
    search::v1::{ObjectsRequest, ObjectsResponse, RunObjects},
};
use matyan_ql::Endpoint;
use matyan_store::Snapshot;
use prost::Message;

use super::{
    candidate::{Sequence, SequenceHeader},
    sequences::{About, Kind, SequenceSearch},
    text,
};
use crate::{
    Context,
    call::Call,
    error::{Error, Result},
    objects::{Cursor, Selected, is_list},
};

/// The data requested for each sequence.
pub(super) struct Objects {
    of: SeriesType,
    selection: Selection,
}

pub(super) fn search(
    context: Arc<Context>,
    call: Call,
    request: ObjectsRequest,
) -> Result<(SequenceSearch, Objects)> {
    let of = request.r#type();
    let endpoint = match of {
        SeriesType::Images => Endpoint::Images,
        SeriesType::Texts => Endpoint::Texts,
        SeriesType::Distributions => Endpoint::Distributions,
        SeriesType::Audios => Endpoint::Audios,
        SeriesType::Figures => Endpoint::Figures,
        SeriesType::Metric | SeriesType::Unspecified => {
            return Err(Error::field("type", "is not a type of objects: use images, texts or another"));
        }
    };
    let compiled = text::compiled(&context, request.query, endpoint)?;
    let search = SequenceSearch::new(context, call, compiled, request.parts, request.limit)?;
    Ok((search, Objects { of, selection: request.selection.unwrap_or_default() }))
}

impl Kind for Objects {
    type Message = ObjectsResponse;
    type Row = RunObjects;
    type Piece = Answer;
    type Open = Option<Cursor>;

    async fn read(
        &self,
        context: &Context,
        call: &Call,
        snapshot: &dyn Snapshot,
        run: RunPlace,
        sequences: &[Sequence],
        open: &mut Option<Cursor>,
    ) -> Result<(Vec<Answer>, usize)> {
        let Some(sequence) = sequences.first() else { return Ok((Vec::new(), 0)) };
        let SequenceHeader::Object(header) = &sequence.header else { return Ok((Vec::new(), 1)) };
        let mut cursor = match open.take() {
            Some(cursor) => cursor,
            None => {
                let selected = Selected::new(run.number, sequence.number, header.clone(), self.of);
                Cursor::new(context, call, selected, &self.selection).await?
            }
        };
        let piece = cursor.piece(context, snapshot).await;
        // Kept even on an error, so that a retry continues at the same position.
        *open = Some(cursor);
        let piece = piece?;
        if piece.more {
            return Ok((vec![piece], 0));
        }
        *open = None;
        Ok((vec![piece], 1))
    }

    fn is_inside(open: &Option<Cursor>) -> bool {
        open.is_some()
    }

    fn bytes(piece: &Answer) -> usize {
        piece.encoded_len()
    }

    fn row(&self, run: Run, sequences: Vec<Answer>, more: bool) -> RunObjects {
        let totals = || sequences.iter().filter_map(|sequence| sequence.record_range_total.as_ref());
        let start = totals().filter_map(|range| range.start).min();
        let stop = totals().filter_map(|range| range.stop).max();
        let longest = sequences.iter().map(|sequence| sequence.index_total).max().unwrap_or_default();
        RunObjects {
            run: Some(run),
            record_range_total: start.map(|_| StepRange { start, stop }),
            index_total: if is_list(self.of) { longest.max(1) } else { 0 },
            sequences,
            more,
        }
    }

    fn message(runs: Vec<RunObjects>, about: About) -> ObjectsResponse {
        let About { progress, warnings, done } = about;
        ObjectsResponse { runs, progress, warnings, done }
    }
}
