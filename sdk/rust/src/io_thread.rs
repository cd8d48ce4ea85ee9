//! The I/O thread: one per process, which sends the spools of all runs, keeps house, and takes
//! care of spools that other processes left. It never calls into the interpreter of a script.

use std::{
    io,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::Notify,
    task::{self, LocalSet},
    time,
};

use crate::{
    config::Config,
    http::HttpError,
    locks::lock,
    notice::{NoticeLevel, Notices},
    orphans::{self, OrphanScan},
    per_process::PerProcess,
    run_order::RunOrder,
    sender::{self, dialer::Dialer},
    spool::{maintenance, store::Spool},
    supervision::{Restarts, caught, restarted},
    sys::signals,
    upload::worker,
};

/// Shortest time between two searches for spools of other processes, which read directories. The
/// thread sends data in between, however often it is woken.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

static IO_THREAD: PerProcess<io::Result<IoThread>> = PerProcess::new();

/// Handle of the I/O thread. Dropping it ends the thread, which happens only if two threads start
/// one at the same time.
pub(crate) struct IoThread(Arc<Inbox>, Handle);

/// Requests to the I/O thread.
#[derive(Default)]
struct Inbox {
    spools: Mutex<Vec<Arc<Spool>>>,
    /// Settings by which spools of other processes are found; one for each set of directories.
    configs: Mutex<Vec<Config>>,
    /// Spools of other processes that are being sent.
    orphans: Mutex<Vec<Weak<Spool>>>,
    wake: Notify,
    is_stopped: AtomicBool,
}

/// Spools that wait for a thread, which could not be started.
static WAITING: PerProcess<Mutex<WaitingSpools>> = PerProcess::new();
type WaitingSpools = Vec<(Arc<Spool>, Config)>;

/// Hands a spool to the I/O thread of this process, which is started if it does not run.
pub(crate) fn serve(spool: Arc<Spool>, config: &Config) {
    lock(WAITING.get_or_make(|_| true, Mutex::default)).push((spool.clone(), config.clone()));
    if let Err(error) = running() {
        let message = format!("no thread can be started; data stays in the spool: {error}");
        spool.notices.push(NoticeLevel::Error, message);
    }
}

/// Starts the I/O thread if it does not run, and hands over what waits for it.
pub(crate) fn running() -> Result<&'static IoThread, &'static io::Error> {
    let thread = IO_THREAD.get_or_make(Result::is_ok, IoThread::start).as_ref()?;
    if let Some(waiting) = WAITING.get() {
        for (spool, config) in std::mem::take(&mut *lock(waiting)) {
            thread.0.add(spool, &config);
        }
    }
    Ok(thread)
}

/// Data of a run that children of this process have left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChildData {
    /// Spools that are not stored completely yet.
    pub(crate) spools: usize,
    /// Events and points of them that are stored.
    stored: u64,
}

/// Returns what children have left of a run for a gateway, and makes sure that it is being sent.
pub(crate) fn child_data(run_id: &str, gateway_url: &str) -> ChildData {
    let Some(Ok(IoThread(inbox, _))) = IO_THREAD.get() else { return ChildData::default() };
    let configs = lock(&inbox.configs).clone();
    let spools = configs.iter().map(|config| orphans::left_spools(config, run_id, gateway_url)).sum();
    if spools > 0 {
        inbox.wake.notify_one();
    }
    let orphans = lock(&inbox.orphans).clone();
    let stored = orphans.iter().filter_map(Weak::upgrade).map(|spool| spool.progress.delivery().stored_items);
    ChildData { spools, stored: stored.sum() }
}

/// Returns the runtime of the I/O thread of this process, which is started if it does not run.
/// Requests of other threads run there.
pub fn io_runtime() -> Result<Handle, HttpError> {
    match running() {
        Ok(IoThread(_, handle)) => Ok(handle.clone()),
        Err(_) => Err(HttpError::Stopped),
    }
}

