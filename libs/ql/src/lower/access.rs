//! Attributes, items and calls: accesses that end in a view are resolved to paths and fields
//! once, at compile time. All others keep Python's general form and are resolved on values.

use super::Lowering;
use crate::error::Fault;
use crate::names::{self, Builtin, Member, Property, SequenceField};
use crate::options::Endpoint;
use crate::tree::{
    Arguments, Attribute, Call, Constant, Display, Item, Lookup, MethodCall, Metric, Node, PathStep,
};
use crate::view::KeyPath;
use ruff_python_ast as ast;
use ruff_python_ast::Expr;

impl Lowering<'_> {
    pub(super) fn attribute(&mut self, node: &ast::ExprAttribute) -> Result<Node, Fault> {
        let object = self.node(&node.value)?;
        let name = node.attr.id.as_str();
        let member = Member::find(name);
        Ok(match object {
            Node::Run => self.run_attribute(name),
            Node::Param(lookup) => Node::Param(extended(*lookup, name, PathStep::Attribute(member))),
            Node::Context(lookup) => Node::Context(extended(*lookup, name, PathStep::Attribute(member))),
            Node::Sequence => match SequenceField::find(name) {
                Some(SequenceField::Run) => Node::Run,
                Some(SequenceField::Context) => {
                    Node::Context(self.new_lookup(KeyPath::default(), Box::default()))
                }
                Some(field) => Node::SequenceField(field),
                None => Node::Const(Constant::None),
            },
            Node::Builtin(owner) => builtin_attribute(owner, name)
                .unwrap_or_else(|| attribute(Node::Builtin(owner), name, member)),
            object => attribute(object, name, member),
        })
    }

    fn run_attribute(&mut self, name: &str) -> Node {
        let lookup = self.new_lookup(KeyPath::new([name]), [PathStep::Lenient].into());
        match (names::hidden_property(name), Property::find(name)) {
            (Some(property), _) => Node::ParamOr(lookup, property),
            (None, Some(property)) => Node::Property(property),
            (None, None) if name == "tags" => Node::Tags,
            (None, None) if name == "metrics" => Node::Metrics,
            (None, None) => Node::Param(lookup),
        }
    }

    /// Creates a lookup with its own slot, which it keeps when its path is extended.
    fn new_lookup(&mut self, path: KeyPath, steps: Box<[PathStep]>) -> Box<Lookup> {
        let slot = self.lookups;
        self.lookups += 1;
        Box::new(Lookup { path, steps, slot })
    }

    pub(super) fn subscript(&mut self, node: &ast::ExprSubscript) -> Result<Node, Fault> {
        let object = self.node(&node.value)?;
        let index = self.node(&node.slice)?;
        Ok(match (object, index) {
            (Node::Run, index) => match run_path(&index) {
                Some(path) => {
                    let steps = path.keys().iter().map(|_| PathStep::Lenient).collect();
                    Node::Param(self.new_lookup(path, steps))
                }
                None => Node::Index(Box::new([Node::Run, index])),
            },
            (Node::Param(lookup), Node::Const(Constant::Text(key))) => {
                Node::Param(extended(*lookup, &key, PathStep::Item))
            }
            (Node::Context(lookup), Node::Const(Constant::Text(key))) => {
                Node::Context(extended(*lookup, &key, PathStep::Item))
            }
            (Node::Metrics, Node::Display(Display::Tuple, items)) => metric_in_context(items),
            (Node::Metrics, name) => Node::Metric(Box::new(Metric { name, context: None })),
            (object, index) => Node::Index(Box::new([object, index])),
        })
    }

    pub(super) fn call(&mut self, node: &ast::ExprCall) -> Result<Node, Fault> {
        let callee = match &*node.func {
            Expr::Attribute(method) => {
                let object = self.node(&method.value)?;
                let name = method.attr.id.as_str();
                match bound(object, name) {
                    Ok(function) => Callee::Function(function),
                    Err(object) => Callee::Method(object, name),
                }
            }
            function => Callee::Function(self.node(function)?),
        };
        let arguments = self.arguments(&node.arguments)?;
        Ok(match callee {
            // Equivalent to `run["key"]`.
            Callee::Method(Node::Run, "get") if only_text(&arguments).is_some() => {
                let path = KeyPath::new(only_text(&arguments));
                Node::Param(self.new_lookup(path, [PathStep::Lenient].into()))
            }
            Callee::Function(function) => Node::Call(Box::new(Call { function, arguments })),
            Callee::Method(object, name) => Node::MethodCall(Box::new(MethodCall {
                object,
                name: name.into(),
                member: Member::find(name),
                arguments,
            })),
        })
    }

    fn arguments(&mut self, arguments: &ast::Arguments) -> Result<Arguments, Fault> {
        let positional = self.items(&arguments.args)?;
        let keywords = arguments.keywords.iter().map(|keyword| {
            let name = keyword.arg.as_ref().map(|name| name.id.as_str().into());
            Ok((name, self.node(&keyword.value)?))
        });
        Ok(Arguments { positional, keywords: keywords.collect::<Result<_, Fault>>()? })
    }

    /// Recognizes `metric.name == "a"`, its mirror image, and `metric.name in [..]` in a
    /// run search, and returns the names.
    pub(super) fn names_compared(&mut self, node: &ast::ExprCompare) -> Option<Box<[Box<str>]>> {
        let ([operator], [right]) = (&*node.ops, &*node.comparators) else { return None };
        match operator {
            ast::CmpOp::Eq if self.is_metric_name(&node.left) => Some([text_literal(right)?].into()),
            ast::CmpOp::Eq if self.is_metric_name(right) => Some([text_literal(&node.left)?].into()),
            ast::CmpOp::In if self.is_metric_name(&node.left) => {
                let elements = match right {
                    Expr::List(list) => &list.elts,
                    Expr::Tuple(tuple) => &tuple.elts,
                    Expr::Set(set) => &set.elts,
                    _ => return None,
                };
                elements.iter().map(text_literal).collect()
            }
            _ => None,
        }
    }

    fn is_metric_name(&self, operand: &Expr) -> bool {
        let Expr::Attribute(attribute) = operand else { return false };
        let Expr::Name(name) = &*attribute.value else { return false };
        self.options.endpoint == Endpoint::Run
            && name.id.as_str() == "metric"
            && attribute.attr.id.as_str() == "name"
            && self.scopes.find("metric").is_none()
    }
}

