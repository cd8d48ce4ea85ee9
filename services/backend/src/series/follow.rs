//! Following series: sends points as they are applied. A change says only which run it touched, so
//! new points are found by step: they follow the last point that was sent. The series is stale if its
//! summary differs from the summary of the points sent before and the new points: then earlier points
//! have changed. A follower keeps that summary for each series, and continues from it after a lost connection.

mod position;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use matyan_model::{
    ids::RunNumber,
    run::{run_id_get, writing_get},
    series::{Point, StepRange, Summary},
};
use matyan_proto::{
    common::v1::{self as pb, SeriesKey},
    series::v1::{
        FollowRequest, FollowResponse, Place, PointColumns, RunSelection, SeriesPoints, SeriesPosition,
    },
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
    changes::{ChangedRun, LiveEvent, LiveEvents, Watches},
    server::{
        call::Call,
        convert,
        deps::Deps,
        error::{Error, Result},
        stream::{MESSAGE_BYTES, Sender, StreamEnd},
    },
};
use position::{ReadRun, SentSeries};

/// Maximum number of other runs remembered; forgetting them costs a lookup of each.
const REMEMBERED: usize = 100_000;

/// Memory for such a run, including its share of the free slots of the map.
const KNOWN_BYTES: usize = 2 * size_of::<(RunNumber, Vec<usize>)>();

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
    /// The state of each requested series as it was sent, by position.
    series: Vec<Option<SentSeries>>,
}

pub(crate) async fn start(
    deps: &Arc<Deps>,
    watches: &Watches,
    call: Call,
    request: FollowRequest,
) -> Result<Follow> {
    select::check(&request.runs)?;
    if request.runs.is_empty() {
        return Err(Error::field("runs", "is empty: name at least one run"));
    }
    let settle = convert::settle_time(request.settle_ms)?;
    // Before anything is read, so that no change is missed.
    let events = watches.watch_from_now(&call, settle).await?;
    let steps = convert::step_range(request.steps);
    let run = |selection: RunSelection| {
        let series = vec![None; select::series_count(&selection)];
        FollowedRun { selection, steps, series }
    };
    let mut runs: Vec<FollowedRun> = request.runs.into_iter().map(run).collect();
    for SeriesPosition { place, position } in request.resume {
        let Place { run, series } = place.unwrap_or_default();
        let followed = runs.get_mut(run as usize).and_then(|run| run.series.get_mut(series as usize));
        let Some(sent) = followed else {
            return Err(Error::field("resume", "has a place that `runs` does not have"));
        };
        *sent = (!position.is_empty()).then(|| SentSeries::decode(&position)).transpose()?;
    }
    let mut follow = Follow {
        deps: deps.clone(),
        call,
        columns: request.columns.unwrap_or(DEFAULT_COLUMNS),
        density: request.density,
        runs,
        known: HashMap::new(),
        events,
    };
    follow.account()?;
    Ok(follow)
}

impl FollowedRun {
    /// Size of the selection and of the state of the sent points.
    fn bytes(&self) -> usize {
        let RunSelection { numbers, keys, .. } = &self.selection;
        // The texts of the selection are at most its encoded size; the rest is in memory in full.
        self.selection.encoded_len()
            + size_of::<Self>()
            + numbers.len() * size_of::<u32>()
            + keys.len() * size_of::<SeriesKey>()
            + self.selection.steps.len() * size_of::<pb::StepRange>()
            + self.series.capacity() * size_of::<Option<SentSeries>>()
    }
}

impl Follow {
    /// Takes memory for the request, and for the remembered state.
    fn account(&mut self) -> Result<()> {
        let runs: usize = self.runs.iter().map(FollowedRun::bytes).sum();
        self.events.remember(runs + self.known.len() * KNOWN_BYTES)
    }

