//! Cost of access control. Two servers receive the same frames in turn: one that asks its callers for a token, and
//! one that asks nobody. Another row has the time to find a caller and to decide about its call, on one core.

use std::{
    fs,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use matyan_access::{AccessToken, Caller, CallerCache, CallerSource, LookupError, Role, TokenDigest};
use matyan_proto::{
    access::v1::{
        CreateTokenRequest, GrantRequest, Role as GrantedRole, access_service_client::AccessServiceClient,
    },
    common::v1::Access,
};
use matyan_tests::{
    Server, channel,
    json::{Ack, JsonWriter},
};
use rand::{SeedableRng, rngs::StdRng};
use tonic::Request;

use crate::{
    latency::p99,
    load,
    table::{Budget, Table, Unit},
};

const CONNECTIONS: usize = 8;
const PER_FRAME: usize = 10;

/// Turns of each server in one measurement.
const TURNS: usize = 4;

/// The server with access control acknowledges this share of the frames, within noise.
const LEAST_FRAMES: f64 = 0.95;

/// The slowest acknowledgements wait for the disk, whose times differ more between two turns.
const MOST_DELAY: f64 = 1.25;

/// Tokens that the cache knows, and how often each is looked up.
const TOKENS: u64 = 1_000;
const ROUNDS: u32 = 200;

const SIDES: [&str; 3] = ["off", "on", "on in relation to off"];

pub(crate) async fn rows(table: &mut Table, scale: usize) {
    let work = "access control: finding a known caller, and deciding about its call";
    let rounds = ROUNDS / u32::try_from(scale).expect("the scale is small");
    table.row(work, Budget::AtMost(1.0), Unit::Microseconds, async || time_of_decision(rounds).await).await;

    let frames = SIDES.map(|side| {
        format!("frames, access control {side} (JSON, {CONNECTIONS} connections, {PER_FRAME} messages)")
    });
    let budget = Budget::AtLeast(LEAST_FRAMES);
    compare(table, &frames, budget, Unit::PerSecond("frames"), 1_000 / scale, Figure::FramesPerSecond).await;

    let delays = SIDES.map(|side| format!("acknowledgement p99 at 10k points/s, access control {side}"));
    let budget = Budget::AtMost(MOST_DELAY);
    compare(table, &delays, budget, Unit::Milliseconds, 250 / scale, Figure::SlowestAcknowledgement).await;
}

/// The figure that is measured while a server receives frames.
#[derive(Clone, Copy)]
enum Figure {
    /// At full speed.
    FramesPerSecond,
    /// The 99th percentile at 10,000 points per second, in milliseconds.
    SlowestAcknowledgement,
}

/// Prints a figure without access control, with it, and the ratio of both, which has a budget.
async fn compare(
    table: &mut Table,
    rows: &[String; 3],
    budget: Budget,
    unit: Unit,
    frames: usize,
    figure: Figure,
) {
    if !rows.iter().any(|row| table.wants(row)) {
        return;
    }
    let texts = Arc::new(load::json_frames(frames, PER_FRAME, 4));
    let [mut off, mut on, mut ratios] = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..table.runs() {
        let [open, closed] = figure.measure(&texts).await;
        off.push(open);
        on.push(closed);
        ratios.push(closed / open);
    }
    let [off_row, on_row, ratio_row] = rows;
    table.print(off_row, Budget::None, unit, off);
    table.print(on_row, Budget::None, unit, on);
    table.print(ratio_row, budget, Unit::Times, ratios);
}

impl Figure {
    /// The figure of a server without access control, and of one with it, both on new data directories.
    async fn measure(self, texts: &Arc<Vec<String>>) -> [f64; 2] {
        let sides = [BenchedServer::open().await, BenchedServer::closed().await];
        let mut times = [Vec::new(), Vec::new()];
        let mut seconds = [0.0; 2];
        for turn in 0..TURNS {
            // The first server of a turn is the second of the next one, so that neither benefits from its place.
            for place in 0..2 {
                let side = (turn + place) % 2;
                let start = Instant::now();
                times[side].extend(sides[side].send(turn, texts, self.pause()).await);
                seconds[side] += start.elapsed().as_secs_f64();
            }
        }
        match self {
            Self::FramesPerSecond => [0, 1].map(|side| times[side].len() as f64 / seconds[side]),
            Self::SlowestAcknowledgement => times.map(p99),
        }
    }

    /// Interval between two frames of a connection.
    fn pause(self) -> Option<Duration> {
        match self {
            Self::FramesPerSecond => None,
            Self::SlowestAcknowledgement => {
                Some(Duration::from_secs_f64((CONNECTIONS * PER_FRAME) as f64 / 10e3))
            }
        }
    }
}

/// A server, and the token of its writers if it asks for one.
struct BenchedServer {
    server: Server,
    token: Option<String>,
}

impl BenchedServer {
    async fn open() -> Self {
        Self { server: Server::up().await, token: None }
    }

    async fn closed() -> Self {
        let server = Server::up_with(&["--access", "on"]).await;
        let token = Some(ingest_token(&server).await);
        Self { server, token }
    }

    /// Sends the frames over every connection, each of which waits for the acknowledgement of a frame before it sends
    /// the next one. Returns the times of all acknowledgements.
    async fn send(&self, turn: usize, texts: &Arc<Vec<String>>, pause: Option<Duration>) -> Vec<Duration> {
        let mut tasks = Vec::new();
        for connection in 0..CONNECTIONS {
            let run = format!("access-{turn}-{connection}");
            let writer = JsonWriter::connect_with_token(&self.server.ingest, &run, self.token.as_deref());
            let writer = writer.await.expect("the server admits the writer");
            tasks.push(tokio::spawn(send_all(writer, texts.clone(), pause)));
        }
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await.expect("a writer does not panic"));
        }
        times
    }
}