enum Callee<'n> {
    Function(Node),
    Method(Node, &'n str),
}

/// Returns the string if it is the only argument.
fn only_text(arguments: &Arguments) -> Option<&str> {
    match (&*arguments.positional, &*arguments.keywords) {
        ([Item::One(key)], []) => key.text(),
        _ => None,
    }
}

/// Returns the function with this name in a module or class; otherwise returns the object
/// unchanged.
fn bound(object: Node, name: &str) -> Result<Node, Node> {
    let Node::Builtin(owner) = object else { return Err(object) };
    names::member_function(owner, name).map(Node::Builtin).ok_or(Node::Builtin(owner))
}

fn attribute(object: Node, name: &str, member: Option<Member>) -> Node {
    Node::Attribute(Box::new(Attribute { object, name: name.into(), member }))
}

fn builtin_attribute(owner: Builtin, name: &str) -> Option<Node> {
    if let Builtin::Module(module) = owner {
        if let Some(number) = names::module_number(module, name) {
            return Some(Node::Const(Constant::Float(number)));
        }
        if let Some(text) = names::module_text(module, name) {
            return Some(Node::Const(Constant::Text(text.into())));
        }
    }
    names::member_function(owner, name).map(Node::Builtin)
}

fn text_literal(operand: &Expr) -> Option<Box<str>> {
    operand.as_string_literal_expr().map(|text| text.value.to_str().into())
}

fn extended(lookup: Lookup, key: &str, step: PathStep) -> Box<Lookup> {
    let steps = lookup.steps.iter().copied().chain([step]).collect();
    Box::new(Lookup { path: lookup.path.join(key), steps, slot: lookup.slot })
}

/// Returns the path of `run["a"]` or `run["a", "b"]` with literal keys.
fn run_path(index: &Node) -> Option<KeyPath> {
    if let Some(key) = index.text() {
        return Some(KeyPath::new([key]));
    }
    let Node::Display(Display::Tuple, items) = index else { return None };
    let keys: Option<Vec<&str>> = items
        .iter()
        .map(|item| match item {
            Item::One(node) => node.text(),
            Item::Spread(_) => None,
        })
        .collect();
    keys.filter(|keys| !keys.is_empty()).map(KeyPath::new)
}

fn metric_in_context(items: Box<[Item]>) -> Node {
    match <[Item; 2]>::try_from(items.into_vec()) {
        Ok([Item::One(name), Item::One(context)]) => {
            Node::Metric(Box::new(Metric { name, context: Some(context) }))
        }
        Ok(items) => index_metrics(items.into()),
        Err(items) => index_metrics(items),
    }
}

fn index_metrics(items: Vec<Item>) -> Node {
    Node::Index(Box::new([Node::Metrics, Node::Display(Display::Tuple, items.into())]))
}
