//! All ways to access a broker: logins, certificates, and the errors when access is denied.

use matyan_servers::kafka::{Broker, Way};
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
        let scene = Scene::by(broker, broker.login(mechanism), &name);
        refused(&scene, &broker.login(mechanism).with("KAFKA_SASL_PASSWORD", "wrong"), LOGIN);
    }
    let scene = Scene::by(broker, broker.certified(), "certified");
    refused(&scene, &broker.certified().without("KAFKA_CA_FILE"), TLS);
    let nameless = broker.certified().without("KAFKA_CERTIFICATE_FILE").without("KAFKA_KEY_FILE");
    refused(&scene, &nameless, "");
}

fn refused(scene: &Scene, way: &Way, reason: &str) {
    let answer = scene.make_topics_by(way);
    let output = String::from_utf8_lossy(&answer.stderr);
    assert!(!answer.status.success() && output.contains(reason), "{way:?}: {output}");
}

/// One process uses a password, the other a certificate.
pub(crate) async fn the_whole_system_over_tls(broker: &Broker) {
    let mut scene = Scene::by(broker, broker.certified(), "tls");
    scene.frontier_by(&broker.login("SCRAM-SHA-512"));
    scene.up.start().await;
    scene.frontier.start().await;
    write(&scene, "run", 0..10).await;
    check(&scene, "run", 0..10).await;
    scene.stop().await;
}
