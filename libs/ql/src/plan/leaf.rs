//! Knowledge of indexes about a single comparison, call or bare value: the leaves of every plan.
//! Absent values follow Python's rules: an absent value compares like None.

use super::run_set::{RunSet, TruthSets, union};
use super::{Interval, ParamKeys, Probe, Proposal};
use crate::eval;
use crate::names::{Builtin, Member, Property};
use crate::tree::{
    Arguments, Attribute, Compare, Comparison, Constant, Item, Lookup, MethodCall, Node, PathStep,
};

/// Below this magnitude, every integer is exactly representable as a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Derives a bare expression from its truth value.
pub(super) fn truth(node: &Node) -> TruthSets {
    match node {
        Node::Const(constant) => constant_truth(eval::truth(constant)),
        node if raises_always(node) => raising(),
        Node::Run | Node::Tags | Node::Builtin(_) => constant_truth(true),
        Node::Property(property) => match flag_probe(*property) {
            Some(probe) => flag_sets(probe(true), probe(false)),
            None => TruthSets { raises: false, ..TruthSets::nothing() },
        },
        Node::Param(lookup) => TruthSets { raises: !lookup.absent_is_none(), ..TruthSets::nothing() },
        Node::HasSequence(names) => {
            let names = names.iter().map(|name| RunSet::exact(sequence_proposal(Interval::equal(name))));
            true_only(names.reduce(union).unwrap_or(RunSet::exact(Proposal::Nothing)), false)
        }
        Node::Metric(metric) => match metric.name.text() {
            Some(name) => true_only(RunSet::superset(sequence_proposal(Interval::equal(name))), true),
            None => TruthSets::nothing(),
        },
        Node::MethodCall(call) => method(call),
        _ => TruthSets::nothing(),
    }
}

/// Whether an expression starts with an unbound name, so that it always raises.
fn raises_always(node: &Node) -> bool {
    match node {
        Node::Unknown | Node::Builtin(Builtin::Formatter) => true,
        Node::Attribute(attribute) => raises_always(&attribute.object),
        Node::Index(parts) => raises_always(&parts[0]),
        Node::Call(call) => raises_always(&call.function),
        Node::MethodCall(call) => raises_always(&call.object),
        Node::Binary(binary) => raises_always(&binary.left),
        Node::Unary(_, operand) => raises_always(operand),
        _ => false,
    }
}

/// Derives `left operator right`.
pub(super) fn compare(left: &Node, operator: Comparison, right: &Node) -> TruthSets {
    if raises_always(left) || raises_always(right) {
        return raising();
    }
    match (left, right) {
        (Node::Const(item), Node::Tags) => membership(operator, |name| Probe::Tag(name.into()), item),
        (Node::Const(item), Node::Metrics) => {
            membership(operator, |name| Probe::Sequence(Interval::equal(name)), item)
        }
        (subject, Node::Const(constant)) => compare_constant(subject, operator, constant),
        (Node::Const(constant), subject) => match mirrored(operator) {
            Some(operator) => compare_constant(subject, operator, constant),
            None => TruthSets::nothing(),
        },
        (subject, list) => match (operator, list.constants()) {
            (Comparison::In, Some(constants)) => one_of(subject, constants),
            (Comparison::NotIn, Some(constants)) => negated(one_of(subject, constants)),
            _ => TruthSets::nothing(),
        },
    }
}

/// Returns the operator for exchanged operands.
pub(super) fn mirrored(operator: Comparison) -> Option<Comparison> {
    Some(match operator {
        Comparison::Eq | Comparison::NotEq | Comparison::Is | Comparison::IsNot => operator,
        Comparison::Less => Comparison::Greater,
        Comparison::LessEq => Comparison::GreaterEq,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterEq => Comparison::LessEq,
        Comparison::In | Comparison::NotIn => return None,
    })
}

