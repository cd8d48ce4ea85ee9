//! One connection of a sender to a server that only speaks JSON: each batch is sent after the
//! previous one is stored.

use std::time::Duration;

use matyan_proto::ingest::v1::{IngestionBatch, Rejection};
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
    let rejected = RejectedItems { count: rejected_items(&rejections), first: rejections.first() };
    outbox.acknowledge(cut.sequence, None, rejected)?;
    Ok(())
}

/// Number of items of rejections, which are sorted by item. Each is about one or more adjacent items, and a server may name
/// several problems of an item.
fn rejected_items(rejections: &[Rejection]) -> u32 {
    let mut items = 0_u32;
    // The end of the items that are counted.
    let mut counted = 0_u32;
    for rejection in rejections {
        let end = rejection.item.saturating_add(rejection.count.max(1));
        items = items.saturating_add(end.saturating_sub(rejection.item.max(counted)));
        counted = counted.max(end);
    }
    items
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
mod tests {
    use super::*;

    #[test]
    fn an_item_with_several_problems_is_counted_once() {
        let count = |rejections: &[(u32, u32)]| {
            let rejections: Vec<_> = rejections
                .iter()
                .map(|(item, count)| Rejection { item: *item, count: *count, ..Rejection::default() })
                .collect();
            rejected_items(&rejections)
        };
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[(3, 1), (3, 1), (7, 0)]), 2);
        assert_eq!(count(&[(0, 5), (2, 1), (4, 3), (9, 1)]), 8);
        assert_eq!(count(&[(1, u32::MAX), (2, 1)]), u32::MAX - 1);
    }
}
