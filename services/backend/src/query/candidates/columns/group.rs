//! Evaluates a query on runs whose params have been read.

use std::{borrow::Cow, cell::Cell};

use matyan_model::{
    ids::RunNumber,
    index::{IndexColumn, IndexedValue},
    keys,
    param_cohort::ReadRuns,
};
use matyan_ql::{Datum, Evaluator, KeyPath, Outcome, ParamRead, QueryLimits, RunView, SequenceView};

use super::{ColumnVerdicts, RemainingScan, ScannedRuns};
use crate::server::evaluation::{SLICE_STEPS, SLICE_VERDICTS};

/// What all groups have in common.
pub(super) struct GroupRules {
    pub(super) scan: RemainingScan,
    pub(super) runs: ScannedRuns,
}

impl GroupRules {
    /// Whether the document of a run remains to be read.
    pub(super) fn is_in_scan(&self, number: RunNumber) -> bool {
        keys::document(self.scan.project, number) < self.scan.end
    }

    /// The runs of the scan among some runs.
    pub(super) fn group(&self, read: ReadRuns) -> RunGroup {
        let ScannedRuns { archived, binned, .. } = &self.runs;
        let ReadRuns { mut runs, params } = read;
        runs.sort_unstable();
        runs.truncate(runs.partition_point(|number| self.is_in_scan(*number)));
        let runs = runs.into_iter().filter(|number| !binned.contains(number));
        let runs = runs.map(|number| (number, archived.contains(&number))).collect();
        RunGroup { runs, params }
    }
}

/// Runs to evaluate, with their params.
pub(super) struct RunGroup {
    /// The runs with whether they are archived, ascending.
    runs: Vec<(RunNumber, bool)>,
    params: Vec<IndexColumn>,
}

impl RunGroup {
    pub(super) fn start(&self, rules: &GroupRules) -> GroupProgress {
        let first = self.runs.first().map_or(RunNumber(0), |(number, _)| *number);
        GroupProgress {
            at: 0,
            positions: self.params.iter().map(|column| column.position(first)).collect(),
            name: rules.runs.names.position(first),
            found: ColumnVerdicts::default(),
        }
    }

    pub(super) fn is_done(&self, progress: &GroupProgress) -> bool {
        progress.at == self.runs.len()
    }

    /// Continues for a slice, with all steps of `limits`. Returns `None` if the query exceeds a limit,
    /// and the steps left.
    pub(super) fn evaluate(
        &self,
        rules: &GroupRules,
        mut evaluator: Evaluator<'_>,
        limits: QueryLimits,
        mut progress: GroupProgress,
    ) -> (Option<GroupProgress>, u64) {
        let started = progress.at;
        let mut values = vec![None; self.params.len()];
        for (number, archived) in &self.runs[started..] {
            let steps = limits.steps_in_total - evaluator.steps_left();
            if steps > SLICE_STEPS || (progress.at - started) as u64 > SLICE_VERDICTS {
                break;
            }
            let columns = self.params.iter().zip(&mut progress.positions);
            for (value, (column, position)) in values.iter_mut().zip(columns) {
                *value = column.value_at(position, *number);
            }
            let row = ColumnRow {
                paths: &rules.scan.needed.paths,
                values: &values,
                name: rules.runs.names.value_at(&mut progress.name, *number),
                archived: *archived,
                needs_document: Cell::new(false),
            };
            let Ok(outcome) = evaluator.run(&row) else { return (None, evaluator.steps_left()) };
            if row.needs_document.get() || outcome == Outcome::Match {
                progress.found.remaining.push(*number);
            } else {
                progress.found.verdicts.record(outcome);
            }
            progress.at += 1;
        }
        (Some(progress), evaluator.steps_left())
    }
}

/// The evaluation of a group as far as it has come.
pub(super) struct GroupProgress {
    /// Number of runs evaluated.
    at: usize,
    /// Positions of the next run in the columns, and among the names.
    positions: Vec<usize>,
    name: usize,
    pub(super) found: ColumnVerdicts,
}

/// A run as seen through the columns.
struct ColumnRow<'c> {
    paths: &'c [KeyPath],
    values: &'c [Option<IndexedValue<'c>>],
    name: Option<IndexedValue<'c>>,
    archived: bool,
    /// Set when the query reads a value that only the document has; the verdict is then
    /// void.
    needs_document: Cell<bool>,
}

impl ColumnRow<'_> {
    fn unknown<T: Default>(&self) -> T {
        self.needs_document.set(true);
        T::default()
    }
}

impl RunView for ColumnRow<'_> {
    fn hash(&self) -> &str {
        self.unknown()
    }

    fn name(&self) -> Option<&str> {
        match self.name {
            Some(IndexedValue::Text(name)) => Some(name),
            _ => self.unknown(),
        }
    }

    fn description(&self) -> Option<&str> {
        self.unknown()
    }

    fn experiment(&self) -> Option<&str> {
        self.unknown()
    }

    fn created_at(&self) -> f64 {
        self.unknown()
    }

    fn end_time(&self) -> Option<f64> {
        self.unknown()
    }

    fn active(&self) -> bool {
        self.unknown()
    }

    fn outcome(&self) -> Option<&str> {
        self.unknown()
    }

    fn parent(&self) -> Option<&str> {
        self.unknown()
    }

    fn archived(&self) -> bool {
        self.archived
    }

    fn tags(&self) -> Vec<&str> {
        self.unknown()
    }

    fn param(&self, path: &KeyPath, _: usize) -> ParamRead<'_> {
        let known =
            self.paths.iter().position(|known| known == path).and_then(|position| self.values[position]);
        let datum = match known {
            Some(IndexedValue::Null) => Some(Datum::None),
            Some(IndexedValue::Bool(value)) => Some(Datum::Bool(value)),
            Some(IndexedValue::Integer(value)) => Some(Datum::Int(value)),
            Some(IndexedValue::Float(value)) => Some(Datum::Float(value)),
            Some(IndexedValue::Text(text)) => Some(Datum::Text(Cow::Borrowed(text))),
            None => self.unknown(),
        };
        datum.into()
    }

    fn sequences(&self, _: &str) -> Vec<&dyn SequenceView> {
        self.unknown()
    }
}
