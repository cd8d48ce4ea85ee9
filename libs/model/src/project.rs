//! Projects: their rows in the list of projects, their name and description, pinned sequences,
//! and counters.
//!
//! A project is found by its name, which never changes and is never given to another project,
//! because blobs are stored under it. The row of a deleted project remains as a tombstone.

use matyan_store::{Batch, Range, Result, Scan, Snapshot, Store, Transaction};
use minicbor::{Decode, Encode};

use crate::{
    entity,
    ids::{NamedProject, Project},
    keys::{self, Counter},
    rows,
};

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ProjectInfo {
    #[n(0)]
    pub name: String,
    #[n(1)]
    pub description: String,
    /// When name or description were last changed; 0 if never.
    #[n(2)]
    #[cbor(default)]
    pub updated_us: i64,
    /// When the pinned sequences were last replaced; 0 if never.
    #[n(3)]
    #[cbor(default)]
    pub pinned_updated_us: i64,
}

impl Default for ProjectInfo {
    fn default() -> Self {
        Self {
            name: "My project".to_owned(),
            description: String::new(),
            updated_us: 0,
            pinned_updated_us: 0,
        }
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

/// The stage of a project's life. They follow each other in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum ProjectState {
    #[n(0)]
    Active,
    /// Refused everywhere; its rows and blobs are being deleted.
    #[n(1)]
    Deleting,
    /// Its rows and blobs were deleted once. What arrived late is deleted by a second pass.
    #[n(2)]
    Deleted,
    /// Nothing but this row is left.
    #[n(3)]
    Cleared,
}

/// A project in the list of projects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedProject {
    pub project: NamedProject,
    pub state: ProjectState,
    /// `None` for the default project, which always exists.
    pub created_us: Option<i64>,
    pub deleted_us: Option<i64>,
}

impl ListedProject {
    fn default_project() -> Self {
        let project = NamedProject::default();
        Self { project, state: ProjectState::Active, created_us: None, deleted_us: None }
    }

    fn new(name: String, row: &ProjectRow) -> Self {
        let ProjectRow { number, state, created_us, deleted_us } = *row;
        let project = NamedProject { number: Project(number), name };
        Self { project, state, created_us: Some(created_us), deleted_us }
    }

    pub fn is_active(&self) -> bool {
        self.state == ProjectState::Active
    }

    fn put(&self, batch: &mut Batch) {
        let row = ProjectRow {
            number: self.project.number.0,
            state: self.state,
            created_us: self.created_us.unwrap_or_default(),
            deleted_us: self.deleted_us,
        };
        batch.set(keys::project_by_name(&self.project.name), rows::encode(&row));
    }
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct ProjectRow {
    #[n(0)]
    number: u32,
    #[n(1)]
    state: ProjectState,
    #[n(2)]
    created_us: i64,
    #[n(3)]
    deleted_us: Option<i64>,
}

/// The number of the active project with this name. The name of the default project is empty.
pub async fn project_find(snapshot: &dyn Snapshot, name: &str) -> Result<Option<Project>> {
    let listed = project_get(snapshot, name).await?;
    Ok(listed.filter(ListedProject::is_active).map(|listed| listed.project.number))
}

/// The project with this name, in any state.
pub async fn project_get(snapshot: &dyn Snapshot, name: &str) -> Result<Option<ListedProject>> {
    if name.is_empty() {
        return Ok(Some(ListedProject::default_project()));
    }
    let row: Option<ProjectRow> = rows::get(snapshot, &keys::project_by_name(name)).await?;
    Ok(row.map(|row| ListedProject::new(name.to_owned(), &row)))
}

/// All active projects, the default one first.
pub async fn projects_list(snapshot: &dyn Snapshot) -> Result<Vec<NamedProject>> {
    let all = projects_list_all(snapshot).await?;
    Ok(all.into_iter().filter(ListedProject::is_active).map(|listed| listed.project).collect())
}

/// All projects that ever existed, the default one first, then by name. Damaged ones are left out.
pub async fn projects_list_all(snapshot: &dyn Snapshot) -> Result<Vec<ListedProject>> {
    Ok(projects_readable(snapshot).await?.0)
}

/// All projects that ever existed, and the number of damaged ones, which are left out.
pub(crate) async fn projects_readable(snapshot: &dyn Snapshot) -> Result<(Vec<ListedProject>, u64)> {
    let mut projects = vec![ListedProject::default_project()];
    let mut damaged = 0;
    let range = keys::projects();
    for (key, value) in rows::scan_all(snapshot, &range).await? {
        let (name,) = keys::tail(&range.start, &key)?;
        match rows::readable(rows::decode(&key, &value))? {
            Some(row) => projects.push(ListedProject::new(name, &row)),
            None => damaged += 1,
        }
    }
    Ok((projects, damaged))
}

/// Outcome of `project_create`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Creation {
    Created(ListedProject),
    /// A project has this name, or had it.
    NameTaken(ListedProject),
    /// There are as many projects as are allowed.
    TooMany,
}

