//! What the figures depend on: cores, and how long the disk takes to make a small write durable.

use std::{fs::File, io::Write, time::Instant};

const SYNCS: usize = 200;

pub(crate) fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{cores} cores; the disk makes 4 kB durable in {:.0} µs (median of {SYNCS})", sync_time() * 1e6)
}

fn sync_time() -> f64 {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let mut file = File::create(directory.path().join("sync")).expect("a file can be made");
    let mut times: Vec<f64> = (0..SYNCS)
        .map(|_| {
            file.write_all(&[7; 4096]).expect("the disk has room");
            let start = Instant::now();
            file.sync_data().expect("the disk syncs");
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[SYNCS / 2]
}
