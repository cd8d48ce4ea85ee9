//! The clients of a load, which repeat what they do until they are stopped.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use matyan_tests::Server;
use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};
use tonic::transport::Channel;

use crate::search::Client;

/// The address from which the clients of a load connect. All of `127.0.0.0/8` is this machine.
pub(super) const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

pub(super) struct Clients(JoinSet<()>);

impl Clients {
    pub(super) fn new(tasks: JoinSet<()>) -> Self {
        Self(tasks)
    }

    /// Stops the clients, and fails if one has ended by itself.
    pub(super) async fn stop(mut self) {
        assert!(self.0.try_join_next().is_none(), "a client of the load ends only when it is stopped");
        self.0.shutdown().await;
    }
}

/// A gRPC client that connects from the address of the load.
pub(super) async fn search_client(server: &Server) -> Client {
    let endpoint = Channel::from_shared(server.query.clone()).expect("the base is a URL");
    let channel = endpoint.local_address(Some(ADDRESS)).connect().await.expect("the server listens");
    Client::new(channel).max_decoding_message_size(usize::MAX)
}

/// An HTTP client that connects from the address of the load, once for each request: the server may end an
/// idle connection just as it would be used again.
pub(super) fn http_client() -> reqwest::Client {
    reqwest::Client::builder()
        .local_address(ADDRESS)
        .pool_max_idle_per_host(0)
        .build()
        .expect("the settings are valid")
}

/// Connects to the host of an `http://` base from the address of the load. `receive_bytes` is the size of
/// the buffer for what the server sends, if it is not the system's default.
pub(super) async fn connect(base: &str, receive_bytes: Option<u32>) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = receive_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(SocketAddr::new(ADDRESS, 0))?;
    socket.connect(authority(base).parse().expect("the server has an address and a port")).await
}

/// The host and port of an `http://` base.
pub(super) fn authority(base: &str) -> &str {
    base.strip_prefix("http://").expect("the server listens without TLS")
}
