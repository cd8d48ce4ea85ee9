//! A gRPC connection to a port of a server.

use tonic::transport::Channel;

/// Connects to the port with this address. Panics if nothing listens there.
pub async fn channel(base: &str) -> Channel {
    let endpoint = Channel::from_shared(base.to_owned()).expect("the base is a URL");
    endpoint.connect().await.expect("the server listens")
}
