//! `matyan logs`: terminal lines and log records of a run, also as they are written.

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
};

use matyan_tests::{
    Server, eventually,
    json::{create_run, finish_run, log_record},
};
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use super::{RUN, command, json_lines_of, line, log, log_run, stdout_of};

#[tokio::test]
async fn logs_are_shown_and_followed() {
    let server = Server::up().await;
    log_run(&server).await;
    assert_eq!(stdout_of(&server, &["logs", RUN]), "epoch 1\nepoch 2\n");
    assert_eq!(
        json_lines_of(&server, &["logs", RUN, "--tail", "1"]),
        [json!({"step": 1, "text": "epoch 2"})]
    );
    assert_eq!(stdout_of(&server, &["logs", RUN, "--records"]), "2026-01-02 03:04:05  INFO      learning\n");
    let record = json!({
        "type": "log_record", "message": "slow", "level": 30, "timestamp": 1_767_323_045.0,
        "logger_info": ["train.py", 7], "extra_args": {"rate": 0.5, "why\n": [null]},
    });
    log(&server, "noted", &[create_run(), log_record("learning", 1_767_323_045.0), record]).await;
    eventually("the records are applied", async || {
        let records = stdout_of(&server, &["logs", "noted", "--records"]);
        if records.lines().count() == 2 { Ok(()) } else { Err(records) }
    })
    .await;
    let output = "2026-01-02 03:04:05  WARNING   slow  {\"rate\":0.5,\"why\\n\":[null]}";
    assert_eq!(stdout_of(&server, &["logs", "noted", "--records"]).lines().nth(1), Some(output));
    let records = json_lines_of(&server, &["logs", "noted", "--records"]);
    assert_eq!((&records[0]["args"], &records[0]["logger_info"]), (&Value::Null, &Value::Null));
    assert_eq!(records[1]["args"], json!({"rate": 0.5, "why\n": [null]}));
    assert_eq!(records[1]["logger_info"], json!(["train.py", 7]));

    log(&server, "live", &[create_run(), line(0, "one")]).await;
    let mut following = Following::start(&mut command(&server, &["logs", "live", "-f"]));
    assert_eq!(following.next(), Some("one".to_owned()));
    log(&server, "live", &[line(1, "two")]).await;
    assert_eq!(following.next(), Some("two".to_owned()));
    log(&server, "live", &[finish_run()]).await;
    assert_eq!(following.next(), None, "the output ends with the run");
    assert!(following.process.wait().expect("the command exits").success());
}

/// A command that follows a log. It is killed when this is dropped.
struct Following {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Following {
    fn start(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
        let stdout = process.stdout.take().expect("the output is piped");
        Self { process, output: BufReader::new(stdout).lines() }
    }

    fn next(&mut self) -> Option<String> {
        self.output.next().map(|line| line.expect("the output is text"))
    }

    /// A field of each of the next lines of JSON.
    fn next_fields(&mut self, name: &str, count: usize) -> Vec<String> {
        let lines = (0..count).map_while(|_| self.next());
        let field =
            |line: String| serde_json::from_str::<Value>(&line).expect("every line is JSON")[name].clone();
        lines.map(|line| field(line).as_str().expect("the field is text").to_owned()).collect()
    }

    /// A field of each of the lines until the command succeeds.
    fn rest(&mut self, name: &str) -> Vec<String> {
        let fields = self.next_fields(name, usize::MAX);
        assert!(self.process.wait().expect("the command exits").success());
        fields
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // A process that has exited already needs neither.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// URL of a proxy for the server, whose own port changes with each start.
async fn lasting_url(current: Arc<Mutex<String>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("a listener has an address"));
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let address = current.lock().expect("no holder panics").replace("http://", "");
            tokio::spawn(async move {
                let mut far = TcpStream::connect(address).await?;
                copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_log_continues_after_the_server_restarts() {
    let mut server = Server::up().await;
    let address = Arc::new(Mutex::new(server.query.clone()));
    let set_address = |to: &str| to.clone_into(&mut address.lock().expect("no holder panics"));
    let url = lasting_url(address.clone()).await;
    let follow = |words: &[&str]| {
        let mut command = command(&server, &[&["logs", "live", "-f", "--json"], words].concat());
        Following::start(command.env("MATYAN_BACKEND_URL", &url))
    };
    log(&server, "live", &[create_run()]).await;
    let mut lines = follow(&[]);
    let mut records = follow(&["--records"]);
    let first = [line(0, "0 %"), line(1, "one"), line(2, "two"), log_record("first", 0.0)];
    log(&server, "live", &first).await;
    assert_eq!(lines.next_fields("text", 3), ["0 %", "one", "two"]);
    log(&server, "live", &[line(0, "50 %")]).await;
    assert_eq!(lines.next_fields("text", 1), ["50 %"]);
    assert_eq!(records.next_fields("message", 1), ["first"]);

    set_address("");
    server.kill();
    server.start().await;
    log(&server, "live", &[line(0, "100 %"), line(3, "three"), log_record("second", 0.0)]).await;
    set_address(&server.query);
    assert_eq!(lines.next_fields("text", 2), ["100 %", "three"]);
    assert_eq!(records.next_fields("message", 1), ["second"]);

    set_address("");
    assert!(server.terminate().await.success());
    server.start().await;
    set_address(&server.query);
    log(&server, "live", &[line(4, "four"), log_record("third", 0.0), finish_run()]).await;
    assert_eq!(lines.rest("text"), ["four"]);
    assert_eq!(records.rest("message"), ["third"]);
}
