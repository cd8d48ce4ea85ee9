//! Constant folding: the evaluator itself evaluates an expression of constants once, at compile
//! time. So `datetime(…)`, `-0.5` and `datetime.now() - timedelta(days=7)` become constants
//! that indexes can use.

use ruff_text_size::TextRange;

use crate::error::{ErrorKind, Fault};
use crate::eval;
use crate::limits::MAX_FOLD_STEPS;
use crate::options::QueryOptions;
use crate::tree::{Arguments, Item, Node};

pub(super) struct ConstantFolder<'o> {
    options: &'o QueryOptions,
    steps: u64,
}

impl<'o> ConstantFolder<'o> {
    pub(super) fn new(options: &'o QueryOptions) -> Self {
        Self { options, steps: MAX_FOLD_STEPS }
    }

    /// Returns the constant value of a node, or the node itself if it depends on a run or
    /// raises.
    pub(super) fn fold(&mut self, node: Node, range: TextRange) -> Result<Node, Fault> {
        if !is_foldable(&node) {
            return Ok(node);
        }
        match eval::constant(&node, self.options, &mut self.steps) {
            Ok(Some(constant)) => Ok(Node::Const(constant)),
            Ok(None) => Ok(node),
            Err(budget) => Err(Fault::new(ErrorKind::Limit, range, budget.to_string())),
        }
    }
}

fn is_foldable(node: &Node) -> bool {
    match node {
        Node::Unary(_, operand) => is_constant(operand),
        Node::Binary(binary) => is_constant(&binary.left) && is_constant(&binary.right),
        Node::Call(call) => matches!(call.function, Node::Builtin(_)) && are_constant(&call.arguments),
        Node::MethodCall(call) => is_constant(&call.object) && are_constant(&call.arguments),
        Node::Attribute(attribute) => is_constant(&attribute.object),
        Node::Index(parts) => parts.iter().all(is_constant),
        _ => false,
    }
}

fn is_constant(node: &Node) -> bool {
    matches!(node, Node::Const(_)) || node.constants().is_some()
}

fn are_constant(arguments: &Arguments) -> bool {
    let positional =
        arguments.positional.iter().all(|item| matches!(item, Item::One(node) if is_constant(node)));
    positional && arguments.keywords.iter().all(|(name, node)| name.is_some() && is_constant(node))
}
