//! Everything that a script tracks besides points: params, properties, tags, logs and objects.

use matyan_proto::{
    ingest::v1::{
        AddTag, LogObject, LogParams, LogRecord, LogTerminalLine, RemoveTag, SetRunProperty, event::Kind,
    },
    limits,
};
use matyan_value::{Context, Map, Value, cbor};

use crate::{clock, error::ArgumentError, run::Run};

/// Properties of a run; absent properties stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    pub name: Option<String>,
    pub description: Option<String>,
    pub archived: Option<bool>,
    pub experiment: Option<String>,
}

/// A record of a script's logging.
#[derive(Clone, Copy, Debug)]
pub struct LoggingRecord<'a> {
    pub message: &'a str,
    /// 10 debug, 20 info, 30 warning, 40 error.
    pub level: i64,
    /// Unix seconds.
    pub timestamp: f64,
    /// File and line of the call.
    pub logger_info: Option<(&'a str, i64)>,
    pub extra_args: Option<&'a Map>,
}

/// An object of a sequence, or several at the same step: text, image, audio, distribution, figure, or
/// another type.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    pub name: &'a str,
    pub context: &'a Context,
    pub dtype: &'a str,
    /// Absent: the next free step of the sequence.
    pub step: Option<i64>,
    pub epoch: Option<i64>,
    /// Microseconds since the Unix epoch. Absent: now.
    pub time_us: Option<i64>,
    /// One map for each object, at least one.
    pub values: &'a [Map],
}

impl Run {
    /// Sets params. Nested maps with a single key each form a path; the first value that is not such a map
    /// replaces the params at that path.
    pub fn set_params(&self, params: &Map) -> Result<(), ArgumentError> {
        let value = cbor::encode_map(params);
        check_size("params", value.len(), limits::PARAMS_BYTES)?;
        self.append_kind(Kind::LogParams(LogParams { value: value.into() }))
    }

    /// Sets properties of the run.
    pub fn set_properties(&self, properties: Properties) -> Result<(), ArgumentError> {
        let Properties { name, description, archived, experiment } = properties;
        for (argument, text, most) in [
            ("name", &name, limits::NAME_BYTES),
            ("description", &description, limits::DESCRIPTION_BYTES),
            ("experiment", &experiment, limits::NAME_BYTES),
        ] {
            ArgumentError::check_length(argument, text.as_deref().unwrap_or_default(), most)?;
        }
        self.append_kind(Kind::SetRunProperty(SetRunProperty { name, description, archived, experiment }))
    }

    /// Adds a tag, which is created if it does not exist.
    pub fn add_tag(&self, name: &str) -> Result<(), ArgumentError> {
        ArgumentError::check_name("tag", name, limits::NAME_BYTES)?;
        self.append_kind(Kind::AddTag(AddTag { name: name.to_owned() }))
    }

    /// Removes a tag from the run.
    pub fn remove_tag(&self, name: &str) -> Result<(), ArgumentError> {
        ArgumentError::check_length("tag", name, limits::NAME_BYTES)?;
        self.append_kind(Kind::RemoveTag(RemoveTag { name: name.to_owned() }))
    }

    /// Stores a record of the script's logging.
    pub fn log_record(&self, record: LoggingRecord<'_>) -> Result<(), ArgumentError> {
        let place = record.logger_info.map(|(file, line)| {
            cbor::encode(&Value::List(vec![Value::Text(file.to_owned()), Value::Integer(line)]))
        });
        let extra_args = record.extra_args.map(cbor::encode_map).unwrap_or_default();
        check_size("message", record.message.len() + extra_args.len(), limits::LOG_BYTES)?;
        self.append_kind(Kind::LogRecord(LogRecord {
            message: record.message.to_owned(),
            level: record.level,
            timestamp: record.timestamp,
            logger_info: place.unwrap_or_default().into(),
            extra_args: extra_args.into(),
        }))
    }

    /// Stores a line of terminal output. `line` counts from 0 in this process, and in forked
    /// children from any number; the same number replaces the line.
    pub fn terminal_line(&self, text: &str, line: i64) -> Result<(), ArgumentError> {
        check_size("text", text.len(), limits::LOG_BYTES)?;
        self.append_kind(Kind::LogTerminalLine(LogTerminalLine {
            line: text.to_owned(),
            step: self.line_number(line),
        }))
    }

    /// Stores objects without payloads.
    pub fn log_object(&self, object: &Object<'_>) -> Result<(), ArgumentError> {
        let time_us = object.time_us.unwrap_or_else(clock::now_us);
        let step = self.object_step(object.name, object.context, object.step);
        let object = Object { step, ..object.clone() };
        self.append_kind_at(Kind::LogObject(object.to_event()?), time_us)
    }
}

impl Object<'_> {
    /// Checks the object against the limits of the server.
    pub(crate) fn to_event(&self) -> Result<LogObject, ArgumentError> {
        ArgumentError::check_name("name", self.name, limits::NAME_BYTES)?;
        ArgumentError::check_length("context", self.context.canonical(), limits::CONTEXT_BYTES)?;
        ArgumentError::check_length("dtype", self.dtype, limits::DTYPE_BYTES)?;
        let value = match self.values {
            [] => return Err(ArgumentError::new("values", "expected at least one object")),
            [value] => cbor::encode_map(value),
            values => cbor::encode(&Value::List(values.iter().cloned().map(Value::Map).collect())),
        };
        Ok(LogObject {
            name: self.name.to_owned(),
            context: self.context.stored().to_owned(),
            dtype: self.dtype.to_owned(),
            step: self.step,
            epoch: self.epoch,
            value: value.into(),
        })
    }
}

fn check_size(argument: &'static str, bytes: usize, most: usize) -> Result<(), ArgumentError> {
    if bytes <= most {
        return Ok(());
    }
    Err(ArgumentError::new(argument, format!("expected at most {most} bytes, found {bytes}")))
}
