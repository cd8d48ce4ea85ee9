//! Bands: groups of series, aggregated in buckets that are the same for all groups.

use std::collections::BTreeMap;

use matyan_model::series::Summary;
use matyan_proto::series::v1::{Band, BandsRequest, BandsResponse, SeriesGroup};

use super::{
    grid::Grid,
    run_reader::{RunReader, batch_size},
    select::{self, SelectedSeries},
};
use crate::{
    Deps,
    call::Call,
    convert,
    error::{Error, Result},
    stream::{Sender, StreamEnd},
};

/// Maximum number of values of a group, which are held in memory: 32 MB.
const MAX_VALUES: usize = 1 << 21;

pub(super) fn check(request: &BandsRequest) -> Result<()> {
    select::check(request.groups.iter().flat_map(|group| &group.runs))?;
    for group in &request.groups {
        let series: usize = group.runs.iter().map(select::series_count).sum();
        let size = series * request.pixels as usize;
        if size > MAX_VALUES {
            return Err(Error::TooLarge { field: "series of a group × pixels", size, limit: MAX_VALUES });
        }
    }
    Ok(())
}

pub(super) async fn send(
    deps: &Deps,
    call: &Call,
    request: BandsRequest,
    sender: &Sender<BandsResponse>,
) -> Result<(), StreamEnd> {
    let steps = convert::step_range(request.steps.as_ref());
    let runs: Vec<_> = request.groups.iter().flat_map(|group| &group.runs).collect();
    let Some(grid) = Grid::over(deps, call, &runs, steps, request.pixels as usize).await? else {
        return Ok(());
    };
    for (number, group) in (0..).zip(&request.groups) {
        let mut sums = BandSums { grid, buckets: BTreeMap::new(), lines: Vec::new() };
        add_group(deps, call, group, &request, &mut sums).await?;
        if request.interpolate {
            sums.interpolate();
        }
        if !sums.buckets.is_empty() {
            let band = Band { group: number, ..sums.into_band() };
            sender.send(BandsResponse { band: Some(band) }).await?;
        }
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
    let steps = convert::step_range(request.steps.as_ref());
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
        all.push(view.buckets(snapshot, series.steps, grid.exponent).await?);
    }
    Ok(all)
}

/// The buckets and lines of a group.
struct BandSums {
    grid: Grid,
    buckets: BTreeMap<u32, BandBucket>,
    /// The value of each series in each bucket where it has one.
    lines: Vec<Vec<(u32, f64)>>,
}

struct BandBucket {
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
        self.lines.push(finite().map(|bucket| (number(bucket), bucket.mean)).collect());
        for bucket in finite() {
            let number = self.grid.number(bucket.first.step);
            let new = || BandBucket { values: Vec::new(), min: f64::INFINITY, max: f64::NEG_INFINITY };
            self.buckets.entry(number).or_insert_with(new).add(bucket.mean, bucket.min, bucket.max);
        }
    }

    /// Adds to each bucket the values of series that have points before and after it, but none in it.
    fn interpolate(&mut self) {
        for line in &self.lines {
            for ends in line.windows(2) {
                let ((from, first), (to, last)) = (ends[0], ends[1]);
                for (number, bucket) in self.buckets.range_mut(from + 1..to) {
                    let part = f64::from(number - from) / f64::from(to - from);
                    let value = first * (1.0 - part) + last * part;
                    bucket.add(value, value, value);
                }
            }
        }
    }

    fn into_band(self) -> Band {
        let mut band = Band { width: self.grid.width(), origin: self.grid.origin(), ..Band::default() };
        for (number, bucket) in self.buckets {
            let (mean, deviation) = mean_and_deviation(&bucket.values);
            band.index.push(number);
            band.count.push(u32::try_from(bucket.values.len()).unwrap_or(u32::MAX));
            band.mean.push(mean);
            band.deviation.push(deviation);
            band.min.push(bucket.min);
            band.max.push(bucket.max);
            band.median.push(median(bucket.values));
        }
        band
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
