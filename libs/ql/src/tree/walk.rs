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
            Node::Local(local) => walk_all(local.unbound.as_deref(), visit),
            Node::Metric(metric) => {
                metric.name.walk(visit);
                walk_all(&metric.context, visit);
            }
            Node::Attribute(attribute) => attribute.object.walk(visit),
            Node::Index(parts) => walk_all(&**parts, visit),
            Node::Slice(parts) => walk_all(parts.iter().flatten(), visit),
            Node::Call(call) => {
                call.function.walk(visit);
                walk_arguments(&call.arguments, visit);
            }
            Node::MethodCall(call) => {
                call.object.walk(visit);
                walk_arguments(&call.arguments, visit);
            }
            Node::And(nodes) | Node::Or(nodes) => walk_all(nodes, visit),
            Node::Not(operand) | Node::Unary(_, operand) => operand.walk(visit),
            Node::If(parts) => walk_all(&**parts, visit),
            Node::Compare(compare) => {
                compare.left.walk(visit);
                compare.right.walk(visit);
            }
            Node::Chain(chain) => {
                chain.first.walk(visit);
                walk_all(chain.rest.iter().map(|(_, node)| node), visit);
            }
            Node::Binary(binary) => {
                binary.left.walk(visit);
                binary.right.walk(visit);
            }
            Node::Display(_, items) => walk_items(items, visit),
            Node::Dict(items) => {
                for (key, value) in items {
                    walk_all(key, visit);
                    value.walk(visit);
                }
            }
            Node::Comprehension(comprehension) => {
                comprehension.first.walk(visit);
                for clause in &comprehension.clauses {
                    walk_all(clause.iterable.iter().chain(&*clause.conditions), visit);
                }
                comprehension.element.walk(visit);
                walk_all(&comprehension.value, visit);
            }
            Node::Lambda(lambda) => {
                let defaults = lambda.parameters.iter().filter_map(|parameter| parameter.default.as_ref());
                walk_all(defaults, visit);
                lambda.body.walk(visit);
            }
            Node::Assign(assign) => assign.value.walk(visit),
            Node::Format(pieces) => walk_pieces(pieces, visit),
        }
    }
}

fn walk_all<'n>(nodes: impl IntoIterator<Item = &'n Node>, visit: &mut dyn FnMut(&'n Node)) {
    for node in nodes {
        node.walk(visit);
    }
}

fn walk_arguments<'n>(arguments: &'n Arguments, visit: &mut dyn FnMut(&'n Node)) {
    walk_items(&arguments.positional, visit);
    walk_all(arguments.keywords.iter().map(|(_, node)| node), visit);
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
            if let Some(spec) = spec {
                walk_pieces(spec, visit);
            }
        }
    }
}
