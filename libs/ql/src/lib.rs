//! MatyanQL: parse, check, plan and evaluate. Pure, no I/O: no clock, no store, and
//! results that depend on nothing else than the arguments.
//!
//! A query is one Python expression; a candidate (a run, or a sequence of a run) matches if it
//! is true. It is never executed by Python: ruff's parser produces a tree, which is checked,
//! resolved and folded once, and then evaluated on separate value types. By contract, an
//! exception makes the query false for that candidate.
//!
//! # A search, step by step
//!
//! 1. [`compile`] the text. A [`QueryError`] is the caller's fault and known before anything is
//!    streamed: answer 400 with its text as `message`, and `statement`, `line`,
//!    [`QueryError::wrapped_offset`] and [`QueryError::wrapped_end_offset`] as the detail that
//!    user interfaces underline. Report [`Query::warnings`] before the first result.
//! 2. Take its [`Query::plan`], the part that indexes can answer, fetch the counts of
//!    [`Plan::probes`] from the store, and let [`Plan::choose`] pick the access path. The
//!    candidates are the runs that the path proposes **and** the runs that are listed as not
//!    fully indexed; with [`AccessPath::Scan`], all runs. `explain` prints a plan by its
//!    `Display`.
//! 3. Load the data that [`Query::needs`] names for each candidate, and wrap it in a [`RunView`]. A view
//!    answers from memory: params by complete path, decoding no more than is requested. It can find all of
//!    [`Query::param_paths`] in one pass, and tells how many bytes a query pays for.
//! 4. Pass each candidate to an [`Evaluator`] (one per thread). Skip this only where
//!    [`AccessChoice::exact`] holds and the run is fully indexed. A [`BudgetError`] ends the search:
//!    the query costs more than [`QueryLimits`] allow. If every candidate was [`Outcome::Raised`],
//!    warn the user. [`Query::stoppable_evaluator`] ends an evaluation whose caller has left.
//! 5. In a search for sequences, the candidates are the sequences whose dtype
//!    [`Endpoint::accepts`] and whose name is in [`Plan::sequences`], if that is given.
//!
//! ```
//! use matyan_ql::{
//!     Datum, Endpoint, KeyPath, Outcome, ParamRead, QueryLimits, QueryOptions, RunView, SequenceView, compile,
//! };
//!
//! struct Run {
//!     lr: f64,
//! }
//!
//! impl RunView for Run {
//!     fn hash(&self) -> &str { "0123" }
//!     fn name(&self) -> Option<&str> { Some("baseline") }
//!     fn description(&self) -> Option<&str> { None }
//!     fn experiment(&self) -> Option<&str> { None }
//!     fn created_at(&self) -> f64 { 1_704_067_200.0 }
//!     fn end_time(&self) -> Option<f64> { None }
//!     fn active(&self) -> bool { true }
//!     fn outcome(&self) -> Option<&str> { None }
//!     fn parent(&self) -> Option<&str> { None }
//!     fn archived(&self) -> bool { false }
//!     fn tags(&self) -> Vec<&str> { vec!["cv"] }
//!     fn param(&self, path: &KeyPath, _: usize) -> ParamRead<'_> {
//!         (path.to_string() == "hparams.lr").then_some(Datum::Float(self.lr)).into()
//!     }
//!     fn sequences(&self, _name: &str) -> Vec<&dyn SequenceView> { Vec::new() }
//! }
//!
//! let options = QueryOptions { endpoint: Endpoint::Run, offset_minutes: -240, now: 1_704_070_000.0 };
//! let query = compile("run.hparams.lr < 0.01 and run.name.startswith('b')", options)?;
//! assert_eq!(
//!     query.plan().to_string(),
//!     r#"archived = false and param hparams.lr < 0.01 and name starts with "b"; exact"#
//! );
//! let mut evaluator = query.evaluator(QueryLimits::default());
//! assert_eq!(evaluator.run(&Run { lr: 0.001 }), Ok(Outcome::Match));
//! assert_eq!(evaluator.run(&Run { lr: 0.1 }), Ok(Outcome::NoMatch));
//!
//! let error = compile("run.hparams.lr <", options).unwrap_err();
//! assert_eq!((error.line, error.column, error.expected.as_deref()), (1, 17, Some("an expression")));
//! # Ok::<(), matyan_ql::QueryError>(())
//! ```
//!
//! # Guarantees, and the tests that verify them
//!
//! - A query has the same meaning as in Python: `tests/contract.rs` row by row, `tests/python.rs`
//!   against recorded CPython, `tests/vectors.rs` against the recorded system. Beyond Python, a
//!   single time type serves for dates, numbers and durations, and stored objects have
//!   attributes.
//! - A plan never leaves out a match, and an exact one adds none: `tests/plans.rs`, over random
//!   runs and queries.
//! - Any text yields a query or an error with a position, and any evaluation a verdict or a
//!   budget error, on the stack of an ordinary thread: `tests/hostile.rs`.
//!
//! # Reading order
//!
//! `source` (text to statement), `parse`, `check` (refusals), `lower` (to the typed
//! `tree`), `eval`, `plan`.

mod check;
mod complete;
mod error;
mod eval;
mod limits;
mod lower;
mod names;
mod needs;
mod options;
mod parse;
mod plan;
mod query;
mod source;
mod tree;
mod value;
mod view;

pub use complete::{CompletionPlace, MissingPart, is_attribute, param_text, text_literal};
pub use error::{ErrorKind, QueryError};
pub use eval::Exception;
pub use limits::{BudgetError, MAX_BRACKETS, MAX_QUERY_BYTES, MAX_TREE_HEIGHT, QueryLimits};
pub use needs::{NeedSet, Needs};
pub use options::{Endpoint, QueryOptions};
pub use plan::{AccessChoice, AccessPath, Interval, ParamKeys, Plan, Probe, Proposal, Statistics};
pub use query::{Evaluator, Outcome, Query, Warning, compile};
pub use view::{Datum, KeyPath, ParamRead, RunView, SequenceSummary, SequenceView, StoredParam};
