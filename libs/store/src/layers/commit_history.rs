//! The commits that would survive a crash: a record of every commit, and the version covered by
//! syncs.
//!
//! It grows with every write, which is acceptable because only tests use it.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::{Batch, Mutation, Result, Stamp, Store, Version};

#[derive(Default)]
pub(super) struct CommitHistory(Mutex<State>);

#[derive(Default)]
struct State {
    commits: BTreeMap<Version, Vec<Mutation>>,
    synced: Version,
}

impl CommitHistory {
    pub(super) fn record_commit(&self, version: Version, stamp: Stamp, mutations: Vec<Mutation>) {
        let mutations = mutations.into_iter().map(|mutation| resolve_stamp(mutation, stamp)).collect();
        self.0.lock().commits.insert(version, mutations);
    }

    pub(super) fn record_sync(&self, version: Version) {
        let mut state = self.0.lock();
        state.synced = state.synced.max(version);
    }

    pub(super) fn last_version(&self) -> Version {
        self.0.lock().commits.last_key_value().map_or(Version::default(), |(version, _)| *version)
    }

    pub(super) async fn replay_synced(&self, store: &dyn Store) -> Result<()> {
        let history: Vec<Vec<Mutation>> = {
            let state = self.0.lock();
            state.commits.range(..=state.synced).map(|(_, mutations)| mutations.clone()).collect()
        };
        for mutations in history {
            store.commit(Batch { mutations, ..Batch::buffered() }).await?;
        }
        store.sync().await
    }
}

/// Resolves stamped keys to plain ones: a replayed commit keeps the stamp that it was first
/// given.
fn resolve_stamp(mutation: Mutation, stamp: Stamp) -> Mutation {
    match mutation {
        Mutation::SetStamped { prefix, suffix, value } => {
            Mutation::Set { key: [&prefix[..], &stamp.0, &suffix].concat().into(), value }
        }
        other => other,
    }
}
