//! Frames of the binary subprotocol, as `docs/websocket.md` describes it.

use bytes::Bytes;
use matyan_proto::ingest::v1::{
    IngestionBatch, SeriesDef, StreamBatch, StreamOpen, StreamRequest, StreamResponse, stream_request,
};
use prost::{DecodeError, Message as _};

use crate::spool::directory::ProducerId;

/// Name of the subprotocol in the handshake.
pub(crate) const SUBPROTOCOL: &str = "matyan.v1.binary";

/// The first frame of a connection.
pub(crate) fn open(
    run_id: &str,
    producer: ProducerId,
    acknowledged: u64,
    definitions: Vec<SeriesDef>,
) -> Vec<u8> {
    let dictionary = IngestionBatch { series: definitions, ..IngestionBatch::default() };
    request(stream_request::Message::Open(StreamOpen {
        run_id: run_id.to_owned(),
        producer_id: Bytes::copy_from_slice(&producer.bytes()),
        acknowledged,
        dictionary: dictionary.encode_to_vec().into(),
        ephemeral: false,
    }))
}

/// A frame with an encoded batch.
pub(crate) fn batch(sequence: u64, batch: Bytes) -> Vec<u8> {
    request(stream_request::Message::Batch(StreamBatch { sequence, batch, traceparent: String::new() }))
}

fn request(message: stream_request::Message) -> Vec<u8> {
    StreamRequest { message: Some(message) }.encode_to_vec()
}

/// Reads an acknowledgement.
pub(crate) fn response(frame: Bytes) -> Result<StreamResponse, DecodeError> {
    StreamResponse::decode(frame)
}
