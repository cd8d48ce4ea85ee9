//! Outbox for the control topic: an event is written in the transaction that it describes. A
//! publisher copies events to the topic and then clears them, so that no event is lost;
//! handlers may see one more than once.

use matyan_proto::log::v1::{ControlEvent, control_event};
use matyan_store::{Batch, Key, Result, Scan, Snapshot};
use prost::Message;

use crate::{keys, rows};

/// Adds an event. Its id is the digest of its content, so writing the same event again yields
/// the same id. `project` is the name of the project.
pub fn event_put(batch: &mut Batch, project: &str, time_us: i64, caller: &str, kind: control_event::Kind) {
    let mut event = ControlEvent {
        id: Default::default(),
        time_us,
        project: project.to_owned(),
        caller: caller.to_owned(),
        kind: Some(kind),
    };
    // The digest covers the event with an empty id.
    event.id = blake3::hash(&event.encode_to_vec()).as_bytes()[..16].to_vec().into();
    let suffix = event.id.clone();
    batch.set_stamped(keys::outbox_prefix(), suffix, event.encode_to_vec());
}

/// The oldest unpublished events, with their keys.
pub async fn events_list(snapshot: &dyn Snapshot, rows: usize) -> Result<Vec<(Key, ControlEvent)>> {
    let page = snapshot.scan(&keys::outbox(), Scan { rows, ..Scan::default() }).await?;
    let decoded = page.rows.into_iter().map(|(key, value)| match ControlEvent::decode(value) {
        Ok(event) => Ok((key, event)),
        Err(error) => Err(rows::corrupt(&key, &error)),
    });
    decoded.collect()
}
