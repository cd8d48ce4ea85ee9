//! Detection of runs that were deleted on the server: it accepts their data, and stores none of it.

use std::time::Duration;

use matyan_proto::{
    common::v1::LogPosition,
    runs::v1::{GetRequest, GetResponse},
};
use tokio::time;

use crate::{
    grpc_web,
    http::{HttpClient, HttpError, Timeouts},
    notice::NoticeLevel,
    spool::store::Spool,
};

/// Longest time that the end of a run waits for the answer.
const PATIENCE: Duration = Duration::from_secs(2);
const METHOD: &str = "/matyan.runs.v1.RunService/Get";

/// Reports a run that does not exist although all of its data was accepted. A backend that does not
/// answer, or knows no positions, is not waited for.
pub(crate) async fn report(spool: &Spool) {
    let Some((log, partition, offset)) = spool.progress.delivery().log_position else { return };
    let (run_id, url) = (&spool.owner().run_id, &spool.owner().backend_url);
    let question = async {
        let client = HttpClient::new(url, Timeouts::default())?;
        let request = GetRequest { run_id: run_id.clone(), parts: None };
        let position = LogPosition { log, partition, offset };
        grpc_web::unary::<GetResponse>(&client, METHOD, &request, &[position]).await
    };
    if let Ok(Err(HttpError::NotFound { .. })) = time::timeout(PATIENCE, question).await {
        let message = format!("run {run_id} does not exist at {url}: if it was deleted, its data is lost");
        spool.notices.push(NoticeLevel::Error, message);
    }
}
