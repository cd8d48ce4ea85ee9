//! A project with a quota of runs, and one with a quota of bytes: what they refuse, and that everything that they
//! have acknowledged is stored.

use matyan_proto::{
    ingest::v1::{PublishRequest, ingest_service_client::IngestServiceClient},
    project::v1::{CreateRequest as CreateProject, project_service_client::ProjectServiceClient},
    runs::v1::{DeleteRequest, run_service_client::RunServiceClient},
    studies::v1::{
        CreateRequest, CreateTrialRequest, Direction, SetTrialStateRequest, Trial, TrialState,
        study_service_client::StudyServiceClient,
    },
};
use matyan_tests::{
    Reader, Server, channel, eventually,
    json::{self, Ack, JsonWriter, create_run, metric},
};
use serde_json::{Value, json};
use tokio_tungstenite::{connect_async, tungstenite::Error};
use tonic::{Code, transport::Channel};

/// The refusal of a handshake.
#[derive(Debug)]
struct Refusal {
    status: u16,
    retry_after: String,
    body: String,
}

/// The refusal of a new connection for a run; `None` if the connection is accepted.
async fn refusal(server: &Server, run_id: &str) -> Option<Refusal> {
    match connect_async(json::url(&server.ingest, run_id)).await {
        Ok(_) => None,
        Err(Error::Http(response)) => {
            let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
            let body = response.body().as_deref().unwrap_or_default();
            Some(Refusal {
                status: response.status().as_u16(),
                retry_after: retry_after.unwrap_or_default().to_owned(),
                body: String::from_utf8_lossy(body).into_owned(),
            })
        }
        Err(error) => panic!("the handshake has no answer: {error}"),
    }
}

/// Waits until new connections for a run are refused.
async fn refused(server: &Server, run_id: &str) -> Refusal {
    let ask = async || refusal(server, run_id).await.ok_or("it is accepted");
    eventually("the quota is used up", ask).await
}

async fn send(writer: &mut JsonWriter, frame: Value) {
    assert_eq!(writer.send(&frame).await, Ok(Ack::Ok));
}

/// Starts a run, and logs a point.
async fn start_run(server: &Server, run_id: &str) -> JsonWriter {
    let mut writer = JsonWriter::connect(&server.ingest, run_id).await.expect("the run is accepted");
    send(&mut writer, json!([create_run(), metric("loss", 0.0, Some(0))])).await;
    writer
}

/// Waits until a run has all points that were acknowledged.
async fn check_stored(server: &Server, run_id: &str, points: u64) {
    let reader = Reader::connect(&server.query).await;
    eventually("everything acknowledged is stored", async || match reader.count(run_id).await {
        Ok(count) if count == points => Ok(()),
        other => Err(other),
    })
    .await;
}

/// Creates a study, and returns its id.
async fn create_study(studies: &mut StudyServiceClient<Channel>) -> u32 {
    let study = CreateRequest { name: "study".into(), directions: vec![Direction::Minimize.into()] };
    let study = studies.create(study).await.expect("a study is no run").into_inner().study;
    study.expect("the response has the study").study_id
}

