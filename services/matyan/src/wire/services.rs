//! The services of a process: created, monitored, and shut down in order here. Within one
//! process the edge calls services directly through the generated servers, without a socket in
//! between, and streams of sockets do not even go through a generated server.

use std::{collections::BTreeMap, sync::Arc, thread::available_parallelism, time::Duration};

use futures::{FutureExt as _, future::join_all};
use matyan_access::{AccessObserver, CallerCache, FilePermits, ProcessKey};
use matyan_backend::{AuditLog, Backend, Evaluation, UriKey};
use matyan_blob::LimitedBlobs;
use matyan_edge::{Edge, FrontierTransport, Tls, Transport, Ui};
use matyan_frontier::{Frontier, ProjectLookup};
use matyan_sign_in::SignInKey;
#[cfg(feature = "tensorboard")]
use matyan_tensorboard::FollowSettings;
use prometheus::{Registry, process_collector::ProcessCollector};
use tokio::{
    runtime::Handle,
    time::{interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::server::health_reporter;

#[cfg(feature = "tensorboard")]
use super::logdir;
use super::{
    Error,
    access_event_log::{AccessEventEntries, AccessEventLines},
    busy_task_threads::BusyTaskThreads,
    clock, health,
    listeners::{Listener, Listeners},
    local_frontier::LocalFrontier,
    project_lookup::RemoteProjects,
    resolver::Resolver,
    stored_projects::StoredProjects,
    substrates::{Store, Substrates},
    tasks::Tasks,
    traced_server::trace_calls,
    workers::{self, Workers},
};
use crate::{
    endpoint::endpoint,
    open_files,
    settings::{Secret, Settings},
};

pub(crate) struct Services {
    frontier: Option<Frontier>,
    backend: Option<Backend>,
    health: Tasks,
    edges: Vec<Edge>,
    ports: Tasks,
    /// Followers of files of this machine.
    followers: Tasks,
    workers: Workers,
}

impl Services {
    /// Starts everything. Workers come first, so that they can apply the data that the ports accept.
    pub(crate) async fn start(
        settings: &Settings,
        substrates: &Substrates,
        secret: &Secret,
        listeners: Listeners,
        (tls, ui, callers): (Option<Tls>, Option<Ui>, Option<CallerCache>),
        query_runtime: &Handle,
    ) -> Result<Self, Error> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let role = settings.role;
        let workers = Workers::start(settings, substrates, &registry).await?;
        let frontier = frontier(settings, substrates, secret, &registry).await?;
        let (reporter, health_server) = health_reporter();
        let in_process =
            |routes: Routes| Transport::new(trace_calls(routes.add_service(health_server.clone()).prepare()));
        let to_frontier = frontier.as_ref().map(|it| frontier_transport(in_process(frontier_routes(it)), it));
        let evaluation = role.has_backend().then(evaluation).transpose()?;
        let busy_task_threads = evaluation.as_ref().map(BusyTaskThreads::start).transpose()?;
        let backend =
            evaluation.map(|it| backend(settings, substrates, secret, &registry, it)).transpose()?;
        let backend = backend.map(|backend| {
            let stopped = workers.stopped_partitions().clone();
            backend.with_ingestion_problem(Arc::new(move || stopped.problem()))
        });
        let audit = backend.as_ref().map(Backend::audit_log);
        let to_backend = backend.clone().zip(audit.clone()).map(|(backend, audit)| {
            let routes = backend.into_routes().add_service(health_server.clone()).prepare();
            Transport::new(trace_calls(audit.observe(routes)))
        });

        let mut ports = Tasks::default();
        let mut edges = Vec::new();
        let mut services = Vec::new();
        let observer = access_observer(audit, &mut ports);
        services.extend(to_frontier.iter().map(FrontierTransport::calls).chain(&to_backend).cloned());
        if role.has_frontier() || role.has_backend() {
            let blobs = substrates.limited_blobs.clone();
            ports.spawn("the sweeper of uploads", |stop| async move {
                sweep_uploads(&blobs, stop).await;
                Ok(())
            });
        }
        if let Some(tls) = tls.clone() {
            ports.spawn("the certificate watcher", |stop| async move {
                tls.watch_files(stop).await;
                Ok(())
            });
        }
        let mut edge = settings.edge.clone();
        open_files::limit_files(&mut edge);
        let metrics = matyan_edge::Metrics::register(&registry)?;
        let permits = FilePermits::new(secret.reveal(), clock::now_us());
        let with_access = |edge| with_access(edge, callers.as_ref(), &observer, &permits);
        if let (Some(listener), Some(frontier)) = (listeners.ingest, &to_frontier) {
            let edge =
                matyan_edge::ingest(edge.clone(), metrics.clone(), frontier.clone(), to_backend.clone());
            let edge = with_access(edge);
            edges.push(edge.clone());
            start_port(&mut ports, &Handle::current(), "the ingest side", listener, tls.clone(), edge);
        }
        if let (Some(listener), Some(backend)) = (listeners.query, to_backend) {
            let edge = matyan_edge::query(edge.clone(), metrics.clone(), backend, to_frontier);
            let edge = with_access(with_ui(with_busy_tasks(edge, busy_task_threads), ui));
            edges.push(edge.clone());
            start_port(&mut ports, query_runtime, "the query side", listener, tls.clone(), edge);
        }
        if let (Some(listener), Some(server)) = (listeners.metrics, workers.system_server(role, substrates)) {
            let worker = in_process(Routes::new(server));
            services.push(worker.clone());
            let edge = with_access(matyan_edge::worker(edge, metrics, worker));
            edges.push(edge.clone());
            start_port(&mut ports, &Handle::current(), "the metrics port", listener, tls.clone(), edge);
        }
        let followers = start_followers(settings, frontier.as_ref(), backend.as_ref());
        // Health must be accurate before the ports are announced.
        let state = health::health(&services).await;
        state.log_changes_since(&BTreeMap::new());
        reporter.set_service_status("", state.status).await;
        let mut health = Tasks::default();
        health.spawn("the health reporter", |stop| async move {
            health::report(reporter, services, state, stop).await;
            Ok(())
        });
        Ok(Self { frontier, backend, health, edges, ports, followers, workers })
    }

    /// Waits until something essential has ended, and returns the reason. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Error {
        tokio::select! {
            error = self.ports.ended() => error,
            error = self.followers.ended() => error,
            error = self.health.ended() => error,
            error = self.workers.ended() => error,
        }
    }

    /// Stops accepting work, acknowledges the data that was read, and shuts down from the outside
    /// in. Connections that do not end within `patience` are closed: their remaining data was not
    /// acknowledged.
    pub(crate) async fn stop(mut self, patience: Duration) {
        self.health.stop().await;
        let drained = async {
            self.followers.stop().await;
            // Sockets end first, because the data that they have read still goes to the
            // frontier. Frontier streams come next, because they would keep their
            // connections open. After that the ports wait only for short calls.
            join_all(self.edges.iter().map(Edge::drain)).await;
            if let Some(frontier) = &self.frontier {
                frontier.drain().await;
            }
            if let Some(backend) = &self.backend {
                // Watches would also keep connections open.
                backend.close();
            }
            self.ports.stop().await;
        };
        if timeout(patience, drained).await.is_err() {
            tracing::warn!(?patience, "timed out waiting for connections to end; closing them");
        }
        if let Some(backend) = &self.backend {
            backend.stop().await;
        }
        self.workers.stop().await;
    }
}

