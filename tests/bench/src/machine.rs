//! Properties of the machine that the figures depend on: cores, and the time to make a small
//! write durable.

use std::{fs::File, io::Write, time::Instant};

const SYNCS: usize = 400;

/// Times in milliseconds.
pub(crate) struct Machine {
    cores: usize,
    sync_median: f64,
    pub(crate) sync_p99: f64,
}

impl Machine {
    pub(crate) fn measure() -> Self {
        let times = sync_times();
        Self {
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            sync_median: times[SYNCS / 2],
            sync_p99: times[SYNCS * 99 / 100],
        }
    }

    pub(crate) fn describe(&self) -> String {
        let Self { cores, sync_median, sync_p99 } = self;
        format!(
            "{cores} cores; the disk makes 4 kB durable in {sync_median:.2} ms (p99 {sync_p99:.2} ms, of {SYNCS})"
        )
    }
}

fn sync_times() -> Vec<f64> {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let mut file = File::create(directory.path().join("sync")).expect("a file can be created");
    let mut times: Vec<f64> = (0..SYNCS)
        .map(|_| {
            file.write_all(&[7; 4096]).expect("the disk has room");
            let start = Instant::now();
            file.sync_data().expect("the disk syncs");
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times
}
