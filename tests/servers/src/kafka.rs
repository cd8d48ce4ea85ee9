//! An Apache Kafka broker run from its Maven jars, in KRaft mode. `MATYAN_KAFKA_JARS` is the
//! directory of the jars; `make kafka` downloads them.

mod pair;
mod security;

use std::{
    fs,
    net::TcpListener,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rdkafka::{ClientConfig, consumer::BaseConsumer, consumer::Consumer};

use crate::{
    process::Process,
    requirements::{self, installed_path},
};
pub use pair::BrokerPair;
pub use security::BrokerAccess;

const CLUSTER: &str = "4L6g3nShT-eMCtK--X86sw";

/// Timeout for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

const SETTINGS: &str = "server.properties";

/// Number of attempts to start when another process takes a port of the broker.
const STARTS: usize = 3;

/// Session timeout of a broker, and the time for which it tries to register: a killed broker
/// can register a second time only when its session has expired.
const SESSION: Duration = Duration::from_secs(9);
const REGISTRATION: Duration = Duration::from_secs(170);

pub struct Broker {
    process: Process,
    ports: Ports,
}

/// The reason no broker can be started here, if any; a failure with `REQUIRE=kafka`.
pub fn unavailable_reason() -> Option<String> {
    requirements::unavailable_reason("kafka", jars())
}

fn jars() -> Result<PathBuf, String> {
    let jars = installed_path("MATYAN_KAFKA_JARS", "kafka")?;
    Command::new("java")
        .arg("-version")
        .output()
        .map_err(|error| format!("failed to start java: {error}"))?;
    Ok(jars)
}

impl Broker {
    /// Starts a broker. Blocks until it responds.
    pub fn start() -> Self {
        let process = Process::new();
        let ports = Ports::free();
        let directory = process.directory();
        security::make_certificates(directory);
        let settings = directory.join(SETTINGS);
        fs::write(&settings, properties(directory, ports)).expect("the settings are written");
        format_disk(&settings, &security::users());
        let mut broker = Self { process, ports };
        broker.restart();
        broker
    }

    /// Restarts the killed broker, with the data that it had on disk. Blocks until it
    /// responds.
    pub fn restart(&mut self) {
        let command = server(&self.process);
        for _ in 0..STARTS {
            self.process.start(&command);
            if self.process.await_answer(|| self.probe()) {
                return;
            }
            assert!(self.ports.are_taken(), "the broker has exited");
            self.process.kill();
        }
        panic!("the ports of the broker stay in use");
    }

    /// Checks that the broker responds. Uses a new client each time, because a client that was
    /// given an empty list of brokers may stop looking.
    fn probe(&self) -> Result<(), String> {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .create()
            .expect("a client is created");
        let metadata = client.fetch_metadata(None, REQUEST_TIMEOUT).map_err(|failure| failure.to_string())?;
        if metadata.brokers().is_empty() { Err("the metadata lists no broker".to_owned()) } else { Ok(()) }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.plain)
    }

    /// Unencrypted access.
    pub fn plain_access(&self) -> BrokerAccess {
        BrokerAccess::plain(self.address())
    }

    /// Access over TLS with user and password: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub fn sasl_access(&self, mechanism: &str) -> BrokerAccess {
        BrokerAccess::sasl(format!("127.0.0.1:{}", self.ports.login), self.process.directory(), mechanism)
    }

    /// Access over TLS with the client certificate that the broker requires.
    pub fn mutual_tls_access(&self) -> BrokerAccess {
        BrokerAccess::mutual_tls(format!("127.0.0.1:{}", self.ports.certified), self.process.directory())
    }

    /// Suspends the broker: it keeps its connections, but does nothing.
    pub fn suspend(&self) {
        self.process.suspend();
    }

    pub fn resume(&self) {
        self.process.resume();
    }

    /// Removes the last batch of a partition from the disk of the killed broker, like an unclean
    /// election.
    pub fn forget_last_batch(&self, topic: &str, partition: u32) {
        const HEAD_BYTES: usize = 12;
        let folder = self.process.directory().join("data").join(format!("{topic}-{partition}"));
        let path = folder.join("00000000000000000000.log");
        let content = fs::read(&path).expect("the partition has one segment");
        let mut last = 0;
        let mut next = 0;
        while let Some(length) = content.get(next + 8..next + HEAD_BYTES) {
            let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
            if length == 0 {
                break;
            }
            last = next;
            next += HEAD_BYTES + length as usize;
        }
        fs::write(&path, &content[..last]).expect("the segment is writable");
    }

    /// Kills the broker with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

