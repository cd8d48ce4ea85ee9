//! Studies: numbers and states of trials under concurrency, and the runs that show them.

use std::collections::BTreeSet;

use matyan_model::{
    ids::Project,
    keys::{self, TrialPointKind},
    study::{UnloggedMark, unlogged_points_page},
};
use matyan_proto::{
    backup::v1::{
        self as backup, ReadProjectRequest, RestoreProjectRequest,
        backup_service_client::BackupServiceClient, read_project_response::Content, study_part,
    },
    common::v1::OutcomeKind,
    experiments::v1::{self as experiments, experiment_service_client::ExperimentServiceClient},
    runs::v1::{self as runs, run_service_client::RunServiceClient},
    search::v1::{Query, RunsRequest, search_service_client::SearchServiceClient},
    studies::v1::{study_service_client::StudyServiceClient, *},
};
use matyan_store::Store as _;
use matyan_value::{Value, cbor};
use tokio::task::JoinSet;
use tonic::{Code, service::Routes};

use crate::backend::{
    harness::{Harness, all, failure, not_found, wrong_field},
    projects::of,
};

type Client = StudyServiceClient<Routes>;

const FLOAT: &str =
    r#"{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 1.0, "log": false}}"#;
const LOG: &str =
    r#"{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.1, "high": 1.0, "log": true}}"#;
const CHOICES: &str = r#"{"name": "CategoricalDistribution", "attributes": {"choices": ["adam", "sgd"]}}"#;

async fn create_study(client: &mut Client, name: &str) -> Study {
    let directions = vec![Direction::Minimize.into()];
    let request = CreateRequest { name: name.to_owned(), directions };
    client.create(request).await.unwrap().into_inner().study.unwrap()
}

async fn create_trial(client: &mut Client, study_id: u32, template: Option<Trial>) -> u32 {
    client.create_trial(CreateTrialRequest { study_id, template }).await.unwrap().into_inner().number
}

fn waiting() -> Trial {
    Trial { state: TrialState::Waiting.into(), ..Trial::default() }
}

fn set_state(study_id: u32, number: u32, state: TrialState, values: &[f64]) -> SetTrialStateRequest {
    SetTrialStateRequest { study_id, number, state: state.into(), values: values.to_vec() }
}

fn set_param(study_id: u32, number: u32, name: &str, value: f64, of: &str) -> SetTrialParamRequest {
    let param = TrialParam { name: name.to_owned(), value, distribution: of.to_owned(), set_us: 0 };
    SetTrialParamRequest { study_id, number, param: Some(param) }
}

fn set_attribute(study_id: u32, number: u32, key: &str, value: &str) -> SetTrialAttributeRequest {
    let kind = AttributeKind::User.into();
    SetTrialAttributeRequest { study_id, number, kind, key: key.to_owned(), value: value.to_owned() }
}

fn set_value(study_id: u32, number: u32, step: i64, value: f64) -> SetTrialIntermediateValueRequest {
    SetTrialIntermediateValueRequest { study_id, number, step, value }
}

/// Trials by number, put together from their parts.
async fn list(client: &mut Client, request: ListTrialsRequest) -> Vec<Trial> {
    let mut trials: Vec<Trial> = Vec::new();
    for part in all(client.list_trials(request).await.unwrap()).await.into_iter().flat_map(|it| it.trials) {
        match trials.last_mut() {
            Some(last) if last.number == part.number => {
                last.params.extend(part.params);
                last.user_attributes.extend(part.user_attributes);
                last.system_attributes.extend(part.system_attributes);
                last.intermediate_values.extend(part.intermediate_values);
            }
            _ => trials.push(part),
        }
    }
    trials
}

async fn trial(client: &mut Client, study_id: u32, number: u32) -> Trial {
    let request =
        ListTrialsRequest { study_id, numbers: vec![number], only_numbers: true, ..Default::default() };
    list(client, request).await.pop().unwrap()
}

/// The run of a trial with its params.
async fn run(harness: &Harness, run_id: &str) -> (runs::Props, Value) {
    let parts = Some(runs::RunParts { props: true, params: true, ..Default::default() });
    let request = runs::GetRequest { run_id: run_id.to_owned(), parts };
    let mut client = RunServiceClient::new(harness.routes());
    let run = client.get(request).await.unwrap().into_inner().run.unwrap();
    (run.props.unwrap(), cbor::decode(&run.params).unwrap())
}

