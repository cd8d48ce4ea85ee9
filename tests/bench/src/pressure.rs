//! The effects on other clients while some ask for, or hold, as much as they may: the time of an
//! acknowledgement, the time until a point is readable, the time of an ordinary search, and the peak memory
//! of the server. Each load has its own server and its own project of 10,000 runs.
//!
//! The clients of a load connect from their own addresses, because `localhost` identifies no client and
//! has no share of the server's limits, and run on processors that are otherwise idle.

mod clients;
mod figures;
mod queries;
mod unread_answers;
mod uploads;

use std::{path::Path, time::Duration};

use matyan_tests::Server;

use self::{clients::Clients, figures::Figures};
use crate::{
    load_threads,
    project::{self, Content},
    table::{Budget, Table, Unit},
};

const RUNS: u64 = 10_000;

/// Longest time in which a server answers that people call usable, in milliseconds.
const USABLE: f64 = 1_000.0;

/// Peak memory of the server under any load, in megabytes.
const MEMORY: f64 = 512.0;

#[derive(Clone, Copy)]
enum Load {
    CraftedQueries,
    UnreadParams,
    UnreadInfo,
    StalledUploads,
    SlowBlobs,
    Everything,
}

impl Load {
    const ALL: [Self; 6] = [
        Self::CraftedQueries,
        Self::UnreadParams,
        Self::UnreadInfo,
        Self::StalledUploads,
        Self::SlowBlobs,
        Self::Everything,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::CraftedQueries => "20 crafted queries",
            Self::UnreadParams => "200 unread answers of merged params",
            Self::UnreadInfo => "200 unread answers of a run with 6 MB of params",
            Self::StalledUploads => "20,000 stalled uploads, 4,096 files",
            Self::SlowBlobs => "64 uploads, each sync of a blob takes 2 s",
            Self::Everything => "20 clients that search everything",
        }
    }

    /// Starts the server for this load, or says why this machine cannot.
    async fn server(self, directory: &Path) -> Result<Server, String> {
        match self {
            Self::CraftedQueries | Self::UnreadParams | Self::UnreadInfo | Self::Everything => {
                Ok(Server::up_on(directory).await)
            }
            Self::StalledUploads => Ok(uploads::stalled::server_of_few_files(directory).await),
            Self::SlowBlobs => uploads::slow_blobs::server(directory).await,
        }
    }

    /// Starts the load, and waits until the server works on it.
    async fn start(self, server: &Server) -> Clients {
        match self {
            Self::CraftedQueries => queries::crafted(server).await,
            Self::UnreadParams => unread_answers::of_merged_params(server).await,
            Self::UnreadInfo => unread_answers::of_run_info(server).await,
            Self::StalledUploads => uploads::stalled::start(server).await,
            Self::SlowBlobs => uploads::slow_blobs::start(server).await,
            Self::Everything => queries::of_everything(server).await,
        }
    }
}

pub(crate) async fn rows(table: &mut Table, scale: usize) {
    let loads = Load::ALL.map(|load| (load, Rows::of(load)));
    if !loads.iter().any(|(_, rows)| rows.are_wanted(table)) {
        return;
    }
    let frames = 1_000 / scale;
    for (load, rows) in loads {
        if rows.are_wanted(table) {
            // A separate project: the runs that a load adds would make the searches of the next load expensive.
            let directory = tempfile::tempdir().expect("there is room for a project");
            project::generate(Content::of_runs(RUNS / scale as u64), directory.path()).await;
            measure(table, load, &rows, directory.path(), frames).await;
        }
    }
}

async fn measure(table: &mut Table, load: Load, rows: &Rows, directory: &Path, frames: usize) {
    let mut columns = Columns::default();
    for _ in 0..table.runs() {
        let mut server = match load.server(directory).await {
            Ok(server) => server,
            Err(reason) => return table.skip(load.name(), &reason),
        };
        until_idle(&server).await;
        let quiet = Figures::measure(&server, "quiet", frames).await;
        let clients = load_threads::start(load.start(&server));
        let loaded = Figures::measure(&server, "loaded", frames).await;
        columns.achieved.push(clients.stop().await);
        columns.memory.push(server.memory("VmHWM") as f64 / 1e6);
        server.check_alive();
        columns.ratio.push(loaded.acknowledgement / quiet.acknowledgement);
        columns.quiet.push(quiet);
        columns.loaded.push(loaded);
    }
    columns.print(table, rows);
    for achieved in columns.achieved {
        table.remark(load.name(), &achieved);
    }
}

/// Waits until the jobs of the server have finished what an earlier measurement left behind.
async fn until_idle(server: &Server) {
    const WINDOW: Duration = Duration::from_secs(1);
    const IDLE_WINDOWS: usize = 2;
    const MOST_WINDOWS: usize = 120;
    let mut idle_windows = 0;
    let mut used = server.processor_time();
    for _ in 0..MOST_WINDOWS {
        tokio::time::sleep(WINDOW).await;
        let now = server.processor_time();
        let is_idle = now - used <= WINDOW / 50;
        idle_windows = if is_idle { idle_windows + 1 } else { 0 };
        if idle_windows == IDLE_WINDOWS {
            return;
        }
        used = now;
    }
    panic!("the server is still busy after {MOST_WINDOWS} s");
}

/// Names of the rows of a load.
struct Rows {
    acknowledgement: [String; 2],
    ratio: String,
    readable: [String; 2],
    search: [String; 2],
    memory: String,
}

impl Rows {
    fn of(load: Load) -> Self {
        let name = load.name();
        let quiet_and_loaded =
            |figure: &str| ["before", "during"].map(|when| format!("{name}: {figure}, {when}"));
        Self {
            acknowledgement: quiet_and_loaded("acknowledgement p99"),
            ratio: format!("{name}: acknowledgement p99, ratio"),
            readable: quiet_and_loaded("point until readable"),
            search: quiet_and_loaded("ordinary search"),
            memory: format!("{name}: peak memory of the server"),
        }
    }

    fn are_wanted(&self, table: &Table) -> bool {
        let pairs = [&self.acknowledgement, &self.readable, &self.search];
        pairs.into_iter().flatten().chain([&self.ratio, &self.memory]).any(|row| table.wants(row))
    }
}

/// The figures of all measurements of a load.
#[derive(Default)]
struct Columns {
    quiet: Vec<Figures>,
    loaded: Vec<Figures>,
    ratio: Vec<f64>,
    memory: Vec<f64>,
    /// The results of the clients of the load in each measurement.
    achieved: Vec<String>,
}

impl Columns {
    fn print(&self, table: &mut Table, rows: &Rows) {
        let mut pair = |names: &[String; 2], budget, of: fn(&Figures) -> f64| {
            let [quiet, loaded] = names;
            table.print(quiet, Budget::None, Unit::Milliseconds, self.quiet.iter().map(of).collect());
            table.print(loaded, budget, Unit::Milliseconds, self.loaded.iter().map(of).collect());
        };
        pair(&rows.acknowledgement, Budget::None, |figures| figures.acknowledgement);
        pair(&rows.readable, Budget::AtMost(USABLE), |figures| figures.readable);
        pair(&rows.search, Budget::AtMost(USABLE), |figures| figures.search);
        table.print(&rows.ratio, Budget::AtMost(2.0), Unit::Times, self.ratio.clone());
        table.print(&rows.memory, Budget::AtMost(MEMORY), Unit::Megabytes, self.memory.clone());
    }
}
