//! Bands: groups of series, aggregated in buckets that are the same for all groups.

use std::{collections::BTreeMap, vec};

use matyan_model::series::{Stamps, Summary};
use matyan_proto::series::v1::{Band, BandsRequest, BandsResponse, SeriesGroup};

use super::{
    grid::Grid,
    run_reader::{RunReader, batch_size},
    select::{self, SelectedSeries},
};
use crate::server::{
    call::Call,
    convert,
    deps::Deps,
    error::{Error, Result},
    stream::{Sender, StreamEnd},
};

/// Maximum number of values of a group, which are its series × pixels.
const MAX_VALUES: usize = 1 << 21;

/// Memory of such a value: in its bucket, and in the line that it is part of, each including its share of the
/// free capacity.
pub(super) const VALUE_BYTES: usize = 2 * (size_of::<f64>() + size_of::<(u32, f64)>());

/// Memory of a bucket without its values.
pub(super) const BUCKET_BYTES: usize = 2 * size_of::<(u32, BandBucket)>();

/// Values in a slice of work: about 10 ms.
const SLICE_VALUES: usize = 100_000;

pub(super) fn check(request: &BandsRequest) -> Result<()> {
    select::check(request.groups.iter().flat_map(|group| &group.runs))?;
    let size = largest_group(request) * request.pixels as usize;
    if size > MAX_VALUES {
        return Err(Error::TooLarge { field: "groups", size, limit: MAX_VALUES });
    }
    Ok(())
}

/// The number of series of the group that has most.
pub(super) fn largest_group(request: &BandsRequest) -> usize {
    request
        .groups
        .iter()
        .map(|group| group.runs.iter().map(select::series_count).sum())
        .max()
        .unwrap_or_default()
}

pub(super) async fn send(
    deps: &Deps,
    call: &Call,
    request: BandsRequest,
    sender: &Sender<BandsResponse>,
) -> Result<(), StreamEnd> {
    let steps = convert::step_range(request.steps);
    let runs: Vec<_> = request.groups.iter().flat_map(|group| &group.runs).collect();
    let Some(grid) = Grid::over(deps, call, &runs, steps, request.pixels as usize).await? else {
        return Ok(());
    };
    for (number, group) in (0..).zip(&request.groups) {
        let lines = request.interpolate.then(Vec::new);
        let mut sums = BandSums { grid, buckets: BTreeMap::new(), lines };
        add_group(deps, call, group, &request, &mut sums).await?;
        if sums.buckets.is_empty() {
            continue;
        }
        let mut work = BandWork::new(sums, number);
        while !work.is_done() {
            work = deps.evaluation.run(move || work.slice()).await?;
        }
        sender.send(BandsResponse { band: Some(work.band) }).await?;
    }
    Ok(())
}

async fn add_group(
    deps: &Deps,
    call: &Call,
    group: &SeriesGroup,
    request: &BandsRequest,
    sums: &mut BandSums,
) -> Result<()> {
    let steps = convert::step_range(request.steps);
    for selection in &group.runs {
        let Some(found) = deps.try_find_run(call, &selection.run_id).await? else { continue };
        let mut reader = RunReader::new(deps, call, found);
        let selected = select::series(&mut reader, selection, steps).await?;
        for selected in selected.chunks(batch_size(request.pixels as usize)) {
            let series = loop {
                match buckets(&mut reader, selected, &sums.grid).await {
                    Ok(series) => break series,
                    Err(error) => reader.renew(error)?,
                }
            };
            reader.mark_used();
            for buckets in series {
                sums.add(&buckets);
            }
        }
    }
    Ok(())
}

async fn buckets(
    reader: &mut RunReader<'_>,
    selected: &[SelectedSeries],
    grid: &Grid,
) -> Result<Vec<Vec<Summary>>> {
    let (snapshot, opened) = reader.run().await?;
    let numbers: Vec<_> = selected.iter().map(|series| series.number).collect();
    let mut all = Vec::with_capacity(selected.len());
    for (series, view) in selected.iter().zip(opened.views(snapshot, &numbers).await?) {
        let steps = series.steps.intersection(&grid.steps);
        all.push(view.buckets(snapshot, steps, grid.exponent, Stamps::Skipped).await?);
    }
    Ok(all)
}