#[tokio::test]
async fn rule_132_a_quota_of_runs_refuses_new_runs_until_one_is_deleted() {
    let server = Server::up_with_variables(&[], &[("MATYAN_MAX_PROJECT_RUNS", "2")]).await;
    let mut one = start_run(&server, "one").await;
    drop(start_run(&server, "two").await);
    let Refusal { status, retry_after, body } = refused(&server, "three").await;
    assert_eq!((status, retry_after.as_str()), (503, "30"), "{body}");
    for part in ["quota of runs (2 of 2)", "`max_project_runs`", "`project_runs`", "delete runs"] {
        assert!(body.contains(part), "{body}");
    }
    let mut ingest = IngestServiceClient::new(channel(&server.ingest).await);
    let published = ingest.publish(PublishRequest { run_id: "three".into(), ..Default::default() }).await;
    assert_eq!(published.expect_err("the quota is used up").code(), Code::Unavailable);
    let backend = channel(&server.query).await;
    let mut studies = StudyServiceClient::new(backend.clone());
    let study_id = create_study(&mut studies).await;
    let trial = studies.create_trial(CreateTrialRequest { study_id, template: None }).await;
    let refused_trial = trial.expect_err("the run of a trial is a new run");
    assert_eq!(refused_trial.code(), Code::Unavailable);
    assert!(refused_trial.message().contains("quota of runs (2 of 2)"), "{refused_trial:?}");
    let metrics = reqwest::get(format!("{}/metrics/", server.query)).await.expect("the server answers");
    let metrics = metrics.text().await.expect("metrics are text");
    let counted = |line: &str| metrics.lines().any(|other| other == line);
    assert!(counted(r#"matyan_trial_quota_refusals_total{quota="runs"} 1"#), "{metrics}");
    assert!(counted(r#"matyan_quota_refusals_total{quota="bytes"} 0"#), "{metrics}");
    assert!(!counted(r#"matyan_quota_refusals_total{quota="runs"} 0"#), "{metrics}");

    // Existing runs go on, over old and new connections.
    send(&mut one, metric("loss", 1.0, Some(1))).await;
    let mut again = JsonWriter::connect(&server.ingest, "one").await.expect("the run exists");
    send(&mut again, metric("loss", 2.0, Some(2))).await;

    RunServiceClient::new(backend)
        .delete(DeleteRequest { run_id: "two".into() })
        .await
        .expect("the run exists");
    let accepted = async || refusal(&server, "three").await.map_or(Ok(()), Err);
    eventually("the project has room for a run", accepted).await;
    drop(start_run(&server, "three").await);
    check_stored(&server, "one", 3).await;
    check_stored(&server, "three", 1).await;
    let usage = server.get("/api/v1/rest/projects/usage/").await.expect("the project exists");
    assert_eq!(usage["runs"], 2, "{usage}");
}

#[tokio::test]
async fn rule_132_a_waiting_trial_can_end_while_a_quota_of_runs_is_used_up() {
    let server = Server::up_with_variables(&[], &[("MATYAN_MAX_PROJECT_RUNS", "1")]).await;
    drop(start_run(&server, "one").await);
    refused(&server, "two").await;
    let mut studies = StudyServiceClient::new(channel(&server.query).await);
    let study_id = create_study(&mut studies).await;
    let template = Some(Trial { state: TrialState::Waiting.into(), ..Default::default() });
    let waiting = studies.create_trial(CreateTrialRequest { study_id, template }).await;
    let number = waiting.expect("a waiting trial has no run").into_inner().number;
    let change = |state: TrialState| SetTrialStateRequest {
        study_id,
        number,
        state: state.into(),
        values: Vec::new(),
    };
    let started = studies.set_trial_state(change(TrialState::Running)).await;
    assert_eq!(started.expect_err("its run is a new run").code(), Code::Unavailable);
    studies.set_trial_state(change(TrialState::Failed)).await.expect("the trial can end");
}

#[tokio::test]
async fn rule_132_a_quota_of_bytes_refuses_data_of_its_project_only() {
    let quotas = [("MATYAN_MAX_PROJECT_BYTES", "1"), ("MATYAN_PROJECT_BYTES", "speech = 0")];
    let server = Server::up_with_variables(&[], &quotas).await;
    let mut projects = ProjectServiceClient::new(channel(&server.query).await);
    let speech = CreateProject { name: "speech".into(), ..Default::default() };
    projects.create(speech).await.expect("the name is free");

    // Accepted before the counters of the project have changed.
    drop(start_run(&server, "one").await);
    let Refusal { status, body, .. } = refused(&server, "one").await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("quota of bytes") && body.contains("`max_project_bytes`"), "{body}");
    let of_speech = format!("{}/p/speech", server.ingest);
    let mut writer = JsonWriter::connect(&of_speech, "one").await.expect("the project has no limit");
    send(&mut writer, json!([create_run(), metric("loss", 0.0, Some(0))])).await;
    check_stored(&server, "one", 1).await;
}
