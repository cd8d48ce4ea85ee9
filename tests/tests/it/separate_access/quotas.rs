//! Quotas in two processes: a frontier, which has no store, asks its backend which quotas are used up and which runs
//! exist. Everything that the frontier refuses or accepts is counted.

use matyan_tests::{
    Service, eventually,
    json::{Ack, JsonWriter, create_run, metric},
};
use serde_json::{Value, json};

use super::{Deployment, PROJECTS, SECRET, closed, empty_folders, operator_token, run_at};

/// Starts a deployment with these quotas, whose project speech has a point in each of the runs `run` and `two`.
async fn start_with_runs(quotas: &[(&str, &str)]) -> Deployment {
    let folders = empty_folders();
    let mut process = closed("up", folders[0].path());
    process.start().await;
    let operator = operator_token(folders[0].path());
    for project in PROJECTS {
        run_at(&process, &operator, &["projects", "create", project]);
    }
    let speech = format!("{}/p/speech", process.address("ingest"));
    for run_id in ["run", "two"] {
        let writer = JsonWriter::connect_with_token(&speech, run_id, Some(&operator)).await;
        let frame = json!([create_run(), metric("loss", 0.5, None)]);
        assert_eq!(writer.expect("there is no quota").send(&frame).await, Ok(Ack::Ok));
    }
    eventually("both runs are counted", async || {
        let usage = usage(&process, &operator, "speech").await;
        let is_counted = usage["runs"] == 2 && usage["bytes"].as_u64() > Some(0);
        if is_counted { Ok(()) } else { Err(usage) }
    })
    .await;
    assert!(process.terminate().await.success(), "{}", process.log());
    drop(process);
    Deployment::start_in(folders, SECRET, quotas).await
}

/// The usage of a project, as this process counts it.
async fn usage(process: &Service, operator: &str, project: &str) -> Value {
    let url = format!("{}/p/{project}/api/v1/rest/projects/usage/", process.address("query"));
    let answer = reqwest::Client::new().get(url).bearer_auth(operator).send().await.expect("it answers");
    let text = answer.text().await.expect("the answer is text");
    serde_json::from_str(&text).expect("the answer is JSON")
}

impl Deployment {
    /// The refusals by quotas of runs and of bytes that the frontier has counted.
    async fn refusals(&self) -> [u64; 2] {
        let url = format!("{}/metrics/", self.frontier.address("ingest"));
        let answer = reqwest::Client::new().get(url).bearer_auth(&self.operator).send().await;
        let text = answer.expect("the frontier answers").text().await.expect("metrics are text");
        ["runs", "bytes"].map(|quota| {
            let name = format!("matyan_quota_refusals_total{{quota=\"{quota}\"}} ");
            let count = text.lines().find_map(|line| line.strip_prefix(name.as_str()));
            count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no `{name}` in {text}"))
        })
    }

    /// The status of a connection of the operator for a run, or 200 if a point was acknowledged.
    async fn log_point(&self, project: &str, run_id: &str) -> u16 {
        match self.connect_run(project, run_id, Some(&self.operator)).await {
            Ok(mut writer) => {
                let frame = json!([create_run(), metric("loss", 0.25, None)]);
                assert_eq!(writer.send(&frame).await, Ok(Ack::Ok));
                200
            }
            Err(status) => status,
        }
    }
}

#[tokio::test]
async fn rule_132_a_frontier_refuses_new_runs_over_the_quota_of_its_backend() {
    let quotas = [("MATYAN_MAX_PROJECT_RUNS", "2"), ("MATYAN_PROJECT_RUNS", "vision = 0")];
    let mut deployment = start_with_runs(&quotas).await;
    for run_id in ["three", "four", "three"] {
        assert_eq!(deployment.log_point("speech", run_id).await, 503, "{run_id}");
    }
    // Existing runs go on, also over an open socket, and so does a project without a quota.
    let mut writer = deployment.connect("speech", Some(&deployment.operator)).await.expect("the run exists");
    let mut points: i64 = 1;
    for _ in 0..3 {
        assert_eq!(writer.send(&json!([metric("loss", 0.25, None)])).await, Ok(Ack::Ok));
        assert_eq!(deployment.log_point("speech", "run").await, 200);
        points += 2;
    }
    drop(writer);
    assert_eq!(deployment.log_point("vision", "three").await, 200);
    assert_eq!(deployment.refusals().await, [3, 0]);

    // Everything acknowledged is stored, and nothing that was refused.
    deployment.backend.kill();
    let process = deployment.apply().await;
    let expected: Vec<_> = (0..points).collect();
    eventually("every acknowledged point is applied", async || {
        let steps = deployment.steps(&process).await;
        if steps == expected { Ok(()) } else { Err(steps) }
    })
    .await;
    for (project, runs) in [("speech", 2_u64), ("vision", 1)] {
        eventually("the runs are counted", async || {
            let usage = usage(&process, &deployment.operator, project).await;
            if usage["runs"] == runs { Ok(()) } else { Err(usage) }
        })
        .await;
    }
}

#[tokio::test]
async fn rule_132_a_frontier_keeps_to_the_quota_of_a_backend_that_is_away() {
    let quotas = [("MATYAN_MAX_PROJECT_BYTES", "1"), ("MATYAN_PROJECT_BYTES", "vision = 0")];
    let mut deployment = start_with_runs(&quotas).await;
    for run_id in ["run", "three"] {
        assert_eq!(deployment.log_point("speech", run_id).await, 503, "{run_id}");
    }
    assert_eq!(deployment.log_point("vision", "three").await, 200);
    assert_eq!(deployment.refusals().await, [0, 2]);
    deployment.backend.kill();
    assert_eq!(deployment.log_point("speech", "run").await, 503);
    assert_eq!(deployment.log_point("vision", "three").await, 200);
    assert_eq!(deployment.refusals().await, [0, 3]);

    let process = deployment.apply().await;
    eventually("the run of the other project is counted", async || {
        let usage = usage(&process, &deployment.operator, "vision").await;
        if usage["runs"] == 1 && usage["points"] == 2 { Ok(()) } else { Err(usage) }
    })
    .await;
    assert_eq!(deployment.steps(&process).await, [0_i64], "nothing that was refused is stored");
}
