//! Cost of tracking: time per call without a server, and points per second until a server has
//! acknowledged them.
//!
//! `cargo bench -p matyan-sdk --bench track [GATEWAY_URL]`. Without a URL, only calls are measured.

use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use matyan_sdk::{CloseLimits, Columns, Config, Context, Run, RunOptions, Series};
use tempfile::TempDir;

/// Calls whose times are compared one by one.
const CALLS: usize = 1_000_000;
/// Points that are sent.
const POINTS: usize = 5_000_000;

fn main() -> std::io::Result<()> {
    let url = std::env::args().skip(1).find(|argument| argument.starts_with("http"));
    let mut output = std::io::stdout().lock();
    for server in [None, url.as_deref()].into_iter().take(1 + usize::from(url.is_some())) {
        let name = if server.is_some() { "with a server" } else { "without a server" };
        let (run, series, _root) = open(server)?;
        let mut times: Vec<u64> = (0..CALLS).map(|step| call(&run, &series, step)).collect();
        times.sort_unstable();
        let at = |share: f64| times[((CALLS - 1) as f64 * share) as usize];
        writeln!(
            output,
            "track, {name}: median {} ns, p99 {} ns, p99.9 {} ns, slowest {} µs (of which the clock of the \
             measurement: {} ns)",
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0) / 1_000,
            clock_cost()
        )?;
        let start = Instant::now();
        for step in 0..CALLS {
            run.track(&series, 0.5, Some((CALLS + step) as i64), None);
        }
        let each = start.elapsed().as_nanos() as f64 / CALLS as f64;
        writeln!(output, "track, {name}, calls in a row: {each:.1} ns each")?;
    }
    if let Some(url) = &url {
        for columns in [false, true] {
            let rate = send(url, columns)?;
            let name = if columns { "track_many" } else { "track" };
            writeln!(output, "{name} of {POINTS} points until acknowledged: {:.2} million/s", rate / 1e6)?;
        }
    }
    Ok(())
}

fn open(server: Option<&str>) -> std::io::Result<(Run, Arc<Series>, TempDir)> {
    let root = TempDir::new()?;
    let gateway_url = server.unwrap_or("http://127.0.0.1:1").to_owned();
    let config = Config { gateway_url, spool_dirs: vec![root.path().to_owned()], ..Config::default() };
    let run = Run::new(RunOptions { config, ..RunOptions::default() }).map_err(std::io::Error::other)?;
    let series = run.series("loss", &Context::default(), "float").map_err(std::io::Error::other)?;
    Ok((run, series, root))
}

fn call(run: &Run, series: &Series, step: usize) -> u64 {
    let start = Instant::now();
    run.track(series, 0.5, Some(step as i64), None);
    start.elapsed().as_nanos() as u64
}

/// Median time that a measurement without a call takes.
fn clock_cost() -> u64 {
    let mut times: Vec<_> = (0..10_000).map(|_| Instant::now().elapsed().as_nanos() as u64).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// Points per second from the first call until everything is acknowledged.
fn send(url: &str, columns: bool) -> std::io::Result<f64> {
    let (run, series, _root) = open(Some(url))?;
    let start = Instant::now();
    if columns {
        let values = vec![0.5; POINTS];
        let columns = Columns { values: &values, ..Columns::default() };
        run.track_many(&series, &columns).map_err(std::io::Error::other)?;
    } else {
        for step in 0..POINTS {
            run.track(&series, step as f64, Some(step as i64), None);
        }
    }
    if !run.flush(Duration::from_secs(300)) {
        return Err(std::io::Error::other(format!("not everything was stored: {:?}", run.health())));
    }
    let rate = POINTS as f64 / start.elapsed().as_secs_f64();
    run.close(CloseLimits::default(), |_| true);
    Ok(rate)
}
