//! The only composition root: opens what is asked for, gives every part what it works with, and ends all in order.
//! It can be read top to bottom: what `run` does is what happens.

mod announce;
pub(crate) mod clock;
mod data_dir;
mod health;
mod listeners;
mod parts;
mod signals;
mod substrates;
mod tasks;
mod workers;

use std::{io, io::Write, net::SocketAddr, path::PathBuf, thread, time::Duration};

use matyan_edge::{Tls, TlsError, Ui, UiError};
use tokio::runtime::{Builder, Runtime};

use crate::{
    open_files,
    settings::{Secret, Settings},
    telemetry::{self, Telemetry},
};
use announce::Announcement;
use data_dir::DataDir;
use listeners::Listeners;
use parts::Parts;
use signals::Signals;
use substrates::{Network, Substrates};

/// Work that waits for the disk: reads of the store, blobs. Far more than disks do at once, far less than would hurt.
const BLOCKING_THREADS: usize = 64;

/// What a read of a network store may take to notice that it is not wanted any more.
const LAST_READERS: Duration = Duration::from_secs(5);

/// With one, a task that computes for a moment would hold up every connection.
const LEAST_WORKERS: usize = 2;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the process cannot be set up")]
    SetUp(#[source] io::Error),
    #[error("{address} cannot be listened on; choose another port with {flag}, or stop what uses it")]
    Bind { address: SocketAddr, flag: &'static str, source: io::Error },
    #[error(transparent)]
    Telemetry(#[from] telemetry::Error),
    #[error(transparent)]
    DataDir(#[from] data_dir::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Ui(#[from] UiError),
    #[error(transparent)]
    Store(#[from] matyan_store::Error),
    #[error(transparent)]
    Log(#[from] matyan_log::Error),
    #[error(
        "the consumer group `{group}` of Matyan 0.3 has {members} members, which can read JSON alone: set \
         KAFKA_MESSAGE_FORMAT=json, or stop them first"
    )]
    OldReaders { group: &'static str, members: usize },
    #[error(transparent)]
    Blobs(#[from] matyan_blob::Error),
    #[error("the metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
    #[error("the file {} cannot be written", path.display())]
    ReadyFile { path: PathBuf, source: io::Error },
    #[error("{part} cannot go on")]
    Part { part: &'static str, source: matyan_worker::Error },
    #[error("{part} ended unasked")]
    PartEnded { part: &'static str },
    #[error("a part panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

/// Runs what the settings ask for, until a signal asks for the end.
pub(crate) fn run(settings: &Settings) -> Result<(), Error> {
    // Declared first, so that it ends last.
    let network = Network::start(settings)?;
    let runtime = runtime().map_err(Error::SetUp)?;
    let telemetry = {
        let _entered = runtime.enter();
        Telemetry::start(settings)?
    };
    open_files::raise();
    if !settings.unread.is_empty() {
        let variables = settings.unread.join(", ");
        tracing::warn!(variables, "settings of Matyan 0.3 that nothing reads any more are set");
    }
    let ended = runtime.block_on(serve(settings, &network));
    telemetry.stop();
    // Everything that matters has been awaited; a reader that was cut off waits for its disk alone. One that waits for a network
    // store has to be gone before the network is.
    match network.is_used() {
        true => runtime.shutdown_timeout(LAST_READERS),
        false => runtime.shutdown_background(),
    }
    ended
}

fn runtime() -> io::Result<Runtime> {
    let workers = thread::available_parallelism()?.get().max(LEAST_WORKERS);
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(workers).max_blocking_threads(BLOCKING_THREADS).thread_name("matyan").enable_all();
    builder.build()
}

async fn serve(settings: &Settings, network: &Network) -> Result<(), Error> {
    let mut signals = Signals::install().map_err(Error::SetUp)?;
    let mut process = tokio::select! {
        started = Process::start(settings, network) => started?,
        // Nothing has been taken yet, so there is nothing to end in order.
        (signal, _) = signals.next() => {
            tracing::info!(signal, "stopped while starting");
            return Ok(());
        }
    };
    let ended = tokio::select! {
        (signal, _) = signals.next() => {
            tracing::info!(signal, "stopping");
            Ok(())
        }
        error = process.ended() => Err(error),
    };
    tokio::select! {
        stopped = process.stop(settings) => ended.and(stopped),
        never = signals.exit_on_next() => never,
    }
}

/// What is up. Fields are dropped in this order: the directory is given free last.
struct Process {
    parts: Parts,
    substrates: Substrates,
    _data_dir: Option<DataDir>,
}

impl Process {
    async fn start(settings: &Settings, network: &Network) -> Result<Self, Error> {
        let ui = settings.ui.as_ref().map(Ui::open).transpose()?;
        let tls = settings.tls.clone().map(|(certificate, key)| Tls::open(certificate, key)).transpose()?;
        let data_dir = settings.data_dir.as_deref().map(DataDir::open).transpose()?;
        let listeners = Listeners::bind(settings).await?;
        let secret = secret(settings, data_dir.as_ref())?;
        let path = data_dir.as_ref().map(DataDir::path);
        let substrates = Substrates::open(settings, network, path, &secret).await?;
        let announcement = Announcement {
            query: listeners.query_address(),
            ingest: listeners.ingest_address(),
            metrics: listeners.metrics_address(),
            data_dir: path,
            has_tls: tls.is_some(),
            has_ui: ui.is_some(),
        };
        let parts = Parts::start(settings, &substrates, &secret, listeners, (tls, ui)).await?;
        announce(settings, &announcement)?;
        Ok(Self { parts, substrates, _data_dir: data_dir })
    }

    /// Why the process cannot go on: a task or a thread that everything else needs has ended. Cancel-safe.
    async fn ended(&mut self) -> Error {
        tokio::select! {
            error = self.parts.ended() => error,
            error = self.substrates.ended() => error,
        }
    }

    async fn stop(self, settings: &Settings) -> Result<(), Error> {
        self.parts.stop(settings.shutdown_timeout).await;
        self.substrates.close(settings.shutdown_timeout).await?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// The one that was given, or that of the data directory. A process that has neither signs nothing that another one checks.
fn secret(settings: &Settings, data_dir: Option<&DataDir>) -> Result<Secret, Error> {
    match (&settings.secret, data_dir) {
        (Some(given), _) => Ok(given.clone()),
        (None, Some(data_dir)) => Ok(data_dir.secret()?),
        (None, None) => Ok(Secret::new(data_dir::new_secret())),
    }
}

/// Whoever waits for the file may come at once, so everything must be up before.
fn announce(settings: &Settings, announcement: &Announcement<'_>) -> Result<(), Error> {
    if let Some(path) = &settings.ready_file {
        announcement.write_file(path).map_err(|source| Error::ReadyFile { path: path.clone(), source })?;
    }
    if let Err(error) = write!(io::stdout(), "{}", announcement.banner()) {
        tracing::info!(%error, "nobody reads the banner");
    }
    let Announcement { query, ingest, data_dir, .. } = announcement;
    tracing::info!(
        query = query.map(tracing::field::display),
        ingest = ingest.map(tracing::field::display),
        data_dir = data_dir.map(|path| tracing::field::display(path.display())),
        "ready"
    );
    Ok(())
}
