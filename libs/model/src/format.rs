//! The format of the whole store, and the migration from earlier ones.
//!
//! A store is raised to this program's format when it is opened, so that older programs refuse it from
//! then on. Its rows follow in pages, while the server runs; until then, readers accept both forms. The
//! progress is in a row of the store, so that a migration may be interrupted at any point.
//!
//! | format | change |
//! |---|---|
//! | 2 | the oldest format that can be opened |
//! | 3 | params in pieces and events of the outbox start with a format byte |
//! | 4 | rows that lead from a run to its branches |
//! | 5 | format 4 with rows of access control: a store got this format with the first of them |
//! | 6 | cohorts, and the list of runs whose values no cohort has |
//! | 7 | cohorts of params, instead of a row in an index for each param |

use matyan_store::{Error, Range, Result, Scan, Snapshot, Store, Transaction, transact};
use minicbor::{Decode, Encode};

use crate::{
    branch::{branch_get, sharers_put},
    ids::{Project, RunId, RunNumber},
    keys::{self, CohortKind},
    params::is_params_of_format_2,
    project::projects_readable,
    rows,
    run::{Document, Params, run_id_get},
    uncollected::UncollectedList,
};

/// The format of a new store, and the newest that can be opened.
pub const FORMAT: u32 = 7;
/// The oldest format that can be opened.
const OLDEST: u32 = 2;

/// Progress of a migration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
struct Migration {
    /// The next document to be looked at: its project, and the number of its run.
    #[n(0)]
    project: u32,
    #[n(1)]
    number: u64,
    /// Damaged runs that were left out so far.
    #[n(2)]
    #[cbor(default)]
    damaged: u64,
    /// Every document was looked at. The row stays because of the damaged ones, until `format_retry`.
    #[n(3)]
    #[cbor(default)]
    is_waiting: bool,
    /// Some projects cannot be read, so the migration has not reached their runs.
    #[n(4)]
    #[cbor(default)]
    lacks_projects: bool,
    /// An earlier round has looked at every document, and this round looks again at damaged runs.
    #[n(5)]
    #[cbor(default)]
    is_retry: bool,
    /// This round has met a project that could not be read, and may have passed it. The project counts as damaged
    /// even if it is repaired before the round ends.
    #[n(6)]
    #[cbor(default)]
    has_met_unreadable: bool,
}

/// State of a migration after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationState {
    Running,
    Done,
    /// Nothing is left but the rows of damaged runs.
    Waiting {
        damaged: u64,
    },
}

/// Writes the format to an empty store, starts the migration of a store of an earlier format, or
/// refuses a store of any other format without changing it.
pub async fn format_open(store: &dyn Store) -> Result<()> {
    let found = transact(store, async |mut transaction: Transaction| -> Result<_> {
        let key = keys::format();
        let found = match transaction.get(&key).await? {
            Some(value) => Some(rows::decode(&key, &value)?),
            None => None,
        };
        let batch = transaction.batch();
        if matches!(found, None | Some(OLDEST..FORMAT)) {
            batch.set(key, rows::encode(&FORMAT));
        }
        if let Some(OLDEST..FORMAT) = found {
            // From the start, even if the migration to the format before is not done: a step migrates
            // from every earlier format.
            batch.set(keys::migration(), rows::encode(&Migration::default()));
        }
        Ok((transaction, found.unwrap_or(FORMAT)))
    });
    match found.await?.0 {
        OLDEST..=FORMAT => Ok(()),
        newer if newer > FORMAT => Err(Error::corrupt(format!(
            "the store has format {newer}, but this program reads formats {OLDEST} to {FORMAT}: use the version that wrote it, \
             or a newer one; there is no way back, except a backup from before the upgrade"
        ))),
        older => Err(Error::corrupt(format!(
            "the store has format {older}, but this program reads formats {OLDEST} to {FORMAT}: make a backup with the version \
             that wrote it, and restore the backup into a new store"
        ))),
    }
}

/// Whether rows of an older format may be left.
pub async fn format_is_migrating(snapshot: &dyn Snapshot) -> Result<bool> {
    Ok(snapshot.get(&keys::migration()).await?.is_some())
}

