//! Refuses queries that parse but must not run: introspection, names that start with `_`,
//! `await`, `yield`, `...`, and scoping mistakes. The evaluator has no way to escape anyway;
//! these rules keep queries within the limits that always applied, and make them fail early.

use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{Comprehension, Expr, ExprCall, ExprLambda, ExprList, ExprTuple, Parameter};
use ruff_text_size::{Ranged, TextRange};

use crate::error::{ErrorKind, Fault};
use crate::limits::MAX_TREE_HEIGHT;

/// The only attribute of `run` that may start with an underscore: it is data, not one of
/// Python's internals.
pub(crate) const SYSTEM_PARAMS: &str = "__system_params";

/// Attributes through which Python objects expose their frames and code.
const INTROSPECTION: [&str; 16] = [
    "tb_frame",
    "tb_next",
    "f_back",
    "f_builtins",
    "f_code",
    "f_globals",
    "f_locals",
    "f_trace",
    "co_code",
    "gi_frame",
    "gi_code",
    "gi_yieldfrom",
    "cr_await",
    "cr_frame",
    "cr_code",
    "cr_origin",
];

/// Checks a parsed query and returns the height of its tree. Reports the first offense in
/// evaluation order.
pub(crate) fn check(expression: &Expr) -> Result<u32, Fault> {
    let mut checker = Checker { height: 0, highest: 0, fault: None, loop_names: Vec::new() };
    checker.visit_expr(expression);
    checker.fault.map_or(Ok(checker.highest), Err)
}

struct Checker<'a> {
    height: u32,
    highest: u32,
    fault: Option<Fault>,
    /// Loop variables of the enclosing comprehensions, which `:=` must not rebind.
    loop_names: Vec<&'a str>,
}

impl<'a> Visitor<'a> for Checker<'a> {
    fn visit_expr(&mut self, expression: &'a Expr) {
        if self.fault.is_some() {
            return;
        }
        let outer = self.height;
        // Each clause of a comprehension is evaluated inside the previous one.
        self.height += 1 + u32::try_from(clauses(expression).len()).unwrap_or(u32::MAX);
        self.highest = self.highest.max(self.height);
        if self.height > MAX_TREE_HEIGHT {
            self.refuse(ErrorKind::Limit, expression.range(), "the query nests too deeply; make it simpler");
        } else {
            self.check_node(expression);
        }
        self.height = outer;
    }

    fn visit_parameter(&mut self, parameter: &'a Parameter) {
        self.name(&parameter.name.id, parameter.name.range);
    }

    fn visit_comprehension(&mut self, clause: &'a Comprehension) {
        if clause.is_async {
            self.refuse(ErrorKind::Forbidden, clause.range, "asynchronous comprehensions are not allowed");
        }
        if let Some(range) = assignment_in(&clause.iter) {
            let message = "assignment expression cannot be used in a comprehension iterable expression";
            self.refuse(ErrorKind::Syntax, range, message);
        }
        visitor::walk_comprehension(self, clause);
    }
}

impl<'a> Checker<'a> {
    fn refuse(&mut self, kind: ErrorKind, range: TextRange, message: impl Into<String>) {
        self.fault.get_or_insert_with(|| Fault::new(kind, range, message));
    }

    fn check_node(&mut self, expression: &'a Expr) {
        let range = expression.range();
        match expression {
            Expr::Name(name) => self.name(&name.id, range),
            Expr::Attribute(attribute) => {
                let of_run = matches!(&*attribute.value, Expr::Name(name) if name.id.as_str() == "run");
                if !(of_run && attribute.attr.id.as_str() == SYSTEM_PARAMS) {
                    self.attribute(&attribute.attr.id, attribute.attr.range);
                }
            }
            Expr::Call(call) => self.call(call),
            Expr::Await(_) => self.forbid(range, "await is not allowed"),
            Expr::Yield(_) | Expr::YieldFrom(_) => self.forbid(range, "yield is not allowed"),
            Expr::EllipsisLiteral(_) => self.forbid(range, "the literal ... is not allowed"),
            Expr::TString(_) => self.refuse(ErrorKind::Syntax, range, "template strings are not supported"),
            Expr::IpyEscapeCommand(_) => self.refuse(ErrorKind::Syntax, range, "invalid syntax"),
            Expr::Lambda(lambda) => self.lambda(lambda),
            Expr::Named(named) => {
                if let Expr::Name(name) = &*named.target
                    && self.loop_names.contains(&name.id.as_str())
                {
                    let message = format!(
                        "assignment expression cannot rebind comprehension iteration variable '{}'",
                        name.id
                    );
                    self.refuse(ErrorKind::Syntax, range, message);
                }
            }
            _ => {}
        }
        let outer = self.loop_names.len();
        for clause in clauses(expression) {
            names_of_target(&clause.target, &mut self.loop_names);
        }
        visitor::walk_expr(self, expression);
        self.loop_names.truncate(outer);
    }

