//! Walks through lists of runs over REST, by cursor, while runs are created, archived, deleted and
//! renamed: a run that stays is on exactly one page, and every walk ends.

use std::collections::HashSet;

use matyan_tests::{
    Server,
    codec::{Value as Leaf, entries},
    eventually,
    json::{JsonWriter, create_run},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

const EXPERIMENT: &str = "walked";

/// A list over REST.
#[derive(Clone, Debug)]
enum List {
    Search {
        query: &'static str,
        sort: &'static str,
    },
    /// Runs of the experiment with this id.
    Experiment(String),
}

/// Runs of a server that change.
struct Project {
    server: Server,
    http: Client,
    random: StdRng,
    runs: Vec<String>,
    created: usize,
}

impl Project {
    async fn new(seed: u64, runs: usize) -> Self {
        let server = Server::up().await;
        let http = Client::new();
        let random = StdRng::seed_from_u64(seed);
        let mut project = Self { server, http, random, runs: Vec::new(), created: 0 };
        for _ in 0..runs {
            project.create().await;
        }
        project
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1/rest{path}", self.server.query)
    }

    /// Creates a run, and returns when it is in all lists.
    async fn create(&mut self) {
        // Not in the order of creation.
        let id = format!("{:04x}-{}", self.random.random_range(0..1 << 16), self.created);
        self.created += 1;
        let mut writer = JsonWriter::connect(&self.server.ingest, &id).await.expect("the server listens");
        writer.send(&create_run()).await.expect("the frame is acknowledged");
        let path = format!("/api/v1/rest/runs/{id}/info/");
        eventually("the run exists", async || self.server.get(&path).await).await;
        let name = format!("name {}", self.random.random_range(0..9));
        self.put(&id, json!({"experiment": EXPERIMENT, "name": name})).await;
        self.runs.push(id);
    }

    async fn put(&self, id: &str, fields: Value) {
        sent(self.http.put(self.url(&format!("/runs/{id}/"))).json(&fields)).await;
    }

    /// Makes a change. Returns the run that may now be somewhere else in a list, or in none.
    async fn change(&mut self) -> Option<String> {
        let at = self.random.random_range(0..self.runs.len());
        let id = self.runs[at].clone();
        match self.random.random_range(0..5) {
            0 | 1 => {
                self.create().await;
                return None;
            }
            2 => {
                self.runs.remove(at);
                sent(self.http.delete(self.url(&format!("/runs/{id}/")))).await;
            }
            3 => {
                let archived = self.random.random_bool(0.7);
                self.put(&id, json!({"archived": archived})).await;
            }
            _ => {
                let name = format!("name {}", self.random.random_range(0..9));
                self.put(&id, json!({"name": name})).await;
            }
        }
        Some(id)
    }

    /// A page of a list, and the cursor of the next one, if the server sends one.
    async fn page(&self, list: &List, parameters: &[(&str, &str)]) -> (Vec<String>, Option<String>) {
        let request = match list {
            List::Search { query, sort } => {
                self.http.get(self.url("/runs/search/run/")).query(&[("q", query), ("sort", sort)])
            }
            List::Experiment(id) => self.http.get(self.url(&format!("/experiments/{id}/runs/"))),
        };
        let body = sent(request.query(parameters)).await;
        match list {
            List::Search { .. } => searched(&body),
            List::Experiment(_) => listed(&serde_json::from_slice(&body).expect("the answer is JSON")),
        }
    }
}

/// The body of the answer to a request, which must succeed.
async fn sent(request: RequestBuilder) -> Vec<u8> {
    let answer = request.send().await.expect("the server answers");
    let status = answer.status();
    let body = answer.bytes().await.expect("the answer is complete").to_vec();
    assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
    body
}

fn searched(body: &[u8]) -> (Vec<String>, Option<String>) {
    let mut ids: Vec<String> = Vec::new();
    let mut next = None;
    for entry in entries(body) {
        let top = entry.top().to_owned();
        match entry.value {
            Leaf::Text(cursor) if top == "progress_cursor" => next = Some(cursor),
            _ if !top.starts_with("progress_") && ids.last() != Some(&top) => {
                ids.push(top);
            }
            _ => {}
        }
    }
    (ids, next)
}

fn listed(answer: &Value) -> (Vec<String>, Option<String>) {
    let runs = answer["runs"].as_array().expect("a list");
    let ids = runs.iter().map(|run| run["run_id"].as_str().expect("a text").to_owned()).collect();
    (ids, answer["next_cursor"].as_str().map(str::to_owned))
}

async fn walk(project: &mut Project, list: &List, context: &str) {
    let (before, none) = project.page(list, &[]).await;
    assert_eq!(none, None, "{context}: a request without a cursor gets none");
    let mut moved: Vec<String> = Vec::new();
    let mut read: Vec<String> = Vec::new();
    let mut cursor = String::new();
    loop {
        let limit = project.random.random_range(1..=9).to_string();
        let (page, next) = project.page(list, &[("limit", &limit), ("cursor", &cursor)]).await;
        read.extend(page);
        cursor = next.expect("a request with a cursor gets one");
        if cursor.is_empty() {
            break;
        }
        // The last run of a page is the one that a page by `offset` would need.
        if project.random.random_bool(0.5)
            && let Some(at) = project.runs.iter().position(|run| Some(run) == read.last())
        {
            let id = project.runs[at].clone();
            if project.random.random_bool(0.5) {
                project.put(&id, json!({"archived": true})).await;
            } else {
                sent(project.http.delete(project.url(&format!("/runs/{id}/")))).await;
                project.runs.remove(at);
            }
            moved.push(id);
        }
        for _ in 0..project.random.random_range(0..3) {
            moved.extend(project.change().await);
        }
        assert!(read.len() <= before.len() + moved.len(), "{context}: the walk does not end");
    }
    let stays = |id: &&String| !moved.contains(id);
    let stayed: Vec<&String> = before.iter().filter(stays).collect();
    assert_eq!(read.iter().filter(stays).collect::<Vec<_>>(), stayed, "{context}");
    if let List::Experiment(_) = list {
        let unique: HashSet<&String> = read.iter().collect();
        assert_eq!(unique.len(), read.len(), "{context}: a run is on two pages");
    }
}

#[tokio::test]
async fn a_walk_misses_and_repeats_nothing_that_stays() {
    let mut project = Project::new(1, 30).await;
    let experiments = project.server.get("/api/v1/rest/experiments/").await.expect("experiments are listed");
    let id = experiments.as_array().and_then(|all| all.iter().find(|one| one["name"] == EXPERIMENT));
    let id = id.and_then(|one| one["id"].as_str()).expect("the experiment exists");
    let mut lists = vec![List::Experiment(id.to_owned())];
    for query in ["", "run.archived in (True, False)"] {
        for sort in
            ["", r#"[{"field":"run","order":"desc"}]"#, r#"[{"field":"date"}]"#, r#"[{"field":"hash"}]"#]
        {
            lists.push(List::Search { query, sort });
        }
    }
    for round in 0..2 {
        for list in &lists {
            while project.runs.len() < 30 {
                project.create().await;
            }
            walk(&mut project, list, &format!("round {round}: {list:?}")).await;
        }
    }
}
