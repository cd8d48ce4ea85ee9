//! The payload of an `edit_series` envelope, which Matyan 0.3 does not know: `edit_id` in hexadecimal
//! digits, `objects`, `name`, `context`, and either `new_name` and `new_context`, or `start` and
//! `stop`, which are null for an open end. Contexts are JSON in a text.

use matyan_proto::{
    common::v1::{SeriesKey, StepRange},
    ingest::v1::{EditSeries, edit_series::Edit},
};
use matyan_value::Map;

use super::{member::Member, member_writer::MemberWriter};
use crate::legacy_json::member_values::{integer, optional_bool, optional_text, text_of};

pub(crate) fn write(edit: &EditSeries, object: &mut MemberWriter<'_>) {
    object.text(Member::EditId, &hex::encode(&edit.id));
    object.bool(Member::Objects, edit.objects);
    let key = edit.key.clone().unwrap_or_default();
    object.text(Member::Name, &key.name);
    object.text(Member::Context, &key.context);
    match &edit.edit {
        Some(Edit::NewKey(key)) => {
            object.text(Member::NewName, &key.name);
            object.text(Member::NewContext, &key.context);
        }
        Some(Edit::DeletedSteps(steps)) => {
            object.integer(Member::Start, steps.start);
            object.integer(Member::Stop, steps.stop);
        }
        None => {}
    }
}

pub(crate) fn read(payload: &mut Map) -> Result<EditSeries, String> {
    let id = hex::decode(text_of(payload, Member::EditId.name())?);
    let id = id.map_err(|_| "`edit_id` is not hexadecimal".to_owned())?;
    let key = SeriesKey {
        name: text_of(payload, Member::Name.name())?,
        context: text_of(payload, Member::Context.name())?,
    };
    let edit = match optional_text(payload, Member::NewName.name())? {
        Some(name) => Edit::NewKey(SeriesKey { name, context: text_of(payload, Member::NewContext.name())? }),
        None => Edit::DeletedSteps(StepRange {
            start: integer(payload, Member::Start.name())?,
            stop: integer(payload, Member::Stop.name())?,
        }),
    };
    let objects = optional_bool(payload, Member::Objects.name())?.unwrap_or(false);
    Ok(EditSeries { id: id.into(), objects, key: Some(key), edit: Some(edit) })
}

#[cfg(test)]
mod tests {
    use matyan_proto::ingest::v1::{Event, event::Kind};

    use crate::legacy_json::{Envelope, EnvelopeWriter};

    use super::*;

    #[test]
    fn edits_survive_the_round_trip() {
        let key = |name: &str| SeriesKey { name: name.to_owned(), context: r#"{"a":"\""}"#.to_owned() };
        let steps = |start, stop| Edit::DeletedSteps(StepRange { start, stop });
        for edit in [Edit::NewKey(key("b")), steps(Some(-5), None), steps(None, Some(i64::MAX))] {
            let edit = EditSeries {
                id: vec![0xab; 16].into(),
                objects: true,
                key: Some(key("a")),
                edit: Some(edit),
            };
            let event = Event { client_time_us: None, kind: Some(Kind::EditSeries(edit)) };
            let envelope = EnvelopeWriter::new("r", 1).event(&event);
            let batch = Envelope::parse(&envelope).unwrap().batch().unwrap();
            assert_eq!(batch.events, [event]);
        }
    }
}
