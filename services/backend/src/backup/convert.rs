//! Conversion between stored and transferred run content. All input of a restore is validated
//! here, one error per field.

use matyan_model::{
    artifact::Artifact,
    ids::ProducerId,
    logs::LogRecord,
    object::{Object, ObjectHeader},
    producer::{Definition, Mark, dictionary_pages},
    run::{Outcome, Props},
    series::{ABSENT, MetricHeader, Points},
};
use matyan_proto::{
    backup::v1::{self as pb, piece::Content},
    limits,
};
use matyan_value::{Context, cbor};

use crate::server::{
    convert::check_limit,
    error::{Error, Result},
};

pub(super) fn head_view(props: &Props) -> pb::RunHead {
    // All properties are named, so that the compiler reports a new one.
    let Props {
        run_id,
        name,
        description,
        created_us,
        updated_us,
        finalized_us,
        archived,
        active,
        // Of these, the caller adds what the archive has.
        experiment: _,
        tags: _,
        parent: _,
        client_start_us,
        first_start_us,
        duration_us,
        is_implicit,
        is_given_up,
        reopened_us,
        outcome,
        binned_us,
        client,
        // A hidden run is in the bin, or is not backed up.
        pending_delete: _,
        // The archive has the params.
        is_without_param_rows: _,
    } = props.clone();
    pb::RunHead {
        run_id,
        name,
        description,
        created_us,
        updated_us,
        finalized_us,
        archived,
        active,
        client_started_us: client_start_us,
        first_started_us: first_start_us,
        duration_us,
        implicit: is_implicit,
        given_up: is_given_up,
        reopened_us,
        outcome: outcome.as_ref().map(Outcome::to_api),
        binned_us,
        client: client.unwrap_or_default(),
        // The caller adds these.
        experiment: None,
        tags: Vec::new(),
        parent: None,
        params: bytes::Bytes::new(),
        last_data_us: 0,
        cursor: None,
        quarantine: None,
    }
}

/// The props without links to other runs and entities.
pub(super) fn props(run_id: &str, head: &pb::RunHead, now_us: i64) -> Result<Props> {
    check_limit("head.name", head.name.len(), limits::NAME_BYTES)?;
    check_limit("head.description", head.description.len(), limits::DESCRIPTION_BYTES)?;
    check_limit("head.client", head.client.len(), limits::CLIENT_BYTES)?;
    let message = head.outcome.as_ref().map_or(0, |outcome| outcome.message.len());
    check_limit("head.outcome.message", message, limits::DESCRIPTION_BYTES)?;
    Ok(Props {
        run_id: run_id.to_owned(),
        name: head.name.clone(),
        description: head.description.clone(),
        created_us: head.created_us,
        updated_us: head.updated_us,
        finalized_us: head.finalized_us,
        archived: head.archived,
        active: head.active,
        client_start_us: head.client_started_us,
        first_start_us: head.first_started_us,
        duration_us: head.duration_us,
        is_implicit: head.implicit,
        is_given_up: head.given_up,
        reopened_us: head.reopened_us,
        outcome: head.outcome.as_ref().and_then(Outcome::from_api),
        client: Some(head.client.clone()).filter(|client| !client.is_empty()),
        pending_delete: head.binned_us.is_some(),
        // Its week in the bin starts again: the original week may be over, and the run would be purged at
        // once.
        binned_us: head.binned_us.map(|_| now_us),
        // The caller adds the links, and the model sets the rest.
        experiment: None,
        tags: Vec::new(),
        parent: None,
        is_without_param_rows: false,
    })
}

/// The 32-byte identifier of the source content.
pub(super) fn source(bytes: &[u8]) -> Result<[u8; 32]> {
    bytes.try_into().map_err(|_| Error::field("source", "does not have 32 bytes"))
}

fn context(text: &str) -> Result<Context> {
    check_limit("context", text.len(), limits::CONTEXT_BYTES)?;
    Context::parse(text).map_err(|error| Error::field("context", error.to_string()))
}

/// Validates name, context and type of a series.
pub(super) fn series(name: &str, context_text: &str, dtype: &str) -> Result<Context> {
    check_limit("name", name.len(), limits::NAME_BYTES)?;
    check_limit("dtype", dtype.len(), limits::DTYPE_BYTES)?;
    context(context_text)
}

pub(super) fn points_view(header: &MetricHeader, points: Points) -> Content {
    let column =
        |column: Vec<i64>| if column.iter().all(|value| *value == ABSENT) { Vec::new() } else { column };
    Content::Points(pb::Points {
        name: header.name.clone(),
        context: header.context.clone(),
        dtype: header.dtype.clone(),
        steps: points.steps,
        values: points.values,
        epochs: column(points.epochs),
        times_us: column(points.times_us),
    })
}

pub(super) fn points(points: pb::Points) -> Result<Points> {
    let count = points.steps.len();
    let filled = |field, column: Vec<i64>| match column.len() {
        0 => Ok(vec![ABSENT; count]),
        length if length == count => Ok(column),
        length => Err(Error::field(field, format!("has {length} entries for {count} steps"))),
    };
    if points.values.len() != count {
        return Err(Error::field(
            "points.values",
            format!("has {} entries for {count} steps", points.values.len()),
        ));
    }
    Ok(Points {
        steps: points.steps,
        values: points.values,
        epochs: filled("points.epochs", points.epochs)?,
        times_us: filled("points.times_us", points.times_us)?,
    })
}

