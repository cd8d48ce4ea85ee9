//! Masks access tokens that training code records by accident: a script that logs its environment as params, or a
//! shell that prints its commands. Only texts with the checksum of a token are masked, by a text of the same length.

use bytes::Bytes;
use matyan_access::AccessToken;
use matyan_proto::ingest::v1::{self as pb, event::Kind};

/// Masks the tokens in params, terminal lines, log records, messages of outcomes, and the names and descriptions of
/// runs, tags and experiments. Returns their number.
pub(super) fn mask(events: &mut [pb::Event]) -> u64 {
    events.iter_mut().filter_map(|event| event.kind.as_mut()).map(mask_in_event).sum()
}

fn mask_in_event(kind: &mut Kind) -> u64 {
    match kind {
        // A text in CBOR keeps its length, and therefore its encoding.
        Kind::LogParams(params) => mask_bytes(&mut params.value),
        Kind::LogTerminalLine(line) => mask_text(&mut line.line),
        // The text of an error often has the URL of a server.
        Kind::FinishRun(finish) => {
            finish.outcome.as_mut().map_or(0, |outcome| mask_text(&mut outcome.message))
        }
        Kind::LogRecord(record) => mask_text(&mut record.message) + mask_bytes(&mut record.extra_args),
        Kind::SetRunProperty(properties) => {
            let pb::SetRunProperty { name, description, archived: _, experiment } = properties;
            [name, description, experiment].into_iter().flatten().map(mask_text).sum()
        }
        Kind::AddTag(tag) => mask_text(&mut tag.name),
        // A tag that is removed was masked when it was added, so its name must be masked to match.
        Kind::RemoveTag(tag) => mask_text(&mut tag.name),
        Kind::CreateRun(_)
        | Kind::LogObject(_)
        | Kind::BlobRef(_)
        | Kind::EditSeries(_)
        | Kind::DeleteRun(_) => 0,
    }
}

fn mask_bytes(bytes: &mut Bytes) -> u64 {
    let Some((masked, count)) = AccessToken::mask_valid(bytes) else { return 0 };
    *bytes = masked.into();
    count
}

fn mask_text(text: &mut String) -> u64 {
    let Some((masked, count)) = AccessToken::mask_valid(text.as_bytes()) else { return 0 };
    *text = String::from_utf8(masked).expect("ASCII was replaced by ASCII");
    count
}
