//! Backup and restore of studies. A study is restored under its own number, because clients know their trials by it. Its
//! rows are invisible until the last one links them, so an interrupted restore leaves nothing that can be seen. If it is
//! not continued, a job clears its rows.

use matyan_model::{
    entity::{Experiment, entity_get},
    ids::RunId,
    keys::{self, AttributeKind},
    run::head_live,
    study::{
        MAX_NUMBER, Study, StudyPlace, Trial, TrialEntry, TrialRun, distribution_load, distribution_put,
        intermediate_value_put, studies_page, study_attribute_put, study_attributes_page, study_link,
        study_reserve, trial_attribute_put, trial_count, trial_entries_page, trial_param_put, trial_put,
        trials_get,
    },
};
use matyan_proto::{
    backup::v1::{self as pb, study_part::Content},
    limits,
    studies::v1 as studies,
};
use matyan_store::{Range, Transaction, transact};

use super::finish::find_linked;
use crate::{
    server::{
        call::Call,
        convert::{bounded_text, check_limit},
        deps::Deps,
        error::{Error, Result},
        stream::{Sender, StreamEnd},
    },
    studies::{
        TrialContent, TrialMessage, attribute_kind, check_attribute, content_of_part, directions, study_view,
    },
};

/// Trials whose existence is checked together.
const PAGE_TRIALS: u32 = 1_000;

/// Bytes that entries of a trial count together in a transaction, unless there is only one: far less than the limit.
const GROUP_BYTES: usize = 1 << 20;

/// Bytes that an entry counts in addition to its name and its content.
const ENTRY_BYTES: usize = 1 << 10;

/// Times that the name of an entry counts: it is in a range that is cleared and in a key that is set, and each of them
/// counts several times.
const NAME_COPIES: usize = 8;

type PartSender = Sender<pb::ReadProjectResponse>;

/// Sends all studies, each with its attributes and trials first.
pub(super) async fn send(deps: &Deps, call: &Call, sender: &PartSender) -> Result<(), StreamEnd> {
    let mut rest = Some(keys::studies(call.project));
    while let Some(range) = rest {
        let (page, next) = studies_page(deps.store.snapshot().await?.as_ref(), call.project, &range).await?;
        for (number, study) in page {
            send_study(deps, call, (number, study), sender).await?;
        }
        rest = next;
    }
    Ok(())
}

async fn send_study(
    deps: &Deps,
    call: &Call,
    (number, study): (u32, Study),
    sender: &PartSender,
) -> Result<(), StreamEnd> {
    let snapshot = deps.store.snapshot().await?;
    // Trials that are added from now on are not in the backup, so that their numbers have no gaps in it.
    let trials = trial_count(snapshot.as_ref(), call.project, number).await?;
    let experiment: Option<Experiment> =
        entity_get(snapshot.as_ref(), call.project, &study.experiment).await?;
    drop(snapshot);
    for kind in AttributeKind::ALL {
        send_attributes(deps, call, (number, kind), sender).await?;
    }
    send_trials(deps, call, (number, trials), sender).await?;
    let experiment =
        pb::Link { id: study.experiment.clone(), name: experiment.map(|it| it.name).unwrap_or_default() };
    let view = study_view(number, study, trials);
    let description = pb::StudyDescription {
        name: view.name,
        directions: view.directions,
        created_us: view.created_us,
        experiment: Some(experiment),
        trial_count: trials,
    };
    send_part(sender, number, Content::Study(description)).await
}

async fn send_part(sender: &PartSender, study_id: u32, content: Content) -> Result<(), StreamEnd> {
    let part = pb::StudyPart { study_id, content: Some(content) };
    let content = Some(pb::read_project_response::Content::Study(part));
    sender.send(pb::ReadProjectResponse { content }).await
}

