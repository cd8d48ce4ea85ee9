//! The whole system over Kafka as people run it on few machines: `matyan frontier` as a process of its own, and `matyan up`
//! with its embedded store, which works the log off; or all services apart, over FoundationDB. Each scene has topics of its
//! own on a broker that others may use too.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use matyan_servers::{
    foundationdb::Cluster,
    kafka::{Broker, Way},
};
use serde_json::json;
use tempfile::TempDir;

use super::admin::Admin;
use crate::{
    Reader, Service, eventually,
    json::{Ack, JsonWriter, metric},
    server::binary,
};

pub struct Scene {
    pub admin: Admin,
    pub group: String,
    pub ingestion: String,
    pub control: String,
    pub dead_letters: String,
    pub frontier: Service,
    /// What answers queries: everything else in one process, or the backend alone.
    pub up: Service,
    way: Way,
    partitions: u32,
    format: &'static str,
    http: reqwest::Client,
    folder: TempDir,
}

impl Scene {
    /// With everything at work.
    pub async fn start(broker: &Broker, name: &str, partitions: u32) -> Self {
        let mut scene = Self::set(broker, name, partitions, "protobuf");
        scene.up.start().await;
        scene.frontier.start().await;
        scene
    }

    /// With frontier and backend at work, whose store is a FoundationDB; workers are what the scene is about.
    pub async fn apart(broker: &Broker, name: &str, partitions: u32, cluster: &Cluster) -> Self {
        let mut scene = Self::set(broker, name, partitions, "protobuf");
        scene.up = scene.another("backend", "backend", cluster);
        scene.up.start().await;
        scene.frontier.start().await;
        scene
    }

    /// One more process, by its name, on the same topics and blobs.
    pub fn another(&self, role: &'static str, name: &str, cluster: &Cluster) -> Service {
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).expect("a directory is made");
        self.service_in(&folder, role, &self.way).flag("store", format!("fdb://{}", text(&cluster.file())))
    }

    /// With its topics made, and no service running.
    pub fn set(broker: &Broker, name: &str, partitions: u32, format: &'static str) -> Self {
        Self::new(broker, broker.way(), name, partitions, format)
    }

    /// The same, where all processes come to the broker in this way.
    pub fn by(broker: &Broker, way: Way, name: &str) -> Self {
        Self::new(broker, way, name, 1, "protobuf")
    }

    fn new(broker: &Broker, way: Way, name: &str, partitions: u32, format: &'static str) -> Self {
        let folder = TempDir::new().expect("a directory is made");
        let [ingestion, control, dead_letters] =
            ["ingestion", "control", "dead-letters"].map(|kind| format!("{name}-{kind}"));
        let mut scene = Self {
            admin: Admin::new(&broker.address()),
            group: name.to_owned(),
            frontier: Service::new("frontier", folder.path()),
            up: Service::new("up", folder.path()),
            ingestion,
            control,
            dead_letters,
            way,
            partitions,
            format,
            http: reqwest::Client::new(),
            folder,
        };
        scene.frontier = scene.service("frontier", &scene.way);
        scene.up = scene.service("up", &scene.way).flag("data-dir", text(&scene.folder.path().join("data")));
        let made = scene.make_topics();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        scene
    }

    fn service(&self, role: &'static str, way: &Way) -> Service {
        self.service_in(self.folder.path(), role, way)
    }

    fn service_in(&self, folder: &Path, role: &'static str, way: &Way) -> Service {
        let service = Service::new(role, folder)
            .flag("log", format!("kafka://{}", way.address))
            .flag("blobs", format!("file://{}", text(&self.blobs())))
            .variable("BLOB_URI_SECRET", "a secret that both know")
            .variable("KAFKA_CONSUMER_GROUP", &self.group)
            .variable("KAFKA_MESSAGE_FORMAT", self.format);
        self.topics()
            .into_iter()
            .chain(way.variables.iter().map(|(name, value)| (*name, value)))
            .fold(service, |service, (name, value)| service.variable(name, value))
    }

    fn topics(&self) -> [(&'static str, &String); 3] {
        [
            ("KAFKA_DATA_INGESTION_TOPIC", &self.ingestion),
            ("KAFKA_CONTROL_EVENTS_TOPIC", &self.control),
            ("KAFKA_DEAD_LETTERS_TOPIC", &self.dead_letters),
        ]
    }

    /// Lets the frontier, which does not run yet, come another way than the rest.
    pub fn frontier_by(&mut self, way: &Way) {
        self.frontier = self.service("frontier", way);
    }

    /// Where both processes keep blobs.
    pub fn blobs(&self) -> PathBuf {
        self.folder.path().join("blobs")
    }

    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// `matyan topics create`, for the topics of this scene.
    pub fn make_topics(&self) -> Output {
        self.make_topics_by(&self.way)
    }

    pub fn make_topics_by(&self, way: &Way) -> Output {
        Command::new(binary())
            .args(["topics", "create", "--log", &format!("kafka://{}", way.address)])
            .args(["--partitions", &self.partitions.to_string()])
            .envs(self.topics())
            .envs(way.variables.iter().map(|(name, value)| (name, value)))
            .output()
            .expect("the binary starts")
    }

    pub fn ingest(&self) -> &str {
        self.frontier.address("ingest")
    }

    pub async fn reader(&self) -> Reader {
        Reader::connect(self.up.address("query")).await
    }

    /// A figure of the worker's.
    pub async fn metric(&self, name: &str) -> Result<f64, String> {
        self.up.metric("query", name).await
    }

    /// Waits until nothing that is in the log waits to be applied.
    pub async fn no_lag(&self) {
        eventually("the lag is zero", async || match self.metric("matyan_ingestion_lag_records").await {
            Ok(0.0) => Ok(()),
            lag => Err(lag),
        })
        .await;
    }

    /// Waits until everything is applied that a run has been sent: one more point, behind all of it, is there.
    pub async fn applied(&self, run: &str) {
        let mut writer = JsonWriter::connect(self.ingest(), run).await.expect("the frontier listens");
        assert_eq!(writer.send(&json!([metric("last", 0.0, Some(0))])).await, Ok(Ack::Ok));
        let reader = self.reader().await;
        eventually("the last point is there", async || match reader.points(run, "last", "").await {
            Ok(points) if points.is_empty() => Err("no point".to_owned()),
            points => points.map_err(|status| status.to_string()),
        })
        .await;
    }

    /// Both end when asked to.
    pub async fn stop(mut self) {
        for service in [&mut self.frontier, &mut self.up] {
            let status = service.terminate().await;
            assert!(status.success(), "{status}:\n{}", service.log());
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the path is text")
}