pub(super) fn object_view(header: &ObjectHeader, object: &Object, value: bytes::Bytes) -> Content {
    Content::Object(pb::Object {
        name: header.name.clone(),
        context: header.context.clone(),
        dtype: header.dtype.clone(),
        step: object.step,
        epoch: object.epoch,
        time_us: object.time_us,
        value,
    })
}

pub(super) fn object_check(object: &pb::Object) -> Result<()> {
    check_limit("object.value", object.value.len(), limits::BATCH_BYTES)?;
    let decoded = cbor::decode(&object.value).map(drop);
    decoded.map_err(|error| Error::field("object.value", error.to_string()))
}

pub(super) fn log_record_view(record: LogRecord) -> Content {
    Content::Record(pb::LogRecord {
        message: record.message,
        level: record.level,
        timestamp: record.timestamp,
        logger_info: record.logger_info.into(),
        extra_args: record.extra_args.into(),
    })
}

pub(super) fn log_record(record: pb::LogRecord) -> Result<LogRecord> {
    let parts = [("record.logger_info", &record.logger_info), ("record.extra_args", &record.extra_args)];
    for (field, value) in parts.iter().filter(|(_, value)| !value.is_empty()) {
        cbor::decode(value).map_err(|error| Error::field(field, error.to_string()))?;
    }
    let size = record.message.len() + record.logger_info.len() + record.extra_args.len();
    check_limit("record", size, limits::LOG_BYTES)?;
    Ok(LogRecord {
        message: record.message,
        level: record.level,
        timestamp: record.timestamp,
        logger_info: record.logger_info.to_vec(),
        extra_args: record.extra_args.to_vec(),
    })
}

pub(super) fn artifact_view(path: String, artifact: Artifact) -> Content {
    Content::Artifact(pb::Artifact {
        path,
        blob_key: artifact.blob_key,
        content_type: artifact.content_type,
        size: artifact.size,
        content_hash: artifact.hash.map(|hash| hash.to_vec()).unwrap_or_default().into(),
        time_us: artifact.time_us,
    })
}

pub(super) fn artifact(artifact: pb::Artifact) -> Result<(String, Artifact)> {
    if artifact.path.is_empty() {
        return Err(Error::field("artifact.path", "is empty"));
    }
    check_limit("artifact.path", artifact.path.len(), limits::ARTIFACT_PATH_BYTES)?;
    check_limit("artifact.blob_key", artifact.blob_key.len(), limits::BLOB_REFERENCE_BYTES)?;
    check_limit("artifact.content_type", artifact.content_type.len(), limits::CONTENT_TYPE_BYTES)?;
    let stored = Artifact {
        blob_key: artifact.blob_key,
        content_type: artifact.content_type,
        size: artifact.size,
        hash: artifact.content_hash.as_ref().try_into().ok(),
        time_us: artifact.time_us,
    };
    Ok((artifact.path, stored))
}

fn producer_id(bytes: &[u8]) -> Result<ProducerId> {
    bytes.try_into().map(ProducerId).map_err(|_| Error::field("producer.id", "does not have 16 bytes"))
}

pub(super) fn producer_view(producer: ProducerId, mark: Mark) -> Content {
    Content::Producer(pb::Producer {
        id: producer.0.to_vec().into(),
        sequence: mark.sequence,
        items: mark.items,
        seen_us: mark.seen_us,
    })
}

pub(super) fn producer(producer: &pb::Producer) -> Result<(ProducerId, Mark)> {
    let mark = Mark { sequence: producer.sequence, items: producer.items, seen_us: producer.seen_us };
    Ok((producer_id(&producer.id)?, mark))
}

/// Splits definitions into pieces that each fit in a row.
pub(super) fn dictionary_view(
    producer: ProducerId,
    definitions: &[Definition],
) -> impl Iterator<Item = Content> + '_ {
    let pages = dictionary_pages(0, definitions).into_iter().filter(|(_, count)| *count > 0);
    pages.map(move |(first, count)| {
        let page = definitions[first as usize..first as usize + count].iter();
        let definitions = page
            .map(|one| pb::Definition {
                name: one.name.clone(),
                context: one.context.clone(),
                dtype: one.dtype.clone(),
            })
            .collect();
        Content::Dictionary(pb::Dictionary { producer: producer.0.to_vec().into(), first, definitions })
    })
}

pub(super) fn dictionary(dictionary: pb::Dictionary) -> Result<(ProducerId, u32, Vec<Definition>)> {
    let producer = producer_id(&dictionary.producer)?;
    let end = (dictionary.first as usize).saturating_add(dictionary.definitions.len());
    check_limit("dictionary.definitions", end, limits::SERIES_PER_RUN)?;
    let definitions = dictionary.definitions.into_iter();
    let definitions =
        definitions.map(|pb::Definition { name, context, dtype }| Definition { name, context, dtype });
    Ok((producer, dictionary.first, definitions.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_accepted_by_ingestion_can_be_restored() {
        let run = "r".repeat(limits::RUN_ID_BYTES);
        let path = "p".repeat(limits::ARTIFACT_PATH_BYTES);
        let of = |blob_key| pb::Artifact { path: path.clone(), blob_key, ..pb::Artifact::default() };
        let longest = format!("{run}/{path}");
        assert_eq!(longest.len(), limits::BLOB_REFERENCE_BYTES);
        assert_eq!(artifact(of(longest.clone())).unwrap().1.blob_key, longest);
        artifact(of(longest + "x")).unwrap_err();
    }
}
