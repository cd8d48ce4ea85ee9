//! Time in which the job collects the params of runs that were created all at once. It works half of the time, so that it
//! leaves a core to others.

use std::time::Instant;

use crate::{
    project::{self, Content},
    table::{Budget, Table, Unit},
};

const RUNS: u64 = 100_000;
/// As long as creating the runs may take, at 4,000 a second.
const SECONDS: f64 = 25.0;

pub(crate) async fn rows(table: &mut Table, scale: u64) {
    let runs = RUNS / scale;
    let work = format!("collecting the params of {}k runs", runs / 1_000);
    if !table.wants(&work) {
        return;
    }
    let mut figures = Vec::new();
    for _ in 0..table.runs() {
        let directory = tempfile::tempdir().expect("there is room for a project");
        let store = project::with_params(Content::of_runs(runs), directory.path()).await;
        let start = Instant::now();
        project::collect_params(&store).await;
        figures.push(start.elapsed().as_secs_f64());
        store.close().await.expect("the store closes");
    }
    table.print(&work, Budget::AtMost(SECONDS), Unit::Seconds, figures);
}