/// The number of runs that match a query.
async fn matches(harness: &Harness, text: &str) -> usize {
    let query = Some(Query { text: text.to_owned(), ..Query::default() });
    let request = RunsRequest { query, ids_only: true, ..RunsRequest::default() };
    let found = all(SearchServiceClient::new(harness.routes()).runs(request).await.unwrap()).await;
    found.into_iter().map(|message| message.run_ids.len()).sum()
}

#[tokio::test]
async fn a_trial_is_a_run_of_the_experiment_of_its_study() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let study = create_study(&mut client, "tuning").await;
    let id = study.study_id;
    let number = create_trial(&mut client, id, None).await;
    client.set_trial_param(set_param(id, number, "lr", 0.25, FLOAT)).await.unwrap();
    client.set_trial_param(set_param(id, number, "optimizer", 1.0, CHOICES)).await.unwrap();
    client.set_trial_attribute(set_attribute(id, number, "host", r#"{"name": "a"}"#)).await.unwrap();
    for (step, value) in [(0, 3.0), (5, f64::INFINITY), (5, 2.0)] {
        client.set_trial_intermediate_value(set_value(id, number, step, value)).await.unwrap();
    }
    let run_id = trial(&mut client, id, number).await.run_id;
    let (props, _) = run(&harness, &run_id).await;
    assert!(props.active);
    assert_eq!((props.name.as_str(), props.experiment.unwrap().id), ("trial-0", study.experiment_id.clone()));
    client.set_trial_state(set_state(id, number, TrialState::Complete, &[0.5])).await.unwrap();
    let (props, params) = run(&harness, &run_id).await;
    assert_eq!((props.active, props.outcome.unwrap().kind()), (false, OutcomeKind::Finished));
    let expected = r#"{"hparams": {"lr": 0.25, "optimizer": "sgd"}, "optuna": {"study": "tuning", "study_id": 1,
        "number": 0, "state": "complete", "value": 0.5, "user_attrs": {"host": {"name": "a"}}}}"#;
    assert_eq!(params, matyan_value::json::parse(expected).unwrap());
    harness.applied().await;
    for query in [
        "run.experiment == 'tuning' and run.hparams.lr < 0.3",
        "run.optuna.value == 0.5 and run.optuna.state == 'complete'",
        "run.metrics['intermediate_value'].last == 2.0",
        "run.metrics['value'].last == 0.5",
    ] {
        assert_eq!(matches(&harness, query).await, 1, "{query}");
    }
    // A trial whose run was deleted goes on without it.
    let other = create_trial(&mut client, id, None).await;
    let run_id = trial(&mut client, id, other).await.run_id;
    RunServiceClient::new(harness.routes()).delete(runs::DeleteRequest { run_id }).await.unwrap();
    client.set_trial_param(set_param(id, other, "lr", 0.5, FLOAT)).await.unwrap();
    client.set_trial_intermediate_value(set_value(id, other, 0, 1.0)).await.unwrap();
    client.set_trial_state(set_state(id, other, TrialState::Failed, &[])).await.unwrap();
    harness.applied().await;
    assert_eq!(trial(&mut client, id, other).await.params[0].value, 0.5);
    assert_eq!(matches(&harness, "run.experiment == 'tuning'").await, 1);
    harness.end().await;
}

#[tokio::test]
async fn rule_107_a_trial_writes_to_its_run_in_the_bin() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let id = create_study(&mut client, "tuning").await.study_id;
    let number = create_trial(&mut client, id, None).await;
    let run_id = trial(&mut client, id, number).await.run_id;
    let mut run_client = RunServiceClient::new(harness.routes());
    run_client.bin_batch(runs::BinBatchRequest { run_ids: vec![run_id.clone()] }).await.unwrap();
    client.set_trial_param(set_param(id, number, "lr", 0.25, FLOAT)).await.unwrap();
    client.set_trial_attribute(set_attribute(id, number, "host", r#""a""#)).await.unwrap();
    client.set_trial_state(set_state(id, number, TrialState::Complete, &[0.5])).await.unwrap();
    run_client.restore_batch(runs::RestoreBatchRequest { run_ids: vec![run_id.clone()] }).await.unwrap();
    let (props, params) = run(&harness, &run_id).await;
    assert_eq!((props.active, props.outcome.unwrap().kind()), (false, OutcomeKind::Finished));
    let expected = r#"{"hparams": {"lr": 0.25}, "optuna": {"study": "tuning", "study_id": 1, "number": 0,
        "state": "complete", "value": 0.5, "user_attrs": {"host": "a"}}}"#;
    assert_eq!(params, matyan_value::json::parse(expected).unwrap());
    harness.end().await;
}

