//! The payload of an envelope. Texts are truncated to their limits instead of being refused: the
//! frontier of Matyan 0.3 enforced no limits, and its clients do not wait for rejections.

use bytes::Bytes;
use matyan_proto::{common::v1::OutcomeKind, ingest::v1 as pb, ingest::v1::event::Kind};
use matyan_value::{Context, Map, Value, cbor, datetime};

use crate::{
    MessageType,
    json_event::{
        member::Member,
        read::{MemberSource, Presence},
        series_edit,
    },
};

/// The payload of an envelope of a run. Errors name the member.
pub(crate) struct Payload<'a> {
    pub(crate) run_id: &'a str,
    pub(crate) members: Map,
}

impl MemberSource for Payload<'_> {
    type Invalid = String;

    fn missing(member: Member) -> String {
        missing(member.name())
    }

    fn text(&mut self, member: Member, _: Presence, limit: usize) -> Result<Option<String>, String> {
        let mut text = optional_text(&mut self.members, member.name())?;
        if let Some(long) = text.as_mut().filter(|text| text.len() > limit) {
            let run = self.run_id;
            let name = member.name();
            let bytes = long.len();
            tracing::warn!(run, name, bytes, most = limit, "truncated a text to its limit");
            long.truncate(long.floor_char_boundary(limit));
        }
        Ok(text)
    }

    fn integer(&mut self, member: Member, _: Presence) -> Result<Option<i64>, String> {
        integer(&self.members, member.name())
    }

    fn step(&mut self, member: Member, presence: Presence) -> Result<Option<i64>, String> {
        self.integer(member, presence)
    }

    fn boolean(&mut self, member: Member, _: Presence) -> Result<Option<bool>, String> {
        optional_bool(&self.members, member.name())
    }

    fn flag(&mut self, member: Member) -> Result<bool, String> {
        Ok(matches!(self.members.get(member.name()), Some(Value::Bool(true))))
    }

    fn float(&mut self, member: Member) -> Result<f64, String> {
        match self.members.get(member.name()) {
            Some(Value::Float(float)) => Ok(*float),
            Some(Value::Integer(integer)) => Ok(*integer as f64),
            _ => Err(format!("`{}` is not a number", member.name())),
        }
    }

    fn context(&mut self, _: Presence) -> Result<String, String> {
        context(&self.members)
    }

    fn map(&mut self, member: Member) -> Result<Bytes, String> {
        match self.members.get(member.name()) {
            Some(Value::Map(value)) => Ok(cbor::encode_map(value).into()),
            _ => Err(format!("`{}` is not an object", member.name())),
        }
    }

    /// Reads one object, or a list, which Matyan 0.3 does not write.
    fn objects(&mut self, member: Member) -> Result<Bytes, String> {
        match self.members.get(member.name()) {
            Some(list @ Value::List(objects)) if objects.iter().all(|it| matches!(it, Value::Map(_))) => {
                Ok(cbor::encode(list).into())
            }
            _ => self.map(member),
        }
    }

    fn optional_map(&mut self, member: Member) -> Result<Bytes, String> {
        Ok(any_value(&self.members, member.name()))
    }

    fn optional_list(&mut self, member: Member) -> Result<Bytes, String> {
        Ok(any_value(&self.members, member.name()))
    }

    /// Reads the kind of an outcome. As in a protobuf message, a kind that a later version may add
    /// counts as none.
    fn outcome_kind(&mut self) -> Result<Option<OutcomeKind>, String> {
        let name = optional_text(&mut self.members, Member::Outcome.name())?;
        Ok(name.and_then(|name| OutcomeKind::from_name(&name)))
    }

    fn server_integer(&mut self, member: Member) -> Result<Option<i64>, String> {
        integer(&self.members, member.name())
    }

    fn server_event(&mut self, message_type: MessageType) -> Result<Kind, String> {
        if message_type == MessageType::EditSeries {
            return Ok(Kind::EditSeries(series_edit::read(&mut self.members)?));
        }
        Ok(Kind::DeleteRun(pb::DeleteRun {}))
    }
}

/// Reads a time in ISO 8601, or in Unix seconds as a number or text.
pub(crate) fn microseconds(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(seconds) => datetime::from_number(*seconds as f64),
        Value::Float(seconds) => datetime::from_number(*seconds),
        Value::Text(text) => datetime::parse(text),
        _ => None,
    }
}

pub(crate) fn text_of(map: &mut Map, name: &str) -> Result<String, String> {
    optional_text(map, name)?.ok_or_else(|| missing(name))
}

pub(crate) fn optional_text(map: &mut Map, name: &str) -> Result<Option<String>, String> {
    match map.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` is not a text")),
    }
}

pub(crate) fn optional_bool(map: &Map, name: &str) -> Result<Option<bool>, String> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(bool)) => Ok(Some(*bool)),
        Some(_) => Err(format!("`{name}` is not true or false")),
    }
}

pub(crate) fn integer(map: &Map, name: &str) -> Result<Option<i64>, String> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Integer(integer)) => Ok(Some(*integer)),
        Some(_) => Err(format!("`{name}` is not an integer of 64 bits")),
    }
}

fn missing(name: &str) -> String {
    format!("`{name}` is missing")
}

/// Returns the canonical text of a context.
pub(crate) fn context(map: &Map) -> Result<String, String> {
    match map.get(Member::Context.name()) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::Map(context)) => Ok(Context::new(context).stored().to_owned()),
        Some(_) => Err("`context` is not an object".to_owned()),
    }
}

/// Returns a value as CBOR, which is empty for no value.
fn any_value(map: &Map, name: &str) -> Bytes {
    match map.get(name) {
        None | Some(Value::Null) => Bytes::new(),
        Some(value) => cbor::encode(value).into(),
    }
}
