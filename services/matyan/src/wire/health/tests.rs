//! Responses of `/health/ready/` while a backend of the process is unavailable.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::body::{Body, to_bytes};
use http::Request;
use matyan_access::ProcessKey;
use matyan_backend::{Backend, UriKey};
use matyan_blob::{
    UrlSigner,
    fs::FsBlobs,
    layers::{BlobFault, FaultyBlobs},
};
use matyan_edge::{Edge, Metrics};
use matyan_log::{
    embedded::EmbeddedLog,
    layers::{Faults as LogFaults, FaultyReader, FaultyWriter},
};
use matyan_proto::system::v1::system_service_server::SystemServiceServer;
use matyan_sign_in::SignInKey;
use matyan_store::{
    embedded::EmbeddedStore,
    layers::{Faults as StoreFaults, FaultyStore},
};
use matyan_worker::{Deps, System};
use prometheus::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::service::Routes;

use super::*;
use crate::wire::clock;

/// A backend and two workers, with fault layers over the store and log that they share.
struct TestSystem {
    edges: [Edge; 3],
    store: Arc<FaultyStore>,
    log: Arc<LogFaults>,
    blobs_unavailable: Arc<AtomicBool>,
    _directory: TempDir,
}

impl TestSystem {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data_path = |name| directory.path().join(name);
        let store = Arc::new(EmbeddedStore::open(data_path("store"), Default::default()).await.unwrap());
        let store = Arc::new(FaultyStore::new(store, StoreFaults::script([])));
        let inner = Arc::new(EmbeddedLog::open(data_path("log"), Default::default()).await.unwrap());
        let log = Arc::new(LogFaults::scripted(Duration::from_secs(1)));
        let signer = UrlSigner::new(b"secret", Duration::from_secs(60), clock::now_us());
        let blobs = Arc::new(FsBlobs::open(&data_path("blobs"), signer, clock::now_us()).unwrap());
        let blobs_unavailable = Arc::new(AtomicBool::default());
        let plan = {
            let unavailable = blobs_unavailable.clone();
            move |_| if unavailable.load(Ordering::Relaxed) { BlobFault::Refuse } else { BlobFault::None }
        };
        let deps = Deps {
            store: store.clone(),
            log_reader: Arc::new(FaultyReader::new(inner.clone(), log.clone())),
            log_writer: Arc::new(FaultyWriter::new(inner, log.clone())),
            blobs: Arc::new(FaultyBlobs::new(blobs, plan)),
            clock: clock::now_us(),
            random: clock::new_id(),
        };
        let backend = Backend::new(matyan_backend::Deps {
            store: store.clone(),
            log: deps.log_writer.clone(),
            log_format: matyan_wire::ingestion::RecordFormat::Protobuf,
            blobs: deps.blobs.clone(),
            blob_uri: "blobs:/".to_owned(),
            uri_key: UriKey::new(b"secret"),
            process_key: ProcessKey::new(b"secret"),
            sign_in_key: SignInKey::new(b"secret"),
            clock: clock::now_us(),
            new_id: clock::new_id_text(),
            new_token: clock::new_token(),
            new_secret: clock::new_secret(),
            providers: Arc::default(),
            params_cache_ttl: Duration::ZERO,
            quotas: Arc::default(),
            run_samples: matyan_backend::RunSamples::default(),
            live_readers: matyan_backend::LiveReaders::default(),
            evaluation: matyan_backend::Evaluation::start(2).unwrap(),
            metrics: matyan_backend::Metrics::new(&Registry::new()).unwrap(),
        });
        let metrics = || Metrics::register(&Registry::new()).unwrap();
        let worker = |component| {
            let system = SystemServiceServer::new(System::new(
                component,
                deps.clone(),
                Vec::new(),
                Default::default(),
            ));
            matyan_edge::worker(Default::default(), metrics(), Transport::new(Routes::new(system).prepare()))
        };
        let backend = Transport::new(backend.into_routes().prepare());
        let query = matyan_edge::query(Default::default(), metrics(), backend, None);
        let edges = [query, worker("ingest-worker"), worker("control-worker")];
        Self { edges, store, log, blobs_unavailable, _directory: directory }
    }

    /// The response of each port: its status and its checks.
    async fn ready(&self) -> [(u16, Value); 3] {
        let request_readiness = async |edge: &Edge| {
            let request = Request::get("/health/ready/").body(Body::empty()).unwrap();
            let answer = Box::pin(edge.answer(request)).await;
            let status = answer.status().as_u16();
            let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            (status, serde_json::from_slice::<Value>(&body).unwrap()["checks"].clone())
        };
        let [query, ingest, control] = &self.edges;
        tokio::join!(request_readiness(query), request_readiness(ingest), request_readiness(control)).into()
    }
}

fn query(fdb: &str, log: bool) -> Value {
    json!({"fdb": fdb, "kafka": {"control_producer": log, "ingestion_producer": log}})
}

fn worker(fdb: &str, log: &str, blob: &str) -> Value {
    json!({"worker": "ok", "fdb": fdb, "kafka": {"control": log, "ingestion": log}, "blob": blob})
}

#[tokio::test]
async fn rule_75_only_the_unavailable_backend_is_reported_and_only_its_name() {
    const FAILED: &str = "failed";
    let system = TestSystem::new().await;
    let healthy =
        [(200, query("ok", true)), (200, worker("ok", "ok", "ok")), (200, worker("ok", "ok", "ok"))];
    assert_eq!(system.ready().await, healthy);

    system.log.stop();
    let without_log = (503, worker("ok", FAILED, "ok"));
    assert_eq!(system.ready().await, [(503, query("ok", false)), without_log.clone(), without_log]);
    system.log.resume();

    system.store.set_faults(StoreFaults::errors(1, 1.0));
    let without_store = (503, worker(FAILED, "ok", "ok"));
    assert_eq!(system.ready().await, [(503, query(FAILED, true)), without_store.clone(), without_store]);
    system.store.set_faults(StoreFaults::script([]));

    system.blobs_unavailable.store(true, Ordering::Relaxed);
    let without_blobs = (503, worker("ok", "ok", FAILED));
    // The query side stays ready without blobs: runs can be viewed without them.
    assert_eq!(system.ready().await, [(200, query("ok", true)), without_blobs.clone(), without_blobs]);
    system.blobs_unavailable.store(false, Ordering::Relaxed);
    assert_eq!(system.ready().await, healthy);
}
