//! The run of a trial, and the parts of the trial that the run shows. Params are `hparams.*`, as the callback of the
//! Python package has them, and the rest is `optuna.*`. Values that are too large to be shown stay with the study
//! only.

use std::sync::Arc;

use matyan_model::{
    change::change_put,
    entity::{EntityError, Experiment, entity_find_or_create, entity_load},
    ids::{Project, RunId, RunNumber},
    keys::{self, AttributeKind},
    project_quota::ProjectQuotas,
    run::{Outcome, OutcomeKind, RunEdit, run_create},
    study::{Study, Trial, TrialRun, TrialState, study_put},
};
use matyan_store::{Result as StoreResult, Transaction};
use matyan_value::{Map, Value, cbor, json};
use matyan_wire::project_quota::QuotaExceeded;

use super::{convert::TrialContent, distribution::Distribution};
use crate::server::{
    call::Call,
    error::{Error, Result},
    metrics::Metrics,
    quota,
};

/// Largest encoded attribute that a run shows.
const ATTRIBUTE_BYTES: usize = 16 << 10;

/// Size of the params of a run above which nothing more is added to them.
const RUN_BYTES: usize = 256 << 10;

/// Largest head of an encoded text or map.
const HEAD_BYTES: usize = 9;

/// Size of the maps that contain shown values, with their keys: `hparams`, `optuna` and `user_attrs`.
const INNER_MAPS_BYTES: usize = 100;

/// The values of a call that are the same for each attempt of its transaction.
pub(super) struct CallValues {
    pub(super) now: i64,
    /// Ids for a new experiment and a new run.
    pub(super) new_experiment: String,
    pub(super) new_run: String,
    pub(super) quotas: Arc<ProjectQuotas>,
    pub(super) metrics: Metrics,
}

/// The id of the experiment with the name of a study. The experiment is created if it does not exist.
pub(super) async fn named_experiment(
    transaction: &mut Transaction,
    project: Project,
    name: &str,
    (new_id, now): (&str, i64),
) -> Result<String> {
    let entity =
        Experiment { created_us: now, updated_us: now, name: name.to_owned(), ..Experiment::default() };
    Ok(entity_find_or_create(transaction, project, &entity, new_id).await?)
}

