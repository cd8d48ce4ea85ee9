//! The parts of a process and their tasks: each is started here, watched here, and awaited here.
//! In one process the edge reaches services through the generated servers themselves, without a socket in between.

use std::{sync::Arc, time::Duration};

use matyan_backend::{Backend, UriKey};
use matyan_edge::{Edge, Transport};
use matyan_frontier::Frontier;
use prometheus::{Registry, process_collector::ProcessCollector};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::{
    Error, clock,
    listeners::{Listener, Listeners},
    substrates::Substrates,
};
use crate::settings::{MessageFormat, Secret, Settings};

pub(crate) struct Parts {
    frontier: Option<Frontier>,
    /// Cancelled to make the ports close.
    stop_ports: CancellationToken,
    /// Each ends with the name of its part.
    ports: JoinSet<&'static str>,
}

impl Parts {
    pub(crate) fn start(
        settings: &Settings,
        substrates: &Substrates,
        secret: &Secret,
        listeners: Listeners,
    ) -> Result<Self, Error> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let role = settings.role;
        let frontier = role.has_frontier().then(|| frontier(settings, substrates, &registry)).transpose()?;
        let to_frontier = frontier.as_ref().map(frontier_transport);
        let to_backend = role.has_backend().then(|| backend_transport(substrates, secret));

        let mut parts = Self { frontier, stop_ports: CancellationToken::new(), ports: JoinSet::new() };
        let edge = edge_settings(settings);
        let metrics = matyan_edge::Metrics::register(&registry)?;
        if let (Some(listener), Some(frontier)) = (listeners.ingest, &to_frontier) {
            let edge =
                matyan_edge::ingest(edge.clone(), metrics.clone(), frontier.clone(), to_backend.clone());
            parts.port_start("the ingest side", listener, edge);
        }
        if let (Some(listener), Some(backend)) = (listeners.query, to_backend) {
            parts.port_start(
                "the query side",
                listener,
                matyan_edge::query(edge, metrics, backend, to_frontier),
            );
        }
        Ok(parts)
    }

    fn port_start(&mut self, part: &'static str, listener: Listener, edge: Edge) {
        let stop = self.stop_ports.clone();
        self.ports.spawn(async move {
            matyan_edge::serve(listener.socket, edge, stop).await;
            part
        });
    }

    /// The part that ended although nobody asked it to. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> &'static str {
        match self.ports.join_next().await {
            Some(Ok(part)) => part,
            Some(Err(_)) => "a part",
            None => std::future::pending().await,
        }
    }

    /// Takes nothing new, acknowledges what was read, and lets the parts end from the outside in. What does not end within
    /// `patience` is cut off: it was not acknowledged.
    pub(crate) async fn stop(mut self, patience: Duration) {
        self.stop_ports.cancel();
        let drained = async {
            while self.ports.join_next().await.is_some() {}
            if let Some(frontier) = &self.frontier {
                frontier.drain().await;
            }
        };
        if timeout(patience, drained).await.is_err() {
            tracing::warn!(?patience, "connections did not end in time and are cut off");
        }
        self.ports.shutdown().await;
    }
}

fn frontier(settings: &Settings, substrates: &Substrates, registry: &Registry) -> Result<Frontier, Error> {
    let format = match settings.message_format {
        MessageFormat::Protobuf => matyan_frontier::Format::Protobuf,
        MessageFormat::Json => matyan_frontier::Format::Json,
    };
    let components = matyan_frontier::Components {
        log: substrates.log.clone(),
        blobs: Arc::clone(&substrates.blobs),
        uploads: Some(substrates.signer.clone()),
        clock: clock::now_us(),
        new_id: clock::new_id(),
        metrics: matyan_frontier::Metrics::new(registry)?,
    };
    Ok(Frontier::new(components, matyan_frontier::Settings { format, ..Default::default() }))
}

fn frontier_transport(frontier: &Frontier) -> Transport {
    Transport::new(Routes::new(frontier.ingest_server()).add_service(frontier.system_server()).prepare())
}

fn backend_transport(substrates: &Substrates, secret: &Secret) -> Transport {
    let store = substrates.store.clone().expect("a process with a backend opens the store");
    let context = matyan_backend::Context {
        store,
        log: substrates.log.clone(),
        blobs: Arc::clone(&substrates.blobs),
        blob_uri: substrates.blob_uri.clone(),
        uri_key: UriKey::new(secret.reveal()),
        clock: clock::now_us(),
        new_id: clock::new_id_text(),
    };
    Transport::new(Backend::new(context).into_routes().prepare())
}

fn edge_settings(settings: &Settings) -> matyan_edge::Settings {
    matyan_edge::Settings {
        cors_origins: settings.cors_origins.clone(),
        metrics_enabled: settings.metrics_enabled,
        ..Default::default()
    }
}
