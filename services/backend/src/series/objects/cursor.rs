//! Reads the requested steps of a sequence in pieces of about a megabyte, however large its
//! payloads are. The list of steps is read from separate snapshots, the objects of a piece from
//! the snapshot passed in.

use std::collections::VecDeque;

use matyan_model::{
    ids::{NamedProject, Project},
    object::{Object, ObjectValue, object_steps_list, objects_between, objects_get, objects_list},
    series::Sampling,
};
use matyan_proto::{
    limits,
    objects::v1::{Selection, Sequence, Step},
};
use matyan_store::{Error as StoreError, Range, Scan, Snapshot};
use prost::Message;

use super::{
    item,
    sequence_lookup::{SelectedSequence, sequence},
};
use crate::server::{
    call::Call,
    convert,
    deps::Deps,
    error::{Error, Result},
};

/// Objects read at a time.
const PAGE: Scan = Scan { rows: 1_000, bytes: 1 << 20, ..Scan::DEFAULT };
/// Objects fetched by step at a time: each is at most as large as a value of the store.
const STEPS: usize = 16;
/// Maximum number of payloads read at once, because each may wait for a distant blob store. A large
/// payload is read alone.
const PAYLOADS: usize = 4;
/// A piece ends after the step that reaches this size.
const PIECE_BYTES: usize = 1 << 20;
/// Maximum size of a step: together with the earlier steps of its piece, it still fits in a
/// message.
const STEP_BYTES: usize = limits::MESSAGE_BYTES - 3 * PIECE_BYTES;

pub(crate) struct ObjectCursor {
    project: NamedProject,
    selected: SelectedSequence,
    selection: Selection,
    remaining: RemainingSteps,
    /// Objects that have been read, but not their payloads.
    objects: VecDeque<Object>,
    /// Steps that have been read but not sent yet.
    steps: VecDeque<Step>,
}

enum RemainingSteps {
    /// Every step of a range.
    All(Option<Range>),
    Steps(VecDeque<i64>),
}

impl ObjectCursor {
    pub(crate) async fn new(
        deps: &Deps,
        call: &Call,
        selected: SelectedSequence,
        selection: &Selection,
    ) -> Result<Self> {
        let steps = convert::step_range(selection.record_range);
        let SelectedSequence { run, number, .. } = selected;
        let range = objects_between(call.project, run, number, steps.first, steps.last);
        let density = selection.record_density as usize;
        let remaining = if steps.is_empty() {
            RemainingSteps::All(None)
        } else if density == 0 || selected.header.count <= density as u64 {
            RemainingSteps::All(Some(range))
        } else {
            let all = all_steps(deps, call.project, &selected, range.clone()).await?;
            let indexes = Sampling::Spread(density).positions(&all, &[]);
            // If all steps are wanted, reading the range takes fewer requests than
            // looking up each.
            if indexes.len() == all.len() {
                RemainingSteps::All(Some(range))
            } else {
                RemainingSteps::Steps(indexes.into_iter().map(|index| all[index]).collect())
            }
        };
        Ok(Self::over(call, selected, selection, remaining))
    }

    /// A cursor over a single step.
    pub(crate) fn for_step(
        call: &Call,
        selected: SelectedSequence,
        step: i64,
        selection: &Selection,
    ) -> Self {
        Self::over(call, selected, selection, RemainingSteps::Steps([step].into()))
    }

    fn over(
        call: &Call,
        selected: SelectedSequence,
        selection: &Selection,
        remaining: RemainingSteps,
    ) -> Self {
        Self {
            project: call.named_project(),
            selected,
            selection: *selection,
            remaining,
            objects: VecDeque::new(),
            steps: VecDeque::new(),
        }
    }

