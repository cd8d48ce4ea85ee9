//! Restore of data that does not belong to a run. Existing data is kept: an entity with the
//! same id or unique name, a run id that has a head, and settings that a user has made.

use matyan_model::{
    entity::{
        App, Dashboard, Document, Entity, EntityError, Experiment, Note, NoteOwner, Report, Tag,
        entity_create, entity_get,
    },
    keys,
    metric_goal::{
        GoalFields, MetricGoal, metric_goal_load, metric_goal_put, metric_goals_room, primary_metric_load,
        primary_metric_put,
    },
    position::cursor_put,
    project::{ProjectInfo, pinned_get, pinned_put, project_info_load, project_info_put},
    run::{Tombstone, tombstone_put},
};
use matyan_proto::{
    backup::v1::{self as pb, entity::Kind, note::Owner},
    common::v1::SeriesKey,
    limits,
};
use matyan_store::{Transaction, transact};
use matyan_value::cbor;
use prost::Message;

use super::{convert, finish::find_linked, log_positions, stage, studies};
use crate::edit::metric_goals::{direction_of, format_of, goal_unit, goal_x_axis, summary_of};
use crate::server::{
    call::Call,
    convert::{bounded_text, check_limit},
    deps::Deps,
    error::{Error, Result},
};

/// Maximum number of entities, tombstones and parts of studies in a call.
const MAX_PER_CALL: usize = 10_000;

pub(super) async fn restore(
    deps: &Deps,
    call: &Call,
    request: pb::RestoreProjectRequest,
) -> Result<pb::RestoreProjectResponse> {
    let count = request.entities.len() + request.tombstones.len() + request.studies.len();
    check_limit("entities", count, MAX_PER_CALL)?;
    let mut response = pb::RestoreProjectResponse::default();
    // Positions come first, because tombstones are translated by them.
    if let Some(cut) = &request.cut {
        (response.cut_taken, response.records_lost) = log_positions::adopt_if_fresh(deps, cut).await?;
    }
    for entity in request.entities {
        if entity_restore(deps, call, entity).await? {
            response.entities_made += 1
        } else {
            response.entities_kept += 1
        }
    }
    if let Some(cut) = &request.cut {
        for tombstone in &request.tombstones {
            response.tombstones_made += u32::from(tombstone_restore(deps, call, tombstone, cut).await?);
        }
    }
    for part in request.studies {
        match studies::restore(deps, call, part).await? {
            Some(true) => response.entities_made += 1,
            Some(false) => response.entities_kept += 1,
            None => {}
        }
    }
    if let Some(settings) = &request.settings {
        response.settings_set = settings_restore(deps, call, settings).await?;
    }
    Ok(response)
}

