//! Propagation of traces across process boundaries, by a header. Every hop (edge to service,
//! service to log, log to worker) uses these functions, so that a trace extends from a frame to the
//! commit of its contents. If nothing is exported, spans of `TARGET` are disabled and cost a
//! branch.

#[cfg(feature = "otlp")]
mod propagation;

use http::{HeaderMap, HeaderValue};
use tracing::Span;

#[cfg(feature = "otlp")]
pub use propagation::{join_trace, traceparent};

use crate::headers::TRACEPARENT;

/// Target of the spans of single frames, batches, and records, which are only exported, and never
/// shown in log lines.
pub const TARGET: &str = "matyan_trace";

/// Adds the trace context of the current span to the headers of a call.
pub fn stamp(headers: &mut HeaderMap) {
    if let Some(trace) = traceparent(&Span::current()).and_then(|it| HeaderValue::from_str(&it).ok()) {
        headers.insert(TRACEPARENT, trace);
    }
}

/// Returns `None`, because a build without the feature `otlp` exports no spans.
#[cfg(not(feature = "otlp"))]
pub fn traceparent(_span: &Span) -> Option<String> {
    None
}

/// Does nothing, because a build without the feature `otlp` exports no spans.
#[cfg(not(feature = "otlp"))]
pub fn join_trace(_span: &Span, _traceparent: &[u8]) {}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
    use tracing_subscriber::prelude::*;

    use super::*;

    /// Runs `work` with an exporter, and returns name, trace, and parent of each span.
    fn exported(work: impl FnOnce()) -> Vec<(String, String, String)> {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let spans = exporter.get_finished_spans().expect("the exporter is not shut down");
        spans
            .into_iter()
            .map(|span| {
                let trace = span.span_context.trace_id().to_string();
                let parent = span.parent_span_id.to_string();
                (span.name.into_owned(), trace, parent)
            })
            .collect()
    }

    #[test]
    fn a_trace_continues_after_a_header() {
        let spans = exported(|| {
            let sender = tracing::info_span!(target: TARGET, "sender");
            let header = traceparent(&sender).expect("the span is exported");
            let receiver = tracing::info_span!(target: TARGET, parent: None, "receiver");
            join_trace(&receiver, header.as_bytes());
        });
        let [receiver, sender] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((&*receiver.0, &*sender.0), ("receiver", "sender"));
        assert_eq!(receiver.1, sender.1, "one trace");
        assert_ne!(receiver.2, "0000000000000000", "it has a parent");
    }

    #[test]
    fn a_header_without_a_trace_context_begins_a_new_trace() {
        for header in ["", "00-zz", "nonsense", "00-00000000000000000000000000000000-0000000000000000-01"] {
            let spans = exported(|| {
                let span = tracing::info_span!(target: TARGET, parent: None, "receiver");
                join_trace(&span, header.as_bytes());
            });
            assert_eq!(spans[0].2, "0000000000000000", "{header}");
        }
    }

    #[test]
    fn a_span_that_is_not_exported_has_no_context() {
        assert_eq!(traceparent(&Span::none()), None);
        join_trace(&Span::none(), b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    }
}
