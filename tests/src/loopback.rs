//! Connections from chosen addresses of this machine. A server counts its clients by address, except for
//! `localhost`, which identifies no client.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use tokio::net::{TcpSocket, TcpStream};

/// An address of this machine, like all addresses in `127.0.0.0/8`. `localhost` is not among them.
pub const fn address(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2 + number))
}

/// Connects to the host of an `http://` base from an address. `receive_bytes` is the size of the buffer for
/// what the server sends, if it is not the system's default.
pub async fn connect(from: IpAddr, base: &str, receive_bytes: Option<u32>) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = receive_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(authority(base).parse().expect("the server has an address and a port")).await
}

/// The host and port of an `http://` base.
pub fn authority(base: &str) -> &str {
    base.strip_prefix("http://").expect("the server listens without TLS")
}
