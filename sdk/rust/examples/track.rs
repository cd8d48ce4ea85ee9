//! Tracks a run: `cargo run -p matyan-sdk --example track`.
//!
//! The address of the server is read from `MATYAN_FRONTIER_URL`, by default `http://localhost:53801`. Without a
//! server, the tracked data stays in the spool, and the next run of this user sends it.

#![expect(clippy::print_stdout, reason = "a program for the command line")]

use std::{error::Error, process::ExitCode};

use matyan_sdk::{CloseLimits, Config, Context, Map, Run, RunOptions, Value};

const STEPS: i32 = 1000;

fn main() -> ExitCode {
    match track() {
        Ok(run_id) => {
            println!("tracked {STEPS} points of run {run_id}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("track: {error}");
            ExitCode::FAILURE
        }
    }
}

fn track() -> Result<String, Box<dyn Error>> {
    let (config, warnings) = Config::from_process();
    for warning in warnings {
        eprintln!("track: {warning}");
    }
    let run =
        Run::new(RunOptions { config, experiment: Some("clients".to_owned()), ..RunOptions::default() })?;
    let layers = Value::List(vec![Value::Integer(64), Value::Integer(64)]);
    let hparams = Map::from([("lr".to_owned(), Value::Float(0.01)), ("layers".to_owned(), layers)]);
    run.set_params(&Map::from([("hparams".to_owned(), Value::Map(hparams))]))?;

    // A series is meant to be kept: looking it up is slower than using it.
    let loss = run.series("loss", &Context::parse(r#"{"subset": "train"}"#)?, "float")?;
    for step in 0..STEPS {
        run.track(&loss, (-f64::from(step) / 200.0).exp(), Some(i64::from(step)), None);
    }

    let report = run.close(CloseLimits::default(), |_| true);
    match report.spool {
        None => Ok(run.id().to_owned()),
        Some(spool) => {
            let server = &run.config().gateway_url;
            let pending = report.pending;
            Err(format!("{server}: {pending} values are not stored yet and stay in {}", spool.display())
                .into())
        }
    }
}
