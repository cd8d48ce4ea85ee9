//! Notes: each belongs to one owner, and is deleted with it.

use matyan_proto::{
    experiments::v1 as experiments,
    limits,
    notes::v1::{note_service_client::NoteServiceClient, owner::Kind, *},
    runs::v1 as runs,
};
use tonic::service::Routes;

use crate::backend::harness::{Harness, create, not_found, wrong_field};

type Client = NoteServiceClient<Routes>;

fn run(id: &str) -> Option<Owner> {
    Some(Owner { kind: Some(Kind::RunId(id.to_owned())) })
}

async fn make(client: &mut Client, owner: &Option<Owner>, content: &str) -> Note {
    let request = CreateRequest { owner: owner.clone(), content: content.to_owned(), ..Default::default() };
    client.create(request).await.unwrap().into_inner().note.unwrap()
}

async fn contents(client: &mut Client, owner: &Option<Owner>) -> Vec<String> {
    let mut messages = client.list(ListRequest { owner: owner.clone() }).await.unwrap().into_inner();
    let mut contents = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        assert!(message.notes.iter().all(|note| note.owner == *owner));
        contents.extend(message.notes.into_iter().map(|note| note.content));
    }
    contents
}

/// 20 MB of notes: more than fits in a message, or into memory while the list is sorted.
#[tokio::test]
async fn a_list_of_large_notes_comes_in_pieces() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    harness.create(&["r", "other"]).await;
    make(&mut client, &run("other"), "of another").await;
    let content = |at: usize| format!("{at:02} {}", "x".repeat(limits::DOCUMENT_BYTES - 3));
    for at in 0..20 {
        make(&mut client, &run("r"), &content(at)).await;
    }
    let listed = contents(&mut client, &run("r")).await;
    assert!(listed.iter().zip(0..).all(|(listed, at)| *listed == content(at)));
    assert_eq!(listed.len(), 20);
    harness.end().await;
}

#[tokio::test]
async fn notes_belong_to_one_owner() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let mut of_experiments =
        experiments::experiment_service_client::ExperimentServiceClient::new(harness.routes());
    harness.create(&["r", "other"]).await;
    let request = experiments::CreateRequest { name: "e".into(), ..Default::default() };
    let id = of_experiments.create(request).await.unwrap().into_inner().experiment.unwrap().id;
    let experiment = Some(Owner { kind: Some(Kind::ExperimentId(id.clone())) });
    for owner in [run("r"), experiment.clone()] {
        let first = make(&mut client, &owner, "  first ").await;
        make(&mut client, &owner, "second").await;
        assert_eq!(contents(&mut client, &owner).await, ["first", "second"]);
        let get = |owner| GetRequest { owner, id: first.id.clone() };
        assert_eq!(client.get(get(owner.clone())).await.unwrap().into_inner().note.unwrap(), first);
        let update = |owner| UpdateRequest {
            owner,
            id: first.id.clone(),
            content: "changed ".into(),
            ..Default::default()
        };
        let changed = client.update(update(owner.clone())).await.unwrap().into_inner().note.unwrap();
        assert!(changed.content == "changed" && changed.updated_us > first.updated_us);
        let delete = |owner| DeleteRequest { owner, id: first.id.clone() };
        not_found(client.get(get(run("other"))).await, "note", &first.id);
        not_found(client.update(update(run("other"))).await, "note", &first.id);
        not_found(client.delete(delete(run("other"))).await, "note", &first.id);
        client.delete(delete(owner.clone())).await.unwrap();
        not_found(client.delete(delete(owner.clone())).await, "note", &first.id);
        assert_eq!(contents(&mut client, &owner).await, ["second"]);
    }
    of_experiments.delete(experiments::DeleteRequest { id: id.clone() }).await.unwrap();
    not_found(client.list(ListRequest { owner: experiment }).await, "experiment", &id);
    harness.end().await;
}

#[tokio::test]
async fn notes_of_a_deleted_run_do_not_come_back_with_its_id() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    let mut runs = runs::run_service_client::RunServiceClient::new(harness.routes());
    harness.create(&["r"]).await;
    make(&mut client, &run("r"), "old").await;
    let parts = Some(runs::RunParts { note_count: true, ..Default::default() });
    let found =
        runs.get(runs::GetRequest { run_id: "r".into(), parts }).await.unwrap().into_inner().run.unwrap();
    assert_eq!(found.note_count, 1);
    runs.delete(runs::DeleteRequest { run_id: "r".into() }).await.unwrap();
    assert!(contents(&mut client, &run("r")).await.is_empty());
    let request = runs::ClearTombstoneRequest { run_id: "r".into() };
    assert!(runs.clear_tombstone(request).await.unwrap().into_inner().cleared);
    harness.log("r", [create()]).await;
    harness.applied().await;
    assert!(contents(&mut client, &run("r")).await.is_empty());
    harness.end().await;
}

#[tokio::test]
async fn invalid_requests_name_the_field() {
    let harness = Harness::new().await;
    let mut client = Client::new(harness.routes());
    harness.create(&["r"]).await;
    assert!(contents(&mut client, &run("missing")).await.is_empty());
    let request = |owner, content: String| CreateRequest { owner, content, ..Default::default() };
    not_found(client.create(request(run("missing"), "n".into())).await, "run", "missing");
    wrong_field(client.create(request(None, "n".into())).await, "owner");
    let long = "x".repeat(limits::DOCUMENT_BYTES + 1);
    wrong_field(client.create(request(run("r"), long)).await, "content");
    not_found(
        client.get(GetRequest { owner: run("r"), id: "x".repeat(20_000) }).await,
        "note",
        &"x".repeat(20_000),
    );
    harness.end().await;
}
