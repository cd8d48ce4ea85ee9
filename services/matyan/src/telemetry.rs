//! What the process tells about itself: lines on standard error, as text or JSON, and spans to a collector if one is set.
//! Standard output is left to what a person asked for (the banner, answers of commands).

use std::io::{self, IsTerminal};

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::{Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{EnvFilter, Layer, filter::filter_fn, fmt, prelude::*, registry::LookupSpan};

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
        let exported = spans.as_ref().map(|provider| {
            let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("matyan"));
            layer.with_location(false).with_threads(false).with_filter(filter_fn(is_exported))
        });
        tracing_subscriber::registry().with(exported).with(lines(settings)).init();
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
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
    let exporter = exporter.map_err(|source| Error::Exporter { endpoint: endpoint.to_owned(), source })?;
    let resource = Resource::builder().with_service_name(settings.service_name.clone()).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// Our own spans; those of libraries, the exporter's among them, are theirs to look at.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with("matyan") && *metadata.level() <= LevelFilter::INFO
}

fn lines<S>(settings: &Settings) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = fmt::layer().with_writer(io::stderr);
    let filter = filter(&settings.log_level);
    match settings.log_format {
        LogFormat::Text => layer.with_ansi(io::stderr().is_terminal()).with_filter(filter).boxed(),
        // Fields beside the message, so that request, run and connection ids can be searched for.
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
    }
}

/// The more exact directive wins.
fn filter(log_level: &str) -> EnvFilter {
    EnvFilter::new(format!("{TALKATIVE},{}=off,{log_level}", matyan_trace::TARGET))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(log_level: &str, expected: &[&str]) {
        let filter = filter(log_level).to_string();
        for directive in expected {
            assert!(filter.split(',').any(|one| one == *directive), "{filter} lacks {directive}");
        }
    }

    #[test]
    fn libraries_are_quiet_until_named() {
        check("info", &["info", "fjall=warn", "h2=warn", "matyan_trace=off"]);
        check("debug,fjall=trace", &["debug", "fjall=trace", "lsm_tree=warn"]);
    }
}
