//! Benchmark of series storage: blocks, bytes per point, folding, and chart reads. Run with
//! `--release`, and with the names of parts to run only these: `blocks`, `long`, `page`, `wide`. It prints figures and asserts nothing, because they depend on the machine.

#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use matyan_model::ids::{Project, RunNumber, SeriesNumber};
use matyan_model::keys;
use matyan_model::series::{
    ABSENT, Block, LiveRow, Point, Points, RunRef, RunSeries, Sampling, Stamps, StepRange, WrittenPoints,
    exponent_for, fold_run,
};
use matyan_store::embedded::{EmbeddedStore, Settings};
use matyan_store::{Batch, Range, Scan, Store};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const LONG: i64 = 10_000_000;
const PIXELS: usize = 1000;

/// Values similar to the values of a training run, with a clock that ticks about ten times per
/// second.
struct PointSource {
    random: StdRng,
    time_us: i64,
}

impl PointSource {
    fn new() -> Self {
        Self { random: StdRng::seed_from_u64(1), time_us: 1_700_000_000_000_000 }
    }

    /// A noisy, decreasing loss, computed as float32.
    fn curve(&mut self, step: i64) -> f64 {
        let noise = self.random.random::<f32>() * 0.1;
        f64::from(2.0 * (-(step as f32) * 3e-7).exp() + noise)
    }

    fn noise(&mut self) -> f64 {
        self.random.random::<f64>() * 2.0 - 1.0
    }

    fn tick(&mut self) -> i64 {
        let jitter = self.random.random::<f64>() * self.random.random::<f64>() * 3000.0;
        self.time_us += 100_000 + jitter as i64;
        self.time_us
    }

    fn point(&mut self, step: i64, narrow: bool) -> Point {
        let value = if narrow { self.curve(step) } else { self.noise() };
        Point { step, value, epoch: ABSENT, time_us: self.tick() }
    }
}

fn blocks(name: &str, written: &WrittenPoints) -> Result<()> {
    let rounds = 4_000_000 / written.len();
    let start = Instant::now();
    let mut encoded = Vec::new();
    for _ in 0..rounds {
        encoded = written.blocks();
    }
    let encoding = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let mut read = 0;
    for _ in 0..rounds {
        for bytes in &encoded {
            let block = Block::open(bytes)?;
            let mut points = Points::default();
            for index in 0..block.series_count() {
                block.read(index, &mut points)?;
            }
            read += points.len();
        }
    }
    let decoding = start.elapsed().as_secs_f64();
    let bytes: usize = encoded.iter().map(Vec::len).sum();
    println!(
        "block {name:44} encode {:6.1} M/s  decode {:6.1} M/s  {:5.2} bytes/point  {} blocks",
        (rounds * written.len()) as f64 / encoding / 1e6,
        read as f64 / decoding / 1e6,
        bytes as f64 / written.len() as f64,
        encoded.len(),
    );
    Ok(())
}

fn all_blocks() -> Result<()> {
    let mut source = PointSource::new();
    let mut together = WrittenPoints::default();
    for series in 0..10_000 {
        let point = Point { step: 7, epoch: ABSENT, time_us: 5, ..source.point(7, true) };
        together.push(SeriesNumber(series), point);
    }
    blocks("10,000 series × 1 step, shared time, float32", &together)?;
    let mut apart = WrittenPoints::default();
    for step in 0..100 {
        for series in 0..100 {
            apart.push(SeriesNumber(series), source.point(step, false));
        }
    }
    blocks("100 series × 100 steps, own times, float64", &apart)?;
    let mut single = WrittenPoints::default();
    for step in 0..10_000 {
        single.push(SeriesNumber(3), source.point(step, true));
    }
    blocks("1 series × 10,000 steps, float32", &single)
}

struct BenchRun {
    store: EmbeddedStore,
    run_ref: RunRef,
    live: LiveRow,
    next_block: u64,
}

impl BenchRun {
    async fn open(directory: &Path, number: u64) -> Result<Self> {
        let store = EmbeddedStore::open(directory, Settings::default()).await?;
        let run_ref = RunRef { project: Project(0), number: RunNumber(number) };
        let live = LiveRow { key: keys::document(run_ref.project, run_ref.number), value: "alive".into() };
        let mut batch = Batch::buffered();
        batch.set(live.key.clone(), live.value.clone());
        store.commit(batch).await?;
        Ok(Self { store, run_ref, live, next_block: 0 })
    }

    async fn write(&mut self, written: &WrittenPoints) -> Result<()> {
        let mut batch = Batch::buffered();
        for block in written.blocks() {
            batch.set(keys::block(self.run_ref.project, self.run_ref.number, self.next_block), block);
            self.next_block += 1;
        }
        self.store.commit(batch).await?;
        Ok(())
    }

