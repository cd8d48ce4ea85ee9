//! Backup of data that does not belong to a run: log positions first, so that everything read
//! later includes the records before them; then settings, entities, and the tombstones that
//! prevent deleted runs from coming back.

use matyan_model::{
    entity::{
        App, Dashboard, Document, Entity, Experiment, Note, NoteOwner, Report, Tag, entity_get, entity_page,
    },
    ids::{RunId, RunNumber},
    keys,
    metric_goal::{GoalFields, metric_goals_list, primary_metric_get},
    position::cursor_get,
    project::{pinned_get, project_info_get},
    run::{Tombstone, head_live, run_id_get, tombstones_list},
};
use matyan_proto::backup::v1::{self as pb, entity::Kind, read_project_response::Content};
use matyan_store::{Range, Snapshot};

use super::{log_positions, studies};
use crate::edit::metric_goals::{direction_view, format_view, summary_view};
use crate::server::{
    call::Call,
    deps::{Deps, position_view},
    error::Result,
    stream::{Sender, StreamEnd},
};

type ProjectSender = Sender<pb::ReadProjectResponse>;

pub(super) async fn send(deps: &Deps, call: &Call, sender: &ProjectSender) -> Result<(), StreamEnd> {
    let cut = log_positions::read(deps.store.snapshot().await?.as_ref()).await?;
    send_content(sender, Content::Cut(cut)).await?;
    let settings = settings(deps.store.snapshot().await?.as_ref(), call).await?;
    send_content(sender, Content::Settings(settings)).await?;
    send_entities(deps, call, sender, experiment).await?;
    send_entities(deps, call, sender, tag).await?;
    send_entities(deps, call, sender, app).await?;
    send_entities(deps, call, sender, dashboard).await?;
    send_entities(deps, call, sender, report).await?;
    send_entities(deps, call, sender, document).await?;
    notes(deps, call, sender).await?;
    studies::send(deps, call, sender).await?;
    tombstones(deps, call, sender).await
}

async fn send_content(sender: &ProjectSender, content: Content) -> Result<(), StreamEnd> {
    sender.send(pb::ReadProjectResponse { content: Some(content) }).await
}

async fn settings(snapshot: &dyn Snapshot, call: &Call) -> Result<pb::Settings> {
    let info = project_info_get(snapshot, call.project).await?;
    let pinned = pinned_get(snapshot, call.project).await?;
    let goals = metric_goals_list(snapshot, call.project).await?;
    let primary_metric = primary_metric_get(snapshot, call.project).await?.unwrap_or_default();
    let metric_goals = goals.into_iter().map(|(name, goal)| pb::MetricGoal {
        name,
        set: Some(goal_fields(goal.set)),
        defined: Some(goal_fields(goal.defined)),
    });
    Ok(pb::Settings {
        name: info.name,
        description: info.description,
        pinned: pinned.into_iter().map(Into::into).collect(),
        metric_goals: metric_goals.collect(),
        primary_metric,
    })
}

fn goal_fields(from: GoalFields) -> pb::GoalFields {
    pb::GoalFields {
        direction: direction_view(from.direction).into(),
        summary: summary_view(from.summary).into(),
        format: format_view(from.format).into(),
        unit: from.unit.unwrap_or_default(),
        x_axis: from.x_axis.unwrap_or_default(),
    }
}

async fn send_entities<E: Entity>(
    deps: &Deps,
    call: &Call,
    sender: &ProjectSender,
    view: impl Fn(E) -> (i64, i64, Kind),
) -> Result<(), StreamEnd> {
    let mut rest = Some(keys::entities(call.project, E::KIND));
    while let Some(page) = next_page::<E>(deps, call, &mut rest).await? {
        for (id, entity) in page {
            let (created_us, updated_us, kind) = view(entity);
            send_content(
                sender,
                Content::Entity(pb::Entity { id, created_us, updated_us, kind: Some(kind) }),
            )
            .await?;
        }
    }
    Ok(())
}

/// A page of about a megabyte, from its own snapshot: a slow client may read for longer than a
/// snapshot lives.
async fn next_page<E: Entity>(
    deps: &Deps,
    call: &Call,
    rest: &mut Option<Range>,
) -> Result<Option<Vec<(String, E)>>> {
    let Some(range) = rest.take() else { return Ok(None) };
    let (page, next) = entity_page(deps.store.snapshot().await?.as_ref(), call.project, &range).await?;
    *rest = next;
    Ok(Some(page))
}

