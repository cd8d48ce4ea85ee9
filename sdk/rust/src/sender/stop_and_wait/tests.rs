//! The end of a run on a connection to a scripted server that speaks JSON.

use std::{cell::Cell, path::Path, sync::Arc};

use futures::{SinkExt as _, StreamExt as _};
use matyan_proto::ingest::v1::{AddTag, BlobRef, FinishRun, event::Kind};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async, tungstenite::Message};

use super::*;
use crate::{
    config::{Config, LEAST_SPOOL_BYTES},
    notice::Notices,
    numbering::{Numbering, RunOrigin},
    sender::dialer::ByteStream,
    spool::{directory::Owner, record, store::Spool},
};

const OK: &str = r#"{"status":"ok","error":null}"#;

type ServerSocket = WebSocketStream<TcpStream>;

fn config(root: &TempDir) -> Config {
    let spool_dirs = vec![root.path().to_owned()];
    Config { spool_dirs, spool_bytes: LEAST_SPOOL_BYTES, ..Config::default() }
}

fn new_spool(root: &TempDir) -> Arc<Spool> {
    let owner = Owner::of_this_process("run", "http://h:1", "http://h:2", 1);
    let numbering = Numbering::of_run("http://h:1", "run", RunOrigin::New);
    Arc::new(Spool::create(&config(root), owner, numbering, Notices::default(), None).unwrap())
}

fn tag(length: usize) -> Vec<u8> {
    record::encode_event(Kind::AddTag(AddTag { name: "t".repeat(length) }), 1).unwrap()
}

fn blob_ref() -> Vec<u8> {
    let blob = BlobRef { key: "run/model.bin".into(), path: "model.bin".into(), ..BlobRef::default() };
    record::encode_event(Kind::BlobRef(blob), 1).unwrap()
}

fn close(spool: &Spool) {
    let end = record::encode_event(Kind::FinishRun(FinishRun::default()), 1).unwrap();
    assert!(spool.append_end(1, &end, &end));
    assert_eq!(spool.lost(), 0, "there is space for the end");
    spool.close();
}

async fn connected() -> (ServerSocket, Socket) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        accept_async(stream).await.unwrap()
    };
    let client = async {
        let stream: Box<dyn ByteStream> = Box::new(TcpStream::connect(address).await.unwrap());
        client_async(format!("ws://{address}"), stream).await.unwrap().0
    };
    tokio::join!(server, client)
}

/// Acknowledges the next frame, and returns the types of its messages.
async fn acknowledge(server: &mut ServerSocket) -> Vec<String> {
    let frame = server.next().await.unwrap().unwrap();
    server.send(Message::text(OK)).await.unwrap();
    let type_of = |message: &Value| message["type"].as_str().unwrap().to_owned();
    match serde_json::from_str::<Value>(frame.to_text().unwrap()).unwrap() {
        Value::Array(messages) => messages.iter().map(type_of).collect(),
        message => vec![type_of(&message)],
    }
}

/// Claims the spool of this process again.
fn claim(path: &Path, root: &TempDir) -> Arc<Spool> {
    // A process that another test is starting holds all locks until it executes its program.
    let claimed = std::iter::repeat(()).find_map(|()| {
        std::thread::park_timeout(Duration::from_millis(1));
        Spool::claim(path, &config(root), Notices::default()).unwrap()
    });
    Arc::new(claimed.expect("it is tried without end"))
}

#[tokio::test]
async fn rule_93_the_end_of_a_run_is_its_last_message_whatever_becomes_of_its_uploads() {
    for is_given_up in [false, true] {
        let root = TempDir::new().unwrap();
        let spool = new_spool(&root);
        assert!(spool.append_event(1, 0, &tag(1)));
        close(&spool);
        let mut outbox = Outbox::open(spool.clone()).unwrap();
        let uploads = Cell::new(1);
        let (mut server, client) = connected().await;
        let script = async {
            assert_eq!(acknowledge(&mut server).await, ["add_tag"]);
            if !is_given_up {
                assert_eq!(spool.try_append_upload(1, 1, &blob_ref()), AppendResult::Appended);
                assert_eq!(acknowledge(&mut server).await, ["blob_ref"]);
            }
            uploads.set(0);
            spool.sender_wake.notify_one();
            assert_eq!(acknowledge(&mut server).await, ["finish_run"]);
        };
        let count = || uploads.get();
        let ((end, has_progressed), ()) = tokio::join!(run(client, &mut outbox, &count), script);
        assert_eq!((end, has_progressed), (LinkEnd::Finished, true));
    }
}

#[tokio::test]
async fn rule_93_an_end_that_waits_for_uploads_is_sent_by_the_next_process() {
    let root = TempDir::new().unwrap();
    let spool = new_spool(&root);
    assert!(spool.append_event(1, 0, &tag(1)));
    close(&spool);
    let mut outbox = Outbox::open(spool.clone()).unwrap();
    let (mut server, client) = connected().await;
    let script = async move {
        assert_eq!(acknowledge(&mut server).await, ["add_tag"]);
        // The connection ends while the end of the run waits.
        drop(server);
    };
    let ((end, _), ()) = tokio::join!(run(client, &mut outbox, &|| 1), script);
    assert!(matches!(end, LinkEnd::Lost(_)), "{end:?}");
    let path = spool.path();
    drop((outbox, spool));

    let spool = claim(&path, &root);
    let mut outbox = Outbox::open(spool.clone()).unwrap();
    let (mut server, client) = connected().await;
    let script = async { assert_eq!(acknowledge(&mut server).await, ["finish_run"]) };
    let ((end, _), ()) = tokio::join!(run(client, &mut outbox, &|| 0), script);
    assert_eq!(end, LinkEnd::Finished);
}

#[tokio::test]
async fn rule_93_the_end_of_a_run_does_not_keep_a_full_spool_full() {
    let root = TempDir::new().unwrap();
    let spool = new_spool(&root);
    for event in [tag(10_000), blob_ref()] {
        while spool.try_append_upload(1, 0, &event) == AppendResult::Appended {}
    }
    close(&spool);
    let mut outbox = Outbox::open(spool.clone()).unwrap();
    let uploads = Cell::new(1);
    let (mut server, client) = connected().await;
    let script = async {
        while acknowledge(&mut server).await != ["finish_run"] {}
        // Only now, there is space for the event of the upload.
        while spool.try_append_upload(1, 1, &blob_ref()) == AppendResult::Full {
            time::sleep(PACE).await;
        }
        uploads.set(0);
        assert_eq!(acknowledge(&mut server).await, ["blob_ref"]);
    };
    let count = || uploads.get();
    let ((end, _), ()) = tokio::join!(run(client, &mut outbox, &count), script);
    assert_eq!(end, LinkEnd::Finished);
}
