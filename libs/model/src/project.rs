//! Projects: their name and description, pinned sequences, counters, and the row that holds the
//! format of the whole store.

use matyan_store::{Batch, Error, Result, Snapshot, Store, Transaction};
use minicbor::{Decode, Encode};

use crate::{
    entity,
    ids::{NamedProject, Project},
    keys::{self, Counter},
    rows,
};

/// The store format of this program. Older formats cannot be read.
pub const FORMAT: u32 = 2;

/// Writes the format to an empty store, or checks that the store has the format of this
/// program.
pub async fn format_open(store: &dyn Store) -> Result<()> {
    let found = matyan_store::transact(store, async |mut transaction: Transaction| -> Result<_> {
        let key = keys::format();
        let format = match transaction.get(&key).await? {
            Some(value) => rows::decode(&key, &value)?,
            None => {
                transaction.batch().set(key, rows::encode(&FORMAT));
                FORMAT
            }
        };
        Ok((transaction, format))
    });
    match found.await?.0 {
        FORMAT => Ok(()),
        newer @ FORMAT.. => Err(Error::corrupt(format!(
            "the store has format {newer}, but this program uses format {FORMAT}: use a newer version of the program"
        ))),
        older => Err(Error::corrupt(format!(
            "the store has format {older}, but this program uses format {FORMAT}: make a backup with the version that wrote it, \
             and restore the backup into a new store"
        ))),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ProjectInfo {
    #[n(0)]
    pub name: String,
    #[n(1)]
    pub description: String,
}

impl Default for ProjectInfo {
    fn default() -> Self {
        Self { name: "My project".to_owned(), description: String::new() }
    }
}

pub async fn project_info_get(snapshot: &dyn Snapshot, project: Project) -> Result<ProjectInfo> {
    Ok(rows::get(snapshot, &keys::project_info(project)).await?.unwrap_or_default())
}

/// Like `project_info_get`, but the transaction fails if the row changes in the meantime.
pub async fn project_info_load(transaction: &Transaction, project: Project) -> Result<ProjectInfo> {
    let key = keys::project_info(project);
    let stored = transaction.get(&key).await?;
    Ok(stored.map(|value| rows::decode(&key, &value)).transpose()?.unwrap_or_default())
}

pub fn project_info_put(batch: &mut Batch, project: Project, info: &ProjectInfo) {
    batch.set(keys::project_info(project), rows::encode(info));
}

/// The pinned sequences, each an encoded value, in order.
pub async fn pinned_get(snapshot: &dyn Snapshot, project: Project) -> Result<Vec<Vec<u8>>> {
    let range = keys::project_pinned(project);
    let Some(bytes) = rows::get_pieces(snapshot, &range).await? else { return Ok(Vec::new()) };
    let list: Vec<minicbor::bytes::ByteVec> = rows::decode(&range.start, &bytes)?;
    Ok(list.into_iter().map(Into::into).collect())
}

pub fn pinned_put(batch: &mut Batch, project: Project, pinned: &[Vec<u8>]) {
    let list: Vec<&minicbor::bytes::ByteSlice> = pinned.iter().map(|value| value.as_slice().into()).collect();
    let range = keys::project_pinned(project);
    rows::put_pieces(batch, range, |piece| keys::project_pinned_piece(project, piece), &rows::encode(&list));
}

/// The number of the project with this name. The name of the default project is empty.
pub async fn project_find(snapshot: &dyn Snapshot, name: &str) -> Result<Option<Project>> {
    if name.is_empty() {
        return Ok(Some(Project::default()));
    }
    let number: Option<u32> = rows::get(snapshot, &keys::project_by_name(name)).await?;
    Ok(number.map(Project))
}

/// All projects, the default one first.
pub async fn projects_list(snapshot: &dyn Snapshot) -> Result<Vec<NamedProject>> {
    let mut projects = vec![NamedProject::default()];
    let range = keys::projects();
    for (key, value) in rows::scan_all(snapshot, &range).await? {
        let (name,) = keys::tail(&range.start, &key)?;
        projects.push(NamedProject { number: Project(rows::decode(&key, &value)?), name });
    }
    Ok(projects)
}

/// The value of a project counter, such as the number of runs or points.
pub async fn project_count(snapshot: &dyn Snapshot, project: Project, counter: Counter) -> Result<i64> {
    let key = keys::project_counter(project, counter);
    Ok(snapshot
        .get(&key)
        .await?
        .map(|value| entity::decode_counter(&key, &value))
        .transpose()?
        .unwrap_or_default())
}

#[cfg(test)]
mod tests;
