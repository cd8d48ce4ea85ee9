//! The writer of messages, in the forms of the Matyan 0.3 client.

use matyan_proto::ingest::v1::{Event, LogParams, Points, SeriesDef, event::Kind};
use matyan_value::{Map, cbor};

use crate::{
    MessageType,
    columns::entry,
    json_event::{
        member::Member,
        member_writer::{MemberWriter, MessageForm},
        write::write_event,
    },
};

pub use crate::json_event::member_writer::Unwritable;

/// Returns the messages of an event: one for each root key of params, because several root keys
/// would replace all params of the run in Matyan 0.3, and one message for any other event.
pub fn event_messages(event: &Event) -> Result<Vec<String>, Unwritable> {
    let Some(kind) = &event.kind else {
        return Err(Unwritable { field: "kind", reason: "the event has no kind" });
    };
    match kind {
        Kind::LogParams(params) => return params_messages(params),
        Kind::LogObject(logged) if cbor::is_list(&logged.value) => {
            return Err(Unwritable {
                field: "value",
                reason: "a server without the binary protocol stores one object for each step",
            });
        }
        _ => {}
    }
    let message_type = MessageType::of_event(kind);
    let message = message(message_type, |members| write_event(kind, event.client_time_us, members))?;
    Ok(vec![message])
}

/// Returns the message of one point of a group.
pub fn point_message(group: &Points, at: usize, dictionary: &[SeriesDef]) -> Result<String, Unwritable> {
    let series = dictionary.get(group.series[at] as usize);
    let series = series.ok_or(Unwritable { field: "series", reason: "not in the dictionary" })?;
    message(MessageType::LogMetric, |members| {
        members.text(Member::Name, &series.name);
        members.point(group, at)?;
        members.context_and_dtype(&series.context, &series.dtype, "float")?;
        members.time(entry(&group.times_us, at))
    })
}

fn params_messages(params: &LogParams) -> Result<Vec<String>, Unwritable> {
    let members = cbor::decode_map(&params.value)
        .map_err(|_| Unwritable { field: "value", reason: "the params are not a map in CBOR" })?;
    let mut messages = Vec::new();
    for member in members {
        let params = Map::from_iter([member]);
        messages.push(message(MessageType::LogHparams, |members| {
            members.params(&params);
            Ok(())
        })?);
    }
    Ok(messages)
}

fn message(
    message_type: MessageType,
    write_members: impl FnOnce(&mut MemberWriter<'_>) -> Result<(), Unwritable>,
) -> Result<String, Unwritable> {
    let mut text = format!("{{\"type\":\"{}\"", message_type.name());
    write_members(&mut MemberWriter { out: &mut text, form: MessageForm::Client, is_empty: false })?;
    text.push('}');
    Ok(text)
}
