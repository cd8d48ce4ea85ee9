//! WebSocket, REST, streaming codec, gRPC-web and static UI, translated onto gRPC.
