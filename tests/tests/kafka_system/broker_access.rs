//! All ways to access a broker: logins, certificates, and the errors when access is denied.

use matyan_servers::kafka::{Broker, BrokerAccess};
use matyan_tests::kafka::scene::Scene;

use crate::topics::{check, write};

/// Errors for a wrong password, and for a failed handshake. A broker that requires another
/// certificate closes the connection with its own message.
const LOGIN: &str = "Kafka refuses the login";
const TLS: &str = "TLS with the brokers fails";

pub(crate) async fn every_login_works_and_a_wrong_one_is_reported(broker: &Broker) {
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let name = format!("login-{}", mechanism.to_lowercase());
        // Creating the scene also creates its topics.
        let scene = Scene::with_access(broker, broker.sasl_access(mechanism), &name);
        refused(&scene, &broker.sasl_access(mechanism).with("KAFKA_SASL_PASSWORD", "wrong"), LOGIN);
    }
    let scene = Scene::with_access(broker, broker.mutual_tls_access(), "certified");
    refused(&scene, &broker.mutual_tls_access().without("KAFKA_CA_FILE"), TLS);
    let nameless = broker.mutual_tls_access().without("KAFKA_CERTIFICATE_FILE").without("KAFKA_KEY_FILE");
    refused(&scene, &nameless, "");
}

fn refused(scene: &Scene, access: &BrokerAccess, reason: &str) {
    let answer = scene.create_topics_with(access);
    let output = String::from_utf8_lossy(&answer.stderr);
    assert!(!answer.status.success() && output.contains(reason), "{access:?}: {output}");
}

/// One process uses a password, the other a certificate.
pub(crate) async fn the_whole_system_over_tls(broker: &Broker) {
    let mut scene = Scene::with_access(broker, broker.mutual_tls_access(), "tls");
    scene.set_frontier_access(&broker.sasl_access("SCRAM-SHA-512"));
    scene.up.start().await;
    scene.frontier.start().await;
    write(&scene, "run", 0..10).await;
    check(&scene, "run", 0..10).await;
    scene.stop().await;
}
