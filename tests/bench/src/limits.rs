//! The limits up to which W&B recommends a project (<https://docs.wandb.ai/models/track/limits>), next to goals far
//! above them and to what this machine reaches: one project grows in all dimensions together, then takes values at full
//! speed. Charts and pages are measured at every size, in the project as it is then.

mod content;
mod growth;
mod report;
mod values;
mod views;

use std::{path::Path, time::Duration};

use clap::{Args, value_parser};
use matyan_tests::Server;

use crate::machine::Machine;
use content::{Dimension, Size};
use growth::Growth;
use values::{Load, sustain};
use views::Viewer;

/// Number of times that the project doubles until it is the largest one.
const DOUBLINGS: u32 = 4;

#[derive(Args)]
pub(crate) struct Options {
    /// Runs of the project, of 20 params and five metrics each
    #[arg(long, default_value_t = 1_000_000, value_parser = value_parser!(u64).range(5_000..))]
    runs: u64,
    /// Steps of the longest run
    #[arg(long, default_value_t = 50_000_000, value_parser = value_parser!(u64).range(100_000..))]
    steps: u64,
    /// Names of metrics, with 10,000 in each of their runs
    #[arg(long, default_value_t = 10_000_000, value_parser = value_parser!(u64).range(160_000..))]
    metrics: u64,
    /// Seconds of ingestion at full speed
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Connections of this ingestion
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Gigabytes of the disk that the growth leaves free; the ingestion may use half of them
    #[arg(long, default_value_t = 4)]
    reserve: u64,
}

pub(crate) async fn run(options: Options) {
    println!("{}", Machine::measure().describe());
    let reserve = options.reserve * 1_000_000_000;
    let server = Server::up().await;
    let mut growths = [
        Growth::new("runs of a project", Dimension::Runs, [10_000, 1_000_000], options.runs),
        Growth::new("steps of a run", Dimension::Steps, [500_000, 50_000_000], options.steps),
        Growth::new("metrics of a project", Dimension::Metrics, [100_000, 10_000_000], options.metrics),
    ];
    let mut viewer = Viewer::connect(&server).await;
    let mut size = Size::default();
    println!("\n| growth | size | written in, s | disk, GB | charts, p99, ms | pages, p99, ms |");
    println!("|---|---:|---:|---:|---:|---:|");
    for halvings in (0..=DOUBLINGS).rev() {
        for growth in &mut growths {
            growth.grow(&server, &mut size, growth.target >> halvings, reserve).await;
        }
        for growth in &mut growths {
            growth.measure(&mut viewer, size).await;
        }
    }
    // A smaller reserve, so that values can be written even if the growth has filled its part of the disk.
    let load = Load {
        duration: Duration::from_secs(options.seconds),
        connections: options.connections,
        reserve: reserve / 2,
    };
    let sustained = sustain(&server, &mut viewer, size, &load).await;
    println!("\n{}", report::table(&growths, &sustained));
    for estimate in report::estimates(&growths, &sustained) {
        println!("\n{estimate}");
    }
}

/// Free bytes of the disk of a directory; 0 if they are not known.
pub(crate) fn free_bytes(directory: &Path) -> u64 {
    let status = rustix::fs::statvfs(directory);
    status.map_or(0, |status| status.f_bavail.saturating_mul(status.f_frsize))
}
