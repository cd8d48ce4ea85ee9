//! The commits that would survive a crash: a record of every commit, and the version covered by
//! syncs.
//!
//! It grows with every write, which is acceptable because only tests use it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Batch, Mutation, Result, Stamp, Store, Version};

#[derive(Default)]
pub(super) struct Survivors(Mutex<Record>);

#[derive(Default)]
struct Record {
    commits: BTreeMap<Version, Vec<Mutation>>,
    synced: Version,
}

impl Survivors {
    pub(super) fn applied(&self, version: Version, stamp: Stamp, mutations: Vec<Mutation>) {
        let mutations = mutations.into_iter().map(|mutation| stamped(mutation, stamp)).collect();
        self.lock().commits.insert(version, mutations);
    }

    pub(super) fn synced(&self, version: Version) {
        let mut record = self.lock();
        record.synced = record.synced.max(version);
    }

    pub(super) fn last(&self) -> Version {
        self.lock().commits.last_key_value().map_or(Version::default(), |(version, _)| *version)
    }

    pub(super) async fn replay(&self, store: &dyn Store) -> Result<()> {
        let survivors: Vec<Vec<Mutation>> = {
            let record = self.lock();
            record.commits.range(..=record.synced).map(|(_, mutations)| mutations.clone()).collect()
        };
        for mutations in survivors {
            store.commit(Batch { mutations, ..Batch::buffered() }).await?;
        }
        store.sync().await
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves stamped keys to plain ones: a replayed commit keeps the stamp that it was first
/// given.
fn stamped(mutation: Mutation, stamp: Stamp) -> Mutation {
    match mutation {
        Mutation::SetStamped { prefix, suffix, value } => {
            Mutation::Set { key: [&prefix[..], &stamp.0, &suffix].concat().into(), value }
        }
        other => other,
    }
}