    /// Folds the run, and returns how long that took, in seconds.
    async fn fold(&self, ended: bool) -> Result<f64> {
        let start = Instant::now();
        fold_run(&self.store, self.run_ref, &self.live, ended, &|| 0).await?;
        Ok(start.elapsed().as_secs_f64())
    }

    async fn bytes(&self, range: Range) -> Result<usize> {
        let snapshot = self.store.snapshot().await?;
        let mut rest = range;
        let mut bytes = 0;
        loop {
            let page = snapshot.scan(&rest, Scan::default()).await?;
            bytes += page.rows.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
            match page.rows.last() {
                Some((last, _)) if page.more => rest = rest.after(last),
                _ => return Ok(bytes),
            }
        }
    }

    async fn sizes(&self, name: &str, points: i64, folding: f64) -> Result<()> {
        let project = self.run_ref.project;
        let number = self.run_ref.number;
        let series = SeriesNumber(0);
        let garbage = self.garbage_bytes().await?;
        let chunks = self.bytes(keys::chunks(project, number, series)).await? - garbage;
        let list = self.bytes(keys::chunk_list(project, number, series)).await?;
        let pyramid = self.bytes(keys::pyramid(project, number, series)).await?;
        let points = points as f64;
        println!(
            "fold  {name:44} {:5.2} M/s  {:5.3} bytes/point: chunks {:5.3}, list {:5.3}, pyramid {:5.3}",
            points / folding / 1e6,
            (chunks + list + pyramid) as f64 / points,
            chunks as f64 / points,
            list as f64 / points,
            pyramid as f64 / points,
        );
        Ok(())
    }

    /// Size of the chunks that were replaced and not cleared yet.
    async fn garbage_bytes(&self) -> Result<usize> {
        let snapshot = self.store.snapshot().await?;
        let prefix = keys::garbage_prefix(self.run_ref.project);
        let due = keys::garbage_due(self.run_ref.project, i64::MAX);
        let page = snapshot.scan(&due, Scan { bytes: usize::MAX, ..Scan::default() }).await?;
        let mut bytes = 0;
        for (key, _) in &page.rows {
            let (_, run, series, chunk): (i64, u64, u32, u64) = keys::tail(&prefix, key)?;
            let key = keys::chunk(self.run_ref.project, RunNumber(run), SeriesNumber(series), chunk);
            bytes += snapshot.get(&key).await?.map_or(0, |value| key.len() + value.len());
        }
        Ok(bytes)
    }
}

async fn long_series(directory: &Path, narrow: bool) -> Result<()> {
    let mut run = BenchRun::open(directory, 1).await?;
    let mut source = PointSource::new();
    let mut folding = 0.0;
    let mut writing = 0.0;
    for start in (0..LONG).step_by(500_000) {
        for batch in (start..start + 500_000).step_by(10_000) {
            let mut written = WrittenPoints::default();
            for step in batch..batch + 10_000 {
                written.push(SeriesNumber(0), source.point(step, narrow));
            }
            let started = Instant::now();
            run.write(&written).await?;
            writing += started.elapsed().as_secs_f64();
        }
        folding += run.fold(start + 500_000 == LONG).await?;
    }
    println!("write {:44} {:5.2} M/s", "encode and commit, not synced", LONG as f64 / writing / 1e6);
    let name = if narrow { "1 series × 10M, float32 curve" } else { "1 series × 10M, float64 noise" };
    run.sizes(name, LONG, folding).await?;
    run.store.close().await?;
    Ok(())
}

