//! The format of the whole store, and the migration from the previous one.
//!
//! A store is raised to this program's format when it is opened, so that older programs refuse it from
//! then on. Its rows follow in pages, while the server runs; until then, readers accept both forms. The
//! progress is in a row of the store, so that a migration may be interrupted at any point.
//!
//! | format | what is new |
//! |---|---|
//! | 2 | the oldest format that can be opened |
//! | 3 | params in pieces and events of the outbox begin with a format byte |

use matyan_store::{Error, Range, Result, Scan, Snapshot, Store, Transaction, transact};
use minicbor::{Decode, Encode};

use crate::{
    ids::{Project, RunNumber},
    keys,
    project::projects_list,
    rows,
    run::{Document, Params},
};

/// The store format of this program.
pub const FORMAT: u32 = 3;
/// The oldest format that can be opened.
const OLDEST: u32 = 2;

/// Progress of the migration from format 2: the next document to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
struct Migration {
    #[n(0)]
    project: u32,
    #[n(1)]
    number: u64,
}

/// Writes the format to an empty store, begins the migration of one of the previous format, or
/// refuses a store of any other without changing it.
pub async fn format_open(store: &dyn Store) -> Result<()> {
    let found = transact(store, async |mut transaction: Transaction| -> Result<_> {
        let key = keys::format();
        let found = match transaction.get(&key).await? {
            Some(value) => Some(rows::decode(&key, &value)?),
            None => None,
        };
        let batch = transaction.batch();
        if matches!(found, None | Some(OLDEST)) {
            batch.set(key, rows::encode(&FORMAT));
        }
        if found == Some(OLDEST) {
            batch.set(keys::migration(), rows::encode(&Migration { project: 0, number: 0 }));
        }
        Ok((transaction, found.unwrap_or(FORMAT)))
    });
    match found.await?.0 {
        OLDEST | FORMAT => Ok(()),
        newer @ FORMAT.. => Err(Error::corrupt(format!(
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

/// Documents read in one step of a migration.
const STEP_DOCUMENTS: usize = 500;
/// Rows rewritten in one step, each of up to 64 KiB: well within the limit of a transaction.
const STEP_REWRITTEN: usize = 16;

/// Does one step of a migration. Returns `false` if there is nothing left to do.
pub async fn format_migrate(transaction: &mut Transaction) -> Result<bool> {
    let key = keys::migration();
    // Checked, so that of two processes that do the same step, one starts over.
    let Some(value) = transaction.get(&key).await? else { return Ok(false) };
    let at: Migration = rows::decode(&key, &value)?;
    let next = migrate_documents(transaction, Project(at.project), RunNumber(at.number)).await?;
    let next = match next {
        Some(number) => Some(Migration { project: at.project, number: number.0 }),
        None => {
            let projects = projects_list(transaction.unchecked()).await?;
            let later = projects.iter().map(|project| project.number.0).filter(|number| *number > at.project);
            later.min().map(|project| Migration { project, number: 0 })
        }
    };
    match next {
        Some(next) => transaction.batch().set(key, rows::encode(&next)),
        None => transaction.batch().clear(key),
    };
    Ok(next.is_some())
}

/// Migrates the params of some runs of a project, from `first` on. Returns the number at which to
/// continue; `None` after the last run.
async fn migrate_documents(
    transaction: &mut Transaction,
    project: Project,
    first: RunNumber,
) -> Result<Option<RunNumber>> {
    let all = keys::documents(project);
    let range = Range::new(keys::document(project, first), all.end.clone());
    let scan = Scan { rows: STEP_DOCUMENTS, ..Scan::default() };
    let page = transaction.unchecked().scan(&range, scan).await?;
    let mut rewritten = 0;
    for (key, value) in &page.rows {
        let (number,) = keys::tail(&all.start, key)?;
        let number = RunNumber(number);
        if rewritten == STEP_REWRITTEN {
            return Ok(Some(number));
        }
        match Document::decode(key, value) {
            Ok(Document { params: Params::Pieces, .. }) => {}
            Ok(_) => continue,
            // Its records are parked when the next one arrives; here it must not block other runs.
            Err(error) => {
                tracing::warn!(%error, "left a damaged run out of the migration");
                continue;
            }
        }
        let key = keys::params_piece(project, number, 0);
        // Checked, because a worker may replace the params now.
        let Some(piece) = transaction.get(&key).await? else { continue };
        if is_params_of_format_2(&piece) {
            transaction.batch().set(key, rows::with_format(&piece));
            rewritten += 1;
        }
    }
    let Some((last, _)) = page.rows.last().filter(|_| page.more) else { return Ok(None) };
    let (number,): (u64,) = keys::tail(&all.start, last)?;
    Ok(number.checked_add(1).map(RunNumber))
}

/// Whether these are params, or a first piece of them, without a format byte. They begin with the
/// head of a CBOR map, which is no format.
pub(crate) fn is_params_of_format_2(value: &[u8]) -> bool {
    const MAP: u8 = 5;
    value.first().is_some_and(|first| first >> 5 == MAP)
}

#[cfg(test)]
mod tests;
