//! Export of spans to an OpenTelemetry collector.

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tonic::transport::ClientTlsConfig;
use tracing::{Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "failed to set up the exporter of spans to {endpoint}: set --otlp-endpoint to an OpenTelemetry collector, or unset it"
    )]
    Exporter { endpoint: String, source: ExporterBuildError },
}

pub(super) struct SpanExport {
    provider: SdkTracerProvider,
}

impl SpanExport {
    pub(super) fn new(endpoint: &str, service_name: &str) -> Result<Self, Error> {
        let mut exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
        if endpoint.to_ascii_lowercase().starts_with("https:") {
            // By default, the exporter trusts no certificate authority.
            exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
        }
        let exporter =
            exporter.build().map_err(|source| Error::Exporter { endpoint: endpoint.to_owned(), source })?;
        let resource = Resource::builder().with_service_name(service_name.to_owned()).build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        Ok(Self { provider })
    }

    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        layer(&self.provider)
    }

    /// Exports pending spans. Blocks for a few seconds at most.
    pub(super) fn stop(self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "failed to export the last spans");
        }
    }
}

fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("matyan"));
    let ours = filter_fn(is_exported).with_max_level_hint(LevelFilter::INFO);
    // Locations and threads would add attributes to every span.
    layer.with_location(false).with_threads(false).with_filter(ours)
}

/// True for spans of Matyan crates; spans of libraries, including the exporter's own, are not
/// exported. The span of a connection lasts for days, and only adds context to log lines.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    let is_ours = metadata.is_span() && metadata.target().starts_with("matyan");
    is_ours && metadata.name() != "connection" && *metadata.level() <= LevelFilter::INFO
}

#[cfg(test)]
mod tests {
    use tracing::{Span, subscriber::with_default};
    use tracing_subscriber::{Registry, prelude::*};

    use super::*;
    use crate::{settings::LogFormat, telemetry::log_layer};

    /// The span of a frame, and the span of its connection.
    fn spans() -> (Span, Span) {
        let frame = tracing::info_span!(target: matyan_wire::trace::TARGET, "frame");
        (frame, tracing::info_span!("connection"))
    }

    /// Both in one test, because the interest in a span is cached for all subscribers of
    /// the process.
    #[test]
    fn frame_spans_are_exported_and_connection_spans_are_logged() {
        with_default(Registry::default().with(log_layer(LogFormat::Text, "info")), || {
            let (frame, connection) = spans();
            assert!(frame.is_disabled());
            assert!(!connection.is_disabled(), "log lines carry it");
        });
        let exporter = opentelemetry_sdk::trace::InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        with_default(Registry::default().with(layer(&provider)), || drop(spans()));
        let names = exporter.get_finished_spans().unwrap().into_iter().map(|span| span.name);
        assert_eq!(names.collect::<Vec<_>>(), ["frame"]);
    }
}
