//! Evaluation of the typed tree for one candidate, with Python's semantics, its own value
//! types, and a budget of steps and bytes. There is nothing to escape to: values are data,
//! names are enums, and no operation has side effects.

mod arithmetic;
mod attribute;
mod builtins;
mod call;
mod compare;
mod convert;
mod datum;
mod format;
mod index;
mod integer;
mod iterate;
mod math;
mod method;
mod names;
mod repr;
mod time;
mod unicode;
mod view;

use std::cell::{Cell, RefCell};

use bumpalo::Bump;
use num_traits::ToPrimitive;

use crate::limits::{BudgetError, MAX_ACTIVE_LEVELS, MAX_FOLD_STEPS, MAX_FOLDED_BYTES, QueryLimits};
use crate::options::{Endpoint, QueryOptions};
use crate::tree::{BigConstant, Chain, Compare, Comparison, Constant, Lookup, Node, Program};
use crate::value::{Environment, Slots, Value};
use crate::view::{RunView, SequenceView};
use integer::Number;

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

/// State of the evaluation of one candidate.
pub(crate) struct Machine<'a> {
    bump: &'a Bump,
    run: &'a dyn RunView,
    sequence: Option<&'a dyn SequenceView>,
    now: f64,
    /// Minutes to add to local time to get UTC.
    offset_minutes: i32,
    /// Steps left for this candidate, and the error to report when they run out.
    steps: Cell<u64>,
    out_of_steps: BudgetError,
    /// Stack levels used by nested calls, and the most that one call may take.
    levels: Cell<u32>,
    height: u32,
    /// Lists and objects of the run that were already built, keyed by the lookup in the
    /// query that refers to them.
    containers: RefCell<Vec<(&'a Lookup, Value<'a>)>>,
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
    ) -> Result<bool> {
        self.bump.reset();
        let granted = self.limits.steps_per_candidate.min(self.steps_left);
        let machine = Machine {
            bump: &self.bump,
            run,
            sequence,
            now: options.now,
            offset_minutes: options.offset_minutes,
            steps: Cell::new(granted),
            // The smaller of the two limits decides which error is reported.
            out_of_steps: match granted == self.limits.steps_per_candidate {
                true => BudgetError::CandidateSteps,
                false => BudgetError::TotalSteps,
            },
            levels: Cell::new(program.height),
            height: program.height,
            containers: RefCell::default(),
        };
        let result = machine.run(program).map(|value| value.truth());
        let used = granted - machine.steps.get();
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
        bump: &bump,
        run: &NoRun,
        sequence: None,
        now: options.now,
        offset_minutes: options.offset_minutes,
        steps: Cell::new(*steps),
        out_of_steps: BudgetError::CandidateSteps,
        levels: Cell::new(0),
        height: 1,
        containers: RefCell::default(),
    };
    let result = machine.eval(None, node);
    *steps = machine.steps.get();
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
    /// Takes steps from the budget.
    pub(crate) fn spend(&self, steps: u64) -> Result<()> {
        match self.steps.get().checked_sub(steps) {
            Some(left) => {
                self.steps.set(left);
                Ok(())
            }
            None => {
                self.steps.set(0);
                Err(self.out_of_steps.into())
            }
        }
    }

    /// Takes the steps for processing this many bytes.
    pub(crate) fn spend_bytes(&self, bytes: usize) -> Result<()> {
        self.spend(bytes as u64 / 64)
    }

    /// Runs a closure that evaluates a whole expression further down the stack.
    pub(crate) fn nested<T>(&self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let outer = self.levels.get();
        if outer + self.height > MAX_ACTIVE_LEVELS {
            return Err(BudgetError::Depth.into());
        }
        self.levels.set(outer + self.height.max(1));
        let result = run();
        self.levels.set(outer);
        result
    }

    pub(crate) fn alloc<T>(&self, value: T) -> Result<&'a T> {
        self.bump.try_alloc(value).map(|value| &*value).map_err(|_| BudgetError::Memory.into())
    }

    pub(crate) fn alloc_values(&self, values: &[Value<'a>]) -> Result<&'a [Value<'a>]> {
        self.bump.try_alloc_slice_copy(values).map(|values| &*values).map_err(|_| BudgetError::Memory.into())
    }

    pub(crate) fn alloc_bytes(&self, bytes: &[u8]) -> Result<&'a [u8]> {
        self.bump.try_alloc_slice_copy(bytes).map(|bytes| &*bytes).map_err(|_| BudgetError::Memory.into())
    }

    pub(crate) fn text(&self, text: &str) -> Result<Value<'a>> {
        let text = self.bump.try_alloc_str(text).map_err(|_| BudgetError::Memory)?;
        Ok(Value::Text(text))
    }

    pub(crate) fn list(&self, values: &[Value<'a>]) -> Result<Value<'a>> {
        self.alloc_values(values).map(Value::List)
    }

    pub(crate) fn tuple(&self, values: &[Value<'a>]) -> Result<Value<'a>> {
        self.alloc_values(values).map(Value::Tuple)
    }

    /// Returns an environment of empty slots, or the outer environment for a scope without names.
    pub(crate) fn new_environment(&self, slots: u16, outer: Environment<'a>) -> Result<Environment<'a>> {
        if slots == 0 {
            return Ok(outer);
        }
        let values = self
            .bump
            .try_alloc_slice_fill_with(usize::from(slots), |_| Cell::new(None))
            .map_err(|_| BudgetError::Memory)?;
        Ok(Some(self.alloc(Slots { values, outer })?))
    }

    fn run(&self, program: &'a Program) -> Result<Value<'a>> {
        let environment = self.new_environment(program.slots, None)?;
        self.eval(environment, &program.root)
    }

    pub(crate) fn eval(&self, environment: Environment<'a>, node: &'a Node) -> Result<Value<'a>> {
        self.spend(1)?;
        match node {
            Node::Const(constant) => Ok(Value::constant(constant)),
            Node::And(nodes) => self.logic(environment, nodes, false),
            Node::Or(nodes) => self.logic(environment, nodes, true),
            Node::Not(operand) => Ok(Value::Bool(!self.eval(environment, operand)?.truth())),
            Node::Compare(compare) => self.comparison(environment, compare),
            Node::Property(property) => self.property(*property),
            Node::Param(lookup) => self.param(lookup),
            Node::SequenceField(field) => self.sequence_field(*field),
            Node::MethodCall(call) => self.method_call(environment, call),
            Node::Call(call) => self.call(environment, call),
            Node::If(parts) => {
                let [test, body, otherwise] = &**parts;
                match self.eval(environment, test)?.truth() {
                    true => self.eval(environment, body),
                    false => self.eval(environment, otherwise),
                }
            }
            _ => self.eval_rare(environment, node),
        }
    }

    #[inline(never)]
    fn eval_rare(&self, environment: Environment<'a>, node: &'a Node) -> Result<Value<'a>> {
        match node {
            Node::Chain(chain) => self.chain(environment, chain),
            Node::Context(lookup) => self.context(lookup),
            Node::ParamOr(lookup, property) => match self.run.param(&lookup.path) {
                Some(datum) => self.datum(datum),
                None => self.property(*property),
            },
            Node::HasSequence(names) => {
                Ok(Value::Bool(names.iter().any(|name| !self.run.sequences(name).is_empty())))
            }
            Node::Metric(metric) => self.metric(environment, metric),
            Node::Run => Ok(Value::Run),
            Node::Tags => Ok(Value::Tags),
            Node::Metrics => Ok(Value::Metrics),
            Node::Sequence => self.sequence.map(Value::Sequence).ok_or(Exception::NameError.into()),
            Node::Builtin(builtin) => self.builtin(*builtin),
            Node::Unknown => Err(Exception::NameError.into()),
            Node::Local(local) => self.local(environment, local),
            Node::Assign(assign) => self.assign(environment, assign),
            Node::Attribute(attribute) => {
                let object = self.eval(environment, &attribute.object)?;
                self.attribute(object, &attribute.name, attribute.member)
            }
            Node::Index(parts) => {
                let (object, index) =
                    (self.eval(environment, &parts[0])?, self.eval(environment, &parts[1])?);
                self.index(object, index)
            }
            Node::Slice(parts) => {
                let mut values = [Value::None; 3];
                for (value, part) in values.iter_mut().zip(&**parts) {
                    if let Some(part) = part {
                        *value = self.eval(environment, part)?;
                    }
                }
                self.alloc(values).map(Value::Slice)
            }
            Node::Unary(operator, operand) => {
                let operand = self.eval(environment, operand)?;
                self.unary(*operator, operand)
            }
            Node::Binary(binary) => {
                let (left, right) =
                    (self.eval(environment, &binary.left)?, self.eval(environment, &binary.right)?);
                self.binary(binary.operator, left, right)
            }
            Node::Display(kind, items) => self.display(environment, *kind, items),
            Node::Dict(items) => self.dict_display(environment, items),
            Node::Comprehension(comprehension) => self.comprehension(environment, comprehension),
            Node::Lambda(lambda) => self.lambda(environment, lambda),
            Node::Format(pieces) => self.f_string(environment, pieces),
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
            // A display of constants is searched without being built.
            && let Some(found) = self.in_constants(left, &compare.right)?
        {
            return Ok(Value::Bool(found == (compare.operator == Comparison::In)));
        }
        let right = self.eval(environment, &compare.right)?;
        self.compare(compare.operator, left, right).map(Value::Bool)
    }

    /// Evaluates a chained comparison. Each operand is evaluated at most once, and
    /// evaluation stops at the first comparison that is false.
    fn chain(&self, environment: Environment<'a>, chain: &'a Chain) -> Result<Value<'a>> {
        let mut left = self.eval(environment, &chain.first)?;
        for (operator, node) in &chain.rest {
            let right = self.eval(environment, node)?;
            if !self.compare(*operator, left, right)? {
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
    fn archived(&self) -> bool {
        false
    }
    fn tags(&self) -> Vec<&str> {
        Vec::new()
    }
    fn param(&self, _: &crate::view::KeyPath) -> Option<crate::view::Datum<'_>> {
        None
    }
    fn sequences(&self, _: &str) -> Vec<&dyn SequenceView> {
        Vec::new()
    }
}