/// Restores an entity; returns true if it was created.
async fn entity_restore(deps: &Deps, call: &Call, entity: pb::Entity) -> Result<bool> {
    if entity.id.is_empty() {
        return Err(Error::field("entity.id", "is empty"));
    }
    check_limit("entity.id", entity.id.len(), limits::NAME_BYTES)?;
    let created_us = entity.created_us;
    let updated_us = entity.updated_us;
    let id = entity.id.as_str();
    match entity
        .kind
        .ok_or_else(|| Error::field("entity.kind", "is missing or not supported by this server"))?
    {
        Kind::Experiment(fields) => {
            let name = bounded_text("experiment.name", &fields.name, limits::NAME_BYTES)?;
            let description = text("experiment.description", fields.description)?;
            make(
                deps,
                call,
                id,
                &Experiment { created_us, updated_us, name, description, archived: fields.archived },
            )
            .await
        }
        Kind::Tag(fields) => {
            let name = bounded_text("tag.name", &fields.name, limits::NAME_BYTES)?;
            let color = bounded_text("tag.color", &fields.color, limits::NAME_BYTES)?;
            let description = text("tag.description", fields.description)?;
            let archived = fields.archived;
            make(deps, call, id, &Tag { created_us, updated_us, name, color, description, archived }).await
        }
        Kind::Dashboard(fields) => {
            let name = bounded_text("dashboard.name", &fields.name, limits::NAME_BYTES)?;
            let description = text("dashboard.description", fields.description)?;
            let archived = fields.archived;
            let app_id = fields.app_id;
            make(deps, call, id, &Dashboard { created_us, updated_us, name, description, archived, app_id })
                .await
        }
        Kind::App(fields) => {
            check_limit("app.state", fields.state.len(), limits::DOCUMENT_BYTES)?;
            let state = cbor::decode_map(&fields.state)
                .map_err(|error| Error::field("app.state", error.to_string()))?;
            let app_type = bounded_text("app.type", &fields.r#type, limits::NAME_BYTES)?;
            let state = cbor::encode_map(&state);
            let dashboard_id = fields.dashboard_id;
            make(deps, call, id, &App { created_us, updated_us, app_type, state, dashboard_id }).await
        }
        Kind::Report(fields) => {
            let name = bounded_text("report.name", &fields.name, limits::NAME_BYTES)?;
            let code = bounded_text("report.code", &fields.code, limits::DOCUMENT_BYTES)?;
            let description = text("report.description", fields.description)?;
            make(deps, call, id, &Report { created_us, updated_us, name, code, description }).await
        }
        Kind::Document(fields) => {
            check_limit("document.content", fields.content.len(), limits::NAMED_DOCUMENT_BYTES)?;
            let content = fields.content.into();
            make(deps, call, id, &Document { created_us, updated_us, content, is_counted: true }).await
        }
        Kind::Note(fields) => note(deps, call, id, fields, (created_us, updated_us)).await,
    }
}

fn text(field: &'static str, text: String) -> Result<String> {
    check_limit(field, text.len(), limits::DESCRIPTION_BYTES).map(|()| text)
}

async fn make<E: Entity>(deps: &Deps, call: &Call, id: &str, entity: &E) -> Result<bool> {
    let (made, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        // A checked read, so that two concurrent restores create it once.
        let first = keys::entity_piece(call.project, E::KIND, id, 0);
        if transaction.get(&first).await?.is_some() {
            return Ok((transaction, false));
        }
        match entity_create(&mut transaction, call.project, id, entity).await {
            Ok(()) => Ok((transaction, true)),
            Err(EntityError::NameTaken { .. }) => Ok((transaction, false)),
            Err(error) => Err(Error::from(error)),
        }
    })
    .await?;
    Ok(made)
}

async fn note(
    deps: &Deps,
    call: &Call,
    id: &str,
    note: pb::Note,
    (created_us, updated_us): (i64, i64),
) -> Result<bool> {
    let content = bounded_text("note.content", &note.content, limits::DOCUMENT_BYTES)?;
    let owner = match note.owner.ok_or_else(|| Error::field("note.owner", "is missing"))? {
        Owner::RunId(run_id) => NoteOwner::Run(deps.find_kept_run(call, &run_id).await?.number.0),
        Owner::Experiment(link) => {
            let transaction = Transaction::new(deps.store.snapshot().await?);
            let found = find_linked::<Experiment>(&transaction, call, &link).await?;
            NoteOwner::Experiment(found.ok_or_else(|| Error::not_found(Experiment::KIND.name(), &link.id))?)
        }
    };
    let snapshot = deps.store.snapshot().await?;
    if entity_get::<Note>(snapshot.as_ref(), call.project, id).await?.is_some() {
        return Ok(false);
    }
    drop(snapshot);
    make(deps, call, id, &Note { created_us, updated_us, content, owner }).await
}

/// Restores a tombstone; returns true if it was created. With a different log, no record could
/// bring the run back.
async fn tombstone_restore(
    deps: &Deps,
    call: &Call,
    tombstone: &pb::Tombstone,
    cut: &pb::Cut,
) -> Result<bool> {
    let id = stage::run_id(&tombstone.run_id)?;
    let (made, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let numbers = log_positions::numbers(transaction.unchecked(), cut).await?;
        let is_free = transaction.get(&keys::head(call.project, &id)).await?.is_none();
        let Some(numbers) = numbers.filter(|_| is_free) else { return Ok((transaction, false)) };
        let at = tombstone.at.and_then(|at| log_positions::position(at, cut, numbers));
        let at = at.unwrap_or_default();
        let deleted = Tombstone { number: None, at, deleted_us: tombstone.deleted_us, blobs_deleted: true };
        tombstone_put(transaction.batch(), call.project, &id, deleted);
        let cursor = tombstone.cursor.as_ref().and_then(|cursor| log_positions::cursor(cursor, cut, numbers));
        if let Some(cursor) = cursor {
            cursor_put(transaction.batch(), call.project, &id, cursor);
        }
        Ok::<_, Error>((transaction, true))
    })
    .await?;
    Ok(made)
}