#[tokio::test]
async fn rule_98_trials_of_many_workers_have_numbers_without_gaps() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let id = create_study(&mut client, "s").await.study_id;
    let mut workers = JoinSet::new();
    for _ in 0..8 {
        let mut client = client.clone();
        workers.spawn(async move {
            let mut last = None;
            for _ in 0..5 {
                let number = create_trial(&mut client, id, None).await;
                // Every trial with a lower number is visible as soon as the number is known.
                let seen = list(&mut client, ListTrialsRequest { study_id: id, ..Default::default() }).await;
                let expected: Vec<u32> = (0..seen.len() as u32).collect();
                assert_eq!(seen.iter().map(|trial| trial.number).collect::<Vec<_>>(), expected);
                assert!(seen.len() as u32 > number && last < Some(number));
                last = Some(number);
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    let trials = list(&mut client, ListTrialsRequest { study_id: id, ..Default::default() }).await;
    let runs: BTreeSet<_> = trials.iter().map(|trial| &trial.run_id).collect();
    assert_eq!((trials.len(), runs.len()), (40, 40));
    let study = client.get(GetRequest { study_id: id }).await.unwrap().into_inner().study.unwrap();
    assert_eq!(study.trial_count, 40);
    harness.end().await;
}

#[tokio::test]
async fn rule_99_a_waiting_trial_is_taken_once() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let id = create_study(&mut client, "s").await.study_id;
    for _ in 0..5 {
        let number = create_trial(&mut client, id, Some(waiting())).await;
        assert_eq!(trial(&mut client, id, number).await.run_id, "", "it has not started");
        client.set_trial_attribute(set_attribute(id, number, "note", "1")).await.unwrap();
        client.set_trial_intermediate_value(set_value(id, number, 7, 4.5)).await.unwrap();
        let mut workers = JoinSet::new();
        for _ in 0..8 {
            let mut client = client.clone();
            workers.spawn(async move {
                let taken = client.set_trial_state(set_state(id, number, TrialState::Running, &[])).await;
                taken.unwrap().into_inner().updated
            });
        }
        let taken = workers.join_all().await;
        assert_eq!(taken.into_iter().filter(|updated| *updated).count(), 1);
        let trial = trial(&mut client, id, number).await;
        assert_eq!(trial.state(), TrialState::Running);
        let (_, params) = run(&harness, &trial.run_id).await;
        let shown = params.as_map().unwrap()["optuna"].as_map().unwrap();
        assert!(shown["user_attrs"].as_map().unwrap().contains_key("note"));
    }
    harness.applied().await;
    // What was set before a trial has started is charted as well.
    assert_eq!(matches(&harness, "run.metrics['intermediate_value'].last == 4.5").await, 5);
    harness.end().await;
}

/// The log takes nothing, for example because it is full.
#[tokio::test]
async fn rule_101_a_state_is_set_once_and_its_points_are_marked_if_the_log_fails() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let id = create_study(&mut client, "s").await.study_id;
    let running = create_trial(&mut client, id, None).await;
    let queued = create_trial(&mut client, id, Some(waiting())).await;
    client.set_trial_intermediate_value(set_value(id, queued, 7, 4.5)).await.unwrap();
    harness.log_close().await;

    client.set_trial_state(set_state(id, running, TrialState::Complete, &[0.5])).await.unwrap();
    let taken = client.set_trial_state(set_state(id, queued, TrialState::Running, &[])).await.unwrap();
    assert!(taken.into_inner().updated, "the caller has the trial, and no one else gets it");
    let template = Trial {
        state: TrialState::Complete.into(),
        values: vec![1.0],
        intermediate_values: [(0, 2.0)].into(),
        ..Trial::default()
    };
    let added = create_trial(&mut client, id, Some(template)).await;
    // An intermediate value is acknowledged only when it is logged: its caller can repeat it.
    client.set_trial_intermediate_value(set_value(id, queued, 8, 5.5)).await.unwrap_err();

    let snapshot = harness.store.snapshot().await.unwrap();
    let all = keys::unlogged_points_all(Project(0));
    let (marked, _) = unlogged_points_page(&*snapshot, Project(0), &all).await.unwrap();
    let mark = |number, kind| UnloggedMark { study: id, number, kind };
    let expected = [
        mark(running, TrialPointKind::Results),
        mark(queued, TrialPointKind::IntermediateValues),
        mark(added, TrialPointKind::IntermediateValues),
        mark(added, TrialPointKind::Results),
    ];
    assert_eq!(marked, expected);
    drop(snapshot);
    harness.end().await;
}

#[tokio::test]
async fn rule_99_a_finished_trial_refuses_every_change() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let id = create_study(&mut client, "s").await.study_id;
    for end in [TrialState::Complete, TrialState::Pruned, TrialState::Failed] {
        let number = create_trial(&mut client, id, None).await;
        client.set_trial_state(set_state(id, number, end, &[1.0])).await.unwrap();
        let before = trial(&mut client, id, number).await;
        let refused = |status: tonic::Status| {
            let (code, reason, metadata) = failure::<()>(Err(status));
            assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "FINISHED"));
            assert!(metadata.contains(&("number".to_owned(), number.to_string())), "{metadata:?}");
        };
        for state in [TrialState::Waiting, TrialState::Running, TrialState::Complete, TrialState::Failed] {
            refused(client.set_trial_state(set_state(id, number, state, &[2.0])).await.unwrap_err());
        }
        refused(client.set_trial_param(set_param(id, number, "x", 0.5, FLOAT)).await.unwrap_err());
        // The error that the trial has ended takes precedence over other errors.
        refused(client.set_trial_param(set_param(id, number, "x", 0.5, "{}")).await.unwrap_err());
        let nothing = SetTrialParamRequest { study_id: id, number, param: None };
        refused(client.set_trial_param(nothing).await.unwrap_err());
        refused(client.set_trial_attribute(set_attribute(id, number, "a", "1")).await.unwrap_err());
        refused(client.set_trial_attribute(set_attribute(id, number, "a", "{")).await.unwrap_err());
        refused(client.set_trial_intermediate_value(set_value(id, number, 0, 1.0)).await.unwrap_err());
        refused(client.set_trial_intermediate_value(set_value(id, number, i64::MIN, 1.0)).await.unwrap_err());
        let many = set_state(id, number, TrialState::Unspecified, &[0.0; 101]);
        refused(client.set_trial_state(many).await.unwrap_err());
        assert_eq!(trial(&mut client, id, number).await, before);
        let (props, _) = run(&harness, &before.run_id).await;
        let failed = end == TrialState::Failed;
        assert_eq!(props.outcome.unwrap().kind() == OutcomeKind::Failed, failed, "{end:?}");
    }
    // If several workers end one trial, one succeeds.
    let number = create_trial(&mut client, id, None).await;
    let mut workers = JoinSet::new();
    for value in 0..8 {
        let mut client = client.clone();
        let request = set_state(id, number, TrialState::Complete, &[f64::from(value)]);
        workers.spawn(async move { client.set_trial_state(request).await.is_ok().then_some(value) });
    }
    let ended: Vec<i32> = workers.join_all().await.into_iter().flatten().collect();
    assert_eq!(ended.len(), 1);
    assert_eq!(trial(&mut client, id, number).await.values, [f64::from(ended[0])]);
    harness.end().await;
}

