//! Evaluation of the typed tree for one candidate, with Python's semantics, its own value
//! types, and a budget of steps and bytes. There is nothing to escape to: values are data,
//! names are enums, and no operation has side effects.

mod arena;
mod arguments;
mod arithmetic;
mod attribute;
mod budget;
mod builtins;
mod call;
mod candidate;
mod compare;
mod complex;
mod convert;
mod datum;
mod floats;
mod format;
mod index;
mod integer;
mod iterate;
mod lookup;
mod math;
mod membership;
mod method;
mod repr;
mod tables;
mod time;
mod unicode;
mod view;

use std::cell::Cell;

use bumpalo::Bump;
use num_traits::ToPrimitive;

use crate::limits::{BudgetError, MAX_ACTIVE_LEVELS, MAX_FOLD_STEPS, MAX_FOLDED_BYTES, QueryLimits};
use crate::options::{Endpoint, QueryOptions};
use crate::tree::{BigConstant, Chain, Compare, Comparison, Constant, Node, Program};
use crate::value::{Environment, Value};
use crate::view::{RunView, SequenceView};
use arena::Arena;
use budget::StepBudget;
use candidate::Candidate;
use integer::Number;
use time::Clock;

/// The Python exception that made a query false for a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exception {
    IndexError,
    KeyError,
    /// A stored value is too large for [`QueryLimits`].
    MemoryError,
    NameError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    ZeroDivisionError,
}

/// Why evaluation ended without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EvalError {
    Exception(Exception),
    Budget(BudgetError),
}

impl From<Exception> for EvalError {
    fn from(raise: Exception) -> Self {
        EvalError::Exception(raise)
    }
}

impl From<BudgetError> for EvalError {
    fn from(budget: BudgetError) -> Self {
        EvalError::Budget(budget)
    }
}

pub(crate) type Result<T> = std::result::Result<T, EvalError>;

/// Evaluates the nodes of a query for one candidate.
pub(crate) struct Machine<'a> {
    arena: Arena<'a>,
    candidate: Candidate<'a>,
    clock: Clock,
    depth: CallDepth,
}

/// Stack levels used by nested calls, and the most that one call may take.
struct CallDepth {
    levels: Cell<u32>,
    height: u32,
}

impl CallDepth {
    fn new(levels: u32, height: u32) -> Self {
        Self { levels: Cell::new(levels), height }
    }

    /// Runs a closure that evaluates a whole expression further down the stack.
    fn nested<T>(&self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let outer = self.levels.get();
        if outer + self.height > MAX_ACTIVE_LEVELS {
            return Err(BudgetError::Depth.into());
        }
        self.levels.set(outer + self.height.max(1));
        let result = run();
        self.levels.set(outer);
        result
    }
}

/// Evaluates one query for many candidates, reusing the arena between them.
pub(crate) struct Workspace {
    bump: Bump,
    limits: QueryLimits,
    steps_left: u64,
}

impl Workspace {
    pub(crate) fn new(limits: QueryLimits) -> Self {
        let bump = Bump::new();
        bump.set_allocation_limit(Some(limits.memory));
        Self { bump, limits, steps_left: limits.steps_in_total }
    }

    pub(crate) fn steps_left(&self) -> u64 {
        self.steps_left
    }

