//! Telemetry of the process: log lines on standard error, as text or JSON, and spans to a
//! collector if one is configured. Standard output is reserved for what the user requested (the
//! banner, results of commands).

use std::io::{self, IsTerminal};

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tonic::transport::ClientTlsConfig;
use tracing::{Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry,
    filter::{Targets, filter_fn},
    fmt,
    prelude::*,
    registry::LookupSpan,
};

use crate::settings::{LogFormat, TelemetrySettings};

/// Libraries whose info messages are of interest only to their authors. A filter that names
/// them overrides this.
const NOISY_LIBRARIES: &str = "fjall=warn,lsm_tree=warn,h2=warn,hyper=warn";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "failed to set up the exporter of spans to {endpoint}: set --otlp-endpoint to an OpenTelemetry collector, or unset it"
    )]
    Exporter { endpoint: String, source: ExporterBuildError },
}

/// Telemetry of the process. Exports spans while it is alive.
pub(crate) struct Telemetry {
    spans: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts telemetry for the whole process. It must be called once, before anything
    /// else, in the runtime that the exporter will use.
    pub(crate) fn start(settings: &TelemetrySettings) -> Result<Self, Error> {
        let spans =
            settings.otlp_endpoint.as_deref().map(|endpoint| provider(settings, endpoint)).transpose()?;
        match &spans {
            Some(provider) => Registry::default()
                .with(export_layer(provider))
                .with(log_layer(settings.log_format, &settings.log_level))
                .init(),
            // Not `Option<Layer>`: with a layer that is `None`, the registry would
            // create every span, filtered out or not.
            None => Registry::default().with(log_layer(settings.log_format, &settings.log_level)).init(),
        }
        Ok(Self { spans })
    }

    /// Exports pending spans. Blocks for a few seconds at most.
    pub(crate) fn stop(self) {
        if let Some(Err(error)) = self.spans.map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "failed to export the last spans");
        }
    }
}

fn provider(settings: &TelemetrySettings, endpoint: &str) -> Result<SdkTracerProvider, Error> {
    let mut exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
    if endpoint.to_ascii_lowercase().starts_with("https:") {
        // By default, the exporter trusts no certificate authority.
        exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
    }
    let exporter =
        exporter.build().map_err(|source| Error::Exporter { endpoint: endpoint.to_owned(), source })?;
    let resource = Resource::builder().with_service_name(settings.service_name.clone()).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

fn export_layer<S>(provider: &SdkTracerProvider) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("matyan"));
    let ours = filter_fn(is_exported).with_max_level_hint(LevelFilter::INFO);
    // Locations and threads would add attributes to every span.
    layer.with_location(false).with_threads(false).with_filter(ours)
}

/// True for spans of Matyan crates; those of libraries, including the exporter's own, are not
/// exported. The span of a connection lasts for days, and only adds context to log lines.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    let is_ours = metadata.is_span() && metadata.target().starts_with("matyan");
    is_ours && metadata.name() != "connection" && *metadata.level() <= LevelFilter::INFO
}

fn log_layer<S>(format: LogFormat, level: &str) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = fmt::layer().with_writer(io::stderr);
    let filter = filter(level);
    match format {
        LogFormat::Text => layer.with_ansi(io::stderr().is_terminal()).with_filter(filter).boxed(),
        // Fields are on the same level as the message, so that request, run and
        // connection ids can be searched for.
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
    }
}

/// The more specific directive wins. `Targets` filters by target alone, so entering a span
/// needs no lookup.
fn filter(log_level: &str) -> Targets {
    let directives = format!("{NOISY_LIBRARIES},{}=off,{log_level}", matyan_record::trace::TARGET);
    directives.parse().expect("directives are validated with the settings")
}

#[cfg(test)]
mod tests {
    use tracing::{Level, Span, subscriber::with_default};

    use super::*;

    #[test]
    fn libraries_are_quiet_unless_named_in_the_filter() {
        let is_enabled = |log_level, target| filter(log_level).would_enable(target, &Level::INFO);
        assert!(is_enabled("info", "matyan_worker"));
        assert!(!is_enabled("info", "fjall") && !is_enabled("info", "h2"));
        assert!(is_enabled("debug,fjall=trace", "fjall") && !is_enabled("debug,fjall=trace", "lsm_tree"));
    }

    /// The span of a frame, and the span of its connection.
    fn spans() -> (Span, Span) {
        let frame = tracing::info_span!(target: matyan_record::trace::TARGET, "frame");
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
        with_default(Registry::default().with(export_layer(&provider)), || drop(spans()));
        let names = exporter.get_finished_spans().unwrap().into_iter().map(|span| span.name);
        assert_eq!(names.collect::<Vec<_>>(), ["frame"]);
    }
}
