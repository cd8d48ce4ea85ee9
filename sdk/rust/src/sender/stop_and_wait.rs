//! One connection of a sender to a server that only speaks JSON: each batch is sent after the
//! previous one is stored.

use std::time::Duration;

use matyan_proto::ingest::v1::{Event, IngestionBatch};
use prost::Message as _;
use tokio::time;

use crate::{
    sender::{
        exchange::{PACE, report_rejections},
        json::{self, JsonSession},
        link::LinkEnd,
        outbox::Outbox,
        websocket::Socket,
    },
    spool::{cuts::Cut, writer::AppendResult},
};

/// Longest wait for records before the state of the run is examined.
const EXAMINATION: Duration = Duration::from_secs(1);

/// Sends batches until the connection ends or nothing is left to do. Servers of this kind ping, so
/// silence needs no attention.
pub(crate) async fn run(socket: Socket, outbox: &mut Outbox, uploads: &dyn Fn() -> usize) -> (LinkEnd, bool) {
    outbox.reconnect();
    let acknowledged = outbox.acknowledged();
    let mut session = JsonSession::new(socket);
    let end = loop {
        if outbox.is_finished(uploads) {
            session.close().await;
            break LinkEnd::Finished;
        }
        let next = outbox.next_frame().map(|frame| frame.map(|frame| (frame.cut, frame.batch.clone())));
        let (cut, batch) = match next {
            Ok(Some(next)) => next,
            Ok(None) => match wait(&mut session, outbox).await {
                Ok(()) => continue,
                Err(reason) => break LinkEnd::Lost(reason),
            },
            Err(error) => break LinkEnd::Journal(error.to_string()),
        };
        if let Err(reason) = deliver(&mut session, outbox, uploads, &cut, batch).await {
            break LinkEnd::Lost(reason);
        }
        time::sleep(PACE).await;
    };
    (end, outbox.acknowledged() > acknowledged)
}

async fn deliver(
    session: &mut JsonSession<Socket>,
    outbox: &mut Outbox,
    uploads: &dyn Fn() -> usize,
    cut: &Cut,
    batch: bytes::Bytes,
) -> Result<(), String> {
    let batch = IngestionBatch::decode(batch).map_err(|error| error.to_string())?;
    let definitions = outbox.definitions_until(cut);
    let mut rejections = session.deliver(&batch, &definitions).await.map_err(|error| error.to_string())?;
    // Of several ends, the last one was appended again, and equals the others.
    if let Some(end) = batch.events.iter().rfind(|event| json::is_end(event))
        && !postpone_end(session, outbox, uploads, &batch, end).await?
    {
        rejections.extend(session.deliver_end(end).await.map_err(|error| error.to_string())?);
    }
    if let Some(first) = rejections.first() {
        let items = rejections.iter().map(|rejection| rejection.count.max(1)).sum();
        report_rejections(outbox, items, Some(first));
    }
    outbox.acknowledge(cut.sequence, None);
    Ok(())
}

/// Holds the end of a run back until it is the last message. An end that is not alone in its batch, or that something
/// follows, is appended to the spool again, so that what came with it is acknowledged and not sent again. An end that
/// is alone waits until no file is left to upload, because uploads announce themselves with events. Returns whether
/// the end was appended again. In a full spool, neither it nor those events have a place before the batch of the end
/// is acknowledged, so the end is sent at once.
async fn postpone_end(
    session: &mut JsonSession<Socket>,
    outbox: &Outbox,
    uploads: &dyn Fn() -> usize,
    batch: &IngestionBatch,
    end: &Event,
) -> Result<bool, String> {
    let is_alone = batch.points.is_empty() && batch.events.iter().all(json::is_end);
    loop {
        // The number of uploads comes first: the last one appends its event before it is done.
        let is_uploading = uploads() > 0;
        let has_more = outbox.has_more();
        if outbox.spool().with_writer(|writer| writer.is_full()) {
            return Ok(false);
        }
        if has_more || !is_alone {
            let result = outbox.spool().try_append_end_again(&end.encode_to_vec());
            return Ok(result == AppendResult::Appended);
        }
        if !is_uploading {
            return Ok(false);
        }
        wait(session, outbox).await?;
    }
}

/// Waits until there may be something to send, and answers pings while it waits.
async fn wait(session: &mut JsonSession<Socket>, outbox: &Outbox) -> Result<(), String> {
    let spool = outbox.spool().clone();
    let read = outbox.read_position();
    let longest = if spool.with_writer(|writer| writer.sleep_sender(read)) { EXAMINATION } else { PACE };
    tokio::select! {
        () = spool.sender_wake.notified() => Ok(()),
        () = time::sleep(longest) => Ok(()),
        error = session.idle() => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