#[tokio::test]
async fn rule_100_a_list_has_exactly_what_was_set() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let id = create_study(&mut client, "s").await.study_id;
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    let param = |name: &str| TrialParam {
        name: name.to_owned(),
        value: 0.1 + 0.2,
        distribution: FLOAT.to_owned(),
        set_us: 0,
    };
    let template = Trial {
        state: TrialState::Complete.into(),
        values: vec![f64::NEG_INFINITY, -0.0],
        started_us: Some(1_600_000_000_123_456),
        finished_us: Some(1_600_000_001_000_001),
        params: vec![param("z"), param("a"), param("")],
        user_attributes: [("k".to_owned(), large.clone()), ("".to_owned(), "NaN".to_owned())].into(),
        system_attributes: [("k".to_owned(), "null".to_owned())].into(),
        intermediate_values: (0..20_000).map(|step| (step - 5, f64::NAN)).collect(),
        ..Trial::default()
    };
    for _ in 0..3 {
        create_trial(&mut client, id, Some(template.clone())).await;
    }
    let mut listed = list(&mut client, ListTrialsRequest { study_id: id, ..Default::default() }).await;
    assert_eq!(listed.iter().map(|trial| trial.number).collect::<Vec<_>>(), [0, 1, 2]);
    for trial in &mut listed {
        trial.params.sort_by_key(|param| param.set_us);
        assert_eq!(trial.params.iter().map(|param| param.name.as_str()).collect::<Vec<_>>(), ["z", "a", ""]);
        assert!(trial.params.iter().all(|param| param.value.to_bits() == (0.1_f64 + 0.2).to_bits()));
        assert_eq!(trial.values[0], f64::NEG_INFINITY);
        assert!(trial.values[1].is_sign_negative());
        assert_eq!((trial.started_us, trial.finished_us), (template.started_us, template.finished_us));
        assert_eq!(trial.user_attributes, template.user_attributes);
        assert_eq!(trial.system_attributes, template.system_attributes);
        assert_eq!(trial.intermediate_values.len(), 20_000);
        assert!(trial.intermediate_values.values().all(|value| value.is_nan()));
        assert!(!trial.run_id.is_empty());
    }
    // Only what is new, and what the caller asks for.
    let numbers = |trials: Vec<Trial>| trials.iter().map(|trial| trial.number).collect::<Vec<_>>();
    let after = |after, numbers: &[u32]| ListTrialsRequest {
        study_id: id,
        after: Some(after),
        numbers: numbers.to_vec(),
        only_numbers: false,
        summary: false,
    };
    assert_eq!(numbers(list(&mut client, after(1, &[0, 0, 2, 77])).await), [0, 2]);
    let summary = ListTrialsRequest { summary: true, ..after(1, &[]) };
    let short = list(&mut client, summary).await.remove(0);
    assert_eq!((short.params.len(), short.user_attributes.len(), short.intermediate_values.len()), (3, 0, 0));
    assert!(list(&mut client, after(2, &[])).await.is_empty());
    not_found(
        client.list_trials(ListTrialsRequest { study_id: 9, ..Default::default() }).await,
        "study",
        "9",
    );
    harness.end().await;
}

