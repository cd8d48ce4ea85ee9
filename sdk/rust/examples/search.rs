//! Searches for runs and prints their params and metrics:
//! `cargo run -p matyan-sdk --example search -- 'run.hparams.lr < 0.1'`.
//!
//! The address of the server is read from `MATYAN_BACKEND_URL`, by default `http://localhost:53800`.

use std::{
    error::Error,
    io::{self, Write as _},
    process::ExitCode,
};

use matyan_sdk::{
    Config,
    http::Timeouts,
    reading::{BackendClient, BackendOptions, Search, SeriesColumns, SeriesSelection},
};
use matyan_value::json::{JsonStyle, value_text};

fn main() -> ExitCode {
    let query = std::env::args().nth(1).unwrap_or_default();
    match search(&query) {
        Ok(0) => {
            eprintln!("search: no run matches");
            ExitCode::FAILURE
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("search: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the matching runs, and returns their number.
fn search(query: &str) -> Result<usize, Box<dyn Error>> {
    let (config, _warnings) = Config::from_process();
    let options = BackendOptions {
        timeouts: Timeouts::default(),
        interrupted: || false,
        runtime: matyan_sdk::io_runtime,
    };
    let backend = BackendClient::new(&config.backend_url, options)?;
    let mut output = io::stdout().lock();
    let mut count = 0;
    for run in backend.search(&Search::runs(query))? {
        let run = run?;
        let info = backend.run_info(&run.id, &["metric"])?.parse()?;
        let params = info.as_map().and_then(|info| info.get("params"));
        let params = params.map(|params| value_text(params, JsonStyle::STRICT)).unwrap_or_default();
        writeln!(output, "run {}: {params}", run.id)?;
        for series in backend.series(SeriesSelection::all(&run.id))? {
            let SeriesColumns { name, context, values, .. } = series?;
            let last = values.last().copied().unwrap_or(f64::NAN);
            writeln!(output, "  {name} {context}: {} points, the last is {last}", values.len())?;
        }
        count += 1;
    }
    Ok(count)
}
