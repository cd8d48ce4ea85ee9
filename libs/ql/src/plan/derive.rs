//! Derivation of a plan from the typed tree. Two sets are derived for every expression: the
//! runs for which it can be true, and the runs for which it can be false without raising. Both
//! are needed because `not` swaps them, and because an exception anywhere makes the whole query
//! false.

use super::run_set::{RunSet, TruthSets, intersect, union, union_with};
use super::{Plan, leaf, names};
use crate::options::Endpoint;
use crate::tree::{Compare, Node};

pub(crate) fn derive(root: &Node, endpoint: Endpoint) -> Plan {
    let known = truth_sets(root);
    let of_sequences = endpoint != Endpoint::Run;
    Plan {
        exact: known.when_true.exact,
        runs: known.when_true.runs,
        sequences: of_sequences.then(|| names::names(root).when_true).flatten(),
    }
}

fn truth_sets(node: &Node) -> TruthSets {
    match node {
        Node::And(nodes) => nodes.iter().map(truth_sets).reduce(and).unwrap_or_else(TruthSets::nothing),
        Node::Or(nodes) => nodes.iter().map(truth_sets).reduce(or).unwrap_or_else(TruthSets::nothing),
        Node::Not(operand) => {
            let TruthSets { when_true, when_false, raises } = truth_sets(operand);
            TruthSets { when_true: when_false, when_false: when_true, raises }
        }
        Node::If(parts) => {
            let [test, body, otherwise] = &**parts;
            conditional(truth_sets(test), truth_sets(body), truth_sets(otherwise))
        }
        Node::Chain(chain) => {
            // `a < b < c` means `a < b and b < c`.
            let pairs = std::iter::once(&chain.first).chain(chain.rest.iter().map(|(_, node)| node));
            let compared =
                pairs.zip(&chain.rest).map(|(left, (operator, right))| leaf::compare(left, *operator, right));
            compared.reduce(and).unwrap_or_else(TruthSets::nothing)
        }
        Node::Compare(compare) => {
            let Compare { left, operator, right } = &**compare;
            leaf::compare(left, *operator, right)
        }
        node => leaf::truth(node),
    }
}

/// `a and b`: true where both are; false where `a` is, or where `b` is and `a` is true.
fn and(a: TruthSets, b: TruthSets) -> TruthSets {
    let when_false = union_with(a.when_false, || intersect(a.when_true.clone(), b.when_false));
    TruthSets { when_true: intersect(a.when_true, b.when_true), when_false, raises: a.raises || b.raises }
}

/// `a or b`: true where `a` is, or where `b` is and `a` is false; false where both are.
fn or(a: TruthSets, b: TruthSets) -> TruthSets {
    let when_true = union_with(a.when_true, || {
        if a.raises {
            intersect(a.when_false.clone(), b.when_true)
        } else {
            // Without exceptions, `a` is false wherever it is not true, so `when_false`
            // would add nothing.
            b.when_true
        }
    });
    TruthSets { when_true, when_false: intersect(a.when_false, b.when_false), raises: a.raises || b.raises }
}

fn conditional(test: TruthSets, body: TruthSets, otherwise: TruthSets) -> TruthSets {
    let both = |body: RunSet, otherwise: RunSet| {
        union(intersect(test.when_true.clone(), body), intersect(test.when_false.clone(), otherwise))
    };
    TruthSets {
        when_true: both(body.when_true, otherwise.when_true),
        when_false: both(body.when_false, otherwise.when_false),
        raises: test.raises || body.raises || otherwise.raises,
    }
}