#[tokio::test]
async fn rule_100_a_list_of_new_trials_reads_no_rows_of_others() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let study_id = create_study(&mut client, "s").await.study_id;
    for _ in 0..6 {
        create_trial(&mut client, study_id, Some(waiting())).await;
    }
    let others = [0, 1, 3].map(|number| keys::trial_rows(Project::default(), study_id, number));
    harness.fence.forbid(others.into());
    let request = ListTrialsRequest { study_id, after: Some(3), numbers: vec![2], ..Default::default() };
    let found = list(&mut client, request.clone()).await;
    assert_eq!(found.iter().map(|trial| trial.number).collect::<Vec<_>>(), [2, 4, 5]);
    let earlier = ListTrialsRequest { after: Some(2), ..request };
    client.list_trials(earlier).await.unwrap().into_inner().message().await.unwrap_err();
    harness.fence.forbid(Vec::new());
    harness.end().await;
}

/// The rows of the study are cleared while the client is slow.
#[tokio::test]
async fn rule_100_a_list_of_a_study_that_is_deleted_is_not_taken_for_whole() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let id = create_study(&mut client, "s").await.study_id;
    let large = format!("\"{}\"", "x".repeat(200 << 10));
    let template = Trial { user_attributes: [("k".to_owned(), large)].into(), ..waiting() };
    for _ in 0..20 {
        create_trial(&mut client, id, Some(template.clone())).await;
    }
    let request = ListTrialsRequest { study_id: id, ..Default::default() };
    let mut listed = client.list_trials(request).await.unwrap().into_inner();
    listed.message().await.unwrap().unwrap();
    client.delete(DeleteRequest { study_id: id }).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    matyan_maintenance::sweep_dead_studies(harness.maintenance(), &stop).await.unwrap();
    let end = loop {
        match listed.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the list ended as if it were whole"),
            Err(status) => break status,
        }
    };
    not_found::<()>(Err(end), "study", &id.to_string());
    harness.end().await;
}

#[tokio::test]
async fn a_param_keeps_its_distribution_in_a_study() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let [one, other] =
        [create_study(&mut client, "one").await.study_id, create_study(&mut client, "other").await.study_id];
    for id in [one, other] {
        for _ in 0..2 {
            create_trial(&mut client, id, None).await;
        }
    }
    client.set_trial_param(set_param(one, 0, "lr", 0.5, FLOAT)).await.unwrap();
    for distribution in [LOG, CHOICES, "{}", ""] {
        let refused = client.set_trial_param(set_param(one, 1, "lr", 0.0, distribution)).await;
        wrong_field(refused, "param.distribution");
    }
    wrong_field(client.set_trial_param(set_param(one, 1, "c", 2.0, CHOICES)).await, "param.value");
    let wider = FLOAT.replace("1.0", "7.0");
    client.set_trial_param(set_param(one, 1, "lr", 6.0, &wider)).await.unwrap();
    client.set_trial_param(set_param(other, 0, "lr", 0.5, LOG)).await.unwrap();
    let found = trial(&mut client, one, 1).await;
    assert_eq!((found.params.len(), found.params[0].distribution.as_str()), (1, wider.as_str()));
    not_found(client.set_trial_param(set_param(one, 2, "lr", 0.5, FLOAT)).await, "trial", "2 of study 1");
    harness.end().await;
}

