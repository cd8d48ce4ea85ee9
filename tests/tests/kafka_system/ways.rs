//! Every way into a broker that can be asked for: logins, certificates, and what somebody is told who is not let in.

use matyan_servers::kafka::{Broker, Way};
use matyan_tests::kafka::scene::Scene;

use crate::topics::{check, write};

/// What a wrong password is answered with. A broker that wants another certificate ends the connection in words of its own.
const LOGIN: &str = "Kafka refuses the login";
const TLS: &str = "TLS with the brokers fails";

pub(crate) async fn every_login_is_let_in_and_a_wrong_one_is_told(broker: &Broker) {
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let name = format!("login-{}", mechanism.to_lowercase());
        // It makes its topics.
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
    let told = String::from_utf8_lossy(&answer.stderr);
    assert!(!answer.status.success() && told.contains(reason), "{way:?}: {told}");
}

/// One process with a password, the other with a certificate.
pub(crate) async fn the_whole_system_over_tls(broker: &Broker) {
    let mut scene = Scene::by(broker, broker.certified(), "tls");
    scene.frontier_by(&broker.login("SCRAM-SHA-512"));
    scene.up.start().await;
    scene.frontier.start().await;
    write(&scene, "run", 0..10).await;
    check(&scene, "run", 0..10).await;
    scene.stop().await;
}
