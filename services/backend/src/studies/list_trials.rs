//! Lists of trials, in messages of bounded size. A trial that has ended does not change any more. So a trial that is
//! read from several snapshots is either whole, or is read again because it has not ended. The rows of a deleted
//! study are cleared while they may be read, so a list ends with an error if its study is gone by then.

use std::collections::BTreeSet;

use matyan_model::{
    keys::{self, AttributeKind},
    study::{TrialEntry, trial_entries_page},
};
use matyan_proto::{limits, studies::v1 as pb};
use matyan_store::Range;
use prost::Message;

use super::convert;
use crate::server::{
    call::Call,
    convert::check_limit,
    deps::Deps,
    error::Result,
    stream::{MESSAGE_BYTES, Sender, StreamEnd},
};

/// Approximate size of an entry that is only a number.
const ENTRY_BYTES: usize = 16;

/// The trials of a list.
pub(super) struct Selection {
    /// All trials from this number on; `None` selects no such trials.
    from: Option<u32>,
    /// Selected trials with smaller numbers.
    numbers: BTreeSet<u32>,
    is_summary: bool,
}

impl Selection {
    pub(super) fn new(request: pb::ListTrialsRequest) -> Result<Self> {
        check_limit("numbers", request.numbers.len(), limits::TRIALS_PER_CALL)?;
        let from = match request.after {
            _ if request.only_numbers => None,
            None => Some(0),
            Some(after) => after.checked_add(1),
        };
        let is_below = |number: &u32| from.is_none_or(|from| *number < from);
        let numbers = request.numbers.into_iter().filter(is_below).collect();
        Ok(Self { from, numbers, is_summary: request.summary })
    }

    /// The ranges of rows in order. Trials with consecutive numbers share a range.
    fn ranges(&self, call: &Call, study: u32) -> Vec<Range> {
        let mut ranges: Vec<Range> = Vec::new();
        let mut next = None;
        for number in &self.numbers {
            let own = keys::trial_rows(call.project, study, *number);
            match ranges.last_mut() {
                Some(last) if next == Some(*number) => last.end = own.end,
                _ => ranges.push(own),
            }
            next = number.checked_add(1);
        }
        ranges.extend(self.from.map(|from| keys::trials_from(call.project, study, from)));
        ranges
    }
}

pub(super) async fn send(
    deps: &Deps,
    call: &Call,
    study: u32,
    selection: Selection,
    sender: &Sender<pb::ListTrialsResponse>,
) -> Result<(), StreamEnd> {
    let mut message = TrialMessage::default();
    for range in selection.ranges(call, study) {
        let mut rest = Some(range);
        while let Some(range) = rest {
            let snapshot = deps.store.snapshot().await?;
            let (page, next) = trial_entries_page(snapshot.as_ref(), call.project, study, &range).await?;
            drop(snapshot);
            for (number, entry) in page {
                if selection.is_summary && !is_of_summary(&entry) {
                    continue;
                }
                message.add(number, entry);
                if message.is_full() {
                    sender.send(pb::ListTrialsResponse { trials: message.take() }).await?;
                }
            }
            rest = next;
        }
    }
    super::check_exists(deps, call, study).await?;
    sender.send(pb::ListTrialsResponse { trials: message.take() }).await
}

fn is_of_summary(entry: &TrialEntry) -> bool {
    match entry {
        TrialEntry::State(_) | TrialEntry::Param { .. } => true,
        TrialEntry::Attribute { .. } | TrialEntry::IntermediateValue { .. } => false,
    }
}

/// Trials of a message that is being filled.
#[derive(Default)]
pub(crate) struct TrialMessage {
    trials: Vec<pb::Trial>,
    bytes: usize,
}

impl TrialMessage {
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= MESSAGE_BYTES
    }

    pub(crate) fn take(&mut self) -> Vec<pb::Trial> {
        self.bytes = 0;
        std::mem::take(&mut self.trials)
    }

    /// The trial to which an entry is added.
    fn trial(&mut self, number: u32) -> &mut pb::Trial {
        let is_continued = self.trials.last().is_some_and(|trial| trial.number == number);
        if !is_continued {
            // A part that continues a trial has no state.
            self.bytes += ENTRY_BYTES;
            self.trials.push(pb::Trial { number, ..pb::Trial::default() });
        }
        self.trials.last_mut().expect("the trial was just added")
    }

    pub(crate) fn add(&mut self, number: u32, entry: TrialEntry) {
        let trial = self.trial(number);
        let added = match entry {
            TrialEntry::State(found) => {
                trial.state = convert::state_view(found.state).into();
                trial.values = found.values;
                trial.started_us = found.started_us;
                trial.finished_us = found.finished_us;
                trial.run_id = found.run.map(|run| run.id).unwrap_or_default();
                trial.encoded_len()
            }
            TrialEntry::Param { name, param } => {
                let param = pb::TrialParam {
                    name,
                    value: param.value,
                    distribution: param.distribution,
                    set_us: param.set_us,
                };
                let added = param.encoded_len();
                trial.params.push(param);
                added
            }
            TrialEntry::Attribute { kind, name, value } => {
                let added = name.len() + value.len() + ENTRY_BYTES;
                let attributes = match kind {
                    AttributeKind::User => &mut trial.user_attributes,
                    AttributeKind::System => &mut trial.system_attributes,
                };
                attributes.insert(name, value);
                added
            }
            TrialEntry::IntermediateValue { step, value } => {
                trial.intermediate_values.insert(step, value);
                ENTRY_BYTES
            }
        };
        self.bytes += added;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(after: Option<u32>, numbers: &[u32], only_numbers: bool) -> (Option<u32>, Vec<u32>) {
        let request = pb::ListTrialsRequest {
            study_id: 1,
            after,
            numbers: numbers.to_vec(),
            only_numbers,
            summary: false,
        };
        let Selection { from, numbers, .. } = Selection::new(request).unwrap();
        (from, numbers.into_iter().collect())
    }

    #[test]
    fn each_trial_is_selected_once() {
        assert_eq!(selected(None, &[3, 1], false), (Some(0), vec![]));
        assert_eq!(selected(Some(4), &[9, 3, 1, 3, 4], false), (Some(5), vec![1, 3, 4]));
        assert_eq!(selected(None, &[3, 1], true), (None, vec![1, 3]));
        assert_eq!(selected(Some(u32::MAX), &[7], false), (None, vec![7]));
    }
}
