//! The binary: command line, settings, telemetry and wiring; nothing else.

mod cli;
mod open_files;
mod settings;
mod telemetry;
mod wire;

use std::{error::Error, process::ExitCode};

use settings::{Environment, Settings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the shell calls wrong usage.
const BAD_SETTINGS: u8 = 2;

fn main() -> ExitCode {
    let settings = match Settings::resolve(cli::parse(), Environment::of_process()) {
        Ok(settings) => settings,
        Err(violations) => {
            eprintln!("{violations}");
            return ExitCode::from(BAD_SETTINGS);
        }
    };
    telemetry::start(&settings);
    open_files::raise();
    match wire::run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("matyan: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and what is behind it, in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
