//! A Markdown table of the throughput by cores: the server on 1, 2, 4, 8 … cores, and the generator of its
//! load on all others. The load grows with the cores of the server, as it does where more people use a larger
//! machine.
//!
//! A row also has the cores that server and generator kept busy. A server that does not keep its cores busy waits for
//! something, unless the generator is short of cores: a row says so.

mod processors;
mod work;

use std::num::NonZeroUsize;

use matyan_tests::cores;
use tokio::runtime::Builder;

use crate::{machine::Machine, scale::significant};
use processors::{Processors, Split};
use work::{Figures, Work};

/// Required throughput of each core, relative to the throughput of a server on one core.
const GOAL: f64 = 0.7;

/// The largest number of cores with a goal.
const MOST_CORES: usize = 8;

/// Share of the generator's cores above which the generator may have limited the figure.
const BUSY_GENERATOR: f64 = 0.9;

pub(crate) struct Curve {
    /// Only work whose name contains this text.
    pub(crate) only: String,
    /// Measurements of each row; the median is printed.
    pub(crate) runs: usize,
    /// Divisor of the load.
    pub(crate) scale: usize,
    /// Threads of the generator; by default, one for each of its cores.
    pub(crate) threads: Option<NonZeroUsize>,
}

impl Curve {
    pub(crate) fn print(&self) {
        println!("{}", Machine::measure().describe());
        let processors = Processors::allowed();
        println!("{}", processors.describe());
        let titles = [
            "work",
            "server, cores",
            "generator, cores",
            "per second",
            "per core, against one core",
            "goal",
            "server busy, cores",
            "generator busy, cores",
            "",
        ];
        println!("\n| {} |\n|---|{}---|", titles.join(" | "), "---:|".repeat(titles.len() - 2));
        let splits = processors.splits(MOST_CORES);
        for work in Work::ALL.into_iter().filter(|work| work.name().contains(&self.only)) {
            let mut alone = None;
            for split in &splits {
                let figures = self.measure(work, split);
                let alone = *alone.get_or_insert(figures.per_second);
                println!("{}", row(work, split, &figures, alone));
            }
        }
        if let Some(text) = processors.missing(MOST_CORES) {
            println!("\n{text}");
        }
    }

    /// The median of some measurements.
    fn measure(&self, work: Work, split: &Split) -> Figures {
        // The threads of the runtime inherit the cores.
        cores::pin(&split.generator).expect("these cores were allowed before");
        let threads = self.threads.map_or(split.generator.len(), NonZeroUsize::get);
        let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build();
        let runtime = runtime.expect("the system has threads");
        let measure = || runtime.block_on(work.measure(&split.server, self.scale));
        let mut figures: Vec<Figures> = (0..self.runs).map(|_| measure()).collect();
        figures.sort_by(|one, other| one.per_second.total_cmp(&other.per_second));
        figures.swap_remove(figures.len() / 2)
    }
}

/// A row of the table. `alone` is the throughput of a server on one core.
fn row(work: Work, split: &Split, figures: &Figures, alone: f64) -> String {
    let cores = split.server.len();
    let ratio = figures.per_second / cores as f64 / alone;
    let has_goal = (2..=MOST_CORES).contains(&cores);
    let is_short = figures.generator >= BUSY_GENERATOR * split.generator.len() as f64;
    let remark = match (has_goal && ratio < GOAL, is_short) {
        (true, true) => "MISSED, the generator was short of cores",
        (true, false) => "MISSED",
        (false, true) => "the generator was short of cores",
        (false, false) => "",
    };
    let goal = if has_goal { format!("≥ {GOAL}") } else { String::new() };
    format!(
        "| {} | {cores} | {} | {} {} | {ratio:.2} | {goal} | {:.2} | {:.2} | {remark} |",
        work.name(),
        split.generator.len(),
        significant(figures.per_second),
        work.unit(),
        figures.server,
        figures.generator,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(server: usize, generator: usize) -> Split {
        Split { server: (0..server).collect(), generator: (server..server + generator).collect() }
    }

    #[test]
    fn a_row_compares_each_core_with_one_core() {
        let figures = Figures { per_second: 1_000.0, server: 1.9, generator: 1.2 };
        let text = row(Work::Searches, &split(2, 2), &figures, 600.0);
        assert!(text.contains("| 2 | 2 | 1,000 searches | 0.83 | ≥ 0.7 | 1.90 | 1.20 |  |"), "{text}");
        assert!(row(Work::Searches, &split(2, 2), &figures, 800.0).ends_with("| MISSED |"));
        let text = row(Work::Searches, &split(1, 1), &figures, 1_000.0);
        assert!(text.ends_with("| 1.00 |  | 1.90 | 1.20 | the generator was short of cores |"), "{text}");
    }
}
