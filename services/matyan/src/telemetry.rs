//! What the process tells about itself: lines on standard error, as text or JSON, and spans to a collector if one is set.
//! Standard output is left to what a person asked for (the banner, answers of commands).

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

use crate::settings::{LogFormat, Settings};

/// Libraries that tell at our level what is news to their authors alone. Named in a filter they speak.
const TALKATIVE: &str = "fjall=warn,lsm_tree=warn,h2=warn,hyper=warn";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "spans cannot be sent to {endpoint}: name an OpenTelemetry collector with --otlp-endpoint, or none"
    )]
    Exporter { endpoint: String, source: ExporterBuildError },
}

/// Sends spans as long as it lives.
pub(crate) struct Telemetry {
    spans: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts it for the whole process; called once, first of all, in the runtime that the exporter is to use.
    pub(crate) fn start(settings: &Settings) -> Result<Self, Error> {
        let spans =
            settings.otlp_endpoint.as_deref().map(|endpoint| provider(settings, endpoint)).transpose()?;
        match &spans {
            Some(provider) => Registry::default()
                .with(exported(provider))
                .with(lines(settings.log_format, &settings.log_level))
                .init(),
            // Not `Option<Layer>`: beside one that is `None` the registry makes every span, wanted or not.
            None => Registry::default().with(lines(settings.log_format, &settings.log_level)).init(),
        }
        Ok(Self { spans })
    }

    /// Sends what has not been sent yet. Blocks for a few seconds at most.
    pub(crate) fn stop(self) {
        if let Some(Err(error)) = self.spans.map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

fn provider(settings: &Settings, endpoint: &str) -> Result<SdkTracerProvider, Error> {
    let mut exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
    if endpoint.to_ascii_lowercase().starts_with("https:") {
        // By itself the exporter would trust nobody.
        exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
    }
    let exporter =
        exporter.build().map_err(|source| Error::Exporter { endpoint: endpoint.to_owned(), source })?;
    let resource = Resource::builder().with_service_name(settings.service_name.clone()).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

fn exported<S>(provider: &SdkTracerProvider) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("matyan"));
    let ours = filter_fn(is_exported).with_max_level_hint(LevelFilter::INFO);
    layer.with_location(false).with_threads(false).with_filter(ours)
}

/// Our own spans; those of libraries, the exporter's among them, are theirs to look at. A connection lasts for days, and is
/// there for lines of the log alone.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    let is_ours = metadata.is_span() && metadata.target().starts_with("matyan");
    is_ours && metadata.name() != "connection" && *metadata.level() <= LevelFilter::INFO
}

fn lines<S>(format: LogFormat, level: &str) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = fmt::layer().with_writer(io::stderr);
    let filter = filter(level);
    match format {
        LogFormat::Text => layer.with_ansi(io::stderr().is_terminal()).with_filter(filter).boxed(),
        // Fields beside the message, so that request, run and connection ids can be searched for.
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
    }
}

/// The more exact directive wins. By target alone, as nothing is then looked up where a span is entered.
fn filter(log_level: &str) -> Targets {
    let directives = format!("{TALKATIVE},{}=off,{log_level}", matyan_trace::TARGET);
    directives.parse().expect("the settings have parsed it")
}

#[cfg(test)]
mod tests {
    use tracing::{Level, Span, subscriber::with_default};

    use super::*;

    #[test]
    fn libraries_are_quiet_until_named() {
        let is_told = |log_level, target| filter(log_level).would_enable(target, &Level::INFO);
        assert!(is_told("info", "matyan_worker"));
        assert!(!is_told("info", "fjall") && !is_told("info", "h2"));
        assert!(is_told("debug,fjall=trace", "fjall") && !is_told("debug,fjall=trace", "lsm_tree"));
    }

    /// The span of a frame, and that of the connection that it came over.
    fn spans() -> (Span, Span) {
        let frame = tracing::info_span!(target: matyan_trace::TARGET, "frame");
        (frame, tracing::info_span!("connection"))
    }

    /// One after the other: what a span is worth is remembered for all subscribers at once.
    #[test]
    fn a_collector_gets_frames_and_lines_the_connection() {
        with_default(Registry::default().with(lines(LogFormat::Text, "info")), || {
            let (frame, connection) = spans();
            assert!(frame.is_disabled());
            assert!(!connection.is_disabled(), "lines of the log carry it");
        });
        let exporter = opentelemetry_sdk::trace::InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        with_default(Registry::default().with(exported(&provider)), || drop(spans()));
        let names = exporter.get_finished_spans().unwrap().into_iter().map(|span| span.name);
        assert_eq!(names.collect::<Vec<_>>(), ["frame"]);
    }
}
