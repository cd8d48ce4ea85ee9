//! Tags of runs, some of which are properties of the run.

use matyan_proto::ingest::v1::SetRunProperty;
use matyan_value::Value;

use crate::batch::RunBatch;
use crate::error::Result;
use crate::fields::Fields;
use crate::names::{TAG_CHARS, cut};
use crate::run_names::{MLFLOW, NAME_TAG, NOTE_TAG, TAGS, at_path};

/// The value of a tag, with its maximum size.
pub(crate) fn tag_value(tag: &Fields) -> Result<&str> {
    Ok(cut(tag.text("value")?.unwrap_or_default(), TAG_CHARS))
}

/// Adds a tag. Some tags are properties of a run.
pub(crate) fn add_tag(batch: &mut RunBatch, key: &str, value: &str) {
    let value = value.to_owned();
    match key {
        NAME_TAG => batch.set_properties(SetRunProperty { name: Some(value), ..SetRunProperty::default() }),
        NOTE_TAG => {
            batch.set_properties(SetRunProperty { description: Some(value), ..SetRunProperty::default() });
        }
        key => batch.set(&at_path([MLFLOW, TAGS, key], Value::Text(value))),
    }
}