#[derive(Clone, Copy)]
struct Ports {
    plain: u16,
    login: u16,
    certified: u16,
    controller: u16,
}

/// Number of ports to draw from, and the first unprivileged port.
const DRAWN: u16 = 16_000;
const FIRST_PORT: u16 = 1_024;

/// Start of the ephemeral port range where the system does not report it.
const FIRST_EPHEMERAL: u16 = 32_768;

/// Ports below the ephemeral range: a restarted broker finds its ports free, because the
/// system does not assign them.
fn ports() -> Range<u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_whitespace().next().and_then(|first| first.parse().ok());
    let end = first.unwrap_or(FIRST_EPHEMERAL);
    let ports = end.saturating_sub(DRAWN).max(FIRST_PORT)..end;
    assert!(!ports.is_empty(), "no port is available below `net.ipv4.ip_local_port_range`");
    ports
}

impl Ports {
    /// True if another process uses a port of the broker while the broker is not running.
    fn are_taken(self) -> bool {
        let Self { plain, login, certified, controller } = self;
        [plain, login, certified, controller]
            .into_iter()
            .any(|port| TcpListener::bind(("127.0.0.1", port)).is_err())
    }

    fn free() -> Self {
        let [plain, login, certified, controller] = free_ports();
        Self { plain, login, certified, controller }
    }
}

/// Ports that are free and differ.
fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let ports = ports();
    let mut listeners =
        std::iter::repeat_with(|| TcpListener::bind(("127.0.0.1", rand::random_range(ports.clone()))));
    // Bound together, so that they differ.
    let listeners: [TcpListener; COUNT] =
        std::array::from_fn(|_| listeners.find_map(Result::ok).expect("a port is free"));
    listeners.map(|listener| listener.local_addr().expect("the listener is bound").port())
}

fn properties(directory: &Path, Ports { plain, login, certified, controller }: Ports) -> String {
    let listeners =
        format!("PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{login},SSL://127.0.0.1:{certified}");
    let security = security::properties(directory);
    let directory = directory.display();
    let session = SESSION.as_millis();
    let registration = REGISTRATION.as_millis();
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners={listeners},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners={listeners}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL\n\
         inter.broker.listener.name=PLAINTEXT\n\
         log.dirs={directory}/data\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         broker.heartbeat.interval.ms=500\n\
         broker.session.timeout.ms={session}\n\
         initial.broker.registration.timeout.ms={registration}\n\
         {security}"
    )
}

/// Prepares the directory that the settings name.
fn format_disk(settings: &Path, arguments: &[String]) {
    let mut format = java("256m");
    format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"]).arg(settings);
    let formatted = format.args(arguments).output().expect("java starts");
    assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
}

/// The command of a server with the settings in the directory of its process.
fn server(process: &Process) -> Command {
    let mut command = java("512m");
    // The default level only logs errors.
    command.args(["-XX:+UseSerialGC", "-Dlog4j2.level=INFO", "kafka.Kafka"]);
    command.arg(process.directory().join(SETTINGS));
    command
}

fn java(memory: &str) -> Command {
    let jars = jars().unwrap_or_else(|reason| panic!("no Kafka broker: {reason}"));
    let mut java = Command::new("java");
    // Only the fast JIT compiler, because the processes are short-lived.
    java.args([format!("-Xmx{memory}"), "-XX:TieredStopAtLevel=1".to_owned()]);
    // Classes that need not be read from the jars. Java goes on without an archive that does not fit.
    if let Ok(archive) = installed_path("MATYAN_KAFKA_ARCHIVE", "kafka") {
        java.arg(format!("-XX:SharedArchiveFile={}", archive.display()));
    }
    java.args(["-cp".to_owned(), format!("{}/*", jars.display())]);
    java
}
