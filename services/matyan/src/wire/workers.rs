//! The workers of a process: ingestion with its fold thread, and control. They depend on store,
//! log and blobs, but not on the ports.

use std::{sync::Arc, time::Duration};

use matyan_proto::system::v1::system_service_server::SystemServiceServer;
use matyan_worker::{
    ControlWorker, Deps, FoldThread, Heartbeat, IngestionWorker, Metrics, StoppedPartitions, System,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    Error, clock,
    substrates::{Log, Substrates},
    tasks::Tasks,
};
use crate::settings::{Role, Settings};

/// Time limit for stopping workers: longer than a transaction may take, and longer than a
/// healthy worker needs. The store is closed afterwards.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

#[derive(Default)]
pub(crate) struct Workers {
    tasks: Tasks,
    fold: Option<(FoldThread, CancellationToken)>,
    heartbeats: Vec<Heartbeat>,
    stopped: StoppedPartitions,
}

impl Workers {
    pub(crate) async fn start(
        settings: &Settings,
        substrates: &Substrates,
        registry: &prometheus::Registry,
    ) -> Result<Self, Error> {
        let role = settings.role;
        let mut workers = Self::default();
        let Some(deps) = deps(substrates).filter(|_| role.has_ingest_worker() || role.has_control_worker())
        else {
            return Ok(workers);
        };
        let metrics = Metrics::new(registry)?;
        if role.has_ingest_worker() {
            // A separate token, because the fold thread stops after ingestion.
            let stop_fold = CancellationToken::new();
            let fold = FoldThread::start(deps.clone(), metrics.clone(), stop_fold.clone());
            let (notices, thread) = fold.map_err(Error::SetUp)?;
            workers.heartbeats.push(thread.heartbeat());
            workers.fold = Some((thread, stop_fold));
            let ingestion =
                IngestionWorker::new(deps.clone(), settings.ingestion.clone(), notices, metrics.clone());
            let ingestion = ingestion
                .await
                .map_err(|source| Error::Service { service: "the ingestion worker", source })?;
            workers.heartbeats.push(ingestion.heartbeat());
            workers.stopped = ingestion.stopped_partitions();
            workers.tasks.spawn("the ingestion worker", |stop| ingestion.run(stop));
        }
        if role.has_control_worker() {
            let control = ControlWorker::new(deps, settings.control, metrics).await;
            let control =
                control.map_err(|source| Error::Service { service: "the control worker", source })?;
            workers.heartbeats.extend(control.heartbeats());
            workers.tasks.spawn("the control worker", |stop| control.run(stop));
        }
        Ok(workers)
    }

    /// The partitions that wait for an operator.
    pub(crate) fn stopped_partitions(&self) -> &StoppedPartitions {
        &self.stopped
    }

    /// The system service for the port of a process that only runs workers.
    pub(crate) fn system_server(
        &self,
        role: Role,
        substrates: &Substrates,
    ) -> Option<SystemServiceServer<System>> {
        let component = if role.has_ingest_worker() { "ingest-worker" } else { "control-worker" };
        let system = System::new(component, deps(substrates)?, self.heartbeats.clone(), self.stopped.clone());
        Some(SystemServiceServer::new(system))
    }

    /// Waits until a worker or the fold thread ends unexpectedly. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Error {
        let folding = async {
            match &self.fold {
                Some((thread, _)) => thread.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            error = self.tasks.ended() => error,
            () = folding => Error::ServiceEnded { service: "the fold thread" },
        }
    }

    /// Stops the workers, each after its current transaction. The fold thread stops last,
    /// because ingestion sends it work. A worker that does not stop in time is aborted: its
    /// current work has not been acknowledged, and will be repeated.
    pub(crate) async fn stop(&mut self) {
        if timeout(STOP_TIMEOUT, self.tasks.stop()).await.is_err() {
            tracing::warn!(?STOP_TIMEOUT, "timed out stopping workers; aborting them");
            self.tasks.abort().await;
        }
        if let Some((thread, stop)) = self.fold.take() {
            stop.cancel();
            if timeout(STOP_TIMEOUT, thread.finish()).await.is_err() {
                tracing::warn!(?STOP_TIMEOUT, "timed out stopping the fold thread; abandoning it");
            }
        }
    }
}

/// The number by which acknowledged positions identify the log. The store assigned it. None
/// in a process without a store, which cannot know it, and for Kafka, because a topic may be
/// recreated while the process runs.
pub(crate) async fn log_number(substrates: &Substrates) -> Result<Option<u32>, Error> {
    let (Some(store), Log::Embedded(log)) = (&substrates.store, &substrates.log) else { return Ok(None) };
    let number = matyan_worker::log_number(&*store.shared(), &**log).await;
    number.map(Some).map_err(|source| Error::Service { service: "the ingestion log", source })
}

fn deps(substrates: &Substrates) -> Option<Deps> {
    Some(Deps {
        store: substrates.store.as_ref()?.shared(),
        log_reader: substrates.log.reader(),
        log_writer: substrates.log.writer(),
        blobs: Arc::clone(&substrates.blobs),
        clock: clock::now_us(),
        random: clock::new_id(),
    })
}
