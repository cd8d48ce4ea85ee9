//! TLS for all connections of the SDK: rustls with the certificates that the operating system trusts.

use std::sync::Arc;

use once_cell::race::OnceBox;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use rustls_platform_verifier::Verifier;

/// Returns settings that read the trusted certificates when the first server is verified. Clones of the settings share
/// these certificates.
pub(crate) fn client_config() -> ClientConfig {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let verifier = PlatformVerifier { provider: provider.clone(), verifier: OnceBox::new() };
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions of TLS")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth()
}

/// The verifier of the platform, which is created on first use: it reads all trusted certificates, and most clients
/// only use plain HTTP.
#[derive(Debug)]
struct PlatformVerifier {
    provider: Arc<CryptoProvider>,
    // It takes no lock, which a fork could copy while it is held.
    verifier: OnceBox<Verifier>,
}

impl PlatformVerifier {
    fn get(&self) -> Result<&Verifier, Error> {
        self.verifier.get_or_try_init(|| Verifier::new(self.provider.clone()).map(Box::new))
    }
}

impl ServerCertVerifier for PlatformVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.get()?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.get()?.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.get()?.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
