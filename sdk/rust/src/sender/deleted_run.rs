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
    progress::Delivery,
    spool::store::Spool,
};

/// Longest time that the end of a run waits for the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Interval between looks whether something was sent.
const INTERVAL: Duration = Duration::from_millis(20);
const METHOD: &str = "/matyan.runs.v1.RunService/Get";

/// Asks once, as soon as the server has accepted something. Only a run that existed before may have
/// been deleted.
pub(crate) async fn watch(spool: &Spool) {
    if spool.owner().is_resumed {
        while spool.is_usable() && spool.progress.delivery().stored_items == 0 {
            time::sleep(INTERVAL).await;
        }
        check(spool).await;
    }
    spool.progress.update(|delivery| delivery.is_existence_known = true);
}

/// Reports a run that does not exist although data of it was accepted. A backend that does not
/// answer, or knows no positions, is not waited for.
pub(crate) async fn check(spool: &Spool) {
    let Delivery { log_position, is_run_deleted, .. } = spool.progress.delivery();
    let Some((log, partition, offset)) = log_position.filter(|_| !is_run_deleted) else { return };
    let (run_id, url) = (&spool.owner().run_id, &spool.owner().backend_url);
    let question = async {
        let client = HttpClient::new(url, Timeouts::default())?;
        let request = GetRequest { run_id: run_id.clone(), parts: None };
        let position = LogPosition { log, partition, offset };
        grpc_web::unary::<GetResponse>(&client, METHOD, &request, &[position]).await
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