#[tokio::test]
async fn invalid_requests_name_the_field() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let id = create_study(&mut client, "s").await.study_id;
    let directions = vec![Direction::Maximize.into()];
    let create = |name: &str, directions: &[i32]| CreateRequest {
        name: name.to_owned(),
        directions: directions.to_vec(),
    };
    assert_eq!(failure(client.create(create("s", &directions)).await).0, Code::AlreadyExists);
    wrong_field(client.create(create("", &directions)).await, "name");
    wrong_field(client.create(create(&"x".repeat(1_025), &directions)).await, "name");
    for wrong in [&[][..], &[0], &[9], &[1; 101]] {
        wrong_field(client.create(create("t", wrong)).await, "directions");
    }
    not_found(client.find(FindRequest { name: "t".into() }).await, "study", "t");
    not_found(client.find(FindRequest { name: "x".repeat(5_000) }).await, "study", &"x".repeat(5_000));
    create_trial(&mut client, id, None).await;
    let long = "x".repeat(1_025);
    wrong_field(client.set_trial_attribute(set_attribute(id, 0, &long, "1")).await, "key");
    wrong_field(client.set_trial_attribute(set_attribute(id, 0, "k", "{")).await, "value");
    let huge = format!("\"{}\"", "x".repeat(8 << 20));
    wrong_field(client.set_trial_attribute(set_attribute(id, 0, "k", &huge)).await, "value");
    let without_kind = SetTrialAttributeRequest { kind: 0, ..set_attribute(id, 0, "k", "1") };
    wrong_field(client.set_trial_attribute(without_kind).await, "kind");
    wrong_field(client.set_trial_intermediate_value(set_value(id, 0, i64::MIN, 1.0)).await, "step");
    wrong_field(client.set_trial_state(set_state(id, 0, TrialState::Unspecified, &[])).await, "state");
    wrong_field(client.set_trial_state(set_state(id, 0, TrialState::Failed, &[0.0; 101])).await, "values");
    let template = Trial { params: vec![TrialParam::default()], ..waiting() };
    let request = CreateTrialRequest { study_id: id, template: Some(template) };
    wrong_field(client.create_trial(request).await, "param.distribution");
    let user_attributes = (0..50_000).map(|number| (number.to_string(), "1".to_owned())).collect();
    let template = Trial { user_attributes, ..waiting() };
    let request = CreateTrialRequest { study_id: id, template: Some(template) };
    wrong_field(client.create_trial(request).await, "template");
    assert_eq!(trial(&mut client, id, 0).await.state(), TrialState::Running, "nothing was stored");
    harness.end().await;
}

#[tokio::test]
async fn a_study_is_deleted_with_its_runs() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let [id, other] =
        [create_study(&mut client, "s").await.study_id, create_study(&mut client, "other").await.study_id];
    for template in [None, Some(waiting()), None] {
        create_trial(&mut client, id, template).await;
    }
    create_trial(&mut client, other, None).await;
    client.delete(DeleteRequest { study_id: id }).await.unwrap();
    not_found(client.delete(DeleteRequest { study_id: id }).await, "study", &id.to_string());
    not_found(client.get(GetRequest { study_id: id }).await, "study", &id.to_string());
    let taken = client.set_trial_state(set_state(id, 1, TrialState::Running, &[])).await;
    not_found(taken, "study", &id.to_string());
    harness.applied().await;
    assert_eq!(matches(&harness, "run.optuna.study == 's'").await, 0);
    assert_eq!(matches(&harness, "run.optuna.study == 'other'").await, 1);
    let again = create_study(&mut client, "s").await;
    assert!(again.study_id > other, "ids are not given again");
    assert_eq!(again.trial_count, 0);
    let stop = tokio_util::sync::CancellationToken::new();
    matyan_maintenance::sweep_dead_studies(harness.maintenance(), &stop).await.unwrap();
    assert_eq!(list(&mut client, ListTrialsRequest { study_id: other, ..Default::default() }).await.len(), 1);
    harness.end().await;
}

