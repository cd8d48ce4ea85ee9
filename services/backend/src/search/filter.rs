//! Evaluates a query on loaded runs, on blocking threads: an expression may take milliseconds
//! per run. The query language limits the total cost of a search.

use std::sync::Arc;

use matyan_ql::{BudgetError, Interval, Outcome, Query, QueryLimits, SequenceView};

use super::candidate::Candidate;
use crate::error::{Error, Result};

/// A matching run with its matching sequences.
pub(crate) struct MatchedRun {
    pub(crate) candidate: Candidate,
    /// Indexes into the candidate's sequences; empty in a search of runs.
    pub(crate) sequences: Vec<usize>,
}

pub(crate) struct QueryFilter {
    rules: Arc<FilterRules>,
    steps_left: u64,
    verdicts: VerdictCounts,
}

struct FilterRules {
    query: Arc<Query>,
    narrowed: Option<Vec<Interval<Box<str>>>>,
}

/// Counts of verdicts.
#[derive(Clone, Copy, Default)]
pub(super) struct VerdictCounts {
    pub(super) evaluated: u64,
    raised: u64,
}

impl VerdictCounts {
    pub(super) fn record(&mut self, outcome: Outcome) {
        self.evaluated += 1;
        self.raised += u64::from(matches!(outcome, Outcome::Raised(_)));
    }

    pub(super) fn add(&mut self, other: Self) {
        self.evaluated += other.evaluated;
        self.raised += other.raised;
    }
}

impl QueryFilter {
    pub(crate) fn new(query: Arc<Query>, narrowed: Option<Vec<Interval<Box<str>>>>) -> Self {
        let steps_left = QueryLimits::default().steps_in_total;
        Self {
            rules: Arc::new(FilterRules { query, narrowed }),
            steps_left,
            verdicts: VerdictCounts::default(),
        }
    }

    /// The candidates that match, in the same order.
    pub(crate) async fn matching(&mut self, candidates: Vec<Candidate>) -> Result<Vec<MatchedRun>> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let rules = self.rules.clone();
        let limits = self.limits();
        let evaluated = tokio::task::spawn_blocking(move || rules.evaluate(limits, candidates)).await;
        let (matched, steps_left, verdicts) = match evaluated {
            Ok(evaluated) => evaluated?,
            // Anything but a panic means that the runtime is shutting down.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Err(Error::Stopping),
        };
        self.steps_left = steps_left;
        self.verdicts.add(verdicts);
        Ok(matched)
    }

    pub(super) fn query(&self) -> &Arc<Query> {
        &self.rules.query
    }

    /// The remaining budget.
    pub(super) fn limits(&self) -> QueryLimits {
        QueryLimits { steps_in_total: self.steps_left, ..QueryLimits::default() }
    }

    /// Adds verdicts made elsewhere on the same budget.
    pub(super) fn add_verdicts(&mut self, verdicts: VerdictCounts, steps_left: u64) {
        self.steps_left = steps_left;
        self.verdicts.add(verdicts);
    }

    /// Whether nothing was found because the query raised an error for every run.
    pub(crate) fn always_raised(&self) -> bool {
        self.verdicts.evaluated > 0 && self.verdicts.raised == self.verdicts.evaluated
    }
}

impl FilterRules {
    fn evaluate(
        &self,
        limits: QueryLimits,
        candidates: Vec<Candidate>,
    ) -> Result<(Vec<MatchedRun>, u64, VerdictCounts), BudgetError> {
        let endpoint = self.query.options().endpoint;
        let mut evaluator = self.query.evaluator(limits);
        let mut verdicts = VerdictCounts::default();
        let mut is_match = |outcome: Outcome| {
            verdicts.record(outcome);
            outcome.is_match()
        };
        let mut matched = Vec::new();
        for candidate in candidates {
            let mut sequences = Vec::new();
            if endpoint.variable().is_none() {
                if is_match(evaluator.run(&candidate)?) {
                    matched.push(MatchedRun { candidate, sequences });
                }
                continue;
            }
            for (index, sequence) in candidate.sequences.iter().enumerate() {
                let is_candidate = endpoint.accepts(sequence.dtype()) && self.can_match(sequence.name());
                if is_candidate && is_match(evaluator.sequence(&candidate, sequence)?) {
                    sequences.push(index);
                }
            }
            if !sequences.is_empty() {
                matched.push(MatchedRun { candidate, sequences });
            }
        }
        Ok((matched, evaluator.steps_left(), verdicts))
    }

    fn can_match(&self, name: &str) -> bool {
        let name = || Box::<str>::from(name);
        self.narrowed.as_ref().is_none_or(|names| names.iter().any(|names| names.contains(&name())))
    }
}
