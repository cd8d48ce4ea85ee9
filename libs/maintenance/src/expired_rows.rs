//! Removal of rows with a limited lifetime.

use matyan_model::{
    access::{credentials_sweep, principals_sweep},
    audit::{AUDIT_KEPT_US, audit_trim},
    change::{KeptChanges, MAX_CHANGES, RETENTION_US, changes_mark, changes_trim},
    ids::NamedProject,
    producer::producers_sweep,
    run::{RESTORE_KEPT_US, staged_drop_old},
    series::garbage_clear,
    study::unfinished_studies_drop,
};
use matyan_store::{Batch, Transaction, transact};

use crate::{Deps, Error, oldest_unapplied_us, paged_sweep::PagedSweep};

/// Drops changes that are too old for any reader to resume from, or that too many others follow.
pub async fn trim_changes(deps: Deps<'_>) -> Result<(), Error> {
    let now_us = deps.now_us();
    let times_us = now_us.saturating_sub(RETENTION_US)..now_us.saturating_add(RETENTION_US);
    let kept = KeptChanges { times_us, count: MAX_CHANGES };
    let mut sweep = PagedSweep::default();
    for NamedProject { number: project, .. } in deps.projects().await? {
        let mut batch = Batch::buffered();
        if changes_mark(&*deps.store.snapshot().await?, project, &kept, &mut batch).await? {
            deps.store.commit(batch).await?;
        }
        let trim_page = async || {
            let mut batch = Batch::buffered();
            let has_more = changes_trim(&*deps.store.snapshot().await?, project, &kept, &mut batch).await?;
            if has_more {
                deps.store.commit(batch).await?;
            }
            Ok::<_, Error>(!has_more)
        };
        sweep.pages(trim_page).await?;
    }
    Ok(())
}

/// Clears entries of the audit log that have been kept for long enough.
pub async fn trim_audit(deps: Deps<'_>) -> Result<(), Error> {
    let before_us = deps.now_us().saturating_sub(AUDIT_KEPT_US);
    let trim_page = async || {
        let mut batch = Batch::buffered();
        let has_more = audit_trim(&*deps.store.snapshot().await?, before_us, &mut batch).await?;
        if has_more {
            deps.store.commit(batch).await?;
        }
        Ok::<_, Error>(!has_more)
    };
    PagedSweep::default().pages(trim_page).await.map(drop)
}

/// Clears tokens, sessions, links and sign-ins that have ended, and then forgets principals that have neither a role
/// nor a token. A sweep that races with a renewal of a session is
/// repeated by the next one.
pub async fn sweep_credentials(deps: Deps<'_>) -> Result<(), Error> {
    let mut batch = Batch::buffered();
    credentials_sweep(&*deps.store.snapshot().await?, deps.now_us(), &mut batch).await?;
    if !batch.mutations.is_empty() {
        deps.store.commit(batch).await?;
    }
    let forget_page = async |mut transaction: Transaction| {
        let has_more = principals_sweep(&mut transaction).await?;
        Ok::<_, Error>((transaction, !has_more))
    };
    let mut sweep = PagedSweep::default();
    sweep.pages(async || Ok::<_, Error>(transact(deps.store, forget_page).await?.0)).await.map(drop)
}

/// Drops the staged rows of restores that were interrupted and never resumed.
pub async fn drop_abandoned_restores(deps: Deps<'_>) -> Result<(), Error> {
    let before_us = deps.now_us().saturating_sub(RESTORE_KEPT_US);
    for NamedProject { number: project, .. } in deps.projects().await? {
        let runs = staged_drop_old(deps.store, project, before_us).await?;
        let studies = unfinished_studies_drop(deps.store, project, before_us).await?;
        if runs + studies > 0 {
            tracing::info!(runs, studies, "dropped unfinished restores");
        }
    }
    Ok(())
}

/// Clears data that folds have replaced.
pub async fn clear_garbage(deps: Deps<'_>) -> Result<(), Error> {
    let mut sweep = PagedSweep::default();
    for NamedProject { number: project, .. } in deps.projects().await? {
        let clear_page = async || {
            let cleared = garbage_clear(deps.store, project, deps.now_us()).await?;
            Ok::<_, Error>(cleared == 0)
        };
        sweep.pages(clear_page).await?;
    }
    Ok(())
}

/// Forgets silent producers. Silence is measured in log time, not by this clock: while records
/// wait to be applied, no producer that was active after them is forgotten.
pub async fn sweep_producers(deps: Deps<'_>) -> Result<(), Error> {
    // Read the clock first, so that records appended from now on are not older than it.
    let now_us = deps.now_us();
    let log_time_us = now_us.min(oldest_unapplied_us(deps.store, deps.log).await?);
    let sweep_page = async |mut transaction: Transaction| {
        transaction.set_buffered();
        let has_more = producers_sweep(&mut transaction, log_time_us).await?;
        Ok::<_, Error>((transaction, !has_more))
    };
    let mut sweep = PagedSweep::default();
    sweep.pages(async || Ok::<_, Error>(transact(deps.store, sweep_page).await?.0)).await.map(drop)
}