#[tokio::test]
async fn a_renamed_or_deleted_experiment_does_not_stop_a_study() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let mut experiments = ExperimentServiceClient::new(harness.routes());
    let study = create_study(&mut client, "s").await;
    let name = Some("renamed".to_owned());
    let rename = experiments::UpdateRequest { id: study.experiment_id.clone(), name, ..Default::default() };
    experiments.update(rename).await.unwrap();
    create_trial(&mut client, study.study_id, None).await;
    assert_eq!(matches(&harness, "run.experiment == 'renamed'").await, 1);
    experiments.delete(experiments::DeleteRequest { id: study.experiment_id }).await.unwrap();
    create_trial(&mut client, study.study_id, None).await;
    create_trial(&mut client, study.study_id, None).await;
    assert_eq!(matches(&harness, "run.experiment == 's'").await, 2);
    harness.end().await;
}

async fn read_parts(harness: &Harness, project: &str) -> Vec<backup::StudyPart> {
    let mut client = BackupServiceClient::new(harness.routes()).max_decoding_message_size(32 << 20);
    let messages = all(client.read_project(of(project, ReadProjectRequest {})).await.unwrap()).await;
    let parts = messages.into_iter().filter_map(|message| match message.content {
        Some(Content::Study(part)) => Some(part),
        _ => None,
    });
    parts.collect()
}

/// Restores parts one by one; returns how many studies were made and kept.
async fn restore(
    harness: &Harness,
    project: &str,
    parts: &[backup::StudyPart],
) -> Result<(u32, u32), tonic::Status> {
    let mut client = BackupServiceClient::new(harness.routes());
    let mut counts = (0, 0);
    for part in parts {
        let request = RestoreProjectRequest { studies: vec![part.clone()], ..Default::default() };
        let answer = client.restore_project(of(project, request)).await?.into_inner();
        counts = (counts.0 + answer.entities_made, counts.1 + answer.entities_kept);
    }
    Ok(counts)
}

/// The trials of a study of a project.
async fn trials_in(client: &mut Client, project: &str, study_id: u32) -> Vec<Trial> {
    let request = ListTrialsRequest { study_id, ..Default::default() };
    let messages = all(client.list_trials(of(project, request)).await.unwrap()).await;
    messages.into_iter().flat_map(|message| message.trials).collect()
}

#[tokio::test]
async fn rule_36_a_study_is_restored_with_its_numbers() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    create_study(&mut client, "before").await;
    let id = create_study(&mut client, "s").await.study_id;
    let kind = AttributeKind::System.into();
    let attribute = SetAttributeRequest { study_id: id, kind, key: "k".into(), value: "[1, NaN]".into() };
    client.set_attribute(attribute).await.unwrap();
    for template in [None, Some(waiting()), None] {
        create_trial(&mut client, id, template).await;
    }
    client.set_trial_param(set_param(id, 0, "z", 0.5, FLOAT)).await.unwrap();
    client.set_trial_param(set_param(id, 0, "a", 1.0, CHOICES)).await.unwrap();
    client.set_trial_intermediate_value(set_value(id, 0, -3, f64::INFINITY)).await.unwrap();
    client.set_trial_state(set_state(id, 0, TrialState::Complete, &[0.1])).await.unwrap();
    let parts = read_parts(&harness, "").await;
    let before = trials_in(&mut client, "", id).await;

    for project in ["whole", "gaps", "taken"] {
        harness.create_project(project).await;
    }
    let is_last = |part: &backup::StudyPart| matches!(part.content, Some(study_part::Content::Study(_)));
    let last = parts.iter().rposition(is_last).unwrap();
    restore(&harness, "whole", &parts[..last]).await.unwrap();
    let found = client.find(of("whole", FindRequest { name: "s".into() })).await;
    not_found(found, "study", "s");
    assert_eq!(restore(&harness, "whole", &parts).await.unwrap(), (1, 1), "the first study was made before");
    assert_eq!(trials_in(&mut client, "whole", id).await, before);
    assert_eq!(restore(&harness, "whole", &parts).await.unwrap(), (0, 2));
    // The study continues where it was.
    let request = CreateTrialRequest { study_id: id, template: None };
    let number = client.create_trial(of("whole", request)).await.unwrap().into_inner().number;
    assert_eq!(number, 3);
    let again = client.set_trial_param(of("whole", set_param(id, 3, "z", 0.0, CHOICES))).await;
    wrong_field(again, "param.distribution");
    let late = client.set_trial_state(of("whole", set_state(id, 0, TrialState::Running, &[]))).await;
    assert_eq!(failure(late).1, "FINISHED");

    let is_second = |part: &&backup::StudyPart| matches!(&part.content, Some(study_part::Content::Trial(trial)) if trial.number == 1);
    let gaps: Vec<_> = parts.iter().filter(|part| !is_second(part)).cloned().collect();
    wrong_field(restore(&harness, "gaps", &gaps).await, "study.trial_count");
    let other = CreateRequest { name: "s".into(), directions: vec![Direction::Minimize.into()] };
    let other = client.create(of("taken", other)).await.unwrap().into_inner().study.unwrap();
    assert_eq!(other.study_id, 1);
    assert_eq!(restore(&harness, "taken", &parts).await.unwrap(), (0, 2), "by its number, and by its name");
    harness.end().await;
}

