//! Apache Kafka as a fixture: separate topics for every log, on a broker shared by all cases.
//! Cases that stall or kill the broker use a second one, one case at a time. Without a broker
//! the cases are ignored, unless `REQUIRE=kafka` demands them.

#[path = "kafka/kafka_specific.rs"]
mod kafka_specific;

pub(crate) use kafka_specific::kafka_specific_trials;

use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use matyan_log::{
    LogReader, LogWriter,
    conformance::{AcknowledgedRecord, Capability, Fixture, Instance, Shape, write_until_killed},
    kafka::{CreateTopics, KafkaLog, Settings, TopicNames, topics_create},
};
use matyan_servers::kafka::{Broker, unavailable_reason};
use tokio::sync::OwnedMutexGuard;

#[derive(Clone, Copy)]
pub(crate) struct Kafka;

/// The shared broker, started by the first case that needs it.
static SHARED: Mutex<Option<Broker>> = Mutex::new(None);
static DISTURBED: OnceLock<Arc<tokio::sync::Mutex<Option<Broker>>>> = OnceLock::new();

struct KafkaInstance {
    log: Option<Arc<KafkaLog>>,
    settings: Settings,
    /// The second broker, while this case has exclusive use of it.
    own: Option<OwnedMutexGuard<Option<Broker>>>,
}

/// Kills the brokers; call this after all cases.
pub(crate) fn stop() {
    *SHARED.lock().expect("no case panics while starting the broker") = None;
    if let Some(disturbed) = DISTURBED.get() {
        *disturbed.blocking_lock() = None;
    }
}

#[async_trait]
impl Fixture for Kafka {
    fn name(&self) -> String {
        "kafka".into()
    }

    fn missing_reason(&self, capability: Capability) -> Option<String> {
        static UNAVAILABLE: OnceLock<Option<String>> = OnceLock::new();
        match capability {
            Capability::Bound => Some("Kafka keeps records by time".into()),
            Capability::Log | Capability::Obstruction | Capability::Kill => {
                UNAVAILABLE.get_or_init(unavailable_reason).clone()
            }
        }
    }

    async fn create(&self, shape: Shape) -> Box<dyn Instance> {
        let own = if shape.is_obstructed { Some(own_broker().await) } else { None };
        let servers = match &own {
            Some(own) => own.as_ref().map(Broker::address).expect("the broker was started"),
            None => blocking(shared_address).await,
        };
        let settings = new_settings(servers, shape);
        make_topics(&settings, shape.partitions).await;
        Box::new(KafkaInstance::open(settings, own).await)
    }

    async fn kill(&self, count: usize) -> (Box<dyn Instance>, Vec<AcknowledgedRecord>) {
        let mut own = own_broker().await;
        let servers = own.as_ref().map(Broker::address).expect("the broker was started");
        let settings = new_settings(servers, Shape::default());
        make_topics(&settings, 1).await;
        let log = open(&settings).await;
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let report = {
            let acknowledged = acknowledged.clone();
            move |one| acknowledged.lock().expect("no task panics with the lock").push(one)
        };
        let writing = tokio::spawn(write_until_killed(log.clone(), report));
        while acknowledged.lock().expect("no task panics with the lock").len() < count {
            tokio::task::yield_now().await;
        }
        let mut broker = own.take().expect("the broker was started");
        let mut broker = blocking(move || {
            broker.kill();
            broker
        })
        .await;
        writing.abort();
        assert!(writing.await.is_err_and(|end| end.is_cancelled()), "the writer ended prematurely");
        // Dropping the producer discards unacknowledged records before a restarted
        // broker could accept them.
        blocking(move || drop(log)).await;
        let restarted = blocking(move || {
            broker.restart();
            broker
        });
        *own = Some(restarted.await);
        let acknowledged = acknowledged.lock().expect("no task panics with the lock").clone();
        (Box::new(KafkaInstance::open(settings, Some(own)).await), acknowledged)
    }
}

impl KafkaInstance {
    async fn open(settings: Settings, own: Option<OwnedMutexGuard<Option<Broker>>>) -> Self {
        Self { log: Some(open(&settings).await), settings, own }
    }

    fn log(&self) -> Arc<KafkaLog> {
        self.log.clone().expect("the log is open except during a reopening")
    }

    fn broker(&self) -> &Broker {
        self.own.as_ref().and_then(|own| own.as_ref()).expect("the case has its own broker")
    }
}

#[async_trait]
impl Instance for KafkaInstance {
    fn writer(&self) -> Arc<dyn LogWriter> {
        self.log()
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        self.log()
    }

    async fn reopen(&mut self) {
        self.log().close().await.expect("the log closes");
        self.log = Some(open(&self.settings).await);
    }

    async fn obstruct(&mut self) {
        self.broker().suspend();
    }

    async fn clear(&mut self) {
        self.broker().resume();
    }
}

async fn open(settings: &Settings) -> Arc<KafkaLog> {
    Arc::new(KafkaLog::open(settings.clone()).await.expect("the log opens"))
}

const ONE_EACH: CreateTopics =
    CreateTopics { ingestion_partitions: 1, replication: 1, min_insync_replicas: 1 };

async fn make_topics(settings: &Settings, ingestion_partitions: u32) {
    let options = CreateTopics { ingestion_partitions, ..ONE_EACH };
    topics_create(settings, options).await.expect("creating the topics succeeds");
}

fn new_settings(bootstrap_servers: String, shape: Shape) -> Settings {
    static LOGS: AtomicU64 = AtomicU64::new(0);
    let number = LOGS.fetch_add(1, Ordering::Relaxed);
    Settings {
        topics: TopicNames {
            ingestion: format!("ingestion-{number}"),
            control: format!("control-{number}"),
            dead_letters: format!("dead-letters-{number}"),
        },
        ingestion_partitions: Some(shape.partitions),
        append_wait: shape.append_wait,
        delete_trimmed: true,
        ..Settings::new(bootstrap_servers, format!("workers-{number}"))
    }
}

fn shared_address() -> String {
    let mut shared = SHARED.lock().expect("no case panics while starting the broker");
    shared.get_or_insert_with(Broker::start).address()
}

async fn own_broker() -> OwnedMutexGuard<Option<Broker>> {
    let mut own = DISTURBED.get_or_init(Arc::default).clone().lock_owned().await;
    if own.is_none() {
        *own = Some(blocking(Broker::start).await);
    }
    own
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the task does not panic")
}
