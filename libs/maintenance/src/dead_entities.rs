//! Cleanup of deleted tags and experiments. Their links stopped counting when the entity was
//! deleted; this job removes the links from the run documents, one run at a time, and then the
//! last rows of the entity, such as the notes of an experiment with a very large number of
//! them.

use matyan_model::{
    change::change_put,
    entity::{NoteOwner, notes_clear},
    ids::{NamedProject, Project},
    index::index_runs_page,
    keys::{self, Counter, EntityKind},
    run::RunEdit,
};
use matyan_store::{Commit, Range, Scan, Transaction, transact};
use tokio_util::sync::CancellationToken;

use crate::{Deps, Error, paged_sweep::PagedSweep};

/// Number of runs looked up per query.
const PAGE: usize = 500;

/// Removes the remains of deleted tags and experiments.
pub async fn sweep_dead_entities(deps: Deps<'_>, stop: &CancellationToken) -> Result<(), Error> {
    let mut sweep = PagedSweep::new(stop);
    for NamedProject { number: project, .. } in deps.projects().await? {
        for kind in [EntityKind::Tag, EntityKind::Experiment] {
            let range = keys::dead_entities(project, kind);
            let page =
                deps.store.snapshot().await?.scan(&range, Scan { rows: PAGE, ..Scan::default() }).await?;
            for (key, _) in &page.rows {
                let (id,): (String,) = keys::tail(&range.start, key)?;
                let unlinked = unlink_all(deps, project, kind, &id, &mut sweep).await;
                sweep.keep_damage(unlinked)?;
            }
        }
    }
    sweep.finish()
}

fn links(project: Project, kind: EntityKind, id: &str) -> Range {
    match kind {
        EntityKind::Tag => keys::index_tag_all(project, id),
        _ => keys::index_experiment_all(project, id),
    }
}

async fn unlink_all(
    deps: Deps<'_>,
    project: Project,
    kind: EntityKind,
    id: &str,
    sweep: &mut PagedSweep,
) -> Result<(), Error> {
    if kind == EntityKind::Experiment && !clear_notes(deps, project, id, sweep).await? {
        return Ok(());
    }
    let range = links(project, kind, id);
    while !sweep.is_stopped() {
        let mut transaction = Transaction::new(deps.store.snapshot().await?);
        let (runs, _) = index_runs_page(transaction.unchecked(), &range, PAGE).await?;
        if runs.is_empty() {
            transaction.scan(&range, Scan { rows: 1, ..Scan::default() }).await?;
            let batch = transaction.batch();
            batch.clear(keys::dead_entity(project, kind, id));
            batch.clear(keys::entity_counter(project, kind, id, Counter::Runs));
            match deps.store.commit(transaction.into_batch()).await? {
                Commit::Done { .. } => return Ok(()),
                Commit::Conflict => continue,
            }
        }
        for number in runs {
            transact(deps.store, async |mut transaction: Transaction| {
                match RunEdit::load(&transaction, project, number).await? {
                    Some(mut edit) => {
                        edit.tag_remove(id);
                        edit.props.experiment = edit.props.experiment.take().filter(|own| own != id);
                        edit.touch(deps.now_us());
                        edit.write(transaction.batch());
                        change_put(transaction.batch(), project, number, deps.now_us(), "");
                    }
                    // An index row without a document.
                    None => {
                        transaction.batch().clear(keys::index_tag(project, id, number));
                        transaction.batch().clear(keys::index_experiment(project, id, number));
                    }
                }
                Ok::<_, Error>((transaction, ()))
            })
            .await?;
            sweep.rest().await;
        }
    }
    Ok(())
}

/// Returns false if it was stopped before the last note.
async fn clear_notes(
    deps: Deps<'_>,
    project: Project,
    experiment: &str,
    sweep: &mut PagedSweep,
) -> Result<bool, Error> {
    let owner = NoteOwner::Experiment(experiment.to_owned());
    let clear_page = async |mut transaction: Transaction| {
        let is_last = notes_clear(&mut transaction, project, &owner).await?;
        Ok::<_, Error>((transaction, is_last))
    };
    sweep.pages(async || Ok::<_, Error>(transact(deps.store, clear_page).await?.0)).await
}
