//! A run with a spool in its own directory, and the comparison of what it tracked with what
//! is stored.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use matyan_sdk::{CloseLimits, Config, Context, Notice, Run, RunOptions, Series};
use matyan_tests::{Reader, Server, eventually};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for something that has to happen; a guard against hanging only.
pub(crate) const GUARD: Duration = Duration::from_secs(120);

/// Limits that only keep a failing test from hanging.
pub(crate) const PATIENT: CloseLimits = CloseLimits { reachable: GUARD, unreachable: GUARD };

/// Directory for spools that is removed with the test.
pub(crate) struct SpoolRoot(TempDir);

impl SpoolRoot {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("the temporary directory is writable"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Settings of a run that keeps its spool here.
    pub(crate) fn config(&self, gateway_url: &str) -> Config {
        Config {
            gateway_url: gateway_url.to_owned(),
            spool_dirs: vec![self.path().to_owned()],
            ..Config::default()
        }
    }

    pub(crate) fn options(&self, gateway_url: &str) -> RunOptions {
        RunOptions { config: self.config(gateway_url), ..RunOptions::default() }
    }

    pub(crate) fn run(&self, gateway_url: &str) -> Run {
        Run::new(self.options(gateway_url)).expect("the options are valid")
    }

    pub(crate) fn spools(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path()).expect("the directory exists");
        entries.map(|entry| entry.expect("the directory can be read").path()).collect()
    }

    /// Waits until no spool is left: everything is stored. However many spools there are, one goes after the other.
    pub(crate) async fn wait_until_empty(&self) {
        let mut left = self.spools().len();
        while left > 0 {
            left = eventually("the next spool is sent and removed", async || {
                let spools = self.spools();
                if spools.len() < left { Ok(spools.len()) } else { Err(spools) }
            })
            .await;
        }
    }
}

/// Stopwatch of the calls of a test, which prints the slowest one at the end.
pub(crate) struct SlowestCall {
    scenario: &'static str,
    nanoseconds: AtomicU64,
}

impl SlowestCall {
    pub(crate) fn new(scenario: &'static str) -> Self {
        Self { scenario, nanoseconds: AtomicU64::new(0) }
    }

    /// Tracks a value.
    pub(crate) fn track(&self, run: &Run, series: &Series, value: u32, step: Option<i64>) {
        let start = Instant::now();
        run.track(series, f64::from(value), step, None);
        let taken = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_max(taken, Ordering::Relaxed);
    }
}

#[expect(clippy::print_stderr, reason = "figures of the test; scripts have no other output")]
impl Drop for SlowestCall {
    fn drop(&mut self) {
        let slowest = Duration::from_nanos(*self.nanoseconds.get_mut());
        eprintln!("{}: slowest call {slowest:?}", self.scenario);
    }
}

pub(crate) fn series(run: &Run, name: &str) -> Arc<Series> {
    run.series(name, &Context::default(), "float").expect("the name is short")
}

/// Waits until a run has this many points, then checks that a series has the steps from 0 on, once
/// each, with values that equal them.
pub(crate) async fn expect_count(query: &str, run_id: &str, name: &str, count: usize) {
    let reader = Reader::connect(query).await;
    let points = eventually("all points can be read", async || {
        let points = reader.points(run_id, name, "").await.map_err(|status| status.to_string())?;
        if points.len() >= count { Ok(points) } else { Err(format!("{} points", points.len())) }
    })
    .await;
    assert_eq!(points.len(), count);
    for (at, point) in points.iter().enumerate() {
        assert_eq!((point.step, point.value), (at as i64, at as f64), "point {at}");
    }
}

/// Returns the properties of a run once they satisfy a condition.
pub(crate) async fn props(server: &Server, run_id: &str, is_expected: impl Fn(&Value) -> bool) -> Value {
    eventually("the run has the properties", async || {
        let info = server.get(&format!("/api/v1/rest/runs/{run_id}/info/")).await?;
        if is_expected(&info["props"]) { Ok(info["props"].clone()) } else { Err(info.to_string()) }
    })
    .await
}

/// Notices that the tests of this program took: those about spools of other processes go to the run
/// that asks first, whichever it is.
static TAKEN_NOTICES: Mutex<Vec<Notice>> = Mutex::new(Vec::new());

/// Takes the notices of a run.
pub(crate) fn take_notices(run: &Run) -> Vec<Notice> {
    let notices = run.notices();
    keep_notices(&notices);
    notices
}

/// Keeps notices that a test took by other means.
pub(crate) fn keep_notices(notices: &[Notice]) {
    TAKEN_NOTICES.lock().expect("nothing panics with the lock").extend_from_slice(notices);
}

/// Returns the notices that any run of this program took, this one included.
pub(crate) fn taken_notices(run: &Run) -> Vec<Notice> {
    take_notices(run);
    TAKEN_NOTICES.lock().expect("nothing panics with the lock").clone()
}

/// Calls a blocking function of the SDK without holding up the runtime of the test.
pub(crate) async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(call).await.expect("the call does not panic")
}
