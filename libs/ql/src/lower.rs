//! Lowering from the checked parser tree to the typed tree: names become slots, paths or
//! built-ins, and constants are folded. An unbound name is not refused here: by contract it
//! raises when evaluated, and it is reported as a warning.

mod access;
mod constant_folding;
mod literal;
mod scope;

use ruff_python_ast as ast;
use ruff_python_ast::Expr;
use ruff_text_size::{Ranged, TextRange};

use crate::error::Fault;
use crate::names::{Builtin, Property};
use crate::options::QueryOptions;
use crate::tree::{
    Assign, Binary, Chain, Clause, Collect, Compare, Comparison, Comprehension, Constant, Display, Item,
    Lambda, Node, Operator, Parameter, Target, Unary,
};
use constant_folding::ConstantFolder;
use scope::{ScopeKind, Scopes};

/// A lowered query.
pub(crate) struct LoweredQuery {
    pub(crate) root: Node,
    /// Slots of the query's own environment.
    pub(crate) slots: u16,
    /// Unbound names with their positions.
    pub(crate) unknown: Vec<(String, TextRange)>,
    /// Whether the default filter was prepended to the query.
    pub(crate) is_filtered: bool,
    /// Expressions that are points in time or durations, in seconds, with their positions;
    /// none is nested in another.
    pub(crate) times: Vec<(f64, TextRange)>,
    /// Number of slots for the values of lookups.
    pub(crate) lookups: u32,
}

pub(crate) fn lower(expression: &Expr, options: &QueryOptions) -> Result<LoweredQuery, Fault> {
    let mut lowering = Lowering {
        options,
        scopes: Scopes::default(),
        folder: ConstantFolder::new(options),
        unknown: Vec::new(),
        times: Vec::new(),
        lookups: 0,
    };
    lowering.scopes.enter(ScopeKind::Query, scope::assigned(expression));
    let query = lowering.node(expression)?;
    let slots = lowering.scopes.leave();
    let is_filtered = !mentions_archived(expression);
    let root = if is_filtered { Node::And(Box::new([not_archived(), query])) } else { query };
    Ok(LoweredQuery {
        root,
        slots,
        unknown: lowering.unknown,
        is_filtered,
        times: lowering.times,
        lookups: lowering.lookups,
    })
}

/// Returns `run.is_archived == False`, the filter that applies unless the query compares this
/// property.
pub(crate) fn not_archived() -> Node {
    let left = Node::Property(Property::IsArchived);
    let right = Node::Const(Constant::Bool(false));
    Node::Compare(Box::new(Compare { left, operator: Comparison::Eq, right }))
}

/// Whether any comparison has `run.archived` or `run.is_archived` as an operand.
fn mentions_archived(expression: &Expr) -> bool {
    use ruff_python_ast::visitor::{self, Visitor};
    struct Finder(bool);
    impl<'a> Visitor<'a> for Finder {
        fn visit_expr(&mut self, expression: &'a Expr) {
            if let Expr::Compare(compare) = expression {
                self.0 |= is_archived(&compare.left) || compare.comparators.iter().any(is_archived);
            }
            visitor::walk_expr(self, expression);
        }
    }
    let mut finder = Finder(false);
    finder.visit_expr(expression);
    finder.0
}

fn is_archived(operand: &Expr) -> bool {
    let Expr::Attribute(attribute) = operand else { return false };
    matches!(&*attribute.value, Expr::Name(name) if name.id.as_str() == "run")
        && matches!(attribute.attr.id.as_str(), "archived" | "is_archived")
}

struct Lowering<'o> {
    options: &'o QueryOptions,
    scopes: Scopes,
    folder: ConstantFolder<'o>,
    unknown: Vec<(String, TextRange)>,
    times: Vec<(f64, TextRange)>,
    /// Number of lookups created so far.
    lookups: u32,
}

