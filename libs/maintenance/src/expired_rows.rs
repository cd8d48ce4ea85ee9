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
use matyan_store::{Batch, Store, Transaction, transact};

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

/// Clears tokens, sessions, links and sign-ins that have ended, and forgets principals that are left with neither a role nor
/// a token. A sweep that races with a renewal of a session is repeated by the next one.
pub async fn sweep_credentials(store: &dyn Store, now_us: i64) -> Result<(), Error> {
    let mut batch = Batch::buffered();
    credentials_sweep(&*store.snapshot().await?, now_us, &mut batch).await?;
    if !batch.mutations.is_empty() {
        store.commit(batch).await?;
    }
    let mut sweep = PagedSweep::default();
    sweep.pages(async || Ok::<_, Error>(transact(store, forget_principals).await?.0)).await.map(drop)
}

/// Forgets one page of principals that are left with neither a role nor a token. Returns whether it was the last page.
async fn forget_principals(mut transaction: Transaction) -> Result<(Transaction, bool), Error> {
    let has_more = principals_sweep(&mut transaction).await?;
    Ok((transaction, !has_more))
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

#[cfg(test)]
mod tests {
    use matyan_model::access::{
        Credential, CredentialKind, Grant, credential_put, grant_put, grant_remove, principal_is_active,
    };
    use matyan_proto::access::v1::Role;
    use matyan_store::embedded::EmbeddedStore;

    use super::*;

    #[tokio::test]
    async fn a_principal_without_a_role_is_forgotten_with_its_last_token() {
        let directory = tempfile::TempDir::new().unwrap();
        let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
        sweep_credentials(&store, 0).await.unwrap();
        let grant = Grant {
            principal: "ci".to_owned(),
            project: None,
            role: Role::Ingest,
            granted_us: 0,
            granted_by: "op".to_owned(),
            provider: None,
        };
        let token = Credential {
            digest: [1; 32],
            kind: CredentialKind::Token,
            principal: "ci".to_owned(),
            label: String::new(),
            created_us: 0,
            created_by: "op".to_owned(),
            expires_us: Some(200),
            project: None,
            role: None,
        };
        let put = async |mut transaction: Transaction| {
            let granted = grant_put(&mut transaction, &grant).await?;
            Ok::<_, Error>((transaction, granted))
        };
        transact(&store, put).await.unwrap().0.unwrap();
        let put = async |mut transaction: Transaction| {
            let put = credential_put(&mut transaction, &token).await?;
            Ok::<_, Error>((transaction, put))
        };
        transact(&store, put).await.unwrap().0.unwrap();
        let remove = async |mut transaction: Transaction| {
            let removed = grant_remove(&mut transaction, "ci", None).await?;
            Ok::<_, Error>((transaction, removed))
        };
        assert!(transact(&store, remove).await.unwrap().0.unwrap());
        let is_there = async || principal_is_active(&*store.snapshot().await.unwrap(), "ci").await.unwrap();
        sweep_credentials(&store, 100).await.unwrap();
        assert!(is_there().await, "its token is valid");
        sweep_credentials(&store, i64::MAX).await.unwrap();
        assert!(!is_there().await);
    }
}
