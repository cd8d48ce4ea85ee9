//! Iteration: displays, comprehensions, generators and lazy iterators. Iteration is push-based:
//! `each` calls back with every element until the callback asks to stop, so no unneeded element
//! is produced.

use std::cell::Cell;

use super::{Arena, EvalError, Exception, Machine, Result, compare, tables, view};
use crate::names::Class;
use crate::tree::{Clause, Collect, Comprehension, Display, Item, Node, Target};
use crate::value::table::{TableBuilder, TableEntry};
use crate::value::{Environment, LazyIterator, LazyKind, Value};

/// Receives an element; returns whether more are wanted.
pub(super) type Visit<'v, 'a> = &'v mut dyn FnMut(Value<'a>) -> Result<bool>;

impl<'a> Machine<'a> {
    /// Calls `visit` with each element until it returns false.
    pub(super) fn each(&self, value: Value<'a>, visit: Visit<'_, 'a>) -> Result<()> {
        match value {
            Value::List(items) | Value::Tuple(items) => each_of(&self.arena, items.iter().copied(), visit),
            Value::Text(text) => {
                let characters = text.char_indices();
                each_of(
                    &self.arena,
                    characters.map(|(at, c)| Value::Text(&text[at..at + c.len_utf8()])),
                    visit,
                )
            }
            Value::Bytes(bytes) => {
                each_of(&self.arena, bytes.iter().map(|byte| Value::Int(i64::from(*byte))), visit)
            }
            Value::Dict(dict) | Value::Object(dict) => {
                each_of(&self.arena, dict.entries().iter().map(|entry| entry.key), visit)
            }
            Value::Set(set) => each_of(&self.arena, set.items().iter().map(|entry| entry.key), visit),
            Value::Range(range) => {
                each_of(&self.arena, (0..range.len()).map(|at| Value::Int(range.at(at))), visit)
            }
            Value::Tags(run) => {
                let tags = view::tags_of(&self.arena, run)?;
                each_of(&self.arena, tags.into_iter().map(Value::Text), visit)
            }
            Value::Iterator(lazy) => self.each_lazy(lazy, visit),
            _ => Err(Exception::TypeError.into()),
        }
    }