    /// The next piece, with `more` set if others follow. May be retried after an error.
    pub(crate) async fn piece(&mut self, deps: &Deps, snapshot: &dyn Snapshot) -> Result<Sequence> {
        let mut steps: Vec<Step> = Vec::new();
        let mut bytes = 0;
        while bytes < PIECE_BYTES {
            if self.steps.is_empty() && self.objects.is_empty() {
                match self.read(snapshot).await {
                    // Reading payloads may have taken a long time. The
                    // caller passes a newer snapshot for the next piece.
                    Err(Error::Store(StoreError::SnapshotTooOld)) if !steps.is_empty() => break,
                    result => result?,
                }
            }
            if self.steps.is_empty() {
                self.read_payloads(deps).await?;
            }
            let Some(step) = self.steps.pop_front() else { break };
            bytes += step.encoded_len();
            steps.push(step);
        }
        let more = !self.steps.is_empty() || !self.objects.is_empty() || !self.is_exhausted();
        Ok(Sequence { more, ..sequence(&self.selected, steps) })
    }

    fn is_exhausted(&self) -> bool {
        match &self.remaining {
            RemainingSteps::All(rest) => rest.is_none(),
            RemainingSteps::Steps(steps) => steps.is_empty(),
        }
    }

    /// Reads until at least one object is buffered or the end is reached.
    async fn read(&mut self, snapshot: &dyn Snapshot) -> Result<()> {
        let SelectedSequence { run, number, .. } = self.selected;
        while self.objects.is_empty() && !self.is_exhausted() {
            match &mut self.remaining {
                RemainingSteps::All(rest) => {
                    let Some(range) = rest.as_ref() else { break };
                    let (page, next) =
                        objects_list(snapshot, self.project.number, run, number, range, PAGE).await?;
                    self.objects = page.into();
                    *rest = next;
                }
                RemainingSteps::Steps(steps) => {
                    let wanted: Vec<i64> = steps.iter().take(STEPS).copied().collect();
                    let found = objects_get(snapshot, self.project.number, run, number, &wanted).await?;
                    // Objects that were deleted since they were listed are skipped.
                    self.objects.extend(found.into_iter().flatten());
                    steps.drain(..wanted.len());
                }
            }
        }
        Ok(())
    }

    /// Turns the next objects into steps.
    async fn read_payloads(&mut self, deps: &Deps) -> Result<()> {
        let mut bytes = 0;
        // A large payload is read alone.
        let count = self
            .objects
            .iter()
            .take(PAYLOADS)
            .take_while(|object| {
                bytes += payload_bytes(object);
                bytes <= PIECE_BYTES as u64
            })
            .count()
            .max(1);
        let steps = self.objects.iter().take(count).map(|object| self.step(deps, object));
        let steps = futures::future::try_join_all(steps).await?;
        self.objects.drain(..steps.len());
        self.steps.extend(steps);
        Ok(())
    }

    async fn step(&self, deps: &Deps, object: &Object) -> Result<Step> {
        let items = item::items(deps, &self.project, self.selected.series_type, object).await?;
        let mut step = Step {
            step: object.step,
            epoch: object.epoch,
            time_us: Some(object.time_us),
            object_count: u32::try_from(items.len()).unwrap_or(u32::MAX),
            objects: item::select(items, &self.selection),
        };
        let bytes = step.encoded_len();
        if bytes > STEP_BYTES {
            tracing::warn!(
                step = step.step,
                bytes,
                "step exceeds the maximum message size; sent without objects"
            );
            step.objects.clear();
        }
        Ok(step)
    }
}

fn payload_bytes(object: &Object) -> u64 {
    match &object.value {
        ObjectValue::Inline(encoded) => encoded.len() as u64,
        ObjectValue::Blob(blob) => blob.size,
    }
}

async fn all_steps(
    deps: &Deps,
    project: Project,
    selected: &SelectedSequence,
    range: Range,
) -> Result<Vec<i64>> {
    let mut steps = Vec::new();
    let mut rest = Some(range);
    while let Some(range) = rest {
        let snapshot = deps.store.snapshot().await?;
        let SelectedSequence { run, number, .. } = *selected;
        let (page, next) = object_steps_list(snapshot.as_ref(), project, run, number, &range).await?;
        steps.extend(page);
        rest = next;
    }
    Ok(steps)
}
