//! Responses of `/health/ready/` while a backend of the process is unavailable.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::body::{Body, to_bytes};
use http::Request;
use matyan_backend::{Backend, UriKey};
use matyan_blob::{
    UrlSigner,
    fs::FsBlobs,
    layers::{BlobFault, FaultBlobs},
};
use matyan_edge::{Edge, Metrics};
use matyan_log::{
    embedded::EmbeddedLog,
    layers::{Faults as LogFaults, FaultyReader, FaultyWriter},
};
use matyan_proto::system::v1::system_service_server::SystemServiceServer;
use matyan_store::{
    embedded::EmbeddedStore,
    layers::{FaultStore, Faults as StoreFaults},
};
use matyan_worker::{Deps, System};
use prometheus::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::service::Routes;

use super::*;
use crate::wire::clock;

/// A backend and two workers, with fault layers over what they share.
struct World {
    edges: [Edge; 3],
    store: Arc<FaultStore>,
    log: Arc<LogFaults>,
    blobs_are_away: Arc<AtomicBool>,
    _directory: TempDir,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = |name| directory.path().join(name);
        let store = Arc::new(EmbeddedStore::open(place("store"), Default::default()).await.unwrap());
        let store = Arc::new(FaultStore::new(store, StoreFaults::script([])));
        let inner = Arc::new(EmbeddedLog::open(place("log"), Default::default()).await.unwrap());
        let log = Arc::new(LogFaults::scripted(Duration::from_secs(1)));
        let signer = UrlSigner::new(b"secret", Duration::from_secs(60), clock::now_us());
        let blobs = Arc::new(FsBlobs::open(&place("blobs"), signer, clock::now_us()).unwrap());
        let blobs_are_away = Arc::new(AtomicBool::default());
        let plan = {
            let away = blobs_are_away.clone();
            move |_| if away.load(Ordering::Relaxed) { BlobFault::Refuse } else { BlobFault::None }
        };
        let deps = Deps {
            store: store.clone(),
            log_reader: Arc::new(FaultyReader::new(inner.clone(), log.clone())),
            log_writer: Arc::new(FaultyWriter::new(inner, log.clone())),
            blobs: Arc::new(FaultBlobs::new(blobs, plan)),
            clock: clock::now_us(),
            random: clock::new_id(),
        };
        let backend = Backend::new(matyan_backend::Deps {
            store: store.clone(),
            log: deps.log_writer.clone(),
            log_format: matyan_log::RecordFormat::Protobuf,
            blobs: deps.blobs.clone(),
            blob_uri: "blobs:/".to_owned(),
            uri_key: UriKey::new(b"secret"),
            clock: clock::now_us(),
            new_id: clock::new_id_text(),
            params_cache_ttl: Duration::ZERO,
            metrics: matyan_backend::Metrics::new(&Registry::new()).unwrap(),
        });
        let metrics = || Metrics::register(&Registry::new()).unwrap();
        let worker = |component| {
            let system = SystemServiceServer::new(System::new(component, deps.clone(), Vec::new()));
            matyan_edge::worker(Default::default(), metrics(), Transport::new(Routes::new(system).prepare()))
        };
        let backend = Transport::new(backend.into_routes().prepare());
        let query = matyan_edge::query(Default::default(), metrics(), backend, None);
        let edges = [query, worker("ingest-worker"), worker("control-worker")];
        Self { edges, store, log, blobs_are_away, _directory: directory }
    }

    /// The response of each port: its status and its checks.
    async fn ready(&self) -> [(u16, Value); 3] {
        let ask = async |edge: &Edge| {
            let request = Request::get("/health/ready/").body(Body::empty()).unwrap();
            let answer = Box::pin(edge.answer(request)).await;
            let status = answer.status().as_u16();
            let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            (status, serde_json::from_slice::<Value>(&body).unwrap()["checks"].clone())
        };
        let [query, ingest, control] = &self.edges;
        tokio::join!(ask(query), ask(ingest), ask(control)).into()
    }
}

fn query(fdb: &str, log: bool) -> Value {
    json!({"fdb": fdb, "kafka": {"control_producer": log, "ingestion_producer": log}})
}

fn worker(fdb: &str, log: &str, blob: &str) -> Value {
    json!({"worker": "ok", "fdb": fdb, "kafka": {"control": log, "ingestion": log}, "blob": blob})
}

#[tokio::test]
async fn only_the_unavailable_backend_is_reported() {
    const LATE: &str = "no answer within 2 s";
    let world = World::new().await;
    let well = [(200, query("ok", true)), (200, worker("ok", "ok", "ok")), (200, worker("ok", "ok", "ok"))];
    assert_eq!(world.ready().await, well);

    world.log.stop();
    let without_log = (503, worker("ok", LATE, "ok"));
    assert_eq!(world.ready().await, [(503, query("ok", false)), without_log.clone(), without_log]);
    world.log.resume();

    world.store.set_faults(StoreFaults::errors(1, 1.0));
    let [backend, ingest, control] = world.ready().await;
    let reason = backend.1["fdb"].as_str().unwrap().to_owned();
    assert!(reason != "ok", "{reason}");
    let without_store = (503, worker(&reason, "ok", "ok"));
    assert_eq!(
        [backend, ingest, control],
        [(503, query(&reason, true)), without_store.clone(), without_store]
    );
    world.store.set_faults(StoreFaults::script([]));

    world.blobs_are_away.store(true, Ordering::Relaxed);
    let [backend, ingest, control] = world.ready().await;
    let reason = ingest.1["blob"].as_str().unwrap().to_owned();
    assert!(reason != "ok", "{reason}");
    let without_blobs = (503, worker("ok", "ok", &reason));
    // The query side stays ready without blobs: runs can be viewed without them.
    assert_eq!([backend, ingest, control], [(200, query("ok", true)), without_blobs.clone(), without_blobs]);
    world.blobs_are_away.store(false, Ordering::Relaxed);
    assert_eq!(world.ready().await, well);
}
