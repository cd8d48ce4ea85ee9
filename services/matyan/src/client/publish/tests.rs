//! Copies from a backend: of runs that are deleted while they are read, and of panels with mistakes.

use std::{sync::Arc, time::Duration};

use axum::{extract::Request, middleware};
use clap::Parser as _;
use matyan_access::ProcessKey;
use matyan_backend::{Backend, UriKey};
use matyan_blob::{UrlSigner, fs::FsBlobs};
use matyan_log::embedded::EmbeddedLog;
use matyan_model::{
    artifact::{Artifact, artifact_put},
    format::format_open,
    ids::{Project, RunId},
    position::LogPosition,
    run::{Deletion, Head, head_live, run_create, run_delete},
};
use matyan_proto::reports::v1::Report;
use matyan_sign_in::SignInKey;
use matyan_store::{Transaction, embedded::EmbeddedStore, transact};
use tempfile::TempDir;
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};

use super::*;
use crate::wire::clock;

const P: Project = Project(0);

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    publish: PublishFlags,
}

async fn backend(directory: &Path, store: Arc<EmbeddedStore>) -> Backend {
    let log = EmbeddedLog::open(directory.join("log"), Default::default()).await.unwrap();
    let signer = UrlSigner::new(b"secret", Duration::from_secs(60), clock::now_us());
    let registry = prometheus::Registry::new();
    Backend::new(matyan_backend::Deps {
        store,
        log: Arc::new(log),
        log_format: matyan_wire::ingestion::RecordFormat::Protobuf,
        blobs: Arc::new(FsBlobs::open(&directory.join("blobs"), signer, clock::now_us()).unwrap()),
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
        evaluation: matyan_backend::Evaluation::start(1).unwrap(),
        metrics: matyan_backend::Metrics::new(&registry).unwrap(),
    })
}

/// Creates a run with an artifact.
async fn create(store: &EmbeddedStore, id: &RunId) {
    let create = async |mut transaction: Transaction| {
        let edit = run_create(&mut transaction, P, id, 1_000).await?;
        let number = edit.number();
        edit.write(transaction.batch());
        artifact_put(transaction.batch(), P, number, "model.pt", &Artifact::default());
        Ok::<_, matyan_store::Error>((transaction, ()))
    };
    transact(store, create).await.unwrap();
}

async fn delete(store: &EmbeddedStore, id: &RunId) {
    let delete = async |mut transaction: Transaction| {
        let head = head_live(transaction.unchecked(), P, id).await?.map(Head::Live);
        let at = LogPosition::default();
        let deletion = Deletion { at, time_us: 5, now_us: 5, caller: "", project_name: "" };
        run_delete(&mut transaction, P, id, head.as_ref(), deletion).await?;
        Ok::<_, matyan_store::Error>((transaction, ()))
    };
    transact(store, delete).await.unwrap();
}

/// Serves a backend, and returns its task and URL.
fn serve(router: axum::Router) -> (tokio::task::JoinHandle<()>, String) {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", incoming.local_addr().unwrap());
    let serving = Server::builder().add_routes(Routes::from(router)).serve_with_incoming(incoming);
    (tokio::spawn(async { serving.await.unwrap() }), url)
}

fn flags_of(subject: &str, directory: &Path, url: &str) -> PublishFlags {
    let output = directory.join("copy");
    let output = output.to_str().unwrap();
    Flags::parse_from(["publish", subject, "--output", output, "--server", url]).publish
}

/// Copies a run that is deleted just before a call.
async fn copy_deleted_before(call: &'static str) -> Result<PublishedRun, Error> {
    let directory = TempDir::new().unwrap();
    let store =
        Arc::new(EmbeddedStore::open(directory.path().join("store"), Default::default()).await.unwrap());
    format_open(&*store).await.unwrap();
    let id = RunId::new("deleted");
    create(&store, &id).await;
    let router = backend(directory.path(), store.clone()).await.into_routes().into_axum_router();
    let deletes = move |request: Request, next: middleware::Next| {
        let store = store.clone();
        async move {
            if request.uri().path().ends_with(call) {
                delete(&store, &RunId::new("deleted")).await;
            }
            next.run(request).await
        }
    };
    let router = router.layer(middleware::from_fn(deletes));
    let (server, url) = serve(router);
    let flags = flags_of("deleted", directory.path(), &url);
    let channel = flags.client.connect().await?;
    create_folders(&flags.output.join(DATA), &SHARED_FOLDERS).unwrap();
    let progress = Progress::new(0, "parts", true);
    let mut copy = RunCopy {
        channel: &channel,
        run_id: "deleted",
        root: &flags.output,
        folder: String::new(),
        has_environment: false,
        progress: &progress,
        totals: Totals::default(),
    };
    let written = write_run(&mut copy, &Contents::of_run(true)).await;
    server.abort();
    written
}

#[tokio::test]
async fn a_run_that_is_deleted_meanwhile_is_not_published() {
    for call in ["SeriesService/List", "NoteService/List", "ArtifactService/List", "ArtifactService/Get"] {
        let error = copy_deleted_before(call).await.unwrap_err().to_string();
        assert!(error.contains("`deleted`"), "{call}: {error}");
        let is_late = call == "ArtifactService/Get";
        assert_eq!(error.contains("was deleted while it was copied"), is_late, "{call}: {error}");
    }
    // This call is never made, so the run is not deleted. Its artifact is left out, because it is not stored.
    assert!(copy_deleted_before("AdminService/Reindex").await.is_ok());
}

/// Copies a report with a panel.
async fn copy_panel(channel: &Connection, flags: &PublishFlags, panel: &str) -> Result<(), Error> {
    let progress = Progress::new(0, "runs", true);
    let totals = Totals::default();
    let mut copy = SeveralCopy { channel, root: &flags.output, flags, progress: &progress, totals };
    let report = Report { code: format!("```{panel}\n```\n"), ..Report::default() };
    copy.write(Document::Report(report)).await.map(drop)
}

#[tokio::test]
async fn the_mistake_in_the_query_of_a_panel_is_marked() {
    let directory = TempDir::new().unwrap();
    let store =
        Arc::new(EmbeddedStore::open(directory.path().join("store"), Default::default()).await.unwrap());
    format_open(&*store).await.unwrap();
    let (server, url) = serve(backend(directory.path(), store).await.into_routes().into_axum_router());
    let flags = flags_of("report", directory.path(), &url);
    let channel = flags.client.connect().await.unwrap();
    create_folders(&flags.output.join(DATA), &SHARED_FOLDERS).unwrap();
    for panel in ["chart", "runs", "media", "media\nmedia: points"] {
        let wrong = format!("{panel}\nquery: run.x == ");
        let error = copy_panel(&channel, &flags, &wrong).await.unwrap_err().to_string();
        assert!(error.contains("\n  run.x ==\n") && error.contains('^'), "{panel}: {error}");
        copy_panel(&channel, &flags, &format!("{panel}\nquery: run.x == 1")).await.unwrap();
    }
    server.abort();
}
