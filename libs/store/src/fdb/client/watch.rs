//! Waiting for a key to change, without polling.

use foundationdb::FdbError;

use super::cluster::Cluster;
use super::errors::{call_error, read_error};
use super::retry::with_timeout;
use crate::batch::validate_key;
use crate::{Key, Result, Value};

/// Returns once the value of a key differs from `seen`, or when it may.
pub(super) async fn wait_for_change(cluster: &Cluster, key: &Key, seen: Option<&Value>) -> Result<()> {
    validate_key(key)?;
    let key = cluster.space.key(key);
    let mut attempt = 1;
    loop {
        match watch_once(cluster, &key, seen, &mut attempt).await? {
            Ok(()) => return Ok(()),
            Err(error) if !error.is_retryable() || attempt >= cluster.retries.attempts => {
                return Err(call_error(error));
            }
            Err(_) => cluster.retries.wait(attempt).await,
        }
        attempt += 1;
    }
}

/// Sets a watch in the same transaction that reads the key, so that no change can slip in between.
/// A watch may last for hours, so the count of attempts restarts at one after the watch was set.
async fn watch_once(
    cluster: &Cluster,
    key: &[u8],
    seen: Option<&Value>,
    attempt: &mut u32,
) -> Result<Result<(), FdbError>> {
    // Watches do not work in transactions with `ReadYourWritesDisable`, which
    // `begin` sets. This one writes nothing, so it does not need the option.
    let transaction = cluster.database.create_trx().map_err(call_error)?;
    cluster.read_version(&transaction).await?;
    let value = with_timeout(transaction.get(key, true)).await?.map_err(read_error)?;
    if value.as_deref() != seen.map(|value| &value[..]) {
        return Ok(Ok(()));
    }
    let watch = transaction.watch(key);
    Ok(match transaction.commit().await {
        Ok(_committed) => {
            *attempt = 1;
            watch.await
        }
        Err(error) => Err(*error),
    })
}
