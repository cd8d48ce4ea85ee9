//! All rows of trials in the order of their keys, in pages of about a megabyte.

use matyan_store::{Key, Range, Result, Scan, Snapshot, Value};

use super::{Trial, TrialParam, attribute_text};
use crate::{
    ids::Project,
    keys::{self, AttributeKind, TrialRow},
    rows,
};

/// A part of a trial. The state of a trial comes before its other parts.
#[derive(Clone, Debug, PartialEq)]
pub enum TrialEntry {
    State(Trial),
    Param { name: String, param: TrialParam },
    Attribute { kind: AttributeKind, name: String, value: String },
    IntermediateValue { step: i64, value: f64 },
}

/// The rows that hold one entry.
struct EntryRows {
    number: u32,
    row: TrialRow,
    first: Key,
    values: Vec<Value>,
}

/// A page of the entries of trials, each with the number of its trial, starting at `range`
/// (`keys::trials_from` or `keys::trial_rows` for the first page), and the range of the rest.
pub async fn trial_entries_page(
    snapshot: &dyn Snapshot,
    project: Project,
    study: u32,
    range: &Range,
) -> Result<(Vec<(u32, TrialEntry)>, Option<Range>)> {
    let page = snapshot.scan(range, Scan::default()).await?;
    let mut found: Vec<EntryRows> = Vec::new();
    let mut rest = page.rest(range);
    for (key, value) in page.rows {
        let (number, row) = keys::decode_trial_row(project, study, &key)?;
        match found.last_mut() {
            Some(last) if is_continued(&row) => last.values.push(value),
            _ => found.push(EntryRows { number, row, first: key, values: vec![value] }),
        }
    }
    // More pieces of the last entry may follow after the page.
    if rest.is_some()
        && let Some(own) = found.last().and_then(|last| piece_range(project, study, last))
    {
        let mut last = found.pop().expect("the entry was just found");
        rest = Some(Range::new(last.first.clone(), range.end.clone()));
        if found.is_empty() {
            last.values = rows::get_pieces(snapshot, &own).await?.into_iter().collect();
            found.push(last);
            rest = Some(Range::new(own.end, range.end.clone()));
        }
    }
    let entries = found.into_iter().map(|entry| Ok((entry.number, decode(entry)?)));
    Ok((entries.collect::<Result<_>>()?, rest))
}

/// Whether a row continues the entry before it.
fn is_continued(row: &TrialRow) -> bool {
    match row {
        TrialRow::Head | TrialRow::IntermediateValue { .. } => false,
        TrialRow::Param { piece, .. } | TrialRow::Attribute { piece, .. } => *piece > 0,
    }
}

/// All pieces of an entry; `None` if it has only one row.
fn piece_range(project: Project, study: u32, entry: &EntryRows) -> Option<Range> {
    match &entry.row {
        TrialRow::Head | TrialRow::IntermediateValue { .. } => None,
        TrialRow::Param { name, .. } => Some(keys::trial_param(project, study, entry.number, name)),
        TrialRow::Attribute { kind, name, .. } => {
            Some(keys::trial_attribute(project, study, entry.number, *kind, name))
        }
    }
}

fn decode(entry: EntryRows) -> Result<TrialEntry> {
    let EntryRows { row, first, values, .. } = entry;
    let bytes = values.concat();
    Ok(match row {
        TrialRow::Head => TrialEntry::State(rows::decode(&first, &bytes)?),
        TrialRow::Param { name, .. } => TrialEntry::Param { name, param: rows::decode(&first, &bytes)? },
        TrialRow::Attribute { kind, name, .. } => {
            TrialEntry::Attribute { kind, name, value: attribute_text(&first, &bytes)? }
        }
        TrialRow::IntermediateValue { step } => {
            TrialEntry::IntermediateValue { step, value: rows::decode(&first, &bytes)? }
        }
    })
}
