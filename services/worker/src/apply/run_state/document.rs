//! The document of a live run as changed by the current transaction, with the tags and
//! experiments that it refers to.

use std::collections::HashMap;

use matyan_model::{
    entity::{Entity, entity_find, entity_find_or_create},
    ids::RunNumber,
    keys::EntityKind,
    metric_goal::{GoalFields, MetricGoal, metric_goal_load, metric_goal_put, metric_goals_have_room},
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
            if let Some(rows) = edit.take_rows_ahead() {
                transaction.commit_ahead(rows).await?;
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

    /// Completes the goals of the project's metrics by what a run defines.
    pub(crate) async fn define_goals(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        definitions: Vec<(String, GoalFields)>,
        now_us: i64,
    ) -> Result<(), ApplyFailure> {
        for (metric, definition) in definitions {
            let project = transaction.project();
            let stored = match self.goals.get(&metric) {
                Some(goal) => Some(goal.clone()),
                None => metric_goal_load(transaction.checked(), project, &metric).await?,
            };
            if stored.is_none() && !self.has_room_for_goal(transaction).await? {
                let run = transaction.run().id.as_str();
                tracing::warn!(run, metric, "ignored a goal: the project has as many as are allowed");
                continue;
            }
            let mut goal = stored.unwrap_or_default();
            let defined = definition.or(&goal.defined);
            // A sweep defines the same goals with each run.
            if defined != goal.defined {
                goal.defined = defined;
                goal.touch(now_us);
                self.goals.insert(metric, goal);
            }
        }
        Ok(())
    }

    async fn has_room_for_goal(&self, transaction: &RunTransaction<'_>) -> Result<bool, ApplyFailure> {
        // Some of them may exist already, which leaves a little less room.
        let limit = limits::METRIC_GOALS.saturating_sub(self.goals.len());
        Ok(metric_goals_have_room(transaction.snapshot(), transaction.project(), limit).await?)
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
