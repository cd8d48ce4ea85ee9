//! Notes, experiments, and tags.

use super::*;

#[tokio::test]
async fn notes_belong_to_runs_and_experiments() {
    let rest = Rest::new();
    let backend = &rest.backend;
    let note = notes::v1::Note {
        id: "n".into(),
        content: "c".into(),
        created_us: TIME_US,
        updated_us: TIME_US,
        ..Default::default()
    };
    let listed = |kind| {
        let owner = Some(notes::v1::Owner { kind: Some(kind) });
        notes::v1::ListResponse { notes: vec![notes::v1::Note { owner, ..note.clone() }] }
    };
    let of_run = || listed(notes::v1::owner::Kind::RunId("r".into()));
    backend.answers("notes.v1.NoteService/List", [of_run(), of_run()]);
    let shown = json!({"id": "n", "content": "c", "created_at": ISO, "run_hash": "r", "updated_at": ISO});
    assert_eq!(
        rest.json("GET", "/runs/r/note/", Value::Null).await,
        json!([shown, shown]),
        "in two messages"
    );
    backend.answers::<notes::v1::ListResponse>("notes.v1.NoteService/List", []);
    assert_eq!(rest.json("GET", "/runs/missing/note/", Value::Null).await, json!([]));
    let of_experiment = listed(notes::v1::owner::Kind::ExperimentId("e".into()));
    backend.answers("notes.v1.NoteService/List", [of_experiment]);
    assert_eq!(
        rest.json("GET", "/experiments/e/note/", Value::Null).await,
        json!([{"id": "n", "content": "c", "created_at": ISO, "experiment_id": "e", "updated_at": ISO}])
    );
    let request: notes::v1::ListRequest = backend.last_request("notes.v1.NoteService/List");
    assert_eq!(request.owner.unwrap().kind, Some(notes::v1::owner::Kind::ExperimentId("e".into())));
    backend.answers("notes.v1.NoteService/Create", [notes::v1::CreateResponse { note: Some(note.clone()) }]);
    let created = rest.send("POST", "/runs/r/note/", json!({"content": "c"})).await;
    assert_eq!((created.status, created.json()), (201, json!({"id": "n", "created_at": ISO})));
    backend.answers("notes.v1.NoteService/Get", [notes::v1::GetResponse { note: Some(note.clone()) }]);
    backend.answers("notes.v1.NoteService/Update", [notes::v1::UpdateResponse { note: Some(note) }]);
    backend.answers("notes.v1.NoteService/Delete", [notes::v1::DeleteResponse {}]);
    let shown = json!({"id": "n", "content": "c", "updated_at": ISO});
    assert_eq!(rest.json("GET", "/runs/r/note/n/", Value::Null).await, shown);
    assert_eq!(rest.json("PUT", "/runs/r/note/n/", json!({"content": "x"})).await, shown);
    assert_eq!(rest.json("DELETE", "/runs/r/note/n/", Value::Null).await, json!({"status": "OK"}));
    let request: notes::v1::UpdateRequest = backend.last_request("notes.v1.NoteService/Update");
    assert_eq!((request.id.as_str(), request.content.as_str()), ("n", "x"));
}

