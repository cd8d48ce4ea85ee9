//! Assignment of names to frames and slots by Python's rules: loop variables belong to their
//! comprehension, and `:=` binds in the lambda or query that encloses all comprehensions.
//! Scopes without names have no environment.

use ruff_python_ast::Expr;
use ruff_python_ast::visitor::{self, Visitor};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScopeKind {
    Query,
    Lambda,
    Comprehension,
}

struct Scope {
    kind: ScopeKind,
    names: Vec<String>,
}

#[derive(Default)]
pub(super) struct Scopes(Vec<Scope>);

pub(super) struct Binding {
    pub(super) hops: u16,
    pub(super) slot: u16,
    /// Whether `:=` of the query itself binds the name, so that until then it has its outer
    /// meaning.
    pub(super) of_query: bool,
}

impl Scopes {
    pub(super) fn enter(&mut self, kind: ScopeKind, names: impl IntoIterator<Item = String>) {
        let mut unique: Vec<String> = Vec::new();
        for name in names {
            if !unique.contains(&name) {
                unique.push(name);
            }
        }
        self.0.push(Scope { kind, names: unique });
    }

    /// Leaves the innermost scope and returns the number of slots in its environment.
    pub(super) fn leave(&mut self) -> u16 {
        self.0.pop().map_or(0, |scope| super::slot(scope.names.len()))
    }

    pub(super) fn find(&self, name: &str) -> Option<Binding> {
        self.search(name, |_| true)
    }

    /// Returns the slot that `:=` binds. Every name that it binds in a scope was passed to
    /// `enter`.
    pub(super) fn assign(&self, name: &str) -> (u16, u16) {
        let found = self.search(name, |kind| kind != ScopeKind::Comprehension);
        found.map(|found| (found.hops, found.slot)).expect("assigned names were passed to `enter`")
    }

    fn search(&self, name: &str, takes: impl Fn(ScopeKind) -> bool) -> Option<Binding> {
        let mut hops = 0;
        for scope in self.0.iter().rev() {
            let position = scope.names.iter().position(|known| known == name);
            if let Some(position) = position.filter(|_| takes(scope.kind)) {
                return Some(Binding {
                    hops,
                    slot: super::slot(position),
                    of_query: scope.kind == ScopeKind::Query,
                });
            }
            // A scope without names has no environment.
            hops += u16::from(!scope.names.is_empty());
        }
        None
    }
}

/// Returns the names that `:=` binds in the scope of an expression, without the names bound inside
/// its lambdas.
pub(super) fn assigned(expression: &Expr) -> Vec<String> {
    struct Finder(Vec<String>);
    impl<'a> Visitor<'a> for Finder {
        fn visit_expr(&mut self, expression: &'a Expr) {
            match expression {
                Expr::Lambda(lambda) => {
                    // Defaults belong to the enclosing scope.
                    let parameters = lambda.parameters.iter().flat_map(|p| p.iter_non_variadic_params());
                    for default in parameters.filter_map(|parameter| parameter.default()) {
                        self.visit_expr(default);
                    }
                }
                Expr::Named(named) => {
                    if let Expr::Name(name) = &*named.target {
                        self.0.push(name.id.to_string());
                    }
                    visitor::walk_expr(self, expression);
                }
                _ => visitor::walk_expr(self, expression),
            }
        }
    }
    let mut finder = Finder(Vec::new());
    finder.visit_expr(expression);
    finder.0
}