    /// Returns whether a query is true for a candidate.
    pub(crate) fn truth(
        &mut self,
        program: &Program,
        options: &QueryOptions,
        run: &dyn RunView,
        sequence: Option<&dyn SequenceView>,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<bool> {
        self.bump.reset();
        let granted = self.limits.steps_per_candidate.min(self.steps_left);
        // The smaller of the two limits decides which error is reported.
        let exhausted = if granted == self.limits.steps_per_candidate {
            BudgetError::CandidateSteps
        } else {
            BudgetError::TotalSteps
        };
        let arena = Arena::new(&self.bump, StepBudget::new(granted, exhausted, is_stopped));
        let candidate = Candidate::new(&arena, run, sequence, program.lookups)?;
        let machine = Machine {
            arena,
            candidate,
            clock: Clock { now: options.now, offset_minutes: options.offset_minutes },
            depth: CallDepth::new(program.height, program.height),
        };
        let result = machine.run(program).map(|value| value.truth());
        let used = granted - machine.arena.steps_left();
        self.steps_left -= used;
        result
    }
}

/// Evaluates a node without names to a constant. Returns `None` if it raises or is not a
/// scalar.
pub(crate) fn constant(
    node: &Node,
    options: &QueryOptions,
    steps: &mut u64,
) -> std::result::Result<Option<Constant>, BudgetError> {
    let bump = Bump::new();
    bump.set_allocation_limit(Some(QueryLimits::default().memory));
    let machine = Machine {
        arena: Arena::new(&bump, StepBudget::new(*steps, BudgetError::CandidateSteps, &|| false)),
        candidate: Candidate::without_data(&NoRun),
        clock: Clock { now: options.now, offset_minutes: options.offset_minutes },
        depth: CallDepth::new(0, 1),
    };
    let result = machine.eval(Environment::EMPTY, node);
    *steps = machine.arena.steps_left();
    match result {
        Ok(value) => Ok(to_constant(value)),
        Err(EvalError::Exception(_)) => Ok(None),
        Err(EvalError::Budget(budget)) => Err(budget),
    }
}

/// Whether a constant is true.
pub(crate) fn truth(constant: &Constant) -> bool {
    Value::constant(constant).truth()
}

/// Returns whether an expression of constants is true, or `None` if it raises.
pub(crate) fn condition(node: &Node) -> Option<bool> {
    let options = QueryOptions { endpoint: Endpoint::Run, offset_minutes: 0, now: 0.0 };
    let mut steps = MAX_FOLD_STEPS;
    match constant(node, &options, &mut steps) {
        Ok(Some(constant)) => Some(truth(&constant)),
        Ok(None) | Err(_) => None,
    }
}

/// Returns the index key of a number: the nearest float. NaN has none.
pub(crate) fn number_key(constant: &Constant) -> Option<f64> {
    let key = match Number::from_value(Value::constant(constant))? {
        Number::Int(int) => int as f64,
        Number::Float(float) => float,
        Number::Big(big) => big.to_f64().unwrap_or(f64::INFINITY),
    };
    (!key.is_nan()).then_some(key)
}

fn to_constant(value: Value<'_>) -> Option<Constant> {
    Some(match value {
        Value::None => Constant::None,
        Value::Bool(value) => Constant::Bool(value),
        Value::Int(value) => Constant::Int(value),
        Value::Big(big) => Constant::Big(BigConstant { negative: big.negative, digits: big.digits.into() }),
        Value::Float(value) => Constant::Float(value),
        Value::Time(value) => Constant::Time(value),
        Value::Span(value) => Constant::Span(value),
        Value::Complex(real, imaginary) => Constant::Complex(real, imaginary),
        Value::Text(text) if text.len() <= MAX_FOLDED_BYTES => Constant::Text(text.into()),
        Value::Bytes(bytes) if bytes.len() <= MAX_FOLDED_BYTES => Constant::Bytes(bytes.into()),
        _ => return None,
    })
}

impl<'a> Machine<'a> {
    fn run(&self, program: &'a Program) -> Result<Value<'a>> {
        let environment = self.arena.new_environment(program.slots, Environment::EMPTY)?;
        self.eval(environment, &program.root)
    }

    pub(crate) fn eval(&self, environment: Environment<'a>, node: &'a Node) -> Result<Value<'a>> {
        self.arena.spend(1)?;
        match node {
            Node::Const(constant) => Ok(Value::constant(constant)),
            Node::And(nodes) => self.logic(environment, nodes, false),
            Node::Or(nodes) => self.logic(environment, nodes, true),
            Node::Not(operand) => Ok(Value::Bool(!self.eval(environment, operand)?.truth())),
            Node::Compare(compare) => self.comparison(environment, compare),
            Node::Property(property) => Ok(view::property_of(self.candidate.run, *property)),
            Node::Param(lookup) => lookup::param(self, lookup),
            Node::SequenceField(field) => lookup::sequence_field(self, *field),
            Node::MethodCall(call) => self.method_call(environment, call),
            Node::Call(call) => self.call(environment, call),
            Node::If(parts) => {
                let [test, body, otherwise] = &**parts;
                if self.eval(environment, test)?.truth() {
                    self.eval(environment, body)
                } else {
                    self.eval(environment, otherwise)
                }
            }
            _ => self.eval_rare(environment, node),
        }
    }

