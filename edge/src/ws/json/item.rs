//! One message: its members collected by name, then read by its type. The type may appear
//! anywhere, so members are kept as tokens until the object ends; a repeated key replaces the
//! earlier one.

use std::borrow::Cow;

use bytes::Bytes;
use matyan_proto::{
    common::v1::Outcome,
    ingest::v1::{self as pb, event::Kind as EventKind},
};
use matyan_record::MessageType;
use matyan_value::json::{JsonKind, JsonScanner, JsonToken};

use super::convert::{self, Reason};
use super::{ABSENT, Frame, FrameError, Metric, Rejection};

/// Declares the members of all message types: an enum, the names, and the lookup by name.
macro_rules! fields {
    ($($variant:ident $name:literal),+ $(,)?) => {
        #[derive(Clone, Copy)]
        enum Field { $($variant),+ }

        impl Field {
            const COUNT: usize = [$($name),+].len();

            fn name(self) -> &'static str {
                match self { $(Field::$variant => $name),+ }
            }

            fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Field::$variant),)+ _ => None }
            }
        }
    };
}

fields! {
    Type "type", Name "name", Value "value", Step "step", Epoch "epoch", Context "context", Dtype "dtype",
    ClientDatetime "client_datetime", ForceResume "force_resume",
    ParentRunId "parent_run_id", ParentStep "parent_step", Description "description", Archived "archived",
    Experiment "experiment", TagName "tag_name", Line "line", Message "message", Level "level",
    Timestamp "timestamp", LoggerInfo "logger_info", ExtraArgs "extra_args", S3Key "s3_key",
    ArtifactPath "artifact_path", ContentType "content_type", Outcome "outcome",
}

/// The members of one message. Created once per frame: `seen` marks the tokens that belong to
/// the current message.
pub(super) struct Fields<'a> {
    tokens: [JsonToken<'a>; Field::COUNT],
    seen: u32,
    /// Keys of the previous message, each with its quotes and colon, in order. Messages of
    /// a frame are mostly alike: comparing with the expected key is several times faster
    /// than reading one.
    expected: Vec<(&'a str, Option<Field>)>,
}

// One bit of `seen` for each field.
const _: () = assert!(Field::COUNT <= u32::BITS as usize);

/// Why a message is refused.
struct Invalid {
    field: Field,
    reason: Reason,
}

type Convert<'a, T> = fn(&JsonToken<'a>) -> Result<T, Reason>;

impl<'a> Fields<'a> {
    pub(super) fn new() -> Self {
        Fields {
            tokens: [JsonToken::NULL; Field::COUNT],
            seen: 0,
            expected: Vec::with_capacity(Field::COUNT),
        }
    }

    /// Reads an object that begins here.
    fn read(&mut self, scanner: &mut JsonScanner<'a>) -> Result<(), FrameError> {
        self.seen = 0;
        scanner.open();
        let mut more = !scanner.close(b'}');
        for place in 0.. {
            if !more {
                break;
            }
            let field = self.key(scanner, place)?;
            let token = scanner.value()?;
            if let Some(field) = field {
                self.tokens[field as usize] = token;
                self.seen |= 1 << field as u32;
            }
            more = scanner.next_or_close(b'}')?;
        }
        Ok(())
    }

    /// The field named by the key at the scanner's position, which is number `place` in its
    /// message.
    fn key(&mut self, scanner: &mut JsonScanner<'a>, place: usize) -> Result<Option<Field>, FrameError> {
        if let Some((text, field)) = self.expected.get(place)
            && scanner.skip(text)
        {
            return Ok(*field);
        }
        let start = scanner.position();
        let key = scanner.key()?;
        let field = match key.kind {
            JsonKind::Text => Field::from_name(key.text),
            _ => Field::from_name(&key.decode()),
        };
        let read = (scanner.read_since(start), field);
        match self.expected.get_mut(place) {
            Some(expected) => *expected = read,
            None if place < Field::COUNT => self.expected.push(read),
            None => {}
        }
        Ok(field)
    }

    fn get(&self, field: Field) -> Option<&JsonToken<'a>> {
        (self.seen & (1 << field as u32) != 0).then(|| &self.tokens[field as usize])
    }

    /// The member must be there, and may not be null unless `convert` takes it.
    fn required<T>(&self, field: Field, convert: Convert<'a, T>) -> Result<T, Invalid> {
        let token = self.get(field).ok_or(Invalid { field, reason: "required, but missing".into() })?;
        convert(token).map_err(|reason| Invalid { field, reason })
    }

    /// The member must be there, and may be null.
    fn required_or_null<T>(&self, field: Field, convert: Convert<'a, T>) -> Result<Option<T>, Invalid> {
        match self.get(field) {
            Some(token) if token.kind == JsonKind::Null => Ok(None),
            _ => self.required(field, convert).map(Some),
        }
    }

    /// The member may be missing, but may not be null.
    fn optional<T>(&self, field: Field, convert: Convert<'a, T>) -> Result<Option<T>, Invalid> {
        self.get(field).map(|_| self.required(field, convert)).transpose()
    }

    /// The member may be missing or null.
    fn optional_or_null<T>(&self, field: Field, convert: Convert<'a, T>) -> Result<Option<T>, Invalid> {
        self.get(field).map_or(Ok(None), |_| self.required_or_null(field, convert))
    }
}