/// Whether the rows that a migration writes for each run are complete: the index by parent, the list of runs
/// whose metrics no cohort has, and the list of runs whose params have index rows. They lack runs that a
/// migration has yet to reach, and the runs of projects that cannot be read.
pub async fn format_has_every_run(snapshot: &dyn Snapshot) -> Result<bool> {
    let key = keys::migration();
    let row = snapshot.get(&key).await?;
    let Some(value) = row else { return Ok(true) };
    let at: Migration = rows::decode(&key, &value)?;
    // Damaged runs are listed too, but match no query by parent, and are in no table.
    Ok((at.is_waiting || at.is_retry) && !at.lacks_projects)
}

/// Documents read in one step of a migration.
const STEP_DOCUMENTS: usize = 500;
/// Rows rewritten in one step, each of up to 64 KiB: well within the limit of a transaction.
const STEP_REWRITTEN: usize = 16;
/// Branches that get their rows in one step.
const STEP_BRANCHES: usize = 100;

/// Damaged runs that a migration names in the log.
const NAMED_RUNS: u64 = 20;

/// Does one step of a migration.
pub async fn format_migrate(transaction: &mut Transaction) -> Result<MigrationState> {
    let key = keys::migration();
    // Checked, so that one of two processes that do the same step starts over.
    let Some(value) = transaction.get(&key).await? else { return Ok(MigrationState::Done) };
    let at: Migration = rows::decode(&key, &value)?;
    if at.is_waiting {
        return Ok(MigrationState::Waiting { damaged: at.damaged });
    }
    let mut damaged = at.damaged;
    let next =
        migrate_documents(transaction, Project(at.project), RunNumber(at.number), &mut damaged).await?;
    let mut lacks_projects = at.lacks_projects;
    let mut has_met_unreadable = at.has_met_unreadable;
    let next = match next {
        Some(number) => Some((at.project, number.0)),
        None => {
            let (projects, unreadable) = projects_readable(transaction.unchecked()).await?;
            let active = projects.iter().filter(|listed| listed.is_active());
            let numbers = active.map(|listed| listed.project.number.0);
            let later = numbers.filter(|number| *number > at.project).min();
            has_met_unreadable |= unreadable > 0;
            if later.is_none() {
                // A damaged project counts like a damaged run: the migration is not done.
                damaged += unreadable.max(u64::from(has_met_unreadable));
                lacks_projects = has_met_unreadable;
            }
            later.map(|project| (project, 0))
        }
    };
    let row = match next {
        Some((project, number)) => Migration {
            project,
            number,
            damaged,
            lacks_projects,
            is_retry: at.is_retry,
            has_met_unreadable,
            ..Migration::default()
        },
        None if damaged == 0 => {
            transaction.batch().clear(key);
            return Ok(MigrationState::Done);
        }
        None => Migration { damaged, is_waiting: true, lacks_projects, ..Migration::default() },
    };
    transaction.batch().set(key, rows::encode(&row));
    Ok(if row.is_waiting { MigrationState::Waiting { damaged } } else { MigrationState::Running })
}

/// Restarts a migration that has left damaged runs out: the runs may have been repaired.
pub async fn format_retry(transaction: &mut Transaction) -> Result<()> {
    let key = keys::migration();
    let Some(value) = transaction.get(&key).await? else { return Ok(()) };
    let Migration { is_waiting, lacks_projects, .. } = rows::decode(&key, &value)?;
    if is_waiting {
        let row = Migration { is_retry: true, lacks_projects, ..Migration::default() };
        transaction.batch().set(key, rows::encode(&row));
    }
    Ok(())
}

/// Reports a run that a migration leaves out.
async fn report_damaged(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    error: &Error,
) -> Result<()> {
    let run = run_id_get(snapshot, project, number).await?;
    let run = run.as_ref().map(RunId::as_str).unwrap_or_default();
    let project = project.0;
    tracing::warn!(project, run, number = number.0, %error, "left a damaged run out of the migration");
    Ok(())
}

