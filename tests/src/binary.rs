//! A client of the binary WebSocket subprotocol: numbered batches, cumulative acknowledgements,
//! and unacknowledged batches are resent after a disconnect. The numbers make resending safe.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use matyan_proto::ingest::v1::{
    IngestionBatch, SeriesDef, StreamBatch, StreamOpen, StreamRequest, StreamResponse, stream_request,
};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

use crate::json::url;

/// Name of the subprotocol in the handshake.
pub const PROTOCOL: &str = "matyan.v1.binary";

/// A producer for one run, over any number of connections.
pub struct BinaryWriter {
    run_id: String,
    producer_id: Bytes,
    dictionary: Vec<SeriesDef>,
    /// The last sequence number used.
    sequence: u64,
    /// Sequence number up to which everything is durable.
    pub acknowledged: u64,
    unacknowledged: VecDeque<StreamBatch>,
    socket: Option<WebSocketStream<MaybeTlsStream<TcpStream>>>,
}

impl BinaryWriter {
    pub fn new(run_id: &str) -> Self {
        Self {
            run_id: run_id.into(),
            producer_id: Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes()),
            dictionary: Vec::new(),
            sequence: 0,
            acknowledged: 0,
            unacknowledged: VecDeque::new(),
            socket: None,
        }
    }

    /// The number of a series. A new one is defined in the batch that is being built.
    pub fn series(&mut self, batch: &mut IngestionBatch, name: &str) -> u32 {
        if let Some(known) = self.dictionary.iter().position(|series| series.name == name) {
            return u32::try_from(known).expect("few series");
        }
        if batch.series.is_empty() {
            batch.series_base = u32::try_from(self.dictionary.len()).expect("few series");
        }
        let definition = SeriesDef { name: name.into(), dtype: "float".into(), ..SeriesDef::default() };
        batch.series.push(definition.clone());
        self.dictionary.push(definition);
        u32::try_from(self.dictionary.len() - 1).expect("few series")
    }

    /// Connects, reopens the stream, and resends every batch that is not acknowledged.
    pub async fn connect(&mut self, base: &str) -> Result<(), String> {
        self.socket = None;
        let mut request = url(base, &self.run_id).into_client_request().map_err(|e| e.to_string())?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(PROTOCOL));
        let (socket, _) = tokio_tungstenite::connect_async(request).await.map_err(|e| e.to_string())?;
        self.socket = Some(socket);
        let open = StreamOpen {
            run_id: self.run_id.clone(),
            producer_id: self.producer_id.clone(),
            acknowledged: self.acknowledged,
            dictionary: self.known_series().encode_to_vec().into(),
            ..StreamOpen::default()
        };
        self.write(stream_request::Message::Open(open)).await?;
        // The server ignores the batches that it has already stored, by their sequence numbers.
        for batch in self.unacknowledged.clone() {
            self.write(stream_request::Message::Batch(batch)).await?;
        }
        Ok(())
    }

    /// The dictionary without the definitions in batches that are resent.
    fn known_series(&self) -> IngestionBatch {
        let defined_again = self.unacknowledged.iter().map(|batch| {
            let batch = IngestionBatch::decode(batch.batch.clone()).expect("this writer encoded it");
            batch.series.len()
        });
        let known = self.dictionary.len() - defined_again.sum::<usize>();
        IngestionBatch { series: self.dictionary[..known].to_vec(), ..IngestionBatch::default() }
    }

    /// Sends a batch without waiting. After an error it is kept, and the next `connect` resends
    /// it.
    pub async fn send(&mut self, batch: &IngestionBatch) -> Result<(), String> {
        self.sequence += 1;
        let batch = StreamBatch {
            sequence: self.sequence,
            batch: batch.encode_to_vec().into(),
            ..StreamBatch::default()
        };
        self.unacknowledged.push_back(batch.clone());
        self.write(stream_request::Message::Batch(batch)).await
    }

    async fn write(&mut self, message: stream_request::Message) -> Result<(), String> {
        let bytes = StreamRequest { message: Some(message) }.encode_to_vec();
        let socket = self.socket.as_mut().ok_or("not connected")?;
        socket.send(Message::binary(bytes)).await.map_err(|error| error.to_string())
    }

    /// Waits for one acknowledgment.
    pub async fn ack(&mut self) -> Result<StreamResponse, String> {
        let socket = self.socket.as_mut().ok_or("not connected")?;
        loop {
            match socket.next().await {
                Some(Ok(Message::Binary(bytes))) => {
                    let response = StreamResponse::decode(bytes).map_err(|error| error.to_string())?;
                    self.acknowledged = self.acknowledged.max(response.sequence);
                    while self.unacknowledged.front().is_some_and(|first| first.sequence <= self.acknowledged)
                    {
                        self.unacknowledged.pop_front();
                    }
                    return Ok(response);
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => return Err(format!("unexpected {other:?}")),
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("the connection ended".into()),
            }
        }
    }

    pub fn outstanding(&self) -> usize {
        self.unacknowledged.len()
    }

    /// Waits until at most `most` batches are unacknowledged.
    pub async fn wait_for_acks(&mut self, most: usize) -> Result<(), String> {
        while self.outstanding() > most {
            self.ack().await?;
        }
        Ok(())
    }

    /// Disconnects without waiting for anything.
    pub fn disconnect(&mut self) {
        self.socket = None;
    }
}