    fn forbid(&mut self, range: TextRange, message: impl Into<String>) {
        self.refuse(ErrorKind::Forbidden, range, message);
    }

    fn name(&mut self, name: &str, range: TextRange) {
        if name.starts_with('_') && name != "_" {
            let message = format!("\"{name}\" is an invalid variable name because it starts with \"_\"");
            self.forbid(range, message);
        } else if name.ends_with("__roles__") {
            let message =
                format!("\"{name}\" is an invalid variable name because it ends with \"__roles__\"");
            self.forbid(range, message);
        } else if matches!(name, "breakpoint" | "builtins") {
            self.forbid(range, format!("\"{name}\" is a reserved name"));
        }
    }

    fn attribute(&mut self, name: &str, range: TextRange) {
        if name.starts_with('_') {
            let message = format!("\"{name}\" is an invalid attribute name because it starts with \"_\"");
            self.forbid(range, message);
        } else if name.ends_with("__roles__") {
            let message =
                format!("\"{name}\" is an invalid attribute name because it ends with \"__roles__\"");
            self.forbid(range, message);
        } else if INTROSPECTION.contains(&name) {
            self.forbid(range, format!("\"{name}\" is a restricted attribute name"));
        }
    }

    fn call(&mut self, call: &ExprCall) {
        if let Expr::Name(name) = &*call.func
            && matches!(name.id.as_str(), "eval" | "exec")
        {
            self.forbid(call.range(), format!("calls of {} are not allowed", name.id));
        }
        let mut seen: Vec<&str> = Vec::new();
        for keyword in &call.arguments.keywords {
            let Some(name) = &keyword.arg else { continue };
            if seen.contains(&name.id.as_str()) {
                let message = format!("keyword argument repeated: {}", name.id);
                self.refuse(ErrorKind::Syntax, keyword.range, message);
            }
            seen.push(&name.id);
        }
    }

    fn lambda(&mut self, lambda: &ExprLambda) {
        let mut seen: Vec<&str> = Vec::new();
        for parameter in lambda.parameters.iter().flat_map(|parameters| parameters.iter()) {
            let name = parameter.name();
            if seen.contains(&name.id.as_str()) {
                let message = format!("duplicate argument '{}' in function definition", name.id);
                self.refuse(ErrorKind::Syntax, name.range, message);
            }
            seen.push(&name.id);
        }
    }
}

fn clauses(expression: &Expr) -> &[Comprehension] {
    match expression {
        Expr::ListComp(node) => &node.generators,
        Expr::SetComp(node) => &node.generators,
        Expr::DictComp(node) => &node.generators,
        Expr::Generator(node) => &node.generators,
        _ => &[],
    }
}

/// Collects the names that a loop target binds.
pub(crate) fn names_of_target<'a>(target: &'a Expr, names: &mut Vec<&'a str>) {
    match target {
        Expr::Name(name) => names.push(&name.id),
        Expr::Tuple(ExprTuple { elts, .. }) | Expr::List(ExprList { elts, .. }) => {
            for element in elts {
                names_of_target(element, names);
            }
        }
        Expr::Starred(starred) => names_of_target(&starred.value, names),
        _ => {}
    }
}

/// Returns the range of the first `:=` in an expression or in a lambda inside it.
fn assignment_in(expression: &Expr) -> Option<TextRange> {
    struct Finder(Option<TextRange>);
    impl<'a> Visitor<'a> for Finder {
        fn visit_expr(&mut self, expression: &'a Expr) {
            if let Expr::Named(named) = expression {
                self.0.get_or_insert(named.range);
            }
            visitor::walk_expr(self, expression);
        }
    }
    let mut finder = Finder(None);
    finder.visit_expr(expression);
    finder.0
}