impl Lowering<'_> {
    fn nodes<'e>(&mut self, expressions: impl IntoIterator<Item = &'e Expr>) -> Result<Box<[Node]>, Fault> {
        expressions.into_iter().map(|expression| self.node(expression)).collect()
    }

    fn node(&mut self, expression: &Expr) -> Result<Node, Fault> {
        let node = match expression {
            Expr::BoolOp(node) => {
                let values = self.nodes(&node.values)?;
                match node.op {
                    ast::BoolOp::And => Node::And(values),
                    ast::BoolOp::Or => Node::Or(values),
                }
            }
            Expr::UnaryOp(node) => self.unary(node)?,
            Expr::BinOp(node) => self.binary(node)?,
            Expr::Compare(node) => self.compare(node)?,
            Expr::If(node) => {
                Node::If(Box::new([self.node(&node.test)?, self.node(&node.body)?, self.node(&node.orelse)?]))
            }
            Expr::Named(node) => self.assign(node)?,
            Expr::Lambda(node) => self.lambda(node)?,
            Expr::ListComp(node) => self.comprehension(Collect::List, &node.elt, None, &node.generators)?,
            Expr::SetComp(node) => self.comprehension(Collect::Set, &node.elt, None, &node.generators)?,
            Expr::Generator(node) => {
                self.comprehension(Collect::Generator, &node.elt, None, &node.generators)?
            }
            Expr::DictComp(node) => {
                let Some(key) = &node.key else {
                    return Err(Fault::syntax(
                        node.range,
                        "dict unpacking cannot be used in a comprehension",
                    ));
                };
                self.comprehension(Collect::Dict, key, Some(&node.value), &node.generators)?
            }
            Expr::List(node) => Node::Display(Display::List, self.items(&node.elts)?),
            Expr::Tuple(node) => Node::Display(Display::Tuple, self.items(&node.elts)?),
            Expr::Set(node) => Node::Display(Display::Set, self.items(&node.elts)?),
            Expr::Dict(node) => self.dict(node)?,
            Expr::Name(node) => self.name(&node.id, node.range),
            Expr::Attribute(node) => self.attribute(node)?,
            Expr::Subscript(node) => self.subscript(node)?,
            Expr::Slice(node) => Node::Slice(Box::new([
                node.lower.as_deref().map(|part| self.node(part)).transpose()?,
                node.upper.as_deref().map(|part| self.node(part)).transpose()?,
                node.step.as_deref().map(|part| self.node(part)).transpose()?,
            ])),
            Expr::Call(node) => self.call(node)?,
            Expr::FString(node) => self.f_string(node)?,
            Expr::StringLiteral(node) => Node::Const(Constant::Text(node.value.to_str().into())),
            Expr::BytesLiteral(node) => Node::Const(Constant::Bytes(node.value.bytes().collect())),
            Expr::NumberLiteral(node) => literal::number(node)?,
            Expr::BooleanLiteral(node) => Node::Const(Constant::Bool(node.value)),
            Expr::NoneLiteral(_) => Node::Const(Constant::None),
            Expr::Starred(node) => {
                return Err(Fault::syntax(node.range, "cannot use starred expression here"));
            }
            Expr::Await(_)
            | Expr::Yield(_)
            | Expr::YieldFrom(_)
            | Expr::EllipsisLiteral(_)
            | Expr::TString(_)
            | Expr::IpyEscapeCommand(_) => return Err(Fault::syntax(expression.range(), "invalid syntax")),
        };
        let node = self.folder.fold(node, expression.range())?;
        if let Node::Const(Constant::Time(seconds) | Constant::Span(seconds)) = node {
            self.time(seconds, expression.range());
        }
        Ok(node)
    }

    /// Records an expression that is a time, replacing the times nested in it.
    fn time(&mut self, seconds: f64, range: TextRange) {
        self.times.retain(|(_, inner)| !range.contains_range(*inner));
        self.times.push((seconds, range));
    }

    fn items(&mut self, expressions: &[Expr]) -> Result<Box<[Item]>, Fault> {
        expressions.iter().map(|expression| self.item(expression)).collect()
    }

    fn item(&mut self, expression: &Expr) -> Result<Item, Fault> {
        match expression {
            Expr::Starred(starred) => Ok(Item::Spread(self.node(&starred.value)?)),
            _ => Ok(Item::One(self.node(expression)?)),
        }
    }

    fn dict(&mut self, node: &ast::ExprDict) -> Result<Node, Fault> {
        let items = node.items.iter().map(|item| {
            let key = item.key.as_ref().map(|key| self.node(key)).transpose()?;
            Ok((key, self.node(&item.value)?))
        });
        Ok(Node::Dict(items.collect::<Result<_, _>>()?))
    }

    fn unary(&mut self, node: &ast::ExprUnaryOp) -> Result<Node, Fault> {
        let operand = Box::new(self.node(&node.operand)?);
        Ok(match node.op {
            ast::UnaryOp::Not => Node::Not(operand),
            ast::UnaryOp::UAdd => Node::Unary(Unary::Plus, operand),
            ast::UnaryOp::USub => Node::Unary(Unary::Minus, operand),
            ast::UnaryOp::Invert => Node::Unary(Unary::Invert, operand),
        })
    }

    fn binary(&mut self, node: &ast::ExprBinOp) -> Result<Node, Fault> {
        let left = self.node(&node.left)?;
        let right = self.node(&node.right)?;
        let operator = match node.op {
            ast::Operator::Add => Operator::Add,
            ast::Operator::Sub => Operator::Subtract,
            ast::Operator::Mult => Operator::Multiply,
            ast::Operator::MatMult => Operator::MatrixMultiply,
            ast::Operator::Div => Operator::Divide,
            ast::Operator::Mod => Operator::Modulo,
            ast::Operator::Pow => Operator::Power,
            ast::Operator::LShift => Operator::ShiftLeft,
            ast::Operator::RShift => Operator::ShiftRight,
            ast::Operator::BitOr => Operator::Or,
            ast::Operator::BitXor => Operator::Xor,
            ast::Operator::BitAnd => Operator::And,
            ast::Operator::FloorDiv => Operator::FloorDivide,
        };
        Ok(Node::Binary(Box::new(Binary { left, operator, right })))
    }

    fn compare(&mut self, node: &ast::ExprCompare) -> Result<Node, Fault> {
        if let Some(names) = self.names_compared(node) {
            return Ok(Node::HasSequence(names));
        }
        let left = self.node(&node.left)?;
        let operators = node.ops.iter().map(|operator| comparison(*operator));
        let mut rest = Vec::with_capacity(node.ops.len());
        for (operator, operand) in operators.zip(&node.comparators) {
            rest.push((operator, self.node(operand)?));
        }
        if rest.len() == 1
            && let Some((operator, right)) = rest.pop()
        {
            return Ok(Node::Compare(Box::new(Compare { left, operator, right })));
        }
        Ok(Node::Chain(Box::new(Chain { first: left, rest: rest.into() })))
    }

    fn assign(&mut self, node: &ast::ExprNamed) -> Result<Node, Fault> {
        let value = self.node(&node.value)?;
        let Expr::Name(name) = &*node.target else {
            return Err(Fault::syntax(node.target.range(), "cannot use assignment expressions here"));
        };
        let (hops, slot) = self.scopes.assign(&name.id);
        Ok(Node::Assign(Box::new(Assign { hops, slot, value })))
    }

    fn name(&mut self, name: &str, range: TextRange) -> Node {
        match self.scopes.find(name) {
            Some(found) => {
                let unbound = found.of_query.then(|| Box::new(self.global(name, range)));
                Node::Local(crate::tree::Local { hops: found.hops, slot: found.slot, unbound })
            }
            None => self.global(name, range),
        }
    }

    fn global(&mut self, name: &str, range: TextRange) -> Node {
        if name == "run" {
            return Node::Run;
        }
        if Some(name) == self.options.endpoint.variable() {
            return Node::Sequence;
        }
        Builtin::find(name).map(Node::Builtin).unwrap_or_else(|| {
            self.unknown.push((name.to_owned(), range));
            Node::Unknown
        })
    }

    fn lambda(&mut self, node: &ast::ExprLambda) -> Result<Node, Fault> {
        let none = ast::Parameters::default();
        let declared = node.parameters.as_deref().unwrap_or(&none);
        let mut parameters = Vec::new();
        for parameter in declared.iter_non_variadic_params() {
            // As in Python, defaults are evaluated in the enclosing scope.
            let default = parameter.default().map(|default| self.node(default)).transpose()?;
            parameters.push(Parameter { name: parameter.name().id.as_str().into(), default });
        }
        let mut names: Vec<String> = parameters.iter().map(|parameter| parameter.name.to_string()).collect();
        let rest = extra_slot(&mut names, declared.vararg.as_deref());
        let keywords = extra_slot(&mut names, declared.kwarg.as_deref());
        names.extend(scope::assigned(&node.body));
        self.scopes.enter(ScopeKind::Lambda, names);
        let body = self.node(&node.body);
        let slots = self.scopes.leave();
        Ok(Node::Lambda(Box::new(Lambda {
            parameters: parameters.into(),
            positional_only: declared.posonlyargs.len(),
            positional: declared.posonlyargs.len() + declared.args.len(),
            rest,
            keywords,
            slots,
            body: body?,
        })))
    }

    fn comprehension(
        &mut self,
        collect: Collect,
        element: &Expr,
        value: Option<&Expr>,
        generators: &[ast::Comprehension],
    ) -> Result<Node, Fault> {
        // As in Python, the first iterable is evaluated in the enclosing scope.
        let first = self.node(&generators[0].iter)?;
        let mut names = Vec::new();
        for clause in generators {
            crate::check::names_of_target(&clause.target, &mut names);
        }
        self.scopes.enter(ScopeKind::Comprehension, names.into_iter().map(str::to_owned));
        let inside = self.comprehension_parts(element, value, generators);
        let slots = self.scopes.leave();
        let (clauses, element, value) = inside?;
        Ok(Node::Comprehension(Box::new(Comprehension { collect, first, clauses, element, value, slots })))
    }

    fn comprehension_parts(
        &mut self,
        element: &Expr,
        value: Option<&Expr>,
        generators: &[ast::Comprehension],
    ) -> Result<ComprehensionParts, Fault> {
        let mut clauses = Vec::with_capacity(generators.len());
        for (position, clause) in generators.iter().enumerate() {
            clauses.push(Clause {
                target: self.target(&clause.target),
                iterable: (position > 0).then(|| self.node(&clause.iter)).transpose()?,
                conditions: self.nodes(&clause.ifs)?,
            });
        }
        let value = value.map(|value| self.node(value)).transpose()?;
        Ok((clauses.into(), self.node(element)?, value))
    }

    fn target(&self, target: &Expr) -> Target {
        let elements = match target {
            Expr::Name(name) => {
                return self.scopes.find(&name.id).map_or(Target::Refused, |found| Target::Slot(found.slot));
            }
            Expr::Tuple(tuple) => &tuple.elts,
            Expr::List(list) => &list.elts,
            _ => return Target::Refused,
        };
        let star = elements.iter().position(|element| matches!(element, Expr::Starred(_)));
        match star.and_then(|at| elements[at].as_starred_expr().map(|starred| (at, starred))) {
            Some((at, starred)) => Target::Unpack(
                self.targets(&elements[..at]),
                Some(Box::new(self.target(&starred.value))),
                self.targets(&elements[at + 1..]),
            ),
            None => Target::Unpack(self.targets(elements), None, Box::default()),
        }
    }

    fn targets(&self, elements: &[Expr]) -> Box<[Target]> {
        elements.iter().map(|element| self.target(element)).collect()
    }
}

