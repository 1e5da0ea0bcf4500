//! Where a node's log goes: to standard error, and its spans to a collector where one is configured.

mod filter;

use std::{ffi::OsString, io::IsTerminal};

use anyhow::Context;
use clap::ValueEnum;
use tracing_subscriber::{Layer, layer::SubscriberExt};

pub(crate) use self::filter::LogFilter;

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Exports what is left when dropped.
#[must_use]
pub(crate) struct Log {
    _traces: Option<traces::Traces>,
}

/// Starts to log what `filter` lets through: to standard error and to the collector alike.
///
/// What dependencies say through the `log` crate goes nowhere: nothing takes its records over to
/// `tracing`, and the build leaves them out (`max_level_off` in Cargo.toml).
///
/// # Errors
/// Where the collector's address is none, or this build exports no traces.
pub(crate) fn start(
    filter: LogFilter,
    format: LogFormat,
    collector: Option<&str>,
) -> anyhow::Result<Log> {
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(has_colours(std::io::stderr().is_terminal(), std::env::var_os("NO_COLOR")))
        .with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let (layer, traces) = collector.map(traces::to).transpose()?.unzip();
    let subscriber = tracing_subscriber::registry().with(filter).with(lines).with(layer);
    // Not `init`, which would take over the records of the `log` crate.
    tracing::subscriber::set_global_default(subscriber).context("a log is open already")?;
    Ok(Log { _traces: traces })
}

/// In a terminal, unless its user wants none: <https://no-color.org>.
fn has_colours(is_terminal: bool, no_color: Option<OsString>) -> bool {
    is_terminal && no_color.is_none_or(|value| value.is_empty())
}

#[cfg(feature = "otlp")]
mod traces {
    use std::time::Duration;

    use anyhow::{Context, ensure};
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
    use opentelemetry_sdk::{
        Resource,
        trace::{SdkTracerProvider, Tracer},
    };
    use tracing::Subscriber;
    use tracing_opentelemetry::OpenTelemetryLayer;
    use tracing_subscriber::registry::LookupSpan;

    /// How long the collector may take; what it does not take in time is lost.
    const TIMEOUT: Duration = Duration::from_secs(5);

    pub(super) struct Traces(SdkTracerProvider);

    /// OTLP over HTTP, as OpenTelemetry's specification says: `{collector}/v1/traces`.
    pub(super) fn to<S>(collector: &str) -> anyhow::Result<(OpenTelemetryLayer<S, Tracer>, Traces)>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        ensure!(
            collector.starts_with("http://"),
            "`otlp_endpoint` must begin with http://: TLS is for a collector beside the node to speak"
        );
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", collector.trim_end_matches('/')))
            .with_timeout(TIMEOUT)
            .build()
            .context("`otlp_endpoint`")?;
        let resource = Resource::builder_empty()
            .with_service_name("obscura")
            .with_attribute(opentelemetry::KeyValue::new(
                "service.version",
                env!("CARGO_PKG_VERSION"),
            ))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("obscura"))
            .with_location(false)
            .with_threads(false);
        Ok((layer, Traces(provider)))
    }

    impl Drop for Traces {
        fn drop(&mut self) {
            // The log is closing too: there is nobody left to tell.
            let _ = self.0.shutdown_with_timeout(TIMEOUT);
        }
    }
}

#[cfg(not(feature = "otlp"))]
mod traces {
    use anyhow::bail;
    use tracing_subscriber::layer::Identity;

    pub(super) enum Traces {}

    pub(super) fn to(_: &str) -> anyhow::Result<(Identity, Traces)> {
        bail!("`otlp_endpoint`: this build exports no traces; build with --features otlp")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_whose_users_want_them() {
        assert!(has_colours(true, None) && has_colours(true, Some("".into())));
        assert!(!has_colours(true, Some("1".into())) && !has_colours(false, None));
    }
}
