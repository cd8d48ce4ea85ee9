//! Connections to the gateway by any of its protocols.

#[cfg(feature = "grpc")]
use crate::sender::grpc;
use crate::sender::{
    dialer::Dialer,
    target::{ConnectError, Target},
    websocket::{self, Socket},
};

/// An open connection.
pub(crate) enum Connection {
    Binary(Socket),
    /// The server does not know the binary subprotocol, like Matyan 0.3.
    Json(Socket),
    #[cfg(feature = "grpc")]
    Grpc(grpc::Gateway),
}

/// Connects to the gateway to send batches of a run.
pub(crate) async fn connect(
    gateway_url: &str,
    run_id: &str,
    dialer: &Dialer,
) -> Result<Connection, ConnectError> {
    let target = Target::new(gateway_url)?;
    if target.is_grpc {
        #[cfg(feature = "grpc")]
        return grpc::connect(&target, dialer).await.map(Connection::Grpc);
        #[cfg(not(feature = "grpc"))]
        return Err(target.invalid("this program was built without the feature `grpc` of matyan-sdk"));
    }
    let (socket, is_binary) = websocket::connect(&target, run_id, dialer).await?;
    Ok(if is_binary { Connection::Binary(socket) } else { Connection::Json(socket) })
}
