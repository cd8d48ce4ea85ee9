//! Conversion of trials between the two services.

use std::collections::HashMap;

use matyan_proto::studies::v1 as pb;
use tonic::Status;

use crate::{
    dates,
    ids::TrialKey,
    optuna::{NumberEntry, State, StepEntry, TextEntry, Trial},
};

/// The state in a request. The backend refuses an unknown state, and first reports a more important problem, such as
/// the end of the trial.
pub(crate) fn state(state: i32) -> pb::TrialState {
    match State::try_from(state) {
        Ok(State::Waiting) => pb::TrialState::Waiting,
        Ok(State::Running) => pb::TrialState::Running,
        Ok(State::Complete) => pb::TrialState::Complete,
        Ok(State::Pruned) => pb::TrialState::Pruned,
        Ok(State::Fail) => pb::TrialState::Failed,
        Err(_) => pb::TrialState::Unspecified,
    }
}

fn state_of(state: pb::TrialState) -> State {
    match state {
        // A trial without its state cannot be listed. Waiting is the state that claims the least.
        pb::TrialState::Unspecified | pb::TrialState::Waiting => State::Waiting,
        pb::TrialState::Running => State::Running,
        pb::TrialState::Complete => State::Complete,
        pb::TrialState::Pruned => State::Pruned,
        pb::TrialState::Failed => State::Fail,
    }
}

/// A trial in the form that clients expect.
pub(crate) fn view(study: u32, trial: pb::Trial) -> Trial {
    let state = state_of(trial.state()).into();
    let key = TrialKey { study, number: trial.number };
    let mut params = Vec::with_capacity(trial.params.len());
    let mut distributions = Vec::with_capacity(trial.params.len());
    for pb::TrialParam { name, value, distribution, .. } in trial.params {
        params.push(NumberEntry { key: name.clone(), value });
        distributions.push(TextEntry { key: name, value: distribution });
    }
    let mut steps: Vec<_> = trial.intermediate_values.into_iter().collect();
    steps.sort_unstable_by_key(|(step, _)| *step);
    Trial {
        trial_id: key.id(),
        number: trial.number.into(),
        state,
        values: trial.values,
        datetime_start: dates::text(trial.started_us),
        datetime_complete: dates::text(trial.finished_us),
        params,
        distributions,
        user_attributes: entries(trial.user_attributes),
        system_attributes: entries(trial.system_attributes),
        intermediate_values: steps.into_iter().map(|(key, value)| StepEntry { key, value }).collect(),
    }
}

fn entries(attributes: HashMap<String, String>) -> Vec<TextEntry> {
    let mut entries: Vec<_> = attributes.into_iter().map(|(key, value)| TextEntry { key, value }).collect();
    entries.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    entries
}

/// A trial that a client adds. The backend chooses its id and its number.
pub(crate) fn template(trial: Trial) -> Result<pb::Trial, Status> {
    let mut distributions: HashMap<String, String> = texts(trial.distributions);
    let mut params = Vec::with_capacity(trial.params.len());
    for NumberEntry { key: name, value } in trial.params {
        let distribution = distributions.remove(&name).ok_or_else(|| {
            Status::invalid_argument(format!("the param `{name}` has no distribution: give one"))
        })?;
        params.push(pb::TrialParam { name, value, distribution, set_us: 0 });
    }
    Ok(pb::Trial {
        number: 0,
        state: state(trial.state).into(),
        values: trial.values,
        started_us: dates::parse("datetime_start", &trial.datetime_start)?,
        finished_us: dates::parse("datetime_complete", &trial.datetime_complete)?,
        params,
        user_attributes: texts(trial.user_attributes),
        system_attributes: texts(trial.system_attributes),
        intermediate_values: trial.intermediate_values.into_iter().map(|it| (it.key, it.value)).collect(),
        run_id: String::new(),
    })
}

/// The entries of a map. If several entries have the same key, the last one counts, as in any map on the wire.
fn texts(entries: Vec<TextEntry>) -> HashMap<String, String> {
    entries.into_iter().map(|entry| (entry.key, entry.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_survives_both_ways() {
        let text = |key: &str, value: &str| TextEntry { key: key.into(), value: value.into() };
        let given = Trial {
            trial_id: -1,
            number: 55,
            state: State::Pruned.into(),
            values: vec![f64::INFINITY],
            datetime_start: "2026-01-31 12:00:00.000001".into(),
            datetime_complete: String::new(),
            params: vec![
                NumberEntry { key: "z".into(), value: 2.0 },
                NumberEntry { key: "a".into(), value: 0.5 },
            ],
            distributions: vec![text("a", "A"), text("z", "Z")],
            user_attributes: vec![text("k", "1")],
            system_attributes: vec![text("k", "2")],
            intermediate_values: vec![StepEntry { key: -3, value: 1.0 }, StepEntry { key: 4, value: 2.0 }],
        };
        let added = template(given.clone()).unwrap();
        let back = view(7, pb::Trial { number: 3, ..added });
        let distributions = vec![text("z", "Z"), text("a", "A")];
        let expected = Trial { trial_id: (7 << 32) + 3, number: 3, distributions, ..given };
        assert_eq!(back, expected);
    }

    #[test]
    fn an_invalid_trial_is_refused() {
        let param = NumberEntry { key: "x".into(), value: 1.0 };
        let without_distribution = Trial { params: vec![param], ..Trial::default() };
        assert!(template(without_distribution).unwrap_err().message().contains("`x`"));
        assert_eq!(state(9), pb::TrialState::Unspecified, "the backend refuses it");
        template(Trial { datetime_start: "now".into(), ..Trial::default() }).unwrap_err();
    }
}