/// The observer of sign-ins and denied calls. With an audit log, a task of the ports writes them there.
fn access_observer(audit: Option<AuditLog>, ports: &mut Tasks) -> Arc<dyn AccessObserver> {
    let Some(audit) = audit else { return Arc::new(AccessEventLines) };
    let (entries, writer) = AccessEventEntries::new(audit);
    ports.spawn("the log of access events", |stop| async move {
        writer.run(stop).await;
        Ok(())
    });
    entries
}

/// Continues busy tasks of a port on these threads.
fn with_busy_tasks(edge: Edge, threads: Option<BusyTaskThreads>) -> Edge {
    match threads {
        Some(threads) => edge.with_busy_tasks_on(Arc::new(threads)),
        None => edge,
    }
}

fn with_ui(edge: Edge, ui: Option<Ui>) -> Edge {
    match ui {
        Some(ui) => edge.with_ui(ui),
        None => edge,
    }
}

/// Asks the callers of a port who they are, if access control is on.
fn with_access(
    edge: Edge,
    callers: Option<&CallerCache>,
    observer: &Arc<dyn AccessObserver>,
    permits: &FilePermits,
) -> Edge {
    match callers {
        Some(callers) => edge
            .with_access(callers.clone())
            .with_access_observer(Arc::clone(observer))
            .with_file_permits(permits.clone()),
        None => edge,
    }
}

/// Serves a port, with all calls of its connections, on this runtime.
fn start_port(
    ports: &mut Tasks,
    runtime: &Handle,
    part: &'static str,
    listener: Listener,
    tls: Option<Tls>,
    edge: Edge,
) {
    ports.spawn_on(runtime, part, |stop| async move {
        matyan_edge::serve(listener.socket, tls, edge, stop).await;
        Ok(())
    });
}

