//! What may be logged: what our own crates say, and of it what the operator lets through.

use std::str::FromStr;

use thiserror::Error;
use tracing::{
    Metadata, Subscriber,
    level_filters::{LevelFilter, STATIC_MAX_LEVEL},
    subscriber::Interest,
};
use tracing_subscriber::layer::{Context, Layer};

/// The crates that log, all of them ours. A dependency that logs what passes through it (a
/// tokenizer tells each piece of a prompt) is not heard at any level.
pub(crate) const MAY_LOG: [&str; 5] = ["engine", "kernels", "node", "obscura", "proxy"];

/// Which levels of which of our modules are logged.
///
/// As text: `LEVEL` or `MODULE=LEVEL`, several with commas between them. The longest module that
/// fits decides; without any, the level that stands alone does, and `info` where none does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFilter {
    default: LevelFilter,
    /// The longest first.
    modules: Vec<(String, LevelFilter)>,
}

/// A filter that would let others speak, or that nobody can have meant.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum LogFilterError {
    /// Not one of our crates that log.
    #[error(
        "`{directive}` names a module that says nothing, or one of others, which may log what passes \
         through it; these may be named, and modules within them: {}", MAY_LOG.join(", ")
    )]
    Target { directive: String },
    /// Not `LEVEL` or `MODULE=LEVEL`.
    #[error(
        "`{directive}` is neither LEVEL nor MODULE=LEVEL; levels are off, error, warn, info, debug, \
         trace, and filters by span or field are not understood"
    )]
    Malformed { directive: String },
    /// More than was compiled in.
    #[error(
        "`{directive}` asks for more than this build logs: it has no level beyond {STATIC_MAX_LEVEL}"
    )]
    Ceiling { directive: String },
    /// The same module, or the level alone, said twice.
    #[error("`{directive}` decides what another directive decided already")]
    Twice { directive: String },
}

impl LogFilter {
    /// Whether it lets through what this describes.
    fn lets_through(&self, metadata: &Metadata<'_>) -> bool {
        // The target is the caller's to choose, its module is not; both must be ours. What comes
        // from the `log` crate has no module.
        let is_ours = |path: &str| MAY_LOG.contains(&crate_of(path));
        metadata.module_path().is_some_and(is_ours)
            && is_ours(metadata.target())
            && *metadata.level() <= self.level_of(metadata.target())
    }

    fn level_of(&self, target: &str) -> LevelFilter {
        let is_within = |module: &str| {
            target
                .strip_prefix(module)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let chosen = self.modules.iter().find(|(module, _)| is_within(module));
        chosen.map_or(self.default, |(_, level)| *level)
    }
}

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut default = None;
        let mut modules: Vec<(String, LevelFilter)> = Vec::new();
        for directive in text.split(',').map(str::trim) {
            // What is printed is what the operator wrote, without what could steer a terminal.
            let quoted = || directive.escape_debug().to_string();
            let (module, level) = match directive.split_once('=') {
                Some((module, level)) => (Some(module.trim()), level.trim()),
                None => (None, directive),
            };
            if let Some(module) = module.filter(|module| is_path(module))
                && !MAY_LOG.contains(&crate_of(module))
            {
                return Err(LogFilterError::Target { directive: quoted() });
            }
            let is_sound = module.is_none_or(is_path);
            let level = level_named(level)
                .filter(|_| is_sound)
                .ok_or_else(|| LogFilterError::Malformed { directive: quoted() })?;
            if level > STATIC_MAX_LEVEL {
                return Err(LogFilterError::Ceiling { directive: quoted() });
            }
            let is_new = match module {
                None => default.replace(level).is_none(),
                Some(module) => {
                    let is_new = modules.iter().all(|(known, _)| known != module);
                    modules.push((module.to_owned(), level));
                    is_new
                }
            };
            if !is_new {
                return Err(LogFilterError::Twice { directive: quoted() });
            }
        }
        modules.sort_by_key(|(module, _)| std::cmp::Reverse(module.len()));
        Ok(Self { default: default.unwrap_or(LevelFilter::INFO), modules })
    }
}

impl<S: Subscriber> Layer<S> for LogFilter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.lets_through(metadata) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.lets_through(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.modules.iter().map(|(_, level)| *level).chain([self.default]).max()
    }
}

fn crate_of(path: &str) -> &str {
    path.split_once("::").map_or(path, |(name, _)| name)
}

/// Names with `::` between them.
fn is_path(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    text.split("::").all(is_name)
}

