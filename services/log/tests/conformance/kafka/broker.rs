//! A real Apache Kafka broker from its Maven jars, in KRaft mode, on loopback and on free ports.
//! It is the child of a shell that waits for its own input to end: so the broker goes even when this process is killed.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rdkafka::{ClientConfig, consumer::BaseConsumer, consumer::Consumer};
use tempfile::TempDir;

const VERSION: &str = "4.1.0";
const CLUSTER: &str = "4L6g3nShT-eMCtK--X86sw";

const KEY_STORE: &str = "broker.p12";
const KEY_STORE_PASSWORD: &str = "changeit";
const CERTIFICATE: &str = "broker.pem";

/// No broker takes a tenth of it to start: it only ends one that hangs.
const HANG_GUARD: Duration = Duration::from_secs(180);

/// Starts the rest of its arguments, tells their process, and kills that one when its own input ends.
const KEEPER: &str = r#""$@" >"$0" 2>&1 </dev/null & echo $!; read -r _; kill -9 $! 2>/dev/null; wait"#;

pub(crate) struct Broker {
    directory: TempDir,
    ports: Ports,
    keeper: Child,
    process: u32,
}

impl Broker {
    /// Blocks until it answers.
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().expect("a directory is made");
        let ports = Ports::free();
        make_certificate(directory.path());
        fs::write(directory.path().join("server.properties"), properties(directory.path(), ports))
            .expect("the settings are written");
        let formatted = java()
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"])
            .arg(directory.path().join("server.properties"))
            .output()
            .expect("java starts");
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        Self::run(directory, ports)
    }

    fn run(directory: TempDir, ports: Ports) -> Self {
        let server = java_arguments();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER])
            .arg(directory.path().join("broker.log"))
            .arg("java")
            .args(["-Xmx512m", "-XX:+UseSerialGC"])
            .args(server)
            .arg("kafka.Kafka")
            .arg(directory.path().join("server.properties"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the keeper of the broker starts");
        let mut process = String::new();
        let stdout = keeper.stdout.take().expect("its output is piped");
        BufReader::new(stdout).read_line(&mut process).expect("it tells the process");
        let process = process.trim().parse().expect("a process is a number");
        let broker = Self { directory, ports, keeper, process };
        broker.await_answer();
        broker
    }

    fn await_answer(&self) {
        let client: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", self.address()).create().expect("a client is made");
        let start = Instant::now();
        while let Err(failure) = client.fetch_metadata(None, Duration::from_secs(1)) {
            let log = || fs::read_to_string(self.directory.path().join("broker.log")).unwrap_or_default();
            assert!(start.elapsed() < HANG_GUARD, "the broker does not answer: {failure}\n{}", log());
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.plain)
    }

    /// Where TLS and the login of `user` with `password` are asked for.
    pub(crate) fn secure_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.secure)
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory.path().join(CERTIFICATE)
    }

    /// It keeps its connections, and does nothing.
    pub(crate) fn stall(&self) {
        self.signal("STOP");
    }

    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
        self.end();
    }

    /// What was killed, with what it had on disk.
    pub(crate) fn restart(mut self) -> Self {
        let empty = TempDir::new().expect("a directory is made");
        let directory = std::mem::replace(&mut self.directory, empty);
        Self::run(directory, self.ports)
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.process.to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "the broker gets its signal");
    }

    /// Ends the keeper, and the broker with it.
    fn end(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().expect("the keeper ends");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Clone, Copy)]
struct Ports {
    plain: u16,
    secure: u16,
    controller: u16,
}

impl Ports {
    fn free() -> Self {
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("there is a free port"));
        let [plain, secure, controller] =
            listeners.map(|listener| listener.local_addr().expect("it is bound").port());
        Self { plain, secure, controller }
    }
}

fn properties(directory: &Path, Ports { plain, secure, controller }: Ports) -> String {
    let directory = directory.display();
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{secure}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL\n\
         inter.broker.listener.name=PLAINTEXT\n\
         sasl.enabled.mechanisms=PLAIN\n\
         listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
         user_user=\"password\";\n\
         ssl.keystore.type=PKCS12\n\
         ssl.keystore.location={directory}/{KEY_STORE}\n\
         ssl.keystore.password={KEY_STORE_PASSWORD}\n\
         log.dirs={directory}/data\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         auto.create.topics.enable=false\n\
         group.initial.rebalance.delay.ms=0\n"
    )
}

/// A key that vouches for itself, and its certificate beside it.
fn make_certificate(directory: &Path) {
    let keytool = |arguments: &[&str]| {
        let store = ["-keystore", KEY_STORE, "-storepass", KEY_STORE_PASSWORD, "-alias", "broker"];
        let made = Command::new("keytool").current_dir(directory).args(arguments).args(store).output();
        let made = made.expect("keytool comes with java");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    };
    let name = ["-dname", "CN=broker", "-ext", "san=ip:127.0.0.1", "-ext", "bc=ca:true"];
    keytool(&[&["-genkeypair", "-keyalg", "EC", "-storetype", "PKCS12"], &name[..]].concat());
    keytool(&["-exportcert", "-rfc", "-file", CERTIFICATE]);
}

fn java() -> Command {
    let mut java = Command::new("java");
    java.arg("-Xmx256m").args(java_arguments());
    java
}

fn java_arguments() -> [String; 2] {
    let jars = jars().unwrap_or_else(|reason| panic!("no Kafka broker: {reason}"));
    ["-cp".into(), format!("{}/*", jars.display())]
}

/// The folder of the jars: fetched once by Maven, and kept. Or why there are none.
pub(crate) fn jars() -> Result<PathBuf, String> {
    static FETCHING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one_at_a_time = FETCHING.lock().expect("no panic");
    Command::new("java").arg("-version").output().map_err(|error| format!("java does not start: {error}"))?;
    let home = std::env::home_dir().ok_or("there is no home directory")?;
    let jars = home.join(".cache/matyan").join(format!("kafka-{VERSION}"));
    if !jars.exists() {
        fetch(&jars)?;
    }
    Ok(jars)
}

fn fetch(jars: &Path) -> Result<(), String> {
    let draft = TempDir::new().map_err(|error| error.to_string())?;
    let project = draft.path().join("pom.xml");
    let mut file = fs::File::create(&project).map_err(|error| error.to_string())?;
    write!(
        file,
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>matyan</groupId><artifactId>broker</artifactId><version>1</version><dependencies><dependency>\
         <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>\
         </dependency></dependencies></project>"
    )
    .map_err(|error| error.to_string())?;
    let folder = jars.with_extension(format!("{}", std::process::id()));
    let maven = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&project)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", folder.display()))
        .output()
        .map_err(|error| format!("mvn does not start: {error}"))?;
    if !maven.status.success() {
        return Err(format!("mvn cannot fetch Kafka: {}", String::from_utf8_lossy(&maven.stdout).trim()));
    }
    match fs::rename(&folder, jars) {
        // Another process was quicker.
        Err(_) if jars.exists() => fs::remove_dir_all(folder),
        renamed => renamed,
    }
    .map_err(|error| error.to_string())
}