    #[inline(never)]
    fn eval_rare(&self, environment: Environment<'a>, node: &'a Node) -> Result<Value<'a>> {
        match node {
            Node::Chain(chain) => self.chain(environment, chain),
            Node::Context(lookup) => lookup::context(self, lookup),
            Node::ParamOr(lookup, property) => lookup::param_or(self, lookup, *property),
            Node::HasSequence(names) => self.has_sequence(names),
            Node::Metric(metric) => lookup::metric(self, environment, metric),
            Node::Run => Ok(Value::Run(self.candidate.run)),
            Node::Tags => Ok(Value::Tags(self.candidate.run)),
            Node::Metrics => Ok(Value::Metrics(self.candidate.run)),
            Node::Sequence => self.candidate.sequence.map(Value::Sequence).ok_or(Exception::NameError.into()),
            Node::Builtin(builtin) => attribute::builtin(*builtin),
            Node::Unknown => Err(Exception::NameError.into()),
            Node::Local(local) => {
                match (environment.variable(local.hops, local.slot).get(), &local.unbound) {
                    (Some(value), _) => Ok(value),
                    (None, Some(outside)) => self.eval(environment, outside),
                    (None, None) => Err(Exception::NameError.into()),
                }
            }
            Node::Assign(assign) => {
                let value = self.eval(environment, &assign.value)?;
                environment.variable(assign.hops, assign.slot).set(Some(value));
                Ok(value)
            }
            Node::Attribute(attribute) => {
                let object = self.eval(environment, &attribute.object)?;
                attribute::attribute(self, object, &attribute.name, attribute.member)
            }
            Node::Index(parts) => {
                let object = self.eval(environment, &parts[0])?;
                let index = self.eval(environment, &parts[1])?;
                index::index(&self.arena, object, index)
            }
            Node::Slice(parts) => {
                let mut values = [Value::None; 3];
                for (value, part) in values.iter_mut().zip(&**parts) {
                    if let Some(part) = part {
                        *value = self.eval(environment, part)?;
                    }
                }
                self.arena.alloc(values).map(Value::Slice)
            }
            Node::Unary(operator, operand) => {
                let operand = self.eval(environment, operand)?;
                arithmetic::unary(&self.arena, *operator, operand)
            }
            Node::Binary(binary) => {
                let left = self.eval(environment, &binary.left)?;
                let right = self.eval(environment, &binary.right)?;
                arithmetic::binary(&self.arena, binary.operator, left, right)
            }
            Node::Display(kind, items) => self.display(environment, *kind, items),
            Node::Dict(items) => self.dict_display(environment, items),
            Node::Comprehension(comprehension) => self.comprehension(environment, comprehension),
            Node::Lambda(lambda) => self.lambda(environment, lambda),
            Node::Format(pieces) => format::f_string(self, environment, pieces),
            _ => unreachable!("`eval` handles all other nodes"),
        }
    }

    /// `and` and `or`: returns the first value whose truth decides the result, otherwise
    /// the last value.
    fn logic(&self, environment: Environment<'a>, nodes: &'a [Node], decisive: bool) -> Result<Value<'a>> {
        let mut value = Value::None;
        for node in nodes {
            value = self.eval(environment, node)?;
            if value.truth() == decisive {
                break;
            }
        }
        Ok(value)
    }

    fn comparison(&self, environment: Environment<'a>, compare: &'a Compare) -> Result<Value<'a>> {
        let left = self.eval(environment, &compare.left)?;
        if let Comparison::In | Comparison::NotIn = compare.operator
            && let Some(found) = self.found_in(left, &compare.right)?
        {
            return Ok(Value::Bool(found == (compare.operator == Comparison::In)));
        }
        let right = self.eval(environment, &compare.right)?;
        membership::compare(self, compare.operator, left, right).map(Value::Bool)
    }

    /// Searches the tags or a display of constants, without building a value of them. Returns
    /// `None` for any other node.
    fn found_in(&self, needle: Value<'a>, haystack: &'a Node) -> Result<Option<bool>> {
        match haystack {
            Node::Tags => {
                self.arena.spend(1)?;
                view::has_tag(&self.arena, self.candidate.run, needle).map(Some)
            }
            haystack => membership::in_constants(&self.arena, needle, haystack),
        }
    }

    /// Whether the run has a sequence with one of the names.
    fn has_sequence(&self, names: &[Box<str>]) -> Result<Value<'a>> {
        for name in names {
            let named = self.candidate.run.sequences(name);
            self.arena.spend(1 + named.len() as u64)?;
            if !named.is_empty() {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }

    /// Evaluates a chained comparison. Each operand is evaluated at most once, and
    /// evaluation stops at the first comparison that is false.
    fn chain(&self, environment: Environment<'a>, chain: &'a Chain) -> Result<Value<'a>> {
        let mut left = self.eval(environment, &chain.first)?;
        for (operator, node) in &chain.rest {
            let right = self.eval(environment, node)?;
            if !membership::compare(self, *operator, left, right)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }
}

/// Placeholder for the run when an expression without names is evaluated.
struct NoRun;

impl RunView for NoRun {
    fn hash(&self) -> &str {
        ""
    }
    fn name(&self) -> Option<&str> {
        None
    }
    fn description(&self) -> Option<&str> {
        None
    }
    fn experiment(&self) -> Option<&str> {
        None
    }
    fn created_at(&self) -> f64 {
        0.0
    }
    fn end_time(&self) -> Option<f64> {
        None
    }
    fn active(&self) -> bool {
        false
    }
    fn outcome(&self) -> Option<&str> {
        None
    }
    fn parent(&self) -> Option<&str> {
        None
    }
    fn archived(&self) -> bool {
        false
    }
    fn tags(&self) -> Vec<&str> {
        Vec::new()
    }
    fn param(&self, _: &crate::view::KeyPath, _: usize) -> crate::view::ParamRead<'_> {
        None.into()
    }
    fn sequences(&self, _: &str) -> Vec<&dyn SequenceView> {
        Vec::new()
    }
}