/// Sends the notes, except the notes of deleted runs and experiments, whose rows await removal.
async fn notes(deps: &Deps, call: &Call, sender: &ProjectSender) -> Result<(), StreamEnd> {
    let mut rest = Some(keys::entities(call.project, Note::KIND));
    while let Some(page) = next_page::<Note>(deps, call, &mut rest).await? {
        for (id, note) in page {
            let owner = owner(deps.store.snapshot().await?.as_ref(), call, &note.owner).await?;
            if let Some(owner) = owner {
                let kind = Some(Kind::Note(pb::Note { content: note.content, owner: Some(owner) }));
                let created_us = note.created_us;
                let updated_us = note.updated_us;
                send_content(sender, Content::Entity(pb::Entity { id, created_us, updated_us, kind }))
                    .await?;
            }
        }
    }
    Ok(())
}

async fn owner(snapshot: &dyn Snapshot, call: &Call, owner: &NoteOwner) -> Result<Option<pb::note::Owner>> {
    match owner {
        NoteOwner::Run(number) => {
            let number = RunNumber(*number);
            let Some(id) = run_id_get(snapshot, call.project, number).await? else { return Ok(None) };
            let is_live = head_live(snapshot, call.project, &id).await? == Some(number);
            Ok(is_live.then(|| pb::note::Owner::RunId(id.as_str().to_owned())))
        }
        NoteOwner::Experiment(id) => {
            let experiment: Option<Experiment> = entity_get(snapshot, call.project, id).await?;
            Ok(experiment.map(|experiment| {
                pb::note::Owner::Experiment(pb::Link { id: id.clone(), name: experiment.name })
            }))
        }
    }
}

async fn tombstones(deps: &Deps, call: &Call, sender: &ProjectSender) -> Result<(), StreamEnd> {
    let mut rest = Some(keys::tombstones(call.project));
    while let Some(range) = rest {
        let snapshot = deps.store.snapshot().await?;
        let page = tombstones_list(snapshot.as_ref(), call.project, &range).await?;
        let mut views = Vec::with_capacity(page.tombstones.len());
        for (id, tombstone) in &page.tombstones {
            views.push(view(snapshot.as_ref(), call, id, tombstone).await?);
        }
        drop(snapshot);
        for tombstone in views {
            send_content(sender, Content::Tombstone(tombstone)).await?;
        }
        rest = page.rest;
    }
    Ok(())
}

async fn view(
    snapshot: &dyn Snapshot,
    call: &Call,
    id: &RunId,
    tombstone: &Tombstone,
) -> Result<pb::Tombstone> {
    let cursor = cursor_get(snapshot, call.project, id).await?;
    Ok(pb::Tombstone {
        run_id: id.as_str().to_owned(),
        at: Some(position_view(tombstone.at)),
        deleted_us: tombstone.deleted_us,
        cursor: cursor.map(log_positions::cursor_view),
    })
}

fn experiment(from: Experiment) -> (i64, i64, Kind) {
    let Experiment { created_us, updated_us, name, description, archived } = from;
    (created_us, updated_us, Kind::Experiment(pb::Experiment { name, description, archived }))
}

fn tag(from: Tag) -> (i64, i64, Kind) {
    let Tag { created_us, updated_us, name, color, description, archived } = from;
    (created_us, updated_us, Kind::Tag(pb::Tag { name, color, description, archived }))
}

fn dashboard(from: Dashboard) -> (i64, i64, Kind) {
    let Dashboard { created_us, updated_us, name, description, archived, app_id } = from;
    (created_us, updated_us, Kind::Dashboard(pb::Dashboard { name, description, archived, app_id }))
}

fn app(from: App) -> (i64, i64, Kind) {
    let App { created_us, updated_us, app_type, state, dashboard_id } = from;
    (created_us, updated_us, Kind::App(pb::App { r#type: app_type, state: state.into(), dashboard_id }))
}

fn report(from: Report) -> (i64, i64, Kind) {
    let Report { created_us, updated_us, name, code, description } = from;
    (created_us, updated_us, Kind::Report(pb::Report { name, code, description }))
}

fn document(from: Document) -> (i64, i64, Kind) {
    let Document { created_us, updated_us, content, is_counted: _ } = from;
    (created_us, updated_us, Kind::Document(pb::Document { content: content.into() }))
}
