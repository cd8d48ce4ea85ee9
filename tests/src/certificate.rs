//! Certificates of servers for tests.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};

use crate::Server;

/// A self-signed certificate for 127.0.0.1, and the files that a server loads it from.
#[derive(Debug)]
pub struct CertificateFiles {
    _folder: tempfile::TempDir,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl CertificateFiles {
    /// Creates the files in a temporary directory. Like the other functions, panics if a file cannot be written.
    pub fn create() -> Self {
        let folder = tempfile::tempdir().expect("the temporary directory is writable");
        let certificate = folder.path().join("tls.crt");
        let key = folder.path().join("tls.key");
        let files = Self { _folder: folder, certificate, key };
        files.renew();
        files
    }

    /// Replaces the certificate and its key, like a renewal.
    pub fn renew(&self) {
        let CertifiedKey { cert, signing_key } = new_certificate();
        replace(&self.certificate, &cert.pem());
        replace(&self.key, &signing_key.serialize_pem());
    }

    /// Replaces the key with the key of another certificate.
    pub fn replace_key(&self) {
        replace(&self.key, &new_certificate().signing_key.serialize_pem());
    }

    /// Returns the certificate.
    pub fn pem(&self) -> String {
        fs::read_to_string(&self.certificate).expect("the file can be read")
    }

    /// Starts a server with the certificate.
    pub async fn server(&self) -> Server {
        let path = |path: &Path| path.to_str().expect("the path is text").to_owned();
        Server::up_with(&["--tls-cert", &path(&self.certificate), "--tls-key", &path(&self.key)]).await
    }
}

fn new_certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("the name is valid")
}

fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).and_then(|()| fs::rename(&new, path)).expect("the directory is writable");
}