/// Migrates some runs of a project, from `first` on, and counts the damaged runs. Returns the
/// number at which to continue; `None` after the last run.
async fn migrate_documents(
    transaction: &mut Transaction,
    project: Project,
    first: RunNumber,
    damaged: &mut u64,
) -> Result<Option<RunNumber>> {
    let all = keys::documents(project);
    let range = Range::new(keys::document(project, first), all.end.clone());
    let scan = Scan { rows: STEP_DOCUMENTS, ..Scan::default() };
    let page = transaction.unchecked().scan(&range, scan).await?;
    let numbers = page.rows.iter().map(|(key, _)| Ok(RunNumber(keys::tail::<(u64,)>(&all.start, key)?.0)));
    let numbers: Vec<RunNumber> = numbers.collect::<Result<_>>()?;
    let uncollected = UncollectedList::read(transaction.unchecked(), CohortKind::Metrics, project).await?;
    let uncollected_params =
        UncollectedList::read(transaction.unchecked(), CohortKind::Params, project).await?;
    uncollected.check(transaction.batch());
    uncollected_params.check(transaction.batch());
    let rows: Vec<_> = numbers
        .iter()
        .flat_map(|number| {
            let cohorts = [CohortKind::Metrics, CohortKind::Params]
                .map(|kind| keys::run_cohort(kind, project, *number));
            cohorts.into_iter().chain([uncollected_params.key(*number)])
        })
        .collect();
    let rows = transaction.unchecked().get_many(&rows).await?;
    let mut rewritten = 0;
    let mut branches = 0;
    for (((key, value), number), rows) in page.rows.iter().zip(numbers).zip(rows.chunks_exact(3)) {
        if rewritten == STEP_REWRITTEN || branches == STEP_BRANCHES {
            return Ok(Some(number));
        }
        let document = Document::decode(key, value);
        // A run that has been in a cohort is listed whenever its values change.
        let is_uncollected = rows[0].is_none();
        let has_param_rows = document.as_ref().map_or(true, |document| !document.props.is_without_param_rows)
            && rows[1..].iter().all(Option::is_none);
        if is_uncollected || has_param_rows {
            // Checked, so that the rows are not written for a run that is deleted or changed now.
            transaction.batch().expect(key.clone(), Some(value.clone()));
        }
        if is_uncollected {
            transaction.batch().set(uncollected.key(number), Vec::new());
        }
        if has_param_rows {
            // A damaged run stays in the list of runs whose documents are read, so that it is reported.
            let list = match &document {
                Ok(_) => keys::indexed_params(project, number),
                Err(_) => uncollected_params.key(number),
            };
            transaction.batch().set(list, Vec::new());
        }
        let document = match document {
            Ok(document) => document,
            // The migration of the other runs continues. This one is put in quarantine when a worker
            // applies its next record.
            Err(error) => {
                *damaged += 1;
                if *damaged <= NAMED_RUNS {
                    report_damaged(transaction.unchecked(), project, number, &error).await?;
                }
                continue;
            }
        };
        if document.props.parent.is_some() {
            branches += 1;
            // So that the rows are not written for a run that is deleted now.
            transaction.batch().expect(key.clone(), Some(value.clone()));
            migrate_branch(transaction, project, number, &document).await?;
        }
        if document.params == Params::Pieces && migrate_params(transaction, project, number).await? {
            rewritten += 1;
        }
    }
    let Some((last, _)) = page.rows.last().filter(|_| page.more) else { return Ok(None) };
    let (number,): (u64,) = keys::tail(&all.start, last)?;
    Ok(number.checked_add(1).map(RunNumber))
}

/// Rewrites the first piece of the params of a run. Returns whether it was of format 2.
async fn migrate_params(transaction: &mut Transaction, project: Project, number: RunNumber) -> Result<bool> {
    let key = keys::params_piece(project, number, 0);
    // Checked, because a worker may replace the params now.
    let Some(piece) = transaction.get(&key).await? else { return Ok(false) };
    let is_of_format_2 = is_params_of_format_2(&piece);
    if is_of_format_2 {
        transaction.batch().set(key, rows::with_format(&piece));
    }
    Ok(is_of_format_2)
}

/// Writes the rows that lead to a branch.
async fn migrate_branch(
    transaction: &mut Transaction,
    project: Project,
    number: RunNumber,
    document: &Document,
) -> Result<()> {
    let parent = document.props.parent.filter(|_| !document.props.pending_delete);
    if let Some(parent) = parent
        && let Some(id) = run_id_get(transaction.unchecked(), project, RunNumber(parent.number)).await?
    {
        transaction.batch().set(keys::index_parent(project, id.as_str(), number), Vec::new());
    }
    let branch = branch_get(transaction.unchecked(), project, number).await?;
    sharers_put(transaction.batch(), project, number, &branch);
    Ok(())
}

#[cfg(test)]
mod tests;
