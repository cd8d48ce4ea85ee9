//! TLS for a port, with certificates reloaded from their files: to renew one, replace the
//! files; open connections are unaffected. If a new pair is unusable, the error is logged and
//! the previous pair is kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use http::{Extensions, HeaderMap};
use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Interval between checks for a new certificate.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Request extension that marks requests received over this server's own TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SecureConnection;

/// Request extension that marks requests of a port for which a proxy serves TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TlsProxy;

/// Returns whether the client of a request uses https: towards this server or, as far as a proxy tells,
/// towards the proxy.
pub(crate) fn is_https(headers: &HeaderMap, extensions: &Extensions) -> bool {
    is_forwarded_as(headers, "https")
        || extensions.get::<SecureConnection>().is_some() && !is_forwarded_as(headers, "http")
}

/// Returns whether a browser uses https. Browsers reach the server through its proxy, which may say nothing about
/// the scheme; programs may also reach it directly.
pub(crate) fn is_https_page(headers: &HeaderMap, extensions: &Extensions) -> bool {
    is_https(headers, extensions)
        || extensions.get::<TlsProxy>().is_some() && !is_forwarded_as(headers, "http")
}

fn is_forwarded_as(headers: &HeaderMap, scheme: &str) -> bool {
    let forwarded = headers.get("x-forwarded-proto").and_then(|it| it.to_str().ok()?.split(',').next());
    forwarded.is_some_and(|it| it.trim().eq_ignore_ascii_case(scheme))
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("failed to read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} contains no {what} in PEM form", path.display())]
    Pem { path: PathBuf, what: &'static str, source: pem::Error },
    #[error("the key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Pair { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("failed to set up TLS")]
    SetUp(#[source] rustls::Error),
}

/// The files of a certificate and its key. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    current: Arc<CurrentPair>,
    acceptor: TlsAcceptor,
}

#[derive(Debug)]
struct CurrentPair {
    certificate: PathBuf,
    key: PathBuf,
    pair: RwLock<Arc<CertifiedKey>>,
}

/// Modification time and size of both files, to detect changes.
type FileStamps = [Option<(SystemTime, u64)>; 2];

impl Tls {
    /// Loads a pair. The file of `certificate` may also contain the intermediate
    /// certificates, after the server's own.
    pub fn open(certificate: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let pair = RwLock::new(Arc::new(read(&certificate, &key)?));
        let current = Arc::new(CurrentPair { certificate, key, pair });
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::SetUp)?;
        let mut config = config.with_no_client_auth().with_cert_resolver(Arc::<CurrentPair>::clone(&current));
        // HTTP/2 is preferred, and required by gRPC.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { current, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    pub(crate) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// Reloads the files whenever they change, until `stop` is canceled.
    pub async fn watch_files(self, stop: CancellationToken) {
        let mut seen = self.current.file_stamps();
        while stop.run_until_cancelled(sleep(CHECK_INTERVAL)).await.is_some() {
            let stamps = self.current.file_stamps();
            if stamps != seen {
                // A broken pair is reported once, and reread only after the
                // files have changed.
                seen = stamps;
                self.current.reload();
            }
        }
    }
}

impl CurrentPair {
    fn file_stamps(&self) -> FileStamps {
        [&self.certificate, &self.key].map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
    }

    fn reload(&self) {
        match read(&self.certificate, &self.key) {
            Ok(pair) => {
                *self.pair.write() = Arc::new(pair);
                tracing::info!(certificate = %self.certificate.display(), "reloaded certificate");
            }
            Err(error) => {
                let cause = &error as &dyn std::error::Error;
                tracing::warn!(error = cause, "failed to reload certificate; keeping the previous one");
            }
        }
    }
}

impl ResolvesServerCert for CurrentPair {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.pair.read()))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let content =
        |path: &Path| fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
    let pem_error = |path: &Path, what| {
        let path = path.to_owned();
        move |source| TlsError::Pem { path, what, source }
    };
    let chain = CertificateDer::pem_slice_iter(&content(certificate)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(pem_error(certificate, "certificate"))?;
    if chain.is_empty() {
        return Err(pem_error(certificate, "certificate")(pem::Error::NoItemsFound));
    }
    let private = PrivateKeyDer::from_pem_slice(&content(key)?).map_err(pem_error(key, "private key"))?;
    CertifiedKey::from_der(chain, private, &provider()).map_err(|source| TlsError::Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        source,
    })
}
