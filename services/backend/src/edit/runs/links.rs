//! Changes of the tags and the experiment of many runs, a page of them in each transaction.

use matyan_model::{
    entity::{Entity, EntityError, Experiment, Tag, entity_find, entity_find_or_create, entity_load},
    ids::Project,
    keys::EntityKind,
    run::{RunEdit, run_id_get},
};
use matyan_proto::{
    limits,
    runs::v1::{add_tag_batch_request, move_batch_request, remove_tag_batch_request},
};
use matyan_store::{Transaction, transact};

use super::change::{PAGE_RUNS, SkippedRuns, find_numbers, write};
use crate::{
    edit::entities,
    server::{
        call::Call,
        convert,
        deps::Deps,
        error::{Error, Result},
    },
};

/// Result of a batch.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) skipped: SkippedRuns,
    /// Number of runs that were not as requested before.
    pub(super) changed: u32,
}

/// A reference of runs to an entity, which is added or removed.
pub(super) trait Link: Sync {
    /// The id of the entity, which must not be deleted before the transaction commits. `new_id` is
    /// the id that it gets if it does not exist; `None` if no run refers to it.
    fn resolve(
        &self,
        transaction: &mut Transaction,
        call: &Call,
        new_id: Option<&str>,
    ) -> impl Future<Output = Result<Option<String>>> + Send;

    /// Changes a run. Returns the field of the request that the run has no room for, if there is one.
    fn apply(&self, edit: &mut RunEdit, id: Option<&str>) -> Result<(), &'static str>;
}

/// Applies a change to many runs. An error says how many were done before.
pub(super) async fn change_all<L: Link>(
    deps: &Deps,
    call: &Call,
    run_ids: Vec<String>,
    link: &L,
) -> Result<Outcome> {
    convert::check_limit("run_ids", run_ids.len(), limits::RUNS_PER_CALL)?;
    let mut outcome = Outcome::default();
    // An unknown entity is reported even if no run is given.
    let pages = run_ids.chunks(PAGE_RUNS).chain(run_ids.is_empty().then_some(&[][..]));
    for (page, ids) in pages.enumerate() {
        let changed = change_page(deps, call, ids, link, &mut outcome.skipped).await;
        outcome.changed += changed.map_err(|error| error.after(page * PAGE_RUNS))?;
    }
    Ok(outcome)
}

async fn change_page<L: Link>(
    deps: &Deps,
    call: &Call,
    run_ids: &[String],
    link: &L,
    skipped: &mut SkippedRuns,
) -> Result<u32> {
    let numbers = find_numbers(deps, call, run_ids, skipped).await?;
    let now = (deps.clock)();
    // Another id for each page: the entity of the page before may have been deleted, and its id must
    // not be used again.
    let new_id = (!numbers.is_empty()).then(|| (deps.new_id)());
    let (changed, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let id = link.resolve(&mut transaction, call, new_id.as_deref()).await?;
        let mut changed = 0;
        for number in &numbers {
            // Runs that have been deleted since they were found are left out.
            let edit = RunEdit::load(&transaction, call.project, *number).await?;
            let Some(mut edit) = edit.filter(|edit| !edit.props.pending_delete) else { continue };
            let before = edit.props.clone();
            if let Err(field) = link.apply(&mut edit, id.as_deref()) {
                let run_id = run_id_get(transaction.unchecked(), call.project, *number).await?;
                let run_id = run_id.map(|id| id.as_str().to_owned()).unwrap_or_default();
                return Err(Error::TooManyTags { field, run_id, limit: limits::TAGS_PER_RUN });
            }
            // Without a change there is nothing to report to watchers.
            if edit.props != before {
                write(&mut transaction, call, edit, now);
                changed += 1;
            }
        }
        Ok::<_, Error>((transaction, changed))
    })
    .await?;
    Ok(changed)
}

/// A tag to add to runs, or to remove from them.
pub(super) struct TagLink {
    tag: TagChoice,
}

enum TagChoice {
    Add {
        id: String,
    },
    /// A tag by its name, which is created if it does not exist.
    AddByName(Tag),
    Remove {
        id: String,
    },
    RemoveByName {
        name: String,
    },
}

/// The error of a request that names no tag.
fn tag_required() -> Error {
    Error::field("tag", "is missing: give `tag_id` or `tag_name`")
}

impl TagLink {
    pub(super) fn added(deps: &Deps, tag: Option<add_tag_batch_request::Tag>) -> Result<Self> {
        use add_tag_batch_request::Tag as Requested;
        let tag = match tag.ok_or_else(tag_required)? {
            Requested::TagId(id) => TagChoice::Add { id },
            Requested::TagName(name) => {
                let now = (deps.clock)();
                let name = convert::required_name("tag_name", &name)?;
                let tag = Tag { created_us: now, updated_us: now, name, ..Tag::default() };
                TagChoice::AddByName(tag)
            }
        };
        Ok(Self { tag })
    }

