//! Two brokers, and a controller in its own process: each broker may be killed. A topic with two
//! replicas is then continued by the other broker, even if that broker lacks its last records.

use std::fs;

use rdkafka::{ClientConfig, consumer::BaseConsumer, consumer::Consumer};

use super::{BrokerAccess, REGISTRATION, REQUEST_TIMEOUT, SETTINGS, format_disk, free_ports, server};
use crate::process::Process;

/// Session timeout of a broker: after that, the controller elects another leader.
const SESSION_MS: u32 = 3_000;

pub struct BrokerPair {
    /// Held because the controller ends when it is dropped.
    _controller: Process,
    brokers: [Process; 2],
    ports: [u16; 2],
}

impl BrokerPair {
    /// Starts all three processes. Blocks until both brokers respond.
    pub fn start() -> Self {
        let [controller, first, second] = free_ports();
        let ports = [first, second];
        let mut pair = Self {
            _controller: started_controller(controller),
            brokers: [Process::new(), Process::new()],
            ports,
        };
        for (broker, port) in ports.into_iter().enumerate() {
            let listener = format!("PLAINTEXT://127.0.0.1:{port}");
            let own = format!(
                "process.roles=broker\n\
                 node.id={}\n\
                 listeners={listener}\n\
                 advertised.listeners={listener}\n\
                 offsets.topic.replication.factor=2\n\
                 offsets.topic.num.partitions=1\n\
                 group.initial.rebalance.delay.ms=0\n\
                 broker.heartbeat.interval.ms=500\n\
                 initial.broker.registration.timeout.ms={}\n",
                pair.id(broker),
                REGISTRATION.as_millis()
            );
            prepare(&pair.brokers[broker], controller, &own);
        }
        pair.restart(0);
        pair.restart(1);
        pair
    }

    /// Unencrypted access through either broker.
    pub fn access(&self) -> BrokerAccess {
        let [first, second] = self.ports;
        BrokerAccess::plain(format!("127.0.0.1:{first},127.0.0.1:{second}"))
    }

    /// The id of a broker in the metadata of the cluster.
    pub fn id(&self, broker: usize) -> i32 {
        [2, 3][broker]
    }

    /// Kills a broker with SIGKILL.
    pub fn kill(&mut self, broker: usize) {
        self.brokers[broker].kill();
    }

    /// Starts a broker with the data that it has on disk. Blocks until it responds.
    pub fn restart(&mut self, broker: usize) {
        let process = &mut self.brokers[broker];
        let port = self.ports[broker];
        process.start(&server(process));
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", format!("127.0.0.1:{port}"))
            .create()
            .expect("a client is created");
        let answers = process.await_answer(|| {
            let metadata = client.fetch_metadata(None, REQUEST_TIMEOUT);
            metadata.map(drop).map_err(|failure| failure.to_string())
        });
        assert!(answers, "the broker has exited");
    }
}

fn started_controller(port: u16) -> Process {
    let mut controller = Process::new();
    prepare(
        &controller,
        port,
        &format!("process.roles=controller\nnode.id=1\nlisteners=CONTROLLER://127.0.0.1:{port}\n"),
    );
    controller.start(&server(&controller));
    controller
}

/// Writes the settings of a process, and prepares its directory.
fn prepare(process: &Process, controller: u16, own: &str) {
    let directory = process.directory();
    let settings = directory.join(SETTINGS);
    let content = format!(
        "{own}\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         broker.session.timeout.ms={SESSION_MS}\n\
         unclean.leader.election.enable=true\n\
         log.dirs={}/data\n",
        directory.display()
    );
    fs::write(&settings, content).expect("the settings are written");
    format_disk(&settings, &[]);
}
