//! How a trace crosses a boundary: out of a span into a header, and out of a header into a span.
//! Every hop (edge to service, service to log, log to worker) uses these functions, so that one trace runs from a
//! frame to the commit of what it brought. Where nothing is exported, spans of `TARGET` are disabled and cost a branch.

mod served;

use std::collections::HashMap;

use http::{HeaderMap, HeaderValue};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

pub use served::{REQUEST_ID, served};

/// Of spans that are made for each frame, batch or record. They are for export alone: no log line shows them.
pub const TARGET: &str = "matyan_trace";

/// The header in which a trace travels, in W3C's form.
pub const TRACEPARENT: &str = "traceparent";

/// Where a span stands, for whoever goes on with its trace; `None` if it is not exported.
pub fn traceparent(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut headers);
    headers.remove(TRACEPARENT)
}

/// Tells whoever gets these headers where the current span stands.
pub fn stamp(headers: &mut HeaderMap) {
    if let Some(trace) = traceparent(&Span::current()).and_then(|it| HeaderValue::from_str(&it).ok()) {
        headers.insert(TRACEPARENT, trace);
    }
}

/// Makes `span`, which must be new, go on with the trace of `traceparent`. Of anything else it stays the beginning of its own.
pub fn follow(span: &Span, traceparent: &[u8]) {
    let Ok(traceparent) = std::str::from_utf8(traceparent) else { return };
    if span.is_disabled() || traceparent.is_empty() {
        return;
    }
    let headers = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&headers);
    // Fails only where nothing exports the span.
    span.set_parent(context).ok();
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
    use tracing_subscriber::prelude::*;

    use super::*;

    /// Runs `work` where spans are exported, and tells of each its name, its trace and its parent.
    fn exported(work: impl FnOnce()) -> Vec<(String, String, String)> {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let spans = exporter.get_finished_spans().expect("the exporter is not shut down");
        let tell = |span: opentelemetry_sdk::trace::SpanData| {
            let (trace, parent) = (span.span_context.trace_id().to_string(), span.parent_span_id.to_string());
            (span.name.into_owned(), trace, parent)
        };
        spans.into_iter().map(tell).collect()
    }

    #[test]
    fn a_trace_goes_on_behind_a_header() {
        let spans = exported(|| {
            let sender = tracing::info_span!(target: TARGET, "sender");
            let header = traceparent(&sender).expect("it is exported");
            let receiver = tracing::info_span!(target: TARGET, parent: None, "receiver");
            follow(&receiver, header.as_bytes());
        });
        let [receiver, sender] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((&*receiver.0, &*sender.0), ("receiver", "sender"));
        assert_eq!(receiver.1, sender.1, "one trace");
        assert_ne!(receiver.2, "0000000000000000", "it has a parent");
    }

    #[test]
    fn what_is_no_trace_context_begins_a_new_trace() {
        for header in ["", "00-zz", "nonsense", "00-00000000000000000000000000000000-0000000000000000-01"] {
            let spans = exported(|| {
                let span = tracing::info_span!(target: TARGET, parent: None, "receiver");
                follow(&span, header.as_bytes());
            });
            assert_eq!(spans[0].2, "0000000000000000", "{header}");
        }
    }

    #[test]
    fn a_span_that_nobody_exports_says_nothing() {
        assert_eq!(traceparent(&Span::none()), None);
        follow(&Span::none(), b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    }
}