/// Starts following the directory of event files, if there is one.
#[cfg(feature = "tensorboard")]
fn start_followers(settings: &Settings, frontier: Option<&Frontier>, backend: Option<&Backend>) -> Tasks {
    let mut followers = Tasks::default();
    if let (Some(root), Some(frontier), Some(backend)) = (&settings.logdir, frontier, backend) {
        let channels = logdir::channels(
            frontier_routes(frontier),
            backend.clone().into_routes(),
            &settings.logdir_project,
        );
        let settings = FollowSettings::new(root.clone(), None);
        followers.spawn("the follower of event files", |stop| async move {
            logdir::follow(channels, settings, stop).await;
            Ok(())
        });
    }
    followers
}

#[cfg(not(feature = "tensorboard"))]
fn start_followers(_: &Settings, _: Option<&Frontier>, _: Option<&Backend>) -> Tasks {
    Tasks::default()
}

/// Time between two sweeps of uploads in parts.
const UPLOAD_SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// Removes uploads in parts that were abandoned, from the start on.
async fn sweep_uploads(blobs: &LimitedBlobs, stop: CancellationToken) {
    let mut ticks = interval(UPLOAD_SWEEP_INTERVAL);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = blobs.sweep().await {
            tracing::warn!(%error, "failed to sweep uploads in parts; will retry");
        }
    }
}

/// The frontier of this process, if it accepts data.
async fn frontier(
    settings: &Settings,
    substrates: &Substrates,
    secret: &Secret,
    registry: &Registry,
) -> Result<Option<Frontier>, Error> {
    if !settings.accepts_data() {
        return Ok(None);
    }
    let log_number = workers::log_number(substrates).await?;
    let components = matyan_frontier::Deps {
        log: substrates.log.writer(),
        projects: project_lookup(settings, substrates, secret)?,
        blobs: substrates.limited_blobs.clone(),
        upload_signer: substrates.upload_signer.clone(),
        clock: clock::now_us(),
        new_id: clock::new_id(),
        metrics: matyan_frontier::Metrics::new(registry)?,
    };
    let settings = matyan_frontier::Settings { log_number, ..settings.frontier.clone() };
    Ok(Some(Frontier::new(components, settings)))
}

/// The projects that exist, if this process can know them.
fn project_lookup(
    settings: &Settings,
    substrates: &Substrates,
    secret: &Secret,
) -> Result<Option<Arc<dyn ProjectLookup>>, Error> {
    if let Some(store) = &substrates.store {
        let quotas = Arc::clone(&settings.project_quotas);
        return Ok(Some(Arc::new(StoredProjects::new(store.shared(), quotas))));
    }
    let Some(backend) = &settings.backend.url else { return Ok(None) };
    let projects = match Resolver::of_process(settings, secret)? {
        Some(resolver) => RemoteProjects::closed(resolver),
        None => RemoteProjects::open(&endpoint(backend)?),
    };
    Ok(Some(Arc::new(projects)))
}

fn frontier_transport(calls: Transport, frontier: &Frontier) -> FrontierTransport {
    FrontierTransport::new(calls, Arc::new(LocalFrontier(frontier.clone())))
}

fn frontier_routes(frontier: &Frontier) -> Routes {
    Routes::new(frontier.ingest_server()).add_service(frontier.system_server())
}

/// The threads of queries, one for each core.
fn evaluation() -> Result<Evaluation, Error> {
    available_parallelism().and_then(|cores| Evaluation::start(cores.get())).map_err(Error::SetUp)
}

fn backend(
    settings: &Settings,
    substrates: &Substrates,
    secret: &Secret,
    registry: &Registry,
    evaluation: Evaluation,
) -> Result<Backend, Error> {
    let store =
        substrates.store.as_ref().map(Store::shared).expect("a process with a backend has opened a store");
    let deps = matyan_backend::Deps {
        store,
        log: substrates.log.writer(),
        log_format: settings.storage.message_format,
        blobs: substrates.limited_blobs.clone(),
        blob_uri: substrates.blob_uri.clone(),
        uri_key: UriKey::new(secret.reveal()),
        process_key: ProcessKey::new(secret.reveal()),
        sign_in_key: SignInKey::new(secret.reveal()),
        clock: clock::now_us(),
        new_id: clock::new_id_text(),
        new_token: clock::new_token(),
        new_secret: clock::new_secret(),
        providers: Arc::new(settings.access.providers.open()?),
        params_cache_ttl: settings.backend.params_cache_ttl,
        quotas: Arc::clone(&settings.project_quotas),
        run_samples: matyan_backend::RunSamples::default(),
        live_readers: matyan_backend::LiveReaders::default(),
        evaluation,
        metrics: matyan_backend::Metrics::new(registry)?,
    };
    let uploads = substrates.limited_blobs.clone();
    let backend = Backend::with_table_bytes(deps, settings.backend.run_table_bytes);
    Ok(backend.with_upload_problem(Arc::new(move || {
        let uploads = uploads.clone();
        async move { uploads.problem().await }.boxed()
    })))
}
