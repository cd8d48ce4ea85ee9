//! All limits of a query. Limits of compilation are constants; limits that a search may tighten
//! are in [`QueryLimits`]. There is no clock here: the scanning code enforces the deadline, and
//! these limits bound the work between two checks of it.

/// Longest query text in bytes; the longest one seen in use has 8 kB.
pub const MAX_QUERY_BYTES: usize = 64 * 1024;

/// Deepest nesting of brackets, including the bracket that wraps the query: CPython's own limit.
pub const MAX_BRACKETS: usize = 200;

/// Bound on the depth of the parser's tree, counted over tokens before the tree exists, because
/// dropping it takes stack.
pub(crate) const MAX_TOKEN_DEPTH: usize = 1_000;

/// Greatest height of the checked tree; evaluation takes stack for each level.
pub const MAX_TREE_HEIGHT: u32 = 200;

/// Most tree levels being evaluated at the same time, over all nested calls of lambdas and
/// generators.
pub(crate) const MAX_ACTIVE_LEVELS: u32 = 400;

/// Deepest nesting of lists, in params and in values under evaluation.
pub(crate) const MAX_VALUE_DEPTH: u32 = 100;

/// Most digits of an integer that is written or parsed in decimal: CPython's own limit.
pub(crate) const MAX_INT_DIGITS: usize = 4_300;

/// Most bits of an integer: slightly more than [`MAX_INT_DIGITS`] decimal digits need.
pub(crate) const MAX_INT_BITS: u64 = 16 * 1024;

/// Most digits after the point in formatted floats; no float has more.
pub(crate) const MAX_PRECISION: usize = 1_100;

/// Most elements of a `range`. The limit is documented.
pub(crate) const MAX_RANGE: i64 = 1_000;

/// Most steps that constant folding may take while one query is compiled: at most 100 ms.
pub(crate) const MAX_FOLD_STEPS: u64 = 1_000_000;

/// Steps between two checks whether an evaluation should stop: at most 7 ms.
pub(crate) const STEPS_PER_CHECK: u64 = 65_536;

/// Longest string that folding keeps as a constant.
pub(crate) const MAX_FOLDED_BYTES: usize = 16 * 1024;

/// Budget of one scan. A step is one node evaluated, one element visited, one probe of a table, or
/// 64 bytes processed. It may take 100 ns of processor time, which `tests/bench/src/search/steps.rs` measures on the
/// largest run; simple steps take 20 ns or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryLimits {
    /// For one run or one sequence; the default takes at most 100 ms.
    pub steps_per_candidate: u64,
    /// For all candidates of one [`crate::Evaluator`].
    pub steps_in_total: u64,
    /// Bytes that the values of one candidate may occupy in total.
    pub memory: usize,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self { steps_per_candidate: 1_000_000, steps_in_total: 2_000_000_000, memory: 8 << 20 }
    }
}

/// An expression costs more than [`QueryLimits`] allow: the search ends, and the author should
/// simplify the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    #[error("the query takes too many steps for one run; make it simpler")]
    CandidateSteps,
    #[error("the query takes too many steps over all runs; narrow the search or make it simpler")]
    TotalSteps,
    #[error("the query creates a value that is too large")]
    Memory,
    #[error("the query nests calls too deeply; make it simpler")]
    Depth,
    /// The caller has left.
    #[error("the search was abandoned by its caller")]
    Stopped,
}
