//! Visits every node of a tree in unspecified order, for analyses that run once on the complete
//! tree.

use super::{Arguments, FormatPiece, Item, Node};

impl Node {
    /// Visits this node and all nodes below it.
    pub(crate) fn walk<'n>(&'n self, visit: &mut dyn FnMut(&'n Node)) {
        visit(self);
        match self {
            Node::Const(_)
            | Node::Builtin(_)
            | Node::Unknown
            | Node::Run
            | Node::Property(_)
            | Node::Tags => {}
            Node::Metrics | Node::Param(_) | Node::ParamOr(..) | Node::Sequence => {}
            Node::SequenceField(_) | Node::Context(_) | Node::HasSequence(_) => {}
            Node::Local(local) => local.unbound.iter().for_each(|node| node.walk(visit)),
            Node::Metric(metric) => {
                metric.name.walk(visit);
                metric.context.iter().for_each(|node| node.walk(visit));
            }
            Node::Attribute(attribute) => attribute.object.walk(visit),
            Node::Index(parts) => parts.iter().for_each(|node| node.walk(visit)),
            Node::Slice(parts) => parts.iter().flatten().for_each(|node| node.walk(visit)),
            Node::Call(call) => {
                call.function.walk(visit);
                walk_arguments(&call.arguments, visit);
            }
            Node::MethodCall(call) => {
                call.object.walk(visit);
                walk_arguments(&call.arguments, visit);
            }
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().for_each(|node| node.walk(visit)),
            Node::Not(operand) | Node::Unary(_, operand) => operand.walk(visit),
            Node::If(parts) => parts.iter().for_each(|node| node.walk(visit)),
            Node::Compare(compare) => {
                compare.left.walk(visit);
                compare.right.walk(visit);
            }
            Node::Chain(chain) => {
                chain.first.walk(visit);
                chain.rest.iter().for_each(|(_, node)| node.walk(visit));
            }
            Node::Binary(binary) => {
                binary.left.walk(visit);
                binary.right.walk(visit);
            }
            Node::Display(_, items) => walk_items(items, visit),
            Node::Dict(items) => items.iter().for_each(|(key, value)| {
                key.iter().for_each(|key| key.walk(visit));
                value.walk(visit);
            }),
            Node::Comprehension(comprehension) => {
                comprehension.first.walk(visit);
                for clause in &comprehension.clauses {
                    clause.iterable.iter().chain(&*clause.conditions).for_each(|node| node.walk(visit));
                }
                comprehension.element.walk(visit);
                comprehension.value.iter().for_each(|node| node.walk(visit));
            }
            Node::Lambda(lambda) => {
                let defaults = lambda.parameters.iter().filter_map(|parameter| parameter.default.as_ref());
                defaults.for_each(|node| node.walk(visit));
                lambda.body.walk(visit);
            }
            Node::Assign(assign) => assign.value.walk(visit),
            Node::Format(pieces) => walk_pieces(pieces, visit),
        }
    }
}

fn walk_arguments<'n>(arguments: &'n Arguments, visit: &mut dyn FnMut(&'n Node)) {
    walk_items(&arguments.positional, visit);
    arguments.keywords.iter().for_each(|(_, node)| node.walk(visit));
}

fn walk_items<'n>(items: &'n [Item], visit: &mut dyn FnMut(&'n Node)) {
    for item in items {
        match item {
            Item::One(node) | Item::Spread(node) => node.walk(visit),
        }
    }
}

fn walk_pieces<'n>(pieces: &'n [FormatPiece], visit: &mut dyn FnMut(&'n Node)) {
    for piece in pieces {
        if let FormatPiece::Value { value, spec, .. } = piece {
            value.walk(visit);
            spec.iter().for_each(|spec| walk_pieces(spec, visit));
        }
    }
}