/// Reads the message object that begins here and files it in `frame`.
pub(super) fn read<'a>(
    scanner: &mut JsonScanner<'a>,
    fields: &mut Fields<'a>,
    item: u32,
    frame: &mut Frame<'a>,
) -> Result<(), FrameError> {
    fields.read(scanner)?;
    if let Err(Invalid { field, reason }) = file(fields, item, frame) {
        frame.rejections.push(Rejection { item, field: field.name().into(), reason });
    }
    Ok(())
}

fn file<'a>(fields: &Fields<'a>, item: u32, frame: &mut Frame<'a>) -> Result<(), Invalid> {
    let name = fields.required(Field::Type, convert::text)?;
    let message_type = MessageType::from_name(&name).ok_or_else(|| unknown_type(&name))?;
    if message_type == MessageType::LogMetric && !is_object_of_metric(fields)? {
        let metric = metric(fields, item)?;
        if frame.metrics.len() == 1 {
            frame.metrics.reserve(USUAL_ITEMS);
        }
        frame.metrics.push(metric);
    } else {
        frame.events.push(event(fields, message_type)?);
        frame.event_items.push(item);
    }
    Ok(())
}

fn unknown_type(name: &str) -> Invalid {
    let reason = format!("no message type is called `{}`", shortened(name));
    Invalid { field: Field::Type, reason: reason.into() }
}

/// Most items that the Python client puts into a frame.
const USUAL_ITEMS: usize = 100;

/// Truncates a name for a response, which has to stay small.
fn shortened(name: &str) -> &str {
    const LONGEST: usize = 64;
    &name[..name.floor_char_boundary(LONGEST)]
}

/// The replay of an archive sends objects as metrics: a `log_metric` whose value is an object of a
/// known kind.
fn is_object_of_metric(fields: &Fields<'_>) -> Result<bool, Invalid> {
    const SINGULAR: [&str; 5] = ["image", "text", "distribution", "audio", "figure"];
    if fields.get(Field::Value).is_none_or(|token| token.kind != JsonKind::Object) {
        return Ok(false);
    }
    let dtype = fields.required_or_null(Field::Dtype, convert::text)?.unwrap_or_default();
    Ok(SINGULAR.contains(&dtype.strip_suffix('s').unwrap_or(&dtype)))
}

fn metric<'a>(fields: &Fields<'a>, item: u32) -> Result<Metric<'a>, Invalid> {
    Ok(Metric {
        item,
        name: fields.required(Field::Name, convert::text)?,
        value: fields.required(Field::Value, convert::float)?,
        step: fields.required_or_null(Field::Step, convert::step)?.unwrap_or(ABSENT),
        epoch: fields.required_or_null(Field::Epoch, convert::step)?.unwrap_or(ABSENT),
        context: fields.required_or_null(Field::Context, convert::context)?.unwrap_or_default(),
        dtype: fields.required_or_null(Field::Dtype, convert::text)?.unwrap_or_default(),
        time_us: fields.required(Field::ClientDatetime, convert::time_us)?,
    })
}

