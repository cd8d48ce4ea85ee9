//! Every limit of a query, once. Compile-time ones are constants; those that a search may tighten are in [`Limits`].
//! There is no clock here: whoever scans holds the deadline, these bound the work between two looks at it.

/// Longest query text in bytes; the longest seen in use has 8 kB.
pub const MAX_QUERY_BYTES: usize = 64 * 1024;

/// Brackets within brackets, the one that wraps the query included: CPython's own limit.
pub const MAX_BRACKETS: usize = 200;

/// Bound on the depth of the parser's tree, counted over tokens before there is one: dropping it takes stack.
pub(crate) const MAX_TOKEN_DEPTH: usize = 1_000;

/// Height of the checked tree: evaluation takes stack for each level.
pub const MAX_TREE_HEIGHT: u32 = 200;

/// Levels under evaluation at once, over all nested calls of lambdas and generators.
pub(crate) const MAX_ACTIVE_LEVELS: u32 = 400;

/// Lists within lists, in parameters and in values under evaluation.
pub(crate) const MAX_VALUE_DEPTH: u32 = 100;

/// Digits of an integer that may be written or read in decimal: CPython's own limit.
pub(crate) const MAX_INT_DIGITS: usize = 4_300;

/// Bits of an integer: a little more than [`MAX_INT_DIGITS`] decimal digits need.
pub(crate) const MAX_INT_BITS: u64 = 16 * 1024;

/// Digits behind the point in formatted floats: every float ends before.
pub(crate) const MAX_PRECISION: usize = 1_100;

/// Elements of a `range`, as documented.
pub(crate) const MAX_RANGE: i64 = 1_000;

/// Steps that folding constants may take while one query is compiled.
pub(crate) const MAX_FOLD_STEPS: u64 = 1_000_000;

/// Longest text that folding keeps as a constant.
pub(crate) const MAX_FOLDED_BYTES: usize = 16 * 1024;

/// What one scan may spend. A step is one node evaluated, one element visited, or 64 bytes looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For one run or one sequence: about 20 ms.
    pub steps_per_candidate: u64,
    /// For all candidates that one [`crate::Evaluator`] sees.
    pub steps_in_total: u64,
    /// Bytes that the values of one candidate may take together.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps_per_candidate: 1_000_000, steps_in_total: 2_000_000_000, memory: 8 << 20 }
    }
}

/// An expression that costs more than [`Limits`] allow: the search ends, and the author makes it simpler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    #[error("the query takes too many steps for one run; make it simpler")]
    CandidateSteps,
    #[error("the query takes too many steps over all runs; narrow the search or make it simpler")]
    TotalSteps,
    #[error("the query makes a value that is too large")]
    Memory,
    #[error("the query nests calls too deeply")]
    Depth,
}
