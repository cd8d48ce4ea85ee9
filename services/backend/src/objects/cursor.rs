//! The asked steps of a sequence, read piece by piece: however large its payloads are, a piece is about a megabyte.
//! Which steps there are is read from snapshots of its own; what a piece holds, from the one that it is given.

use std::collections::VecDeque;

use matyan_model::{
    ids::{NamedProject, Project},
    object::{Object, objects_between, objects_get, objects_list},
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
    read::{Selected, sequence},
};
use crate::{
    Context,
    call::Call,
    convert,
    error::{Error, Result},
};

/// Objects that are read at once.
const PAGE: Scan = Scan { rows: 1_000, bytes: 1 << 20, reverse: false };
/// Objects that are asked for by their steps at once: none is larger than a value of the store.
const STEPS: usize = 16;
/// A piece ends behind the step that makes it so large.
const PIECE_BYTES: usize = 1 << 20;
/// The most that a step is: with all that stands before it in its piece it fits a message.
const STEP_BYTES: usize = limits::MESSAGE_BYTES - 3 * PIECE_BYTES;

pub(crate) struct Cursor {
    project: NamedProject,
    selected: Selected,
    selection: Selection,
    ahead: Ahead,
    /// Read, and not yet shown.
    objects: VecDeque<Object>,
}

enum Ahead {
    /// Every step of a range.
    All(Option<Range>),
    Steps(VecDeque<i64>),
}

impl Cursor {
    pub(crate) async fn new(
        context: &Context,
        call: &Call,
        selected: Selected,
        selection: &Selection,
    ) -> Result<Self> {
        let steps = convert::steps(selection.record_range.as_ref());
        let Selected { run, number, .. } = selected;
        let range = objects_between(call.project, run, number, steps.first, steps.last);
        let density = selection.record_density as usize;
        let ahead = if steps.is_empty() {
            Ahead::All(None)
        } else if density == 0 || selected.header.count <= density as u64 {
            Ahead::All(Some(range))
        } else {
            let all = all_steps(context, call.project, &selected, range.clone()).await?;
            let places = Sampling::Spread(density).places(&all);
            match places.len() == all.len() {
                true => Ahead::All(Some(range)),
                false => Ahead::Steps(places.into_iter().map(|place| all[place]).collect()),
            }
        };
        Ok(Self { project: call.named(), selected, selection: *selection, ahead, objects: VecDeque::new() })
    }

    /// One step alone.
    pub(crate) fn of_step(call: &Call, selected: Selected, step: i64, selection: &Selection) -> Self {
        let ahead = Ahead::Steps([step].into());
        Self { project: call.named(), selected, selection: *selection, ahead, objects: VecDeque::new() }
    }

    /// The next piece, with `more` if there are others. May be read again after an error.
    pub(crate) async fn piece(&mut self, context: &Context, snapshot: &dyn Snapshot) -> Result<Sequence> {
        let (mut steps, mut bytes): (Vec<Step>, usize) = (Vec::new(), 0);
        while bytes < PIECE_BYTES {
            if self.objects.is_empty() {
                match self.read(snapshot).await {
                    // Payloads may have taken long. Whoever asks for the next piece has a newer snapshot for it.
                    Err(Error::Store(StoreError::SnapshotTooOld)) if !steps.is_empty() => break,
                    read => read?,
                }
            }
            let Some(object) = self.objects.front() else { break };
            let step = self.step(context, object).await?;
            self.objects.pop_front();
            bytes += step.encoded_len();
            steps.push(step);
        }
        let more = !self.objects.is_empty() || !self.is_read();
        Ok(Sequence { more, ..sequence(&self.selected, steps) })
    }

    fn is_read(&self) -> bool {
        match &self.ahead {
            Ahead::All(rest) => rest.is_none(),
            Ahead::Steps(steps) => steps.is_empty(),
        }
    }

    /// Reads objects until there is one.
    async fn read(&mut self, snapshot: &dyn Snapshot) -> Result<()> {
        let Selected { run, number, .. } = self.selected;
        while self.objects.is_empty() && !self.is_read() {
            match &mut self.ahead {
                Ahead::All(rest) => {
                    let Some(range) = rest.as_ref() else { break };
                    let (page, next) =
                        objects_list(snapshot, self.project.number, run, number, range, PAGE).await?;
                    (self.objects, *rest) = (page.into(), next);
                }
                Ahead::Steps(steps) => {
                    let asked: Vec<i64> = steps.iter().take(STEPS).copied().collect();
                    let found = objects_get(snapshot, self.project.number, run, number, &asked).await?;
                    // One that has gone meanwhile is passed.
                    self.objects.extend(found.into_iter().flatten());
                    steps.drain(..asked.len());
                }
            }
        }
        Ok(())
    }

    async fn step(&self, context: &Context, object: &Object) -> Result<Step> {
        let items = item::items(context, &self.project.name, self.selected.of, object).await?;
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
                "objects are larger than a message: their step is shown empty"
            );
            step.objects.clear();
        }
        Ok(step)
    }
}

async fn all_steps(
    context: &Context,
    project: Project,
    selected: &Selected,
    range: Range,
) -> Result<Vec<i64>> {
    let (mut steps, mut rest) = (Vec::new(), Some(range));
    while let Some(range) = rest {
        let snapshot = context.store.snapshot().await?;
        let place = (project, selected.run, selected.number);
        let (page, next) = objects_list(snapshot.as_ref(), place.0, place.1, place.2, &range, PAGE).await?;
        steps.extend(page.into_iter().map(|object| object.step));
        rest = next;
    }
    Ok(steps)
}
