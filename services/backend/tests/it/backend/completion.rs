//! Completions of queries from what a project has.

use matyan_proto::search::v1::{CompleteRequest, SearchKind, search_service_client::SearchServiceClient};

use crate::backend::harness::{Harness, experiment, params, tag, wrong_field};

fn at(kind: SearchKind, query: &str) -> CompleteRequest {
    let cursor = query.chars().take_while(|character| *character != '|').count() as u32;
    CompleteRequest { kind: kind.into(), text: query.replacen('|', "", 1), cursor, limit: 4 }
}

/// Two runs with params and metrics.
async fn project() -> Harness {
    let harness = Harness::new().await;
    let json = r#"{"hparams": {"lr": 0.5, "optimizer": "adam", "model": {"layers": 3}}, "learning rate": 1}"#;
    harness.log("a", [params(json), tag("best"), tag("b\"é"), experiment("baseline")]).await;
    harness.log("b", [params(r#"{"hparams": {"optimizer": "sgd"}}"#)]).await;
    harness.log("c", [params(r#"{"hparams": {"optimizer": "adam"}, "name": "x"}"#)]).await;
    let values = &[1.0][..];
    harness
        .log_points(
            "a",
            &[("loss", r#"{"subset":"val"}"#, values), ("loss", "", values), ("acc", "", values)],
        )
        .await;
    harness.applied().await;
    harness
}

#[tokio::test]
async fn queries_are_completed_with_what_the_project_has() {
    let harness = project().await;
    let mut client = SearchServiceClient::new(harness.routes());
    for (query, expected) in [
        ("|", &["run", "metric"][..]),
        ("lr|", &["run.hparams.lr"]),
        ("é == 1 and learn|", &[r#"é == 1 and run["learning rate"]"#]),
        ("los|", &[r#"run.metrics["loss", {"subset": "val"}].last"#, r#"run.metrics["loss"].last"#]),
        ("run.hp|", &["run.hparams"]),
        ("run.hparams.|", &["run.hparams.lr", "run.hparams.model", "run.hparams.optimizer"]),
        ("run.hparams.model.la| > 2", &["run.hparams.model.layers > 2"]),
        ("run.na|", &["run.name"]),
        (
            "run.metrics[\"lo|\"].last",
            &[r#"run.metrics["loss", {"subset": "val"}].last"#, r#"run.metrics["loss"].last"#],
        ),
        ("run.metrics[\"loss\"].la|", &["run.metrics[\"loss\"].last", "run.metrics[\"loss\"].last_step"]),
        ("metric.co|", &["metric.context"]),
        ("metric.name == 'a|", &["metric.name == \"acc\""]),
        (
            "run.hparams.optimizer == |",
            &[r#"run.hparams.optimizer == "adam""#, r#"run.hparams.optimizer == "sgd""#],
        ),
        ("run.hparams.optimizer in ('sgd', 'a|", &[r#"run.hparams.optimizer in ('sgd', "adam""#]),
        ("run.hparams.lr > 0|", &["run.hparams.lr > 0.5"]),
        ("run.experiment == 'B|'", &["run.experiment == \"baseline\""]),
        ("run.active == |", &["run.active == True", "run.active == False"]),
        ("run.outcome == \"fi|\"", &["run.outcome == \"finished\""]),
        ("'b|' in run.tags", &[r#""b\"é" in run.tags"#, r#""best" in run.tags"#]),
        ("run.hparams.lr|", &[]),
        ("run.lr |", &[]),
        ("run.nothing.|", &[]),
    ] {
        let request = at(SearchKind::Runs, query);
        let found = client.complete(request.clone()).await.unwrap().into_inner();
        let text: Vec<char> = request.text.chars().collect();
        let completed = |inserted: &str| {
            let before = &text[..found.start as usize];
            let after = &text[found.end as usize..];
            before.iter().copied().chain(inserted.chars()).chain(after.iter().copied()).collect::<String>()
        };
        let mut proposed: Vec<String> = found.completions.iter().map(|one| completed(&one.text)).collect();
        if query.starts_with("'b|") {
            proposed.sort();
        }
        assert_eq!(proposed, expected, "{query}");
    }
    // A path that no index can have.
    let long = "k".repeat(20_000);
    let deep = "a.".repeat(4_000);
    for text in [format!("run.{long} == |"), format!("run.{long}.b > |"), format!("run.{deep}b == |")] {
        let found = client.complete(at(SearchKind::Runs, &text)).await.unwrap().into_inner();
        assert_eq!(found.completions, []);
    }
    let found = client.complete(at(SearchKind::Images, "|")).await.unwrap().into_inner();
    assert_eq!(found.completions[1].text, "images");
    let found = client.complete(at(SearchKind::Runs, "run.h|")).await.unwrap().into_inner();
    assert!(found.completions.iter().any(|one| one.text == "hparams" && one.is_open), "{found:?}");

    wrong_field(client.complete(CompleteRequest { cursor: 9, ..at(SearchKind::Runs, "é|") }).await, "cursor");
    wrong_field(client.complete(at(SearchKind::Unspecified, "|")).await, "kind");
    wrong_field(client.complete(CompleteRequest { limit: 101, ..at(SearchKind::Runs, "|") }).await, "limit");
    harness.end().await;
}