/// The id of the experiment of a study. If the experiment was deleted, the study gets another experiment. The
/// transaction fails if the experiment is deleted before the commit, because the sweep of the experiment may not see
/// a run that is linked to it later.
async fn experiment_of_study(
    transaction: &mut Transaction,
    project: Project,
    (number, study): (u32, &Study),
    values: &CallValues,
) -> Result<String> {
    match entity_load::<Experiment>(transaction, project, &study.experiment).await {
        Ok(_) => return Ok(study.experiment.clone()),
        Err(EntityError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let new = (values.new_experiment.as_str(), values.now);
    let experiment = named_experiment(transaction, project, &study.name, new).await?;
    let study = Study { experiment: experiment.clone(), ..study.clone() };
    study_put(transaction.batch(), project, number, &study);
    Ok(experiment)
}

/// Checks that the project of a call has room for the run of another trial.
pub(super) async fn check_quotas(transaction: &Transaction, call: &Call, values: &CallValues) -> Result<()> {
    let exceeded = quota::exceeded(&values.quotas, transaction, call).await?;
    let Some(exceeded) = exceeded else { return Ok(()) };
    let refusal = QuotaExceeded::new(&call.project_name, exceeded);
    values.metrics.count_refused_trial(&refusal);
    Err(Error::QuotaExceeded(refusal))
}

/// Creates the run of a trial that has started or ended, and returns its link.
pub(super) async fn create(
    transaction: &mut Transaction,
    call: &Call,
    (study_number, study): (u32, &Study),
    (number, trial, content): (u32, &Trial, &TrialContent),
    values: &CallValues,
) -> Result<TrialRun> {
    let experiment = experiment_of_study(transaction, call.project, (study_number, study), values).await?;
    let id = RunId::new(values.new_run.as_str());
    if transaction.get(&keys::head(call.project, &id)).await?.is_some() {
        return Err(Error::AlreadyExists { resource: "run", name: values.new_run.clone() });
    }
    // A trial of another storage has the times of that storage.
    let created_us = trial.started_us.unwrap_or(values.now).min(values.now);
    let mut edit = run_create(transaction, call.project, &id, created_us).await?;
    edit.props.set_created(created_us);
    edit.props.name = format!("trial-{number}");
    edit.props.client = Some("Optuna".to_owned());
    edit.props.experiment = Some(experiment);
    set_state(&mut edit, trial, values.now);
    let shown = shown_content(content);
    let mut about = about(study_number, study, number);
    about.extend(shown_state(trial));
    let user = shown.attributes;
    let tree = edit.params(transaction.unchecked()).await?;
    tree.insert("optuna".to_owned(), Value::Map(about));
    let mut params = ShownParams::new(tree);
    for (name, value) in shown.params {
        params.show(&["hparams", &name], value);
    }
    for (key, value) in user {
        params.show(&["optuna", "user_attrs", &key], value);
    }
    let run = edit.number();
    write(transaction, call, edit, values.now);
    Ok(TrialRun { number: run.0, id: values.new_run.clone() })
}

/// Loads the run of a trial to change the shown values; `None` if the run has been deleted. A run in the bin is
/// changed as well, because it may come back.
pub(super) async fn load(transaction: &Transaction, call: &Call, run: &TrialRun) -> Result<Option<RunEdit>> {
    let edit = RunEdit::load(transaction, call.project, RunNumber(run.number)).await?;
    Ok(edit.filter(|edit| !edit.props.is_deleted()))
}

/// Writes a changed run.
pub(super) fn write(transaction: &mut Transaction, call: &Call, mut edit: RunEdit, now: i64) {
    let number = edit.number();
    edit.touch(now);
    edit.write(transaction.batch());
    change_put(transaction.batch(), call.project, number, now, &call.caller);
}

/// Shows a param of a trial.
pub(super) async fn show_param(
    edit: &mut RunEdit,
    transaction: &Transaction,
    name: &str,
    value: Value,
) -> StoreResult<()> {
    let tree = edit.params(transaction.unchecked()).await?;
    ShownParams::new(tree).show(&["hparams", name], value);
    Ok(())
}

/// Shows an attribute that a user has set, as its JSON defines it.
pub(super) async fn show_attribute(
    edit: &mut RunEdit,
    transaction: &Transaction,
    key: &str,
    value: &str,
) -> StoreResult<()> {
    let tree = edit.params(transaction.unchecked()).await?;
    let path = ["optuna", "user_attrs", key];
    match shown_attribute(value) {
        Some(value) => ShownParams::new(tree).show(&path, value),
        // The earlier value is not shown any more.
        None => drop(hide(tree, &path)),
    }
    Ok(())
}

/// Shows the state and the values of a trial.
pub(super) async fn show_state(
    edit: &mut RunEdit,
    transaction: &Transaction,
    trial: &Trial,
    now: i64,
) -> StoreResult<()> {
    set_state(edit, trial, now);
    let mut params = ShownParams::new(edit.params(transaction.unchecked()).await?);
    for (key, value) in shown_state(trial) {
        params.show(&["optuna", &key], value);
    }
    Ok(())
}

/// Sets the properties that follow from the state.
fn set_state(edit: &mut RunEdit, trial: &Trial, now: i64) {
    let props = &mut edit.props;
    let outcome = |kind, message: &str| Some(Outcome { kind, message: message.to_owned() });
    props.active = trial.state == TrialState::Running;
    props.is_given_up = false;
    if props.active {
        props.reopened_us = Some(now);
    }
    let finished_us = trial.finished_us.unwrap_or(now).clamp(props.created_us, now.max(props.created_us));
    props.finalized_us = trial.state.is_finished().then_some(finished_us);
    props.outcome = match trial.state {
        TrialState::Waiting | TrialState::Running => None,
        TrialState::Complete => outcome(OutcomeKind::Finished, ""),
        TrialState::Pruned => outcome(OutcomeKind::Finished, "pruned"),
        TrialState::Failed => outcome(OutcomeKind::Failed, ""),
    };
}

/// The params of a run that show its study.
fn about(study_number: u32, study: &Study, number: u32) -> Map {
    Map::from([
        ("study".to_owned(), Value::Text(study.name.clone())),
        ("study_id".to_owned(), Value::Integer(study_number.into())),
        ("number".to_owned(), Value::Integer(number.into())),
    ])
}

/// The state and the values of a trial: one value is `value`, several are `value_0`, `value_1`, ….
fn shown_state(trial: &Trial) -> Map {
    let state = match trial.state {
        TrialState::Waiting => "waiting",
        TrialState::Running => "running",
        TrialState::Complete => "complete",
        TrialState::Pruned => "pruned",
        TrialState::Failed => "failed",
    };
    let mut shown = Map::from([("state".to_owned(), Value::Text(state.to_owned()))]);
    match trial.values.as_slice() {
        [value] => {
            shown.insert("value".to_owned(), Value::Float(*value));
        }
        values => {
            let named = values.iter().enumerate();
            shown.extend(named.map(|(at, value)| (format!("value_{at}"), Value::Float(*value))));
        }
    }
    shown
}

/// The params of a run that show the content of its trial.
struct ShownContent {
    params: Vec<(String, Value)>,
    attributes: Vec<(String, Value)>,
}

fn shown_content(content: &TrialContent) -> ShownContent {
    let params = content.params.iter().filter_map(|(name, param)| {
        // The attribute was checked when it was set.
        let value = Distribution::parse(&param.distribution).and_then(|of| of.value(param.value)).ok()?;
        Some((name.clone(), value))
    });
    let user = content.attributes.iter().filter(|(kind, ..)| *kind == AttributeKind::User);
    let attributes =
        user.filter_map(|(_, key, value)| shown_attribute(value).map(|value| (key.clone(), value)));
    ShownContent { params: params.collect(), attributes: attributes.collect() }
}

fn shown_attribute(text: &str) -> Option<Value> {
    if text.len() > ATTRIBUTE_BYTES { None } else { json::parse(text).ok() }
}

/// The params of a run, to which values are added. Their size is counted, and not measured for each value, because a
/// trial may have thousands of attributes.
struct ShownParams<'t> {
    tree: &'t mut Map,
    /// Upper bound of the encoded size.
    bytes: usize,
}

impl<'t> ShownParams<'t> {
    fn new(tree: &'t mut Map) -> Self {
        let bytes = cbor::encode_map(tree).len() + INNER_MAPS_BYTES;
        Self { tree, bytes }
    }

    /// Sets the value at a path, unless the params would become too large.
    fn show(&mut self, path: &[&str], value: Value) {
        if let Some(before) = hide(self.tree, path) {
            self.bytes = self.bytes.saturating_sub(cbor::encode(&before).len());
        }
        let (last, inner) = path.split_last().expect("a path has a key");
        let added = last.len() + cbor::encode(&value).len() + HEAD_BYTES;
        if self.bytes + added > RUN_BYTES {
            return;
        }
        self.bytes += added;
        inner_map(self.tree, inner).insert((*last).to_owned(), value);
    }
}

/// The map at a path. A value that is not a map becomes a map: someone has edited the params.
fn inner_map<'t>(mut tree: &'t mut Map, path: &[&str]) -> &'t mut Map {
    for key in path {
        let value = tree.entry((*key).to_owned()).or_insert(Value::Null);
        if !matches!(value, Value::Map(_)) {
            *value = Value::Map(Map::new());
        }
        match value {
            Value::Map(inner) => tree = inner,
            _ => unreachable!("it was made a map above"),
        }
    }
    tree
}

