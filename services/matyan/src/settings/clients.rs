//! Clients of other systems and protocols of other trackers, each a cargo feature of this crate, so that a
//! build may lack them.

use matyan_edge::Protocol;

/// A client or a protocol that some builds lack.
pub(super) struct Client {
    name: &'static str,
    /// The cargo feature that includes it.
    feature: &'static str,
    is_included: bool,
    /// True if a build with the default features includes it.
    is_default: bool,
}

pub(super) const AZURE: Client = Client::new("Azure Blob Storage", "azure", cfg!(feature = "azure"));
pub(super) const FOUNDATION_DB: Client =
    Client { is_default: false, ..Client::new("FoundationDB", "fdb", cfg!(feature = "fdb")) };
pub(super) const GCS: Client = Client::new("Google Cloud Storage", "gcs", cfg!(feature = "gcs"));
pub(super) const KAFKA: Client = Client::new("Kafka", "kafka", cfg!(feature = "kafka"));
pub(super) const OTLP: Client = Client::new("the export of traces", "otlp", cfg!(feature = "otlp"));
pub(super) const S3: Client = Client::new("S3", "s3", cfg!(feature = "s3"));

pub(super) const TENSORBOARD: Client =
    Client::new("the follower of event files", "tensorboard", cfg!(feature = "tensorboard"));

const MLFLOW: Client = Client::new("the protocol of MLflow", "mlflow", Protocol::Mlflow.is_included());
const OPTUNA: Client = Client::new("the protocol of Optuna", "optuna", Protocol::Optuna.is_included());
const WANDB: Client = Client::new("the protocol of W&B", "wandb", Protocol::Wandb.is_included());

/// The part of a build that answers a protocol.
pub(super) const fn of_protocol(protocol: Protocol) -> &'static Client {
    match protocol {
        Protocol::Mlflow => &MLFLOW,
        Protocol::Optuna => &OPTUNA,
        Protocol::Wandb => &WANDB,
    }
}

impl Client {
    const fn new(name: &'static str, feature: &'static str, is_included: bool) -> Self {
        Self { name, feature, is_included, is_default: true }
    }

    pub(super) fn is_included(&self) -> bool {
        self.is_included
    }

    /// The problem and the next step, for a build that lacks the client.
    pub(super) fn problem(&self) -> String {
        let Self { name, feature, is_default, .. } = self;
        let install = if *is_default { "`make install` or " } else { "" };
        format!(
            "this build does not include {name}: build with {install}`cargo build --release --features {feature}`"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::settings::{Environment, Role, Settings, TopicsSettings, reader::Reader, role::Program};

    /// Expected refusals of a build that lacks the client.
    const REFUSALS: [(Client, &str, &str, &str); 10] = [
        (
            MLFLOW,
            "protocols",
            "mlflow",
            "MATYAN_PROTOCOLS: this build does not include the protocol of MLflow: build with `make install`",
        ),
        (
            OPTUNA,
            "protocols",
            "mlflow,optuna",
            "MATYAN_PROTOCOLS: this build does not include the protocol of Optuna: build with `make install`",
        ),
        (
            WANDB,
            "protocols",
            "wandb",
            "MATYAN_PROTOCOLS: this build does not include the protocol of W&B: build with `make install`",
        ),
        (
            TENSORBOARD,
            "logdir",
            "/runs",
            "MATYAN_LOGDIR: this build does not include the follower of event files: build with `make install`",
        ),
        (
            KAFKA,
            "log",
            "kafka://a:1",
            "MATYAN_LOG: this build does not include Kafka: build with `make install`",
        ),
        (S3, "blobs", "s3://b", "MATYAN_BLOBS: this build does not include S3: build with `make install`"),
        (GCS, "blobs", "gs://b", "MATYAN_BLOBS: this build does not include Google Cloud Storage: build"),
        (AZURE, "blobs", "azure://b", "MATYAN_BLOBS: this build does not include Azure Blob Storage: build"),
        (
            OTLP,
            "otlp-endpoint",
            "http://a:1",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: this build does not include the export of traces: build",
        ),
        (
            FOUNDATION_DB,
            "store",
            "fdb:///a",
            "MATYAN_STORE: this build does not include FoundationDB: build with `cargo build --release --features fdb`",
        ),
    ];

    #[test]
    fn a_build_refuses_what_needs_a_client_that_it_lacks() {
        for (client, flag, value, expected) in REFUSALS {
            let flags = BTreeMap::from([(flag.to_owned(), value.to_owned())]);
            let open = || Reader::open(Program::Server(Role::Up), flags.clone(), Environment::default());
            let refused = Settings::resolve_from(Role::Up, open().with_clients(|_| false));
            let refusal = refused.expect_err("the build lacks the client").to_string();
            assert!(refusal.contains(expected), "{refusal}\nshould contain: {expected}");
            let resolved = Settings::resolve_from(Role::Up, open().with_clients(|_| true));
            let violations = resolved.err().map(|violations| violations.to_string()).unwrap_or_default();
            assert!(!violations.contains(&client.problem()), "{violations}");
        }
    }

    #[test]
    fn topics_are_created_by_builds_with_kafka() {
        let resolved = TopicsSettings::resolve(BTreeMap::new(), Environment::default());
        assert_eq!(resolved.is_ok(), KAFKA.is_included);
    }

    #[test]
    fn every_build_runs_everything_in_one_process() {
        Settings::resolve(Role::Up, BTreeMap::new(), Environment::default()).unwrap();
    }
}
