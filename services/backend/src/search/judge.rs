//! Evaluates a query on loaded runs, on blocking threads: an expression may take milliseconds
//! per run. The query language limits the total cost of a search.

use std::sync::Arc;

use matyan_ql::{BudgetError, Interval, Outcome, Query, QueryLimits, SequenceView};

use super::candidate::Candidate;
use crate::error::{Error, Result};

/// A matching run with its matching sequences.
pub(crate) struct Matched {
    pub(crate) candidate: Candidate,
    /// Indexes into the candidate's sequences; empty in a search of runs.
    pub(crate) sequences: Vec<usize>,
}

pub(crate) struct Judge {
    rules: Arc<Rules>,
    steps_left: u64,
    tally: Tally,
}

struct Rules {
    query: Arc<Query>,
    narrowed: Option<Vec<Interval<Box<str>>>>,
}

/// Counts of verdicts.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) evaluated: u64,
    raised: u64,
}

impl Tally {
    pub(super) fn note(&mut self, outcome: Outcome) {
        self.evaluated += 1;
        self.raised += u64::from(matches!(outcome, Outcome::Raised(_)));
    }

    pub(super) fn add(&mut self, other: Self) {
        self.evaluated += other.evaluated;
        self.raised += other.raised;
    }
}

impl Judge {
    pub(crate) fn new(query: Arc<Query>, narrowed: Option<Vec<Interval<Box<str>>>>) -> Self {
        let steps_left = QueryLimits::default().steps_in_total;
        Self { rules: Arc::new(Rules { query, narrowed }), steps_left, tally: Tally::default() }
    }

    /// The candidates that match, in the same order.
    pub(crate) async fn matching(&mut self, candidates: Vec<Candidate>) -> Result<Vec<Matched>> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let rules = self.rules.clone();
        let limits = self.limits();
        let evaluated = tokio::task::spawn_blocking(move || rules.evaluate(limits, candidates)).await;
        let (matched, steps_left, tally) = match evaluated {
            Ok(evaluated) => evaluated?,
            // Anything but a panic means that the runtime is shutting down.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Err(Error::Stopping),
        };
        self.steps_left = steps_left;
        self.tally.add(tally);
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
    pub(super) fn count(&mut self, tally: Tally, steps_left: u64) {
        self.steps_left = steps_left;
        self.tally.add(tally);
    }

    /// Whether nothing was found because the query raised an error for every run.
    pub(crate) fn always_raised(&self) -> bool {
        self.tally.evaluated > 0 && self.tally.raised == self.tally.evaluated
    }
}

impl Rules {
    fn evaluate(
        &self,
        limits: QueryLimits,
        candidates: Vec<Candidate>,
    ) -> Result<(Vec<Matched>, u64, Tally), BudgetError> {
        let endpoint = self.query.options().endpoint;
        let mut evaluator = self.query.evaluator(limits);
        let mut tally = Tally::default();
        let mut note = |outcome: Outcome| {
            tally.note(outcome);
            outcome.is_match()
        };
        let mut matched = Vec::new();
        for candidate in candidates {
            let mut sequences = Vec::new();
            if endpoint.variable().is_none() {
                if note(evaluator.run(&candidate)?) {
                    matched.push(Matched { candidate, sequences });
                }
                continue;
            }
            for (place, sequence) in candidate.sequences.iter().enumerate() {
                let is_asked = endpoint.accepts(sequence.dtype()) && self.can_match(sequence.name());
                if is_asked && note(evaluator.sequence(&candidate, sequence)?) {
                    sequences.push(place);
                }
            }
            if !sequences.is_empty() {
                matched.push(Matched { candidate, sequences });
            }
        }
        Ok((matched, evaluator.steps_left(), tally))
    }

    fn can_match(&self, name: &str) -> bool {
        let name = || Box::<str>::from(name);
        self.narrowed.as_ref().is_none_or(|names| names.iter().any(|names| names.contains(&name())))
    }
}