/// Removes the value at a path, and returns it.
fn hide(tree: &mut Map, path: &[&str]) -> Option<Value> {
    match path {
        [] => None,
        [last] => tree.remove(*last),
        [first, rest @ ..] => match tree.get_mut(*first) {
            Some(Value::Map(inner)) => hide(inner, rest),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use matyan_model::{
        entity::{entity_create, entity_delete},
        study::Direction,
    };
    use matyan_store::{Commit, Store as _, embedded::EmbeddedStore, transact};

    use super::*;

    const P: Project = Project(0);

    #[tokio::test]
    async fn a_trial_does_not_start_in_an_experiment_that_is_deleted_concurrently() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
        let experiment = Experiment { name: "s".into(), ..Experiment::default() };
        let create = async |mut transaction: Transaction| {
            entity_create(&mut transaction, P, "e", &experiment).await?;
            Ok::<_, Error>((transaction, ()))
        };
        transact(&store, create).await.unwrap();
        let study = Study {
            name: "s".into(),
            directions: vec![Direction::Minimize],
            created_us: 1,
            experiment: "e".into(),
        };
        let values = CallValues {
            now: 1,
            new_experiment: "new".into(),
            new_run: "r".into(),
            quotas: Arc::default(),
            metrics: Metrics::new(&prometheus::Registry::new()).unwrap(),
        };
        let mut transaction = Transaction::new(store.snapshot().await.unwrap());
        let found = experiment_of_study(&mut transaction, P, (1, &study), &values).await.unwrap();
        assert_eq!(found, "e");
        let delete = async |mut transaction: Transaction| {
            entity_delete::<Experiment>(&mut transaction, P, "e").await?;
            Ok::<_, Error>((transaction, ()))
        };
        transact(&store, delete).await.unwrap();
        study_put(transaction.batch(), P, 1, &study);
        let committed = store.commit(transaction.into_batch()).await.unwrap();
        assert!(matches!(committed, Commit::Conflict));
        store.close().await.unwrap();
    }

    fn map(text: &str) -> Map {
        match json::parse(text).unwrap() {
            Value::Map(map) => map,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_shown_value_replaces_the_earlier_value() {
        let mut tree = map(r#"{"optuna": {"user_attrs": {"a": {"x": 1}}}, "hparams": 5}"#);
        let mut params = ShownParams::new(&mut tree);
        params.show(&["optuna", "user_attrs", "a"], Value::Map(map(r#"{"y": 2}"#)));
        params.show(&["hparams", "lr"], Value::Float(0.5));
        assert_eq!(tree, map(r#"{"optuna": {"user_attrs": {"a": {"y": 2}}}, "hparams": {"lr": 0.5}}"#));
    }

    #[test]
    fn values_that_are_too_large_are_not_shown() {
        let mut tree = map(r#"{"optuna": {"user_attrs": {"a": 1}}}"#);
        let large = Value::Text("x".repeat(RUN_BYTES));
        ShownParams::new(&mut tree).show(&["optuna", "user_attrs", "a"], large);
        assert_eq!(tree, map(r#"{"optuna": {"user_attrs": {}}}"#), "an old value would be wrong");
        assert_eq!(shown_attribute(&format!("\"{}\"", "x".repeat(ATTRIBUTE_BYTES))), None);
        assert_eq!(shown_attribute("NaN"), Some(Value::Float(f64::NAN)));
    }

    #[test]
    fn the_size_of_shown_values_is_counted() {
        let mut tree = Map::new();
        let mut params = ShownParams::new(&mut tree);
        let text = |length: usize| Value::Text("x".repeat(length));
        for number in 0..10_000 {
            let key = number.to_string();
            params.show(&["optuna", "user_attrs", &key], text(number % 100));
            params.show(&["hparams", &key], text(1));
            // A replaced value does not count any more.
            params.show(&["hparams", &key], text(2));
        }
        let counted = params.bytes;
        let bytes = cbor::encode_map(&tree).len();
        assert!(bytes <= counted && counted <= RUN_BYTES, "{bytes} bytes, {counted} counted");
        assert!(bytes > RUN_BYTES / 2, "{bytes} bytes");
    }

    #[test]
    fn several_values_have_different_names() {
        let trial = |values: &[f64]| Trial {
            state: TrialState::Complete,
            values: values.to_vec(),
            started_us: None,
            finished_us: None,
            run: None,
        };
        let text = |trial: &Trial| json::map_text(&shown_state(trial), json::JsonStyle::STRICT);
        assert_eq!(text(&trial(&[])), r#"{"state":"complete"}"#);
        assert_eq!(text(&trial(&[1.5])), r#"{"state":"complete","value":1.5}"#);
        assert_eq!(text(&trial(&[1.5, 2.5])), r#"{"state":"complete","value_0":1.5,"value_1":2.5}"#);
    }
}