/// The rows of the deleted study would mix with the rows that are restored.
#[tokio::test]
async fn rule_36_a_deleted_study_is_restored_after_its_rows_are_cleared() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let id = create_study(&mut client, "s").await.study_id;
    create_trial(&mut client, id, None).await;
    let parts = read_parts(&harness, "").await;
    client.set_trial_attribute(set_attribute(id, 0, "later", "1")).await.unwrap();
    client.delete(DeleteRequest { study_id: id }).await.unwrap();
    let refused = restore(&harness, "", &parts).await;
    assert_eq!(failure(refused).0, Code::Unavailable, "it must not count as kept");
    let stop = tokio_util::sync::CancellationToken::new();
    matyan_maintenance::sweep_dead_studies(harness.maintenance(), &stop).await.unwrap();
    assert_eq!(restore(&harness, "", &parts).await.unwrap(), (1, 0));
    assert!(trials_in(&mut client, "", id).await[0].user_attributes.is_empty());
    harness.end().await;
}

#[tokio::test]
async fn a_restore_of_a_study_that_is_not_finished_is_cleared_after_days() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let id = create_study(&mut client, "s").await.study_id;
    create_trial(&mut client, id, None).await;
    let parts = read_parts(&harness, "").await;
    harness.create_project("copy").await;
    restore(&harness, "copy", &parts[..parts.len() - 1]).await.unwrap();
    let drop_old = async || {
        matyan_maintenance::drop_abandoned_restores(harness.maintenance()).await.unwrap();
        let stop = tokio_util::sync::CancellationToken::new();
        matyan_maintenance::sweep_dead_studies(harness.maintenance(), &stop).await.unwrap();
    };
    drop_old().await;
    assert_eq!(restore(&harness, "copy", &parts[parts.len() - 1..]).await.unwrap(), (1, 0), "it goes on");

    harness.create_project("other").await;
    restore(&harness, "other", &parts[..parts.len() - 1]).await.unwrap();
    harness.advance_clock(4 * 24 * 3_600);
    drop_old().await;
    let refused = restore(&harness, "other", &parts[parts.len() - 1..]).await;
    wrong_field(refused, "study.trial_count");
    harness.end().await;
}

/// A trial with many small attributes and a large one: each part of the backup fits in a message, and its rows do not
/// fit in a transaction.
#[tokio::test]
async fn rule_36_a_trial_that_is_larger_than_a_transaction_is_restored() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes()).max_decoding_message_size(32 << 20);
    let id = create_study(&mut client, "s").await.study_id;
    let user_attributes = (0..2_500).map(|number| (format!("a{number}"), "1".to_owned())).collect();
    create_trial(&mut client, id, Some(Trial { user_attributes, ..waiting() })).await;
    // What the limits permit fits in a transaction.
    let choices = |bytes: usize| CHOICES.replace("adam", &"a".repeat(bytes - CHOICES.len() + "adam".len()));
    let refused = client.set_trial_param(set_param(id, 0, "p", 0.0, &choices((4 << 20) + 1))).await;
    wrong_field(refused, "param.distribution");
    client.set_trial_param(set_param(id, 0, "p", 0.0, &choices(4 << 20))).await.unwrap();
    let largest = format!("\"{}\"", "x".repeat((8 << 20) - 2));
    client.set_trial_attribute(set_attribute(id, 0, "z", &largest)).await.unwrap();
    let parts = read_parts(&harness, "").await;
    harness.create_project("copy").await;
    assert_eq!(restore(&harness, "copy", &parts).await.unwrap(), (1, 0));
    let restored = trials_in(&mut client, "copy", id).await;
    assert_eq!(restored.iter().map(|part| part.user_attributes.len()).sum::<usize>(), 2_501);
    assert_eq!(restored.iter().map(|part| part.params.len()).sum::<usize>(), 1);
    harness.end().await;
}