/// Creates a project. At most `max` projects exist, or have rows or blobs left.
pub async fn project_create(
    transaction: &mut Transaction,
    name: &str,
    info: &ProjectInfo,
    now_us: i64,
    max: usize,
) -> Result<Creation> {
    // All rows are read, so that concurrent calls cannot choose the same number.
    let mut rest = keys::projects();
    let mut count = 0;
    let mut last = 0;
    loop {
        let page = transaction.scan(&rest, Scan::default()).await?;
        for (key, value) in &page.rows {
            let (other,): (String,) = keys::tail(&keys::projects().start, key)?;
            let row: ProjectRow = rows::decode(key, value)?;
            if other == name {
                return Ok(Creation::NameTaken(ListedProject::new(other, &row)));
            }
            count += usize::from(row.state != ProjectState::Cleared);
            last = row.number.max(last);
        }
        match page.rows.last() {
            Some((key, _)) if page.more => rest = rest.after(key),
            _ => break,
        }
    }
    if count >= max {
        return Ok(Creation::TooMany);
    }
    let project = NamedProject { number: Project(last + 1), name: name.to_owned() };
    let created =
        ListedProject { project, state: ProjectState::Active, created_us: Some(now_us), deleted_us: None };
    created.put(transaction.batch());
    project_info_put(transaction.batch(), created.project.number, info);
    Ok(Creation::Created(created))
}

/// Starts the deletion of a project, unless the deletion has started. Returns `None` if the project
/// does not exist. The default project cannot be deleted.
pub async fn project_delete(
    transaction: &mut Transaction,
    name: &str,
    now_us: i64,
) -> Result<Option<ListedProject>> {
    let Some(mut listed) = load(transaction, name).await? else { return Ok(None) };
    match listed.state {
        ProjectState::Active => {
            listed.state = ProjectState::Deleting;
            listed.deleted_us = Some(now_us);
            listed.put(transaction.batch());
            Ok(Some(listed))
        }
        ProjectState::Deleting => Ok(Some(listed)),
        ProjectState::Deleted | ProjectState::Cleared => Ok(None),
    }
}

/// Records that a pass over a deleted project is complete.
pub async fn project_advance(transaction: &mut Transaction, name: &str, from: ProjectState) -> Result<()> {
    let Some(mut listed) = load(transaction, name).await? else { return Ok(()) };
    let next = match from {
        ProjectState::Deleting => ProjectState::Deleted,
        ProjectState::Deleted => ProjectState::Cleared,
        ProjectState::Active | ProjectState::Cleared => return Ok(()),
    };
    if listed.state == from {
        listed.state = next;
        listed.put(transaction.batch());
    }
    Ok(())
}

async fn load(transaction: &Transaction, name: &str) -> Result<Option<ListedProject>> {
    let key = keys::project_by_name(name);
    let Some(value) = transaction.get(&key).await? else { return Ok(None) };
    Ok(Some(ListedProject::new(name.to_owned(), &rows::decode(&key, &value)?)))
}

/// Rows cleared in one step of `project_clear`.
const CLEAR_ROWS: usize = 1_000;

/// Clears some rows of a deleted project. Returns whether none are left.
pub async fn project_clear(store: &dyn Store, project: Project) -> Result<bool> {
    let range = keys::project_rows(project);
    let mut batch = Batch::default();
    if store.clears_ranges_at_once() {
        batch.clear_range(range);
        store.commit(batch).await?;
        return Ok(true);
    }
    let scan = Scan { rows: CLEAR_ROWS, keys_only: true, ..Scan::default() };
    let page = store.snapshot().await?.scan(&range, scan).await?;
    let Some((last, _)) = page.rows.last() else { return Ok(true) };
    batch.clear_range(Range::new(range.start.clone(), range.after(last).start));
    store.commit(batch).await?;
    Ok(false)
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
