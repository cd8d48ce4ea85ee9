//! Live streams in two projects with the same run ids and names, and a random canary in every text and
//! value: no stream touches a key of the other project, or shows its canary, neither at its beginning
//! nor later.

use matyan_model::{keys::project_rows, project::project_find};
use matyan_proto::{
    common::v1::SeriesKey,
    ingest::v1::{self as pb, event::Kind},
    live::v1::{
        SubscribeRequest, SubscribeResponse, Subscription, live_service_client::LiveServiceClient,
        subscription::Request as Wanted,
    },
    logs::v1::{
        LinesRequest, LinesResponse, RecordsRequest, RecordsResponse, log_service_client::LogServiceClient,
    },
    runs::v1::{RunParts, WatchRequest, WatchResponse, run_service_client::RunServiceClient},
    search::v1::{WatchRunsRequest, WatchRunsResponse, search_service_client::SearchServiceClient},
    series::v1::{FollowRequest, FollowResponse, RunSelection, series_service_client::SeriesServiceClient},
};
use matyan_store::Store as _;
use prost::Message;
use tonic::{Response, Streaming};

use crate::backend::{
    every_rpc::{PROJECTS, Side, contains_bytes, fill},
    harness::{Harness, create, line, tag, until},
    projects::of,
};

/// Streams that `LiveStreams` opens, besides the one with all of them.
const KINDS: usize = 5;

/// Texts and values of a project that no other may show.
struct Canaries<'s> {
    side: &'s Side,
    value: f64,
}

impl Canaries<'_> {
    fn text(&self, kind: &str, round: u8) -> String {
        format!("{kind}-{round}-{}", self.side.canary)
    }

    fn values(&self) -> [f64; 3] {
        [self.value, self.value + 1.0, self.value + 2.0]
    }

    /// The canaries of a round that each kind of stream shows: a watch, watched runs, a follower, lines, and
    /// records.
    fn of_round(&self, round: u8) -> [Vec<u8>; KINDS] {
        let text = |kind: &str| self.text(kind, round).into_bytes();
        let value = self.values()[usize::from(round)].to_le_bytes().to_vec();
        [text("tag"), text("tag"), value, text("line"), text("record")]
    }

    async fn log(&self, harness: &Harness, round: u8) {
        let record = pb::LogRecord { message: self.text("record", round), ..pb::LogRecord::default() };
        let line = line(i64::from(round) + 1, &self.text("line", round));
        let events = [tag(&self.text("tag", round)), line, Kind::LogRecord(record)];
        harness.log_in(self.side.project, "r", events).await;
        let new = [create(), tag(&self.text("new", round))];
        harness.log_in(self.side.project, &format!("new-{round}"), new).await;
        let values = &self.values()[..=usize::from(round)];
        harness.log_points_in(self.side.project, "r", &[("live", "", values)]).await;
        harness.applied().await;
    }
}

fn watch() -> WatchRequest {
    let parts = Some(RunParts { props: true, ..RunParts::default() });
    WatchRequest { snapshot: true, parts, settle_ms: Some(0), ..WatchRequest::default() }
}

fn watch_runs() -> WatchRunsRequest {
    let parts = Some(RunParts { props: true, ..RunParts::default() });
    WatchRunsRequest { limit: 10, parts, settle_ms: Some(0), ..WatchRunsRequest::default() }
}

fn follow() -> FollowRequest {
    let keys = vec![SeriesKey { name: "live".into(), ..SeriesKey::default() }];
    let runs = vec![RunSelection { run_id: "r".into(), keys, ..RunSelection::default() }];
    FollowRequest { runs, settle_ms: Some(0), ..FollowRequest::default() }
}

fn lines() -> LinesRequest {
    LinesRequest { run_id: "r".into(), follow: true, ..LinesRequest::default() }
}

fn records() -> RecordsRequest {
    RecordsRequest { run_id: "r".into(), follow: true, ..RecordsRequest::default() }
}

fn subscribe() -> SubscribeRequest {
    let wanted: [Wanted; KINDS] = [
        Wanted::Watch(watch()),
        Wanted::WatchRuns(watch_runs()),
        Wanted::Follow(follow()),
        Wanted::Lines(lines()),
        Wanted::Records(records()),
    ];
    SubscribeRequest { subscriptions: wanted.map(|request| Subscription { request: Some(request) }).into() }
}

/// A stream and what each part of it has shown.
struct Reader<M> {
    stream: Streaming<M>,
    part: fn(&M) -> usize,
    seen: Vec<Vec<u8>>,
}

impl<M: Message> Reader<M> {
    fn new(stream: Response<Streaming<M>>) -> Self {
        Self { stream: stream.into_inner(), part: |_| 0, seen: vec![Vec::new()] }
    }

