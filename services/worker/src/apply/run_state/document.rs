//! The document of a live run as changed by the current transaction, with the tags and
//! experiments that it refers to.

use std::collections::HashMap;

use matyan_model::{
    entity::{Entity, entity_find, entity_find_or_create},
    ids::RunNumber,
    keys::EntityKind,
    metric_goal::{
        GoalFields, MetricGoal, metric_goal_load, metric_goal_put, metric_goals_get, metric_goals_room,
    },
    run::RunEdit,
};
use matyan_proto::limits;
use matyan_value::Map;

use crate::apply::{apply_failure::ApplyFailure, transaction::RunTransaction};

#[derive(Default)]
pub(crate) struct RunDocument {
    /// `None` until this transaction needs the document.
    edit: Option<RunEdit>,
    /// Ids of tags and experiments that were looked up or created, by name.
    entities: HashMap<(EntityKind, String), String>,
    /// Goals that this transaction changes, by metric.
    goals: HashMap<String, MetricGoal>,
    /// Number of goals that the project can still get from this transaction; `None` until it is counted.
    goals_room: Option<usize>,
}

impl RunDocument {
    /// The document of a run that the current transaction creates.
    pub(crate) fn created(edit: RunEdit) -> Self {
        Self { edit: Some(edit), ..Self::default() }
    }

    /// Returns the document for editing, reading it first if necessary.
    pub(crate) async fn edit(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        number: RunNumber,
    ) -> Result<&mut RunEdit, ApplyFailure> {
        match &mut self.edit {
            Some(edit) => Ok(edit),
            empty => {
                let project = transaction.project();
                let edit = RunEdit::load(transaction.checked(), project, number).await?;
                let Some(edit) = edit else {
                    let damage = format!("run {number} is live but has no document");
                    return Err(matyan_store::Error::corrupt(damage).into());
                };
                Ok(empty.insert(edit))
            }
        }
    }

    /// Merges a message into the params; `Err` holds their size if it would exceed the limit.
    pub(crate) async fn merge_params(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        number: RunNumber,
        message: Map,
        updated_us: i64,
    ) -> Result<Result<(), usize>, ApplyFailure> {
        let edit = self.edit(transaction, number).await?;
        let is_empty = message.is_empty();
        let merged = edit.params_merge(transaction.snapshot(), message).await?;
        if merged.is_ok() && !is_empty {
            edit.touch(updated_us);
            if let Some(cleared) = edit.take_cleared_ahead() {
                transaction.commit_ahead(cleared).await?;
            }
        }
        Ok(merged)
    }

    /// Returns the id of a tag or an experiment by its name, creating it if it is missing.
    pub(crate) async fn find_or_create<E: Entity>(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        entity: &E,
    ) -> Result<String, ApplyFailure> {
        let name = entity.unique_name().expect("tags and experiments have unique names");
        let key = (E::KIND, name.to_owned());
        if let Some(id) = self.entities.get(&key) {
            return Ok(id.clone());
        }
        let project = transaction.project();
        let new_id = transaction.new_id();
        let id = entity_find_or_create(transaction.checked(), project, entity, &new_id).await?;
        self.entities.insert(key, id.clone());
        Ok(id)
    }

    /// Returns the id of a tag or an experiment by its name.
    pub(crate) async fn find(
        &self,
        transaction: &RunTransaction<'_>,
        kind: EntityKind,
        name: &str,
    ) -> Result<Option<String>, ApplyFailure> {
        // An entity created by this transaction is not visible in its snapshot.
        match self.entities.get(&(kind, name.to_owned())) {
            Some(id) => Ok(Some(id.clone())),
            None => Ok(entity_find(transaction.snapshot(), transaction.project(), kind, name).await?),
        }
    }

    /// Adds the goals that a run defines to the goals of the project's metrics. Goals are read together, and the project's
    /// goals are counted at most once in a transaction, because a message may define a thousand.
    pub(crate) async fn define_goals(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        definitions: Vec<(String, GoalFields)>,
        now_us: i64,
    ) -> Result<(), ApplyFailure> {
        if definitions.is_empty() {
            return Ok(());
        }
        let project = transaction.project();
        let metrics: Vec<&str> = definitions.iter().map(|(metric, _)| metric.as_str()).collect();
        let stored = metric_goals_get(transaction.snapshot(), project, &metrics).await?;
        let mut ignored = 0;
        for ((metric, definition), stored) in definitions.into_iter().zip(stored) {
            let known = self.goals.get(&metric).or(stored.as_ref());
            let is_known = known.is_some();
            // A sweep defines the same goals with each run.
            if known.is_some_and(|goal| definition.clone().or(&goal.defined) == goal.defined) {
                continue;
            }
            if !is_known && !self.take_goal_room(transaction).await? {
                ignored += 1;
                continue;
            }
            let mut goal = match self.goals.remove(&metric) {
                Some(goal) => goal,
                None => metric_goal_load(transaction.checked(), project, &metric).await?.unwrap_or_default(),
            };
            goal.defined = definition.or(&goal.defined);
            goal.touch(now_us);
            self.goals.insert(metric, goal);
        }
        if ignored > 0 {
            tracing::warn!(
                run = transaction.run().id.as_str(),
                ignored,
                limit = limits::METRIC_GOALS,
                "ignored goals, because the project has as many as are allowed; define goals of fewer metrics"
            );
        }
        Ok(())
    }

    /// Takes the room of a new goal. Returns false if the project has none left.
    async fn take_goal_room(&mut self, transaction: &RunTransaction<'_>) -> Result<bool, ApplyFailure> {
        let room = match self.goals_room {
            Some(room) => room,
            None => {
                metric_goals_room(transaction.snapshot(), transaction.project(), limits::METRIC_GOALS).await?
            }
        };
        self.goals_room = Some(room.saturating_sub(1));
        Ok(room > 0)
    }

    /// Writes the changed document and goals.
    pub(crate) fn write(&mut self, transaction: &mut RunTransaction<'_>) {
        let Self { edit, goals, .. } = std::mem::take(self);
        let project = transaction.project();
        for (metric, goal) in &goals {
            metric_goal_put(transaction.batch(), project, metric, goal);
        }
        if let Some(edit) = edit {
            edit.write(transaction.batch());
        }
    }
}