#[tokio::test]
async fn experiments_are_listed_and_changed() {
    let rest = Rest::new();
    let backend = &rest.backend;
    let experiment = experiments::v1::Experiment {
        id: "e".into(),
        name: "exp".into(),
        run_count: 2,
        created_us: Some(1_500_000),
        ..Default::default()
    };
    let shown = json!({"id": "e", "name": "exp", "description": "", "run_count": 2, "archived": false, "creation_time": 1.5});
    let list = experiments::v1::ListResponse { experiments: vec![experiment.clone()] };
    backend.answers("experiments.v1.ExperimentService/List", [list.clone()]);
    assert_eq!(rest.json("GET", "/experiments/", Value::Null).await, json!([shown]));
    let empty = || experiments::v1::ListResponse::default();
    let in_messages = [empty(), list.clone(), empty(), list.clone(), list];
    backend.answers("experiments.v1.ExperimentService/List", in_messages);
    assert_eq!(rest.json("GET", "/experiments/", Value::Null).await, json!([shown, shown, shown]));
    backend.answers("experiments.v1.ExperimentService/List", [empty()]);
    assert_eq!(rest.json("GET", "/experiments/", Value::Null).await, json!([]));
    rest.json("GET", "/experiments/search/?q=Ex", Value::Null).await;
    let request: experiments::v1::ListRequest = backend.last_request("experiments.v1.ExperimentService/List");
    assert_eq!(request.name_contains, "Ex");
    let one = Some(experiment);
    backend.answers(
        "experiments.v1.ExperimentService/Get",
        [experiments::v1::GetResponse { experiment: one.clone() }],
    );
    assert_eq!(rest.json("GET", "/experiments/e/", Value::Null).await, shown);
    backend.answers(
        "experiments.v1.ExperimentService/Create",
        [experiments::v1::CreateResponse { experiment: one.clone() }],
    );
    let answer = rest.send("POST", "/experiments/", json!({"name": "exp"})).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"id": "e", "status": "OK"})));
    backend.answers(
        "experiments.v1.ExperimentService/Update",
        [experiments::v1::UpdateResponse { experiment: one }],
    );
    rest.json("PUT", "/experiments/e/", json!({"archived": true})).await;
    let request: experiments::v1::UpdateRequest =
        backend.last_request("experiments.v1.ExperimentService/Update");
    assert_eq!((request.description, request.archived), (None, Some(true)));
    backend.answers("experiments.v1.ExperimentService/Delete", [experiments::v1::DeleteResponse {}]);
    assert_eq!(rest.json("DELETE", "/experiments/e/", Value::Null).await, json!({"status": "OK"}));
    let run = experiments::v1::ExperimentRun {
        run_id: "r".into(),
        name: "n".into(),
        created_us: 1_500_000,
        ..Default::default()
    };
    backend.answers(
        "experiments.v1.ExperimentService/ListRuns",
        [experiments::v1::ListRunsResponse { runs: vec![run], ..Default::default() }],
    );
    assert_eq!(
        rest.json("GET", "/experiments/e/runs/?limit=10&offset=x", Value::Null).await,
        json!({"id": "e", "runs": [{"run_id": "r", "name": "n", "creation_time": 1.5, "end_time": null, "archived": false}]})
    );
    let request: experiments::v1::ListRunsRequest =
        backend.last_request("experiments.v1.ExperimentService/ListRuns");
    assert_eq!((request.limit, request.after_run_id.as_str()), (10, "x"));
    let activity = experiments::v1::ActivityResponse {
        run_count: 3,
        hours: vec![ActivityCount { local_s: 1_767_323_045, runs: 3 }],
        ..Default::default()
    };
    backend.answers("experiments.v1.ExperimentService/Activity", [activity]);
    assert_eq!(
        rest.json("GET", "/experiments/e/activity/", Value::Null).await,
        json!({"num_runs": 3, "num_archived_runs": 0, "num_active_runs": 0, "activity_map": {"2026-01-02T03:00:00": 3}})
    );
}