    /// Reads until each part has shown its bytes.
    async fn until(&mut self, shown: &[Vec<u8>]) {
        let part = self.part;
        let seen = &mut self.seen;
        until(&mut self.stream, |message| {
            seen[part(&message)].extend(message.encode_to_vec());
            seen.iter().zip(shown).all(|(seen, shown)| contains_bytes(seen, shown))
        })
        .await;
    }
}

/// All live streams in a project.
struct LiveStreams {
    watch: Reader<WatchResponse>,
    watch_runs: Reader<WatchRunsResponse>,
    follow: Reader<FollowResponse>,
    lines: Reader<LinesResponse>,
    records: Reader<RecordsResponse>,
    subscribe: Reader<SubscribeResponse>,
}

impl LiveStreams {
    async fn open(harness: &Harness, project: &str) -> Self {
        let routes = || harness.routes();
        let mut runs = RunServiceClient::new(routes());
        let mut search = SearchServiceClient::new(routes());
        let mut series = SeriesServiceClient::new(routes());
        let mut logs = LogServiceClient::new(routes());
        let mut live = LiveServiceClient::new(routes());
        Self {
            watch: Reader::new(runs.watch(of(project, watch())).await.unwrap()),
            watch_runs: Reader::new(search.watch_runs(of(project, watch_runs())).await.unwrap()),
            follow: Reader::new(series.follow(of(project, follow())).await.unwrap()),
            lines: Reader::new(logs.lines(of(project, lines())).await.unwrap()),
            records: Reader::new(logs.records(of(project, records())).await.unwrap()),
            subscribe: Reader {
                part: |message: &SubscribeResponse| message.subscription as usize,
                seen: vec![Vec::new(); KINDS],
                ..Reader::new(live.subscribe(of(project, subscribe())).await.unwrap())
            },
        }
    }

    /// Reads each stream until it has shown the canaries.
    async fn until(&mut self, canaries: [Vec<u8>; KINDS]) {
        self.watch.until(&canaries[..1]).await;
        self.watch_runs.until(&canaries[1..2]).await;
        self.follow.until(&canaries[2..3]).await;
        self.lines.until(&canaries[3..4]).await;
        self.records.until(&canaries[4..]).await;
        self.subscribe.until(&canaries).await;
    }

    /// Everything that was shown, with the names of the rpcs.
    fn seen(&self) -> Vec<(&'static str, &Vec<u8>)> {
        let all = [
            ("Watch", &self.watch.seen),
            ("WatchRuns", &self.watch_runs.seen),
            ("Follow", &self.follow.seen),
            ("Lines", &self.lines.seen),
            ("Records", &self.records.seen),
            ("Subscribe", &self.subscribe.seen),
        ];
        all.into_iter().flat_map(|(name, seen)| seen.iter().map(move |part| (name, part))).collect()
    }
}

#[tokio::test]
async fn rule_49_no_live_stream_shows_another_project() {
    let harness = Harness::new().await;
    let sides = [fill(&harness, PROJECTS[0]).await, fill(&harness, PROJECTS[1]).await];
    let both = [
        Canaries { side: &sides[0], value: 1_234_567.890_625 },
        Canaries { side: &sides[1], value: 7_654_321.109_375 },
    ];
    for canaries in &both {
        canaries.log(&harness, 0).await;
    }
    let mut streams = Vec::new();
    for (own, other) in [(&both[0], &both[1]), (&both[1], &both[0])] {
        let snapshot = harness.store.snapshot().await.unwrap();
        let number = project_find(snapshot.as_ref(), other.side.project).await.unwrap().unwrap();
        drop(snapshot);
        harness.fence.forbid(vec![project_rows(number)]);
        let mut opened = LiveStreams::open(&harness, own.side.project).await;
        opened.until(own.of_round(0)).await;
        let touched = harness.fence.take_touched();
        harness.fence.forbid(Vec::new());
        assert!(touched.is_empty(), "{touched:?} in `{}`", own.side.project);
        streams.push(opened);
    }
    // When a project shows the data of the last round, the other project has already logged the round before.
    for round in [1, 2] {
        for canaries in &both {
            canaries.log(&harness, round).await;
        }
    }
    for (opened, (own, other)) in streams.iter_mut().zip([(&both[0], &both[1]), (&both[1], &both[0])]) {
        opened.until(own.of_round(2)).await;
        for (name, seen) in opened.seen() {
            assert!(!contains_bytes(seen, other.side.canary.as_bytes()), "{name}: {}", seen.escape_ascii());
            for value in other.values() {
                assert!(!contains_bytes(seen, &value.to_le_bytes()), "{name}: {}", seen.escape_ascii());
            }
        }
    }
    harness.end().await;
}
