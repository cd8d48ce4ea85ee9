//! The services as processes of their own, one after another on one data directory: what a frontier took, an ingestion
//! worker applies and a backend shows, though none of them ever met another.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use matyan_tests::{
    Reader, eventually,
    json::{Ack, JsonWriter, create_run, metric},
    server::binary,
};
use serde_json::{Value, json};

/// One that runs, on a port of its own if it has one.
struct Service {
    process: Child,
    addresses: Value,
}

impl Service {
    async fn start(role: &str, folder: &Path) -> Self {
        let ready = folder.join("ready.json");
        let mut command = Command::new(binary());
        command.arg(role).args(["--store", "embedded:", "--log", "embedded:", "--blobs", "embedded:"]);
        command.arg("--data-dir").arg(folder.join("data")).arg("--ready-file").arg(&ready);
        command.args(["--host", "127.0.0.1"]);
        match role.ends_with("-worker") {
            true => command.arg("--metrics-port").arg(free_port().to_string()),
            false => command.args(["--port", "0"]),
        };
        let mut process = command.stdout(Stdio::null()).spawn().expect("the binary starts");
        let addresses = eventually(&format!("{role} is ready"), async || {
            let ended = process.try_wait().map_err(|error| error.to_string())?;
            assert_eq!(ended, None, "{role} ended");
            let text = std::fs::read_to_string(&ready).map_err(|error| error.to_string())?;
            serde_json::from_str(&text).map_err(|error| error.to_string())
        })
        .await;
        std::fs::remove_file(&ready).expect("the file is there");
        Self { process, addresses }
    }

    fn address(&self, side: &str) -> &str {
        self.addresses[side].as_str().expect("the service has this side")
    }

    async fn stop(&mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill is a command").success());
        let status = eventually("it ends", async || {
            let ended = self.process.try_wait().map_err(|error| error.to_string())?;
            ended.ok_or_else(|| "it still runs".to_owned())
        });
        assert!(status.await.success());
    }
}

/// Of a worker's port 0 means none.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it listens").port()
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            self.process.kill().expect("a child can be killed");
            self.process.wait().expect("a killed child can be waited for");
        }
    }
}

#[tokio::test]
async fn services_apart_do_what_they_do_together() {
    let folder = tempfile::tempdir().expect("the temporary directory is writable");

    let mut frontier = Service::start("frontier", folder.path()).await;
    assert_eq!(frontier.addresses["query"], Value::Null);
    let mut writer =
        JsonWriter::connect(frontier.address("ingest"), "run").await.expect("the frontier listens");
    let frame = json!([create_run(), metric("loss", 0.5, None), metric("loss", f64::MIN_POSITIVE, None)]);
    assert_eq!(writer.send(&frame).await, Ok(Ack::Ok));
    drop(writer);
    frontier.stop().await;

    let values = eventually("the points are applied", async || {
        Service::start("ingest-worker", folder.path()).await.stop().await;
        let mut backend = Service::start("backend", folder.path()).await;
        let points = Reader::connect(backend.address("query")).await.points("run", "loss", "").await;
        backend.stop().await;
        let points = points.map_err(|status| status.to_string())?;
        if points.is_empty() { Err("no points".to_owned()) } else { Ok(points) }
    })
    .await;
    assert_eq!(
        values.iter().map(|point| (point.step, point.value)).collect::<Vec<_>>(),
        [(0, 0.5), (1, f64::MIN_POSITIVE)]
    );

    Service::start("control-worker", folder.path()).await.stop().await;
}

/// Of a worker as of every other process one can ask whether it lives, whether it can do its work, and what it counts.
#[tokio::test]
async fn workers_tell_how_they_are() {
    let folder = tempfile::tempdir().expect("the temporary directory is writable");
    for role in ["ingest-worker", "control-worker"] {
        let mut worker = Service::start(role, folder.path()).await;
        let get = async |path: &str| {
            let answer =
                reqwest::get(format!("{}{path}", worker.address("metrics"))).await.expect("it answers");
            (answer.status().as_u16(), answer.text().await.expect("it answers in text"))
        };
        let checks =
            json!({"worker": "ok", "fdb": "ok", "kafka": {"control": "ok", "ingestion": "ok"}, "blob": "ok"});
        let ready = json!({"status": "ok", "checks": checks});
        assert_eq!(get("/health/live/").await, (200, json!({"status": "ok"}).to_string()), "{role}");
        let (status, told) = get("/health/ready/").await;
        assert_eq!((status, told.parse::<Value>().expect("it is JSON")), (200, ready), "{role}");
        let (status, metrics) = get("/metrics").await;
        assert!(status == 200 && metrics.contains("matyan_ingestion_window_bytes 0"), "{metrics}");
        assert_eq!(get("/api/v1/rest/runs/").await.0, 404, "{role}");
        worker.stop().await;
    }
}
