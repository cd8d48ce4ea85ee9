//! MatyanQL: parse, check, plan and evaluate. Pure, no I/O.

mod check;
mod error;
mod eval;
mod limits;
mod lower;
mod names;
mod needs;
mod parse;
mod query;
mod source;
mod tree;
mod value;
mod view;

pub use error::{ErrorKind, QueryError};
pub use eval::Raise;
pub use limits::{BudgetError, Limits, MAX_BRACKETS, MAX_QUERY_BYTES, MAX_TREE_HEIGHT};
pub use needs::{Needs, Wanted};
pub use query::{Endpoint, Evaluator, Options, Outcome, Query, Warning, compile};
pub use view::{Datum, Path, RunView, SequenceView, Summary};
