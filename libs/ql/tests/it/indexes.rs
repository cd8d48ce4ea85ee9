//! The indexes of a store, modeled over runs in memory: the runs that a probe proposes. The
//! model is independent of the planner and follows the store, so that a mistake in one shows up
//! in the other.

use matyan_ql::{Datum, KeyPath, ParamKeys, Probe, Proposal, RunView, StoredParam};

use crate::memory::Run;

/// The key of a run's param in an index: scalars only, numbers as the nearest float.
enum Key {
    Number(f64),
    Text(String),
}

fn param_key(run: &Run, path: &KeyPath) -> Option<Key> {
    let StoredParam::Value(datum) = run.param(path, usize::MAX).param else { return None };
    match datum {
        Datum::Bool(value) => Some(Key::Number(f64::from(u8::from(value)))),
        Datum::Int(value) => Some(Key::Number(value as f64)),
        Datum::BigInt { magnitude, .. } => {
            Some(Key::Number(magnitude.iter().fold(0.0, |sum, byte| sum * 256.0 + f64::from(*byte))))
        }
        Datum::Float(value) => (!value.is_nan()).then_some(Key::Number(value + 0.0)),
        Datum::Text(text) => Some(Key::Text(text.into_owned())),
        Datum::None | Datum::Bytes(_) | Datum::List(_) | Datum::Object(_) => None,
    }
}

pub(crate) fn proposed_by_probe(probe: &Probe, run: &Run) -> bool {
    match probe {
        Probe::Hash(hash) => **hash == *run.hash,
        Probe::Name(names) => names.contains(&run.name.as_str().into()),
        Probe::Archived(archived) => *archived == run.archived,
        Probe::Active(active) => *active == run.active,
        Probe::Experiment(name) => name.as_deref() == run.experiment.as_deref(),
        Probe::Tag(name) => run.tags.iter().any(|tag| **tag == **name),
        Probe::Parent(hash) => run.parent.as_deref() == Some(&**hash),
        Probe::CreatedAt(times) => times.contains(&run.created_at),
        Probe::EndTime(times) => run.end_time.is_some_and(|end| times.contains(&end)),
        Probe::Sequence(names) => run.sequences.iter().any(|s| names.contains(&s.name.as_str().into())),
        Probe::Param { path, keys } => match (param_key(run, path), keys) {
            (Some(Key::Number(number)), ParamKeys::Numbers(numbers)) => numbers.contains(&number),
            (Some(Key::Text(text)), ParamKeys::Texts(texts)) => texts.contains(&text.into()),
            _ => false,
        },
    }
}

pub(crate) fn proposed(proposal: &Proposal, run: &Run) -> bool {
    match proposal {
        Proposal::Everything => true,
        Proposal::Nothing => false,
        Proposal::Probe(probe) => proposed_by_probe(probe, run),
        Proposal::Intersect(parts) => parts.iter().all(|part| proposed(part, run)),
        Proposal::Union(parts) => parts.iter().any(|part| proposed(part, run)),
    }
}