impl IoThread {
    fn start() -> io::Result<Self> {
        let inbox = Arc::new(Inbox::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let thread_inbox = inbox.clone();
        thread::Builder::new().name("matyan-io".to_owned()).spawn(move || {
            signals::block_in_this_thread();
            LocalSet::new().block_on(&runtime, run_restarted(&thread_inbox));
        })?;
        Ok(Self(inbox, handle))
    }
}

impl Inbox {
    /// Takes the spool that has waited longest.
    fn next_spool(&self) -> Option<Arc<Spool>> {
        let mut spools = lock(&self.spools);
        (!spools.is_empty()).then(|| spools.remove(0))
    }

    fn add(&self, spool: Arc<Spool>, config: &Config) {
        let mut config = config.clone();
        let path = spool.path();
        // A fallback directory is only known here.
        if let Some(root) = path.parent().filter(|root| config.spool_dirs.iter().all(|known| known != root)) {
            config.spool_dirs.push(root.to_owned());
        }
        let mut configs = lock(&self.configs);
        if configs.iter().all(|known| known.spool_dirs != config.spool_dirs) {
            configs.push(config);
        }
        drop(configs);
        lock(&self.spools).push(spool);
        self.wake.notify_one();
    }
}

impl Drop for IoThread {
    fn drop(&mut self) {
        self.0.is_stopped.store(true, Ordering::Release);
        self.0.wake.notify_one();
    }
}

/// The work of the thread that outlasts a panic.
#[derive(Default)]
struct IoWork {
    dialer: Dialer,
    order: RunOrder,
    scan: OrphanScan,
}

async fn run_restarted(inbox: &Inbox) {
    let mut work = IoWork::default();
    let mut restarts = Restarts::default();
    loop {
        let start = Instant::now();
        let Err(panic) = caught(run(inbox, &mut work)).await else { return };
        restarts.report(&Notices::of_process(), "sending", "the thread that sends data", &panic);
        time::sleep(restarts.next_pause(start.elapsed())).await;
    }
}

async fn run(inbox: &Inbox, work: &mut IoWork) {
    let IoWork { dialer, order, scan } = work;
    let mut scanned_at: Option<Instant> = None;
    while !inbox.is_stopped.load(Ordering::Acquire) {
        while let Some(spool) = inbox.next_spool() {
            start(&spool, dialer, order);
        }
        let pause = scanned_at.map_or(Duration::ZERO, |at| SHORTEST_PAUSE.saturating_sub(at.elapsed()));
        if pause.is_zero() {
            let configs = lock(&inbox.configs).clone();
            for spool in scan.take_due(&configs, |run_id| order.has_run(run_id)) {
                start(&spool, dialer, order);
            }
            *lock(&inbox.orphans) = scan.taken();
            scanned_at = Some(Instant::now());
        }
        let wait = if pause.is_zero() { scan.interval() } else { pause };
        // Woken or not: it is time to look.
        let _woken = time::timeout(wait, inbox.wake.notified()).await;
    }
}

/// Starts the tasks of a spool.
fn start(spool: &Arc<Spool>, dialer: &Dialer, order: &RunOrder) {
    task::spawn_local(keep_house(spool.clone()));
    task::spawn_local(renew(Arc::downgrade(spool)));
    if !spool.owner().is_offline {
        task::spawn_local(worker::run(spool.clone()));
        let uploading = spool.clone();
        let queued = order.add(spool);
        let spool = spool.clone();
        let dialer = dialer.clone();
        let order = order.clone();
        task::spawn_local(async move {
            let wait = || order.wait_for_turn(&queued, &spool, &dialer);
            restarted(&spool, "the wait for earlier data", || spool.is_usable(), |_| (), wait).await;
            sender::task::run(spool, dialer, move || worker::pending(&uploading).len()).await;
        });
    }
}

async fn keep_house(spool: Arc<Spool>) {
    let is_needed = || spool.is_usable() || spool.is_left();
    restarted(&spool, "housekeeping", is_needed, |_| (), || maintenance::run(spool.clone())).await;
}

/// Does not keep the spool alive, like `maintenance::renew`.
async fn renew(spool: Weak<Spool>) {
    let mut restarts = Restarts::default();
    while let Err(panic) = caught(maintenance::renew(spool.clone())).await {
        let Some(spool) = spool.upgrade() else { return };
        let place = spool.path().display().to_string();
        restarts.report(&spool.notices, &place, "the renewal of files", &panic);
    }
}
