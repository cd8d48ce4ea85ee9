//! A server with access control, and the token of this process.

use std::fs;

use matyan_sdk::{
    AccessToken, CloseLimits, Config, Context, Run, RunOptions,
    http::Timeouts,
    reading::{BackendClient, BackendOptions, Search},
};
use matyan_tests::Server;

fn search(server: &Server) -> Result<Vec<String>, String> {
    let options = BackendOptions {
        timeouts: Timeouts::default(),
        interrupted: || false,
        runtime: matyan_sdk::io_runtime,
    };
    let client = BackendClient::new(&server.query, options).map_err(|error| error.to_string())?;
    let found = client.search(&Search::runs("")).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    Ok(found.map_err(|error| error.to_string())?.into_iter().map(|run| run.id).collect())
}

#[test]
fn runs_are_recorded_and_read_with_a_token() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(Server::up_with(&["--access", "on"]));
    let token = fs::read_to_string(server.data_dir().join("operator-token")).unwrap();
    let error = search(&server).expect_err("no token is known yet");
    assert!(error.contains("MATYAN_TOKEN"), "{error}");

    let spools = tempfile::tempdir().unwrap();
    let config = Config {
        backend_url: server.query.clone(),
        gateway_url: server.ingest.clone(),
        token: AccessToken::new(&token),
        spool_dirs: vec![spools.path().to_owned()],
        ..Config::default()
    };
    let run = Run::new(RunOptions { config, ..RunOptions::default() }).unwrap();
    let loss = run.series("loss", &Context::parse("{}").unwrap(), "float").unwrap();
    run.track(&loss, 0.5, Some(1), None);
    let id = run.id().to_owned();
    assert_eq!(run.close(CloseLimits::default(), |_| true).pending, 0);
    matyan_tests::eventually_blocking("the run is found", || {
        let found = search(&server)?;
        if found == [id.as_str()] { Ok(()) } else { Err(format!("{found:?}")) }
    });
    drop(server);
}

#[test]
fn a_run_with_a_wrong_token_keeps_its_data_until_a_good_one_arrives() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(Server::up_with(&["--access", "on"]));
    let token = fs::read_to_string(server.data_dir().join("operator-token")).unwrap();
    let spools = tempfile::tempdir().unwrap();
    let config = Config {
        backend_url: server.query.clone(),
        gateway_url: server.ingest.clone(),
        spool_dirs: vec![spools.path().to_owned()],
        ..Config::default()
    };
    let run = Run::new(RunOptions { config, ..RunOptions::default() }).unwrap();
    let loss = run.series("loss", &Context::parse("{}").unwrap(), "float").unwrap();
    run.track(&loss, 0.5, Some(1), None);
    let mut notices = Vec::new();
    matyan_tests::eventually_blocking("the run says what is wrong", || {
        notices.extend(run.notices().into_iter().map(|notice| notice.message));
        // The server's own words, and where the data is.
        let is_clear = |it: &String| it.contains("send a token, by MATYAN_TOKEN") && it.contains("kept in");
        if notices.iter().any(is_clear) { Ok(()) } else { Err(format!("{notices:?}")) }
    });
    AccessToken::new(&token).unwrap().use_for(&server.ingest);
    AccessToken::new(&token).unwrap().use_for(&server.query);
    assert_eq!(run.close(CloseLimits::default(), |_| true).pending, 0);
    matyan_tests::eventually_blocking("the run is found", || {
        let found = search(&server)?;
        if found == [run.id()] { Ok(()) } else { Err(format!("{found:?}")) }
    });
    drop(server);
}
