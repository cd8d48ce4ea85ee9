//! Acknowledged positions name the log that they belong to, also after it was made anew: a reader that brings one waits for
//! the record that stands there, and not for one of the log before.

use matyan_proto::common::v1::LogPosition;
use matyan_tests::{
    Server, Service,
    position::{lines_after, publish},
};

#[tokio::test]
async fn rule_01_acknowledged_positions_name_their_log() {
    let mut server = Server::up().await;
    for number in 0..3 {
        // A started server has the log that it had.
        for start in 0..2_i64 {
            let step = i64::from(number) * 2 + start;
            let position = publish(&server.ingest, step).await;
            assert_eq!((position.log, position.offset), (number, start as u64));
            let unknown = LogPosition { log: LogPosition::UNKNOWN_LOG, ..position };
            assert_eq!(lines_after(&server.query, unknown).await.map(|lines| lines as i64), Ok(step + 1));
            assert_eq!(lines_after(&server.query, position).await.map(|lines| lines as i64), Ok(step + 1));
            assert!(server.terminate().await.success(), "{}", server.log());
            if start == 1 {
                std::fs::remove_dir_all(server.data_dir().join("log")).expect("the log can be removed");
            }
            server.start().await;
        }
    }
}

/// It has no store to look into, and does not guess.
#[tokio::test]
async fn rule_01_a_frontier_apart_names_no_log() {
    let folder = tempfile::tempdir().expect("the temporary directory is writable");
    let data_dir = folder.path().join("data");
    let mut frontier = Service::new("frontier", folder.path())
        .flag("log", "embedded:")
        .flag("blobs", "embedded:")
        .flag("data-dir", data_dir.to_str().expect("the path is text"));
    frontier.start().await;
    let position = publish(frontier.address("ingest"), 0).await;
    assert_eq!((position.log, position.offset), (LogPosition::UNKNOWN_LOG, 0));
}
