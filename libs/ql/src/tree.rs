//! The typed tree of a checked query: names resolved, paths split, constants folded. Built
//! once, read by many threads. It is evaluated directly; there is no further intermediate form.

mod walk;

use crate::names::{Builtin, Member, Property, SequenceField};
use crate::view::KeyPath;

/// A query ready for evaluation.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) root: Node,
    /// Slots of the query's own environment.
    pub(crate) slots: u16,
    /// Stack levels that an evaluation takes.
    pub(crate) height: u32,
    /// Number of slots for the values of lookups.
    pub(crate) lookups: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Constant {
    None,
    Bool(bool),
    Int(i64),
    Big(BigConstant),
    Float(f64),
    /// A point in time in Unix seconds.
    Time(f64),
    /// A duration in seconds.
    Span(f64),
    Complex(f64, f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
}

/// An integer beyond 64 bits: 32-bit digits, least significant first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BigConstant {
    pub(crate) negative: bool,
    pub(crate) digits: Box<[u32]>,
}

#[derive(Debug)]
pub(crate) enum Node {
    Const(Constant),
    Builtin(Builtin),
    /// An unbound name, which raises.
    Unknown,
    Local(Local),
    Run,
    Property(Property),
    Tags,
    Metrics,
    Param(Box<Lookup>),
    /// A param with a property as its fallback: `run.finalized_at`.
    ParamOr(Box<Lookup>, Property),
    Sequence,
    SequenceField(SequenceField),
    Context(Box<Lookup>),
    /// `metric.name` compared with names in a run search: whether the run has such a
    /// sequence.
    HasSequence(Box<[Box<str>]>),
    /// `run.metrics[name]`, `run.metrics[name, context]`.
    Metric(Box<Metric>),
    Attribute(Box<Attribute>),
    Index(Box<[Node; 2]>),
    Slice(Box<[Option<Node>; 3]>),
    Call(Box<Call>),
    MethodCall(Box<MethodCall>),
    And(Box<[Node]>),
    Or(Box<[Node]>),
    Not(Box<Node>),
    /// Test, body, else.
    If(Box<[Node; 3]>),
    Compare(Box<Compare>),
    Chain(Box<Chain>),
    Unary(Unary, Box<Node>),
    Binary(Box<Binary>),
    Display(Display, Box<[Item]>),
    Dict(Box<[(Option<Node>, Node)]>),
    Comprehension(Box<Comprehension>),
    Lambda(Box<Lambda>),
    Assign(Box<Assign>),
    Format(Box<[FormatPiece]>),
}

/// A bound name: the number of environments outward, the slot, and the meaning of the name while the
/// slot is empty.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) hops: u16,
    pub(crate) slot: u16,
    pub(crate) unbound: Option<Box<Node>>,
}

/// A path into params or a context, with the syntax of each step.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) path: KeyPath,
    pub(crate) steps: Box<[PathStep]>,
    /// The place of its value among the values of a candidate.
    pub(crate) slot: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathStep {
    /// `.key`: None if absent, unless a value of some type has such a member.
    Attribute(Option<Member>),
    /// `["key"]`: raises if absent.
    Item,
    /// `["key"]` directly on the run: None if absent.
    Lenient,
}

impl Lookup {
    /// The path of the outermost key.
    pub(crate) fn top(&self) -> KeyPath {
        KeyPath::new(self.path.keys().iter().take(1).cloned())
    }

    /// Whether the value is None if the path does not exist. If not, the steps must be
    /// taken one by one.
    pub(crate) fn absent_is_none(&self) -> bool {
        self.steps.iter().all(|step| matches!(step, PathStep::Attribute(None) | PathStep::Lenient))
    }
}

#[derive(Debug)]
pub(crate) struct Metric {
    pub(crate) name: Node,
    pub(crate) context: Option<Node>,
}

