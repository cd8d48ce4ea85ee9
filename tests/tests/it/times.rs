//! Dates in queries, through the whole system: a run is found by its creation time in the time
//! zone of the user, east and west of Greenwich, and also after a restore from an archive.

use std::{collections::BTreeSet, process::Command};

use matyan_tests::{
    Server,
    codec::entries,
    eventually,
    json::{JsonWriter, create_run, finish_run},
    server::binary,
};
use time::OffsetDateTime;

/// Runs that a query finds for a user whose clock is `minutes_behind` UTC.
async fn found(server: &Server, query: &str, minutes_behind: i64) -> BTreeSet<String> {
    let request = reqwest::Client::new().get(format!("{}/api/v1/rest/runs/search/run/", server.query));
    let request = request.query(&[("q", query)]).header("X-Timezone-Offset", minutes_behind.to_string());
    let answer = request.send().await.expect("the server answers");
    assert_eq!(answer.status(), 200, "{query}");
    let body = answer.bytes().await.expect("the body is complete");
    entries(&body).iter().filter(|entry| !entry.is_progress()).map(|entry| entry.top().to_owned()).collect()
}

/// A `datetime` expression for a clock that is `minutes_behind` UTC.
fn written(seconds: i64, minutes_behind: i64) -> String {
    let local =
        OffsetDateTime::from_unix_timestamp(seconds - 60 * minutes_behind).expect("the time is in range");
    let month = u8::from(local.month());
    let hour = local.hour();
    format!(
        "datetime({}, {month}, {}, {hour}, {}, {})",
        local.year(),
        local.day(),
        local.minute(),
        local.second()
    )
}

async fn is_found_by_the_second(server: &Server, made: i64) {
    for minutes_behind in [0, 300, -240, -330, 720] {
        let from = written(made, minutes_behind);
        let to = written(made + 1, minutes_behind);
        let query = format!("{from} <= run.created_at < {to}");
        assert_eq!(
            found(server, &query, minutes_behind).await,
            BTreeSet::from(["dated".to_owned()]),
            "{query}"
        );
        if minutes_behind != 0 {
            assert!(found(server, &query, -minutes_behind).await.is_empty(), "{query}: opposite offset");
        }
        let before = format!("run.created_at < {from} or run.end_time < {from}");
        assert!(found(server, &before, minutes_behind).await.is_empty(), "{before}");
    }
}

#[tokio::test]
async fn runs_are_found_by_local_time_of_the_user() {
    let server = Server::up().await;
    let mut writer = JsonWriter::connect(&server.ingest, "dated").await.expect("the server listens");
    for frame in [create_run(), finish_run()] {
        writer.send(&frame).await.expect("it is acknowledged");
    }
    let mut made = 0;
    eventually("the run is finished", async || {
        let info = server.get("/api/v1/rest/runs/dated/info/").await?;
        made = info["props"]["creation_time"].as_f64().unwrap_or_default().floor() as i64;
        if info["props"]["active"] == false { Ok(()) } else { Err(info["props"].to_string()) }
    })
    .await;
    is_found_by_the_second(&server, made).await;

    let folder = tempfile::tempdir().expect("a directory is created");
    let matyan = |server: &Server, words: &[&str]| {
        let mut command = Command::new(binary());
        let ended = command.args(words).args(["--server", &server.query]).env_clear().output();
        let ended = ended.expect("the binary starts");
        assert!(ended.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ended.stderr));
    };
    matyan(&server, &["backup", folder.path().to_str().expect("text")]);
    let archive =
        folder.path().read_dir().expect("a directory").next().expect("an archive").expect("a name").path();
    let other = Server::up().await;
    matyan(&other, &["restore", archive.to_str().expect("text")]);
    is_found_by_the_second(&other, made).await;
}
