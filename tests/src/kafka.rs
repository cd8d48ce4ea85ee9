//! A real Apache Kafka broker from its Maven jars, in KRaft mode, on loopback and on free ports.
//! It is the child of a shell that waits for its own input to end, and then ends the broker and takes its files away: so
//! both go however this process ends. `MATYAN_KAFKA_JARS` tells where the jars lie; `make kafka` fetches them.

pub mod admin;
pub mod scene;
mod security;

pub use security::Way;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rdkafka::{ClientConfig, consumer::BaseConsumer, consumer::Consumer};
use tempfile::TempDir;

const CLUSTER: &str = "4L6g3nShT-eMCtK--X86sw";

/// No broker takes a tenth of it to start: it only ends one that hangs.
const HANG_GUARD: Duration = Duration::from_secs(180);

/// How long one question may take, and the pause after an answer that does not help.
const ASK: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);

/// How often it is started where another process has taken one of its ports.
const STARTS: usize = 3;

/// What a test that fails tells of the broker's log.
const TOLD_LINES: usize = 200;

/// Starts the rest of its arguments, tells their process, and kills that one when its own input ends, whatever signals come
/// before. What the broker had on disk goes with it, unless the last word was to keep it.
const KEEPER: &str = r#"trap '' INT HUP TERM
"$@" >>"$0/broker.log" 2>&1 </dev/null & echo $!
read -r word; kill -9 $! 2>/dev/null; wait; [ "$word" = keep ] || rm -rf "$0""#;

/// A broker that was killed registers again only when its session has ended; for so long it tries to.
const SESSION: Duration = Duration::from_secs(9);
const REGISTRATION: Duration = Duration::from_secs(170);

pub struct Broker {
    directory: PathBuf,
    ports: Ports,
    /// None once it was killed.
    process: Option<Process>,
}

struct Process {
    keeper: Child,
    pid: u32,
}

/// Why no broker can be started here; `REQUIRE=kafka` makes that a failure.
pub fn lacking() -> Option<String> {
    let reason = jars().err()?;
    assert!(!is_required(), "REQUIRE=kafka, and there is no broker: {reason}");
    Some(reason)
}

#[expect(clippy::disallowed_methods, reason = "what a test needs is told by its environment alone")]
fn is_required() -> bool {
    std::env::var("REQUIRE").is_ok_and(|required| required.split(',').any(|name| name == "kafka"))
}

#[expect(clippy::disallowed_methods, reason = "what a test needs is told by its environment alone")]
fn jars() -> Result<PathBuf, String> {
    let named = std::env::var("MATYAN_KAFKA_JARS");
    let jars = named.map(PathBuf::from).map_err(|_| "MATYAN_KAFKA_JARS is not set; see `make kafka`")?;
    if !jars.is_dir() {
        return Err(format!("{} is missing; `make kafka` fetches it", jars.display()));
    }
    Command::new("java").arg("-version").output().map_err(|error| format!("java does not start: {error}"))?;
    Ok(jars)
}

impl Broker {
    /// Blocks until it answers.
    pub fn start() -> Self {
        let directory = TempDir::new().expect("a directory is made").keep();
        let ports = Ports::free();
        security::make_certificates(&directory);
        fs::write(directory.join("server.properties"), properties(&directory, ports))
            .expect("the settings are written");
        let formatted = Command::new("java")
            .args(["-Xmx256m", "-XX:TieredStopAtLevel=1"])
            .args(java_arguments())
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"])
            .arg(directory.join("server.properties"))
            .args(security::users())
            .output()
            .expect("java starts");
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        let mut broker = Self { directory, ports, process: None };
        broker.restart();
        broker
    }

    /// Starts what was killed, with what it had on disk. Blocks until it answers.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "it was killed before");
        for _ in 0..STARTS {
            self.process = Some(Process::start(&self.directory));
            if self.await_answer() {
                return;
            }
            assert!(self.ports.are_taken(), "the broker has ended by itself");
            self.process.take().expect("it was started").end("keep");
        }
        panic!("the broker's ports stay taken");
    }

    /// False if it has ended instead.
    fn await_answer(&self) -> bool {
        let process = self.process.as_ref().expect("it was started");
        let start = Instant::now();
        while let Err(state) = self.ask() {
            if process.has_ended() {
                return false;
            }
            assert!(start.elapsed() < HANG_GUARD, "the broker does not answer: {state}");
            std::thread::park_timeout(PAUSE);
        }
        true
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
        Way::login(format!("127.0.0.1:{}", self.ports.login), &self.directory, mechanism)
    }

    /// Over TLS, with a certificate of ours, which is asked for.
    pub fn certified(&self) -> Way {
        Way::certified(format!("127.0.0.1:{}", self.ports.certified), &self.directory)
    }

    /// It keeps its connections, and does nothing.
    pub fn stall(&self) {
        self.signal("STOP");
    }

    pub fn go_on(&self) {
        self.signal("CONT");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let process = self.process.take().expect("it runs");
        process.signal("KILL");
        process.end("keep");
    }

    fn signal(&self, name: &str) {
        self.process.as_ref().expect("it runs").signal(name);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read(self.directory.join("broker.log")).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let skipped = log.lines().count().saturating_sub(TOLD_LINES);
            eprintln!("the end of what the broker has said:");
            log.lines().skip(skipped).for_each(|line| eprintln!("{line}"));
        }
        match self.process.take() {
            Some(process) => process.end(""),
            None => fs::remove_dir_all(&self.directory).expect("what the broker left can be removed"),
        }
    }
}

impl Process {
    fn start(directory: &Path) -> Self {
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER])
            .arg(directory)
            .arg("java")
            // It tells errors alone unless it is asked for more.
            .args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=INFO"])
            .args(java_arguments())
            .arg("kafka.Kafka")
            .arg(directory.join("server.properties"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the keeper of the broker starts");
        let mut pid = String::new();
        let stdout = keeper.stdout.take().expect("its output is piped");
        BufReader::new(stdout).read_line(&mut pid).expect("it tells the process");
        Self { keeper, pid: pid.trim().parse().expect("a process is a number") }
    }

    /// True if it has ended by itself. Where there is no /proc nobody knows, and only the guard ends a wait.
    fn has_ended(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid));
        let runs = status.is_ok_and(|status| !status.contains("State:\tZ"));
        !runs && Path::new("/proc/self").exists()
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid.to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "the broker gets its signal");
    }

    /// Ends the keeper, and the broker with it.
    fn end(mut self, word: &str) {
        let mut input = self.keeper.stdin.take().expect("its input is piped");
        writeln!(input, "{word}").expect("the keeper listens");
        self.keeper.wait().expect("the keeper ends");
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

fn java_arguments() -> [String; 2] {
    let jars = jars().unwrap_or_else(|reason| panic!("no Kafka broker: {reason}"));
    ["-cp".into(), format!("{}/*", jars.display())]
}
