//! The same search of 10,000 runs on an otherwise idle server and while eight writers log: the
//! effect of writers on search latency.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use matyan_tests::{
    Server,
    json::{Ack, JsonWriter},
};
use tokio::task::JoinSet;

use super::{Case, Client, cases, connect, search};
use crate::{
    load,
    project::{self, Content},
    table::{Budget, Table, Unit},
};

const RUNS: u64 = 10_000;
const WRITERS: usize = 8;
const PER_FRAME: usize = 10;
/// Points per second of all writers together: the rate of the row on acknowledgement latency at a
/// light load.
const POINTS: f64 = 10e3;
/// Searches per figure.
const SEARCHES: usize = 40;

pub(crate) async fn rows(table: &mut Table, scale: u64) {
    let work = |name: &str, how: &str| format!("{}k runs: {name}, {how}", RUNS / 1_000);
    let names = ["without writers", "while 8 writers log", "ratio of the two"];
    let cases: Vec<Case> = cases(RUNS).into_iter().take(2).collect();
    let wants = |case: &Case| names.iter().any(|how| table.wants(&work(case.name, how)));
    if !cases.iter().any(wants) {
        return;
    }
    // A separate project: the other rows count the runs of theirs.
    let directory = tempfile::tempdir().expect("there is room for a project");
    project::generate(Content::of_runs(RUNS / scale), directory.path()).await;
    let server = Server::up_on(directory.path()).await;
    let mut client = connect(&server).await;
    for case in super::cases(RUNS / scale).into_iter().take(2) {
        let mut quiet = Vec::new();
        let mut loaded = Vec::new();
        let mut ratios = Vec::new();
        median(&mut client, &case).await;
        for _ in 0..table.runs() {
            let before = median(&mut client, &case).await;
            let writers = Writers::start(&server).await;
            let during = median(&mut client, &case).await;
            writers.stop().await;
            quiet.push(before);
            loaded.push(during);
            ratios.push(during / before);
        }
        let [in_quiet, in_load, ratio] = names.map(|how| work(case.name, how));
        table.print(&in_quiet, Budget::None, Unit::Milliseconds, quiet);
        table.print(&in_load, Budget::None, Unit::Milliseconds, loaded);
        table.print(&ratio, Budget::AtMost(1.5), Unit::Times, ratios);
    }
}

/// Median time to the last row, in milliseconds.
async fn median(client: &mut Client, case: &Case) -> f64 {
    let mut times = Vec::with_capacity(SEARCHES);
    for _ in 0..SEARCHES {
        times.push(search(client, case).await.last);
    }
    times.sort_by(f64::total_cmp);
    times[SEARCHES / 2]
}

struct Writers {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
}

impl Writers {
    async fn start(server: &Server) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let texts = Arc::new(load::json_frames(1_000, PER_FRAME, 4));
        let mut tasks = JoinSet::new();
        for number in 0..WRITERS {
            let texts = texts.clone();
            let stop = stop.clone();
            let mut writer =
                JsonWriter::connect(&server.ingest, &format!("writer-{number}")).await.expect("listening");
            tasks.spawn(async move {
                let mut clock =
                    tokio::time::interval(Duration::from_secs_f64((WRITERS * PER_FRAME) as f64 / POINTS));
                for text in texts.iter().cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                    clock.tick().await;
                    assert_eq!(writer.send_text(text.clone()).await, Ok(Ack::Ok));
                }
            });
        }
        Self { tasks, stop }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
    }
}
