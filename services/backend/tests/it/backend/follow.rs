//! Following series: each point once, also of runs and series that appear later, and what changed
//! at steps that were sent before is reported.

use std::collections::BTreeMap;

use matyan_proto::{
    common::v1::{SeriesKey, SeriesType, StepRange},
    ingest::v1::{IngestionBatch, Points, SeriesDef},
    log::v1::LogEntry,
    series::v1::{series_service_client::SeriesServiceClient, *},
};
use tonic::{Streaming, service::Routes};

use crate::backend::{
    harness::{Harness, create, until, wrong_field},
    projects::of,
};

type Client = SeriesServiceClient<Routes>;

fn key(name: &str) -> SeriesKey {
    SeriesKey { name: name.to_owned(), context: String::new() }
}

fn follow(run: &str, names: &[&str]) -> FollowRequest {
    let keys = names.iter().map(|name| key(name)).collect();
    let runs = vec![RunSelection { run_id: run.into(), keys, ..RunSelection::default() }];
    FollowRequest { runs, settle_ms: Some(0), ..FollowRequest::default() }
}

async fn log_at(
    harness: &Harness,
    project: &str,
    run: &str,
    name: &str,
    steps: impl IntoIterator<Item = i64>,
) {
    log_values(harness, project, run, name, steps.into_iter().map(|step| (step, step as f64))).await;
}

async fn log_values(
    harness: &Harness,
    project: &str,
    run: &str,
    name: &str,
    points: impl IntoIterator<Item = (i64, f64)>,
) {
    let (steps, values): (Vec<i64>, Vec<f64>) = points.into_iter().unzip();
    let definition = SeriesDef { name: name.to_owned(), ..SeriesDef::default() };
    let points = Points { series: vec![0; steps.len()], steps, values, ..Points::default() };
    let batch =
        IngestionBatch { series: vec![definition], points: vec![points], ..IngestionBatch::default() };
    let entry = LogEntry { project: project.to_owned(), ..LogEntry::default() };
    harness.append_entry(run, batch, entry).await;
}

/// Everything that a follower received, by run and series.
#[derive(Default)]
struct Followed {
    steps: BTreeMap<(u32, u32), Vec<i64>>,
    stale: Vec<(u32, u32)>,
    is_caught_up: bool,
    positions: BTreeMap<(u32, u32), SeriesPosition>,
}

impl Followed {
    fn take(&mut self, message: FollowResponse) {
        self.is_caught_up |= message.caught_up;
        self.stale.extend(message.stale.iter().map(|place| (place.run, place.series)));
        for position in message.positions {
            let place = position.place.unwrap();
            self.positions.insert((place.run, place.series), position);
        }
        for points in message.series {
            let place = points.place.unwrap();
            assert!(points.steps.iter().zip(&points.values).all(|(step, value)| *step as f64 == *value));
            assert_eq!(points.steps.len(), points.values.len());
            self.steps.entry((place.run, place.series)).or_default().extend(points.steps);
        }
    }

    async fn until(&mut self, stream: &mut Streaming<FollowResponse>, is_enough: impl Fn(&Self) -> bool) {
        until(stream, |message| {
            self.take(message);
            is_enough(self)
        })
        .await;
    }

    fn steps(&self, run: u32, series: u32) -> &[i64] {
        self.steps.get(&(run, series)).map_or(&[], Vec::as_slice)
    }
}

