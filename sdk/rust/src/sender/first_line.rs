//! The number of the first terminal line of a run that existed before. Scripts count lines from 0,
//! so those of a resumed run would replace the earlier ones.

use std::time::{Duration, Instant};

use matyan_proto::logs::v1::{LinesRequest, LinesResponse};
use tokio::time;

use crate::{
    grpc_web,
    http::{HttpClient, HttpError, Timeouts},
    sender::backoff::Backoff,
    spool::directory::Owner,
};

/// Longest time that data waits for this number.
const PATIENCE: Duration = Duration::from_secs(10);
const METHOD: &str = "/matyan.logs.v1.LogService/Lines";

/// Returns the number after the last stored line. If the backend cannot be reached for a while, it is
/// a number that no earlier line can have: the time in seconds.
pub(crate) async fn learn(owner: &Owner) -> i64 {
    let (start, mut backoff) = (Instant::now(), Backoff::default());
    loop {
        match ask(owner).await {
            Ok(first_line) => return first_line,
            // Older servers have no such call, and other errors mean that there is no such run.
            Err(error) if !error.is_temporary() => return 0,
            Err(_) if start.elapsed() > PATIENCE => return owner.created_us / 1_000_000,
            Err(_) => time::sleep(backoff.next_pause()).await,
        }
    }
}

async fn ask(owner: &Owner) -> Result<i64, HttpError> {
    let client = HttpClient::new(&owner.backend_url, Timeouts::default())?;
    let request = LinesRequest { run_id: owner.run_id.clone(), tail: 1, ..LinesRequest::default() };
    let mut lines = grpc_web::server_stream::<LinesResponse>(&client, METHOD, &request, &[]).await?;
    let mut first_line = 0;
    while let Some(answer) = lines.message().await? {
        first_line = answer.last_step.map_or(first_line, |last| last.saturating_add(1));
    }
    Ok(first_line)
}
