//! The reader of one message: its members are collected by name, then read by its type. The type may
//! appear anywhere, so members are kept as tokens until the object ends; a repeated key replaces the
//! earlier one.

use bytes::Bytes;
use matyan_proto::{
    ABSENT,
    common::v1::OutcomeKind,
    ingest::v1::{self as pb, event::Kind},
};
use matyan_value::{
    OBJECT_TYPES,
    json::{JsonKind, JsonScanner, JsonToken},
    singular_dtype,
};

use super::{
    Frame, FrameError, Metric, Rejection,
    convert::{self, Reason},
};
use crate::{
    MessageType,
    json_event::{
        member::Member,
        read::{MemberSource, Presence, read_event},
    },
};

/// The members of one message. Created once per frame: `seen` marks the tokens that belong to
/// the current message.
pub(super) struct Members<'a> {
    tokens: [JsonToken<'a>; Member::COUNT],
    seen: u64,
    /// Keys of the previous message, each with its quotes and colon, in order. Messages of
    /// a frame are mostly alike: comparing with the expected key is several times faster
    /// than reading one.
    expected: Vec<(&'a str, Option<Member>)>,
}

// One bit of `seen` for each member.
const _: () = assert!(Member::COUNT <= u64::BITS as usize);

/// The reason why a message is refused.
pub(super) struct Invalid {
    member: Member,
    reason: Reason,
}

type Convert<'a, T> = fn(&JsonToken<'a>) -> Result<T, Reason>;

impl<'a> Members<'a> {
    pub(super) fn new() -> Self {
        Members {
            tokens: [JsonToken::NULL; Member::COUNT],
            seen: 0,
            expected: Vec::with_capacity(Member::COUNT),
        }
    }

    /// Reads an object that starts at the scanner's position.
    fn read(&mut self, scanner: &mut JsonScanner<'a>) -> Result<(), FrameError> {
        self.seen = 0;
        scanner.open();
        let mut more = !scanner.close(b'}');
        for place in 0.. {
            if !more {
                break;
            }
            let member = self.key(scanner, place)?;
            let token = scanner.value()?;
            if let Some(member) = member {
                self.tokens[member as usize] = token;
                self.seen |= 1 << member as u64;
            }
            more = scanner.next_or_close(b'}')?;
        }
        Ok(())
    }

    /// The member named by the key at the scanner's position, which is number `place` in its
    /// message.
    fn key(&mut self, scanner: &mut JsonScanner<'a>, place: usize) -> Result<Option<Member>, FrameError> {
        if let Some((text, member)) = self.expected.get(place)
            && scanner.skip(text)
        {
            return Ok(*member);
        }
        let start = scanner.position();
        let key = scanner.key()?;
        let member = match key.kind {
            JsonKind::Text => Member::from_name(key.text),
            _ => Member::from_name(&key.decode()),
        };
        let read = (scanner.read_since(start), member);
        match self.expected.get_mut(place) {
            Some(expected) => *expected = read,
            None if place < Member::COUNT => self.expected.push(read),
            None => {}
        }
        Ok(member)
    }

    fn get(&self, member: Member) -> Option<&JsonToken<'a>> {
        (self.seen & (1 << member as u64) != 0).then(|| &self.tokens[member as usize])
    }

    /// The member must be there, and may not be null unless `convert` takes it.
    fn required<T>(&self, member: Member, convert: Convert<'a, T>) -> Result<T, Invalid> {
        let token = self.get(member).ok_or_else(|| Self::missing(member))?;
        convert(token).map_err(|reason| Invalid { member, reason })
    }

    /// The member must be there, and may be null.
    fn required_or_null<T>(&self, member: Member, convert: Convert<'a, T>) -> Result<Option<T>, Invalid> {
        match self.get(member) {
            Some(token) if token.kind == JsonKind::Null => Ok(None),
            _ => self.required(member, convert).map(Some),
        }
    }

    /// The member may be missing or null.
    fn optional_or_null<T>(&self, member: Member, convert: Convert<'a, T>) -> Result<Option<T>, Invalid> {
        self.member(member, Presence::OptionalOrNull, convert)
    }

    fn member<T>(
        &self,
        member: Member,
        presence: Presence,
        convert: Convert<'a, T>,
    ) -> Result<Option<T>, Invalid> {
        let is_missing = self.get(member).is_none();
        match presence {
            Presence::Optional | Presence::OptionalOrNull if is_missing => Ok(None),
            Presence::Required | Presence::Optional => self.required(member, convert).map(Some),
            Presence::RequiredOrNull | Presence::OptionalOrNull => self.required_or_null(member, convert),
        }
    }
}

