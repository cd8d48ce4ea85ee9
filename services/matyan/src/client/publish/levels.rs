//! The file of a metric: its points, and levels of buckets over them, so that a chart of any range of steps
//! reads about as many entries as it has pixels, and no spike is lost.

use std::{io, path::Path};

use matyan_model::series::{Point, Points, StepRange, Summary, exponent_for};
use matyan_proto::{
    published::v1::{PublishedLevel, PublishedSeries},
    series::v1::{SeriesBuckets, SeriesPoints},
};

use super::pages::PageFile;

/// Entries of a page: points or buckets.
const PAGE_ENTRIES: usize = 2_048;
/// The first level has buckets of four steps, and each other level buckets that are four times as wide.
const LEVEL_EXPONENT: u32 = 2;
/// The last level has at most about this number of buckets.
const LAST_LEVEL_BUCKETS: usize = 256;
const MAX_EXPONENT: u32 = 62;

/// Writes the file of a metric from its points, which come in the order of their steps.
pub(super) struct SeriesFile {
    number: u32,
    file: PageFile,
    points: Points,
    levels: Vec<Level>,
}

/// Buckets of 2^exponent steps.
struct Level {
    exponent: u32,
    file: PageFile,
    buckets: u64,
    page: Vec<Summary>,
    open: Option<Summary>,
}

impl SeriesFile {
    /// `steps` is the range of steps that the metric is expected to have. It decides how many levels there are.
    pub(super) fn create(path: &Path, number: u32, steps: StepRange, count: u64) -> io::Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let widest = if count > PAGE_ENTRIES as u64 { exponent_for(&steps, LAST_LEVEL_BUCKETS) } else { 0 };
        let exponents = (1..).map(|level| level * LEVEL_EXPONENT);
        let levels = exponents
            .take_while(|exponent| *exponent <= MAX_EXPONENT && *exponent < widest + LEVEL_EXPONENT)
            .filter(|_| widest > 0)
            .map(|exponent| Level::create(folder, exponent))
            .collect::<io::Result<_>>()?;
        let points = Points::with_capacity(PAGE_ENTRIES);
        Ok(Self { number, file: PageFile::create(path)?, points, levels })
    }

    pub(super) fn add(&mut self, point: Point) -> io::Result<()> {
        self.points.push(point);
        if self.points.len() == PAGE_ENTRIES {
            self.put_points()?;
        }
        let mut next = Some(summary_of(point));
        for level in &mut self.levels {
            let Some(summary) = next else { break };
            next = level.add(summary)?;
        }
        Ok(())
    }

    fn put_points(&mut self) -> io::Result<()> {
        let Points { steps, values, epochs, times_us } =
            std::mem::replace(&mut self.points, Points::with_capacity(PAGE_ENTRIES));
        let (Some(&first), Some(&last)) = (steps.first(), steps.last()) else { return Ok(()) };
        let page = SeriesPoints { steps, values, epochs, times_us, ..SeriesPoints::default() };
        self.file.put(&page, first, last)
    }

    /// Completes the file, and returns the positions of its pages, and its number of bytes.
    pub(super) fn finish(
        mut self,
        count: u64,
        epochs: Option<SeriesPoints>,
    ) -> io::Result<(PublishedSeries, u64)> {
        self.put_points()?;
        let mut kept = vec![PublishedLevel { exponent: 0, pages: Some(self.file.list()) }];
        let mut entries = count;
        let mut from_below: Vec<Summary> = Vec::new();
        for mut level in self.levels {
            for summary in std::mem::take(&mut from_below) {
                from_below.extend(level.add(summary)?);
            }
            from_below.extend(level.close()?);
            // Steps may be far apart: a level that is hardly shorter than the one before is of no use.
            if 2 * level.buckets <= entries {
                entries = level.buckets;
                let pages = Some(self.file.append(level.file)?);
                kept.push(PublishedLevel { exponent: level.exponent, pages });
            }
        }
        let epochs = epochs.map(|page| self.file.append_page(&page)).transpose()?;
        let bytes = self.file.finish()?;
        Ok((PublishedSeries { number: self.number, levels: kept, epochs }, bytes))
    }
}

impl Level {
    fn create(folder: &Path, exponent: u32) -> io::Result<Self> {
        Ok(Self { exponent, file: PageFile::unnamed(folder)?, buckets: 0, page: Vec::new(), open: None })
    }

    /// Adds later points, and returns the bucket that they complete, if they are in another one.
    fn add(&mut self, next: Summary) -> io::Result<Option<Summary>> {
        match &mut self.open {
            Some(open) if open.first.step >> self.exponent == next.first.step >> self.exponent => {
                *open = open.merged(&next);
                Ok(None)
            }
            open => {
                let complete = open.replace(next);
                complete.into_iter().try_for_each(|bucket| self.put(bucket))?;
                Ok(complete)
            }
        }
    }

    /// Writes the last bucket, and returns it.
    fn close(&mut self) -> io::Result<Option<Summary>> {
        let last = self.open.take();
        last.into_iter().try_for_each(|bucket| self.put(bucket))?;
        self.put_page()?;
        Ok(last)
    }

    fn put(&mut self, bucket: Summary) -> io::Result<()> {
        self.buckets += 1;
        self.page.push(bucket);
        if self.page.len() == PAGE_ENTRIES { self.put_page() } else { Ok(()) }
    }

    fn put_page(&mut self) -> io::Result<()> {
        let buckets = std::mem::take(&mut self.page);
        let (Some(first), Some(last)) = (buckets.first(), buckets.last()) else { return Ok(()) };
        self.file.put(&columns(&buckets, self.exponent), first.first.step, last.last.step)
    }
}

fn columns(buckets: &[Summary], exponent: u32) -> SeriesBuckets {
    let count = |get: fn(&Summary) -> u64| -> Vec<u32> {
        buckets.iter().map(|bucket| u32::try_from(get(bucket)).unwrap_or(u32::MAX)).collect()
    };
    let mut page = SeriesBuckets {
        width: 1 << exponent,
        count: count(|bucket| bucket.count),
        min: buckets.iter().map(|bucket| bucket.min).collect(),
        max: buckets.iter().map(|bucket| bucket.max).collect(),
        last: buckets.iter().map(|bucket| bucket.last.value).collect(),
        last_step: buckets.iter().map(|bucket| bucket.last.step).collect(),
        last_time_us: buckets.iter().map(|bucket| bucket.last.time_us).collect(),
        ..SeriesBuckets::default()
    };
    if buckets.iter().any(|bucket| bucket.finite() < bucket.count) {
        page.nan = count(|bucket| bucket.nan);
        page.positive_infinity = count(|bucket| bucket.positive_infinite);
        page.negative_infinity = count(|bucket| bucket.negative_infinite);
    }
    page
}

fn summary_of(point: Point) -> Summary {
    let value = point.value;
    let finite = if value.is_finite() { value } else { f64::NAN };
    Summary {
        count: 1,
        first: point,
        last: point,
        min: finite,
        max: finite,
        mean: finite,
        nan: u64::from(value.is_nan()),
        positive_infinite: u64::from(value == f64::INFINITY),
        negative_infinite: u64::from(value == f64::NEG_INFINITY),
    }
}

#[cfg(test)]
mod tests;