/// Derives `"x" in run.tags` and `"x" in run.metrics`, which contain strings only.
fn membership(operator: Comparison, probe: impl Fn(&str) -> Probe, item: &Constant) -> TruthSets {
    let Constant::Text(name) = item else { return TruthSets::nothing() };
    let known = true_only(RunSet::exact(Proposal::Probe(probe(name))), false);
    match operator {
        Comparison::In => known,
        Comparison::NotIn => negated(known),
        _ => TruthSets::nothing(),
    }
}

fn one_of<'c>(subject: &Node, constants: impl Iterator<Item = &'c Constant>) -> TruthSets {
    let each = constants.map(|constant| compare_constant(subject, Comparison::Eq, constant));
    let empty = TruthSets { when_true: RunSet::exact(Proposal::Nothing), ..TruthSets::nothing() };
    each.fold(empty, |all, one| TruthSets {
        when_true: union(all.when_true, one.when_true),
        when_false: RunSet::unknown(),
        // Testing membership in a set raises for an unhashable value.
        raises: true,
    })
}

fn compare_constant(subject: &Node, operator: Comparison, constant: &Constant) -> TruthSets {
    match (operator, subject) {
        // Membership in a string or in a value that is not a container: whether it
        // raises depends on the subject's type.
        (Comparison::In | Comparison::NotIn, _) => TruthSets::nothing(),
        (Comparison::NotEq, _) => negated(compare_constant(subject, Comparison::Eq, constant)),
        (Comparison::IsNot, _) => negated(compare_constant(subject, Comparison::Is, constant)),
        (Comparison::Is, Node::Property(property)) if flag_probe(*property).is_none() => {
            inexact(subject, constant)
        }
        (Comparison::Is, Node::Param(_)) => inexact(subject, constant),
        (_, Node::Property(property)) => compare_property(*property, operator, constant),
        (_, Node::Param(lookup)) => compare_param(lookup, operator, constant),
        (Comparison::Eq, Node::ParamOr(lookup, Property::Parent)) => compare_parent(lookup, constant),
        (_, Node::SequenceField(crate::names::SequenceField::Name)) => match constant {
            Constant::Text(text) => {
                let names = Interval::texts(operator, text);
                true_only(
                    names.map_or(RunSet::unknown(), |names| RunSet::superset(sequence_proposal(names))),
                    false,
                )
            }
            _ => TruthSets::nothing(),
        },
        (_, Node::Attribute(attribute)) => compare_metric(attribute, operator, constant),
        _ => TruthSets::nothing(),
    }
}

/// Derives identity from equality, which holds for more values.
fn inexact(subject: &Node, constant: &Constant) -> TruthSets {
    let known = compare_constant(subject, Comparison::Eq, constant);
    TruthSets { when_true: RunSet::superset(known.when_true.runs), when_false: RunSet::unknown(), ..known }
}

fn compare_property(property: Property, operator: Comparison, constant: &Constant) -> TruthSets {
    if let Some(probe) = flag_probe(property) {
        let when_set = holds(&Constant::Bool(true), operator, constant);
        let when_unset = holds(&Constant::Bool(false), operator, constant);
        return match (when_set, when_unset) {
            (Some(true), Some(true)) => constant_truth(true),
            (Some(false), Some(false)) => constant_truth(false),
            (Some(true), Some(false)) => flag_sets(probe(true), probe(false)),
            (Some(false), Some(true)) => flag_sets(probe(false), probe(true)),
            _ => raising(),
        };
    }
    let raises = is_ordering(operator);
    let (probe, exact) = match (property, constant) {
        (Property::Hash, Constant::Text(hash)) if operator == Comparison::Eq => {
            (Some(Probe::Hash(hash.clone())), true)
        }
        (Property::Name, Constant::Text(name)) => (Interval::texts(operator, name).map(Probe::Name), true),
        (Property::Experiment, Constant::Text(name)) if operator == Comparison::Eq => {
            (Some(Probe::Experiment(Some(name.clone()))), true)
        }
        (Property::Experiment, Constant::None) if operator == Comparison::Eq => {
            (Some(Probe::Experiment(None)), true)
        }
        (Property::CreatedAt | Property::CreationTime, constant) => {
            let (times, exact) = numbers(operator, constant);
            (times.map(Probe::CreatedAt), exact)
        }
        (Property::EndTime, constant) => {
            let (times, exact) = numbers(operator, constant);
            (times.map(Probe::EndTime), exact)
        }
        _ => (None, false),
    };
    let when_true = match probe {
        Some(probe) => RunSet { runs: Proposal::Probe(probe), exact },
        None => RunSet::unknown(),
    };
    true_only(when_true, raises)
}