impl MemberSource for Members<'_> {
    type Invalid = Invalid;

    fn missing(member: Member) -> Invalid {
        Invalid { member, reason: "required, but missing".into() }
    }

    /// Reads a text. The frontier checks its length.
    fn text(&mut self, member: Member, presence: Presence, _: usize) -> Result<Option<String>, Invalid> {
        self.member(member, presence, convert::owned_text)
    }

    fn integer(&mut self, member: Member, presence: Presence) -> Result<Option<i64>, Invalid> {
        self.member(member, presence, convert::integer)
    }

    fn step(&mut self, member: Member, presence: Presence) -> Result<Option<i64>, Invalid> {
        self.member(member, presence, convert::step)
    }

    fn boolean(&mut self, member: Member, presence: Presence) -> Result<Option<bool>, Invalid> {
        self.member(member, presence, convert::boolean)
    }

    fn flag(&mut self, member: Member) -> Result<bool, Invalid> {
        Ok(self.member(member, Presence::Optional, convert::boolean)?.unwrap_or(false))
    }

    fn float(&mut self, member: Member) -> Result<f64, Invalid> {
        self.required(member, convert::float)
    }

    fn context(&mut self, presence: Presence) -> Result<String, Invalid> {
        let context = self.member(Member::Context, presence, convert::context)?;
        Ok(context.unwrap_or_default().into_owned())
    }

    fn map(&mut self, member: Member) -> Result<Bytes, Invalid> {
        self.required(member, convert::map)
    }

    fn objects(&mut self, member: Member) -> Result<Bytes, Invalid> {
        self.map(member)
    }

    fn optional_map(&mut self, member: Member) -> Result<Bytes, Invalid> {
        Ok(self.optional_or_null(member, convert::map)?.unwrap_or_default())
    }

    fn optional_list(&mut self, member: Member) -> Result<Bytes, Invalid> {
        Ok(self.optional_or_null(member, convert::list)?.unwrap_or_default())
    }

    fn outcome_kind(&mut self) -> Result<Option<OutcomeKind>, Invalid> {
        self.optional_or_null(Member::Outcome, convert::outcome)
    }

    fn server_integer(&mut self, _: Member) -> Result<Option<i64>, Invalid> {
        Ok(None)
    }

    /// Refuses the event: clients have calls for it.
    fn server_event(&mut self, message_type: MessageType) -> Result<Kind, Invalid> {
        Err(unknown_type(message_type.name()))
    }
}

/// Reads the message object that starts at the scanner's position, and adds it to `frame`.
pub(super) fn read<'a>(
    scanner: &mut JsonScanner<'a>,
    members: &mut Members<'a>,
    item: u32,
    frame: &mut Frame<'a>,
) -> Result<(), FrameError> {
    members.read(scanner)?;
    if let Err(Invalid { member, reason }) = add(members, item, frame) {
        frame.rejections.push(Rejection { item, field: member.name().into(), reason });
    }
    Ok(())
}

fn add<'a>(members: &mut Members<'a>, item: u32, frame: &mut Frame<'a>) -> Result<(), Invalid> {
    let name = members.required(Member::Type, convert::text)?;
    let message_type = MessageType::from_name(&name).ok_or_else(|| unknown_type(&name))?;
    if message_type == MessageType::LogMetric && !is_object_of_metric(members)? {
        let metric = metric(members, item)?;
        if frame.metrics.len() == 1 {
            frame.metrics.reserve(USUAL_ITEMS);
        }
        frame.metrics.push(metric);
    } else {
        let client_time_us = client_time_us(members, message_type)?;
        let kind = read_event(members, message_type)?;
        frame.events.push(pb::Event { client_time_us, kind: Some(kind) });
        frame.event_items.push(item);
    }
    Ok(())
}

fn unknown_type(name: &str) -> Invalid {
    let reason = format!("no message type is called `{}`", shortened(name));
    Invalid { member: Member::Type, reason: reason.into() }
}

/// Most items that the Python client puts into a frame.
const USUAL_ITEMS: usize = 100;

/// Truncates a name for a response, which has to stay small.
fn shortened(name: &str) -> &str {
    const LONGEST: usize = 64;
    &name[..name.floor_char_boundary(LONGEST)]
}

/// Returns whether a `log_metric` is an object of a known kind: the replay of an archive sends objects
/// this way.
fn is_object_of_metric(members: &Members<'_>) -> Result<bool, Invalid> {
    if members.get(Member::Value).is_none_or(|token| token.kind != JsonKind::Object) {
        return Ok(false);
    }
    let dtype = members.required_or_null(Member::Dtype, convert::text)?.unwrap_or_default();
    Ok(OBJECT_TYPES.contains(&singular_dtype(&dtype)))
}

fn metric<'a>(members: &Members<'a>, item: u32) -> Result<Metric<'a>, Invalid> {
    Ok(Metric {
        item,
        name: members.required(Member::Name, convert::text)?,
        value: members.required(Member::Value, convert::float)?,
        step: members.required_or_null(Member::Step, convert::step)?.unwrap_or(ABSENT),
        epoch: members.required_or_null(Member::Epoch, convert::step)?.unwrap_or(ABSENT),
        context: members.required_or_null(Member::Context, convert::context)?.unwrap_or_default(),
        dtype: members.required_or_null(Member::Dtype, convert::text)?.unwrap_or_default(),
        time_us: members.required(Member::ClientDatetime, convert::time_us)?,
    })
}

/// Reads the time of an event, which is ignored for types without a time.
fn client_time_us(members: &Members<'_>, message_type: MessageType) -> Result<Option<i64>, Invalid> {
    match message_type {
        MessageType::CreateRun | MessageType::LogMetric => {
            members.required(Member::ClientDatetime, convert::time_us).map(Some)
        }
        MessageType::FinishRun | MessageType::LogCustomObject => {
            members.optional_or_null(Member::ClientDatetime, convert::time_us)
        }
        MessageType::LogHparams
        | MessageType::SetRunProperty
        | MessageType::AddTag
        | MessageType::RemoveTag
        | MessageType::LogTerminalLine
        | MessageType::LogRecord
        | MessageType::BlobRef
        | MessageType::EditSeries
        | MessageType::DeleteRun => Ok(None),
    }
}
