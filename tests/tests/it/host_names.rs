//! The names under which a server answers, and what it says when other machines can connect.

use matyan_tests::Server;
use reqwest::StatusCode;

/// Statuses of a request to the query port under each name.
async fn statuses(server: &Server, names: &[&str]) -> Vec<StatusCode> {
    let client = reqwest::Client::new();
    let mut statuses = Vec::new();
    for name in names {
        let request = client.get(format!("{}/api/v1/rest/version/", server.query)).header("host", *name);
        statuses.push(request.send().await.expect("the server answers").status());
    }
    statuses
}

async fn open_to_network(server: &Server) -> String {
    let text = reqwest::get(format!("{}/metrics/", server.query)).await.expect("the server answers");
    let text = text.text().await.expect("metrics are text");
    let line = text.lines().find(|line| line.starts_with("matyan_open_to_network "));
    line.expect("the metric exists").to_owned()
}

const OK: StatusCode = StatusCode::OK;
const REFUSED: StatusCode = StatusCode::MISDIRECTED_REQUEST;

#[tokio::test]
async fn a_server_on_this_machine_answers_to_its_names_only() {
    let server = Server::up_with(&["--allowed-hosts", "matyan.example"]).await;
    let names = ["localhost:1", "10.0.0.1", "matyan.example", "evil.example", "matyan"];
    assert_eq!(statuses(&server, &names).await, [OK, OK, OK, REFUSED, REFUSED]);
    assert_eq!(open_to_network(&server).await, "matyan_open_to_network 0");
    assert!(!server.log().contains("OPEN"), "{}", server.log());
}

#[tokio::test]
async fn a_server_open_to_the_network_says_so() {
    let server = Server::up_with(&["--host", "0.0.0.0", "--access", "off"]).await;
    // Names of containers and of the network work without a setting.
    let names = ["localhost", "10.0.0.1:53800", "matyan", "matyan.ns.svc.cluster.local", "evil.example"];
    assert_eq!(statuses(&server, &names).await, [OK, OK, OK, OK, REFUSED]);
    assert_eq!(open_to_network(&server).await, "matyan_open_to_network 1");
    let log = server.log();
    assert!(log.contains("OPEN") && log.contains("listening for other machines"), "{log}");
}
