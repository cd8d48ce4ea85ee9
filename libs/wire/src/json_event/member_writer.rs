//! The writer of members. An event and a point are written with it.

use std::fmt::Write as _;

use matyan_proto::ingest::v1 as pb;
use matyan_value::{
    datetime::UtcTime,
    json::{self, JsonStyle},
};

use super::member::Member;
use crate::columns::entry;

/// The recipient of the members.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MessageForm {
    /// A message for a server of Matyan 0.3.
    Client,
    /// An item of the log, for a worker of any version. Its frame arrived at `received_us`.
    Envelope { received_us: i64 },
}

/// A field and the reason why JSON cannot represent its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwritable {
    /// Name of the field in protobuf.
    pub field: &'static str,
    pub reason: &'static str,
}

impl MessageForm {
    fn style(self) -> JsonStyle {
        match self {
            // Python reads ASCII, and names for numbers that are not finite.
            Self::Client => JsonStyle::CANONICAL,
            Self::Envelope { .. } => JsonStyle::ENVELOPE,
        }
    }
}

/// Writes the members of a JSON object, without its braces.
pub(crate) struct MemberWriter<'o> {
    pub(crate) out: &'o mut String,
    pub(crate) form: MessageForm,
    /// Whether the next member is the first one.
    pub(crate) is_empty: bool,
}

impl MemberWriter<'_> {
    pub(crate) fn separate(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(',');
        }
    }

    fn key(&mut self, member: Member) {
        self.separate();
        self.out.push('"');
        self.out.push_str(member.name());
        self.out.push_str("\":");
    }

    pub(crate) fn text(&mut self, member: Member, text: &str) {
        self.key(member);
        json::write_text(self.out, text, self.form.style());
    }

    pub(super) fn optional_text(&mut self, member: Member, text: Option<&str>) {
        if let Some(text) = text {
            self.text(member, text);
        }
    }

    pub(crate) fn bool(&mut self, member: Member, bool: bool) {
        self.key(member);
        self.out.push_str(if bool { "true" } else { "false" });
    }

    pub(crate) fn integer(&mut self, member: Member, integer: Option<i64>) {
        self.key(member);
        match integer {
            Some(integer) => write!(self.out, "{integer}").expect("writing to memory does not fail"),
            None => self.out.push_str("null"),
        }
    }

    pub(super) fn float(&mut self, member: Member, float: f64) {
        self.key(member);
        json::write_float(self.out, float, self.form.style());
    }

    pub(super) fn cbor(&mut self, member: Member, cbor: &[u8]) -> Result<(), Unwritable> {
        self.key(member);
        json::write_cbor(self.out, cbor, self.form.style())
            .map_err(|_| Unwritable { field: member.name(), reason: "not a value in CBOR" })
    }

    pub(super) fn optional_cbor(&mut self, member: Member, cbor: &[u8]) -> Result<(), Unwritable> {
        if cbor.is_empty() { Ok(()) } else { self.cbor(member, cbor) }
    }

    /// Writes params with one root key.
    pub(crate) fn params(&mut self, params: &matyan_value::Map) {
        self.key(Member::Value);
        self.out.push_str(&json::map_text(params, self.form.style()));
    }

    /// Writes a time as Python's `isoformat` does. Python supports the years 1 to 9999; for another
    /// time, an envelope has the time of its frame.
    pub(crate) fn time(&mut self, us: Option<i64>) -> Result<(), Unwritable> {
        let time = us.and_then(UtcTime::from_us);
        let time = match self.form {
            MessageForm::Client => time.ok_or(Unwritable {
                field: "client_time_us",
                reason: "this server needs a time between the years 1 and 9999",
            })?,
            MessageForm::Envelope { received_us } => {
                time.or_else(|| UtcTime::from_us(received_us)).unwrap_or(UtcTime::EPOCH)
            }
        };
        self.key(Member::ClientDatetime);
        self.out.push('"');
        self.out.push_str(&time.isoformat());
        self.out.push('"');
        Ok(())
    }

    pub(super) fn optional_time(&mut self, us: Option<i64>) -> Result<(), Unwritable> {
        if us.is_some() { self.time(us) } else { Ok(()) }
    }

    /// Writes context and type of a series.
    pub(crate) fn context_and_dtype(
        &mut self,
        context: &str,
        dtype: &str,
        default_dtype: &str,
    ) -> Result<(), Unwritable> {
        self.key(Member::Context);
        match (context, self.form) {
            ("", _) => self.out.push_str("null"),
            // Contexts are JSON already.
            (context, MessageForm::Client) => self.out.push_str(context),
            (context, MessageForm::Envelope { .. }) => json::write_strict(self.out, context)
                .map_err(|_| Unwritable { field: "context", reason: "not JSON" })?,
        }
        self.text(Member::Dtype, if dtype.is_empty() { default_dtype } else { dtype });
        Ok(())
    }

    /// Writes value, step and epoch of a point.
    pub(crate) fn point(&mut self, group: &pb::Points, at: usize) -> Result<(), Unwritable> {
        let value = group.values.get(at);
        self.float(
            Member::Value,
            *value.ok_or(Unwritable { field: "values", reason: "shorter than `series`" })?,
        );
        self.integer(Member::Step, entry(&group.steps, at));
        self.integer(Member::Epoch, entry(&group.epochs, at));
        Ok(())
    }
}