#[derive(Debug)]
pub(crate) struct Attribute {
    pub(crate) object: Node,
    pub(crate) name: Box<str>,
    pub(crate) member: Option<Member>,
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) function: Node,
    pub(crate) arguments: Arguments,
}

#[derive(Debug)]
pub(crate) struct MethodCall {
    pub(crate) object: Node,
    pub(crate) name: Box<str>,
    pub(crate) member: Option<Member>,
    pub(crate) arguments: Arguments,
}

#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) positional: Box<[Item]>,
    /// Without a name: `**mapping`.
    pub(crate) keywords: Box<[(Option<Box<str>>, Node)]>,
}

/// An element of a display, or a positional argument.
#[derive(Debug)]
pub(crate) enum Item {
    One(Node),
    Spread(Node),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Eq,
    NotEq,
    Less,
    LessEq,
    Greater,
    GreaterEq,
    Is,
    IsNot,
    In,
    NotIn,
}

#[derive(Debug)]
pub(crate) struct Compare {
    pub(crate) left: Node,
    pub(crate) operator: Comparison,
    pub(crate) right: Node,
}

#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) first: Node,
    pub(crate) rest: Box<[(Comparison, Node)]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unary {
    Plus,
    Minus,
    Invert,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    MatrixMultiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
    ShiftLeft,
    ShiftRight,
    And,
    Or,
    Xor,
}

#[derive(Debug)]
pub(crate) struct Binary {
    pub(crate) left: Node,
    pub(crate) operator: Operator,
    pub(crate) right: Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Display {
    List,
    Tuple,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collect {
    List,
    Set,
    Dict,
    Generator,
}

#[derive(Debug)]
pub(crate) struct Comprehension {
    pub(crate) collect: Collect,
    /// Evaluated in the outer scope, before the environment is created.
    pub(crate) first: Node,
    pub(crate) clauses: Box<[Clause]>,
    pub(crate) element: Node,
    /// The value of a dict comprehension, whose key is `element`.
    pub(crate) value: Option<Node>,
    pub(crate) slots: u16,
}

#[derive(Debug)]
pub(crate) struct Clause {
    pub(crate) target: Target,
    /// `None` for the first clause, whose iterable is [`Comprehension::first`].
    pub(crate) iterable: Option<Node>,
    pub(crate) conditions: Box<[Node]>,
}

#[derive(Debug)]
pub(crate) enum Target {
    Slot(u16),
    /// Targets before the starred target, the starred target, and targets after it.
    Unpack(Box<[Target]>, Option<Box<Target>>, Box<[Target]>),
    /// An attribute or an item, which raises.
    Refused,
}

#[derive(Debug)]
pub(crate) struct Lambda {
    /// In slot order: positional-only, ordinary, keyword-only.
    pub(crate) parameters: Box<[Parameter]>,
    pub(crate) positional_only: usize,
    pub(crate) positional: usize,
    pub(crate) rest: Option<u16>,
    pub(crate) keywords: Option<u16>,
    pub(crate) slots: u16,
    pub(crate) body: Node,
}

#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: Box<str>,
    pub(crate) default: Option<Node>,
}

#[derive(Debug)]
pub(crate) struct Assign {
    pub(crate) hops: u16,
    pub(crate) slot: u16,
    pub(crate) value: Node,
}

/// A part of an f-string.
#[derive(Debug)]
pub(crate) enum FormatPiece {
    Text(Box<str>),
    Value { value: Node, conversion: Conversion, spec: Option<Box<[FormatPiece]>> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conversion {
    None,
    Str,
    Repr,
    Ascii,
}

impl Node {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Node::Const(Constant::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns the constants of a display that contains only constants.
    pub(crate) fn constants(&self) -> Option<impl Iterator<Item = &Constant>> {
        let Node::Display(_, items) = self else { return None };
        items.iter().all(|item| matches!(item, Item::One(Node::Const(_)))).then(|| {
            items.iter().filter_map(|item| match item {
                Item::One(Node::Const(constant)) => Some(constant),
                _ => None,
            })
        })
    }
}
