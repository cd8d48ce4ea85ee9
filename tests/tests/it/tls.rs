//! With a certificate, every port speaks TLS: REST, WebSocket, gRPC and the command line. A
//! renewed certificate is loaded from its files without a restart, and a broken one changes
//! nothing.

use std::{path::Path, process::Command, sync::Arc};

use futures::{SinkExt, StreamExt};
use matyan_proto::system::v1::{VersionRequest, system_service_client::SystemServiceClient};
use matyan_tests::{certificate::CertificateFiles, eventually, json, server::binary};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::tungstenite::Message;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

/// Connects to a server that must present this certificate.
async fn connect(base: &str, root: &str) -> Result<TlsStream<TcpStream>, String> {
    let mut roots = rustls::RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(root.as_bytes()).map_err(|error| error.to_string())?;
    roots.add(root).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = base.strip_prefix("https://").expect("the server announces an https URL");
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let name = ServerName::try_from("127.0.0.1").map_err(|error| error.to_string())?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn every_protocol_speaks_tls() {
    let files = CertificateFiles::create();
    let server = files.server().await;

    let mut rest = connect(&server.query, &files.pem()).await.expect("the certificate is good");
    let request = b"GET /health/live/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    rest.write_all(request).await.expect("the server reads");
    let mut answer = String::new();
    rest.read_to_string(&mut answer).await.expect("the server answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let socket = connect(&server.ingest, &files.pem()).await.expect("the certificate is good");
    let url = json::url(&server.ingest, "secured").replacen("wss", "ws", 1);
    let (mut socket, _) =
        tokio_tungstenite::client_async(url, socket).await.expect("the handshake is accepted");
    socket.send(Message::text(json::create_run().to_string())).await.expect("the server reads");
    let ack = socket.next().await.expect("the server answers").expect("the answer is a frame");
    assert!(ack.to_text().expect("the answer is text").contains("\"ok\""), "{ack}");

    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(files.pem()));
    let channel = Channel::from_shared(server.query.clone()).expect("the base is a URL").tls_config(tls);
    let channel = channel.expect("the root can be read").connect().await.expect("the certificate is good");
    let version =
        SystemServiceClient::new(channel).version(VersionRequest {}).await.expect("the server answers");
    assert_eq!(version.into_inner().component, "backend");

    let shell = Command::new(binary())
        .args(["runs", "ls", "--json", "--server", &server.query])
        .env("SSL_CERT_FILE", &files.certificate)
        .output()
        .expect("the binary starts");
    assert!(shell.status.success(), "{}", String::from_utf8_lossy(&shell.stderr));
    assert!(String::from_utf8_lossy(&shell.stdout).contains("secured"), "{shell:?}");
}

/// Sends one request over a new connection, and returns the body of the response.
async fn ask(base: &str, root: &str, request: &str, body: &str) -> Result<String, String> {
    let host = base.strip_prefix("https://").expect("the server announces an https URL");
    let mut stream = connect(base, root).await?;
    let length = body.len();
    let head = format!("{request} HTTP/1.0\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(|error| error.to_string())?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.0 200") => Ok(body.to_owned()),
        _ => Err(answer),
    }
}

#[tokio::test]
async fn an_upload_url_uses_the_tls_port() {
    let files = CertificateFiles::create();
    let server = files.server().await;
    let root = files.pem();
    let body = json!({"run_id": "secured", "artifact_path": "a.txt", "content_type": "text/plain"});
    let presign = "POST /api/v1/rest/artifacts/presign/";
    let signed = ask(&server.ingest, &root, presign, &body.to_string()).await.expect("the URL is signed");
    let signed: Value = serde_json::from_str(&signed).expect("the answer is JSON");
    let url = signed["upload_url"].as_str().expect("the URL is text");
    let place = url.strip_prefix(&server.ingest).unwrap_or_else(|| panic!("{url} is not {}", server.ingest));
    ask(&server.ingest, &root, &format!("PUT {place}"), "content").await.expect("the upload is accepted");

    let socket = connect(&server.ingest, &root).await.expect("the certificate is good");
    let url = json::url(&server.ingest, "secured").replacen("wss", "ws", 1);
    let (mut socket, _) =
        tokio_tungstenite::client_async(url, socket).await.expect("the handshake is accepted");
    let key = &signed["s3_key"];
    let blob =
        json!({"type": "blob_ref", "artifact_path": "a.txt", "s3_key": key, "content_type": "text/plain"});
    let frame = json!([json::create_run(), blob]).to_string();
    socket.send(Message::text(frame)).await.expect("the server reads");
    let download = "GET /api/v1/rest/runs/secured/artifacts/download/?path=a.txt";
    let read = eventually("the upload is an artifact of the run", async || {
        ask(&server.query, &root, download, "").await
    });
    assert_eq!(read.await, "content");
}

#[tokio::test]
async fn a_renewed_certificate_is_loaded_and_a_broken_one_is_not() {
    let files = CertificateFiles::create();
    let server = files.server().await;
    let first = files.pem();
    let mut before = connect(&server.query, &first).await.expect("the certificate is good");

    files.replace_key();
    eventually("the server reports that the key does not match", async || {
        let log = server.log();
        if log.contains("failed to reload certificate; keeping the previous one") { Ok(()) } else { Err(log) }
    })
    .await;
    connect(&server.query, &first).await.expect("the first one is still in use");

    files.renew();
    let second = files.pem();
    eventually("the second certificate is in use", async || connect(&server.query, &second).await).await;
    connect(&server.query, &first).await.expect_err("the first one is no longer in use");
    before
        .write_all(b"GET /health/live/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .expect("the connection is open");
    let mut head = [0; 12];
    before
        .read_exact(&mut head)
        .await
        .expect("a connection continues with the certificate that it started with");
    assert_eq!(&head, b"HTTP/1.1 200");
}

#[test]
fn certificate_and_key_that_do_not_match_are_refused_with_the_file() {
    let files = CertificateFiles::create();
    let folder = tempfile::tempdir().expect("the temporary directory is writable");
    let refused = |certificate: Option<&Path>, key: Option<&Path>, expected: &str| {
        let mut command = Command::new(binary());
        command.arg("up").args(["--port", "0", "--frontier-port", "0", "--data-dir"]).arg(folder.path());
        for (flag, path) in [("--tls-cert", certificate), ("--tls-key", key)] {
            command.args(path.map(|_| flag)).args(path);
        }
        let output = command.output().expect("the binary starts");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(expected), "{expected}: {error}");
    };
    refused(Some(&files.certificate), None, "TLS_KEY_FILE");
    refused(None, Some(&files.key), "TLS_CERT_FILE");
    refused(Some(&files.key), Some(&files.key), "tls.key contains no certificate");
    refused(Some(&files.certificate), Some(&files.certificate), "tls.crt contains no private key");
    refused(Some(Path::new("/absent")), Some(&files.key), "failed to read /absent");
    files.replace_key();
    refused(Some(&files.certificate), Some(&files.key), "does not belong to");
}
