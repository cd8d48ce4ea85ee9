//! Telemetry of the process: log lines on standard error, as text or JSON, and spans to a
//! collector if a collector is configured. Standard output is reserved for the output that the user
//! requested (the banner, results of commands).

#[cfg(feature = "otlp")]
mod export;
mod line_writer;

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::{Layer, Registry, filter::Targets, fmt, prelude::*, registry::LookupSpan};

use line_writer::LineWriter;

use crate::settings::{LogFormat, TelemetrySettings};

/// Prefixes of the names of libraries whose messages below a warning interest only their authors. A
/// filter that names them overrides this.
const NOISY_LIBRARIES: &str = "aws_=warn,fjall=warn,h2=warn,hyper=warn,lsm_tree=warn,object_store=warn,\
     reqwest=warn,rustls=warn,tonic=warn";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[cfg(feature = "otlp")]
    #[error(transparent)]
    Export(#[from] export::Error),
}

/// Telemetry of the process. Exports spans while it is alive.
#[derive(Default)]
pub(crate) struct Telemetry {
    #[cfg(feature = "otlp")]
    export: Option<export::SpanExport>,
}

impl Telemetry {
    /// Starts telemetry for the whole process. It must be called once, before anything
    /// else, in the runtime that the exporter will use.
    pub(crate) fn start(settings: &TelemetrySettings) -> Result<Self, Error> {
        #[cfg(feature = "otlp")]
        if let Some(endpoint) = &settings.otlp_endpoint {
            let export = export::SpanExport::new(endpoint, &settings.service_name)?;
            Registry::default()
                .with(export.layer())
                .with(log_layer(settings.log_format, &settings.log_level))
                .init();
            return Ok(Self { export: Some(export) });
        }
        // Not an `Option` of a layer above: with a layer that is `None`, the registry would create
        // every span, filtered out or not.
        Registry::default().with(log_layer(settings.log_format, &settings.log_level)).init();
        Ok(Self::default())
    }

    /// Exports pending spans. Blocks for a few seconds at most.
    #[cfg_attr(not(feature = "otlp"), expect(clippy::unused_self, reason = "same signature in every build"))]
    pub(crate) fn stop(self) {
        #[cfg(feature = "otlp")]
        if let Some(export) = self.export {
            export.stop();
        }
    }
}

fn log_layer<S>(format: LogFormat, level: &str) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = fmt::layer();
    let filter = filter(level);
    match format {
        LogFormat::Text => {
            let has_colors = io::stderr().is_terminal();
            layer
                .with_writer(move || LineWriter::new(io::stderr(), has_colors))
                .with_ansi(has_colors)
                .with_filter(filter)
                .boxed()
        }
        // Fields are on the same level as the message, so that request, run and
        // connection ids can be searched for.
        LogFormat::Json => {
            layer.with_writer(io::stderr).json().flatten_event(true).with_filter(filter).boxed()
        }
    }
}

/// The more specific directive wins: changes of access are recorded at every level of the log, unless the target
/// `audit` itself is named. `Targets` filters by target alone, so entering a span
/// needs no lookup.
fn filter(log_level: &str) -> Targets {
    let directives = format!("{NOISY_LIBRARIES},{}=off,audit=info,{log_level}", matyan_wire::trace::TARGET);
    directives.parse().expect("directives are validated with the settings")
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn libraries_are_quiet_unless_named_in_the_filter() {
        let is_enabled = |log_level, target| filter(log_level).would_enable(target, &Level::INFO);
        assert!(is_enabled("info", "matyan_worker"));
        for library in ["fjall", "h2", "hyper_util", "aws_config", "object_store", "rustls", "tonic"] {
            assert!(!is_enabled("info", library) && !is_enabled("debug", library), "{library}");
        }
        assert!(is_enabled("debug,aws_config=info", "aws_config::profile"));
        assert!(is_enabled("error", "audit") && !is_enabled("error,audit=off", "audit"));
        assert!(is_enabled("debug,fjall=trace", "fjall") && !is_enabled("debug,fjall=trace", "lsm_tree"));
    }
}
