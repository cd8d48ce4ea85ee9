//! Queries from text to verdict: compiled once, evaluated for every candidate. The current time
//! and the caller's time zone are parameters, so the meaning of a query does not depend on
//! where and when it is evaluated.

use std::collections::BTreeSet;
use std::ops::Range;

use ruff_text_size::TextRange;

use crate::error::{ErrorKind, Fault, QueryError};
use crate::eval::{EvalError, Exception, Workspace};
use crate::limits::{BudgetError, QueryLimits};
use crate::lower::{LoweredQuery, lower, not_archived};
use crate::needs::Needs;
use crate::options::QueryOptions;
use crate::plan::{self, Plan};
use crate::source::Source;
use crate::tree::{Node, PathStep, Program};
use crate::view::{KeyPath, RunView, SequenceView};
use crate::{check, parse};

/// A construct that is valid by contract but probably a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub message: String,
    /// 1-based position in the statement.
    pub line: u32,
    pub column: u32,
    pub end_column: u32,
    /// Byte range in the typed text.
    pub typed: Range<usize>,
}

/// A compiled query. It can be shared between threads, with a separate [`Evaluator`] in each.
#[derive(Debug)]
pub struct Query {
    statement: String,
    normalized: String,
    options: QueryOptions,
    program: Program,
    needs: Needs,
    param_paths: Box<[KeyPath]>,
    warnings: Vec<Warning>,
}

/// Compiles a query as typed. The empty text matches every run that is not archived.
pub fn compile(text: &str, options: QueryOptions) -> Result<Query, QueryError> {
    let source = Source::new(text)?;
    let compiled = |fault: Fault| source.error(fault);
    let (lowered, height) = if source.is_empty() {
        let lowered = LoweredQuery {
            root: not_archived(),
            slots: 0,
            unknown: Vec::new(),
            is_filtered: true,
            times: Vec::new(),
            lookups: 0,
        };
        (lowered, 1)
    } else {
        let expression = parse::parse(source.wrapped()).map_err(compiled)?;
        let height = check::check(&expression).map_err(compiled)?;
        // The default filter adds two levels above the query.
        (lower(&expression, &options).map_err(compiled)?, height + 2)
    };
    let warnings = lowered.unknown.iter().map(|(name, range)| unknown_name(&source, name, *range));
    Ok(Query {
        normalized: normalized(&source, &lowered),
        statement: source.statement().to_owned(),
        options,
        warnings: warnings.collect(),
        needs: Needs::for_query(&lowered.root),
        param_paths: param_paths(&lowered.root),
        program: Program { root: lowered.root, slots: lowered.slots, height, lookups: lowered.lookups },
    })
}

/// Returns the statement with the default filter, and with times as numbers.
fn normalized(source: &Source<'_>, lowered: &LoweredQuery) -> String {
    const FILTER: &str = "run.is_archived == False";
    if source.is_empty() {
        return FILTER.to_owned();
    }
    // Times are in evaluation order, and the default of a parameter may be listed twice.
    let mut times = lowered.times.clone();
    times.sort_by_key(|(_, range)| range.start());
    times.dedup_by_key(|(_, range)| range.start());
    let mut text = String::new();
    let mut rest = 0;
    for (seconds, range) in &times {
        text.push_str(&source.wrapped()[rest..range.start().to_usize()]);
        text.push_str(&format!("{seconds:?}"));
        rest = range.end().to_usize();
    }
    text.push_str(&source.wrapped()[rest..]);
    if lowered.is_filtered {
        format!("{FILTER} and {text}")
    } else {
        // Removes the parentheses that are not part of the statement.
        text[1..text.len() - 1].trim_end().to_owned()
    }
}

/// Returns the paths of params that evaluation may read, except paths that it computes, in order.
fn param_paths(root: &Node) -> Box<[KeyPath]> {
    let mut paths = BTreeSet::new();
    root.walk(&mut |node| {
        if let Node::Param(lookup) | Node::ParamOr(lookup, _) = node {
            paths.insert(lookup.path.clone());
            if !lookup.absent_is_none() {
                paths.insert(lookup.top());
            }
        }
    });
    paths.into_iter().collect()
}