    pub(crate) async fn run(mut self, sender: &Sender<FollowResponse>) -> Result<(), StreamEnd> {
        for index in 0..self.runs.len() {
            self.send_news(index, sender).await?;
        }
        sender.send(FollowResponse { caught_up: true, ..FollowResponse::default() }).await?;
        loop {
            match self.events.next(sender).await? {
                LiveEvent::Changes(changes) => {
                    self.collect(changes).await?;
                    self.account()?;
                }
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

    /// Sends the new points of a run.
    async fn send_news(&mut self, index: usize, sender: &Sender<FollowResponse>) -> Result<(), StreamEnd> {
        let place = u32::try_from(index).unwrap_or(u32::MAX);
        let run = &mut self.runs[index];
        let Some(found) = self.deps.try_find_run(&self.call, &run.selection.run_id).await? else {
            return Ok(());
        };
        let writing = writing_get(found.snapshot.as_ref(), self.call.project, found.number).await?;
        let read = ReadRun { number: found.number, edits: writing.series_edits };
        let mut reader = RunReader::new(&self.deps, &self.call, found);
        let selected = select::series(&mut reader, &run.selection, run.steps).await?;
        let mut news = News::default();
        news.add_vanished(&mut run.series, &selected);
        for selected in selected.chunks(batch_size(1)) {
            let changed = loop {
                match changed(&mut reader, &run.series, selected, read).await {
                    Ok(changed) => break changed,
                    Err(error) => reader.renew(error)?,
                }
            };
            for (position, sent) in changed.whole {
                run.series[position] = sent;
            }
            news.stale.extend(changed.stale);
            news.unsent.extend(changed.unsent);
        }
        let mut message = FollowResponse::default();
        for series in news.stale {
            let stale = Place { run: place, series };
            message.stale.push(stale);
            message.positions.push(position(stale, run.series[series as usize]));
        }
        for series in news.unsent {
            let at = Place { run: place, series: series.position };
            let OpenedSeries { info, mut pieces, .. } =
                open_series(&mut reader, &(series, None), self.density).await?;
            let mut info = Some(info);
            while let Some((points, more)) = reader.next(&mut pieces).await? {
                let mut sent = run.series[at.series as usize];
                if let (Some(sent), Some(last), true) = (&mut sent, points.last(), more) {
                    sent.last_step = last.step;
                }
                let columns = full_columns(&points, self.columns);
                message.series.push(SeriesPoints { place: Some(at), info: info.take(), more, ..columns });
                message.positions.push(position(at, sent));
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

fn position(place: Place, sent: Option<SentSeries>) -> SeriesPosition {
    let position = sent.map(|sent| sent.encode()).unwrap_or_default();
    SeriesPosition { place: Some(place), position }
}

/// Series of a run that have changed.
#[derive(Default)]
struct News {
    /// Positions of series to be read again.
    stale: Vec<u32>,
    /// Series with new points, restricted to the new points.
    unsent: Vec<SelectedSeries>,
    /// The state of each series that a follower has after this, by position.
    whole: Vec<(usize, Option<SentSeries>)>,
}

impl News {
    /// Adds the series that were sent and do not exist any more.
    fn add_vanished(&mut self, sent: &mut [Option<SentSeries>], selected: &[SelectedSeries]) {
        let found: HashSet<u32> = selected.iter().map(|series| series.position).collect();
        for (position, part) in (0..).zip(sent) {
            if part.is_some() && !found.contains(&position) {
                self.stale.push(position);
                *part = None;
            }
        }
    }
}

/// The series that have changed since they were sent. After an edit of the run's series, every series that
/// was sent is stale.
async fn changed(
    reader: &mut RunReader<'_>,
    sent: &[Option<SentSeries>],
    selected: &[SelectedSeries],
    run: ReadRun,
) -> Result<News> {
    let (snapshot, opened) = reader.run().await?;
    let numbers: Vec<_> = selected.iter().map(|series| series.number).collect();
    let mut news = News::default();
    for (series, view) in selected.iter().zip(opened.views(snapshot, &numbers).await?) {
        let position = series.position as usize;
        let before = sent[position];
        let whole = view.summary(snapshot).await?;
        news.whole.push((position, whole.map(|whole| SentSeries::whole(run, whole))));
        let Some(whole) = whole else {
            // A branch has lost all points that it shared.
            news.stale.extend(before.map(|_| series.position));
            continue;
        };
        let unsent = match before {
            Some(before) => before.unsent(whole.last.step),
            None => whole.steps(),
        };
        if let Some(before) = before {
            let mut explained = Some(before.whole);
            let mut added = view.scan(snapshot, before.added(whole.last.step)).await?;
            while let Some(points) = added.next(snapshot).await? {
                if let Some(added) = Summary::from_points(&points, 0..points.len()) {
                    Summary::add(&mut explained, &added);
                }
            }
            let is_edited = before.run != run;
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
    Ok(news)
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
