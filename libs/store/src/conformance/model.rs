//! A reference store in a hundred lines: a map, and for every version the keys and ranges it
//! touched.
//!
//! Backends are compared with it, so it is simple rather than fast.

use std::collections::BTreeMap;

use crate::{Batch, Check, Key, Mutation, Page, Range, Scan, Stamp, Value, Version};

#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) rows: BTreeMap<Key, Value>,
    touched: Vec<(Version, Range)>,
}

impl Model {
    pub(super) fn checks_hold(&self, batch: &Batch) -> bool {
        batch.checks.iter().all(|check| match check {
            Check::Value { key, expected } => self.rows.get(key) == expected.as_ref(),
            Check::Unchanged { range, since } => {
                !self.touched.iter().any(|(version, touched)| version > since && touched.overlaps(range))
            }
        })
    }

    pub(super) fn apply(&mut self, batch: &Batch, version: Version, stamp: Stamp) {
        for mutation in &batch.mutations {
            let touched = self.apply_one(mutation, stamp);
            self.touched.push((version, touched));
        }
    }

    fn apply_one(&mut self, mutation: &Mutation, stamp: Stamp) -> Range {
        match mutation {
            Mutation::Set { key, value } => self.write(key, Some(value.clone())),
            Mutation::Clear { key } => self.write(key, None),
            Mutation::ClearRange { range } => {
                self.rows.retain(|key, _| !range.contains(key));
                range.clone()
            }
            Mutation::Add { key, delta } => {
                let mut bytes = self.rows.get(key).map_or(vec![], |value| value.to_vec());
                bytes.resize(8, 0);
                let sum = i64::from_le_bytes(bytes.try_into().unwrap()).wrapping_add(*delta);
                self.write(key, Some(Value::copy_from_slice(&sum.to_le_bytes())))
            }
            Mutation::SetStamped { prefix, suffix, value } => {
                let key = Key::from([&prefix[..], &stamp.0, suffix].concat());
                self.write(&key, Some(value.clone()))
            }
        }
    }

    fn write(&mut self, key: &Key, value: Option<Value>) -> Range {
        match value {
            Some(value) => self.rows.insert(key.clone(), value),
            None => self.rows.remove(key),
        };
        Range::new(key.clone(), Range::prefix("").after(key).start)
    }

    /// The page that a scan must return, which ends at the row that reaches a limit.
    pub(super) fn page(&self, range: &Range, scan: Scan) -> Page {
        let mut rows: Vec<(Key, Value)> = self
            .rows
            .iter()
            .filter(|(key, _)| range.contains(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if scan.reverse {
            rows.reverse();
        }
        let mut bytes = 0;
        let full = rows.iter().enumerate().position(|(row, (key, value))| {
            bytes += key.len() + value.len();
            row + 1 >= scan.rows || bytes >= scan.bytes
        });
        if let Some(last) = full {
            rows.truncate(last + 1);
        }
        Page { rows, more: full.is_some() }
    }
}
