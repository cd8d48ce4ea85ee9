//! A listening port: accepts connections, serves HTTP/1 and HTTP/2 on each, and shuts down
//! gracefully.
//! Shutdown: stop accepting, acknowledge what WebSockets have sent, finish running requests,
//! close.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse;
use http::{Extensions, Request};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use matyan_access::ShareLimit;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::allowed_hosts::check_host_header;
use crate::client_stream::ClientStream;
use crate::compression::LocalConnection;
use crate::edge::Edge;
use crate::peer_network::{PeerAddress, PeerNetwork};
use crate::tls::{SecureConnection, Tls};

/// Time limit for each step of a client that starts a request: the TLS handshake, the first
/// bytes, the request head.
const REQUEST_START_TIMEOUT: Duration = Duration::from_secs(30);

/// Idle time after which a keep-alive probe is sent to the peer.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// Maximum number of concurrent calls on one HTTP/2 connection. Each may hold a request and some
/// messages of its response.
const MAX_STREAMS: u32 = 200;

/// Data that a client may send before it is read, per stream and per connection of HTTP/2. It is
/// held outside of the memory budget.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;

/// Pause after a failed accept, for example when no file descriptors are left; without it the
/// loop would spin.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Serves until `stop` is canceled and everything in progress has ended.
pub async fn serve(listener: TcpListener, tls: Option<Tls>, edge: Edge, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let connections = TaskTracker::new();
    let limit = ShareLimit::new("connections", edge.max_open());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => match limit.admit(PeerNetwork::of(peer.ip())) {
                Ok(permit) => {
                    let tls = tls.clone();
                    let edge = edge.of_connection();
                    let tasks = edge.tasks().clone();
                    let watcher = graceful.watcher();
                    let stop = stop.clone();
                    connections.spawn(tasks.task(async move {
                        serve_connection(stream, peer.ip(), tls, edge, watcher, stop).await;
                        drop(permit);
                    }));
                }
                // Dropping the stream closes it. Without descriptors, the store and the log could
                // not open their files.
                Err(_) => edge.count_refused_connection(),
            },
            Err(error) => {
                tracing::warn!(%error, "failed to accept connection; will retry");
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
    // New connections are refused from here on, while open ones finish.
    drop(listener);
    // WebSockets are drained separately, because hyper does not track upgraded connections.
    tokio::join!(edge.drain(), graceful.shutdown());
    connections.close();
    connections.wait().await;
}

/// Sets TCP_NODELAY, so that responses are not delayed, and TCP keep-alive, so that a dead peer
/// is noticed even while the server only waits for data.
fn set_socket_options(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEP_ALIVE_INTERVAL).with_interval(KEEP_ALIVE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Serves one connection until it ends. A TLS handshake that is unfinished when the server
/// stops is dropped.
async fn serve_connection(
    stream: TcpStream,
    peer: IpAddr,
    tls: Option<Tls>,
    edge: Edge,
    watcher: Watcher,
    stop: CancellationToken,
) {
    if let Err(error) = set_socket_options(&stream) {
        tracing::debug!(%error, "failed to set socket options; using defaults");
    }
    let mut extensions = Extensions::new();
    extensions.insert(PeerAddress(peer.to_canonical()));
    if let Some(network) = PeerNetwork::of(peer) {
        extensions.insert(network);
    }
    if peer.to_canonical().is_loopback() {
        extensions.insert(LocalConnection);
    }
    let Some(tls) = tls else { return serve_requests(stream, extensions, edge, watcher).await };
    let handshake = timeout(REQUEST_START_TIMEOUT, tls.acceptor().accept(stream));
    match stop.run_until_cancelled(handshake).await {
        Some(Ok(Ok(stream))) => {
            extensions.insert(SecureConnection);
            serve_requests(stream, extensions, edge, watcher).await;
        }
        Some(Ok(Err(error))) => tracing::debug!(%error, "TLS handshake failed"),
        // The handshake timed out, or the server is stopping.
        Some(Err(_)) | None => {}
    }
}

/// Serves the requests of one connection, each with these extensions.
async fn serve_requests<S>(stream: S, extensions: Extensions, edge: Edge, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(edge.tasks().clone());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(REQUEST_START_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_INTERVAL);
    let budget = edge.connection_budget();
    let service = service_fn(move |request: Request<Incoming>| {
        let edge = edge.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(budget.clone());
        request.extensions_mut().extend(extensions.clone());
        async move {
            let response = match check_host_header(&request) {
                Ok(()) => edge.answer(request).await,
                Err(error) => error.into_response(),
            };
            Ok::<_, Infallible>(response)
        }
    });
    let stream = TokioIo::new(ClientStream::new(stream, REQUEST_START_TIMEOUT));
    let serving = builder.serve_connection_with_upgrades(stream, service).into_owned();
    if let Err(error) = watcher.watch(serving).await {
        tracing::debug!(error = &*error, "connection ended with an error");
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tonic::service::Routes;

    use super::*;
    use crate::{Metrics, Settings, Transport, worker};

    fn edge() -> Edge {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        worker(Settings::default(), metrics, Transport::new(Routes::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_before_its_request() {
        // Kept alive so that no connection is asked to shut down.
        let graceful = GracefulShutdown::new();
        for request_start in ["", "PRI * HTTP/2.0\r\n", "GET /health/live HT"] {
            let (mut client, stream) = duplex(1 << 10);
            client.write_all(request_start.as_bytes()).await.unwrap();
            let serving = serve_requests(stream, Extensions::new(), edge(), graceful.watcher());
            timeout(100 * REQUEST_START_TIMEOUT, serving)
                .await
                .unwrap_or_else(|_| panic!("{request_start:?} never timed out"));
        }
    }

    #[tokio::test]
    async fn a_request_of_http_1_1_names_one_host() {
        for (head, status) in [
            ("HTTP/1.1\r\nHost: localhost", "HTTP/1.1 200"),
            ("HTTP/1.1\r\nHost:", "HTTP/1.1 200"),
            ("HTTP/1.0", "HTTP/1.0 200"),
            ("HTTP/1.1", "HTTP/1.1 400"),
            ("HTTP/1.1\r\nHost: localhost\r\nHost: localhost", "HTTP/1.1 400"),
        ] {
            let graceful = GracefulShutdown::new();
            let (mut client, stream) = duplex(1 << 12);
            let request = format!("GET /metrics {head}\r\nConnection: close\r\n\r\n");
            let requesting = async {
                client.write_all(request.as_bytes()).await.unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).await.unwrap();
                answer
            };
            let serving = serve_requests(stream, Extensions::new(), edge(), graceful.watcher());
            let (answer, ()) = tokio::join!(requesting, serving);
            assert!(answer.starts_with(status), "{head}: {answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_is_served() {
        let (mut client, stream) = duplex(1 << 10);
        let graceful = GracefulShutdown::new();
        let requesting = async {
            sleep(REQUEST_START_TIMEOUT / 2).await;
            let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            client.write_all(request).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let serving = serve_requests(stream, Extensions::new(), edge(), graceful.watcher());
        let (answer, ()) = tokio::join!(requesting, serving);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}