/// The clauses, the element and the value of a comprehension.
type ComprehensionParts = (Box<[Clause]>, Node, Option<Node>);

/// Adds the name of `*args` or `**kwargs`, and returns its slot.
fn extra_slot(names: &mut Vec<String>, parameter: Option<&ast::Parameter>) -> Option<u16> {
    let parameter = parameter?;
    names.push(parameter.name.id.to_string());
    Some(slot(names.len() - 1))
}

fn slot(position: usize) -> u16 {
    u16::try_from(position).expect("a query of at most 64 KiB has fewer than 2^16 names")
}

fn comparison(operator: ast::CmpOp) -> Comparison {
    match operator {
        ast::CmpOp::Eq => Comparison::Eq,
        ast::CmpOp::NotEq => Comparison::NotEq,
        ast::CmpOp::Lt => Comparison::Less,
        ast::CmpOp::LtE => Comparison::LessEq,
        ast::CmpOp::Gt => Comparison::Greater,
        ast::CmpOp::GtE => Comparison::GreaterEq,
        ast::CmpOp::Is => Comparison::Is,
        ast::CmpOp::IsNot => Comparison::IsNot,
        ast::CmpOp::In => Comparison::In,
        ast::CmpOp::NotIn => Comparison::NotIn,
    }
}