/// Only a request with a cursor gets one, and the last one is empty, also without any run.
#[tokio::test]
async fn pages_of_runs_of_an_experiment_continue_by_cursor() {
    let rest = Rest::new();
    let name = "experiments.v1.ExperimentService/ListRuns";
    let message = |run_id: &str, next_cursor: &str| {
        let run = experiments::v1::ExperimentRun { run_id: run_id.into(), ..Default::default() };
        experiments::v1::ListRunsResponse { runs: vec![run], next_cursor: next_cursor.into() }
    };
    rest.backend.answers(name, [message("r", ""), message("s", "c+1")]);
    let first = rest.json("GET", "/experiments/e/runs/?limit=2&cursor=", Value::Null).await;
    assert_eq!((&first["runs"][1]["run_id"], &first["next_cursor"]), (&json!("s"), &json!("c+1")));
    let next = async |path| rest.json("GET", path, Value::Null).await;
    rest.backend.answers::<experiments::v1::ListRunsResponse>(name, []);
    let last = next("/experiments/e/runs/?limit=2&cursor=c%2B1").await;
    assert_eq!(last, json!({"id": "e", "runs": [], "next_cursor": ""}));
    let request: experiments::v1::ListRunsRequest = rest.backend.last_request(name);
    assert_eq!((request.limit, request.cursor.as_str()), (2, "c+1"));
    rest.backend.answers(name, [message("r", "c+1")]);
    assert_eq!(next("/experiments/e/runs/?limit=1").await.get("next_cursor"), None);
}

#[tokio::test]
async fn an_experiment_with_an_existing_name_is_rejected() {
    let rest = Rest::new();
    let backend = &rest.backend;
    let taken = status(
        tonic::Code::AlreadyExists,
        "ALREADY_EXISTS",
        "taken",
        &[("resource", "experiment"), ("name", "x")],
    );
    backend.fails::<experiments::v1::CreateResponse>("experiments.v1.ExperimentService/Create", [], taken);
    let answer = rest.send("POST", "/experiments/", json!({"name": "x"})).await;
    assert_eq!(answer.status, 409);
    assert_eq!(
        answer.json()["error"],
        json!({"code": "conflict", "message": "Experiment with name 'x' already exists"})
    );
}

#[tokio::test]
async fn tags_are_listed_and_changed() {
    let rest = Rest::new();
    let backend = &rest.backend;
    let tag =
        tags::v1::Tag { id: "t".into(), name: "tag".into(), color: "#fff".into(), ..Default::default() };
    let shown = json!({"id": "t", "name": "tag", "color": "#fff", "description": "", "run_count": 0, "archived": false});
    backend.answers("tags.v1.TagService/List", [tags::v1::ListResponse { tags: vec![tag.clone()] }]);
    assert_eq!(rest.json("GET", "/tags/", Value::Null).await, json!([shown]));
    assert_eq!(rest.json("GET", "/tags/search/?q=t", Value::Null).await, json!([shown]));
    backend.answers("tags.v1.TagService/Get", [tags::v1::GetResponse { tag: Some(tag.clone()) }]);
    assert_eq!(rest.json("GET", "/tags/t/", Value::Null).await, shown);
    backend.answers("tags.v1.TagService/Create", [tags::v1::CreateResponse { tag: Some(tag.clone()) }]);
    let answer = rest.json("POST", "/tags/", json!({"name": "tag", "color": null})).await;
    assert_eq!(answer, json!({"id": "t", "status": "OK"}));
    backend.answers("tags.v1.TagService/Update", [tags::v1::UpdateResponse { tag: Some(tag) }]);
    rest.json("PUT", "/tags/t/", json!({"color": "red"})).await;
    let request: tags::v1::UpdateRequest = backend.last_request("tags.v1.TagService/Update");
    assert_eq!((request.name, request.color.as_deref()), (None, Some("red")));
    backend.answers("tags.v1.TagService/Delete", [tags::v1::DeleteResponse {}]);
    assert_eq!(rest.json("DELETE", "/tags/t/", Value::Null).await, Value::Null);
    let run = tags::v1::TagRun {
        run_id: "r".into(),
        experiment: Some("e".into()),
        ended_us: Some(1),
        ..Default::default()
    };
    backend.answers(
        "tags.v1.TagService/ListRuns",
        [tags::v1::ListRunsResponse { runs: vec![run], ..Default::default() }],
    );
    assert_eq!(
        rest.json("GET", "/tags/t/runs/", Value::Null).await,
        json!({"id": "t", "runs": [{"run_id": "r", "name": "", "experiment": "e", "creation_time": 0.0, "end_time": 1e-6}]})
    );
}
