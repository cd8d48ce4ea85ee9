//! Acknowledged positions identify their log, even after it was recreated: a reader that
//! presents one waits for the record at that position, and not for one of the previous log.

use matyan_proto::common::v1::LogPosition;
use matyan_tests::{
    Server, Service,
    position::{lines_after, publish},
};

#[tokio::test]
async fn rule_01_acknowledged_positions_name_their_log() {
    let mut server = Server::up().await;
    for number in 0..3 {
        // A restart alone keeps the log.
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

/// A separate frontier has no store to look up the number of the log, and does not guess it.
#[tokio::test]
async fn rule_01_a_separate_frontier_does_not_name_its_log() {
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