/// Restores the settings; returns true if they were set.
async fn settings_restore(deps: &Deps, call: &Call, settings: &pb::Settings) -> Result<bool> {
    check_limit("settings.pinned", settings.pinned.len(), limits::PINNED_SEQUENCES)?;
    for pinned in &settings.pinned {
        let decoded = SeriesKey::decode(pinned.as_ref())
            .map_err(|_| Error::field("settings.pinned", "is not a valid `SeriesKey` message"))?;
        check_limit("settings.pinned.name", decoded.name.len(), limits::NAME_BYTES)?;
        convert::series(&decoded.name, &decoded.context, "")?;
    }
    let name = bounded_text("settings.name", &settings.name, limits::NAME_BYTES)?;
    let description = text("settings.description", settings.description.clone())?;
    let now = (deps.clock)();
    let info = ProjectInfo { name, description, updated_us: now, pinned_updated_us: now };
    let pinned: Vec<Vec<u8>> = settings.pinned.iter().map(|one| one.to_vec()).collect();
    let goals = goals_of(settings, now)?;
    let (set, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let is_new = project_info_load(&transaction, call.project).await? == ProjectInfo::default()
            && pinned_get(transaction.unchecked(), call.project).await?.is_empty();
        if is_new {
            project_info_put(transaction.batch(), call.project, &info);
            pinned_put(transaction.batch(), call.project, &pinned);
        }
        Ok::<_, Error>((transaction, is_new))
    })
    .await?;
    goals_restore(deps, call, &goals).await?;
    primary_restore(deps, call, &settings.primary_metric).await?;
    Ok(set)
}

/// The goals of metrics in the settings, by metric. There may be more than a project can have: runs that define goals
/// at the same time exceed the limit.
fn goals_of(settings: &pb::Settings, now_us: i64) -> Result<Vec<(String, MetricGoal)>> {
    check_limit("settings.primary_metric", settings.primary_metric.len(), limits::NAME_BYTES)?;
    let goals = settings.metric_goals.iter().map(|goal| {
        let name = bounded_text("settings.metric_goals.name", &goal.name, limits::NAME_BYTES)?;
        let set = goal_fields(&name, goal.set.as_ref())?;
        let defined = goal_fields(&name, goal.defined.as_ref())?;
        Ok((name, MetricGoal { set, defined, updated_us: now_us }))
    });
    goals.collect()
}

fn goal_fields(metric: &str, fields: Option<&pb::GoalFields>) -> Result<GoalFields> {
    let Some(fields) = fields else { return Ok(GoalFields::default()) };
    Ok(GoalFields {
        direction: direction_of("settings.metric_goals.direction", fields.direction)?,
        summary: summary_of("settings.metric_goals.summary", fields.summary)?,
        format: format_of("settings.metric_goals.format", fields.format)?,
        unit: goal_unit("settings.metric_goals.unit", &fields.unit)?,
        x_axis: goal_x_axis("settings.metric_goals.x_axis", &fields.x_axis, metric)?,
    })
}

/// Restores the goals of metrics that have none, as far as the project has room for them.
async fn goals_restore(deps: &Deps, call: &Call, goals: &[(String, MetricGoal)]) -> Result<()> {
    let project = call.project;
    let snapshot = deps.store.snapshot().await?;
    let mut room = metric_goals_room(snapshot.as_ref(), project, limits::METRIC_GOALS).await?;
    drop(snapshot);
    for (name, goal) in goals {
        if room == 0 {
            break;
        }
        let (is_new, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
            let is_new = metric_goal_load(&transaction, project, name).await?.is_none();
            if is_new {
                metric_goal_put(transaction.batch(), project, name, goal);
            }
            Ok::<_, Error>((transaction, is_new))
        })
        .await?;
        room -= usize::from(is_new);
    }
    Ok(())
}

/// Restores the choice of the primary metric, unless the project has one.
async fn primary_restore(deps: &Deps, call: &Call, metric: &str) -> Result<()> {
    if metric.is_empty() {
        return Ok(());
    }
    transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        if primary_metric_load(&transaction, call.project).await?.is_none() {
            primary_metric_put(transaction.batch(), call.project, Some(metric));
        }
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(())
}
