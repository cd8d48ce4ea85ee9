//! The state of each run when it was last sent, from which a change is described.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use matyan_model::{
    ids::RunNumber,
    run::{Document, Params, WritingState},
    series::RunRef,
};
use matyan_proto::runs::v1::{MetricProgress, RunChange, RunPart};
use matyan_store::Snapshot;

use crate::server::error::Result;

/// Maximum number of runs remembered. For a run that was forgotten, the changes are unknown.
const REMEMBERED: usize = 10_000;

/// Memory for such a run, including its share of the free slots of the map.
const RUN_BYTES: usize = 2 * (size_of::<RunNumber>() + size_of::<SentRun>());

struct SentRun {
    properties: u64,
    /// Digest of the params, or of the time of the last change if the params are in pieces.
    params: u64,
    writing: WritingState,
}

/// The state of a run that is sent.
pub(super) struct RunState<'s> {
    pub(super) document: &'s Document,
    pub(super) writing: WritingState,
    /// Number of edits of the series that the run shares as a branch.
    pub(super) shared_edits: u64,
    /// Whether points that it shares have changed.
    pub(super) shared_points: bool,
}

#[derive(Default)]
pub(super) struct SentRuns(HashMap<RunNumber, SentRun>);

impl SentRuns {
    /// Size of the remembered state.
    pub(super) fn bytes(&self) -> usize {
        self.0.len() * RUN_BYTES
    }

    pub(super) fn remove(&mut self, number: RunNumber) {
        self.0.remove(&number);
    }

    /// Describes the changes since the run was last sent.
    pub(super) async fn describe(
        &mut self,
        snapshot: &dyn Snapshot,
        run: RunRef,
        state: RunState<'_>,
        with_progress: bool,
    ) -> Result<RunChange> {
        let RunState { document, writing, shared_edits, shared_points } = state;
        if self.0.len() >= REMEMBERED {
            self.0 = HashMap::new();
        }
        let sent = SentRun { properties: properties(document), params: params(document), writing };
        let series_edits = writing.series_edits + shared_edits;
        let Some(before) = self.0.insert(run.number, sent) else {
            let data = writing.bytes > 0 || writing.points > 0 || series_edits > 0 || shared_points;
            return Ok(RunChange { data, series_edits, ..RunChange::default() });
        };
        let earlier = before.writing;
        let changed = [
            (RunPart::Properties, before.properties != properties(document)),
            (RunPart::Params, before.params != params(document)),
            (
                RunPart::Metrics,
                shared_points || (earlier.points, earlier.series) != (writing.points, writing.series),
            ),
            (
                RunPart::Objects,
                (earlier.objects, earlier.object_series) != (writing.objects, writing.object_series),
            ),
            (RunPart::TerminalLines, earlier.next_line != writing.next_line),
            (RunPart::LogRecords, earlier.next_log_record != writing.next_log_record),
        ];
        let parts: Vec<RunPart> =
            changed.into_iter().filter_map(|(part, is_changed)| is_changed.then_some(part)).collect();
        let data = earlier.series_edits != writing.series_edits
            || parts.iter().any(|part| !matches!(part, RunPart::Properties | RunPart::Params));
        // Which shared points have changed is not in the blocks of the run.
        let progress = if with_progress && !shared_points {
            progress(snapshot, run, &earlier, &writing).await?
        } else {
            None
        };
        let parts = parts.into_iter().map(i32::from).collect();
        Ok(RunChange { data, series_edits, parts, progress, ..RunChange::default() })
    }
}

async fn progress(
    snapshot: &dyn Snapshot,
    run: RunRef,
    earlier: &WritingState,
    writing: &WritingState,
) -> Result<Option<MetricProgress>> {
    let Some(steps) = run.progress(snapshot, earlier.next_block..writing.next_block).await? else {
        return Ok(None);
    };
    let mut progress = MetricProgress::default();
    for (number, steps) in steps {
        progress.numbers.push(number.0);
        progress.last_steps.push(*steps.end());
        progress.first_steps.push(*steps.start());
    }
    Ok(Some(progress))
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn properties(document: &Document) -> u64 {
    // Also changed by a change of params.
    let mut props = document.props.clone();
    props.updated_us = 0;
    digest(&props)
}

fn params(document: &Document) -> u64 {
    match &document.params {
        Params::Inline(params) => digest(params),
        Params::Pieces => digest(&document.props.updated_us),
    }
}