async fn chart(directory: &Path) -> Result<()> {
    for round in ["cold", "warm"] {
        let run = BenchRun::open(directory, 1).await?;
        for (name, steps) in [
            ("whole", StepRange::ALL),
            ("a tenth", StepRange::new(3_333_333, 4_333_333)),
            ("a hundredth", StepRange::new(3_333_333, 3_433_333)),
        ] {
            let start = Instant::now();
            let snapshot = run.store.snapshot().await?;
            let snapshot = snapshot.as_ref();
            let view = RunSeries::open(snapshot, run.run_ref).await?.view(snapshot, SeriesNumber(0)).await?;
            let wanted = view.span().map_or(steps, |span| span.intersection(&steps));
            let buckets =
                view.buckets(snapshot, wanted, exponent_for(&wanted, PIXELS), Stamps::Skipped).await?;
            let millis = start.elapsed().as_secs_f64() * 1e3;
            println!("chart {round}, {name}, of 10M points: {} buckets in {millis:.2} ms", buckets.len());
        }
        let snapshot = run.store.snapshot().await?;
        let snapshot = snapshot.as_ref();
        let view = RunSeries::open(snapshot, run.run_ref).await?.view(snapshot, SeriesNumber(0)).await?;
        let start = Instant::now();
        let sample = view.sample(snapshot, StepRange::ALL, Sampling::Spread(500)).await?;
        println!("sample {round}: {} points in {:.2} ms", sample.len(), start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        let mut scan = view.scan(snapshot, StepRange::ALL).await?;
        let mut count = 0;
        while let Some(points) = scan.next(snapshot).await? {
            count += points.len();
        }
        println!("scan {round}: {:.1} M points/s", count as f64 / start.elapsed().as_secs_f64() / 1e6);
        run.store.close().await?;
    }
    Ok(())
}

/// A page of charts: many series of a middle length.
async fn page_of_charts(directory: &Path) -> Result<()> {
    const SERIES: u32 = 500;
    const STEPS: i64 = 10_000;
    const PAGE_PIXELS: usize = 500;
    let mut run = BenchRun::open(directory, 3).await?;
    let mut source = PointSource::new();
    for number in 0..SERIES {
        let mut written = WrittenPoints::default();
        for step in 0..STEPS {
            written.push(SeriesNumber(number), source.point(step, true));
        }
        run.write(&written).await?;
    }
    let folding = run.fold(true).await?;
    println!("fold  500 series × 10,000: {:.2} M/s", f64::from(SERIES) * STEPS as f64 / folding / 1e6);
    let numbers: Vec<SeriesNumber> = (0..SERIES).map(SeriesNumber).collect();
    for stamps in [Stamps::Skipped, Stamps::Read] {
        let mut best = f64::INFINITY;
        for _ in 0..10 {
            let start = Instant::now();
            let snapshot = run.store.snapshot().await?;
            let snapshot = snapshot.as_ref();
            for view in RunSeries::open(snapshot, run.run_ref).await?.views(snapshot, &numbers).await? {
                view.fine_buckets(snapshot, StepRange::ALL, PAGE_PIXELS, stamps).await?;
            }
            best = best.min(start.elapsed().as_secs_f64() * 1e3);
        }
        println!("charts of 500 series × 10,000, {PAGE_PIXELS} px, stamps {stamps:?}: {best:.1} ms");
    }
    run.store.close().await?;
    Ok(())
}

async fn many_series(directory: &Path, steps_at_a_time: i64) -> Result<()> {
    let mut run = BenchRun::open(directory, 2).await?;
    let mut source = PointSource::new();
    let series = 10_000;
    let steps = 256;
    let start = Instant::now();
    for first in (0..steps).step_by(steps_at_a_time as usize) {
        let mut written = WrittenPoints::default();
        for step in first..steps.min(first + steps_at_a_time) {
            let time_us = source.tick();
            for number in 0..series {
                let value = source.curve(step);
                written.push(SeriesNumber(number), Point { step, value, epoch: ABSENT, time_us });
            }
        }
        run.write(&written).await?;
    }
    let writing = start.elapsed().as_secs_f64();
    println!("write 10,000 series, {steps_at_a_time} steps at a time: {:.0} steps/s", steps as f64 / writing);
    let numbers: Vec<SeriesNumber> = (0..500).map(|index| SeriesNumber(index * 20)).collect();
    for state in ["unfolded", "folded"] {
        let start = Instant::now();
        let snapshot = run.store.snapshot().await?;
        let views =
            RunSeries::open(snapshot.as_ref(), run.run_ref).await?.views(snapshot.as_ref(), &numbers).await?;
        let mut count = 0;
        for view in views {
            count += view.points(snapshot.as_ref(), StepRange::ALL).await?.len();
        }
        let millis = start.elapsed().as_secs_f64() * 1e3;
        println!("500 of 10,000 series × {steps}, {state}: {count} points in {millis:.1} ms");
        if state == "unfolded" {
            let seconds = run.fold(true).await?;
            let points = f64::from(series) * steps as f64;
            println!(
                "fold  10,000 series × {steps}: {:.2} M/s, {:.0} series/s",
                points / seconds / 1e6,
                f64::from(series) / seconds
            );
        }
    }
    run.store.close().await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let parts: Vec<String> = std::env::args().skip(1).collect();
    let runs = |part: &str| parts.is_empty() || parts.iter().any(|other| other == part);
    if runs("blocks") {
        all_blocks()?;
    }
    if runs("long") {
        let curves = tempfile::tempdir()?;
        let noise = tempfile::tempdir()?;
        long_series(curves.path(), true).await?;
        chart(curves.path()).await?;
        long_series(noise.path(), false).await?;
    }
    if runs("page") {
        page_of_charts(tempfile::tempdir()?.path()).await?;
    }
    if runs("wide") {
        for steps_at_a_time in [1, 10] {
            many_series(tempfile::tempdir()?.path(), steps_at_a_time).await?;
        }
    }
    Ok(())
}