fn compare_param(lookup: &Lookup, operator: Comparison, constant: &Constant) -> TruthSets {
    if lookup.steps.iter().any(is_number_field) {
        return TruthSets::nothing();
    }
    let raises = is_ordering(operator) || !lookup.absent_is_none();
    let probe = |keys| Proposal::Probe(Probe::Param { path: lookup.path.clone(), keys });
    let when_true = match constant {
        Constant::Text(text) => match Interval::texts(operator, text) {
            Some(texts) => RunSet::exact(probe(ParamKeys::Texts(texts))),
            None => RunSet::unknown(),
        },
        // No value equals NaN or can be ordered with it.
        Constant::Float(value) if value.is_nan() => RunSet::exact(Proposal::Nothing),
        Constant::None if is_ordering(operator) => RunSet::exact(Proposal::Nothing),
        constant => match numbers(operator, constant) {
            (Some(interval), exact) => RunSet { runs: probe(ParamKeys::Numbers(interval)), exact },
            (None, _) => RunSet::unknown(),
        },
    };
    true_only(when_true, raises)
}

/// Derives equality with a constant of the parent, which a param of that name hides.
fn compare_parent(lookup: &Lookup, constant: &Constant) -> TruthSets {
    let Constant::Text(hash) = constant else { return TruthSets::nothing() };
    let param = compare_param(lookup, Comparison::Eq, constant);
    let parent = RunSet::superset(Proposal::Probe(Probe::Parent(hash.clone())));
    true_only(union(param.when_true, parent), param.raises)
}

/// Whether a step is `.real` or a similar attribute: on a number it yields a number that no
/// index has at that path.
fn is_number_field(step: &PathStep) -> bool {
    matches!(
        step,
        PathStep::Attribute(Some(Member::Real | Member::Imag | Member::Numerator | Member::Denominator))
    )
}

/// Derives a comparison of a member of `run.metrics["name"]`, which is None if the sequence
/// does not exist.
fn compare_metric(attribute: &Attribute, operator: Comparison, constant: &Constant) -> TruthSets {
    let Node::Metric(metric) = &attribute.object else { return TruthSets::nothing() };
    match (metric.name.text(), holds(&Constant::None, operator, constant)) {
        (Some(name), None | Some(false)) => {
            true_only(RunSet::superset(sequence_proposal(Interval::equal(name))), true)
        }
        _ => TruthSets::nothing(),
    }
}

fn method(call: &MethodCall) -> TruthSets {
    match (&call.object, call.member) {
        (Node::Tags, Some(Member::Contains)) => match only_argument(&call.arguments) {
            Some(Node::Const(item)) => membership(Comparison::In, |name| Probe::Tag(name.into()), item),
            _ => TruthSets::nothing(),
        },
        (subject, Some(Member::StartsWith)) => starts_with(subject, &call.arguments),
        _ => TruthSets::nothing(),
    }
}

pub(super) fn text_of(constant: &Constant) -> Option<&str> {
    match constant {
        Constant::Text(text) => Some(text),
        _ => None,
    }
}