fn event(fields: &Fields<'_>, message_type: MessageType) -> Result<pb::Event, Invalid> {
    let time = match message_type {
        MessageType::CreateRun | MessageType::LogMetric => {
            Some(fields.required(Field::ClientDatetime, convert::time_us)?)
        }
        MessageType::FinishRun | MessageType::LogCustomObject => {
            fields.optional_or_null(Field::ClientDatetime, convert::time_us)?
        }
        MessageType::LogHparams
        | MessageType::SetRunProperty
        | MessageType::AddTag
        | MessageType::RemoveTag
        | MessageType::LogTerminalLine
        | MessageType::LogRecord
        | MessageType::BlobRef
        | MessageType::EditSeries
        | MessageType::DeleteRun => None,
    };
    let kind = match message_type {
        MessageType::CreateRun => EventKind::CreateRun(pb::CreateRun {
            force_resume: fields.optional(Field::ForceResume, convert::boolean)?.unwrap_or(false),
            parent_run_id: fields
                .optional_or_null(Field::ParentRunId, convert::owned_text)?
                .unwrap_or_default(),
            parent_step: fields.optional_or_null(Field::ParentStep, convert::step)?,
            created_us: None,
        }),
        MessageType::FinishRun => EventKind::FinishRun(pb::FinishRun { outcome: outcome(fields)? }),
        MessageType::LogHparams => {
            EventKind::LogParams(pb::LogParams { value: fields.required(Field::Value, convert::map)? })
        }
        MessageType::SetRunProperty => EventKind::SetRunProperty(set_run_property(fields)?),
        MessageType::AddTag => {
            EventKind::AddTag(pb::AddTag { name: fields.required(Field::TagName, convert::owned_text)? })
        }
        MessageType::RemoveTag => EventKind::RemoveTag(pb::RemoveTag {
            name: fields.required(Field::TagName, convert::owned_text)?,
        }),
        MessageType::LogMetric => EventKind::LogObject(log_object_of_metric(fields)?),
        MessageType::LogCustomObject => EventKind::LogObject(log_object(fields)?),
        MessageType::LogTerminalLine => EventKind::LogTerminalLine(pb::LogTerminalLine {
            line: fields.required(Field::Line, convert::owned_text)?,
            step: fields.required(Field::Step, convert::step)?,
        }),
        MessageType::LogRecord => EventKind::LogRecord(log_record(fields)?),
        MessageType::BlobRef => EventKind::BlobRef(blob_ref(fields)?),
        // Only servers write them; clients have calls for them.
        MessageType::EditSeries | MessageType::DeleteRun => return Err(unknown_type(message_type.name())),
    };
    Ok(pb::Event { client_time_us: time, kind: Some(kind) })
}

fn outcome(fields: &Fields<'_>) -> Result<Option<Outcome>, Invalid> {
    let Some(kind) = fields.optional_or_null(Field::Outcome, convert::outcome)? else { return Ok(None) };
    let message = fields.optional_or_null(Field::Message, convert::owned_text)?.unwrap_or_default();
    Ok(Some(Outcome { kind: kind.into(), message }))
}

fn set_run_property(fields: &Fields<'_>) -> Result<pb::SetRunProperty, Invalid> {
    Ok(pb::SetRunProperty {
        name: fields.optional_or_null(Field::Name, convert::owned_text)?,
        description: fields.optional_or_null(Field::Description, convert::owned_text)?,
        archived: fields.optional_or_null(Field::Archived, convert::boolean)?,
        experiment: fields.optional_or_null(Field::Experiment, convert::owned_text)?,
    })
}

fn log_object(fields: &Fields<'_>) -> Result<pb::LogObject, Invalid> {
    Ok(pb::LogObject {
        name: fields.required(Field::Name, convert::owned_text)?,
        value: fields.required(Field::Value, convert::map)?,
        step: fields.optional_or_null(Field::Step, convert::step)?,
        epoch: fields.optional_or_null(Field::Epoch, convert::step)?,
        context: fields.optional_or_null(Field::Context, convert::context)?.unwrap_or_default().into_owned(),
        dtype: fields.optional(Field::Dtype, convert::owned_text)?.unwrap_or_else(|| "custom".into()),
    })
}

/// Same as above, with the members that a metric must have.
fn log_object_of_metric(fields: &Fields<'_>) -> Result<pb::LogObject, Invalid> {
    Ok(pb::LogObject {
        name: fields.required(Field::Name, convert::owned_text)?,
        value: fields.required(Field::Value, convert::map)?,
        step: fields.required_or_null(Field::Step, convert::step)?,
        epoch: fields.required_or_null(Field::Epoch, convert::step)?,
        context: fields.required_or_null(Field::Context, convert::context)?.unwrap_or_default().into_owned(),
        dtype: fields.required(Field::Dtype, convert::owned_text)?,
    })
}

fn log_record(fields: &Fields<'_>) -> Result<pb::LogRecord, Invalid> {
    let bytes = |value: Option<Bytes>| value.unwrap_or_default();
    Ok(pb::LogRecord {
        message: fields.required(Field::Message, convert::owned_text)?,
        level: fields.required(Field::Level, convert::integer)?,
        timestamp: fields.required(Field::Timestamp, convert::float)?,
        logger_info: bytes(fields.optional_or_null(Field::LoggerInfo, convert::list)?),
        extra_args: bytes(fields.optional_or_null(Field::ExtraArgs, convert::map)?),
    })
}

fn blob_ref(fields: &Fields<'_>) -> Result<pb::BlobRef, Invalid> {
    let content_type = fields.optional(Field::ContentType, convert::text)?;
    Ok(pb::BlobRef {
        key: fields.required(Field::S3Key, convert::owned_text)?,
        path: fields.required(Field::ArtifactPath, convert::owned_text)?,
        content_type: content_type.unwrap_or(Cow::Borrowed("application/octet-stream")).into_owned(),
        ..Default::default()
    })
}
