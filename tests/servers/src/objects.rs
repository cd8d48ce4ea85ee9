//! Object store servers in place of the three clouds: S3Proxy, fake-gcs-server and Azurite.
//! `make unit` installs them and sets their variables.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    process::{Process, free_port},
    requirements::{self, installed_path},
};

pub const ACCESS_KEY: &str = "matyan";
pub const SECRET_KEY: &str = "matyan-secret";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    S3,
    Gcs,
    Azure,
}

pub struct Server {
    port: u16,
    _process: Process,
}

impl Server {
    /// Starts a server. Blocks until it responds.
    pub fn start(kind: Kind) -> Self {
        let mut process = Process::new();
        let port = free_port();
        let installed = kind.installed().unwrap_or_else(|reason| panic!("no server: {reason}"));
        process.start(&kind.command(&installed, process.directory(), port));
        let has_answered = process.await_answer(|| {
            TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string())
        });
        assert!(has_answered, "the server has exited");
        Self { port, _process: process }
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
        }
    }

    /// Variable in which `make` passes the path: a directory of jars, a program, a script
    /// for Node.
    fn variable(self) -> &'static str {
        match self {
            Self::S3 => "MATYAN_S3PROXY",
            Self::Gcs => "MATYAN_FAKE_GCS_SERVER",
            Self::Azure => "MATYAN_AZURITE",
        }
    }

    /// The reason the server cannot be started, if any; a failure if `REQUIRE` names it.
    pub fn unavailable_reason(self) -> Option<String> {
        requirements::unavailable_reason(self.name(), self.installed())
    }

    fn installed(self) -> Result<PathBuf, String> {
        installed_path(self.variable(), "unit")
    }

    fn command(self, installed: &Path, directory: &Path, port: u16) -> Command {
        match self {
            Self::S3 => {
                let write = |name: &str, content: &str| {
                    let path = directory.join(name);
                    fs::write(&path, content).expect("the settings are written");
                    path
                };
                let quiet = write("logback.xml", "<configuration><root level=\"ERROR\"/></configuration>");
                let properties = write("s3proxy.properties", &s3_properties(port));
                let mut java = Command::new("java");
                java.args(["-XX:TieredStopAtLevel=1", "-Xmx512m"]);
                java.arg(format!("-Dlogback.configurationFile={}", quiet.display()));
                java.arg("-cp").arg(format!("{}/*", installed.display()));
                java.args(["org.gaul.s3proxy.Main", "--properties"]).arg(properties);
                java
            }
            Self::Gcs => {
                let public = format!("localhost:{port}");
                let mut server = Command::new(installed);
                server.args(["-scheme", "http", "-host", "127.0.0.1", "-port", &port.to_string()]);
                server.args(["-public-host", &public, "-external-url", &format!("http://{public}")]);
                server.args(["-backend", "memory", "-log-level", "error"]);
                server
            }
            Self::Azure => {
                let mut node = Command::new("node");
                node.arg(installed);
                node.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
                node.args(["--inMemoryPersistence", "--silent", "--disableTelemetry"]);
                node
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