/// Derives `.startswith("x")`, also with a tuple of prefixes; it raises for a subject that is
/// not a string.
fn starts_with(subject: &Node, arguments: &Arguments) -> TruthSets {
    let prefixes: Option<Vec<&str>> = match only_argument(arguments) {
        Some(Node::Const(Constant::Text(prefix))) => Some(vec![prefix]),
        Some(tuple @ Node::Display(crate::tree::Display::Tuple, _)) => {
            tuple.constants().and_then(|prefixes| prefixes.map(text_of).collect())
        }
        _ => None,
    };
    match prefixes {
        None => TruthSets::nothing(),
        Some(prefixes) => {
            let sets = prefixes.into_iter().map(|prefix| prefix_set(subject, Interval::prefix(prefix)));
            true_only(sets.reduce(union).unwrap_or(RunSet::exact(Proposal::Nothing)), true)
        }
    }
}

fn prefix_set(subject: &Node, names: Interval<Box<str>>) -> RunSet {
    match subject {
        Node::Property(Property::Name) => RunSet::exact(Proposal::Probe(Probe::Name(names))),
        Node::Param(lookup) if !lookup.steps.iter().any(is_number_field) => {
            let keys = ParamKeys::Texts(names);
            RunSet::exact(Proposal::Probe(Probe::Param { path: lookup.path.clone(), keys }))
        }
        Node::SequenceField(crate::names::SequenceField::Name) => RunSet::superset(sequence_proposal(names)),
        _ => RunSet::unknown(),
    }
}

pub(super) fn only_argument(arguments: &Arguments) -> Option<&Node> {
    match (&*arguments.positional, &*arguments.keywords) {
        ([Item::One(argument)], []) => Some(argument),
        _ => None,
    }
}

/// Returns the keys of the numbers that compare this way with a constant, and whether no other
/// numbers have these keys.
fn numbers(operator: Comparison, constant: &Constant) -> (Option<Interval<f64>>, bool) {
    let Some(key) = eval::number_key(constant) else { return (None, false) };
    match Interval::numbers(operator, key, key.abs() < EXACT) {
        Some((interval, exact)) => (Some(interval), exact),
        None => (None, false),
    }
}

/// Whether a comparison of two constants holds; `None` if it raises.
fn holds(left: &Constant, operator: Comparison, right: &Constant) -> Option<bool> {
    eval::condition(&Node::Compare(Box::new(Compare {
        left: Node::Const(left.clone()),
        operator,
        right: Node::Const(right.clone()),
    })))
}

fn is_ordering(operator: Comparison) -> bool {
    matches!(operator, Comparison::Less | Comparison::LessEq | Comparison::Greater | Comparison::GreaterEq)
}

fn flag_probe(property: Property) -> Option<fn(bool) -> Probe> {
    match property {
        Property::Active => Some(Probe::Active),
        Property::Archived | Property::IsArchived => Some(Probe::Archived),
        _ => None,
    }
}

fn sequence_proposal(names: Interval<Box<str>>) -> Proposal {
    Proposal::Probe(Probe::Sequence(names))
}

fn constant_truth(value: bool) -> TruthSets {
    let everything = RunSet::exact(Proposal::Everything);
    let nothing = RunSet::exact(Proposal::Nothing);
    let (when_true, when_false) = if value { (everything, nothing) } else { (nothing, everything) };
    TruthSets { when_true, when_false, raises: false }
}

/// Raises for every run.
fn raising() -> TruthSets {
    TruthSets {
        when_true: RunSet::exact(Proposal::Nothing),
        when_false: RunSet::exact(Proposal::Nothing),
        raises: true,
    }
}

fn flag_sets(when_true: Probe, when_false: Probe) -> TruthSets {
    TruthSets {
        when_true: RunSet::exact(Proposal::Probe(when_true)),
        when_false: RunSet::exact(Proposal::Probe(when_false)),
        raises: false,
    }
}

fn true_only(when_true: RunSet, raises: bool) -> TruthSets {
    TruthSets { when_true, when_false: RunSet::unknown(), raises }
}

fn negated(known: TruthSets) -> TruthSets {
    TruthSets { when_true: known.when_false, when_false: known.when_true, raises: known.raises }
}