async fn send_all(mut writer: JsonWriter, texts: Arc<Vec<String>>, pause: Option<Duration>) -> Vec<Duration> {
    let mut clock = pause.map(tokio::time::interval);
    let mut times = Vec::with_capacity(texts.len());
    for text in texts.iter() {
        if let Some(clock) = &mut clock {
            clock.tick().await;
        }
        let start = Instant::now();
        assert_eq!(writer.send_text(text.clone()).await, Ok(Ack::Ok));
        times.push(start.elapsed());
    }
    times
}

/// The token of a principal that may send data to the default project, and nothing more.
async fn ingest_token(server: &Server) -> String {
    let operator = fs::read_to_string(server.data_dir().join("operator-token")).expect("the file exists");
    let mut access = AccessServiceClient::new(channel(&server.query).await);
    let principal = "node".to_owned();
    let grant = GrantRequest { principal: principal.clone(), role: GrantedRole::Ingest.into() };
    access.grant(by_operator(&operator, grant)).await.expect("the operator grants roles");
    let create = CreateTokenRequest { principal, ..Default::default() };
    let created = access.create_token(by_operator(&operator, create)).await;
    created.expect("the principal has a role").into_inner().secret
}

fn by_operator<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let authorization = format!("Bearer {}", token.trim()).parse().expect("a token is ASCII");
    request.metadata_mut().insert("authorization", authorization);
    request
}

/// A source to which each token belongs to a training node of one project.
struct TrainingNodes;

#[async_trait]
impl CallerSource for TrainingNodes {
    async fn find(&self, _: Option<&TokenDigest>) -> Result<Option<Caller>, LookupError> {
        Ok(Some(Caller::new("node", [(Some("speech"), Role::Ingest)].into_iter().collect())))
    }
}

/// Microseconds to find the caller with a token that the cache knows, and to decide about its call.
async fn time_of_decision(rounds: u32) -> f64 {
    let tokens: Vec<_> =
        (0..TOKENS).map(|seed| AccessToken::generate(&mut StdRng::seed_from_u64(seed))).collect();
    let cache = CallerCache::new(TrainingNodes);
    for token in &tokens {
        cache.find(Some(&token.digest())).await.expect("the source answers");
    }
    let mut permitted = 0_u64;
    let start = Instant::now();
    for _ in 0..rounds {
        for token in &tokens {
            let caller = cache.find(Some(&black_box(token).digest())).await.expect("the cache answers");
            let is_permitted = caller.is_some_and(|it| it.check(Access::Ingest, "speech").is_ok());
            permitted += u64::from(is_permitted);
        }
    }
    let elapsed = start.elapsed();
    assert_eq!(permitted, u64::from(rounds) * TOKENS, "every call is permitted");
    elapsed.as_secs_f64() * 1e6 / permitted as f64
}
