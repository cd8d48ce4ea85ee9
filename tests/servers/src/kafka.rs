//! An Apache Kafka broker from its Maven jars, in KRaft mode. `MATYAN_KAFKA_JARS` tells where the jars lie; `make kafka` fetches
//! them.

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
    need::{self, installed},
    process::Process,
};
pub use security::Way;

const CLUSTER: &str = "4L6g3nShT-eMCtK--X86sw";

/// How long one question may take.
const ASK: Duration = Duration::from_secs(1);

const SETTINGS: &str = "server.properties";

/// How often it is started where another process has taken one of its ports.
const STARTS: usize = 3;

/// A broker that was killed registers again only when its session has ended; for so long it tries to.
const SESSION: Duration = Duration::from_secs(9);
const REGISTRATION: Duration = Duration::from_secs(170);

pub struct Broker {
    process: Process,
    ports: Ports,
}

/// Why no broker can be started here; `REQUIRE=kafka` makes that a failure.
pub fn lacking() -> Option<String> {
    need::lacking("kafka", jars())
}

fn jars() -> Result<PathBuf, String> {
    let jars = installed("MATYAN_KAFKA_JARS", "kafka")?;
    Command::new("java").arg("-version").output().map_err(|error| format!("java does not start: {error}"))?;
    Ok(jars)
}

impl Broker {
    /// Blocks until it answers.
    pub fn start() -> Self {
        let (process, ports) = (Process::new(), Ports::free());
        let directory = process.directory();
        security::make_certificates(directory);
        let settings = directory.join(SETTINGS);
        fs::write(&settings, properties(directory, ports)).expect("the settings are written");
        let mut format = java("256m");
        format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"]).arg(&settings);
        let formatted = format.args(security::users()).output().expect("java starts");
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        let mut broker = Self { process, ports };
        broker.restart();
        broker
    }

    /// Starts what was killed, with what it had on disk. Blocks until it answers.
    pub fn restart(&mut self) {
        // It tells errors alone unless it is asked for more.
        let mut command = java("512m");
        command.args(["-XX:+UseSerialGC", "-Dlog4j2.level=INFO", "kafka.Kafka"]);
        command.arg(self.process.directory().join(SETTINGS));
        for _ in 0..STARTS {
            self.process.start(&command);
            if self.process.await_answer(|| self.ask()) {
                return;
            }
            assert!(self.ports.are_taken(), "the broker has ended by itself");
            self.process.kill();
        }
        panic!("the broker's ports stay taken");
    }

    /// With a new client each time: one that is told of no broker may look for none any more.
    fn ask(&self) -> Result<(), String> {
        let client: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", self.address()).create().expect("a client is made");
        let metadata = client.fetch_metadata(None, ASK).map_err(|failure| failure.to_string())?;
        if metadata.brokers().is_empty() { Err("it lists no broker".to_owned()) } else { Ok(()) }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.plain)
    }

    /// In the clear.
    pub fn way(&self) -> Way {
        Way::plain(self.address())
    }

    /// Over TLS, with user and password: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub fn login(&self, mechanism: &str) -> Way {
        Way::login(format!("127.0.0.1:{}", self.ports.login), self.process.directory(), mechanism)
    }

    /// Over TLS, with a certificate of ours, which is asked for.
    pub fn certified(&self) -> Way {
        Way::certified(format!("127.0.0.1:{}", self.ports.certified), self.process.directory())
    }

    /// It keeps its connections, and does nothing.
    pub fn stall(&self) {
        self.process.stall();
    }

    pub fn go_on(&self) {
        self.process.go_on();
    }

    /// SIGKILL.
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

/// How many ports are drawn from, and the first that is none of the system's own.
const DRAWN: u16 = 16_000;
const FIRST_PORT: u16 = 1_024;

/// Where nothing else is told.
const FIRST_EPHEMERAL: u16 = 32_768;

/// Below those that this system gives to whoever asks for any: a broker that was killed finds its own free again.
fn ports() -> Range<u16> {
    let told = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = told.split_whitespace().next().and_then(|first| first.parse().ok());
    let end = first.unwrap_or(FIRST_EPHEMERAL);
    let ports = end.saturating_sub(DRAWN).max(FIRST_PORT)..end;
    assert!(!ports.is_empty(), "no port is left below those of `net.ipv4.ip_local_port_range`");
    ports
}

impl Ports {
    /// By somebody else, while the broker does not run.
    fn are_taken(self) -> bool {
        let Self { plain, login, certified, controller } = self;
        let is_taken = |port| TcpListener::bind(("127.0.0.1", port)).is_err();
        [plain, login, certified, controller].into_iter().any(is_taken)
    }

    fn free() -> Self {
        let ports = ports();
        let mut listeners =
            std::iter::repeat_with(|| TcpListener::bind(("127.0.0.1", rand::random_range(ports.clone()))));
        let mut next = || listeners.find_map(Result::ok).expect("there is a free port");
        // All at once, so that they differ.
        let listeners = [next(), next(), next(), next()];
        let [plain, login, certified, controller] =
            listeners.map(|listener| listener.local_addr().expect("it is bound").port());
        Self { plain, login, certified, controller }
    }
}

fn properties(directory: &Path, Ports { plain, login, certified, controller }: Ports) -> String {
    let listeners =
        format!("PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{login},SSL://127.0.0.1:{certified}");
    let security = security::properties(directory);
    let directory = directory.display();
    let (session, registration) = (SESSION.as_millis(), REGISTRATION.as_millis());
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
         auto.create.topics.enable=false\n\
         group.initial.rebalance.delay.ms=0\n\
         broker.heartbeat.interval.ms=500\n\
         broker.session.timeout.ms={session}\n\
         initial.broker.registration.timeout.ms={registration}\n\
         {security}"
    )
}

fn java(memory: &str) -> Command {
    let jars = jars().unwrap_or_else(|reason| panic!("no Kafka broker: {reason}"));
    let mut java = Command::new("java");
    java.args([format!("-Xmx{memory}"), "-XX:TieredStopAtLevel=1".to_owned()]);
    java.args(["-cp".to_owned(), format!("{}/*", jars.display())]);
    java
}
