//! The migration of a store that an older version wrote. The server runs meanwhile.

use std::time::Duration;

use matyan_model::format::{FORMAT, format_is_migrating, format_migrate};
use matyan_store::{Transaction, transact};
use tokio_util::sync::CancellationToken;

use crate::{Deps, Error};

/// Pause between two steps, which bounds the load on the store: at most 50 MB per second.
const PAUSE: Duration = Duration::from_millis(20);

/// Brings the rows of an older format to that of this program, step by step. It may be stopped at
/// any point, and continues there.
pub async fn migrate_store(deps: Deps<'_>, stop: &CancellationToken) -> Result<(), Error> {
    if !format_is_migrating(&*deps.store.snapshot().await?).await? {
        return Ok(());
    }
    tracing::info!(format = FORMAT, "migrating the rows of an older store format");
    while !stop.is_cancelled() {
        let step = async |mut transaction: Transaction| {
            let more = format_migrate(&mut transaction).await?;
            Ok::<_, Error>((transaction, more))
        };
        if !transact(deps.store, step).await?.0 {
            tracing::info!(format = FORMAT, "migrated the store");
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
