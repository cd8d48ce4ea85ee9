//! Following series: sends points as they are applied. A change says only which run it touched, so
//! what is new is found by step: the points after the last one that was sent. The series is stale if
//! its summary is not that of the points sent before and the new ones: then earlier points have
//! changed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use matyan_model::{
    ids::RunNumber,
    run::{run_id_get, writing_get},
    series::{Point, StepRange, Summary},
};
use matyan_proto::series::v1::{
    FollowRequest, FollowResponse, Place, PointColumns, RunSelection, SeriesPoints,
};
use prost::Message;
use tokio::time::Instant;

use super::{
    columns::{DEFAULT_COLUMNS, full_columns},
    points::{OpenedSeries, open_series},
    run_reader::{RunReader, batch_size},
    select::{self, SelectedSeries},
};
use crate::{
    Backend, Deps,
    call::Call,
    convert,
    error::{Error, Result},
    live::{ChangedRun, LiveEvent, LiveEvents},
    stream::{MESSAGE_BYTES, Sender, StreamEnd},
};

/// Maximum number of other runs remembered; forgetting them costs a lookup of each.
const REMEMBERED: usize = 100_000;

pub(crate) struct Follow {
    deps: Arc<Deps>,
    call: Call,
    columns: PointColumns,
    density: u32,
    runs: Vec<FollowedRun>,
    /// Runs whose ids are known, with their indexes in `runs`; none for runs that are not followed.
    known: HashMap<RunNumber, Vec<usize>>,
    events: LiveEvents,
}

struct FollowedRun {
    selection: RunSelection,
    steps: StepRange,
    /// The run that had this id when it was last read, and the number of edits of its series.
    read: Option<(RunNumber, u64)>,
    /// The whole of each requested series when it was sent, by position.
    series: Vec<Option<Summary>>,
}

pub(crate) async fn begin(backend: &Backend, call: Call, request: FollowRequest) -> Result<Follow> {
    select::check(&request.runs)?;
    if request.runs.is_empty() {
        return Err(Error::field("runs", "is empty: name at least one run"));
    }
    let settle = convert::settle_time(request.settle_ms)?;
    let deps = backend.deps.clone();
    // Before anything is read, so that no change is missed.
    let events = LiveEvents::from_now(backend, &call, settle).await?;
    let steps = convert::step_range(request.steps.as_ref());
    let run = |selection: RunSelection| {
        let series = vec![None; select::series_count(&selection)];
        FollowedRun { selection, steps, read: None, series }
    };
    Ok(Follow {
        deps,
        call,
        columns: request.columns.unwrap_or(DEFAULT_COLUMNS),
        density: request.density,
        runs: request.runs.into_iter().map(run).collect(),
        known: HashMap::new(),
        events,
    })
}

impl Follow {
    pub(crate) async fn run(mut self, sender: &Sender<FollowResponse>) -> Result<(), StreamEnd> {
        for index in 0..self.runs.len() {
            self.send_news(index, sender).await?;
        }
        sender.send(FollowResponse { caught_up: true, ..FollowResponse::default() }).await?;
        loop {
            match self.events.next(sender).await? {
                LiveEvent::Changes(changes) => self.collect(changes).await?,
                LiveEvent::RunsDue => {
                    let due = self.events.take_due(Instant::now(), usize::MAX);
                    let indexes: HashSet<usize> =
                        due.iter().filter_map(|run| self.known.get(&run.number)).flatten().copied().collect();
                    for index in indexes {
                        self.send_news(index, sender).await?;
                    }
                }
                LiveEvent::KeepAliveDue => {
                    self.call.check_project(&self.deps).await?;
                    sender.send(FollowResponse::default()).await?;
                    self.events.mark_sent();
                }
            }
        }
    }

    /// Records which of the followed runs have changed.
    async fn collect(&mut self, changes: Vec<ChangedRun>) -> Result<()> {
        for change in changes {
            let number = change.number;
            if !self.known.contains_key(&number) {
                let snapshot = self.deps.store.snapshot().await?;
                let id = run_id_get(snapshot.as_ref(), self.call.project, number).await?;
                let has_id =
                    |run: &FollowedRun| id.as_ref().is_some_and(|id| id.as_str() == run.selection.run_id);
                let indexes = (0..).zip(&self.runs).filter(|(_, run)| has_id(run)).map(|(index, _)| index);
                let indexes: Vec<usize> = indexes.collect();
                if self.known.len() >= REMEMBERED {
                    self.known.retain(|_, indexes| !indexes.is_empty());
                }
                self.known.insert(number, indexes);
            }
            if self.known.get(&number).is_some_and(|indexes| !indexes.is_empty()) {
                self.events.add(change);
            }
        }
        Ok(())
    }

