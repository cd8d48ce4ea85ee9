//! A server that sends scripted responses in order, one connection each, for failures that a real
//! server rarely produces. Their wording comes from Amazon's documentation.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub(crate) struct ScriptedServer {
    pub(crate) endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

/// Far longer than any test takes.
const WITHIN: Duration = Duration::from_secs(30);

/// A response. With `cut`, the body breaks off after that many bytes, although its full length
/// was announced.
pub(crate) struct ScriptedResponse {
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) cut: Option<usize>,
}

pub(crate) fn answer(status: u16, headers: &str, body: impl Into<String>) -> ScriptedResponse {
    let body = body.into();
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
    ScriptedResponse { head, body, cut: None }
}

impl ScriptedServer {
    pub(crate) async fn start(answers: Vec<ScriptedResponse>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let serving = tokio::spawn(async move {
            for answer in answers {
                let (mut connection, _) = listener.accept().await.unwrap();
                let request = read(&mut connection).await;
                seen.lock().unwrap().push(request);
                let body = &answer.body.as_bytes()[..answer.cut.unwrap_or(answer.body.len())];
                connection.write_all(&[answer.head.as_bytes(), body].concat()).await.unwrap();
                connection.shutdown().await.unwrap();
            }
        });
        Self { endpoint, requests, serving }
    }

    /// Returns the number of requests so far.
    pub(crate) fn request_count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    /// Returns all requests, once every response has been sent.
    pub(crate) async fn requests(self) -> Vec<String> {
        let served = tokio::time::timeout(WITHIN, self.serving).await;
        let requests = self.requests.lock().unwrap().clone();
        served
            .unwrap_or_else(|_| panic!("fewer requests came than responses were scripted: {requests:?}"))
            .unwrap();
        requests
    }
}

/// Reads a complete request: its header and a body of the announced length.
async fn read(connection: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((header, body)) = text.split_once("\r\n\r\n") {
            let header = header.to_lowercase();
            let length = header.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        assert!(connection.read_buf(&mut request).await.unwrap() > 0, "a request was cut short: {text}");
    }
}