async fn send_attributes(
    deps: &Deps,
    call: &Call,
    (number, kind): (u32, AttributeKind),
    sender: &PartSender,
) -> Result<(), StreamEnd> {
    let shown = match kind {
        AttributeKind::User => studies::AttributeKind::User,
        AttributeKind::System => studies::AttributeKind::System,
    };
    let mut rest = Some(keys::study_attributes(call.project, number, kind));
    while let Some(range) = rest {
        let snapshot = deps.store.snapshot().await?;
        let (page, next) =
            study_attributes_page(snapshot.as_ref(), call.project, (number, kind), &range).await?;
        drop(snapshot);
        for (key, value) in page {
            let attribute = Some(studies::Attribute { key, value });
            let attribute = pb::StudyAttribute { kind: shown.into(), attribute };
            send_part(sender, number, Content::Attribute(attribute)).await?;
        }
        rest = next;
    }
    Ok(())
}

async fn send_trials(
    deps: &Deps,
    call: &Call,
    (number, trials): (u32, u32),
    sender: &PartSender,
) -> Result<(), StreamEnd> {
    let start = keys::trials(call.project, number).start;
    let end = keys::trials_from(call.project, number, trials).start;
    let mut rest = Some(Range::new(start, end));
    let mut message = TrialMessage::default();
    while let Some(range) = rest {
        let snapshot = deps.store.snapshot().await?;
        let (page, next) = trial_entries_page(snapshot.as_ref(), call.project, number, &range).await?;
        drop(snapshot);
        for (trial, entry) in page {
            message.add(trial, entry);
            if message.is_full() {
                send_message(sender, number, &mut message).await?;
            }
        }
        rest = next;
    }
    send_message(sender, number, &mut message).await
}

async fn send_message(sender: &PartSender, number: u32, message: &mut TrialMessage) -> Result<(), StreamEnd> {
    for trial in message.take() {
        send_part(sender, number, Content::Trial(trial)).await?;
    }
    Ok(())
}

/// Restores a part of a study. Returns whether a study was made or kept, if the part is the last one.
pub(super) async fn restore(deps: &Deps, call: &Call, part: pb::StudyPart) -> Result<Option<bool>> {
    let number = part.study_id;
    if !(1..=MAX_NUMBER).contains(&number) {
        return Err(Error::field("study_id", format!("is {number}: use 1 to {MAX_NUMBER}")));
    }
    match part
        .content
        .ok_or_else(|| Error::field("studies.content", "is missing or not supported by this server"))?
    {
        Content::Attribute(attribute) => attribute_restore(deps, call, number, attribute).await?,
        Content::Trial(trial) => trial_restore(deps, call, number, trial).await?,
        Content::Study(study) => return link(deps, call, number, study).await.map(Some),
    }
    Ok(None)
}

async fn attribute_restore(
    deps: &Deps,
    call: &Call,
    number: u32,
    attribute: pb::StudyAttribute,
) -> Result<()> {
    let kind = attribute_kind(attribute.kind)?;
    let attribute = attribute.attribute.unwrap_or_default();
    check_attribute(&attribute.key, &attribute.value)?;
    let now = (deps.clock)();
    transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        // The commit that links the study makes this one durable.
        transaction.set_buffered();
        if reserve(&mut transaction, call, number, now).await? {
            let text = (attribute.key.as_str(), attribute.value.as_str());
            study_attribute_put(transaction.batch(), call.project, number, kind, text);
        }
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(())
}

async fn trial_restore(deps: &Deps, call: &Call, number: u32, part: studies::Trial) -> Result<()> {
    let trial = part.number;
    if trial >= MAX_NUMBER {
        return Err(Error::field("trial.number", format!("is {trial}: use less than {MAX_NUMBER}")));
    }
    let run = run_link(deps, call, &part.run_id).await?;
    let (state, content) = content_of_part(part)?;
    let state = state.map(|state| Trial { run, ..state });
    // Its rows are not visible yet, so they need not be written together, which would be more than a transaction can
    // have.
    for group in entry_groups(state, content) {
        if !entries_restore(deps, call, (number, trial), &group).await? {
            break;
        }
    }
    Ok(())
}