fn unknown_name(source: &Source<'_>, name: &str, range: TextRange) -> Warning {
    let place = source.error(Fault::new(ErrorKind::Syntax, range, ""));
    Warning {
        message: format!(
            "the name '{name}' is not defined here; any expression that needs it matches nothing"
        ),
        line: place.line,
        column: place.column,
        end_column: place.end_column,
        typed: place.typed,
    }
}

impl Query {
    /// Returns the compiled text: stripped, without `SELECT … IF`.
    pub fn statement(&self) -> &str {
        &self.statement
    }

    /// Returns the query as evaluated, in the language itself: with the default filter, and
    /// with times as numbers.
    pub fn normalized(&self) -> &str {
        &self.normalized
    }

    pub fn options(&self) -> &QueryOptions {
        &self.options
    }

    /// Returns the data that evaluation will read from a view.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Returns the paths of params that the text of the query contains, in order. A view that looks for
    /// all of them at once passes over the params of a run only once.
    pub fn param_paths(&self) -> &[KeyPath] {
        &self.param_paths
    }

    /// Returns the params that the query names, each up to a member that some types of values have.
    pub fn named_params(&self) -> BTreeSet<KeyPath> {
        let mut params = BTreeSet::new();
        self.program.root.walk(&mut |node| {
            let Node::Param(lookup) = node else { return };
            let steps = lookup.steps.iter().zip(lookup.path.keys());
            let keys = steps.take_while(|(step, _)| !matches!(step, PathStep::Attribute(Some(_))));
            params.insert(KeyPath::new(keys.map(|(_, key)| key.clone())));
        });
        params
    }

    /// Returns the plan: the knowledge of indexes about the query.
    pub fn plan(&self) -> Plan {
        plan::derive(&self.program.root, self.options.endpoint)
    }

    pub fn evaluator(&self, limits: QueryLimits) -> Evaluator<'_> {
        self.stoppable_evaluator(limits, &|| false)
    }

    /// Returns an evaluator that asks every 65,536 steps whether it should stop. If so, evaluation ends
    /// with [`BudgetError::Stopped`].
    pub fn stoppable_evaluator<'q>(
        &'q self,
        limits: QueryLimits,
        is_stopped: &'q dyn Fn() -> bool,
    ) -> Evaluator<'q> {
        Evaluator { query: self, workspace: Workspace::new(limits), is_stopped }
    }
}

/// The verdict on a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Match,
    NoMatch,
    /// Evaluation raised, which counts as no match. A search in which every candidate
    /// raises deserves a warning.
    Raised(Exception),
}

impl Outcome {
    pub fn is_match(self) -> bool {
        self == Outcome::Match
    }
}

/// Evaluates a query for a series of candidates on one thread.
pub struct Evaluator<'q> {
    query: &'q Query,
    workspace: Workspace,
    is_stopped: &'q dyn Fn() -> bool,
}

impl Evaluator<'_> {
    /// Returns the remainder of [`QueryLimits::steps_in_total`], for a search that continues
    /// with another evaluator.
    pub fn steps_left(&self) -> u64 {
        self.workspace.steps_left()
    }

    /// Evaluates a run, in a run search.
    pub fn run(&mut self, run: &dyn RunView) -> Result<Outcome, BudgetError> {
        self.outcome(run, None)
    }

    /// Evaluates a sequence of a run. The caller must have checked its dtype with
    /// [`crate::Endpoint::accepts`].
    pub fn sequence(
        &mut self,
        run: &dyn RunView,
        sequence: &dyn SequenceView,
    ) -> Result<Outcome, BudgetError> {
        self.outcome(run, Some(sequence))
    }

    fn outcome(
        &mut self,
        run: &dyn RunView,
        sequence: Option<&dyn SequenceView>,
    ) -> Result<Outcome, BudgetError> {
        let Self { query, workspace, is_stopped } = self;
        match workspace.truth(&query.program, &query.options, run, sequence, is_stopped) {
            Ok(true) => Ok(Outcome::Match),
            Ok(false) => Ok(Outcome::NoMatch),
            Err(EvalError::Exception(raise)) => Ok(Outcome::Raised(raise)),
            Err(EvalError::Budget(budget)) => Err(budget),
        }
    }
}

#[cfg(test)]
mod tests;
