//! Variables of the environment that begin with `OBSCURA_`: one that nobody reads is a slip, and somebody
//! believes that it has an effect.

use std::env;

use anyhow::bail;

use crate::{args::Command, settings, suggestion::nearest};

const PREFIX: &str = "OBSCURA_";

/// Those that are no settings of `obscura serve`.
const OTHERS: [&str; 5] = ["API_KEY", "CONFIG", "CPU", "MODELS", "REFERENCE"];

/// What the build, the tests and the benchmarks of this repository call their own.
const TOOLS: [&str; 9] = [
    "BIN",
    "BLESS",
    "COMMIT",
    "FIXTURES",
    "GPU_PROGRAM",
    "GUEST_UNLOCKED",
    "PROGRAM",
    "RELEASE",
    "SDK",
];

/// Refuses variables that no command knows.
pub(crate) fn check(command: &Command) -> anyhow::Result<()> {
    if matches!(command, Command::Completions { .. }) {
        return Ok(());
    }
    let variables = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok())));
    let settings: Vec<String> = settings::keys().map(|key| key.to_uppercase()).collect();
    let known: Vec<&str> = settings.iter().map(String::as_str).chain(OTHERS).collect();
    for (name, value) in variables {
        if let Some(rest) = name.strip_prefix(PREFIX)
            && !known.contains(&rest)
            && !TOOLS.contains(&rest)
            && !is_of_kubernetes(rest, value.as_deref().unwrap_or_default())
        {
            let nearest =
                nearest(rest, &known).map(|near| format!("; did you mean {PREFIX}{near}?"));
            bail!(
                "the environment has {name}, which nothing reads{}",
                nearest.unwrap_or_else(|| ": unset it".to_owned())
            );
        }
    }
    Ok(())
}

/// What Kubernetes tells every container of a service whose name begins with `obscura`: `…SERVICE_HOST`,
/// `…SERVICE_PORT`, `…SERVICE_PORT_HTTP`, `…PORT`, `…PORT_8080_TCP`, `…PORT_8080_TCP_ADDR`. What it tells of a port
/// alone is a URL; a number is a slip (`OBSCURA_LISTEN_PORT`).
fn is_of_kubernetes(rest: &str, value: &str) -> bool {
    let words: Vec<&str> = rest.split('_').collect();
    let at = |word: &str| words.iter().rposition(|found| *found == word);
    let is_port = |words: &[&str]| match words {
        [] => value.contains("://"),
        [number, protocol] | [number, protocol, "ADDR" | "PORT" | "PROTO"] => {
            number.bytes().all(|byte| byte.is_ascii_digit())
                && matches!(*protocol, "TCP" | "UDP" | "SCTP")
        }
        _ => false,
    };
    let of_service = at("SERVICE").map(|at| &words[at + 1..]);
    let of_port = words.iter().position(|word| *word == "PORT").map(|at| &words[at + 1..]);
    matches!(of_service, Some(["HOST"] | ["PORT", ..])) || of_port.is_some_and(is_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_told_from_what_kubernetes_says() {
        for name in [
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_HTTP",
            "NODE_SERVICE_HOST",
            "PORT",
            "NODE_PORT",
            "PORT_8080_TCP",
            "NODE_PORT_8080_TCP_ADDR",
        ] {
            assert!(is_of_kubernetes(name, "tcp://10.0.0.1:8080"), "{name}");
        }
        for name in ["LISTEN_PORT_TCP", "PORT_X_TCP", "SERVICE", "DEVCE", "PORTS", ""] {
            assert!(!is_of_kubernetes(name, "tcp://10.0.0.1:8080"), "{name}");
        }
        assert!(!is_of_kubernetes("LISTEN_PORT", "8080"));
        assert_eq!(nearest("DEVCE", &["DEVICE", "DTYPE"]), Some("DEVICE"));
        assert_eq!(nearest("SOMETHING", &["DEVICE", "DTYPE"]), None);
    }
}
