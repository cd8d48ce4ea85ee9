//! The reader of events.

use bytes::Bytes;
use matyan_proto::{
    common::v1::{Outcome, OutcomeKind},
    ingest::v1::{self as pb, event::Kind},
    limits,
};

use super::member::Member;
use crate::{MessageType, headers::UNKNOWN_TYPE};

/// Whether a client must send a member, and whether the member may be null.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Presence {
    Required,
    RequiredOrNull,
    Optional,
    OptionalOrNull,
}

/// Limit of a text without a limit.
const UNLIMITED: usize = usize::MAX;

/// The members of one message, and how strictly they are read.
pub(crate) trait MemberSource {
    /// A member that is missing or has an invalid value.
    type Invalid;

    fn missing(member: Member) -> Self::Invalid;

    /// Reads a text. `limit` applies to sources that the frontier does not check.
    fn text(
        &mut self,
        member: Member,
        presence: Presence,
        limit: usize,
    ) -> Result<Option<String>, Self::Invalid>;

    fn integer(&mut self, member: Member, presence: Presence) -> Result<Option<i64>, Self::Invalid>;

    /// Reads a step or an epoch.
    fn step(&mut self, member: Member, presence: Presence) -> Result<Option<i64>, Self::Invalid>;

    fn boolean(&mut self, member: Member, presence: Presence) -> Result<Option<bool>, Self::Invalid>;

    /// Reads a boolean that is false if it is missing.
    fn flag(&mut self, member: Member) -> Result<bool, Self::Invalid>;

    fn float(&mut self, member: Member) -> Result<f64, Self::Invalid>;

    /// Reads a context as JSON text, which is empty for no context.
    fn context(&mut self, presence: Presence) -> Result<String, Self::Invalid>;

    /// Reads a free-form map as CBOR.
    fn map(&mut self, member: Member) -> Result<Bytes, Self::Invalid>;

    /// Reads the objects of a step as CBOR.
    fn objects(&mut self, member: Member) -> Result<Bytes, Self::Invalid>;

    /// Reads a free-form map as CBOR, which is empty if the member is missing.
    fn optional_map(&mut self, member: Member) -> Result<Bytes, Self::Invalid>;

    /// Reads a free-form list as CBOR, which is empty if the member is missing.
    fn optional_list(&mut self, member: Member) -> Result<Bytes, Self::Invalid>;

    fn outcome_kind(&mut self) -> Result<Option<OutcomeKind>, Self::Invalid>;

    /// Reads a member that only servers write. Clients can set it without an effect.
    fn server_integer(&mut self, member: Member) -> Result<Option<i64>, Self::Invalid>;

    /// Reads an event that only servers write.
    fn server_event(&mut self, message_type: MessageType) -> Result<Kind, Self::Invalid>;

    fn required_text(&mut self, member: Member, limit: usize) -> Result<String, Self::Invalid> {
        self.text(member, Presence::Required, limit)?.ok_or_else(|| Self::missing(member))
    }

    fn required_integer(&mut self, member: Member) -> Result<i64, Self::Invalid> {
        self.integer(member, Presence::Required)?.ok_or_else(|| Self::missing(member))
    }

    fn required_step(&mut self, member: Member) -> Result<i64, Self::Invalid> {
        self.step(member, Presence::Required)?.ok_or_else(|| Self::missing(member))
    }
}

/// Reads an event of the given type. A `log_metric` is the event of its object.
pub(crate) fn read_event<S: MemberSource>(
    source: &mut S,
    message_type: MessageType,
) -> Result<Kind, S::Invalid> {
    Ok(match message_type {
        MessageType::CreateRun => Kind::CreateRun(create_run(source)?),
        MessageType::FinishRun => Kind::FinishRun(pb::FinishRun { outcome: outcome(source)? }),
        MessageType::SetRunProperty => Kind::SetRunProperty(set_run_property(source)?),
        MessageType::AddTag => Kind::AddTag(pb::AddTag { name: tag_name(source)? }),
        MessageType::RemoveTag => Kind::RemoveTag(pb::RemoveTag { name: tag_name(source)? }),
        MessageType::LogHparams => Kind::LogParams(pb::LogParams { value: source.map(Member::Value)? }),
        MessageType::LogCustomObject => Kind::LogObject(log_object(source)?),
        MessageType::LogMetric => Kind::LogObject(log_object_of_metric(source)?),
        MessageType::LogTerminalLine => Kind::LogTerminalLine(pb::LogTerminalLine {
            line: source.required_text(Member::Line, UNLIMITED)?,
            step: source.required_step(Member::Step)?,
        }),
        MessageType::LogRecord => Kind::LogRecord(log_record(source)?),
        MessageType::BlobRef => Kind::BlobRef(blob_ref(source)?),
        MessageType::EditSeries | MessageType::DeleteRun => source.server_event(message_type)?,
    })
}

