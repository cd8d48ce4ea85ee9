//! Real servers of object stores, each started by the first case that needs it, on a free port of loopback, and shared by all.
//! They are installed by `make`, which says where. Each is the child of a shell that waits for its own input to end: so it
//! goes even when this process is killed.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use tempfile::TempDir;

pub(crate) const ACCESS_KEY: &str = "matyan";
pub(crate) const SECRET_KEY: &str = "matyan-secret";

/// None takes a tenth of it to start: it only ends one that hangs.
const HANG_GUARD: Duration = Duration::from_secs(120);

/// Starts the rest of its arguments, and kills that process when its own input ends.
const KEEPER: &str = r#""$@" >"$0" 2>&1 </dev/null & read -r _; kill -9 $! 2>/dev/null; wait"#;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    S3,
    Gcs,
    Azure,
}

static SERVERS: Mutex<Vec<(Kind, Server)>> = Mutex::new(Vec::new());

struct Server {
    port: u16,
    keeper: Child,
    directory: TempDir,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
        }
    }

    /// Where `make` says that it is: a folder of jars, a program, a script for Node.
    fn variable(self) -> &'static str {
        match self {
            Self::S3 => "MATYAN_S3PROXY",
            Self::Gcs => "MATYAN_FAKE_GCS_SERVER",
            Self::Azure => "MATYAN_AZURITE",
        }
    }

    /// Why there is none, unless one is asked for: then the cases fail that need it.
    pub(crate) fn absent(self) -> Option<String> {
        let required = environment("REQUIRE").unwrap_or_default();
        if required.split(',').any(|name| name == self.name()) {
            return None;
        }
        self.installed().err()
    }

    fn installed(self) -> Result<PathBuf, String> {
        let variable = self.variable();
        let path =
            environment(variable).ok_or(format!("no {variable}: `make unit` installs and names it"))?;
        let path = PathBuf::from(path);
        if path.exists() {
            Ok(path)
        } else {
            Err(format!("{variable} names {}, which is not there", path.display()))
        }
    }

    /// The port of the server, which is started if it is not.
    pub(crate) fn port(self) -> u16 {
        let mut servers = SERVERS.lock().expect("no case panics while starting one");
        if let Some((_, server)) = servers.iter().find(|(kind, _)| *kind == self) {
            return server.port;
        }
        let installed = self.installed().unwrap_or_else(|reason| panic!("no server: {reason}"));
        let server = Server::start(|directory, port| self.command(&installed, directory, port));
        let port = server.port;
        servers.push((self, server));
        port
    }

    fn command(self, installed: &std::path::Path, directory: &TempDir, port: u16) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let installed = installed.display().to_string();
        let number = port.to_string();
        match self {
            Self::S3 => {
                let properties = directory.path().join("s3proxy.properties");
                fs::write(&properties, s3_properties(port)).expect("the settings are written");
                let quiet = directory.path().join("logback.xml");
                let xml = "<configuration><root level=\"ERROR\"/></configuration>";
                fs::write(&quiet, xml).expect("the settings are written");
                let quiet = format!("-Dlogback.configurationFile={}", quiet.display());
                let (jars, properties) = (format!("{installed}/*"), properties.display().to_string());
                let java = ["java", "-XX:TieredStopAtLevel=1", "-Xmx512m", &quiet, "-cp", &jars];
                words(&[&java[..], &["org.gaul.s3proxy.Main", "--properties", &properties]].concat())
            }
            Self::Gcs => {
                let public = format!("localhost:{port}");
                let external = format!("http://{public}");
                let address = ["-scheme", "http", "-host", "127.0.0.1", "-port", &number];
                let names = ["-public-host", &public, "-external-url", &external];
                let quiet = ["-backend", "memory", "-log-level", "error"];
                words(&[&[installed.as_str()][..], &address, &names, &quiet].concat())
            }
            Self::Azure => {
                let node = ["node", &installed, "--blobHost", "127.0.0.1", "--blobPort", &number];
                words(&[&node[..], &["--inMemoryPersistence", "--silent", "--disableTelemetry"]].concat())
            }
        }
    }
}

fn s3_properties(port: u16) -> String {
    format!(
        "s3proxy.endpoint=http://127.0.0.1:{port}\n\
         s3proxy.authorization=aws-v4\n\
         s3proxy.identity={ACCESS_KEY}\n\
         s3proxy.credential={SECRET_KEY}\n\
         s3proxy.virtual-host=localhost\n\
         jclouds.provider=transient-nio2\n\
         jclouds.identity=none\n\
         jclouds.credential=none\n"
    )
}

impl Server {
    /// Blocks until it answers.
    fn start(command: impl FnOnce(&TempDir, u16) -> Vec<String>) -> Self {
        let directory = TempDir::new().expect("a directory is made");
        let free = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let keeper = Command::new("sh")
            .args(["-c", KEEPER])
            .arg(directory.path().join("log"))
            .args(command(&directory, port))
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .spawn()
            .expect("the keeper of the server starts");
        let server = Self { port, keeper, directory };
        server.await_answer();
        server
    }

    #[expect(clippy::disallowed_methods, reason = "between two looks at a server that starts")]
    fn await_answer(&self) {
        let start = Instant::now();
        while let Err(error) = TcpStream::connect(("127.0.0.1", self.port)) {
            let log = || fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            assert!(start.elapsed() < HANG_GUARD, "the server does not answer: {error}\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    /// Ends the keeper, and the server with it.
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().expect("the keeper ends");
    }
}

/// Kills the servers; to be called when all cases are over.
pub(crate) fn stop() {
    SERVERS.lock().expect("no case panics while starting one").clear();
}

#[expect(clippy::disallowed_methods, reason = "a test binary is its own composition root")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
