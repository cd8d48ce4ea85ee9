//! The writer of events and points.

use std::fmt::Write as _;

use matyan_proto::ingest::v1::{self as pb, event::Kind};
use matyan_value::{
    datetime::UtcTime,
    json::{self, JsonStyle},
};

use super::{member::Member, series_edit};
use crate::{columns::entry, headers::UNKNOWN_TYPE};

/// Reader of the members.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MessageForm {
    /// A server of Matyan 0.3 that gets the message of a client.
    Client,
    /// A worker of any version, which gets the item of a frame that arrived at `received_us`.
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

    fn optional_text(&mut self, member: Member, text: Option<&str>) {
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

    fn float(&mut self, member: Member, float: f64) {
        self.key(member);
        json::write_float(self.out, float, self.form.style());
    }

    fn cbor(&mut self, member: Member, cbor: &[u8]) -> Result<(), Unwritable> {
        self.key(member);
        json::write_cbor(self.out, cbor, self.form.style())
            .map_err(|_| Unwritable { field: member.name(), reason: "not a value in CBOR" })
    }

    fn optional_cbor(&mut self, member: Member, cbor: &[u8]) -> Result<(), Unwritable> {
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

    fn optional_time(&mut self, us: Option<i64>) -> Result<(), Unwritable> {
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

/// Writes the members of an event. Members that Matyan 0.3 does not know are only in envelopes.
pub(crate) fn write_event(
    kind: &Kind,
    time: Option<i64>,
    object: &mut MemberWriter<'_>,
) -> Result<(), Unwritable> {
    let is_envelope = matches!(object.form, MessageForm::Envelope { .. });
    match kind {
        Kind::CreateRun(create) => {
            object.time(time)?;
            object.bool(Member::ForceResume, create.force_resume);
            if is_envelope && create.created_us.is_some() {
                object.integer(Member::CreatedUs, create.created_us);
            }
            if is_envelope && !create.client.is_empty() {
                object.text(Member::Client, &create.client);
            }
            if !create.parent_run_id.is_empty() {
                object.text(Member::ParentRunId, &create.parent_run_id);
                object.integer(Member::ParentStep, create.parent_step);
            }
        }
        Kind::FinishRun(finish) => {
            object.optional_time(time)?;
            if let Some(outcome) = finish.outcome.as_ref().filter(|_| is_envelope) {
                object.optional_text(Member::Outcome, outcome.kind().name());
                object.text(Member::Message, &outcome.message);
            }
        }
        Kind::SetRunProperty(set) => {
            object.optional_text(Member::Name, set.name.as_deref());
            object.optional_text(Member::Description, set.description.as_deref());
            if let Some(archived) = set.archived {
                object.bool(Member::Archived, archived);
            }
            object.optional_text(Member::Experiment, set.experiment.as_deref());
        }
        Kind::AddTag(pb::AddTag { name }) | Kind::RemoveTag(pb::RemoveTag { name }) => {
            object.text(Member::TagName, name);
        }
        Kind::LogParams(params) => object.cbor(Member::Value, &params.value)?,
        Kind::LogObject(logged) => {
            object.text(Member::Name, &logged.name);
            object.cbor(Member::Value, &logged.value)?;
            object.integer(Member::Step, logged.step);
            object.integer(Member::Epoch, logged.epoch);
            object.context_and_dtype(&logged.context, &logged.dtype, "custom")?;
            object.optional_time(time)?;
        }
        Kind::LogTerminalLine(line) => {
            object.text(Member::Line, &line.line);
            object.integer(Member::Step, Some(line.step));
        }
        Kind::LogRecord(record) => {
            object.text(Member::Message, &record.message);
            object.integer(Member::Level, Some(record.level));
            object.float(Member::Timestamp, record.timestamp);
            object.optional_cbor(Member::LoggerInfo, &record.logger_info)?;
            object.optional_cbor(Member::ExtraArgs, &record.extra_args)?;
        }
        Kind::BlobRef(blob) => {
            object.text(Member::S3Key, &blob.key);
            object.text(Member::ArtifactPath, &blob.path);
            let is_unknown = is_envelope && blob.content_type.is_empty();
            object.text(Member::ContentType, if is_unknown { UNKNOWN_TYPE } else { &blob.content_type });
        }
        Kind::EditSeries(edit) if is_envelope => series_edit::write(edit, object),
        Kind::DeleteRun(_) if is_envelope => {}
        Kind::EditSeries(_) | Kind::DeleteRun(_) => {
            return Err(Unwritable {
                field: "kind",
                reason: "a server without the binary protocol does not know it",
            });
        }
    }
    Ok(())
}