async fn open(harness: &Harness, request: FollowRequest) -> Streaming<FollowResponse> {
    Client::new(harness.routes()).follow(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn each_point_is_sent_once_while_points_are_logged() {
    let harness = Harness::new().await;
    log_at(&harness, "", "r", "a", 0..100).await;
    harness.applied().await;
    let mut request = follow("r", &["a", "later"]);
    request.runs[0].steps =
        vec![StepRange { start: Some(90), stop: None }, StepRange { start: None, stop: Some(40) }];
    request.runs.push(follow("new", &["a"]).runs.remove(0));
    let mut stream = open(&harness, request).await;
    let mut followed = Followed::default();
    followed.until(&mut stream, |followed| followed.is_caught_up).await;
    assert_eq!(followed.steps(0, 0), (90..100).collect::<Vec<_>>());

    for part in 0..30 {
        log_at(&harness, "", "r", "a", 100 + part * 10..110 + part * 10).await;
        log_at(&harness, "", "r", "later", part * 2..part * 2 + 2).await;
        log_at(&harness, "", "other", "a", part..part + 1).await;
        if part > 10 {
            log_at(&harness, "", "new", "a", part * 200_000..(part + 1) * 200_000 - 150_000).await;
        }
    }
    followed
        .until(&mut stream, |followed| {
            followed.steps(0, 0).len() == 310
                && followed.steps(0, 1).len() == 40
                && followed.steps(1, 0).len() == 950_000
        })
        .await;
    assert_eq!(followed.steps(0, 0), (90..400).collect::<Vec<_>>());
    assert_eq!(followed.steps(0, 1), (0..40).collect::<Vec<_>>());
    assert!(followed.steps(1, 0).is_sorted());
    assert_eq!(followed.stale, []);
    assert_eq!(followed.steps.len(), 3);
    harness.end().await;
}

#[tokio::test]
async fn a_series_that_changes_at_earlier_steps_is_stale() {
    let harness = Harness::new().await;
    log_at(&harness, "", "r", "a", (0..100).step_by(2)).await;
    log_at(&harness, "", "r", "b", 0..10).await;
    harness.applied().await;
    let mut stream = open(&harness, follow("r", &["a", "b"])).await;
    let mut followed = Followed::default();
    followed.until(&mut stream, |followed| followed.is_caught_up).await;
    assert_eq!((followed.steps(0, 0).len(), followed.steps(0, 1).len()), (50, 10));

    log_at(&harness, "", "r", "a", [51]).await;
    followed.until(&mut stream, |followed| !followed.stale.is_empty()).await;
    assert_eq!(followed.stale, [(0, 0)]);
    log_at(&harness, "", "r", "a", [100, 102]).await;
    followed.until(&mut stream, |followed| followed.steps(0, 0).len() == 52).await;
    assert_eq!(followed.stale, [(0, 0)]);

    let steps = Some(StepRange { start: Some(5), stop: None });
    let r#type = SeriesType::Metric.into();
    let delete =
        DeleteStepsRequest { run_id: "r".into(), r#type, key: Some(key("b")), steps, ..Default::default() };
    Client::new(harness.routes()).delete_steps(delete).await.unwrap();
    followed.until(&mut stream, |followed| followed.stale.contains(&(0, 1))).await;
    log_at(&harness, "", "r", "b", [5]).await;
    followed.until(&mut stream, |followed| followed.steps(0, 1).len() == 11).await;
    assert_eq!(followed.steps(0, 1).last(), Some(&5));

    let refused = FollowRequest { settle_ms: Some(60_001), ..follow("r", &["a"]) };
    wrong_field(Client::new(harness.routes()).follow(refused).await, "settle_ms");
    let refused = FollowRequest { runs: Vec::new(), ..follow("r", &["a"]) };
    wrong_field(Client::new(harness.routes()).follow(refused).await, "runs");
    harness.end().await;
}

/// A run that continues from a checkpoint logs the steps after it again.
#[tokio::test]
async fn a_series_with_other_values_at_the_same_steps_is_stale() {
    let harness = Harness::new().await;
    log_at(&harness, "", "r", "loss", 0..5_000).await;
    harness.applied().await;
    let mut stream = open(&harness, follow("r", &["loss"])).await;
    let mut followed = Followed::default();
    followed.until(&mut stream, |followed| followed.is_caught_up).await;

    // Repeated with the same values, nothing has changed, and further points are sent.
    log_at(&harness, "", "r", "loss", 4_000..5_001).await;
    followed.until(&mut stream, |followed| followed.steps(0, 0).contains(&5_000)).await;
    assert_eq!(followed.stale, []);

    for (step, value) in [(2_500, 0.0), (2_500, 1e-3), (0, f64::NAN), (5_000, 7.5)] {
        followed.stale.clear();
        log_values(&harness, "", "r", "loss", [(step, value)]).await;
        followed.until(&mut stream, |followed| !followed.stale.is_empty()).await;
        assert_eq!(followed.stale, [(0, 0)], "{value} at {step}");
    }
    log_at(&harness, "", "r", "loss", [5_001]).await;
    followed.until(&mut stream, |followed| followed.steps(0, 0).contains(&5_001)).await;
    assert_eq!(followed.stale, [(0, 0)], "it is reported once");
    harness.end().await;
}

#[tokio::test]
async fn other_projects_are_not_followed_and_updates_are_thinned() {
    let harness = Harness::new().await;
    harness.create_project("other").await;
    harness.log("r", [create()]).await;
    log_at(&harness, "other", "r", "a", 0..1_000).await;
    harness.applied().await;
    let mut here = open(&harness, follow("r", &["a"])).await;
    let thin = FollowRequest { density: 10, ..follow("r", &["a"]) };
    let mut there = Client::new(harness.routes()).follow(of("other", thin)).await.unwrap().into_inner();
    let mut followed = Followed::default();
    followed.until(&mut there, |followed| followed.is_caught_up).await;
    let steps = followed.steps(0, 0);
    assert_eq!((steps.len(), steps[0], steps[9]), (10, 0, 999));
    log_at(&harness, "other", "r", "a", 1_000..3_000).await;
    followed.until(&mut there, |followed| followed.steps(0, 0).last() == Some(&2_999)).await;
    log_at(&harness, "", "r", "a", [7]).await;
    let mut followed = Followed::default();
    followed.until(&mut here, |followed| !followed.steps(0, 0).is_empty()).await;
    assert_eq!(followed.steps(0, 0), [7]);
    harness.end().await;
}

/// A client that connects again after any message has each point once.
#[tokio::test]
async fn a_follower_that_was_disconnected_continues_where_it_was() {
    let harness = Harness::new().await;
    log_at(&harness, "", "r", "a", 0..300_000).await;
    log_at(&harness, "", "r", "b", 0..10).await;
    harness.applied().await;
    let request = follow("r", &["a", "b", "later"]);
    let mut followed = Followed::default();
    let reopen = async |followed: &Followed| {
        let resume = followed.positions.values().cloned().collect();
        open(&harness, FollowRequest { resume, ..request.clone() }).await
    };
    // The first points come in several messages, and each time only one is received.
    let mut connections = 0;
    while !followed.is_caught_up {
        let message = reopen(&followed).await.message().await.unwrap().unwrap();
        followed.take(message);
        connections += 1;
    }
    assert!(connections > 3, "{connections}");
    let caught_up = |followed: &Followed| followed.is_caught_up;
    for part in 0..5 {
        log_at(&harness, "", "r", "a", 300_000 + part * 10..310_000 + part * 10).await;
        log_at(&harness, "", "r", "later", part..part + 1).await;
        harness.applied().await;
        followed.is_caught_up = false;
        followed.until(&mut reopen(&followed).await, caught_up).await;
    }
    assert_eq!(followed.steps(0, 0), (0..310_040).collect::<Vec<_>>());
    assert_eq!((followed.steps(0, 1), followed.steps(0, 2).len()), (&(0..10).collect::<Vec<_>>()[..], 5));
    assert_eq!(followed.stale, [], "points that are logged again with the same values have not changed");

    // Earlier points change while no follower is connected, which is reported once.
    log_values(&harness, "", "r", "a", [(5, 9.0)]).await;
    let r#type = SeriesType::Metric.into();
    let key = Some(key("later"));
    let delete = DeleteRequest { run_id: "r".into(), r#type, key, ..Default::default() };
    Client::new(harness.routes()).delete(delete).await.unwrap();
    for _ in 0..2 {
        followed.is_caught_up = false;
        followed.until(&mut reopen(&followed).await, caught_up).await;
    }
    // An edit makes every series of its run stale.
    followed.stale.sort_unstable();
    assert_eq!(followed.stale, [(0, 0), (0, 1), (0, 2)]);
    log_at(&harness, "", "r", "b", [10]).await;
    followed.until(&mut reopen(&followed).await, |followed| followed.steps(0, 1).len() == 11).await;

    for (run, series, position) in [(1, 0, &b""[..]), (0, 3, b""), (0, 0, b"forged")] {
        let place = Some(Place { run, series });
        let position = bytes::Bytes::copy_from_slice(position);
        let refused = FollowRequest { resume: vec![SeriesPosition { place, position }], ..request.clone() };
        wrong_field(Client::new(harness.routes()).follow(refused).await, "resume");
    }
    harness.end().await;
}
