//! JSON form of the parts of a project that belong to no run: entities, settings, tombstones,
//! log positions.

use matyan_proto::{
    backup::v1::{self as pb, entity::Kind, note::Owner},
    common::v1 as common,
    metrics::v1::{GoalDirection, GoalSummary, NumberFormat},
};
use matyan_value::{Value, cbor, json};
use prost::Message as _;

use super::{Error, Fields, JsonObject, Result};

/// Returns the type of an entity and its line.
pub(crate) fn entity_line(entity: &pb::Entity) -> (&'static str, String) {
    let (kind, data) = entity_data(entity);
    (kind, Fields::default().text("entity_type", kind).set("data", data.value()).json())
}

fn entity_data(entity: &pb::Entity) -> (&'static str, Fields) {
    let data = Fields::default().text("id", &entity.id);
    let data = data.time("created_at", entity.created_us).time("updated_at", entity.updated_us);
    match &entity.kind {
        Some(Kind::Experiment(of)) => (
            "experiment",
            data.text("name", &of.name).text("description", &of.description).bool("is_archived", of.archived),
        ),
        Some(Kind::Tag(of)) => (
            "tag",
            data.text("name", &of.name)
                .text("color", &of.color)
                .text("description", &of.description)
                .bool("is_archived", of.archived),
        ),
        Some(Kind::Dashboard(of)) => (
            "dashboard",
            data.text("name", &of.name)
                .text("description", &of.description)
                .bool("is_archived", of.archived)
                .optional_text("app_id", of.app_id.as_deref()),
        ),
        Some(Kind::App(of)) => (
            "dashboard_app",
            data.text("type", &of.r#type)
                .exact("state", cbor::decode(&of.state).unwrap_or(Value::Null))
                .optional_text("dashboard_id", of.dashboard_id.as_deref()),
        ),
        Some(Kind::Report(of)) => (
            "report",
            data.text("name", &of.name).text("code", &of.code).text("description", &of.description),
        ),
        Some(Kind::Document(of)) => ("document", data.text("content", &hex::encode(&of.content))),
        Some(Kind::Note(of)) => ("note", note_data(data, of)),
        None => ("unknown", data),
    }
}

fn note_data(data: Fields, note: &pb::Note) -> Fields {
    let data = data.text("content", &note.content);
    match &note.owner {
        Some(Owner::RunId(run_id)) => data.text("run_hash", run_id),
        Some(Owner::Experiment(link)) => {
            data.text("experiment_id", &link.id).text("experiment_name", &link.name)
        }
        None => data,
    }
}

/// Parses an entity. Returns `None` for an unknown kind, which an archive of another version
/// may contain.
pub(crate) fn entity(line: &JsonObject, now_us: i64) -> Result<Option<pb::Entity>> {
    let data = line.inner("data")?.ok_or_else(|| line.error("`data` is missing"))?;
    let text = |key: &str| Ok::<_, Error>(data.text(key)?.unwrap_or_default());
    let archived = || Ok::<_, Error>(data.bool("is_archived")?.unwrap_or_default());
    let kind = match line.required_text("entity_type")?.as_str() {
        "experiment" => Kind::Experiment(pb::Experiment {
            name: data.required_text("name")?,
            description: text("description")?,
            archived: archived()?,
        }),
        "tag" => Kind::Tag(pb::Tag {
            name: data.required_text("name")?,
            color: text("color")?,
            description: text("description")?,
            archived: archived()?,
        }),
        "dashboard" => Kind::Dashboard(pb::Dashboard {
            name: text("name")?,
            description: text("description")?,
            archived: archived()?,
            app_id: data.text("app_id")?,
        }),
        "dashboard_app" => Kind::App(pb::App {
            r#type: text("type")?,
            state: cbor::encode(&state(&data)?).into(),
            dashboard_id: data.text("dashboard_id")?,
        }),
        "report" => Kind::Report(pb::Report {
            name: text("name")?,
            code: text("code")?,
            description: text("description")?,
        }),
        "document" => Kind::Document(pb::Document { content: data.bytes("content")?.into() }),
        "note" => Kind::Note(note(&data)?),
        _ => return Ok(None),
    };
    let created_us = data.time("created_at")?.unwrap_or(now_us);
    Ok(Some(pb::Entity {
        id: data.required_text("id")?,
        created_us,
        updated_us: data.time("updated_at")?.unwrap_or(created_us),
        kind: Some(kind),
    }))
}

/// Parses the state of an app, which may be JSON text inside JSON.
fn state(data: &JsonObject) -> Result<Value> {
    let state = match data.exact("state")? {
        None | Some(Value::Null) => return Ok(Value::Map(Default::default())),
        Some(Value::Text(text)) => {
            json::parse(&text).map_err(|error| data.error(format!("`state`: {error}")))?
        }
        Some(state) => state,
    };
    match state {
        Value::Map(_) => Ok(state),
        _ => Err(data.error("`state` is not an object")),
    }
}

fn note(data: &JsonObject) -> Result<pb::Note> {
    let owner = match (data.text("run_hash")?, data.text("experiment_id")?) {
        (Some(run_id), _) => Some(Owner::RunId(run_id)),
        (None, Some(id)) => {
            let name = data.text("experiment_name")?.unwrap_or_default();
            Some(Owner::Experiment(pb::Link { id, name }))
        }
        (None, None) => None,
    };
    Ok(pb::Note { content: data.text("content")?.unwrap_or_default(), owner })
}

pub(crate) fn settings_fields(settings: &pb::Settings) -> Fields {
    let pinned = settings.pinned.iter().filter_map(|pinned| common::SeriesKey::decode(pinned.as_ref()).ok());
    let pinned =
        pinned.map(|key| Fields::default().text("name", &key.name).text("context", &key.context).value());
    let fields = Fields::default()
        .text("name", &settings.name)
        .text("description", &settings.description)
        .set("pinned_sequences", Value::List(pinned.collect()));
    if settings.metric_goals.is_empty() && settings.primary_metric.is_empty() {
        return fields;
    }
    fields
        .set("metric_goals", Value::List(settings.metric_goals.iter().map(goal_value).collect()))
        .text("primary_metric", &settings.primary_metric)
}

fn goal_value(goal: &pb::MetricGoal) -> Value {
    let fields = Fields::default().text("name", &goal.name);
    let fields = fields.set("set", goal_fields(goal.set.as_ref()).value());
    fields.set("defined", goal_fields(goal.defined.as_ref()).value()).value()
}

/// The fields of a goal that are known, with the names of their values.
fn goal_fields(fields: Option<&pb::GoalFields>) -> Fields {
    let Some(goal) = fields else { return Fields::default() };
    let mut fields = Fields::default();
    let known = [
        ("direction", goal.direction, goal.direction().as_str_name()),
        ("summary", goal.summary, goal.summary().as_str_name()),
        ("format", goal.format, goal.format().as_str_name()),
    ];
    for (key, number, name) in known {
        if number != 0 {
            fields = fields.text(key, name);
        }
    }
    for (key, text) in [("unit", &goal.unit), ("x_axis", &goal.x_axis)] {
        if !text.is_empty() {
            fields = fields.text(key, text);
        }
    }
    fields
}

fn goal_of(record: &JsonObject) -> Result<pb::MetricGoal> {
    let fields = |key: &str| record.inner(key)?.map(|fields| goal_fields_of(&fields)).transpose();
    Ok(pb::MetricGoal {
        name: record.required_text("name")?,
        set: fields("set")?,
        defined: fields("defined")?,
    })
}

/// The fields of a goal. A value of a later version is left out, like an entity of an unknown kind.
fn goal_fields_of(record: &JsonObject) -> Result<pb::GoalFields> {
    let text = |key: &str| Ok::<_, Error>(record.text(key)?.unwrap_or_default());
    Ok(pb::GoalFields {
        direction: GoalDirection::from_str_name(&text("direction")?).unwrap_or_default().into(),
        summary: GoalSummary::from_str_name(&text("summary")?).unwrap_or_default().into(),
        format: NumberFormat::from_str_name(&text("format")?).unwrap_or_default().into(),
        unit: text("unit")?,
        x_axis: text("x_axis")?,
    })
}

pub(crate) fn settings(record: &JsonObject) -> Result<pb::Settings> {
    let mut pinned = Vec::new();
    for key in record.list("pinned_sequences")? {
        let name = key.required_text("name")?;
        let context = key.text("context")?.unwrap_or_default();
        pinned.push(common::SeriesKey { name, context }.encode_to_vec().into());
    }
    let text = |key: &str| Ok::<_, Error>(record.text(key)?.unwrap_or_default());
    let metric_goals = record.list("metric_goals")?.iter().map(goal_of).collect::<Result<_>>()?;
    Ok(pb::Settings {
        name: text("name")?,
        description: text("description")?,
        pinned,
        metric_goals,
        primary_metric: text("primary_metric")?,
    })
}

fn position(fields: Fields, at: common::LogPosition) -> Fields {
    let fields = fields.unsigned("log", at.log.into()).unsigned("partition", at.partition.into());
    fields.unsigned("offset", at.offset)
}

fn position_of(record: &JsonObject) -> Result<common::LogPosition> {
    Ok(common::LogPosition {
        log: record.number("log")?,
        partition: record.number("partition")?,
        offset: record.number("offset")?,
    })
}

pub(crate) fn cursor_fields(cursor: &pb::Cursor) -> Fields {
    position(Fields::default(), cursor.position.unwrap_or_default()).unsigned("item", cursor.item.into())
}

pub(crate) fn cursor(record: &JsonObject) -> Result<pb::Cursor> {
    Ok(pb::Cursor { position: Some(position_of(record)?), item: record.number("item")? })
}

pub(crate) fn tombstone_line(tombstone: &pb::Tombstone) -> String {
    let at = position(Fields::default(), tombstone.at.unwrap_or_default()).value();
    let fields = Fields::default().text("run_hash", &tombstone.run_id).set("at", at);
    let fields = fields.time("deleted_at", tombstone.deleted_us);
    match &tombstone.cursor {
        Some(cursor) => fields.set("cursor", cursor_fields(cursor).value()).json(),
        None => fields.json(),
    }
}

pub(crate) fn tombstone(record: &JsonObject) -> Result<pb::Tombstone> {
    Ok(pb::Tombstone {
        run_id: record.required_text("run_hash")?,
        at: record.inner("at")?.map(|at| position_of(&at)).transpose()?,
        deleted_us: record.time("deleted_at")?.unwrap_or_default(),
        cursor: record.inner("cursor")?.map(|at| cursor(&at)).transpose()?,
    })
}

pub(crate) fn cut_fields(cut: &pb::Cut) -> Fields {
    let applied = cut.applied.iter().map(|applied| {
        let fields = Fields::default()
            .unsigned("partition", applied.partition.into())
            .unsigned("log", applied.log.into())
            .unsigned("next", applied.next);
        let fields = fields.optional_unsigned("begins", applied.begins);
        match applied.last_offset {
            None => fields.value(),
            Some(offset) => fields
                .unsigned("last_offset", offset)
                .text("digest", &hex::encode(&applied.digest))
                .time("appended_at", applied.appended_us)
                .value(),
        }
    });
    Fields::default()
        .unsigned("number", cut.log.into())
        .optional_unsigned("first_number", cut.first_number.map(u64::from))
        .text("numbering", &hex::encode(&cut.numbering))
        .text("identity", &hex::encode(&cut.identity))
        .unsigned("partitions", cut.partitions.into())
        .set("applied", Value::List(applied.collect()))
}

pub(crate) fn cut(record: &JsonObject) -> Result<pb::Cut> {
    let applied = record.list("applied")?.into_iter().map(|applied| {
        Ok(pb::Applied {
            partition: applied.number("partition")?,
            log: applied.number("log")?,
            next: applied.number("next")?,
            last_offset: applied.unsigned("last_offset")?,
            digest: applied.bytes("digest")?.into(),
            appended_us: applied.time("appended_at")?.unwrap_or_default(),
            begins: applied.unsigned("begins")?,
        })
    });
    Ok(pb::Cut {
        log: record.number("number")?,
        identity: record.bytes("identity")?.into(),
        partitions: record.number("partitions")?,
        applied: applied.collect::<Result<_>>()?,
        // The reader sets this from the filters in the manifest.
        filtered: false,
        first_number: record.get("first_number").map(|_| record.number("first_number")).transpose()?,
        numbering: record.bytes("numbering")?.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parsed(text: &str) -> JsonObject {
        JsonObject::parse(Path::new("x"), 1, text).unwrap()
    }

    #[test]
    fn entities_round_trip() {
        let kinds = [
            Kind::Experiment(pb::Experiment { name: "e\n".into(), description: "d".into(), archived: true }),
            Kind::Tag(pb::Tag {
                name: "t".into(),
                color: "#fff".into(),
                description: "".into(),
                archived: false,
            }),
            Kind::Dashboard(pb::Dashboard {
                name: "b".into(),
                app_id: Some("a".into()),
                ..Default::default()
            }),
            Kind::App(pb::App {
                r#type: "x".into(),
                state: vec![0xa1, 0x61, b'k', 0x41, 1].into(),
                dashboard_id: None,
            }),
            Kind::Report(pb::Report { name: "r".into(), code: "# c".into(), description: "".into() }),
            Kind::Document(pb::Document { content: b"{\"a\":1}\xff".to_vec().into() }),
            Kind::Note(pb::Note { content: "n".into(), owner: Some(Owner::RunId("r".into())) }),
            Kind::Note(pb::Note {
                content: "n".into(),
                owner: Some(Owner::Experiment(pb::Link { id: "e".into(), name: "E".into() })),
            }),
        ];
        for kind in kinds {
            let made = pb::Entity { id: "i".into(), created_us: i64::MAX, updated_us: 7, kind: Some(kind) };
            assert_eq!(entity(&parsed(&entity_line(&made).1), 0).unwrap(), Some(made));
        }
    }

    #[test]
    fn settings_round_trip() {
        let set = pb::GoalFields {
            direction: GoalDirection::Higher.into(),
            summary: GoalSummary::Best.into(),
            format: NumberFormat::Percent.into(),
            unit: "%".into(),
            x_axis: "epoch".into(),
        };
        let defined = pb::GoalFields { direction: GoalDirection::Lower.into(), ..Default::default() };
        let goal = pb::MetricGoal { name: "val/acc".into(), set: Some(set), defined: Some(defined) };
        let made = pb::Settings {
            name: "n".into(),
            description: "d".into(),
            pinned: Vec::new(),
            metric_goals: vec![goal],
            primary_metric: "val/acc".into(),
        };
        assert_eq!(settings(&parsed(&settings_fields(&made).json())).unwrap(), made);
        assert_eq!(settings(&parsed("{}")).unwrap(), pb::Settings::default());
        let later = r#"{"metric_goals":[{"name":"m","set":{"direction":"GOAL_DIRECTION_SIDEWAYS"}}]}"#;
        let read = settings(&parsed(later)).unwrap();
        assert_eq!(read.metric_goals[0].set, Some(pb::GoalFields::default()));
    }

    #[test]
    fn positions_and_tombstones_round_trip() {
        let at = common::LogPosition { log: 1, partition: 2, offset: u64::MAX };
        let applied = pb::Applied {
            partition: 3,
            log: 1,
            next: 9,
            last_offset: Some(8),
            digest: vec![7; 16].into(),
            appended_us: 1_700_000_000_000_001,
            begins: Some(4),
        };
        let identity = vec![5; 16].into();
        let applied = vec![applied];
        let made = pb::Cut { log: 1, identity, partitions: 6, applied, ..pb::Cut::default() };
        assert_eq!(cut(&parsed(&cut_fields(&made).json())).unwrap(), made);
        let made = pb::Cut { first_number: Some(0), numbering: vec![6; 16].into(), ..made };
        assert_eq!(cut(&parsed(&cut_fields(&made).json())).unwrap(), made);
        let cursor = Some(pb::Cursor { position: Some(at), item: 4 });
        let made = pb::Tombstone { run_id: "r".into(), at: Some(at), deleted_us: 5, cursor };
        assert_eq!(tombstone(&parsed(&tombstone_line(&made))).unwrap(), made);
    }
}