/// The buckets and lines of a group.
struct BandSums {
    grid: Grid,
    buckets: BTreeMap<u32, BandBucket>,
    /// The value of each series in each bucket where it has one, if they are to be interpolated.
    lines: Option<Vec<Vec<(u32, f64)>>>,
}

pub(super) struct BandBucket {
    /// One for each series.
    values: Vec<f64>,
    min: f64,
    max: f64,
}

impl BandSums {
    /// Adds a series. Buckets without finite points are ignored.
    fn add(&mut self, buckets: &[Summary]) {
        let finite = || buckets.iter().filter(|bucket| bucket.finite() > 0);
        let number = |bucket: &Summary| self.grid.number(bucket.first.step);
        if let Some(lines) = &mut self.lines {
            lines.push(finite().map(|bucket| (number(bucket), bucket.mean)).collect());
        }
        for bucket in finite() {
            let number = self.grid.number(bucket.first.step);
            let new = || BandBucket { values: Vec::new(), min: f64::INFINITY, max: f64::NEG_INFINITY };
            self.buckets.entry(number).or_insert_with(new).add(bucket.mean, bucket.min, bucket.max);
        }
    }
}

/// The work that makes a band of a group, in slices: there may be millions of values to add and to sort.
struct BandWork {
    /// Lines to interpolate, before any bucket becomes a part of the band.
    lines: vec::IntoIter<Vec<(u32, f64)>>,
    buckets: BTreeMap<u32, BandBucket>,
    band: Band,
}

impl BandWork {
    fn new(BandSums { grid, buckets, lines }: BandSums, group: u32) -> Self {
        let band = Band { group, width: grid.width(), origin: grid.origin(), ..Band::default() };
        Self { lines: lines.unwrap_or_default().into_iter(), buckets, band }
    }

    fn is_done(&self) -> bool {
        self.lines.len() == 0 && self.buckets.is_empty()
    }

    fn slice(mut self) -> Self {
        let mut values = 0;
        while values < SLICE_VALUES {
            if let Some(line) = self.lines.next() {
                values += self.interpolate(&line);
            } else if let Some((number, bucket)) = self.buckets.pop_first() {
                values += bucket.values.len();
                self.push(number, bucket);
            } else {
                break;
            }
        }
        self
    }

    /// Adds the values of a series to each bucket in which it has no points, but has some before and
    /// after it. Returns the number of values that were looked at or added.
    fn interpolate(&mut self, line: &[(u32, f64)]) -> usize {
        let mut values = line.len();
        for ends in line.windows(2) {
            let (from, first) = ends[0];
            let (to, last) = ends[1];
            for (number, bucket) in self.buckets.range_mut(from + 1..to) {
                let part = f64::from(number - from) / f64::from(to - from);
                let value = first * (1.0 - part) + last * part;
                bucket.add(value, value, value);
                values += 1;
            }
        }
        values
    }

    fn push(&mut self, number: u32, bucket: BandBucket) {
        let (mean, deviation) = mean_and_deviation(&bucket.values);
        let band = &mut self.band;
        band.index.push(number);
        band.count.push(u32::try_from(bucket.values.len()).unwrap_or(u32::MAX));
        band.mean.push(mean);
        band.deviation.push(deviation);
        band.min.push(bucket.min);
        band.max.push(bucket.max);
        band.median.push(median(bucket.values));
    }
}

impl BandBucket {
    fn add(&mut self, value: f64, min: f64, max: f64) {
        self.values.push(value);
        self.min = self.min.min(min);
        self.max = self.max.max(max);
    }
}

/// Neither large nor small values overflow or vanish.
fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let sum: f64 = values.iter().sum();
    let mean = if sum.is_finite() { sum / count } else { values.iter().map(|value| value / count).sum() };
    let largest = values.iter().map(|value| (value - mean).abs()).fold(0.0, f64::max);
    if largest == 0.0 {
        return (mean, 0.0);
    }
    let squares: f64 = values.iter().map(|value| ((value - mean) / largest).powi(2)).sum();
    (mean, largest * (squares / count).sqrt())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}
