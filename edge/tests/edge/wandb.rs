//! W&B's protocol at the port: where its paths lead, what its requests become, and its errors.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use matyan_edge::{Edge, Metrics, Protocol, Settings, Transport};
use matyan_proto::runs::v1 as runs;
use matyan_proto::search::v1 as search;
use serde_json::{Value, json};

use super::backend::Backend;
use super::frontier::Frontier;

struct Port {
    backend: Backend,
    edge: Edge,
}

impl Port {
    fn new(protocols: &[Protocol]) -> Self {
        let backend = Backend::default();
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let frontier = Some(Transport::new(Frontier::new().routes()));
        let settings = Settings { protocols: protocols.to_vec(), ..Settings::default() };
        let edge = matyan_edge::query(settings, metrics, Transport::new(backend.clone()), frontier);
        Port { backend, edge }
    }

    async fn send(&self, path: &str, body: &str) -> (u16, Vec<u8>) {
        let request =
            Request::post(path).header("host", "localhost:1").body(Body::from(body.to_owned())).unwrap();
        let (head, body) = self.edge.answer(request).await.into_parts();
        (head.status.as_u16(), body.collect().await.unwrap().to_bytes().to_vec())
    }

    async fn execute(&self, path: &str, document: &str, variables: Value) -> (u16, Value) {
        let body = json!({"query": document, "variables": variables}).to_string();
        let (status, answer) = self.send(path, &body).await;
        (status, serde_json::from_slice(&answer).unwrap())
    }
}

#[tokio::test]
async fn documents_are_executed() {
    let port = Port::new(&[Protocol::Wandb]);
    let document = r#"
        query ($skip: Boolean!) {
            who: viewer { ...F email @skip(if: $skip) }
            __type(name: "ArtifactAlias") { fields { name } }
            serverInfo { cliVersionInfo features { name } }
            entity(name: "me") { organization { coreWeaveOrganizationId } }
        }
        fragment F on User { __typename entity }
    "#;
    let (status, answer) = port.execute("/graphql", document, json!({"skip": true})).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["data"]["who"], json!({"__typename": "User", "entity": "matyan"}));
    let fields = json!([{"name": "id"}, {"name": "alias"}, {"name": "artifactCollection"}]);
    assert_eq!(answer["data"]["__type"]["fields"], fields);
    assert_eq!(answer["data"]["serverInfo"]["features"], json!([]));
    assert_eq!(answer["data"]["entity"], json!({"organization": null}));
}

#[tokio::test]
async fn a_list_of_runs_is_a_search() {
    let port = Port::new(&[Protocol::Wandb]);
    let props = runs::Props { name: "n".into(), created_us: 1_000_000, ..Default::default() };
    let run = runs::Run { run_id: "r:p".into(), props: Some(props), ..Default::default() };
    let page =
        search::RunsResponse { runs: vec![run], done: true, next_cursor: "c".into(), ..Default::default() };
    port.backend.answers("search.v1.SearchService/Runs", [page]);
    let document = "query ($filters: JSONString) { project(name: \"p\", entityName: \"me\") {
        runs(filters: $filters, first: 3, order: \"-config.lr\") {
            edges { node { name displayName state createdAt project { name entity { name } } } cursor }
            pageInfo { hasNextPage endCursor }
        }
    } }";
    let filters = json!({"filters": "{\"config.lr\": {\"$lt\": 0.5}}"});
    let (status, answer) = port.execute("/p/team/graphql", document, filters).await;
    assert_eq!(status, 200, "{answer}");
    let node = json!({
        "name": "r",
        "displayName": "n",
        "state": "crashed",
        "createdAt": "1970-01-01T00:00:01.000000Z",
        "project": {"name": "p", "entity": {"name": "me"}},
    });
    let found = &answer["data"]["project"]["runs"];
    assert_eq!(found["edges"], json!([{"node": node, "cursor": "c"}]));
    assert_eq!(found["pageInfo"], json!({"hasNextPage": true, "endCursor": "c"}));
    let request: search::RunsRequest = port.backend.last_request("search.v1.SearchService/Runs");
    let text = request.query.unwrap().text;
    assert_eq!(text, "run.experiment == \"p\" and (((run.hparams.lr < 0.5)))");
    assert_eq!((request.limit, request.sort[0].descending), (3, true));
}

#[tokio::test]
async fn errors_are_those_of_graphql() {
    let port = Port::new(&[Protocol::Wandb]);
    for (document, named) in [
        ("{ viewer { nothing } }", "Cannot query field \"nothing\" on type \"User\"."),
        ("{ viewer {", " --> "),
        (&*"{ viewer ".repeat(1_000), "nested too deep"),
        (&*format!("{{ {} }}", "a: viewer { id } ".repeat(600)), "too complex"),
    ] {
        let (status, answer) = port.execute("/graphql", document, json!({})).await;
        assert!(status < 500, "{status}: {answer}");
        let message = answer["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains(named), "{document}: {message}");
    }
    let sweep = "mutation { upsertSweep(input: {config: \"{}\"}) { sweep { name } } }";
    let (status, answer) = port.execute("/graphql", sweep, json!({})).await;
    assert_eq!(status, 200);
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("Optuna"), "{answer}");
    for body in ["", "{", "[]", "{}"] {
        assert_eq!(port.send("/graphql", body).await.0, 400, "{body}");
    }
}

/// 1,500 bytes that the executor would expand to 20^15 fields.
#[tokio::test]
async fn rule_110_fragments_that_multiply_are_not_executed() {
    let port = Port::new(&[Protocol::Wandb]);
    let spreads = |next: usize| format!("...F{next} ").repeat(20);
    let fragments: String =
        (0..15).map(|at| format!("fragment F{at} on User {{ {} }} ", spreads(at + 1))).collect();
    let document = format!("{{ viewer {{ ...F0 }} }} {fragments} fragment F15 on User {{ id }}");
    let (status, answer) = port.execute("/graphql", &document, json!({})).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("too complex"), "{answer}");
}

#[tokio::test]
async fn figures_about_clients_are_dropped() {
    let port = Port::new(&[Protocol::Wandb]);
    for path in ["/sdk/otel/v1/metrics", "/sdk/otel/v1/logs"] {
        assert_eq!(port.send(path, "\u{1}\u{2}").await, (200, Vec::new()));
    }
}

#[tokio::test]
async fn a_protocol_that_is_off_has_no_routes() {
    let port = Port::new(&[]);
    for path in ["/graphql", "/files/me/p/r/file_stream", "/sdk/otel/v1/logs"] {
        assert_eq!(port.send(path, "{}").await.0, 404, "{path}");
    }
}
