//! An OpenTelemetry collector with which tests wait for exported spans and inspect them.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use tokio::{net::TcpListener, task::AbortHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig},
};

use crate::eventually;

/// The name of the service that sent a span, and the span.
pub type ReceivedSpan = (String, Span);

/// A collector that listens until it is dropped.
pub struct Collector {
    /// `http://127.0.0.1:port`, or `https://…`.
    pub endpoint: String,
    spans: Arc<Mutex<Vec<ReceivedSpan>>>,
    task: AbortHandle,
}

struct Receiver(Arc<Mutex<Vec<ReceivedSpan>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.0.lock().expect("no thread panics while it holds the lock");
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let name = attributes.into_iter().find(|attribute| attribute.key == "service.name");
            let service = format!("{:?}", name.and_then(|name| name.value));
            let received = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(received.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub async fn listen() -> Self {
        Self::serve("http", Server::builder()).await
    }

    /// Listens over TLS, with this certificate and its key.
    pub async fn listen_tls(certificate: &str, key: &str) -> Self {
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        Self::serve("https", Server::builder().tls_config(tls).expect("certificate and key match")).await
    }

    async fn serve(scheme: &str, mut server: Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let endpoint = format!("{scheme}://{}", listener.local_addr().expect("the listener is bound"));
        let spans = Arc::default();
        let service = TraceServiceServer::new(Receiver(Arc::clone(&spans)));
        let serving = server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(serving).abort_handle();
        Self { endpoint, spans, task }
    }

    /// All spans received so far.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.spans.lock().expect("no thread panics while it holds the lock").clone()
    }

    /// The spans of the trace that has a matching span, parents first, once it has the
    /// expected names.
    pub async fn trace(&self, has: impl Fn(&Span) -> bool, expected: &[&str]) -> Vec<ReceivedSpan> {
        eventually("the whole trace is exported", async || {
            let spans = self.spans();
            let of = spans.iter().find(|(_, span)| has(span)).ok_or("no matching span has arrived")?;
            let of = of.1.trace_id.clone();
            let chain = order_by_parent(spans.into_iter().filter(|(_, span)| span.trace_id == of).collect());
            let names: Vec<&str> = chain.iter().map(|(_, span)| span.name.as_str()).collect();
            if names == expected { Ok(chain) } else { Err(format!("{names:?}")) }
        })
        .await
    }
}

/// Orders spans so that each is the parent of the next. Empty while one is missing.
fn order_by_parent(spans: Vec<ReceivedSpan>) -> Vec<ReceivedSpan> {
    let is_parent =
        |(_, parent): &ReceivedSpan, (_, child): &ReceivedSpan| parent.span_id == child.parent_span_id;
    let mut chain: Vec<ReceivedSpan> = Vec::new();
    let first = spans.iter().find(|child| !spans.iter().any(|parent| is_parent(parent, child)));
    chain.extend(first.cloned());
    while let Some(next) = chain.last().and_then(|last| spans.iter().find(|span| is_parent(last, span))) {
        chain.push(next.clone());
    }
    if chain.len() == spans.len() { chain } else { Vec::new() }
}

pub fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    found.map(|attribute| format!("{:?}", attribute.value)).unwrap_or_default()
}

/// Matches a span with this name, and an attribute that contains this value.
pub fn span_with(name: &'static str, key: &'static str, value: &'static str) -> impl Fn(&Span) -> bool {
    move |span| span.name == name && attribute(span, key).contains(value)
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}
