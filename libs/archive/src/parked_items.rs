//! The lines of a run's parked items.

use matyan_proto::backup::v1 as pb;

use super::{Fields, JsonObject, Result};

pub(super) fn parked_fields(item: &pb::ParkedItem) -> Fields {
    let fields = Fields::default()
        .unsigned("number", item.number.into())
        .text("reason", &item.reason)
        .time("received_at", item.received_us)
        .text("content", &hex::encode(&item.content));
    match &item.record {
        Some(record) => fields.set("record", record_fields(record).value()),
        None => fields,
    }
}

fn record_fields(record: &pb::ParkedRecord) -> Fields {
    let fields = Fields::default()
        .text("caller", &record.caller)
        .bool("is_envelope", record.envelope)
        .unsigned("first_item", record.first_item.into());
    let Some(origin) = &record.origin else { return fields };
    let sent = Fields::default()
        .text("producer", &hex::encode(&origin.producer))
        .unsigned("sequence", origin.sequence)
        .unsigned("acknowledged", origin.acknowledged)
        .bool("is_ephemeral", origin.ephemeral);
    let sent = match &origin.part {
        Some(part) => sent
            .unsigned("first", part.first.into())
            .unsigned("count", part.count.into())
            .unsigned("total", part.total.into()),
        None => sent,
    };
    fields.set("origin", sent.value())
}

pub(super) fn parked_item(line: &JsonObject) -> Result<pb::ParkedItem> {
    Ok(pb::ParkedItem {
        number: line.number("number")?,
        reason: line.text("reason")?.unwrap_or_default(),
        received_us: line.time("received_at")?.unwrap_or_default(),
        content: line.bytes("content")?.into(),
        record: line.inner("record")?.map(|record| parked_record(&record)).transpose()?,
    })
}

fn parked_record(record: &JsonObject) -> Result<pb::ParkedRecord> {
    let origin = record.inner("origin")?.map(|origin| {
        let part = origin.get("total").is_some().then(|| {
            Ok::<_, super::Error>(pb::BatchPart {
                first: origin.number("first")?,
                count: origin.number("count")?,
                total: origin.number("total")?,
            })
        });
        Ok::<_, super::Error>(pb::RecordOrigin {
            producer: origin.bytes("producer")?.into(),
            sequence: origin.number("sequence")?,
            acknowledged: origin.number("acknowledged")?,
            ephemeral: origin.bool("is_ephemeral")?.unwrap_or_default(),
            part: part.transpose()?,
        })
    });
    Ok(pb::ParkedRecord {
        caller: record.text("caller")?.unwrap_or_default(),
        envelope: record.bool("is_envelope")?.unwrap_or_default(),
        first_item: record.number("first_item")?,
        origin: origin.transpose()?,
    })
}
