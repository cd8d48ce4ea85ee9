//! The `matyan` binary: command line, settings, telemetry and wiring, and nothing else.

mod cli;
mod client;
mod embedded_ui;
mod endpoint;
mod open_files;
mod plain_text;
mod settings;
mod telemetry;
mod wire;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Returns freed memory to the system after a tenth of a second, so an idle process does not hold the memory that
/// ingestion needed at its peak. A scan of the store frees a lot: if the allocator kept it for a second, the scan would
/// take four times as much memory as it uses.
#[expect(unsafe_code, reason = "the allocator reads its settings from the symbol of this name")]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_SETTINGS: &[u8; 59] = b"background_thread:true,dirty_decay_ms:100,muzzy_decay_ms:0\0";

fn main() -> ExitCode {
    cli::run()
}