/// The entries of a part of a trial, in groups that each fit in a transaction.
fn entry_groups(state: Option<Trial>, content: TrialContent) -> Vec<Vec<TrialEntry>> {
    let TrialContent { params, attributes, intermediate_values } = content;
    let params = params.into_iter().map(|(name, param)| TrialEntry::Param { name, param });
    let attributes =
        attributes.into_iter().map(|(kind, name, value)| TrialEntry::Attribute { kind, name, value });
    let values =
        intermediate_values.into_iter().map(|(step, value)| TrialEntry::IntermediateValue { step, value });
    let mut groups = Vec::new();
    let mut group = Vec::new();
    let mut bytes = 0;
    for entry in state.map(TrialEntry::State).into_iter().chain(params).chain(attributes).chain(values) {
        let size = entry_bytes(&entry);
        if bytes + size > GROUP_BYTES && !group.is_empty() {
            groups.push(std::mem::take(&mut group));
            bytes = 0;
        }
        bytes += size;
        group.push(entry);
    }
    groups.push(group);
    groups
}

/// About what an entry counts in a transaction.
fn entry_bytes(entry: &TrialEntry) -> usize {
    let content = match entry {
        TrialEntry::State(_) | TrialEntry::IntermediateValue { .. } => 0,
        TrialEntry::Param { name, param } => 2 * (NAME_COPIES * name.len() + param.distribution.len()),
        TrialEntry::Attribute { name, value, .. } => NAME_COPIES * name.len() + value.len(),
    };
    ENTRY_BYTES + content
}

/// Writes some entries of a trial. Returns `false` if there is a study with this number, which is kept.
async fn entries_restore(deps: &Deps, call: &Call, id: (u32, u32), entries: &[TrialEntry]) -> Result<bool> {
    let now = (deps.clock)();
    let (is_free, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        transaction.set_buffered();
        let is_free = reserve(&mut transaction, call, id.0, now).await?;
        if is_free {
            for entry in entries {
                entry_restore(&mut transaction, call, id, entry).await?;
            }
        }
        Ok::<_, Error>((transaction, is_free))
    })
    .await?;
    Ok(is_free)
}

async fn entry_restore(
    transaction: &mut Transaction,
    call: &Call,
    id: (u32, u32),
    entry: &TrialEntry,
) -> Result<()> {
    let project = call.project;
    match entry {
        TrialEntry::State(trial) => trial_put(transaction.batch(), project, id, trial),
        TrialEntry::Param { name, param } => {
            // The trials are in the order of their numbers, so the first one decides, as it did before.
            if distribution_load(transaction, project, id.0, name).await?.is_none() {
                distribution_put(transaction.batch(), project, id.0, name, &param.distribution);
            }
            trial_param_put(transaction.batch(), project, id, name, param);
        }
        TrialEntry::Attribute { kind, name, value } => {
            trial_attribute_put(transaction.batch(), project, id, *kind, (name.as_str(), value.as_str()));
        }
        TrialEntry::IntermediateValue { step, value } => {
            intermediate_value_put(transaction.batch(), project, id, *step, *value);
        }
    }
    Ok(())
}

/// The run of a trial. A run that is not here has been deleted, and has a number that no run has.
async fn run_link(deps: &Deps, call: &Call, run_id: &str) -> Result<Option<TrialRun>> {
    if run_id.is_empty() {
        return Ok(None);
    }
    check_limit("trial.run_id", run_id.len(), limits::RUN_ID_BYTES)?;
    let id = RunId::new(run_id);
    let number = head_live(deps.store.snapshot().await?.as_ref(), call.project, &id).await?;
    Ok(Some(TrialRun { number: number.unwrap_or_default().0, id: id.as_str().to_owned() }))
}

/// Makes a restored study visible. Returns `false` if a study with its number or its name was here before.
async fn link(deps: &Deps, call: &Call, number: u32, study: pb::StudyDescription) -> Result<bool> {
    let name = bounded_text("study.name", &study.name, limits::NAME_BYTES)?;
    if name.is_empty() {
        return Err(Error::field("study.name", "is empty"));
    }
    let directions = directions(&study.directions)?;
    let experiment = study.experiment.unwrap_or_default();
    let created_us = study.created_us;
    let trials = study.trial_count;
    if !is_free(deps, call, number).await? {
        return Ok(false);
    }
    check_complete(deps, call, number, trials).await?;
    let now = (deps.clock)();
    let (is_made, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        if !reserve(&mut transaction, call, number, now).await? {
            return Ok((transaction, false));
        }
        // Without its experiment, the study gets one with its name when the next trial starts.
        let found = find_linked::<Experiment>(&transaction, call, &experiment).await?;
        let study = Study {
            name: name.clone(),
            directions: directions.clone(),
            created_us,
            experiment: found.unwrap_or_default(),
        };
        let is_made = study_link(&mut transaction, call.project, number, &study, trials).await?;
        Ok::<_, Error>((transaction, is_made))
    })
    .await?;
    Ok(is_made)
}

