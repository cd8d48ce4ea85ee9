//! The services of a process: created, monitored, and shut down in order here. Within one
//! process the edge calls services directly through the generated servers, without a socket in
//! between.

use std::{sync::Arc, thread::available_parallelism, time::Duration};

use futures::{FutureExt as _, future::join_all};
use matyan_backend::{Backend, Evaluation, UriKey};
use matyan_edge::{Edge, Tls, Transport, Ui};
use matyan_frontier::{Frontier, ProjectNames};
use prometheus::{Registry, process_collector::ProcessCollector};
use tokio::time::timeout;
use tonic::service::Routes;
use tonic_health::server::health_reporter;

use super::{
    Error, clock, health,
    listeners::{Listener, Listeners},
    project_names::{RemoteProjects, StoredProjects},
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
    workers: Workers,
}

impl Services {
    /// Starts everything. Workers come first, so that what the ports accept can be applied.
    pub(crate) async fn start(
        settings: &Settings,
        substrates: &Substrates,
        secret: &Secret,
        listeners: Listeners,
        (tls, ui): (Option<Tls>, Option<Ui>),
    ) -> Result<Self, Error> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let role = settings.role;
        let workers = Workers::start(settings, substrates, &registry).await?;
        let frontier = match role.has_frontier() {
            true => Some(frontier(settings, substrates, &registry).await?),
            false => None,
        };
        let (reporter, health_server) = health_reporter();
        let in_process =
            |routes: Routes| Transport::new(trace_calls(routes.add_service(health_server.clone()).prepare()));
        let to_frontier = frontier.as_ref().map(|frontier| in_process(frontier_routes(frontier)));
        let backend = match role.has_backend() {
            true => Some(backend(settings, substrates, secret, &registry)?),
            false => None,
        };
        let to_backend = backend.clone().map(|backend| in_process(backend.into_routes()));

        let (mut ports, mut edges, mut services) = (Tasks::default(), Vec::new(), Vec::new());
        services.extend(to_frontier.iter().chain(&to_backend).cloned());
        if let Some(tls) = tls.clone() {
            ports.spawn("the certificate watcher", |stop| async move {
                tls.watch_files(stop).await;
                Ok(())
            });
        }
        let mut edge = settings.edge.clone();
        open_files::limit_connections(&mut edge);
        let metrics = matyan_edge::Metrics::register(&registry)?;
        if let (Some(listener), Some(frontier)) = (listeners.ingest, &to_frontier) {
            let edge =
                matyan_edge::ingest(edge.clone(), metrics.clone(), frontier.clone(), to_backend.clone());
            edges.push(edge.clone());
            start_port(&mut ports, "the ingest side", listener, tls.clone(), edge);
        }
        if let (Some(listener), Some(backend)) = (listeners.query, to_backend) {
            let edge = matyan_edge::query(edge.clone(), metrics.clone(), backend, to_frontier);
            let edge = match ui {
                Some(ui) => edge.with_ui(ui),
                None => edge,
            };
            edges.push(edge.clone());
            start_port(&mut ports, "the query side", listener, tls.clone(), edge);
        }
        if let (Some(listener), Some(server)) = (listeners.metrics, workers.system_server(role, substrates)) {
            let worker = in_process(Routes::new(server));
            services.push(worker.clone());
            let edge = matyan_edge::worker(edge, metrics, worker);
            edges.push(edge.clone());
            start_port(&mut ports, "the metrics port", listener, tls.clone(), edge);
        }
        // Health must be accurate before the ports are announced.
        let status = health::status(&services).await;
        reporter.set_service_status("", status).await;
        let mut health = Tasks::default();
        health.spawn("the health reporter", |stop| async move {
            health::report(reporter, services, status, stop).await;
            Ok(())
        });
        Ok(Self { frontier, backend, health, edges, ports, workers })
    }

    /// Waits until something essential has ended, and returns the reason. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Error {
        tokio::select! {
            error = self.ports.ended() => error,
            error = self.health.ended() => error,
            error = self.workers.ended() => error,
        }
    }

    /// Stops accepting work, acknowledges what was read, and shuts down from the outside
    /// in. Connections that do not end within `patience` are closed: what they sent was not
    /// acknowledged.
    pub(crate) async fn stop(mut self, patience: Duration) {
        self.health.stop().await;
        let drained = async {
            // Sockets end first, because what they have read still goes to the
            // frontier. Frontier streams come next, which would keep their
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

fn start_port(ports: &mut Tasks, part: &'static str, listener: Listener, tls: Option<Tls>, edge: Edge) {
    ports.spawn(part, |stop| async move {
        matyan_edge::serve(listener.socket, tls, edge, stop).await;
        Ok(())
    });
}

async fn frontier(
    settings: &Settings,
    substrates: &Substrates,
    registry: &Registry,
) -> Result<Frontier, Error> {
    let log_number = workers::log_number(substrates).await?;
    let components = matyan_frontier::Deps {
        log: substrates.log.writer(),
        projects: project_names(settings, substrates)?,
        blobs: Arc::clone(&substrates.blobs),
        multipart: substrates.multipart.clone(),
        local_uploads: substrates.local_uploads.clone(),
        clock: clock::now_us(),
        new_id: clock::new_id(),
        metrics: matyan_frontier::Metrics::new(registry)?,
    };
    let settings = matyan_frontier::Settings { log_number, ..settings.frontier.clone() };
    Ok(Frontier::new(components, settings))
}

/// The projects that exist, if this process can know them.
fn project_names(
    settings: &Settings,
    substrates: &Substrates,
) -> Result<Option<Arc<dyn ProjectNames>>, Error> {
    if let Some(store) = &substrates.store {
        return Ok(Some(Arc::new(StoredProjects(store.shared()))));
    }
    let Some(backend) = &settings.backend.url else { return Ok(None) };
    Ok(Some(Arc::new(RemoteProjects::new(&endpoint(backend)?))))
}

fn frontier_routes(frontier: &Frontier) -> Routes {
    Routes::new(frontier.ingest_server()).add_service(frontier.system_server())
}

fn backend(
    settings: &Settings,
    substrates: &Substrates,
    secret: &Secret,
    registry: &Registry,
) -> Result<Backend, Error> {
    let store =
        substrates.store.as_ref().map(Store::shared).expect("a process with a backend has opened a store");
    let deps = matyan_backend::Deps {
        store,
        log: substrates.log.writer(),
        log_format: settings.storage.message_format,
        blobs: Arc::clone(&substrates.blobs),
        blob_uri: substrates.blob_uri.clone(),
        uri_key: UriKey::new(secret.reveal()),
        clock: clock::now_us(),
        new_id: clock::new_id_text(),
        params_cache_ttl: settings.backend.params_cache_ttl,
        evaluation: available_parallelism()
            .and_then(|cores| Evaluation::start(cores.get()))
            .map_err(Error::SetUp)?,
        metrics: matyan_backend::Metrics::new(registry)?,
    };
    let backend = Backend::new(deps);
    let Some(uploads) = substrates.local_uploads.clone() else { return Ok(backend) };
    let min_free_bytes = settings.frontier.min_free_bytes;
    Ok(backend.with_upload_problem(Arc::new(move || {
        let uploads = uploads.clone();
        async move { uploads.problem(min_free_bytes).await }.boxed()
    })))
}
