//! Trace contexts in the W3C format.

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::headers::TRACEPARENT;

/// Returns the trace context of a span for a header; `None` if the span is not exported.
///
/// ```
/// assert_eq!(matyan_wire::trace::traceparent(&tracing::Span::none()), None);
/// ```
pub fn traceparent(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut headers);
    headers.remove(TRACEPARENT)
}

/// Makes `span`, which must not have been entered yet, a child of the remote span in `traceparent`.
/// An invalid header is ignored, and the span starts its own trace.
pub fn join_trace(span: &Span, traceparent: &[u8]) {
    let Ok(traceparent) = std::str::from_utf8(traceparent) else { return };
    if span.is_disabled() || traceparent.is_empty() {
        return;
    }
    let headers = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&headers);
    // This fails only if no exporter is installed.
    span.set_parent(context).ok();
}
