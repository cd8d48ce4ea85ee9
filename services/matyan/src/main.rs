//! The `matyan` binary: command line, settings, telemetry and wiring, and nothing else.

mod bucket;
mod cli;
mod client;
mod open_files;
mod settings;
mod telemetry;
mod topics;
mod wire;

use std::{collections::BTreeMap, error::Error, process::ExitCode};

use cli::{Invocation, ServerArguments};
use settings::{Environment, Settings, TopicsSettings};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Returns freed memory to the system a second after a burst, so an idle process does not hold
/// what ingestion needed at its peak.
#[expect(unsafe_code, reason = "the allocator reads its settings from the symbol of this name")]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_SETTINGS: &[u8; 63] =
    b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:1000\0";

/// The conventional exit code of a command for incorrect usage.
pub(crate) const BAD_SETTINGS: u8 = 2;

fn main() -> ExitCode {
    match cli::parse() {
        Invocation::Serve(arguments) => serve(arguments),
        Invocation::CreateBucket(flags) => bucket::create(flags),
        Invocation::CreateTopics(flags) => create_topics(flags),
        Invocation::Client(command) => match client::run(command) {
            Ok(()) => ExitCode::SUCCESS,
            // The reader of the output, such as `head`, has exited.
            Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("matyan: {}", chain(&error));
                ExitCode::from(error.exit_code())
            }
        },
    }
}

fn serve(arguments: ServerArguments) -> ExitCode {
    let settings = match Settings::resolve(arguments, Environment::of_process()) {
        Ok(settings) => settings,
        Err(violations) => {
            eprintln!("{violations}");
            return ExitCode::from(BAD_SETTINGS);
        }
    };
    match wire::run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("matyan: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn create_topics(flags: BTreeMap<String, String>) -> ExitCode {
    let settings = match TopicsSettings::resolve(flags, Environment::of_process()) {
        Ok(settings) => settings,
        Err(violations) => {
            eprintln!("{violations}");
            return ExitCode::from(BAD_SETTINGS);
        }
    };
    match topics::create(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("matyan: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Formats an error and its causes on one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
