//! Detection of runs that were deleted on the server: it accepts their data, and stores none of it.

use std::time::Duration;

use matyan_proto::{
    common::v1::LogPosition,
    runs::v1::{GetRequest, GetResponse},
};
use tokio::time;

use crate::{
    clock,
    grpc_web::{self, RequiredPosition},
    http::{HttpClient, HttpError, Timeouts},
    notice::NoticeLevel,
    progress::Delivery,
    spool::store::Spool,
};

/// Longest time that the end of a run waits for the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Interval between looks whether something was sent.
const INTERVAL: Duration = Duration::from_millis(20);
const METHOD: &str = "/matyan.runs.v1.RunService/Get";

/// Interval at which the server is asked while something is sent. A run that is younger is hardly
/// deleted.
pub(crate) const EXAMINATION: Duration = Duration::from_secs(60);

/// Asks as soon as the server has accepted something for a run that existed before, and then once in
/// every interval in which it accepts more.
pub(crate) async fn watch(spool: &Spool, interval: Duration) {
    if spool.owner().is_resumed {
        while spool.is_usable() && spool.progress.delivery().stored_items == 0 {
            time::sleep(INTERVAL).await;
        }
        check(spool).await;
    }
    spool.progress.update(|delivery| delivery.is_existence_known = true);
    let stored = || spool.progress.delivery().stored_items;
    let mut examined = stored();
    while spool.is_usable() && !spool.progress.delivery().is_run_deleted {
        time::sleep(interval).await;
        let stored = stored();
        if std::mem::replace(&mut examined, stored) != stored {
            check(spool).await;
        }
    }
}

/// Asks at the end of a run, unless this process has created it a short time ago.
pub(crate) async fn check_at_end(spool: &Spool) {
    let owner = spool.owner();
    let age_us = clock::now_us().saturating_sub(owner.created_us);
    if owner.is_resumed || !owner.is_own() || u128::from(age_us.unsigned_abs()) > EXAMINATION.as_micros() {
        check(spool).await;
    }
}

/// Reports a run that does not exist although data of it was accepted. A backend that does not
/// answer, or knows no positions, is not waited for.
async fn check(spool: &Spool) {
    let Delivery { log_position, is_run_deleted, .. } = spool.progress.delivery();
    let Some((log, partition, offset)) = log_position.filter(|_| !is_run_deleted) else { return };
    let run_id = &spool.owner().run_id;
    let url = &spool.owner().backend_url;
    let question = async {
        let client = HttpClient::new(url, Timeouts::default())?;
        let request = GetRequest { run_id: run_id.clone(), parts: None };
        let stored = RequiredPosition::of_run(run_id, LogPosition { log, partition, offset });
        grpc_web::unary::<GetResponse>(&client, METHOD, &request, &[stored]).await
    };
    if let Ok(Err(HttpError::NotFound { .. })) = time::timeout(PATIENCE, question).await {
        let message = format!(
            "run {run_id} does not exist at {url}: if it was deleted, its data is lost; track it in a new run"
        );
        spool.notices.push(NoticeLevel::Error, message.clone());
        spool.progress.update(|delivery| {
            delivery.is_run_deleted = true;
            delivery.last_error = Some(message);
        });
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::{notice::Notices, spool::test_spool::spool_in};

    const NOT_FOUND: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc-web+proto\r\ngrpc-status: 5\r\ncontent-length: 0\r\n\r\n";

    #[tokio::test]
    async fn a_new_run_that_is_deleted_while_it_is_tracked_is_reported() {
        let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", backend.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = backend.accept().await {
                assert!(connection.read(&mut [0; 4096]).await.unwrap() > 0);
                connection.write_all(NOT_FOUND).await.unwrap();
            }
        });
        let root = TempDir::new().unwrap();
        let notices = Notices::default();
        let spool = spool_in(&root, &url, &notices);
        let watch = watch(&spool, INTERVAL);
        let store = async {
            for stored_items in 1.. {
                time::sleep(INTERVAL).await;
                spool.progress.update(|delivery| {
                    delivery.stored_items = stored_items;
                    delivery.log_position = Some((1, 0, 1));
                });
            }
        };
        tokio::select! {
            () = watch => {}
            () = store => {}
        }
        assert!(spool.progress.delivery().is_run_deleted);
        assert!(spool.progress.delivery().lost_items() > 0);
        assert_eq!(notices.take().len(), 1);
    }
}
