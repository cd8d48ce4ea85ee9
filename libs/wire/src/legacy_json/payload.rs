//! The payload of an envelope. Texts are truncated to their limits instead of being refused: the
//! frontier of Matyan 0.3 enforced no limits, and its clients do not wait for rejections.

use bytes::Bytes;
use matyan_proto::{common::v1::OutcomeKind, ingest::v1 as pb, ingest::v1::event::Kind};
use matyan_value::{Map, Value, cbor};

use super::member_values::{any_value, context, integer, missing, optional_bool, optional_text};
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
