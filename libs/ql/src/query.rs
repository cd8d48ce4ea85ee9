//! A query from text to verdicts: compile once, evaluate for every candidate.
//! Time and the caller's zone come in as values, so a query means the same wherever and whenever it is evaluated.

use std::ops::Range;

use ruff_text_size::TextRange;

use crate::error::{ErrorKind, Fault, QueryError};
use crate::eval::{Raise, Stop, Workspace};
use crate::limits::{BudgetError, Limits};
use crate::lower::{Lowered, lower, not_archived};
use crate::needs::Needs;
use crate::plan::{self, Plan};
use crate::source::Source;
use crate::tree::Node;
use crate::view::{RunView, SequenceView};
use crate::{check, parse};

/// What is searched; it decides which names a query has beside `run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Run,
    Metric,
    Images,
    Texts,
    Distributions,
    Audios,
    Figures,
}

impl Endpoint {
    /// The name of the sequence under evaluation; none in a run search.
    pub fn variable(self) -> Option<&'static str> {
        match self {
            Endpoint::Run => None,
            Endpoint::Metric => Some("metric"),
            Endpoint::Images => Some("images"),
            Endpoint::Texts => Some("texts"),
            Endpoint::Distributions => Some("distributions"),
            Endpoint::Audios => Some("audios"),
            Endpoint::Figures => Some("figures"),
        }
    }

    /// Are sequences of this dtype candidates? What is no object and no log is a metric.
    pub fn accepts(self, dtype: &str) -> bool {
        let of_dtype = match dtype {
            "image" => Some(Endpoint::Images),
            "text" => Some(Endpoint::Texts),
            "distribution" => Some(Endpoint::Distributions),
            "audio" => Some(Endpoint::Audios),
            "figure" => Some(Endpoint::Figures),
            "logs" | "log_records" => None,
            _ => Some(Endpoint::Metric),
        };
        of_dtype == Some(self)
    }
}

/// What a query depends on beside its text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    pub endpoint: Endpoint,
    /// Minutes to add to the caller's local time to get UTC: the header `X-Timezone-Offset` as it is.
    pub offset_minutes: i32,
    /// Unix seconds that `datetime.now()` gives.
    pub now: f64,
}

/// Something that is no error by contract, yet hardly meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub message: String,
    /// 1-based, in the statement.
    pub line: u32,
    pub column: u32,
    pub end_column: u32,
    /// Byte range in the text as it was typed.
    pub typed: Range<usize>,
}

/// A compiled query: shared between threads, evaluated by one [`Evaluator`] in each.
#[derive(Debug)]
pub struct Query {
    statement: String,
    normalized: String,
    options: Options,
    root: Node,
    slots: u16,
    height: u32,
    needs: Needs,
    warnings: Vec<Warning>,
}

/// Compiles a query text as it was typed. The empty text finds every run that is not archived.
pub fn compile(text: &str, options: Options) -> Result<Query, QueryError> {
    let source = Source::new(text)?;
    let compiled = |fault: Fault| source.error(fault);
    let (lowered, height) = match source.is_empty() {
        true => {
            let (unknown, times) = (Vec::new(), Vec::new());
            (Lowered { root: not_archived(), slots: 0, unknown, is_filtered: true, times }, 1)
        }
        false => {
            let expression = parse::parse(source.wrapped()).map_err(compiled)?;
            let height = check::check(&expression).map_err(compiled)?;
            // The default filter stands above the query.
            (lower(&expression, &options).map_err(compiled)?, height + 2)
        }
    };
    let warnings = lowered.unknown.iter().map(|(name, range)| unknown_name(&source, name, *range));
    Ok(Query {
        normalized: normalized(&source, &lowered),
        statement: source.statement().to_owned(),
        options,
        warnings: warnings.collect(),
        needs: Needs::of(&lowered.root),
        root: lowered.root,
        slots: lowered.slots,
        height,
    })
}

/// The statement with the default filter, and times as numbers.
fn normalized(source: &Source<'_>, lowered: &Lowered) -> String {
    const FILTER: &str = "run.is_archived == False";
    if source.is_empty() {
        return FILTER.to_owned();
    }
    // They were found in the order of evaluation; a default of an argument may be found twice.
    let mut times = lowered.times.clone();
    times.sort_by_key(|(_, range)| range.start());
    times.dedup_by_key(|(_, range)| range.start());
    let (mut text, mut rest) = (String::new(), 0);
    for (seconds, range) in &times {
        text.push_str(&source.wrapped()[rest..range.start().to_usize()]);
        text.push_str(&format!("{seconds:?}"));
        rest = range.end().to_usize();
    }
    text.push_str(&source.wrapped()[rest..]);
    match lowered.is_filtered {
        true => format!("{FILTER} and {text}"),
        // Without the parentheses that are no part of the statement.
        false => text[1..text.len() - 1].trim_end().to_owned(),
    }
}

fn unknown_name(source: &Source<'_>, name: &str, range: TextRange) -> Warning {
    let place = source.error(Fault::new(ErrorKind::Syntax, range, ""));
    Warning {
        message: format!("the name '{name}' is not defined here, so whatever needs it finds nothing"),
        line: place.line,
        column: place.column,
        end_column: place.end_column,
        typed: place.typed,
    }
}

impl Query {
    /// The text that was compiled: stripped, without `SELECT … IF`.
    pub fn statement(&self) -> &str {
        &self.statement
    }

    /// The query as it is evaluated, in the language itself: with the default filter, and times as numbers.
    pub fn normalized(&self) -> &str {
        &self.normalized
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What evaluation will ask of a view.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// What indexes can answer of it.
    pub fn plan(&self) -> Plan {
        plan::derive(&self.root, self.options.endpoint)
    }

    pub fn evaluator(&self, limits: Limits) -> Evaluator<'_> {
        Evaluator { query: self, workspace: Workspace::new(limits) }
    }

    pub(crate) fn root(&self) -> &Node {
        &self.root
    }

    pub(crate) fn slots(&self) -> u16 {
        self.slots
    }

    pub(crate) fn height(&self) -> u32 {
        self.height
    }
}

/// The verdict on a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Match,
    NoMatch,
    /// Evaluation raised, which counts as no match. A search where every candidate raises deserves a warning.
    Raised(Raise),
}

impl Outcome {
    pub fn is_match(self) -> bool {
        self == Outcome::Match
    }
}

/// Evaluates a query for one candidate after another, on one thread.
pub struct Evaluator<'q> {
    query: &'q Query,
    workspace: Workspace,
}

impl Evaluator<'_> {
    /// What is left of [`Limits::steps_in_total`], for a search that goes on with another evaluator.
    pub fn steps_left(&self) -> u64 {
        self.workspace.steps_left()
    }

    /// Evaluates a run, in a run search.
    pub fn run(&mut self, run: &dyn RunView) -> Result<Outcome, BudgetError> {
        self.outcome(run, None)
    }

    /// Evaluates a sequence of a run. Whether its dtype is wanted at all is for [`Endpoint::accepts`] to say.
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
        match self.workspace.truth(self.query, run, sequence) {
            Ok(true) => Ok(Outcome::Match),
            Ok(false) => Ok(Outcome::NoMatch),
            Err(Stop::Raise(raise)) => Ok(Outcome::Raised(raise)),
            Err(Stop::Budget(budget)) => Err(budget),
        }
    }
}
