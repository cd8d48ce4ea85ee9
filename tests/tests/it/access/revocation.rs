//! A revoked token ends the streams and sockets that were opened with it, over every protocol, although nobody sends
//! anything. Streams and sockets of others continue. `edge/tests/edge/access.rs` measures the time that this takes.

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use http::Request;
use matyan_proto::{
    access::v1::{RevokeRequest, Role, access_service_client::AccessServiceClient},
    live::v1::{SubscribeRequest, Subscription, subscription},
    runs::v1::WatchRequest,
};
use matyan_tests::{
    exact_http::{ExactClient, OpenAnswer},
    json::{Ack, JsonWriter, create_run, metric},
};
use prost::Message as _;
use serde_json::json;
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};
use tonic::Code;

use super::closed_server::ClosedServer;

const PROJECT: &str = "speech";

/// The streams and sockets that a caller has opened with a token.
struct OpenThings {
    /// A stream of gRPC over HTTP/2.
    watch: OpenAnswer,
    /// The stream of a page, by gRPC-web over HTTP/1.1.
    page: OpenAnswer,
    socket: JsonWriter,
    /// A socket on which nothing was ever sent.
    unused_socket: JsonWriter,
}

impl OpenThings {
    async fn open(closed: &ClosedServer, token: &str, run_id: &str) -> Self {
        // Both streams send a message at once, and then nothing.
        let watch = WatchRequest { snapshot: true, ..Default::default() };
        let request = Some(subscription::Request::Watch(watch.clone()));
        let subscribe = SubscribeRequest { subscriptions: vec![Subscription { request }] };
        let unused_socket = closed.connect(token, PROJECT, run_id).await.expect("it is admitted");
        let mut socket = closed.connect(token, PROJECT, run_id).await.expect("it is admitted");
        assert_eq!(socket.send(&json!([create_run()])).await, Ok(Ack::Ok));
        let call = |path: &str, content_type: &str, message: Vec<u8>| {
            let length = u32::try_from(message.len()).expect("the message is small");
            let body: Bytes = [&[0][..], &length.to_be_bytes(), &message].concat().into();
            let request = Request::post(format!("{}{path}", closed.server.query))
                .header("content-type", content_type)
                .header("te", "trailers")
                .header("matyan-project", PROJECT)
                .header("authorization", format!("Bearer {token}"));
            request.body(body).expect("the request is well-formed")
        };
        let of_watch = call("/matyan.runs.v1.RunService/Watch", "application/grpc", watch.encode_to_vec());
        let of_page = call(
            "/matyan.live.v1.LiveService/Subscribe",
            "application/grpc-web+proto",
            subscribe.encode_to_vec(),
        );
        let watch = ExactClient::http2().open(of_watch).await;
        let page = ExactClient::http1().open(of_page).await;
        Self { watch, page, socket, unused_socket }
    }

    /// Waits until all of them have ended, and returns the codes of the streams and of the sockets.
    async fn ended(self) -> ([Option<Code>; 2], [CloseCode; 2]) {
        let Self { watch, page, mut socket, mut unused_socket } = self;
        let code = async |stream: OpenAnswer| stream.finish().await.grpc_status().map(|status| status.code());
        let (watch, page, socket, unused_socket) = tokio::join!(
            code(watch),
            code(page),
            closed_socket(&mut socket),
            closed_socket(&mut unused_socket)
        );
        ([watch, page], [socket, unused_socket])
    }
}

/// Waits until the server closes a socket on which nothing is sent.
async fn closed_socket(writer: &mut JsonWriter) -> CloseCode {
    loop {
        match writer.socket.next().await {
            Some(Ok(Message::Close(Some(frame)))) => return frame.code,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => panic!("expected a close frame, found {other:?}"),
        }
    }
}

#[tokio::test]
async fn rule_55_a_revoked_token_ends_open_streams_pages_and_sockets() {
    let closed = ClosedServer::up(&[], &[PROJECT]).await;
    let revoked = closed.invite("ana", Role::Writer, PROJECT).await;
    let demoted = closed.invite("bo", Role::Writer, PROJECT).await;
    let kept = closed.invite("cy", Role::Writer, PROJECT).await;
    let of_revoked = OpenThings::open(&closed, &revoked.secret, "a").await;
    let of_demoted = OpenThings::open(&closed, &demoted.secret, "b").await;
    let OpenThings { watch, page, mut socket, mut unused_socket } =
        OpenThings::open(&closed, &kept.secret, "c").await;
    closed.revoke(&revoked).await;
    // A token stays valid without its role, but no longer permits anything.
    let revoke = closed.request(PROJECT, RevokeRequest { principal: "bo".to_owned() });
    AccessServiceClient::new(closed.channel.clone()).revoke(revoke).await.expect("it has a role");

    let both = async { tokio::join!(of_revoked.ended(), of_demoted.ended()) };
    let (of_revoked, of_demoted) = tokio::select! {
        ended = both => ended,
        code = closed_socket(&mut socket) => panic!("the socket of another principal was closed with {code}"),
        code = closed_socket(&mut unused_socket) => panic!("an unused socket was closed with {code}"),
    };
    assert_eq!(of_revoked, ([Some(Code::Unauthenticated); 2], [CloseCode::Policy; 2]));
    assert_eq!(of_demoted, ([Some(Code::NotFound); 2], [CloseCode::Policy; 2]));
    assert_eq!(closed.connect(&revoked.secret, PROJECT, "a").await.err(), Some(401));
    assert_eq!(closed.connect(&demoted.secret, PROJECT, "b").await.err(), Some(404));

    // The streams and sockets of others continue.
    assert_eq!(socket.send(&json!([metric("loss", 0.5, None)])).await, Ok(Ack::Ok));
    assert!(watch.finish().now_or_never().is_none(), "the stream has ended");
    assert!(page.finish().now_or_never().is_none(), "the stream has ended");
}
