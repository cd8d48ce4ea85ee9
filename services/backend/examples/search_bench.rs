//! Benchmark of searches over many runs with 200 params each: time to the first row and to the
//! last. Run it with `cargo run --release -p matyan-backend --example search_bench [runs]`.

use std::{io::Write, sync::Arc, time::Duration, time::Instant};

use matyan_access::ProcessKey;
use matyan_backend::{Backend, Deps, Metrics, UriKey};
use matyan_blob::{UrlSigner, fs::FsBlobs};
use matyan_log::embedded::EmbeddedLog;
use matyan_model::{
    ids::{Project, RunId},
    run::run_create,
};
use matyan_proto::{
    runs::v1::RunParts,
    search::v1::{Query, RunsRequest, Sort, SortField, search_service_client::SearchServiceClient, sort::By},
};
use matyan_sign_in::SignInKey;
use matyan_store::{Commit, Store, Transaction, embedded::EmbeddedStore};
use matyan_value::{Map, Value};
use matyan_wire::ingestion::RecordFormat;
use tonic::service::Routes;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const P: Project = Project(0);
const PARAMS: usize = 200;
/// Runs created in one transaction.
const AT_ONCE: u64 = 50;
const ROUNDS: usize = 3;

fn params(run: u64) -> Map {
    let mut hparams: Map = (0..PARAMS - 3)
        .map(|at| (format!("param_{at:03}"), Value::Float(run as f64 * 0.5 + at as f64)))
        .collect();
    hparams.insert("lr".into(), Value::Float(run as f64 / 1e6));
    hparams.insert("seed".into(), Value::Integer(run.cast_signed()));
    let optimizer = if run.is_multiple_of(2) { "adam" } else { "sgd" };
    hparams.insert("optimizer".into(), Value::Text(optimizer.into()));
    [("hparams".to_owned(), Value::Map(hparams))].into()
}

async fn fill(store: &EmbeddedStore, runs: u64) -> Result<()> {
    let mut at = 0;
    while at < runs {
        let mut transaction = Transaction::new(store.snapshot().await?);
        transaction.set_buffered();
        for run in at..runs.min(at + AT_ONCE) {
            let id = RunId::new(format!("{run:032x}"));
            let created_us = 1_700_000_000_000_000 + run.cast_signed();
            let mut edit = run_create(&mut transaction, P, &id, created_us).await?;
            *edit.params(transaction.unchecked()).await? = params(run);
            edit.props.active = false;
            edit.write(transaction.batch());
        }
        match store.commit(transaction.into_batch()).await? {
            Commit::Done { .. } => at += AT_ONCE,
            Commit::Conflict => return Err("unexpected conflict: this is the only writer".into()),
        }
    }
    Ok(store.sync().await?)
}

struct Timing {
    rows: usize,
    first: Duration,
    last: Duration,
}

async fn search(client: &mut SearchServiceClient<Routes>, request: RunsRequest) -> Result<Timing> {
    let start = Instant::now();
    let mut messages = client.runs(request).await?.into_inner();
    let mut rows = 0;
    let mut first = None;
    while let Some(message) = messages.message().await? {
        rows += message.runs.len();
        if !message.runs.is_empty() {
            first.get_or_insert_with(|| start.elapsed());
        }
    }
    let last = start.elapsed();
    Ok(Timing { rows, first: first.unwrap_or(last), last })
}

fn cases() -> Vec<(&'static str, RunsRequest)> {
    let query = |text: &str| Some(Query { text: text.into(), ..Query::default() });
    let parts = Some(RunParts { props: true, params: true, ..RunParts::default() });
    let of = |text: &str, limit| RunsRequest {
        query: query(text),
        limit,
        parts: parts.clone(),
        ..RunsRequest::default()
    };
    let by_name =
        vec![Sort { by: Some(By::Field(SortField::Name.into())), descending: false, ..Sort::default() }];
    vec![
        ("index, 1 run", of("run.hparams.seed == 77", 0)),
        ("index, 1,000 runs", of("run.hparams.lr < 0.001", 0)),
        (
            "index, 1,000 runs, sorted",
            RunsRequest { sort: by_name.clone(), ..of("run.hparams.lr < 0.001", 0) },
        ),
        ("newest page of 45", of("", 45)),
        ("page of 45 by name", RunsRequest { sort: by_name, ..of("", 45) }),
        ("full scan, 1 % match", of("run.hparams.seed % 100 == 7", 0)),
        ("full scan, nothing matches", of("run.hparams.param_150 + 1 == 0", 0)),
        ("full scan, no param", of("run.description == 'x'", 0)),
    ]
}

#[tokio::main]
async fn main() -> Result<()> {
    let runs = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => 100_000,
    };
    let directory = tempfile::tempdir()?;
    let store = Arc::new(EmbeddedStore::open(directory.path().join("store"), Default::default()).await?);
    let start = Instant::now();
    fill(&store, runs).await?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "created {runs} runs of {PARAMS} params in {:.1} s", start.elapsed().as_secs_f64())?;
    let clock: matyan_backend::Clock = Arc::new(|| 1_800_000_000_000_000);
    let signer = UrlSigner::new(b"secret", Duration::from_secs(60), clock.clone());
    let backend = Backend::new(Deps {
        store,
        log: Arc::new(EmbeddedLog::open(directory.path().join("log"), Default::default()).await?),
        log_format: RecordFormat::Protobuf,
        blobs: Arc::new(FsBlobs::open(&directory.path().join("blobs"), signer, clock.clone())?),
        blob_uri: "file:///blobs".into(),
        uri_key: UriKey::new(b"secret"),
        process_key: ProcessKey::new(b"secret"),
        sign_in_key: SignInKey::new(b"secret"),
        clock,
        new_id: Arc::new(String::new),
        new_token: Arc::new(|| matyan_access::AccessToken::generate(&mut rand::rng())),
        new_secret: Arc::new(|kind| matyan_access::BrowserSecret::generate(kind, &mut rand::rng())),
        providers: Arc::default(),
        params_cache_ttl: Duration::from_secs(30),
        quotas: Arc::default(),
        run_samples: matyan_backend::RunSamples::default(),
        live_readers: matyan_backend::LiveReaders::default(),
        evaluation: matyan_backend::Evaluation::start(2)?,
        metrics: Metrics::new(&prometheus::Registry::new())?,
    });
    let mut client = SearchServiceClient::new(backend.into_routes()).max_decoding_message_size(usize::MAX);
    writeln!(out, "{:>30} {:>8} {:>12} {:>12}", "search", "rows", "first row", "last row")?;
    for (name, request) in cases() {
        let mut best: Option<Timing> = None;
        for _ in 0..ROUNDS {
            let timing = search(&mut client, request.clone()).await?;
            if best.as_ref().is_none_or(|best| timing.last < best.last) {
                best = Some(timing);
            }
        }
        let Some(Timing { rows, first, last }) = best else { continue };
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        writeln!(out, "{name:>30} {rows:>8} {:>9.1} ms {:>9.1} ms", ms(first), ms(last))?;
    }
    Ok(())
}
