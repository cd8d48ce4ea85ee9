//! Waiting for a key to change, without polling.

use foundationdb::FdbError;

use super::FdbStore;
use super::errors::{call_error, read_error};
use super::retry::with_timeout;
use crate::batch::validate_key;
use crate::{Key, Result, Value};

impl FdbStore {
    pub(super) async fn watch(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
        validate_key(key)?;
        let key = self.shared.space.key(key);
        let mut attempt = 1;
        loop {
            match self.wait_for_change(&key, seen, &mut attempt).await? {
                Ok(()) => return Ok(()),
                Err(error) if !error.is_retryable() || attempt >= self.shared.retries.attempts => {
                    return Err(call_error(error));
                }
                Err(_) => self.shared.retries.wait(attempt).await,
            }
            attempt += 1;
        }
    }

    /// Sets a watch in the same transaction that reads the key, so that no change can slip
    /// in between. A watch may last for hours, so the attempts are counted from one again
    /// after it was set.
    async fn wait_for_change(
        &self,
        key: &[u8],
        seen: Option<&Value>,
        attempt: &mut u32,
    ) -> Result<Result<(), FdbError>> {
        // Watches do not work in transactions with `ReadYourWritesDisable`, which
        // `begin` sets. This one writes nothing, so it does not need the option.
        let transaction = self.shared.database.create_trx().map_err(call_error)?;
        self.shared.read_version(&transaction).await?;
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
}
