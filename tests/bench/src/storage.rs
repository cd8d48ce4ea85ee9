//! Storage cost of a point: step, value, time and its share of the pyramid, in the form in which folded series
//! are stored. Measured below the server: keys and values as passed to the storage engine,
//! before its own compression and without replaced chunks.

use matyan_model::{
    ids::{Project, RunNumber, SeriesNumber},
    keys,
    series::{ABSENT, LiveRow, Point, RunRef, WrittenPoints, fold_run, garbage_clear},
};
use matyan_store::{
    Batch, Range, Scan, Store,
    embedded::{EmbeddedStore, Settings},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::table::{Budget, Table, Unit};

const POINTS_A_BLOCK: usize = 10_000;
const RUN: RunRef = RunRef { project: Project(0), number: RunNumber(1) };
const SERIES: SeriesNumber = SeriesNumber(0);

pub(crate) async fn rows(table: &mut Table, scale: usize) {
    let points = 2_000_000 / scale;
    let work = "stored bytes a point, curves born as float32";
    table.row(work, Budget::AtMost(4.0), Unit::Bytes, async || bytes_a_point(points, curve).await).await;
    let work = "stored bytes a point, full-noise float64";
    table.row(work, Budget::AtMost(8.5), Unit::Bytes, async || bytes_a_point(points, noise).await).await;
}

/// A falling loss with noise.
fn curve(random: &mut StdRng, step: i64) -> f64 {
    f64::from(2.0 * (-(step as f32) * 3e-7).exp() + random.random::<f32>() * 0.1)
}

fn noise(random: &mut StdRng, _: i64) -> f64 {
    random.random::<f64>() * 2.0 - 1.0
}

async fn bytes_a_point(points: usize, value: fn(&mut StdRng, i64) -> f64) -> f64 {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let store = EmbeddedStore::open(directory.path(), Settings::default()).await.expect("a new store opens");
    let live = LiveRow { key: keys::document(RUN.project, RUN.number), value: "alive".into() };
    let mut batch = Batch::buffered();
    batch.set(live.key.clone(), live.value.clone());
    store.commit(batch).await.expect("the store takes a row");
    write(&store, points, value).await;
    fold_run(&store, RUN, &live, true, &|| 0).await.expect("blocks fold");
    // Without replaced chunks, because they would be counted twice.
    while garbage_clear(&store, RUN.project, i64::MAX).await.expect("garbage clears") > 0 {}
    let mut bytes = 0;
    for range in
        [keys::chunks, keys::chunk_list, keys::pyramid].map(|range| range(RUN.project, RUN.number, SERIES))
    {
        bytes += bytes_of(&store, range).await;
    }
    store.close().await.expect("the store closes");
    bytes as f64 / points as f64
}

/// Writes blocks of points logged about ten times a second.
async fn write(store: &EmbeddedStore, points: usize, value: fn(&mut StdRng, i64) -> f64) {
    let mut random = StdRng::seed_from_u64(1);
    let mut time_us = 1_700_000_000_000_000;
    for (block, first) in (0..points).step_by(POINTS_A_BLOCK).enumerate() {
        let mut written = WrittenPoints::default();
        for step in first as i64..(first + POINTS_A_BLOCK).min(points) as i64 {
            time_us += 100_000 + (random.random::<f64>() * random.random::<f64>() * 3000.0) as i64;
            written.push(SERIES, Point { step, value: value(&mut random, step), epoch: ABSENT, time_us });
        }
        let mut batch = Batch::buffered();
        for (part, bytes) in written.blocks().into_iter().enumerate() {
            batch.set(keys::block(RUN.project, RUN.number, (block * POINTS_A_BLOCK + part) as u64), bytes);
        }
        store.commit(batch).await.expect("the store takes blocks");
    }
}

pub(crate) async fn bytes_of(store: &EmbeddedStore, mut range: Range) -> usize {
    let snapshot = store.snapshot().await.expect("the store can be read");
    let mut bytes = 0;
    loop {
        let page = snapshot.scan(&range, Scan::default()).await.expect("the store can be read");
        bytes += page.rows.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        match page.rows.last() {
            Some((last, _)) if page.more => range = range.after(last),
            _ => return bytes,
        }
    }
}
