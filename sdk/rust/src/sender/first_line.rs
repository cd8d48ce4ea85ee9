//! The number of the first terminal line of a run that existed before. Scripts count lines from 0,
//! so the lines of a resumed run would replace the earlier lines.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use matyan_proto::{
    common::v1::LogPosition,
    logs::v1::{LinesRequest, LinesResponse},
};
use tokio::time;

use crate::{
    grpc_web::{self, RequiredPosition},
    http::{HttpClient, HttpError, Timeouts},
    locks::lock,
    notice::NoticeLevel,
    per_process::PerProcess,
    sender::backoff::Backoff,
    spool::{directory::Owner, store::Spool},
};

/// Position of the last batch of each run that this process has stored, by gateway and run id. The first free
/// number of a line is read once this batch is applied.
static STORED: PerProcess<Mutex<HashMap<(String, String), LogPosition>>> = PerProcess::new();
/// Maximum number of runs in `STORED`.
const MOST_RUNS: usize = 10_000;

/// Longest time that terminal lines wait for this number while the gateway can be reached.
const PATIENCE: Duration = Duration::from_secs(10);
const METHOD: &str = "/matyan.logs.v1.LogService/Lines";

/// Finds out the number for the lines of a spool.
pub(crate) async fn learn(spool: Arc<Spool>) {
    spool.set_first_line(first_free(&spool, PATIENCE).await);
}

/// Remembers the position of the data that was stored for a run.
pub(crate) fn remember(owner: &Owner, position: LogPosition) {
    let mut stored = lock(STORED.get_or_make(|_| true, Mutex::default));
    let key = key(owner);
    if stored.len() < MOST_RUNS || stored.contains_key(&key) {
        stored.insert(key, position);
    }
}

fn key(owner: &Owner) -> (String, String) {
    (owner.gateway_url.clone(), owner.run_id.clone())
}

/// Returns the number after the last stored line. If the backend cannot answer although the gateway
/// can be reached, it is a number that no earlier line can have: the time in seconds.
async fn first_free(spool: &Spool, patience: Duration) -> i64 {
    let owner = spool.owner();
    let mut connected_at: Option<Instant> = None;
    let mut backoff = Backoff::default();
    let unused = owner.created_us / 1_000_000;
    loop {
        let left = patience.saturating_sub(connected_at.map_or(Duration::ZERO, |at| at.elapsed()));
        // An answer may also begin, and never end.
        match time::timeout(left, ask(owner)).await {
            Ok(Ok(first_line)) => return first_line,
            // Older servers have no such call.
            Ok(Err(HttpError::NotFound { .. } | HttpError::Unsupported { .. })) => return 0,
            Ok(Err(error)) if !error.is_temporary() => {
                let message = format!(
                    "terminal lines are numbered from {unused}, because the last number is unknown: {error}"
                );
                spool.notices.push(NoticeLevel::Warning, message);
                return unused;
            }
            Ok(Err(_)) | Err(_) => {}
        }
        if spool.progress.delivery().is_connected {
            let connected_at = *connected_at.get_or_insert_with(Instant::now);
            if connected_at.elapsed() >= patience {
                return unused;
            }
        }
        time::sleep(backoff.next_pause()).await;
    }
}

async fn ask(owner: &Owner) -> Result<i64, HttpError> {
    let client = HttpClient::new(&owner.backend_url, Timeouts::default())?;
    let request = LinesRequest { run_id: owner.run_id.clone(), tail: 1, ..LinesRequest::default() };
    let stored = STORED.get().and_then(|stored| lock(stored).get(&key(owner)).cloned());
    let after: Vec<_> =
        stored.into_iter().map(|position| RequiredPosition::of_run(&owner.run_id, position)).collect();
    let mut lines = grpc_web::server_stream::<LinesResponse>(&client, METHOD, &request, &after).await?;
    let mut first_line = 0;
    while let Some(answer) = lines.message().await? {
        first_line = answer.last_step.map_or(first_line, |last| last.saturating_add(1));
    }
    Ok(first_line)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        clock,
        config::Config,
        notice::Notices,
        numbering::{Numbering, RunOrigin},
    };

    /// The beginning of an answer that has no end.
    const HEAD: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc-web+proto\r\ntransfer-encoding: chunked\r\n\r\n";

    #[tokio::test]
    async fn rule_74_lines_do_not_wait_for_an_answer_without_end() {
        let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", backend.local_addr().unwrap());
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut connection, _)) = backend.accept().await {
                assert!(connection.read(&mut [0; 4096]).await.unwrap() > 0);
                connection.write_all(HEAD).await.unwrap();
                open.push(connection);
            }
        });
        let root = TempDir::new().unwrap();
        let config = Config { spool_dirs: vec![root.path().to_owned()], ..Config::default() };
        let owner = Owner::of_this_process("run", &url, &url, clock::now_us());
        let unused = owner.created_us / 1_000_000;
        let numbering = Numbering::of_run(&url, "run", RunOrigin::Existing);
        let spool = Spool::create(&config, owner, numbering, Notices::default(), None).unwrap();
        spool.progress.update(|delivery| delivery.is_connected = true);
        assert_eq!(first_free(&spool, Duration::from_millis(50)).await, unused);
    }
}
