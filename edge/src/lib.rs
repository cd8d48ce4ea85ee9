//! WebSocket, REST, streaming codec, gRPC-web and static UI, translated onto gRPC.
//! It decides nothing: every answer comes from a service behind a transport, and no store, log or blob is reachable from here.

pub mod stream;
pub mod ws;