/// Names alone: numbers, which `tracing` understands too, are more often a mistake.
fn level_named(text: &str) -> Option<LevelFilter> {
    let is_name = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_name.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> LogFilter {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn the_longest_module_that_fits_decides() {
        let filter = parse("warn, node=info,node::routes=error , obscura=off");
        for (target, level) in [
            ("engine", LevelFilter::WARN),
            ("node", LevelFilter::INFO),
            ("node::trace", LevelFilter::INFO),
            ("node::routes", LevelFilter::ERROR),
            ("node::routes::images", LevelFilter::ERROR),
            // Another module whose name begins alike.
            ("node::routes2", LevelFilter::INFO),
            ("nodes", LevelFilter::WARN),
            ("obscura::serve", LevelFilter::OFF),
        ] {
            assert_eq!(filter.level_of(target), level, "{target}");
        }
        assert_eq!(parse("node=warn").level_of("kernels"), LevelFilter::INFO);
        assert_eq!(parse("INFO"), parse("info"));
    }

    #[test]
    fn others_are_not_to_be_named() {
        for directive in [
            "tokenizers=info",
            "tokenizers::models::unigram=error",
            "hyper=off",
            "h2=info",
            "log=info",
            "nodes=info",
            "clients=info",
            "sealed::x=info",
            "engine_io=info",
            "tokenizers=nonsense",
            // Ours, and silent.
            "attest=debug",
            "seal::opener=trace",
        ] {
            let refused = format!("info,{directive}").parse::<LogFilter>().unwrap_err();
            assert_eq!(refused, LogFilterError::Target { directive: directive.to_owned() });
            let told = refused.to_string();
            assert!(told.contains(directive) && told.contains("obscura"), "{told}");
        }
    }

    #[test]
    fn every_crate_that_logs_may_be_named_and_no_other() {
        let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut logging = Vec::new();
        for entry in std::fs::read_dir(crates).unwrap() {
            let entry = entry.unwrap();
            let manifest = std::fs::read_to_string(entry.path().join("Cargo.toml")).unwrap();
            let manifest: toml::Table = manifest.parse().unwrap();
            if manifest.get("dependencies").is_some_and(|all| all.get("tracing").is_some()) {
                logging.push(entry.file_name().into_string().unwrap());
            }
        }
        logging.sort();
        assert_eq!(logging, MAY_LOG);
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for directive in [
            "",
            "node",
            "tokenizers",
            "loud",
            "3",
            "=info",
            "node=",
            "node==info",
            "node::=info",
            "[request]=info",
            "node[request]=info",
            "node[request{id=\"x\"}]=info",
            "[{id}]=info",
            "node=info=trace",
            "info;node=info",
            "no de=info",
            "*=info",
        ] {
            let refused = directive.parse::<LogFilter>().unwrap_err();
            assert!(matches!(refused, LogFilterError::Malformed { .. }), "{directive}: {refused}");
        }
        assert!(matches!(
            "info,,node=info".parse::<LogFilter>(),
            Err(LogFilterError::Malformed { .. })
        ));
        assert!(matches!("info,warn".parse::<LogFilter>(), Err(LogFilterError::Twice { .. })));
        assert!(matches!(
            "node=info,node=off".parse::<LogFilter>(),
            Err(LogFilterError::Twice { .. })
        ));
        let told = "\u{1b}[2J=info".parse::<LogFilter>().unwrap_err().to_string();
        assert!(!told.contains('\u{1b}'), "{told}");
    }

    #[test]
    fn a_build_promises_no_more_than_it_logs() {
        let trace = "trace".parse::<LogFilter>();
        match STATIC_MAX_LEVEL {
            LevelFilter::TRACE => assert!(trace.is_ok()),
            _ => assert!(matches!(trace, Err(LogFilterError::Ceiling { .. }))),
        }
    }

    /// Whoever speaks under one of our names, but from another module, is not heard.
    #[test]
    fn a_name_alone_does_not_make_it_ours() {
        use std::sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        };
        use tracing_subscriber::layer::SubscriberExt;

        struct Count(Arc<AtomicUsize>);
        impl<S: Subscriber> Layer<S> for Count {
            fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let heard = Arc::new(AtomicUsize::new(0));
        let subscriber =
            tracing_subscriber::registry().with(parse("info")).with(Count(heard.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("ours");
            tracing::info!(target: "tokenizers", "under another's name");
            assert_eq!(heard.load(Ordering::Relaxed), 1);
        });
    }
}
