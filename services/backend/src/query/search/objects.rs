//! Searches of object sequences, with the requested steps and objects of each.

use matyan_model::series::RunRef;
use matyan_proto::{
    common::v1::{SeriesType, StepRange},
    objects::v1::{Selection, Sequence as SequenceSteps},
    runs::v1::Run,
    search::v1::{ObjectsRequest, ObjectsResponse, RunObjects},
};
use matyan_ql::Endpoint;
use matyan_store::Snapshot;
use prost::Message;

use super::sequences::{SequenceKind, SequencePage, SequenceSearch};
use crate::{
    query::{
        candidates::{Sequence, SequenceHeader},
        catalog::Catalog,
        plan::query_text,
        row_stream::MessageStatus,
    },
    series::objects::{ObjectCursor, SelectedSequence, is_list},
    server::{
        call::Call,
        deps::Deps,
        error::{Error, Result},
    },
};

/// The data requested for each sequence.
pub(crate) struct ObjectSequences {
    series_type: SeriesType,
    selection: Selection,
}

pub(crate) async fn search(
    catalog: &Catalog,
    call: Call,
    request: ObjectsRequest,
) -> Result<(SequenceSearch, ObjectSequences)> {
    let series_type = request.r#type();
    let endpoint = match series_type {
        SeriesType::Images => Endpoint::Images,
        SeriesType::Texts => Endpoint::Texts,
        SeriesType::Distributions => Endpoint::Distributions,
        SeriesType::Audios => Endpoint::Audios,
        SeriesType::Figures => Endpoint::Figures,
        SeriesType::Htmls => Endpoint::Htmls,
        SeriesType::PointClouds => Endpoint::PointClouds,
        SeriesType::Metric | SeriesType::Unspecified => {
            return Err(Error::field("type", "is not a type of objects: use images, texts or another"));
        }
    };
    let page = SequencePage::new(endpoint, request.query.as_ref(), request.limit, request.cursor);
    let compiled = query_text::compile_query(&catalog.deps, request.query, endpoint).await?;
    let search = SequenceSearch::new(catalog, call, compiled, request.parts, page)?;
    Ok((search, ObjectSequences { series_type, selection: request.selection.unwrap_or_default() }))
}

impl SequenceKind for ObjectSequences {
    type Message = ObjectsResponse;
    type Row = RunObjects;
    type Piece = SequenceSteps;
    type State = Option<ObjectCursor>;

    async fn read(
        &self,
        deps: &Deps,
        call: &Call,
        snapshot: &dyn Snapshot,
        run: RunRef,
        sequences: &[Sequence],
        open: &mut Option<ObjectCursor>,
    ) -> Result<(Vec<SequenceSteps>, usize)> {
        let Some(sequence) = sequences.first() else { return Ok((Vec::new(), 0)) };
        let SequenceHeader::Object(header) = &sequence.header else { return Ok((Vec::new(), 1)) };
        let mut cursor = match open.take() {
            Some(cursor) => cursor,
            None => {
                let selected =
                    SelectedSequence::new(run.number, sequence.number, header.clone(), self.series_type);
                ObjectCursor::new(deps, call, selected, &self.selection).await?
            }
        };
        let piece = cursor.piece(deps, snapshot).await;
        // Kept even on an error, so that a retry continues at the same position.
        *open = Some(cursor);
        let piece = piece?;
        if piece.more {
            return Ok((vec![piece], 0));
        }
        *open = None;
        Ok((vec![piece], 1))
    }

    fn is_partial(open: &Option<ObjectCursor>) -> bool {
        open.is_some()
    }

    fn bytes(piece: &SequenceSteps) -> usize {
        piece.encoded_len()
    }

    fn row(&self, run: Run, sequences: Vec<SequenceSteps>, more: bool) -> RunObjects {
        let totals = || sequences.iter().filter_map(|sequence| sequence.record_range_total.as_ref());
        let start = totals().filter_map(|range| range.start).min();
        let stop = totals().filter_map(|range| range.stop).max();
        let longest = sequences.iter().map(|sequence| sequence.index_total).max().unwrap_or_default();
        RunObjects {
            run: Some(run),
            record_range_total: start.map(|_| StepRange { start, stop }),
            index_total: if is_list(self.series_type) { longest.max(1) } else { 0 },
            sequences,
            more,
        }
    }

    fn message(runs: Vec<RunObjects>, about: MessageStatus) -> ObjectsResponse {
        let MessageStatus { progress, warnings, done, next_cursor, damaged_runs } = about;
        ObjectsResponse { runs, progress, warnings, done, next_cursor, damaged_runs }
    }
}