fn create_run<S: MemberSource>(source: &mut S) -> Result<pb::CreateRun, S::Invalid> {
    let force_resume = source.flag(Member::ForceResume)?;
    let parent_run_id = source.text(Member::ParentRunId, Presence::OptionalOrNull, limits::RUN_ID_BYTES)?;
    let client = source.text(Member::Client, Presence::OptionalOrNull, limits::CLIENT_BYTES)?;
    Ok(pb::CreateRun {
        force_resume,
        parent_run_id: parent_run_id.unwrap_or_default(),
        parent_step: source.step(Member::ParentStep, Presence::OptionalOrNull)?,
        created_us: source.server_integer(Member::CreatedUs)?,
        client: client.unwrap_or_default(),
    })
}

/// Reads the outcome of a run, which Matyan 0.3 does not write.
fn outcome<S: MemberSource>(source: &mut S) -> Result<Option<Outcome>, S::Invalid> {
    let Some(kind) = source.outcome_kind()? else { return Ok(None) };
    let message = source.text(Member::Message, Presence::OptionalOrNull, limits::DESCRIPTION_BYTES)?;
    Ok(Some(Outcome { kind: kind.into(), message: message.unwrap_or_default() }))
}

fn set_run_property<S: MemberSource>(source: &mut S) -> Result<pb::SetRunProperty, S::Invalid> {
    let presence = Presence::OptionalOrNull;
    Ok(pb::SetRunProperty {
        name: source.text(Member::Name, presence, limits::NAME_BYTES)?,
        description: source.text(Member::Description, presence, limits::DESCRIPTION_BYTES)?,
        archived: source.boolean(Member::Archived, presence)?,
        experiment: source.text(Member::Experiment, presence, limits::NAME_BYTES)?,
    })
}

fn tag_name<S: MemberSource>(source: &mut S) -> Result<String, S::Invalid> {
    source.required_text(Member::TagName, limits::NAME_BYTES)
}

fn log_object<S: MemberSource>(source: &mut S) -> Result<pb::LogObject, S::Invalid> {
    Ok(pb::LogObject {
        name: source.required_text(Member::Name, UNLIMITED)?,
        value: source.objects(Member::Value)?,
        step: source.step(Member::Step, Presence::OptionalOrNull)?,
        epoch: source.step(Member::Epoch, Presence::OptionalOrNull)?,
        context: source.context(Presence::OptionalOrNull)?,
        dtype: dtype(source, Presence::Optional)?,
    })
}

/// Reads an object with the members that a metric must have.
fn log_object_of_metric<S: MemberSource>(source: &mut S) -> Result<pb::LogObject, S::Invalid> {
    Ok(pb::LogObject {
        name: source.required_text(Member::Name, UNLIMITED)?,
        value: source.objects(Member::Value)?,
        step: source.step(Member::Step, Presence::RequiredOrNull)?,
        epoch: source.step(Member::Epoch, Presence::RequiredOrNull)?,
        context: source.context(Presence::RequiredOrNull)?,
        dtype: dtype(source, Presence::Required)?,
    })
}

fn dtype<S: MemberSource>(source: &mut S, presence: Presence) -> Result<String, S::Invalid> {
    let dtype = source.text(Member::Dtype, presence, limits::DTYPE_BYTES)?;
    Ok(dtype.unwrap_or_else(|| "custom".to_owned()))
}

fn log_record<S: MemberSource>(source: &mut S) -> Result<pb::LogRecord, S::Invalid> {
    Ok(pb::LogRecord {
        message: source.required_text(Member::Message, UNLIMITED)?,
        level: source.required_integer(Member::Level)?,
        timestamp: source.float(Member::Timestamp)?,
        logger_info: source.optional_list(Member::LoggerInfo)?,
        extra_args: source.optional_map(Member::ExtraArgs)?,
    })
}

fn blob_ref<S: MemberSource>(source: &mut S) -> Result<pb::BlobRef, S::Invalid> {
    let content_type = source.text(Member::ContentType, Presence::Optional, limits::CONTENT_TYPE_BYTES)?;
    Ok(pb::BlobRef {
        key: source.required_text(Member::S3Key, UNLIMITED)?,
        path: source.required_text(Member::ArtifactPath, UNLIMITED)?,
        content_type: content_type.unwrap_or_else(|| UNKNOWN_TYPE.to_owned()),
        ..pb::BlobRef::default()
    })
}
