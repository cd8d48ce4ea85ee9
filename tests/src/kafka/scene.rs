//! The whole system over Kafka, in the form for a small number of machines: a separate `matyan
//! frontier`, and `matyan up` with its embedded store, which applies the log; or all services
//! in separate processes, over FoundationDB. Each scene has its own topics on a broker that may
//! be shared.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use matyan_servers::{
    foundationdb::Cluster,
    kafka::{Broker, BrokerAccess, BrokerPair},
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
    /// The process that serves queries: everything else in one process, or only the
    /// backend.
    pub up: Service,
    access: BrokerAccess,
    partitions: u32,
    replicas: u32,
    format: &'static str,
    http: reqwest::Client,
    folder: TempDir,
}

impl Scene {
    /// Starts a scene with all services running.
    pub async fn start(broker: &Broker, name: &str, partitions: u32) -> Self {
        let mut scene = Self::prepare(broker, name, partitions, "protobuf");
        scene.up.start().await;
        scene.frontier.start().await;
        scene
    }

    /// Starts a scene with frontier and backend on FoundationDB. Workers are left to the
    /// test.
    pub async fn start_separate(broker: &Broker, name: &str, partitions: u32, cluster: &Cluster) -> Self {
        let mut scene = Self::prepare(broker, name, partitions, "protobuf");
        scene.up = scene.add_service("backend", "backend", cluster);
        scene.up.start().await;
        scene.frontier.start().await;
        scene
    }

