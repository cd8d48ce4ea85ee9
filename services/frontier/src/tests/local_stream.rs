//! Tests of streams of clients in this process, which do the work of their streams themselves.

use std::time::Duration;

use matyan_log::layers::AppendFault;
use matyan_proto::ingest::v1::{self as pb, stream_request::Message};
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::{Code, Status, metadata::MetadataMap};

use super::harness::*;
use crate::{StreamWork, stream::Answer};

/// The client's side of a stream.
struct LocalStream {
    requests: mpsc::Sender<pb::StreamRequest>,
    answers: mpsc::Receiver<Answer>,
    work: StreamWork,
}

async fn stream_with(env: &TestEnv, metadata: &[(&'static str, &str)]) -> Result<LocalStream, Status> {
    let (requests, receiver) = mpsc::channel(16);
    requests.try_send(pb::StreamRequest { message: Some(Message::Open(open())) }).unwrap();
    let mut map = MetadataMap::new();
    for (name, value) in metadata {
        map.insert(*name, value.parse().unwrap());
    }
    let (answers, work) = env.frontier.open_stream(&map, receiver).await?;
    Ok(LocalStream { requests, answers, work })
}

impl LocalStream {
    fn send(&self, sequence: u64) {
        let batch = tag("t").encode_to_vec().into();
        let batch = pb::StreamBatch { sequence, batch, traceparent: String::new() };
        self.requests.try_send(pb::StreamRequest { message: Some(Message::Batch(batch)) }).unwrap();
    }

    /// Does the work of the stream until there is an answer; `None` after the last one.
    async fn answer(&mut self) -> Option<Answer> {
        tokio::select! {
            biased;
            answer = self.answers.recv() => answer,
            () = &mut self.work => self.answers.recv().await,
        }
    }

    /// Stops sending, reads all answers, and returns the last acknowledged sequence and the result of the stream.
    async fn finish(mut self) -> (u64, Result<(), Status>) {
        drop(std::mem::replace(&mut self.requests, mpsc::channel(1).0));
        let mut last = 0;
        loop {
            match self.answer().await {
                Some(Ok(answer)) => last = answer.sequence,
                Some(Err(status)) => return (last, Err(status)),
                None => return (last, Ok(())),
            }
        }
    }
}

/// Does the work of the stream until a metric satisfies the condition.
async fn work_until(env: &TestEnv, stream: &mut LocalStream, name: &str, holds: impl Fn(f64) -> bool) {
    tokio::select! {
        () = &mut stream.work => panic!("the stream has ended"),
        () = env.until(name, holds) => {}
    }
}

#[tokio::test]
async fn a_client_does_the_work_of_its_stream() {
    const BATCHES: u64 = 100;
    let env = TestEnv::new().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let metadata = [("matyan-project", "team"), ("matyan-caller", "ann"), ("traceparent", trace)];
    let mut stream = stream_with(&env, &metadata).await.unwrap();
    stream.send(1);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(env.record_count().await, 0, "nobody works");
    for sequence in 1..=BATCHES {
        let answer = stream.answer().await.unwrap().unwrap();
        assert_eq!((answer.sequence, answer.position.unwrap().offset), (sequence, sequence - 1));
        if sequence < BATCHES {
            stream.send(sequence + 1);
        }
    }
    let (last, ended) = stream.finish().await;
    assert_eq!((last, ended.is_ok()), (0, true), "everything was acknowledged before");
    let records = env.records(1).await;
    assert_eq!(records[0].headers[1].1, trace);
    let entries = env.entries().await;
    assert!(entries.iter().map(|entry| entry.sequence).eq(1..=BATCHES));
    assert_eq!((entries[0].project.as_str(), entries[0].caller.as_str()), ("team", "ann"));
    assert_eq!(env.metric("matyan_ingest_streams_active"), 0.0);
}

#[tokio::test]
async fn a_stream_whose_client_leaves_is_read_to_its_end() {
    let env = TestEnv::new().await;
    let mut left_early = stream_with(&env, &[]).await.unwrap();
    left_early.send(1);
    left_early.send(2);
    env.faults.script_appends([Some(AppendFault::Delay(Duration::from_millis(50)))]);
    work_until(&env, &mut left_early, "matyan_ingest_in_flight_bytes", |bytes| bytes > 0.0).await;
    let never_began = stream_with(&env, &[]).await.unwrap();
    never_began.send(1);
    drop(left_early);
    drop(never_began);
    env.until("matyan_ws_messages_total", |messages| messages == 3.0).await;
    env.frontier.drain().await;
    assert_eq!(env.entries().await.len(), 3);
    assert_eq!(env.metric("matyan_ingest_in_flight_bytes"), 0.0);
    assert_eq!(env.metric("matyan_ingest_streams_active"), 0.0);
}

#[tokio::test]
async fn draining_waits_for_the_work_of_clients() {
    let env = TestEnv::new().await;
    env.faults.script_appends([Some(AppendFault::Delay(Duration::from_millis(100)))]);
    let mut stream = stream_with(&env, &[]).await.unwrap();
    stream.send(1);
    stream.send(2);
    work_until(&env, &mut stream, "matyan_ws_messages_total", |messages| messages == 2.0).await;
    let idle = stream_with(&env, &[]).await.unwrap();
    let finish = async {
        let ended = stream.finish().await;
        assert_eq!(env.metric("matyan_ingest_in_flight_bytes"), 0.0);
        (ended, idle.finish().await)
    };
    let ((), ((last, busy), (none, idle))) = tokio::join!(env.frontier.drain(), finish);
    assert_eq!((last, none), (2, 0));
    for ended in [busy, idle] {
        let status = ended.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "UNAVAILABLE"));
    }
    assert_eq!(env.entries().await.len(), 2);
    assert_eq!(stream_with(&env, &[]).await.err().unwrap().code(), Code::Unavailable);
}

#[tokio::test]
async fn the_project_of_a_client_must_exist() {
    let env = TestEnv::new().await;
    for (project, code, why) in [
        ("a/b", Code::InvalidArgument, "INVALID_FIELD"),
        ("tema", Code::NotFound, "NOT_FOUND"),
        ("unreadable", Code::Unavailable, "UNAVAILABLE"),
    ] {
        let status = stream_with(&env, &[("matyan-project", project)]).await.err().unwrap();
        assert_eq!((status.code(), reason(&status).as_str()), (code, why), "{project}");
    }
}