    /// Resumes an iterator: walks it from the start and skips the elements already taken.
    fn each_lazy(&self, lazy: &'a LazyIterator<'a>, visit: Visit<'_, 'a>) -> Result<()> {
        if lazy.finished.get() {
            return Ok(());
        }
        let taken = lazy.taken.get();
        let position = Cell::new(0);
        let stopped = Cell::new(false);
        let mut next = |value: Value<'a>| {
            let current = position.replace(position.get() + 1);
            if current < taken {
                return Ok(true);
            }
            lazy.taken.set(current + 1);
            let more = visit(value)?;
            stopped.set(!more);
            Ok(more)
        };
        let walked = self.depth.nested(|| self.walk(&lazy.kind, &mut next));
        if !stopped.get() {
            lazy.finished.set(true);
        }
        walked
    }

    fn walk(&self, kind: &'a LazyKind<'a>, visit: Visit<'_, 'a>) -> Result<()> {
        match kind {
            LazyKind::Generator(comprehension, first, outer) => {
                let environment = self.arena.new_environment(comprehension.slots, *outer)?;
                self.clauses(comprehension, *first, environment, &mut |machine, environment| {
                    visit(machine.eval(environment, &comprehension.element)?)
                })
            }
            LazyKind::Zip(sources) => {
                self.each_together(sources, &mut |items| visit(self.arena.tuple(items)?))
            }
            LazyKind::Map(function, sources) => self.each_together(sources, &mut |items| {
                let arguments = self.arena.alloc_values(items)?;
                visit(self.call_value(*function, super::arguments::Arguments::from_positional(arguments))?)
            }),
            LazyKind::Filter(function, source) => self.each(*source, &mut |item| {
                let keep = match function {
                    Value::None => item.truth(),
                    function => {
                        let arguments = self.arena.alloc_values(&[item])?;
                        self.call_value(*function, super::arguments::Arguments::from_positional(arguments))?
                            .truth()
                    }
                };
                if keep { visit(item) } else { Ok(true) }
            }),
            LazyKind::Enumerate(source, start) => {
                let mut count = *start;
                self.each(*source, &mut |item| {
                    let numbered = self.arena.tuple(&[Value::Int(count), item])?;
                    count = count.checked_add(1).ok_or(Exception::OverflowError)?;
                    visit(numbered)
                })
            }
            LazyKind::Reversed(items) => each_of(&self.arena, items.iter().rev().copied(), visit),
        }
    }

    /// Iterates several values in parallel, to the end of the shortest. An error in one
    /// counts only when iteration reaches it.
    fn each_together(
        &self,
        sources: &[Value<'a>],
        visit: &mut dyn FnMut(&[Value<'a>]) -> Result<bool>,
    ) -> Result<()> {
        // Push-based iteration cannot advance several sources in step, so they are collected first.
        let mut columns = Vec::with_capacity(sources.len());
        for source in sources {
            let mut items = Vec::new();
            let end = self.each(*source, &mut |item| {
                items.push(item);
                self.arena.check_items(items.len())?;
                Ok(true)
            });
            if let Err(EvalError::Budget(budget)) = end {
                return Err(budget.into());
            }
            columns.push((items, end));
        }
        if columns.is_empty() {
            return Ok(());
        }
        let mut row = Vec::with_capacity(columns.len());
        for position in 0.. {
            row.clear();
            for (items, end) in &columns {
                match items.get(position) {
                    Some(item) => row.push(*item),
                    None => return *end,
                }
            }
            self.arena.spend(1)?;
            if !visit(&row)? {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn collect(&self, value: Value<'a>) -> Result<Vec<Value<'a>>> {
        let mut items = Vec::new();
        self.each(value, &mut |item| {
            items.push(item);
            self.arena.check_items(items.len())?;
            Ok(true)
        })?;
        Ok(items)
    }

    /// Evaluates the items of a display or of positional arguments.
    pub(super) fn items(&self, environment: Environment<'a>, items: &'a [Item]) -> Result<Vec<Value<'a>>> {
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::One(node) => values.push(self.eval(environment, node)?),
                Item::Spread(node) => values.extend(self.collect(self.eval(environment, node)?)?),
            }
        }
        Ok(values)
    }

    pub(super) fn display(
        &self,
        environment: Environment<'a>,
        kind: Display,
        items: &'a [Item],
    ) -> Result<Value<'a>> {
        let values = self.items(environment, items)?;
        match kind {
            Display::List => self.arena.list(&values),
            Display::Tuple => self.arena.tuple(&values),
            Display::Set => {
                let mut builder = TableBuilder::default();
                values
                    .into_iter()
                    .try_for_each(|value| tables::insert_item(&self.arena, &mut builder, value))?;
                self.arena.set(builder, false)
            }
        }
    }

    pub(super) fn dict_display(
        &self,
        environment: Environment<'a>,
        items: &'a [(Option<Node>, Node)],
    ) -> Result<Value<'a>> {
        let mut builder = TableBuilder::default();
        for (key, value) in items {
            match key {
                Some(key) => {
                    let key = self.eval(environment, key)?;
                    let value = self.eval(environment, value)?;
                    tables::insert(
                        &self.arena,
                        &mut builder,
                        TableEntry { hash: compare::hash(&self.arena, key)?, key, value },
                    )?;
                }
                None => match self.eval(environment, value)? {
                    Value::Dict(dict) | Value::Object(dict) => {
                        for entry in dict.entries() {
                            tables::insert(&self.arena, &mut builder, *entry)?;
                        }
                    }
                    _ => return Err(Exception::TypeError.into()),
                },
            }
        }
        self.arena.dict(builder)
    }

    pub(super) fn comprehension(
        &self,
        outer: Environment<'a>,
        comprehension: &'a Comprehension,
    ) -> Result<Value<'a>> {
        let first = self.eval(outer, &comprehension.first)?;
        check_iterable(first)?;
        if comprehension.collect == Collect::Generator {
            let lazy = LazyIterator::new(LazyKind::Generator(comprehension, first, outer));
            return self.arena.alloc(lazy).map(Value::Iterator);
        }
        let environment = self.arena.new_environment(comprehension.slots, outer)?;
        let mut list = Vec::new();
        let mut builder = TableBuilder::default();
        self.clauses(comprehension, first, environment, &mut |machine, environment| {
            let element = machine.eval(environment, &comprehension.element)?;
            match (comprehension.collect, &comprehension.value) {
                (Collect::Set, _) => tables::insert_item(&machine.arena, &mut builder, element)?,
                (Collect::Dict, Some(value)) => {
                    let value = machine.eval(environment, value)?;
                    machine.arena.check_items(builder.len() * 2)?;
                    tables::insert(
                        &machine.arena,
                        &mut builder,
                        TableEntry { hash: compare::hash(&machine.arena, element)?, key: element, value },
                    )?;
                }
                _ => {
                    list.push(element);
                    machine.arena.check_items(list.len())?;
                }
            }
            Ok(true)
        })?;
        match comprehension.collect {
            Collect::Set => self.arena.set(builder, false),
            Collect::Dict => self.arena.dict(builder),
            _ => self.arena.list(&list),
        }
    }

    /// Runs all clauses of a comprehension, calling `body` for every combination until it
    /// returns false.
    fn clauses(
        &self,
        comprehension: &'a Comprehension,
        first: Value<'a>,
        environment: Environment<'a>,
        body: &mut dyn FnMut(&Self, Environment<'a>) -> Result<bool>,
    ) -> Result<()> {
        self.clause(&comprehension.clauses, Some(first), environment, body).map(|_| ())
    }

    fn clause(
        &self,
        clauses: &'a [Clause],
        first: Option<Value<'a>>,
        environment: Environment<'a>,
        body: &mut dyn FnMut(&Self, Environment<'a>) -> Result<bool>,
    ) -> Result<bool> {
        let Some((clause, inner)) = clauses.split_first() else { return body(self, environment) };
        let iterable = match (first, &clause.iterable) {
            (Some(first), _) => first,
            (None, Some(iterable)) => self.eval(environment, iterable)?,
            (None, None) => return Err(Exception::TypeError.into()),
        };
        let mut more = true;
        self.each(iterable, &mut |item| {
            self.bind_target(&clause.target, item, environment)?;
            for condition in &clause.conditions {
                if !self.eval(environment, condition)?.truth() {
                    return Ok(true);
                }
            }
            more = self.clause(inner, None, environment, body)?;
            Ok(more)
        })?;
        Ok(more)
    }

    fn bind_target(&self, target: &'a Target, value: Value<'a>, environment: Environment<'a>) -> Result<()> {
        match target {
            Target::Slot(slot) => {
                environment.variable(0, *slot).set(Some(value));
                Ok(())
            }
            Target::Refused => Err(Exception::TypeError.into()),
            Target::Unpack(before, star, after) => {
                let items = self.collect(value)?;
                let fixed = before.len() + after.len();
                // A starred target may be empty.
                let fits = if star.is_some() { items.len() >= fixed } else { items.len() == fixed };
                if !fits {
                    return Err(Exception::ValueError.into());
                }
                let behind = items.len() - after.len();
                for (target, item) in before.iter().zip(&items) {
                    self.bind_target(target, *item, environment)?;
                }
                if let Some(star) = star {
                    let middle = self.arena.list(&items[before.len()..behind])?;
                    self.bind_target(star, middle, environment)?;
                }
                for (target, item) in after.iter().zip(&items[behind..]) {
                    self.bind_target(target, *item, environment)?;
                }
                Ok(())
            }
        }
    }
}

fn each_of<'a>(
    arena: &Arena<'a>,
    values: impl Iterator<Item = Value<'a>>,
    visit: Visit<'_, 'a>,
) -> Result<()> {
    for value in values {
        arena.spend(1)?;
        if !visit(value)? {
            break;
        }
    }
    Ok(())
}

pub(super) fn collect_set<'a>(machine: &Machine<'a>, value: Value<'a>, frozen: bool) -> Result<Value<'a>> {
    let mut builder = TableBuilder::default();
    machine.each(value, &mut |item| {
        tables::insert_item(&machine.arena, &mut builder, item)?;
        Ok(true)
    })?;
    machine.arena.set(builder, frozen)
}

/// Fails unless a value is iterable. As in Python, this is checked before a generator is created.
pub(super) fn check_iterable(value: Value<'_>) -> Result<()> {
    match value {
        Value::List(_) | Value::Tuple(_) | Value::Text(_) | Value::Bytes(_) | Value::Dict(_) => Ok(()),
        Value::Object(_) | Value::Set(_) | Value::Range(_) | Value::Tags(_) | Value::Iterator(_) => Ok(()),
        _ => Err(Exception::TypeError.into()),
    }
}

/// Creates the lazy iterator that a call of its class returns.
pub(super) fn make_lazy<'a>(
    machine: &Machine<'a>,
    class: Class,
    arguments: &'a [Value<'a>],
    start: i64,
) -> Result<Value<'a>> {
    let kind = match (class, arguments) {
        (Class::Zip, sources) => {
            sources.iter().try_for_each(|source| check_iterable(*source))?;
            LazyKind::Zip(sources)
        }
        (Class::Map, [function, sources @ ..]) if !sources.is_empty() => {
            sources.iter().try_for_each(|source| check_iterable(*source))?;
            LazyKind::Map(*function, sources)
        }
        (Class::Filter, [function, source]) => {
            check_iterable(*source)?;
            LazyKind::Filter(*function, *source)
        }
        (Class::Enumerate, [source]) => {
            check_iterable(*source)?;
            LazyKind::Enumerate(*source, start)
        }
        (Class::Reversed, [source]) => match source {
            Value::Iterator(_) | Value::Set(_) => return Err(Exception::TypeError.into()),
            source => {
                let items = machine.collect(*source)?;
                LazyKind::Reversed(machine.arena.alloc_values(&items)?)
            }
        },
        _ => return Err(Exception::TypeError.into()),
    };
    machine.arena.alloc(LazyIterator::new(kind)).map(Value::Iterator)
}