    /// One more process on the same topics and blobs, with its own directory.
    pub fn add_service(&self, role: &'static str, name: &str, cluster: &Cluster) -> Service {
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).expect("a directory is created");
        self.service_in(&folder, role, &self.access).flag("store", format!("fdb://{}", text(&cluster.file())))
    }

    /// Creates the topics of a scene, without starting services.
    pub fn prepare(broker: &Broker, name: &str, partitions: u32, format: &'static str) -> Self {
        Self::new(&broker.address(), broker.plain_access(), name, (partitions, 1), format)
    }

    /// Like `set`, but all processes use this access to the broker.
    pub fn with_access(broker: &Broker, access: BrokerAccess, name: &str) -> Self {
        Self::new(&broker.address(), access, name, (1, 1), "protobuf")
    }

    /// A scene whose topics have one partition, with a replica on each broker.
    pub fn replicated(brokers: &BrokerPair, name: &str) -> Self {
        let access = brokers.access();
        Self::new(&access.address.clone(), access, name, (1, 2), "protobuf")
    }

    /// A scene whose topics are on one broker for each partition.
    pub fn spread(brokers: &BrokerPair, name: &str, partitions: u32) -> Self {
        let access = brokers.access();
        Self::new(&access.address.clone(), access, name, (partitions, 1), "protobuf")
    }

    fn new(
        servers: &str,
        access: BrokerAccess,
        name: &str,
        (partitions, replicas): (u32, u32),
        format: &'static str,
    ) -> Self {
        let folder = TempDir::new().expect("a directory is created");
        let [ingestion, control, dead_letters] =
            ["ingestion", "control", "dead-letters"].map(|kind| format!("{name}-{kind}"));
        let mut scene = Self {
            admin: Admin::new(servers),
            group: name.to_owned(),
            frontier: Service::new("frontier", folder.path()),
            up: Service::new("up", folder.path()),
            ingestion,
            control,
            dead_letters,
            access,
            partitions,
            replicas,
            format,
            http: reqwest::Client::new(),
            folder,
        };
        scene.frontier = scene.service("frontier", &scene.access);
        scene.up =
            scene.service("up", &scene.access).flag("data-dir", text(&scene.folder.path().join("data")));
        let made = scene.create_topics();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        scene
    }

    fn service(&self, role: &'static str, access: &BrokerAccess) -> Service {
        self.service_in(self.folder.path(), role, access)
    }

    fn service_in(&self, folder: &Path, role: &'static str, access: &BrokerAccess) -> Service {
        let service = Service::new(role, folder)
            .flag("log", format!("kafka://{}", access.address))
            .flag("blobs", format!("file://{}", text(&self.blobs())))
            .variable("BLOB_URI_SECRET", "a shared secret")
            .variable("KAFKA_CONSUMER_GROUP", &self.group)
            .variable("KAFKA_MESSAGE_FORMAT", self.format);
        self.topics()
            .into_iter()
            .chain(access.variables.iter().map(|(name, value)| (*name, value)))
            .fold(service, |service, (name, value)| service.variable(name, value))
    }

    fn topics(&self) -> [(&'static str, &String); 3] {
        [
            ("KAFKA_DATA_INGESTION_TOPIC", &self.ingestion),
            ("KAFKA_CONTROL_EVENTS_TOPIC", &self.control),
            ("KAFKA_DEAD_LETTERS_TOPIC", &self.dead_letters),
        ]
    }

    /// Changes how the frontier, which must not be running yet, accesses the broker.
    pub fn set_frontier_access(&mut self, access: &BrokerAccess) {
        self.frontier = self.service("frontier", access);
    }

    /// The directory in which both processes store blobs.
    pub fn blobs(&self) -> PathBuf {
        self.folder.path().join("blobs")
    }

    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Runs `matyan topics create` for the topics of this scene.
    pub fn create_topics(&self) -> Output {
        self.create_topics_with(&self.access)
    }

    pub fn create_topics_with(&self, access: &BrokerAccess) -> Output {
        Command::new(binary())
            .args(["topics", "create", "--log", &format!("kafka://{}", access.address)])
            .args(["--partitions", &self.partitions.to_string(), "--replication", &self.replicas.to_string()])
            .envs(self.topics())
            .envs(access.variables.iter().map(|(name, value)| (name, value)))
            .output()
            .expect("the binary starts")
    }

    /// Runs `topics close` for the topic for data.
    pub fn close_topic(&self, flags: &[&str]) {
        let closed = Command::new(binary())
            .args(["topics", "close", "--log", &format!("kafka://{}", self.access.address)])
            .args(flags)
            .envs(self.topics())
            .envs(self.access.variables.iter().map(|(name, value)| (name, value)))
            .output()
            .expect("the binary starts");
        assert!(closed.status.success(), "{}", String::from_utf8_lossy(&closed.stderr));
    }

    pub fn ingest(&self) -> &str {
        self.frontier.address("ingest")
    }

    pub async fn reader(&self) -> Reader {
        Reader::connect(self.up.address("query")).await
    }

    /// The value of a metric of the worker.
    pub async fn metric(&self, name: &str) -> Result<f64, String> {
        self.up.metric("query", name).await
    }

    /// Waits until everything in the log is applied.
    pub async fn wait_for_no_lag(&self) {
        eventually("the lag is zero", async || match self.metric("matyan_ingestion_lag_records").await {
            Ok(0.0) => Ok(()),
            lag => Err(lag),
        })
        .await;
    }

    /// Waits until everything that was sent for a run is applied, by sending one more point
    /// and waiting for it.
    pub async fn wait_until_applied(&self, run: &str) {
        let mut writer = JsonWriter::connect(self.ingest(), run).await.expect("the frontier listens");
        assert_eq!(writer.send(&json!([metric("last", 0.0, Some(0))])).await, Ok(Ack::Ok));
        let reader = self.reader().await;
        eventually("the last point is applied", async || match reader.points(run, "last", "").await {
            Ok(points) if points.is_empty() => Err("no point".to_owned()),
            points => points.map_err(|status| status.to_string()),
        })
        .await;
    }

    /// Waits until every record in the log is applied. Nothing may be appended until then.
    pub async fn wait_until_drained(&self) {
        eventually("every record is applied", async || {
            let mut command = Command::new(binary());
            command.args(["partitions", "ls", "--json"]);
            command.env("MATYAN_BACKEND_URL", self.up.address("query"));
            let Output { status, stdout, stderr } = command.output().expect("the binary starts");
            assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
            let listed = String::from_utf8_lossy(&stdout).into_owned();
            let is_drained = listed.lines().all(|partition| partition.contains(r#""lag":0,"#));
            if is_drained { Ok(()) } else { Err(listed) }
        })
        .await;
    }

    /// Runs `partitions skip`, and returns its output.
    pub fn skip_partition(&self, partition: u32) -> String {
        let skipped = Command::new(binary())
            .args(["partitions", "skip", &partition.to_string()])
            .env("MATYAN_BACKEND_URL", self.up.address("query"))
            .output()
            .expect("the binary starts");
        assert!(skipped.status.success(), "{}", String::from_utf8_lossy(&skipped.stderr));
        String::from_utf8_lossy(&skipped.stdout).into_owned()
    }

    /// Creates a topic for data, and lets both processes, which must have ended, use it.
    pub fn move_to_topic(&mut self, name: &str, partitions: u32) {
        name.clone_into(&mut self.ingestion);
        self.partitions = partitions;
        let made = self.create_topics();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        self.use_topic(name);
    }

    /// Sets the topic for data of both processes.
    pub fn use_topic(&mut self, name: &str) {
        for service in [&mut self.frontier, &mut self.up] {
            service.set_variable("KAFKA_DATA_INGESTION_TOPIC", name);
        }
    }

    /// Stops both processes cleanly.
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
