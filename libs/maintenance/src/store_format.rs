//! The migration of a store that an older version wrote. The server runs during the migration.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use matyan_model::format::{FORMAT, MigrationState, format_is_migrating, format_migrate, format_retry};
use matyan_store::{Transaction, transact};
use tokio_util::sync::CancellationToken;

use crate::{Deps, Error};

/// Pause between two steps, which bounds the load on the store: at most 50 MB per second.
const PAUSE: Duration = Duration::from_millis(20);

/// The migration, as far as this process knows of it.
#[derive(Default)]
pub struct StoreMigration {
    /// This process has done its round, after which it does not retry damaged runs.
    is_done: AtomicBool,
}

impl StoreMigration {
    /// Migrates the rows of an older format to the format of this program, step by step. It may be
    /// stopped at any point, and continues there. Damaged runs are retried once per process.
    pub async fn run(&self, deps: Deps<'_>, stop: &CancellationToken) -> Result<(), Error> {
        let is_done = self.is_done.load(Ordering::Relaxed);
        if is_done || !format_is_migrating(&*deps.store.snapshot().await?).await? {
            return Ok(());
        }
        tracing::info!(format = FORMAT, "migrating the rows of an older store format");
        transact(deps.store, retry_damaged_runs).await?;
        while !stop.is_cancelled() {
            match transact(deps.store, migrate_step).await?.0 {
                MigrationState::Running => tokio::time::sleep(PAUSE).await,
                MigrationState::Done => {
                    tracing::info!(format = FORMAT, "migrated the store");
                    break;
                }
                MigrationState::Waiting { damaged } => {
                    tracing::warn!(
                        format = FORMAT,
                        damaged,
                        "migrated the store except for damaged runs: repair or delete them, then restart a worker, \
                         which tries them again; do not upgrade further before that"
                    );
                    break;
                }
            }
        }
        self.is_done.store(!stop.is_cancelled(), Ordering::Relaxed);
        Ok(())
    }
}

async fn retry_damaged_runs(mut transaction: Transaction) -> Result<(Transaction, ()), Error> {
    format_retry(&mut transaction).await?;
    Ok((transaction, ()))
}

async fn migrate_step(mut transaction: Transaction) -> Result<(Transaction, MigrationState), Error> {
    let state = format_migrate(&mut transaction).await?;
    Ok((transaction, state))
}
