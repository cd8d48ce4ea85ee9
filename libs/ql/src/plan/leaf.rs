//! Knowledge of indexes about a single comparison, call or bare value: the leaves of every plan.
//! Absent values follow Python's rules: an absent value compares like None.

use super::derive::{Known, Set, union};
use super::{Interval, Keys, Probe, Proposal};
use crate::eval;
use crate::names::{Builtin, Member, Property};
use crate::tree::{
    Arguments, Attribute, Compare, Comparison, Constant, Item, Lookup, MethodCall, Node, Step,
};

/// Below this magnitude, every integer is exactly representable as a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Derives a bare expression from its truth value.
pub(super) fn truth(node: &Node) -> Known {
    match node {
        Node::Const(constant) => always(eval::truth(constant)),
        node if raises_always(node) => never(),
        Node::Run | Node::Tags | Node::Builtin(_) => always(true),
        Node::Property(property) => match flag(*property) {
            Some(probe) => either(probe(true), probe(false)),
            None => Known { raises: false, ..Known::nothing() },
        },
        Node::Param(lookup) => Known { raises: !lookup.absent_is_none(), ..Known::nothing() },
        Node::HasSequence(names) => {
            let names = names.iter().map(|name| Set::exact(sequence(Interval::equal(name))));
            true_only(names.reduce(union).unwrap_or(Set::exact(Proposal::Nothing)), false)
        }
        Node::Metric(metric) => match metric.name.text() {
            Some(name) => true_only(Set::superset(sequence(Interval::equal(name))), true),
            None => Known::nothing(),
        },
        Node::MethodCall(call) => method(call),
        _ => Known::nothing(),
    }
}

