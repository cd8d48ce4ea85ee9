//! Answers with merged params that no client reads: the params of one project, and of many projects.

use matyan_proto::project::v1::{CreateRequest, ParamsRequest, project_service_client::ProjectServiceClient};
use matyan_tests::{Server, channel, eventually};
use tokio::task::JoinSet;

use super::{PARAM_BYTES, UNREAD_BOUND, ask, create, create_large, megabytes};

/// Number of calls over REST for the params of one project, and as many over gRPC.
const CALLS: usize = 100;

/// Number of projects, whose merges together need more memory than the server has for merges.
const PROJECTS: usize = 40;

const PARAMS: &str = "/api/v1/rest/projects/params/";

/// Waits until the page of a run with two long params has both.
pub(super) async fn applied(server: &Server, page: &str) {
    let url = format!("{}{page}", server.query);
    eventually("the params are applied", async || {
        let answer = reqwest::get(&url).await.map_err(|error| error.to_string())?;
        let page = answer.bytes().await.map_err(|error| error.to_string())?;
        if page.len() > 2 * PARAM_BYTES { Ok(()) } else { Err(format!("{} bytes", page.len())) }
    })
    .await;
}

/// Creates a run, which has to be stored and readable.
pub(super) async fn others_are_served(server: &Server) {
    create(&server.ingest, "last").await;
    eventually("the run of another client is readable", async || {
        server.get("/api/v1/rest/runs/last/info/").await.map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_45_memory_is_bounded_with_many_merged_params_that_nobody_reads() {
    let server = Server::up().await;
    for (run_id, names) in [("first", ["a", "b"]), ("second", ["c", "d"])] {
        create_large(&server.ingest, run_id, names).await;
        applied(&server, &format!("/api/v1/rest/runs/{run_id}/info/")).await;
    }
    let before = server.memory("VmHWM");
    let mut projects = ProjectServiceClient::new(channel(&server.query).await);
    let mut sockets = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..CALLS {
        let (socket, status) = ask(&server.query, PARAMS).await;
        assert_eq!(status, "HTTP/1.1 200");
        sockets.push(socket);
        let answer = projects.params(ParamsRequest::default()).await.expect("the answer begins");
        streams.push(answer.into_inner());
    }
    others_are_served(&server).await;
    let merged = server.get(PARAMS).await.expect("another client reads the answer");
    for name in ["a", "d"] {
        assert_eq!(merged["params"][name].as_str().map(str::len), Some(PARAM_BYTES));
    }
    let largest = server.memory("VmHWM");
    println!(
        "before {}; with {} answers that nobody reads: {}",
        megabytes(before),
        sockets.len() + streams.len(),
        megabytes(largest),
    );
    assert!(largest <= UNREAD_BOUND, "{} exceeds {}", megabytes(largest), megabytes(UNREAD_BOUND));
}

/// Starts with projects that have a large run each.
async fn server_of_projects(names: &[String]) -> Server {
    let mut server = Server::up().await;
    let mut projects = ProjectServiceClient::new(channel(&server.query).await);
    for name in names {
        let project = CreateRequest { name: name.clone(), ..CreateRequest::default() };
        projects.create(project).await.expect("the name is free");
        create_large(&format!("{}/p/{name}", server.ingest), "large", ["a", "b"]).await;
    }
    for name in names {
        applied(&server, &format!("/p/{name}/api/v1/rest/runs/large/info/")).await;
    }
    drop(projects);
    // The memory that the creation of the runs has taken is not measured.
    assert!(server.terminate().await.success(), "{}", server.log());
    server.start().await;
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_45_memory_is_bounded_with_merged_params_of_many_projects_that_nobody_reads() {
    let names: Vec<String> = (0..PROJECTS).map(|number| format!("project-{number}")).collect();
    let server = server_of_projects(&names).await;
    let before = server.memory("VmHWM");
    let mut asking = JoinSet::new();
    for name in names {
        let query = server.query.clone();
        asking.spawn(async move {
            let path = format!("/p/{name}{PARAMS}");
            let (socket, status) = ask(&query, &path).await;
            (path, socket, status)
        });
    }
    let mut unread = Vec::new();
    let mut refused = None;
    // The first refusal comes after ten seconds. The calls that are left then wait for memory as well.
    while refused.is_none()
        && let Some(asked) = asking.join_next().await
    {
        let (path, socket, status) = asked.expect("the server answers");
        match status.as_str() {
            "HTTP/1.1 200" => unread.push(socket),
            "HTTP/1.1 503" => refused = Some(path),
            other => panic!("{other}"),
        }
    }
    others_are_served(&server).await;
    let largest = server.memory("VmHWM");
    println!(
        "before {}; with merged params of {} projects that nobody reads: {}",
        megabytes(before),
        unread.len(),
        megabytes(largest),
    );
    assert!(largest <= UNREAD_BOUND, "{} exceeds {}", megabytes(largest), megabytes(UNREAD_BOUND));
    assert!(!unread.is_empty(), "no answer has begun");
    let refused = refused.expect("the merges of all projects share their memory");
    // A merge gets the memory once the clients of other merges have left.
    asking.shutdown().await;
    drop(unread);
    eventually("the refused params are sent", async || server.get(&refused).await.map(drop)).await;
}
