//! Ids of trials: the id of the study is in the upper half, and the number of the trial in the lower half. So ids are
//! unique, grow in the order in which trials become visible, and need no table. A study id is below 2^31.

use tonic::Status;

use crate::errors::no_trial;

/// A trial by its study and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrialKey {
    pub(crate) study: u32,
    pub(crate) number: u32,
}

impl TrialKey {
    pub(crate) fn id(self) -> i64 {
        i64::from(self.study) << 32 | i64::from(self.number)
    }

    /// The trial with an id; `None` for a number that is not the id of a trial.
    pub(crate) fn from_id(id: i64) -> Option<Self> {
        let study = u32::try_from(id >> 32).ok().filter(|study| *study > 0)?;
        // The lower half.
        let number = (id & i64::from(u32::MAX)) as u32;
        Some(Self { study, number })
    }

    pub(crate) fn find(id: i64) -> Result<Self, Status> {
        Self::from_id(id).ok_or_else(|| no_trial(id))
    }
}

/// The study with an id.
pub(crate) fn study(id: i64) -> Result<u32, Status> {
    u32::try_from(id).map_err(|_| {
        Status::not_found(format!(
            "there is no study with the id {id}: it may have been deleted, load it by its name"
        ))
    })
}

/// Selects the trials that a request for new trials asks for, by their numbers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WantedTrials {
    /// All trials after this number. The outer `None` selects no such trials, the inner `None` selects all.
    pub(crate) after: Option<Option<u32>>,
    pub(crate) numbers: Vec<u32>,
}

impl WantedTrials {
    pub(crate) fn new(study: u32, included_ids: &[i64], greater_than: i64) -> Self {
        let first = TrialKey { study, number: 0 }.id();
        let last = TrialKey { study, number: u32::MAX }.id();
        let after = match greater_than {
            id if id < first => Some(None),
            id if id > last => None,
            id => Some(TrialKey::from_id(id).map(|key| key.number)),
        };
        let keys = included_ids.iter().filter_map(|id| TrialKey::from_id(*id));
        let numbers = keys.filter(|key| key.study == study).map(|key| key.number).collect();
        Self { after, numbers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_STUDY: u32 = i32::MAX as u32;

    #[test]
    fn an_id_leads_back_to_its_trial() {
        let mut last = 0;
        for study in [1, 2, 255, MAX_STUDY] {
            for number in [0, 1, 1 << 31, u32::MAX] {
                let key = TrialKey { study, number };
                assert_eq!(TrialKey::from_id(key.id()), Some(key));
                assert!(key.id() > last, "{key:?}");
                last = key.id();
            }
        }
        for id in [-1, 0, 1, i64::from(u32::MAX), i64::MIN] {
            assert_eq!(TrialKey::from_id(id), None, "{id}");
        }
        assert_eq!(study(7).unwrap(), 7);
        study(-1).unwrap_err();
        study(1 << 40).unwrap_err();
    }

    #[test]
    fn only_new_and_included_trials_are_wanted() {
        let id = |study, number| TrialKey { study, number }.id();
        let wanted = |included: &[i64], greater_than| {
            let WantedTrials { after, numbers } = WantedTrials::new(3, included, greater_than);
            (after, numbers)
        };
        assert_eq!(wanted(&[], -1), (Some(None), vec![]));
        assert_eq!(wanted(&[], id(2, 99)), (Some(None), vec![]));
        assert_eq!(wanted(&[id(3, 1), id(4, 2), -5], id(3, 0)), (Some(Some(0)), vec![1]));
        assert_eq!(wanted(&[id(3, 1)], id(4, 0)), (None, vec![1]));
    }
}
