//! The WebSocket handshake with the gateway, which also chooses between the binary subprotocol and
//! JSON.

use matyan_proto::limits;
use matyan_wire::headers::BINARY_SUBPROTOCOL;
use tokio::time;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self,
        client::IntoClientRequest as _,
        error::{ProtocolError, SubProtocolError},
        handshake::client::Request,
        http::{
            HeaderValue, StatusCode,
            header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL},
        },
        protocol::WebSocketConfig,
    },
};

use crate::{
    access_token::authorization,
    http,
    sender::{
        dialer::{ByteStream, Dialer, STEP_TIMEOUT},
        older_server,
        target::{ConnectError, Target},
    },
};

/// Largest frame of the server: responses with a thousand rejections are far smaller.
const MOST_FRAME_BYTES: usize = 16 << 20;

/// Most bytes that wait to be written: the largest batch, and answers to pings. A server that pings without reading
/// the answers gets no more of them, and a batch that finds no room ends the connection.
const MOST_UNSENT_BYTES: usize = 2 * limits::MESSAGE_BYTES;

/// An open WebSocket.
pub(crate) type Socket = WebSocketStream<Box<dyn ByteStream>>;

/// Connects to the socket of a run. The flag says whether the server speaks the binary subprotocol.
pub(crate) async fn connect(
    target: &Target,
    run_id: &str,
    dialer: &Dialer,
) -> Result<(Socket, bool), ConnectError> {
    match handshake(target, run_id, dialer, true).await {
        Ok(socket) => Ok((socket, true)),
        // Matyan 0.3, for example.
        Err(ConnectError::Handshake(error)) if is_unknown_subprotocol(&error) => {
            Ok((handshake(target, run_id, dialer, false).await?, false))
        }
        Err(error) => Err(error),
    }
}

fn is_unknown_subprotocol(error: &tungstenite::Error) -> bool {
    matches!(
        error,
        tungstenite::Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(
            SubProtocolError::NoSubProtocol
        ))
    )
}

async fn handshake(
    target: &Target,
    run_id: &str,
    dialer: &Dialer,
    is_binary: bool,
) -> Result<Socket, ConnectError> {
    let request = request(target, run_id, is_binary)?;
    let stream = dialer.open(target, None).await?;
    let handshake = client_async_with_config(request, stream, Some(config()));
    match time::timeout(STEP_TIMEOUT, handshake).await.map_err(|_| target.timeout())? {
        Ok((socket, answer)) => {
            older_server::report(answer.headers());
            Ok(socket)
        }
        Err(tungstenite::Error::Http(response)) => Err(match response.status() {
            StatusCode::MISDIRECTED_REQUEST => ConnectError::HostName { host: target.host.clone() },
            status => {
                let body = response.body().as_deref().unwrap_or_default();
                ConnectError::refusal(target.address(), status, body)
            }
        }),
        Err(error) => Err(ConnectError::Handshake(Box::new(error))),
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MOST_FRAME_BYTES))
        .max_write_buffer_size(MOST_UNSENT_BYTES)
}

fn request(target: &Target, run_id: &str, is_binary: bool) -> Result<Request, ConnectError> {
    let scheme = if target.is_secure { "wss" } else { "ws" };
    let url = format!("{scheme}://{}/api/v1/ws/runs/{}", target.base, http::segment(run_id));
    let mut request =
        url.as_str().into_client_request().map_err(|error| ConnectError::Handshake(Box::new(error)))?;
    if let Some(authorization) = authorization(&url) {
        request.headers_mut().insert(AUTHORIZATION, authorization);
    }
    if is_binary {
        let subprotocol = HeaderValue::from_static(BINARY_SUBPROTOCOL);
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use futures::{SinkExt as _, StreamExt as _};
    use tokio::io::AsyncWriteExt as _;
    use tokio_tungstenite::tungstenite::{Message, protocol::Role};

    use super::*;

    #[tokio::test]
    async fn rule_74_answers_to_pings_that_nobody_reads_are_limited() {
        let (near, mut far) = tokio::io::duplex(64 << 10);
        let mut socket = WebSocketStream::from_raw_socket(near, Role::Client, Some(config())).await;
        let largest = Message::binary(vec![0; limits::MESSAGE_BYTES]);
        // The answer to a ping is longer, because it is masked.
        let ping: Vec<u8> = [&[0x89, 125][..], &[0; 125]].concat();
        let pings = ping.repeat(1000);
        let flood = async {
            for _ in 0..=MOST_UNSENT_BYTES / pings.len() {
                far.write_all(&pings).await.unwrap();
            }
        };
        let read = async { while let Some(Ok(_)) = socket.next().await {} };
        tokio::select! {
            () = flood => {}
            () = read => panic!("the connection ended"),
        }
        let sent = socket.send(largest).await;
        assert!(matches!(sent, Err(tungstenite::Error::WriteBufferFull(_))), "{sent:?}");
    }

    #[test]
    fn the_path_of_a_run_is_appended_to_the_url() {
        for (url, run, expected) in [
            ("http://h:53801", "abc", "ws://h:53801/api/v1/ws/runs/abc"),
            ("https://h/base/", "a b", "wss://h/base/api/v1/ws/runs/a%20b"),
            ("http://[::1]:9", "r", "ws://[::1]:9/api/v1/ws/runs/r"),
        ] {
            let request = request(&Target::new(url).unwrap(), run, true).unwrap();
            assert_eq!(request.uri().to_string(), expected);
        }
    }
}
