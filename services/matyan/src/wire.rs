//! The only composition root: opens backends, wires up the services of a process, and shuts
//! them down in order. Read it top to bottom: `run` shows everything that happens.

mod access;
mod access_event_log;
mod access_file;
mod announcement;
mod backend_access;
mod busy_task_threads;
pub(crate) mod clock;
mod data_dir;
mod health;
mod listeners;
mod local_frontier;
#[cfg(feature = "tensorboard")]
mod logdir;
mod project_lookup;
mod resolver;
mod services;
mod signals;
mod stored_projects;
mod substrates;
mod tasks;
mod traced_server;
mod workers;

use std::{
    io,
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use matyan_backend::interruptible;
use matyan_edge::{Tls, TlsError, Ui, UiError};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::{
    embedded_ui::EMBEDDED_UI,
    endpoint::EndpointError,
    open_files,
    settings::{RecoverySettings, Secret, Settings, Store as StoreSetting},
    telemetry::{self, Telemetry},
};
use access::{Access, CallerOrigin, Recovery};
use announcement::{Announcement, SignInText};
use backend_access::BackendAccess;
use data_dir::DataDir;
use listeners::Listeners;
use resolver::Resolver;
use services::Services;
use signals::Signals;
use substrates::{Network, Store, Substrates};

/// Threads of a runtime for work that waits for the disk, such as store reads and blobs. Far more than disks
/// can handle in parallel, and few enough to be harmless.
const BLOCKING_THREADS: usize = 64;

/// Time at shutdown for a pending read of a network store to notice that it is no longer
/// needed.
const READER_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Minimum number of runtime threads. With a single thread, a short CPU-bound task would delay every
/// connection.
const MIN_WORKER_THREADS: usize = 2;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to set up the process")]
    SetUp(#[source] io::Error),
    #[error("cannot listen on {address}; choose another port with {flag}, or stop the process that uses it")]
    Bind { address: SocketAddr, flag: &'static str, source: io::Error },
    #[error(transparent)]
    Telemetry(#[from] telemetry::Error),
    #[error(transparent)]
    DataDir(#[from] data_dir::Error),
    #[error(transparent)]
    Access(#[from] access::Error),
    #[error(
        "the backend at {url} asks its callers for a token, but this frontier would take data from everyone: start it with \
         --access on and the BLOB_URI_SECRET of the backends, or start the backends with --access off"
    )]
    ClosedBackend { url: String },
    #[error(transparent)]
    Providers(#[from] matyan_sign_in::SetUpError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Ui(#[from] UiError),
    #[error(transparent)]
    Store(#[from] matyan_store::Error),
    #[error(transparent)]
    Log(#[from] matyan_log::Error),
    #[cfg(feature = "kafka")]
    #[error(
        "the consumer group `{group}` of Matyan 0.3 has {members} members, which can only read JSON: set \
         KAFKA_MESSAGE_FORMAT=json, or stop them first"
    )]
    OldReaders { group: &'static str, members: usize },
    #[error(transparent)]
    Blobs(#[from] matyan_blob::Error),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("failed to print the token, which is valid: run the command again")]
    Print(#[source] io::Error),
    #[error("the data directory {} is in use by {holder}: stop the server first, then run this command again", path.display())]
    ServerRuns { path: PathBuf, holder: String },
    #[error("there is no store in {}: give the data directory of the server with --data-dir", path.display())]
    NoStore { path: PathBuf },
    #[error("failed to register metrics")]
    Metrics(#[from] prometheus::Error),
    #[error("failed to write the file {}", path.display())]
    ReadyFile { path: PathBuf, source: io::Error },
    #[error(
        "another process has migrated the store, so this process ends: start a version that reads its format"
    )]
    FormatRaised(#[source] matyan_store::Error),
    #[error("{service} failed")]
    Service { service: &'static str, source: matyan_worker::Error },
    #[error("{service} ended unexpectedly")]
    ServiceEnded { service: &'static str },
    #[error("a task panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

/// Runs the services that the settings specify, until a signal stops them.
pub(crate) fn run(settings: &Settings) -> Result<(), Error> {
    // Declared first, so that it is dropped last.
    let network = Network::start(settings.store())?;
    let runtime = runtime().map_err(Error::SetUp)?;
    let telemetry = {
        let _entered = runtime.enter();
        Telemetry::start(&settings.telemetry)?
    };
    // Started after telemetry, because its threads may log a warning.
    let query_runtime = settings.role.has_backend().then(query_runtime).transpose().map_err(Error::SetUp)?;
    open_files::raise_limit();
    if !settings.ignored_variables.is_empty() {
        let variables = settings.ignored_variables.join(", ");
        tracing::warn!(variables, "ignoring settings of Matyan 0.3 that are no longer used");
    }
    let for_queries = query_runtime.as_ref().map_or(runtime.handle(), Runtime::handle);
    let ended = runtime.block_on(serve(settings, &network, for_queries));
    telemetry.stop();
    // Everything that matters has been awaited. A remaining read of the embedded store waits
    // only for its disk, but a read of a network store must end before the network is
    // stopped.
    let deadline = Instant::now() + READER_SHUTDOWN_TIMEOUT;
    for runtime in query_runtime.into_iter().chain([runtime]) {
        if network.is_used() {
            runtime.shutdown_timeout(deadline.saturating_duration_since(Instant::now()));
        } else {
            runtime.shutdown_background();
        }
    }
    ended
}

/// Gives the operator of a store a new token, and prints the token.
pub(crate) fn recover_access(settings: &RecoverySettings) -> Result<(), Error> {
    let network = Network::start(Some(&settings.store))?;
    let runtime = runtime().map_err(Error::SetUp)?;
    let telemetry = {
        let _entered = runtime.enter();
        Telemetry::start(&settings.telemetry)?
    };
    let recovered = runtime.block_on(recover_token(settings, &network));
    telemetry.stop();
    let Recovery { token, file } = recovered?;
    writeln!(io::stdout(), "{}", token.reveal()).map_err(Error::Print)?;
    if let Some(file) = file {
        eprintln!(
            "The token is also in {}. Start the server, and set MATYAN_TOKEN to the token.",
            file.display()
        );
    }
    Ok(())
}

async fn recover_token(settings: &RecoverySettings, network: &Network) -> Result<Recovery, Error> {
    let data_dir = match settings.data_dir.as_deref() {
        // Opening would create an empty store.
        Some(path) if !path.join("store").is_dir() => return Err(Error::NoStore { path: path.to_owned() }),
        Some(path) => Some(DataDir::open(path).map_err(running_server)?),
        None => None,
    };
    let path = data_dir.as_ref().map(DataDir::path);
    let data_path = |folder: &str| path.expect("an embedded store has a data directory").join(folder);
    let store = Store::open(&settings.store, network, data_path).await?;
    let recovered = access::recover(&*store.shared(), path).await;
    store.close().await?;
    Ok(recovered?)
}

/// The error of a command that only works while no server runs.
fn running_server(error: data_dir::Error) -> Error {
    match error {
        data_dir::Error::InUse { path, holder } => Error::ServerRuns { path, holder },
        other => other.into(),
    }
}

fn runtime() -> io::Result<Runtime> {
    runtime_builder()?.build()
}

/// The runtime of the query port. Its calls may write hundreds of megabytes, and acknowledgements on the ingest port
/// would wait for them on shared threads.
fn query_runtime() -> io::Result<Runtime> {
    runtime_builder()?.thread_name("query-port").on_thread_start(interruptible).build()
}

fn runtime_builder() -> io::Result<Builder> {
    let workers = thread::available_parallelism()?.get().max(MIN_WORKER_THREADS);
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(workers).max_blocking_threads(BLOCKING_THREADS).thread_name("matyan").enable_all();
    Ok(builder)
}

async fn serve(settings: &Settings, network: &Network, query_runtime: &Handle) -> Result<(), Error> {
    // Installed first, so that a signal during startup is handled as well.
    let mut signals = Signals::install().map_err(Error::SetUp)?;
    let mut process = tokio::select! {
        started = Process::start(settings, network, query_runtime) => started?,
        // Nothing has been accepted yet, so there is nothing to shut down in order.
        (signal, _) = signals.next() => {
            tracing::info!(signal, "stopped during startup");
            return Ok(());
        }
    };
    let ended = tokio::select! {
        (signal, _) = signals.next() => {
            tracing::info!(signal, "received signal; shutting down");
            Ok(())
        }
        error = process.ended(settings) => Err(error),
    };
    // A second signal cuts the shutdown short.
    tokio::select! {
        stopped = process.stop(settings) => ended.and(stopped),
        never = signals.exit_on_next() => never,
    }
}

/// A running process. Fields are dropped in this order: the data directory is unlocked last.
struct Process {
    services: Services,
    substrates: Substrates,
    backend_access: BackendAccess,
    _data_dir: Option<DataDir>,
}

impl Process {
    async fn start(settings: &Settings, network: &Network, query_runtime: &Handle) -> Result<Self, Error> {
        let mut backend_access = BackendAccess::of_process(settings)?;
        if backend_access.wants_token().await {
            return Err(closed_backend(settings));
        }
        let ui = settings.backend.ui.as_ref();
        let ui = ui.map(|ui| Ui::open(ui, &EMBEDDED_UI, &settings.edge.cors_origins)).transpose()?;
        let tls =
            settings.listen.tls.clone().map(|(certificate, key)| Tls::open(certificate, key)).transpose()?;
        let data_dir = settings.storage.data_dir.as_deref().map(DataDir::open).transpose()?;
        let listeners = Listeners::bind(settings).await?;
        let secret = secret(settings, data_dir.as_ref())?;
        let path = data_dir.as_ref().map(DataDir::path);
        let substrates = Substrates::open(settings, network, path, &secret).await?;
        let store = substrates.store.as_ref().map(Store::shared);
        let origin = match &store {
            Some(store) => CallerOrigin::Store(store),
            None => CallerOrigin::Backend(Resolver::of_process(settings, &secret)?),
        };
        let access = access::open(&settings.access, settings.role, origin, path).await?;
        let (callers, first_operator) = match access {
            Some(Access { callers, first_operator }) => (Some(callers), first_operator),
            None => (None, None),
        };
        let ignores_roles = match &store {
            Some(store) => access::ignores_roles(&settings.access, settings.role, store.as_ref()).await?,
            None => false,
        };
        let new_token_file = first_operator.as_ref().map(|operator| operator.token_file.clone());
        let known_token_file = || path.filter(|_| callers.is_some()).and_then(access::token_file);
        let token_file = new_token_file.or_else(known_token_file);
        let query = listeners.query_address();
        let providers = settings.access.providers.titles();
        let callback = query
            .filter(|_| !providers.is_empty())
            .map(|query| announcement::callback(settings, query, tls.is_some()));
        let announcement = Announcement {
            query,
            ingest: listeners.ingest_address(),
            metrics: listeners.metrics_address(),
            data_dir: path,
            has_tls: tls.is_some(),
            has_ui: ui.is_some(),
            is_open: settings.edge.is_on_network && callers.is_none(),
            ignores_roles,
            has_access: callers.is_some(),
            sign_in: callback.as_deref().map(|callback| SignInText { providers: &providers, callback }),
            token_file: token_file.as_deref(),
            recovery_dir: path.filter(|_| callers.is_some() && has_own_operator_token(settings)),
            link: first_operator.as_ref().map(|operator| operator.link.reveal()),
        };
        let services =
            Services::start(settings, &substrates, &secret, listeners, (tls, ui, callers), query_runtime)
                .await?;
        announce(settings, &announcement)?;
        Ok(Self { services, substrates, backend_access, _data_dir: data_dir })
    }

    /// Waits until the process cannot continue because an essential task or thread has
    /// ended, and returns the reason. Cancel-safe.
    async fn ended(&mut self, settings: &Settings) -> Error {
        tokio::select! {
            error = self.services.ended() => error,
            error = self.substrates.ended() => error,
            () = self.backend_access.found_closed() => closed_backend(settings),
        }
    }

    async fn stop(self, settings: &Settings) -> Result<(), Error> {
        self.services.stop(settings.shutdown_timeout).await;
        self.substrates.close(settings.shutdown_timeout).await?;
        tracing::info!("shut down cleanly");
        Ok(())
    }
}

/// Whether the first operator's token is kept in the data directory, so that it can be recovered there.
fn has_own_operator_token(settings: &Settings) -> bool {
    settings.role.has_backend()
        && settings.access.operator_token_file.is_none()
        && matches!(settings.storage.store, StoreSetting::Embedded)
}

fn closed_backend(settings: &Settings) -> Error {
    Error::ClosedBackend { url: settings.backend.url.clone().unwrap_or_default() }
}

/// The configured secret, or the secret in the data directory. A process without either signs
/// nothing that another process verifies.
fn secret(settings: &Settings, data_dir: Option<&DataDir>) -> Result<Secret, Error> {
    match (&settings.storage.secret, data_dir) {
        (Some(given), _) => Ok(given.clone()),
        (None, Some(data_dir)) => Ok(data_dir.secret()?),
        (None, None) => Ok(Secret::new(data_dir::new_secret())),
    }
}

/// Writes the ready file and the banner. A program that waits for the file may connect right
/// away, so everything must already be running.
fn announce(settings: &Settings, announcement: &Announcement<'_>) -> Result<(), Error> {
    if let Some(path) = &settings.ready_file {
        announcement.write_file(path).map_err(|source| Error::ReadyFile { path: path.clone(), source })?;
    }
    if let Err(error) = write!(io::stdout(), "{}", announcement.banner()) {
        tracing::info!(%error, "failed to write the startup banner");
    }
    let Announcement { query, ingest, data_dir, is_open, ignores_roles, .. } = announcement;
    if *ignores_roles {
        tracing::warn!(
            "access control is off: the roles in the store are not enforced, and everyone who can connect may do everything"
        );
    }
    if *is_open {
        let host = settings.listen.host;
        tracing::warn!(
            %host,
            "listening for other machines without access control: everyone who can connect may read, write and delete everything"
        );
    }
    tracing::info!(
        query = query.map(tracing::field::display),
        ingest = ingest.map(tracing::field::display),
        data_dir = data_dir.map(|path| tracing::field::display(path.display())),
        "ready"
    );
    Ok(())
}
