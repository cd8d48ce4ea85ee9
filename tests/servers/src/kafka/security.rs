//! Access to the broker of the tests: unencrypted, with a login, or with a certificate.
//! Certificates are issued by the broker's own authority. Each kind of access comes with the
//! environment variables that a process needs for it.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};

const USER: &str = "user";
const PASSWORD: &str = "password";

const AUTHORITY: &str = "authority.pem";
/// Key and certificate in a single file, which is the form that the broker expects.
const BROKER: &str = "broker.pem";
const CLIENT_CERTIFICATE: &str = "client.crt";
const CLIENT_KEY: &str = "client.key";

/// An address, and the settings for clients that connect there.
#[derive(Clone, Debug)]
pub struct BrokerAccess {
    pub address: String,
    pub variables: Vec<(&'static str, String)>,
}

impl BrokerAccess {
    pub(super) fn plain(address: String) -> Self {
        Self { address, variables: Vec::new() }
    }

    pub(super) fn sasl(address: String, directory: &Path, mechanism: &str) -> Self {
        Self::plain(address)
            .with("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
            .with("KAFKA_CA_FILE", text(&directory.join(AUTHORITY)))
            .with("KAFKA_SASL_MECHANISM", mechanism)
            .with("KAFKA_SASL_USERNAME", USER)
            .with("KAFKA_SASL_PASSWORD", PASSWORD)
    }

    pub(super) fn mutual_tls(address: String, directory: &Path) -> Self {
        Self::plain(address)
            .with("KAFKA_SECURITY_PROTOCOL", "SSL")
            .with("KAFKA_CA_FILE", text(&directory.join(AUTHORITY)))
            .with("KAFKA_CERTIFICATE_FILE", text(&directory.join(CLIENT_CERTIFICATE)))
            .with("KAFKA_KEY_FILE", text(&directory.join(CLIENT_KEY)))
    }

    /// Replaces or adds a variable.
    #[must_use]
    pub fn with(self, name: &'static str, value: impl Into<String>) -> Self {
        let mut access = self.without(name);
        access.variables.push((name, value.into()));
        access
    }

    /// Removes a variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.variables.retain(|(own, _)| *own != name);
        self
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("the path is text").to_owned()
}

/// Creates the authority, and the certificates that it signs: for the broker, and for one
/// client.
pub(super) fn make_certificates(directory: &Path) {
    let mut authority = params("authority", Vec::new());
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, key()).expect("the authority signs itself");
    let write = |name: &str, content: String| {
        fs::write(directory.join(name), content).expect("the directory is writable");
    };
    write(AUTHORITY, authority.pem());
    let signed = |name: &str, addresses: Vec<String>| {
        let key = key();
        let certificate = params(name, addresses).signed_by(&key, &authority).expect("the authority signs");
        (key.serialize_pem(), certificate.pem())
    };
    let (key, certificate) = signed("broker", vec!["127.0.0.1".to_owned()]);
    write(BROKER, key + &certificate);
    let (key, certificate) = signed("client", Vec::new());
    write(CLIENT_CERTIFICATE, certificate);
    write(CLIENT_KEY, key);
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key is generated")
}

fn params(name: &str, addresses: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(addresses).expect("the addresses are valid");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Security settings for the broker's configuration.
pub(super) fn properties(directory: &Path) -> String {
    let directory = directory.display();
    let plain = format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";"
    );
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    format!(
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
         listener.name.sasl_ssl.plain.sasl.jaas.config={plain}\n\
         listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={scram}\n\
         listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={scram}\n\
         listener.name.ssl.ssl.client.auth=required\n\
         ssl.keystore.type=PEM\n\
         ssl.keystore.location={directory}/{BROKER}\n\
         ssl.truststore.type=PEM\n\
         ssl.truststore.location={directory}/{AUTHORITY}\n"
    )
}

/// Arguments that create the user, for the tool that formats a broker's disk.
pub(super) fn users() -> [String; 4] {
    let option = "--add-scram";
    let user = format!("=[name={USER},password={PASSWORD}]");
    [option.to_owned(), format!("SCRAM-SHA-256{user}"), option.to_owned(), format!("SCRAM-SHA-512{user}")]
}
