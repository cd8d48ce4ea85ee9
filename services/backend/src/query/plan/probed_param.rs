//! The param that probes of a plan look for, in the form of the indexes.

use std::borrow::Cow;

use matyan_model::{
    ids::Project,
    keys,
    param_cohort::{ParamReader, param_rows_within},
    params::ParamInterval,
};
use matyan_ql::{KeyPath, ParamKeys};
use matyan_store::Range;

/// A param, and the values that a probe looks for, or one of several probes.
pub(super) struct ProbedParam {
    path: Vec<Cow<'static, str>>,
    values: Vec<ParamInterval>,
    /// Its rows in the index of an earlier format.
    rows: Vec<Range>,
}

impl ProbedParam {
    /// Returns `None` if no index has such values. Runs that have them are in the index of partially indexed runs.
    pub(super) fn of(project: Project, path: &KeyPath, keys: &ParamKeys) -> Option<Self> {
        let path: Vec<Cow<'static, str>> =
            path.keys().iter().map(|key| Cow::Owned(key.to_string())).collect();
        let values = match keys.clone() {
            ParamKeys::Numbers(numbers) => ParamInterval::Numbers { low: numbers.low, high: numbers.high },
            ParamKeys::Texts(texts) => ParamInterval::Texts { low: texts.low, high: texts.high },
        };
        let rows = param_rows_within(project, &path, &values)?;
        Some(Self { path, values: vec![values], rows: vec![rows] })
    }

    /// Adds the probe to another one of the same param, so that its columns are read once.
    pub(super) fn join(self, others: &mut Vec<Self>) {
        match others.iter_mut().find(|other| other.path == self.path) {
            Some(other) => {
                other.values.extend(self.values);
                other.rows.extend(self.rows);
            }
            None => others.push(self),
        }
    }

    pub(super) fn path(&self) -> &[Cow<'static, str>] {
        &self.path
    }

    /// The index rows with these values, if there can be any.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Range> {
        self.rows.iter().filter(|rows| rows.start < rows.end)
    }

    pub(super) fn columns(&self, project: Project) -> Range {
        keys::param_columns(project, &self.path)
    }

    pub(super) fn values(&self) -> &[ParamInterval] {
        &self.values
    }

    pub(super) fn reader(&self, project: Project) -> Option<ParamReader> {
        ParamReader::within(project, &self.path, self.values.clone())
    }
}
