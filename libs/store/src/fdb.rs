//! The store on FoundationDB. A build without its client has the same types, of which no value exists.

#[cfg(feature = "fdb")]
mod client;
#[cfg(not(feature = "fdb"))]
mod without_client;

use std::{path::PathBuf, time::Duration};

#[cfg(feature = "fdb")]
pub use client::{FdbStore, Network};
#[cfg(not(feature = "fdb"))]
pub use without_client::{FdbStore, Network};

use crate::Prefix;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub cluster_file: PathBuf,
    /// Prefix of every key, so that others can use the same cluster.
    pub prefix: Prefix,
    pub retries: Retries,
}

/// Retry policy for calls that had no effect. A commit that may have been applied is followed
/// up without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    pub attempts: u32,
    /// Delay before the first retry; doubles with every attempt.
    pub first_delay: Duration,
    pub longest_delay: Duration,
}

/// What the program calls, so that a build of this crate alone shows that both kinds of builds have it.
#[cfg(test)]
#[expect(dead_code, reason = "only compiled")]
async fn calls_of_the_program(network: &Network, settings: Settings) -> crate::Result<()> {
    let _network: Network = Network::start()?;
    let store = std::sync::Arc::new(FdbStore::open(network, settings).await?);
    let shared: std::sync::Arc<dyn crate::Store> = store.clone();
    drop(shared);
    store.close().await;
    Ok(())
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 5, first_delay: Duration::from_millis(50), longest_delay: Duration::from_secs(2) }
    }
}
