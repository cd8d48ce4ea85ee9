//! Outbox for the control topic: an event is written in the transaction that it describes. A
//! publisher copies events to the topic and then clears them, so that no event is lost;
//! handlers may see one more than once.

use matyan_proto::log::v1::{ControlEvent, control_event};
use matyan_store::{Batch, Key, Result, Scan, Snapshot, Value};
use prost::Message;

use crate::{keys, rows};

/// Adds an event. Its id is the digest of its content, so a repeated event has the same id.
/// `project` is the name of the project.
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
    batch.set_stamped(keys::outbox_prefix(), suffix, rows::with_format(&event.encode_to_vec()));
}

/// The oldest unpublished events, with their keys. An event is `None` if its row is damaged.
pub async fn events_list(snapshot: &dyn Snapshot, rows: usize) -> Result<Vec<(Key, Option<ControlEvent>)>> {
    let page = snapshot.scan(&keys::outbox(), Scan { rows, ..Scan::default() }).await?;
    let decoded = page.rows.into_iter().map(|(key, value)| {
        let event = rows::readable(decode(&key, &value))?;
        Ok((key, event))
    });
    decoded.collect()
}

fn decode(key: &Key, value: &Value) -> Result<ControlEvent> {
    let body = if is_of_format_2(value) { &value[..] } else { rows::body(key, value)? };
    ControlEvent::decode(body).map_err(|error| rows::corrupt(key, &error))
}

/// Whether this is an event without a format byte, as in stores of format 2. Such an event starts with
/// its id. The event needs no migration, because it is published and cleared.
fn is_of_format_2(value: &[u8]) -> bool {
    /// Tag of the first field, with a length before its content.
    const ID: u8 = 1 << 3 | 2;
    value.first() == Some(&ID)
}

#[cfg(test)]
mod tests {
    use control_event::Kind;
    use matyan_proto::log::v1::RunDeleted;

    use super::*;
    use crate::testing::TestStore;
    use matyan_store::Store;

    #[tokio::test]
    async fn rule_44_events_of_format_2_are_published() {
        let store = TestStore::open().await;
        let kind = Kind::RunDeleted(RunDeleted { run_id: "r".into(), ..RunDeleted::default() });
        let mut batch = Batch::default();
        event_put(&mut batch, "", 5, "", kind.clone());
        store.commit(batch).await.unwrap();
        let new = events_list(&*store.snapshot().await.unwrap(), 9).await.unwrap();
        let new_event = new[0].1.as_ref().unwrap();
        assert_eq!(new_event.kind, Some(kind));
        let mut batch = Batch::default();
        batch.set_stamped(keys::outbox_prefix(), "old", new_event.encode_to_vec());
        batch.clear(new[0].0.clone());
        store.commit(batch).await.unwrap();
        let old = events_list(&*store.snapshot().await.unwrap(), 9).await.unwrap();
        assert_eq!((old.len(), &old[0].1), (1, &new[0].1));
    }
}