/// Whether the rows of this restore are the only rows of the study.
async fn is_free(deps: &Deps, call: &Call, number: u32) -> Result<bool> {
    let now = (deps.clock)();
    let (is_free, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let is_free = reserve(&mut transaction, call, number, now).await?;
        Ok::<_, Error>((transaction, is_free))
    })
    .await?;
    Ok(is_free)
}

/// Prepares the number of a study. Returns `false` if there is a study with this number, which is kept.
async fn reserve(transaction: &mut Transaction, call: &Call, number: u32, now: i64) -> Result<bool> {
    match study_reserve(transaction, call.project, number, now).await? {
        StudyPlace::Free => Ok(true),
        StudyPlace::Taken => Ok(false),
        StudyPlace::Unswept => {
            Err(Error::Waiting("a study with this number was deleted, and its rows are not cleared yet"))
        }
    }
}

/// Refuses a study without one of its trials: their numbers have no gaps.
async fn check_complete(deps: &Deps, call: &Call, number: u32, trials: u32) -> Result<()> {
    let mut first = 0;
    while first < trials {
        let end = trials.min(first.saturating_add(PAGE_TRIALS));
        let snapshot = deps.store.snapshot().await?;
        let found = trials_get(snapshot.as_ref(), call.project, number, first..end).await?;
        if let Some((missing, _)) = (first..end).zip(&found).find(|(_, trial)| trial.is_none()) {
            let reason =
                format!("is {trials}, and trial {missing} was not restored: send it before the study");
            return Err(Error::field("study.trial_count", reason));
        }
        first = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use matyan_model::{
        ids::Project,
        study::{TrialParam, TrialState},
    };
    use matyan_store::Batch;

    use super::*;

    /// A part with as much as it can have, in rows that are as small or as large as they can be.
    #[test]
    fn a_part_is_written_in_transactions_that_fit() {
        const SMALL: usize = 3_000;
        const P: Project = Project(0);
        let name = |number: usize| format!("{number:01024}");
        let param = |bytes: usize| TrialParam { value: 1.0, distribution: "x".repeat(bytes), set_us: 1 };
        let attribute = |number: usize, bytes: usize| (AttributeKind::User, name(number), "x".repeat(bytes));
        let content = TrialContent {
            params: (0..SMALL)
                .map(|number| (name(number), param(1)))
                .chain([(name(SMALL), param(limits::STUDY_ATTRIBUTE_BYTES / 2))])
                .collect(),
            attributes: (0..SMALL)
                .map(|number| attribute(number, 1))
                .chain([attribute(SMALL, limits::STUDY_ATTRIBUTE_BYTES)])
                .collect(),
            intermediate_values: (0..SMALL).map(|step| (step as i64, 1.0)).collect(),
        };
        let state = Trial {
            state: TrialState::Complete,
            values: vec![1.0; limits::STUDY_DIRECTIONS],
            started_us: Some(1),
            finished_us: Some(2),
            run: Some(TrialRun { number: 1, id: "r".repeat(limits::RUN_ID_BYTES) }),
        };
        let groups = entry_groups(Some(state), content);
        assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), 1 + 3 * SMALL + 2);
        for group in &groups {
            let mut batch = Batch::default();
            for entry in group {
                match entry {
                    TrialEntry::State(trial) => trial_put(&mut batch, P, (1, 0), trial),
                    TrialEntry::Param { name, param } => {
                        distribution_put(&mut batch, P, 1, name, &param.distribution);
                        trial_param_put(&mut batch, P, (1, 0), name, param);
                    }
                    TrialEntry::Attribute { kind, name, value } => {
                        trial_attribute_put(&mut batch, P, (1, 0), *kind, (name.as_str(), value.as_str()));
                    }
                    TrialEntry::IntermediateValue { step, value } => {
                        intermediate_value_put(&mut batch, P, (1, 0), *step, *value);
                    }
                }
            }
            batch.validate().unwrap();
        }
    }
}