    /// Sends what is new in a run.
    async fn send_news(&mut self, index: usize, sender: &Sender<FollowResponse>) -> Result<(), StreamEnd> {
        let place = u32::try_from(index).unwrap_or(u32::MAX);
        let run = &mut self.runs[index];
        let Some(found) = self.deps.try_find_run(&self.call, &run.selection.run_id).await? else {
            return Ok(());
        };
        let writing = writing_get(found.snapshot.as_ref(), self.call.project, found.number).await?;
        let read = Some((found.number, writing.series_edits));
        let is_other = run.read.is_some() && run.read != read;
        run.read = read;
        let mut reader = RunReader::new(&self.deps, &self.call, found);
        let selected = select::series(&mut reader, &run.selection, run.steps).await?;
        let mut news = News::default();
        if is_other {
            news.add_vanished(&mut run.series, &selected);
        }
        for selected in selected.chunks(batch_size(1)) {
            let (changed, parts) = loop {
                match changed(&mut reader, &run.series, selected, is_other).await {
                    Ok(changed) => break changed,
                    Err(error) => reader.renew(error)?,
                }
            };
            for (position, part) in parts {
                run.series[position] = part;
            }
            news.stale.extend(changed.stale);
            news.unsent.extend(changed.unsent);
        }
        let stale = news.stale.into_iter().map(|series| Place { run: place, series }).collect();
        let mut message = FollowResponse { stale, ..FollowResponse::default() };
        for series in news.unsent {
            let position = series.position;
            let OpenedSeries { info, mut pieces, .. } =
                open_series(&mut reader, &(series, None), self.density).await?;
            let mut info = Some(info);
            while let Some((points, more)) = reader.next(&mut pieces).await? {
                let place = Some(Place { run: place, series: position });
                let columns = full_columns(&points, self.columns);
                message.series.push(SeriesPoints { place, info: info.take(), more, ..columns });
                if message.encoded_len() >= MESSAGE_BYTES {
                    reader.send(sender, std::mem::take(&mut message)).await?;
                }
            }
        }
        if !message.stale.is_empty() || !message.series.is_empty() {
            reader.send(sender, message).await?;
            self.events.mark_sent();
        }
        Ok(())
    }
}

/// Series of a run that have changed.
#[derive(Default)]
struct News {
    /// Positions of series to be read again.
    stale: Vec<u32>,
    /// Series with new points, restricted to those.
    unsent: Vec<SelectedSeries>,
}

impl News {
    /// Adds the series that were sent and do not exist any more.
    fn add_vanished(&mut self, sent: &mut [Option<Summary>], selected: &[SelectedSeries]) {
        let found: HashSet<u32> = selected.iter().map(|series| series.position).collect();
        for (position, part) in (0..).zip(sent) {
            if part.is_some() && !found.contains(&position) {
                self.stale.push(position);
                *part = None;
            }
        }
    }
}

/// The series that have changed since they were sent, and the new state of all. After an edit, every
/// series that was sent is stale.
async fn changed(
    reader: &mut RunReader<'_>,
    sent: &[Option<Summary>],
    selected: &[SelectedSeries],
    is_edited: bool,
) -> Result<(News, Vec<(usize, Option<Summary>)>)> {
    let (snapshot, opened) = reader.run().await?;
    let numbers: Vec<_> = selected.iter().map(|series| series.number).collect();
    let (mut news, mut parts) = (News::default(), Vec::new());
    for (series, view) in selected.iter().zip(opened.views(snapshot, &numbers).await?) {
        let position = series.position as usize;
        let (before, whole) = (sent[position], view.summary(snapshot).await?);
        parts.push((position, whole));
        let Some(whole) = whole else {
            // A branch has lost all points that it shared.
            news.stale.extend(before.map(|_| series.position));
            continue;
        };
        let unsent = match before {
            Some(Summary { last: Point { step: i64::MAX, .. }, .. }) => StepRange::NONE,
            Some(before) => StepRange::new(before.last.step + 1, whole.last.step),
            None => whole.steps(),
        };
        if before.is_some() {
            let mut explained = before;
            let mut added = view.scan(snapshot, unsent).await?;
            while let Some(points) = added.next(snapshot).await? {
                let added = Summary::from_points(&points, 0..points.len());
                added.iter().for_each(|added| Summary::add(&mut explained, added));
            }
            if is_edited || !explained.is_some_and(|explained| is_same(&explained, &whole)) {
                news.stale.push(series.position);
                continue;
            }
        }
        let steps = series.steps.intersection(&unsent);
        if !steps.is_empty() && view.count(snapshot, steps).await? > 0 {
            news.unsent.push(SelectedSeries { steps, ..series.clone() });
        }
    }
    Ok((news, parts))
}

/// Whether two summaries are of the same points, as far as summaries can show.
fn is_same(one: &Summary, other: &Summary) -> bool {
    let exact = |it: &Summary| {
        let point = |it: Point| (it.step, it.value.to_bits(), it.epoch);
        let counts = (it.count, it.nan, it.positive_infinite, it.negative_infinite);
        (counts, point(it.first), point(it.last), it.min.to_bits(), it.max.to_bits())
    };
    // Means are rounded when summaries are merged, by much less than this.
    let largest = one.min.abs().max(one.max.abs());
    let is_near = (one.mean - other.mean).abs() <= largest * 1e-12;
    exact(one) == exact(other) && (is_near || one.finite() == 0)
}