    pub(super) fn removed(tag: Option<remove_tag_batch_request::Tag>) -> Result<Self> {
        use remove_tag_batch_request::Tag as Requested;
        let tag = match tag.ok_or_else(tag_required)? {
            Requested::TagId(id) => TagChoice::Remove { id },
            Requested::TagName(name) => {
                TagChoice::RemoveByName { name: convert::required_name("tag_name", &name)? }
            }
        };
        Ok(Self { tag })
    }
}

/// The error of a field that refers to an entity that does not exist.
fn no_such(field: &'static str, kind: EntityKind, id: &str) -> Error {
    Error::NoSuchReference { field, resource: kind.name(), id: id.to_owned() }
}

/// Loads an entity that a field of the request refers to.
async fn load_named<E: Entity>(
    field: &'static str,
    transaction: &mut Transaction,
    project: Project,
    id: &str,
) -> Result<()> {
    entities::check_id(E::KIND, id).map_err(|_| no_such(field, E::KIND, id))?;
    match entity_load::<E>(transaction, project, id).await {
        Ok(_) => Ok(()),
        Err(EntityError::NotFound { .. }) => Err(no_such(field, E::KIND, id)),
        Err(error) => Err(error.into()),
    }
}

impl Link for TagLink {
    async fn resolve(
        &self,
        transaction: &mut Transaction,
        call: &Call,
        new_id: Option<&str>,
    ) -> Result<Option<String>> {
        let project = call.project;
        Ok(match &self.tag {
            TagChoice::Add { id } | TagChoice::Remove { id } => {
                load_named::<Tag>("tag_id", transaction, project, id).await?;
                Some(id.clone())
            }
            TagChoice::AddByName(tag) => match new_id {
                Some(new_id) => Some(entity_find_or_create(transaction, project, tag, new_id).await?),
                None => None,
            },
            TagChoice::RemoveByName { name } => {
                let found = entity_find(transaction.unchecked(), project, EntityKind::Tag, name).await?;
                Some(found.ok_or_else(|| no_such("tag_name", EntityKind::Tag, name))?)
            }
        })
    }

    fn apply(&self, edit: &mut RunEdit, id: Option<&str>) -> Result<(), &'static str> {
        let Some(id) = id else { return Ok(()) };
        match self.tag {
            TagChoice::Add { .. } => edit.tag_add(id).then_some(()).ok_or("tag_id"),
            TagChoice::AddByName(_) => edit.tag_add(id).then_some(()).ok_or("tag_name"),
            TagChoice::Remove { .. } | TagChoice::RemoveByName { .. } => {
                edit.tag_remove(id);
                Ok(())
            }
        }
    }
}

/// The experiment that runs move to.
pub(super) enum ExperimentLink {
    None,
    Id(String),
    /// An experiment by its name, which is created if it does not exist.
    Name(Experiment),
}

impl ExperimentLink {
    pub(super) fn new(deps: &Deps, experiment: Option<move_batch_request::Experiment>) -> Result<Self> {
        use move_batch_request::Experiment as Requested;
        Ok(match experiment {
            Some(Requested::NoExperiment(true)) => Self::None,
            Some(Requested::ExperimentId(id)) => Self::Id(id),
            Some(Requested::ExperimentName(name)) => {
                let now = (deps.clock)();
                let name = convert::required_name("experiment_name", &name)?;
                Self::Name(Experiment { created_us: now, updated_us: now, name, ..Experiment::default() })
            }
            Some(Requested::NoExperiment(false)) | None => {
                let reason = "is missing: give `experiment_id`, `experiment_name`, or `no_experiment`";
                return Err(Error::field("experiment", reason));
            }
        })
    }
}

impl Link for ExperimentLink {
    async fn resolve(
        &self,
        transaction: &mut Transaction,
        call: &Call,
        new_id: Option<&str>,
    ) -> Result<Option<String>> {
        let project = call.project;
        Ok(match self {
            Self::None => None,
            Self::Id(id) => {
                load_named::<Experiment>("experiment_id", transaction, project, id).await?;
                Some(id.clone())
            }
            Self::Name(experiment) => match new_id {
                Some(new_id) => Some(entity_find_or_create(transaction, project, experiment, new_id).await?),
                None => None,
            },
        })
    }

    fn apply(&self, edit: &mut RunEdit, id: Option<&str>) -> Result<(), &'static str> {
        edit.props.experiment = id.map(str::to_owned);
        Ok(())
    }
}
