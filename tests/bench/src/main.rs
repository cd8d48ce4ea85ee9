//! Prints the budget table with the figures of this machine next to the budgets. Not a test:
//! machines are noisy, so compare ratios within one run, and read every ingestion figure in
//! relation to the disk's sync time above it.

#![expect(clippy::print_stdout, reason = "printing a table is what this program is for")]

mod access;
mod chart;
mod charts;
mod collect;
mod cores;
mod crafted_run;
mod deleted;
mod disk;
mod export;
mod first_page;
mod ingest;
mod kafka;
mod latency;
mod limits;
mod load;
mod load_threads;
mod machine;
mod neighbor;
mod pressure;
mod process;
mod project;
mod runs;
mod scale;
mod search;
mod storage;
mod sweeps;
mod table;
mod wide;

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Parser, Subcommand};
use cores::Curve;
use project::Content;
use table::Table;
use tokio::runtime::Builder;

/// Threads of the generator, unless the user chooses another number.
const THREADS: usize = 2;

/// Prints the budget table: work, budget, measured.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    /// Only rows whose work contains this text.
    #[arg(long, default_value = "")]
    only: String,
    /// Runs of each measurement; the median is printed.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// A tenth of the load, to check that everything works.
    #[arg(long)]
    quick: bool,
    /// Threads of the generator of the load: 2 by default, and one for each of its cores with `--cores`
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Print throughput by cores instead: the server on 1, 2, 4, 8 … cores, and the generator on the others
    #[arg(long)]
    cores: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Generate a data directory for `matyan up` with a project of many runs
    Generate {
        #[arg(long, default_value_t = 100_000)]
        runs: u64,
        /// Points of each of the 50 series of a run
        #[arg(long, default_value_t = 4)]
        points: u32,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// A directory that is empty, or that this command created
        directory: PathBuf,
    },
    /// Print the cost of a project at each doubling of its points and of its runs
    Scale(scale::Options),
    /// Print the limits up to which W&B recommends a project, next to goals and to what this machine reaches
    Limits(limits::Options),
}

fn main() {
    let options = Options::parse();
    if options.cores {
        let scale = options.scale();
        let Options { only, runs, threads, .. } = options;
        return Curve { only, runs, scale, threads }.print();
    }
    let threads = options.threads.map_or(THREADS, NonZeroUsize::get);
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    runtime.expect("the system has threads").block_on(print(options));
}

impl Options {
    /// Divisor of the load.
    fn scale(&self) -> usize {
        if self.quick { 10 } else { 1 }
    }
}

async fn print(options: Options) {
    let scale = options.scale();
    match options.command {
        Some(Command::Generate { runs, points, seed, directory }) => {
            return project::generate(Content { runs, points, seed }, &directory).await;
        }
        Some(Command::Scale(options)) => return scale::run(options).await,
        Some(Command::Limits(options)) => return limits::run(options).await,
        None => {}
    }
    let machine = machine::Machine::measure();
    println!("{}", machine.describe());
    let mut table = Table::new(options.only, options.runs);
    ingest::rows(&mut table, scale).await;
    latency::rows(&mut table, &machine, scale).await;
    access::rows(&mut table, scale).await;
    wide::rows(&mut table, scale).await;
    neighbor::rows(&mut table, scale).await;
    neighbor::second_run::rows(&mut table, scale).await;
    neighbor::chart_readers::rows(&mut table, scale).await;
    runs::rows(&mut table, scale as u64).await;
    runs::disk_rows(&mut table, scale as u64).await;
    storage::rows(&mut table, scale).await;
    disk::rows(&mut table, scale).await;
    deleted::rows(&mut table, scale as u64).await;
    chart::rows(&mut table, scale).await;
    charts::rows(&mut table).await;
    search::rows(&mut table, scale as u64).await;
    search::loaded::rows(&mut table, scale as u64).await;
    search::expensive::rows(&mut table, scale as u64).await;
    search::steps::rows(&mut table).await;
    search::slow_reader(&mut table, scale as u64).await;
    collect::rows(&mut table, scale as u64).await;
    first_page::rows(&mut table, scale as u64).await;
    export::rows(&mut table, scale).await;
    pressure::rows(&mut table, scale).await;
    process::rows(&mut table, scale).await;
    sweeps::rows(&mut table, scale as u64).await;
    kafka::rows(&mut table, scale).await;
    table.close();
}
