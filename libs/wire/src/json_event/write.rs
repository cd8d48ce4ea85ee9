//! The writer of events.

use matyan_proto::ingest::v1::{self as pb, event::Kind};

use super::{
    member::Member,
    member_writer::{MemberWriter, MessageForm, Unwritable},
    series_edit,
};
use crate::headers::UNKNOWN_TYPE;

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
