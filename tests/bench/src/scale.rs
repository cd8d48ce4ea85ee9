//! Growth of a project: the cost of a server at each doubling of its points and of its runs, in
//! Markdown tables and a plot. Each doubling continues with the server of the previous doubling.

mod plot;
pub(crate) mod points;
pub(crate) mod runs;

use std::path::PathBuf;

use clap::Args;
use matyan_tests::Server;

use crate::{limits::free_bytes, machine::Machine, process::idle_memory};

/// Free bytes that a growing project leaves.
const RESERVE: f64 = 4e9;
/// Space that a project takes for a while, for each byte that it grows by: merges write files before they delete others.
const SPACE_FOR_BYTE: f64 = 1.5;

#[derive(Args)]
pub(crate) struct Options {
    /// Points of the largest project; a tenth of them are in one series
    #[arg(long, default_value_t = 1_000_000_000)]
    points: u64,
    /// Runs of the largest project
    #[arg(long, default_value_t = 1_000_000)]
    runs: u64,
    /// Number of times that a project doubles until it is the largest one
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=20))]
    doublings: u32,
    /// SVG file for the plot
    #[arg(long)]
    plot: Option<PathBuf>,
}

/// The figures of projects of growing size: one row for each size.
struct Growth {
    /// The thing that is counted, such as "points".
    of: &'static str,
    columns: &'static [Column],
    rows: Vec<(u64, Vec<f64>)>,
}

/// A figure of each size. Columns of one unit share a chart.
struct Column {
    title: &'static str,
    unit: &'static str,
}

pub(crate) async fn run(options: Options) {
    println!("{}", Machine::measure().describe());
    let mut charts = Vec::new();
    if options.points > 0 {
        charts.push(points::grow(&options.sizes(options.points)).await);
    }
    if options.runs > 0 {
        charts.push(runs::grow(&options.sizes(options.runs)).await);
    }
    if let Some(file) = options.plot {
        std::fs::write(&file, plot::svg(&charts)).expect("the file of the plot is writable");
    }
}

impl Options {
    /// The sizes of a project until it is the largest one.
    fn sizes(&self, largest: u64) -> Vec<u64> {
        (0..=self.doublings).rev().map(|halvings| largest >> halvings).collect()
    }
}

impl Growth {
    fn new(of: &'static str, columns: &'static [Column]) -> Self {
        let titles = columns.iter().map(|Column { title, unit }| format!("{title}, {unit}"));
        let titles: Vec<_> = [of.to_owned()].into_iter().chain(titles).collect();
        println!("\n| {} |\n|{}", titles.join(" | "), "---:|".repeat(titles.len()));
        Self { of, columns, rows: Vec::new() }
    }

    /// Adds the figures of a size, a figure for each column, and prints them.
    fn add(&mut self, size: u64, figures: Vec<f64>) {
        assert_eq!(figures.len(), self.columns.len(), "a figure for each column");
        let cells = figures.iter().map(|figure| significant(*figure));
        let cells: Vec<_> = [count(size)].into_iter().chain(cells).collect();
        println!("| {} |", cells.join(" | "));
        self.rows.push((size, figures));
    }
}

/// Whether the disk has room for a project of `size` things, by the bytes that it takes with `reached` of them. If not,
/// says where the growth ends.
fn has_room(server: &Server, bytes: f64, reached: u64, size: u64) -> bool {
    if reached == 0 {
        return true;
    }
    let more = bytes * (size - reached) as f64 / reached as f64 * SPACE_FOR_BYTE;
    let free = free_bytes(&server.data_dir()) as f64;
    let has_room = more + RESERVE <= free;
    if !has_room {
        let [reached, size] = [reached, size].map(count);
        println!(
            "\nEnded at {reached}: the next size of {size} would need {:.1} GB more, and {:.1} GB are free.",
            more / 1e9,
            free / 1e9
        );
    }
    has_room
}

/// Three digits, and no fraction for large figures.
pub(crate) fn significant(figure: f64) -> String {
    match figure {
        _ if figure >= 1_000.0 => count(figure as u64),
        _ if figure >= 100.0 => format!("{figure:.0}"),
        _ if figure >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// A number with separators, rounded to three digits.
pub(crate) fn count(number: u64) -> String {
    let unit = 10_u64.pow(number.checked_ilog10().unwrap_or(0).saturating_sub(2));
    let digits = ((number + unit / 2) / unit * unit).to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(|group| String::from_utf8_lossy(group)).collect();
    groups.join(",")
}

/// Resets the peak of the server's memory to its current size.
fn reset_peak(server: &Server) {
    std::fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").expect("the process is our own");
}

fn megabytes(server: &Server, figure: &str) -> f64 {
    server.memory(figure) as f64 / 1e6
}

/// Restarts the server. Returns the seconds until it is ready, and its idle memory.
async fn restart(server: &mut Server) -> [f64; 2] {
    assert!(server.terminate().await.success(), "{}", server.log());
    let start = std::time::Instant::now();
    server.start().await;
    let ready = start.elapsed().as_secs_f64();
    [ready, idle_memory(server).await]
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let figures = [0.054, 5.0, 12.34, 123.4, 1_234.5, 1_234_567.0].map(significant);
        assert_eq!(figures, ["0.05", "5.00", "12.3", "123", "1,230", "1,230,000"]);
        assert_eq!([0, 7, 999, 15_625_000].map(count), ["0", "7", "999", "15,600,000"]);
    }

    #[test]
    fn sizes_double_until_the_largest_one() {
        let options = Options { points: 800, runs: 0, doublings: 3, plot: None };
        assert_eq!(options.sizes(800), [100, 200, 400, 800]);
    }
}
