//! One connection of a sender to a server that only speaks JSON: each batch is sent after the
//! previous one is stored.

use std::time::Duration;

use matyan_proto::ingest::v1::IngestionBatch;
use prost::Message as _;
use tokio::time;

use crate::{
    sender::{
        exchange::PACE,
        json::JsonSession,
        link::LinkEnd,
        outbox::{Outbox, RejectedItems},
        websocket::Socket,
    },
    spool::cuts::Cut,
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
        if let Err(reason) = deliver(&mut session, outbox, &cut, batch).await {
            break LinkEnd::Lost(reason);
        }
        time::sleep(PACE).await;
    };
    (end, outbox.acknowledged() > acknowledged)
}

async fn deliver(
    session: &mut JsonSession<Socket>,
    outbox: &mut Outbox,
    cut: &Cut,
    batch: bytes::Bytes,
) -> Result<(), String> {
    let batch = IngestionBatch::decode(batch).map_err(|error| error.to_string())?;
    let definitions = outbox.definitions_until(cut);
    let rejections = session.deliver(&batch, &definitions).await.map_err(|error| error.to_string())?;
    let counts = rejections.iter().map(|rejection| rejection.count.max(1));
    let rejected = RejectedItems { count: counts.fold(0, u32::saturating_add), first: rejections.first() };
    outbox.acknowledge(cut.sequence, None, rejected)?;
    Ok(())
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