/// Whether an expression begins with an unbound name, so that it always raises.
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
pub(super) fn compare(left: &Node, operator: Comparison, right: &Node) -> Known {
    if raises_always(left) || raises_always(right) {
        return never();
    }
    match (left, right) {
        (Node::Const(item), Node::Tags) => membership(operator, |name| Probe::Tag(name.into()), item),
        (Node::Const(item), Node::Metrics) => {
            membership(operator, |name| Probe::Sequence(Interval::equal(name)), item)
        }
        (subject, Node::Const(constant)) => compare_constant(subject, operator, constant),
        (Node::Const(constant), subject) => match mirrored(operator) {
            Some(operator) => compare_constant(subject, operator, constant),
            None => Known::nothing(),
        },
        (subject, list) => match (operator, list.constants()) {
            (Comparison::In, Some(constants)) => one_of(subject, constants),
            (Comparison::NotIn, Some(constants)) => swapped(one_of(subject, constants)),
            _ => Known::nothing(),
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
fn membership(operator: Comparison, probe: impl Fn(&str) -> Probe, item: &Constant) -> Known {
    let Constant::Text(name) = item else { return Known::nothing() };
    let known = true_only(Set::exact(Proposal::Probe(probe(name))), false);
    match operator {
        Comparison::In => known,
        Comparison::NotIn => swapped(known),
        _ => Known::nothing(),
    }
}

fn one_of<'c>(subject: &Node, constants: impl Iterator<Item = &'c Constant>) -> Known {
    let each = constants.map(|constant| compare_constant(subject, Comparison::Eq, constant));
    let empty = Known { when_true: Set::exact(Proposal::Nothing), ..Known::nothing() };
    each.fold(empty, |all, one| Known {
        when_true: union(all.when_true, one.when_true),
        when_false: Set::unknown(),
        // Testing membership in a set raises for an unhashable value.
        raises: true,
    })
}

fn compare_constant(subject: &Node, operator: Comparison, constant: &Constant) -> Known {
    match (operator, subject) {
        // Membership in a string or in a value that is not a container: whether it
        // raises depends on the subject's type.
        (Comparison::In | Comparison::NotIn, _) => Known::nothing(),
        (Comparison::NotEq, _) => swapped(compare_constant(subject, Comparison::Eq, constant)),
        (Comparison::IsNot, _) => swapped(compare_constant(subject, Comparison::Is, constant)),
        (Comparison::Is, Node::Property(property)) if flag(*property).is_none() => inexact(subject, constant),
        (Comparison::Is, Node::Param(_)) => inexact(subject, constant),
        (_, Node::Property(property)) => compare_property(*property, operator, constant),
        (_, Node::Param(lookup)) => compare_param(lookup, operator, constant),
        (_, Node::SequenceField(crate::names::SequenceField::Name)) => match constant {
            Constant::Text(text) => {
                let names = Interval::texts(operator, text);
                true_only(names.map_or(Set::unknown(), |names| Set::superset(sequence(names))), false)
            }
            _ => Known::nothing(),
        },
        (_, Node::Attribute(attribute)) => compare_metric(attribute, operator, constant),
        _ => Known::nothing(),
    }
}

/// Derives identity from equality, which holds for more values.
fn inexact(subject: &Node, constant: &Constant) -> Known {
    let known = compare_constant(subject, Comparison::Eq, constant);
    Known { when_true: Set::superset(known.when_true.runs), when_false: Set::unknown(), ..known }
}

fn compare_property(property: Property, operator: Comparison, constant: &Constant) -> Known {
    if let Some(probe) = flag(property) {
        let when = |value: bool| holds(&Constant::Bool(value), operator, constant);
        return match (when(true), when(false)) {
            (Some(true), Some(true)) => always(true),
            (Some(false), Some(false)) => always(false),
            (Some(true), Some(false)) => either(probe(true), probe(false)),
            (Some(false), Some(true)) => either(probe(false), probe(true)),
            _ => never(),
        };
    }
    let raises = ordering(operator);
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
        Some(probe) => Set { runs: Proposal::Probe(probe), exact },
        None => Set::unknown(),
    };
    true_only(when_true, raises)
}

fn compare_param(lookup: &Lookup, operator: Comparison, constant: &Constant) -> Known {
    if lookup.steps.iter().any(is_number_field) {
        return Known::nothing();
    }
    let raises = ordering(operator) || !lookup.absent_is_none();
    let probe = |keys| Proposal::Probe(Probe::Param { path: lookup.path.clone(), keys });
    let when_true = match constant {
        Constant::Text(text) => match Interval::texts(operator, text) {
            Some(texts) => Set::exact(probe(Keys::Texts(texts))),
            None => Set::unknown(),
        },
        // No value equals NaN or can be ordered with it.
        Constant::Float(value) if value.is_nan() => Set::exact(Proposal::Nothing),
        Constant::None if ordering(operator) => Set::exact(Proposal::Nothing),
        constant => match numbers(operator, constant) {
            (Some(interval), exact) => Set { runs: probe(Keys::Numbers(interval)), exact },
            (None, _) => Set::unknown(),
        },
    };
    true_only(when_true, raises)
}

/// Whether a step is `.real` or a similar attribute: on a number it yields a number that no
/// index has at that path.
fn is_number_field(step: &Step) -> bool {
    matches!(
        step,
        Step::Attribute(Some(Member::Real | Member::Imag | Member::Numerator | Member::Denominator))
    )
}

/// Derives a comparison of a member of `run.metrics["name"]`, which is None if the sequence
/// does not exist.
fn compare_metric(attribute: &Attribute, operator: Comparison, constant: &Constant) -> Known {
    let Node::Metric(metric) = &attribute.object else { return Known::nothing() };
    match (metric.name.text(), holds(&Constant::None, operator, constant)) {
        (Some(name), None | Some(false)) => true_only(Set::superset(sequence(Interval::equal(name))), true),
        _ => Known::nothing(),
    }
}

fn method(call: &MethodCall) -> Known {
    match (&call.object, call.member) {
        (Node::Tags, Some(Member::Contains)) => match only_argument(&call.arguments) {
            Some(Node::Const(item)) => membership(Comparison::In, |name| Probe::Tag(name.into()), item),
            _ => Known::nothing(),
        },
        (subject, Some(Member::StartsWith)) => starts_with(subject, &call.arguments),
        _ => Known::nothing(),
    }
}

fn text_of(constant: &Constant) -> Option<&str> {
    match constant {
        Constant::Text(text) => Some(text),
        _ => None,
    }
}

/// Derives `.startswith("x")`, also with a tuple of prefixes; it raises for a subject that is
/// not a string.
fn starts_with(subject: &Node, arguments: &Arguments) -> Known {
    let prefixes: Option<Vec<&str>> = match only_argument(arguments) {
        Some(Node::Const(Constant::Text(prefix))) => Some(vec![prefix]),
        Some(tuple @ Node::Display(crate::tree::Display::Tuple, _)) => {
            tuple.constants().and_then(|prefixes| prefixes.map(text_of).collect())
        }
        _ => None,
    };
    let set = |names: Interval<Box<str>>| match subject {
        Node::Property(Property::Name) => Set::exact(Proposal::Probe(Probe::Name(names))),
        Node::Param(lookup) if !lookup.steps.iter().any(is_number_field) => {
            let keys = Keys::Texts(names);
            Set::exact(Proposal::Probe(Probe::Param { path: lookup.path.clone(), keys }))
        }
        Node::SequenceField(crate::names::SequenceField::Name) => Set::superset(sequence(names)),
        _ => Set::unknown(),
    };
    match prefixes {
        None => Known::nothing(),
        Some(prefixes) => {
            let sets = prefixes.into_iter().map(|prefix| set(Interval::prefix(prefix)));
            true_only(sets.reduce(union).unwrap_or(Set::exact(Proposal::Nothing)), true)
        }
    }
}

pub(super) fn only_argument(arguments: &Arguments) -> Option<&Node> {
    match (&*arguments.positional, &*arguments.keywords) {
        ([Item::One(argument)], []) => Some(argument),
        _ => None,
    }
}

/// Returns the keys of the numbers that compare this way with a constant, and whether only
/// those numbers have them.
fn numbers(operator: Comparison, constant: &Constant) -> (Option<Interval<f64>>, bool) {
    let Some(key) = eval::number_key(constant) else { return (None, false) };
    match Interval::numbers(operator, key, key.abs() < EXACT) {
        Some((interval, exact)) => (Some(interval), exact),
        None => (None, false),
    }
}

/// Whether a comparison of two constants holds; `None` if it raises.
fn holds(left: &Constant, operator: Comparison, right: &Constant) -> Option<bool> {
    let (left, right) = (Node::Const(left.clone()), Node::Const(right.clone()));
    eval::condition(&Node::Compare(Box::new(Compare { left, operator, right })))
}

fn ordering(operator: Comparison) -> bool {
    matches!(operator, Comparison::Less | Comparison::LessEq | Comparison::Greater | Comparison::GreaterEq)
}

fn flag(property: Property) -> Option<fn(bool) -> Probe> {
    match property {
        Property::Active => Some(Probe::Active),
        Property::Archived | Property::IsArchived => Some(Probe::Archived),
        _ => None,
    }
}

fn sequence(names: Interval<Box<str>>) -> Proposal {
    Proposal::Probe(Probe::Sequence(names))
}

fn always(value: bool) -> Known {
    let (everything, nothing) = (Set::exact(Proposal::Everything), Set::exact(Proposal::Nothing));
    let (when_true, when_false) = if value { (everything, nothing) } else { (nothing, everything) };
    Known { when_true, when_false, raises: false }
}

/// Raises for every run.
fn never() -> Known {
    let nothing = || Set::exact(Proposal::Nothing);
    Known { when_true: nothing(), when_false: nothing(), raises: true }
}

fn either(when_true: Probe, when_false: Probe) -> Known {
    Known {
        when_true: Set::exact(Proposal::Probe(when_true)),
        when_false: Set::exact(Proposal::Probe(when_false)),
        raises: false,
    }
}

fn true_only(when_true: Set, raises: bool) -> Known {
    Known { when_true, when_false: Set::unknown(), raises }
}

fn swapped(known: Known) -> Known {
    Known { when_true: known.when_false, when_false: known.when_true, raises: known.raises }
}
