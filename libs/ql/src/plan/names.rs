//! NameIntervals that a matching sequence can have, to narrow the sequences of a proposed run before
//! they are evaluated. Only conditions that hold for every match narrow: `or` needs names on
//! both sides, because a candidate may match by either.

use super::Interval;
use super::leaf::{mirrored, only_argument, text_of};
use crate::names::{Member, SequenceField};
use crate::tree::{Comparison, Constant, Node};

/// Most intervals worth testing; more hardly narrow the search.
const MAX_NAMES: usize = 256;

/// NameIntervals in any of these intervals; `None` means any name.
type NameIntervals = Option<Vec<Interval<Box<str>>>>;

#[derive(Clone)]
pub(super) struct PossibleNames {
    pub(super) when_true: NameIntervals,
    pub(super) when_false: NameIntervals,
}

const ANY: PossibleNames = PossibleNames { when_true: None, when_false: None };

pub(super) fn names(node: &Node) -> PossibleNames {
    match node {
        Node::And(nodes) => nodes.iter().map(names).reduce(and).unwrap_or(ANY),
        Node::Or(nodes) => nodes.iter().map(names).reduce(or).unwrap_or(ANY),
        Node::Not(operand) => negated(names(operand)),
        Node::Chain(chain) => {
            let lefts = std::iter::once(&chain.first).chain(chain.rest.iter().map(|(_, node)| node));
            let pairs = lefts.zip(&chain.rest);
            pairs.map(|(left, (operator, right))| compare(left, *operator, right)).reduce(and).unwrap_or(ANY)
        }
        Node::Compare(node) => compare(&node.left, node.operator, &node.right),
        Node::MethodCall(call) if is_name(&call.object) && call.member == Some(Member::StartsWith) => {
            match only_argument(&call.arguments) {
                Some(Node::Const(Constant::Text(prefix))) => only(vec![Interval::prefix(prefix)]),
                _ => ANY,
            }
        }
        _ => ANY,
    }
}

fn is_name(node: &Node) -> bool {
    matches!(node, Node::SequenceField(SequenceField::Name))
}

fn compare(left: &Node, operator: Comparison, right: &Node) -> PossibleNames {
    let (operator, operand) = match (is_name(left), is_name(right)) {
        (true, false) => (operator, right),
        (false, true) => match mirrored(operator) {
            Some(operator) => (operator, left),
            None => return ANY,
        },
        _ => return ANY,
    };
    match (operator, operand) {
        (Comparison::NotEq, Node::Const(Constant::Text(text))) => negated(only(vec![Interval::equal(text)])),
        (operator, Node::Const(Constant::Text(text))) => {
            Interval::texts(operator, text).map_or(ANY, |names| only(vec![names]))
        }
        (Comparison::In | Comparison::NotIn, list) => {
            // A constant that is not a string equals no name.
            let texts = list
                .constants()
                .map(|constants| constants.filter_map(text_of).map(Interval::equal).collect());
            match (texts, operator) {
                (Some(names), Comparison::In) => only(names),
                (Some(names), _) => negated(only(names)),
                (None, _) => ANY,
            }
        }
        _ => ANY,
    }
}

fn only(names: Vec<Interval<Box<str>>>) -> PossibleNames {
    PossibleNames { when_true: bounded(Some(names)), when_false: None }
}

fn negated(possible: PossibleNames) -> PossibleNames {
    PossibleNames { when_true: possible.when_false, when_false: possible.when_true }
}

fn and(a: PossibleNames, b: PossibleNames) -> PossibleNames {
    PossibleNames {
        when_true: intersect(&a.when_true, b.when_true),
        when_false: union(a.when_false, b.when_false),
    }
}

fn or(a: PossibleNames, b: PossibleNames) -> PossibleNames {
    PossibleNames {
        when_true: union(a.when_true, b.when_true),
        when_false: intersect(&a.when_false, b.when_false),
    }
}

fn intersect(a: &NameIntervals, b: NameIntervals) -> NameIntervals {
    match (a, b) {
        (None, names) => names,
        (Some(names), None) => Some(names.clone()),
        (Some(a), Some(b)) => {
            let pairs = a.iter().flat_map(|a| b.iter().map(|b| a.intersect(b)));
            bounded(Some(pairs.filter(|names| !names.is_empty()).collect()))
        }
    }
}

fn union(a: NameIntervals, b: NameIntervals) -> NameIntervals {
    let mut a = a?;
    let b = b?;
    for names in b {
        if !a.contains(&names) {
            a.push(names);
        }
    }
    bounded(Some(a))
}

fn bounded(names: NameIntervals) -> NameIntervals {
    names.filter(|names| names.len() <= MAX_NAMES)
}
