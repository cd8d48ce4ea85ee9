//! Evaluates a query on loaded runs, in slices on the threads for it: an expression may take
//! milliseconds per run. The query language limits the total cost of a search.

use std::sync::Arc;

use matyan_ql::{BudgetError, Interval, Outcome, Query, QueryLimits, SequenceView};

use super::candidate::Candidate;
use crate::server::{
    error::Result,
    evaluation::{Evaluation, SLICE_STEPS, SLICE_VERDICTS},
};

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
    pub(crate) async fn matching(
        &mut self,
        evaluation: &Evaluation,
        candidates: Vec<Candidate>,
    ) -> Result<Vec<MatchedRun>> {
        let mut page = PageEvaluation::new(candidates);
        while !page.is_done() {
            let rules = self.rules.clone();
            let limits = self.limits();
            let (evaluated, steps_left, verdicts) =
                evaluation.run_stoppable(move |is_stopped| page.slice(&rules, limits, is_stopped)).await??;
            page = evaluated;
            self.steps_left = steps_left;
            self.verdicts.add(verdicts);
        }
        Ok(page.matched)
    }

    pub(super) fn query(&self) -> &Arc<Query> {
        &self.rules.query
    }

    /// The remaining budget.
    pub(super) fn limits(&self) -> QueryLimits {
        QueryLimits { steps_in_total: self.steps_left, ..QueryLimits::default() }
    }

    /// Notes that steps of the budget were taken elsewhere.
    pub(super) fn set_steps_left(&mut self, steps_left: u64) {
        self.steps_left = steps_left;
    }

    /// Adds verdicts made elsewhere.
    pub(super) fn add_verdicts(&mut self, verdicts: VerdictCounts) {
        self.verdicts.add(verdicts);
    }

    /// Whether nothing was found because the query raised an error for every run.
    pub(crate) fn always_raised(&self) -> bool {
        self.verdicts.evaluated > 0 && self.verdicts.raised == self.verdicts.evaluated
    }
}

/// The evaluation of a page as far as it has come.
struct PageEvaluation {
    rest: std::vec::IntoIter<Candidate>,
    /// A run, with the number of its sequences that have been evaluated.
    current: Option<(MatchedRun, usize)>,
    /// Without large params, which would take more memory than a page until the runs are sent.
    matched: Vec<MatchedRun>,
}

impl PageEvaluation {
    fn new(candidates: Vec<Candidate>) -> Self {
        Self { rest: candidates.into_iter(), current: None, matched: Vec::new() }
    }

    fn is_done(&self) -> bool {
        self.current.is_none() && self.rest.len() == 0
    }

    /// Continues for a slice. Returns the steps left and the verdicts as well.
    fn slice(
        mut self,
        rules: &FilterRules,
        limits: QueryLimits,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<(Self, u64, VerdictCounts), BudgetError> {
        let endpoint = rules.query.options().endpoint;
        let mut evaluator = rules.query.stoppable_evaluator(limits, is_stopped);
        let mut verdicts = VerdictCounts::default();
        let mut is_match = |outcome: Outcome| {
            verdicts.record(outcome);
            outcome.is_match()
        };
        let mut looked_at = 0;
        loop {
            let steps = limits.steps_in_total - evaluator.steps_left();
            if steps > SLICE_STEPS || looked_at > SLICE_VERDICTS {
                break;
            }
            looked_at += 1;
            let next = || Some((MatchedRun { candidate: self.rest.next()?, sequences: Vec::new() }, 0));
            let Some((mut run, index)) = self.current.take().or_else(next) else { break };
            if endpoint.variable().is_none() {
                if is_match(evaluator.run(&run.candidate)?) {
                    self.add_match(run);
                }
                continue;
            }
            match run.candidate.sequences.get(index) {
                Some(sequence) => {
                    let is_candidate = endpoint.accepts(sequence.dtype()) && rules.can_match(sequence.name());
                    if is_candidate && is_match(evaluator.sequence(&run.candidate, sequence)?) {
                        run.sequences.push(index);
                    }
                    self.current = Some((run, index + 1));
                }
                None if run.sequences.is_empty() => {}
                None => self.add_match(run),
            }
        }
        Ok((self, evaluator.steps_left(), verdicts))
    }

    fn add_match(&mut self, mut run: MatchedRun) {
        run.candidate.params.clear();
        self.matched.push(run);
    }
}

impl FilterRules {
    fn can_match(&self, name: &str) -> bool {
        let name = || Box::<str>::from(name);
        self.narrowed.as_ref().is_none_or(|names| names.iter().any(|names| names.contains(&name())))
    }
}
