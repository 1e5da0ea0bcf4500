//! Configurations that would open the node to strangers, or that no node can keep.

use std::net::SocketAddr;

use protocol::{Limits, Size};
use rustls::pki_types::ServerName;
use thiserror::Error;
use web::origin::is_base_url;

use super::{Config, TlsChoice};
use crate::{limits::MAX_BODY_BYTES, tls::TlsError};

/// The most that `max_prompt_chars` may say: what a body has room for.
const MAX_PROMPT_CHARS: usize = 32_000;
/// Ten years: longer times are slips, and no clock can add them up.
const MAX_SECS: u64 = 10 * 365 * 24 * 3600;
/// Of whatever is counted: connections, requests, verifiers.
const MAX_COUNT: u64 = 1 << 24;
/// In the node's own certificate, which travels with every handshake.
const MAX_TLS_NAMES: usize = 32;
/// The smallest image there is, in pixels.
const MIN_PIXELS: u64 = 16 * 16;
/// Of an image's file: three of its colours, and room for a row's filter and the heads.
const FILE_BYTES_PER_PIXEL: u64 = 4;
/// Of an answer: three, twice (`url` and `b64_json`), in base64, sealed, and in base64 again.
const ANSWER_BYTES_PER_PIXEL: u64 = 11;

impl Config {
    /// Refuses what would open the node to strangers, and what makes no sense.
    ///
    /// # Errors
    /// Names the setting that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !self.asks_for_credentials() && !self.listen.ip().is_loopback() {
            return Err(ConfigError::NoCredentials { listen: self.listen });
        }
        if self.allow_plaintext && self.asks_for_credentials() && self.api_keys_sha256.is_empty() {
            return Err(ConfigError::PlaintextWithoutKeys);
        }
        if !(1..=MAX_PROMPT_CHARS).contains(&self.max_prompt_chars) {
            return Err(ConfigError::PromptChars);
        }
        if !(0.0..=1.0).contains(&self.queue_share) {
            return Err(ConfigError::QueueShare);
        }
        for (key, value, least, most) in self.numbers() {
            if !(least..=most).contains(&value) {
                return Err(ConfigError::OutOfRange { key, least, most });
            }
        }
        if self.key_grace_secs > self.key_lifetime_secs {
            return Err(ConfigError::GraceBeyondLifetime);
        }
        if self.health_listen.is_some_and(|health| health == self.listen && health.port() != 0) {
            return Err(ConfigError::SameListener { listen: self.listen });
        }
        if self.public_url.as_deref().is_some_and(|url| !is_base_url(url)) {
            return Err(ConfigError::PublicUrl);
        }
        if self.allowed_hosts.iter().any(|host| !is_host(host)) {
            return Err(ConfigError::AllowedHost);
        }
        self.check_tls()
    }

    /// A setting of TLS that would have no effect is a slip: somebody believes that it has one.
    fn check_tls(&self) -> Result<(), ConfigError> {
        if self.tls != TlsChoice::SelfSigned && !self.tls_names.is_empty() {
            return Err(ConfigError::TlsNamesUnused);
        }
        let fits = |name: &String| ServerName::try_from(name.as_str()).is_ok();
        if self.tls_names.len() > MAX_TLS_NAMES || !self.tls_names.iter().all(fits) {
            return Err(ConfigError::TlsName);
        }
        if self.tls != TlsChoice::Files
            && (self.tls_certificate.is_some() || self.tls_key.is_some())
        {
            return Err(ConfigError::TlsFilesUnused);
        }
        if self.tls == TlsChoice::Files
            && (self.tls_certificate.is_none() || self.tls_key.is_none())
        {
            return Err(TlsError::FilesUnnamed.into());
        }
        Ok(())
    }

    /// Every number, and what it may be.
    fn numbers(&self) -> [(&'static str, u64, u64, u64); 23] {
        let count = |count: usize| count as u64;
        let bytes = u64::from(u32::MAX) << 8;
        // Whatever is drawn has to find room, or the work would be lost.
        let [largest, answer] = [
            self.max_pixels.saturating_mul(FILE_BYTES_PER_PIXEL),
            self.max_total_pixels.saturating_mul(ANSWER_BYTES_PER_PIXEL),
        ];
        [
            ("queue_capacity", count(self.queue_capacity), 1, MAX_COUNT),
            ("deadline_secs", self.deadline_secs, 1, MAX_SECS),
            ("delivery_timeout_secs", self.delivery_timeout_secs, 1, MAX_SECS),
            ("answer_memory_bytes", count(self.answer_memory_bytes), answer, u64::MAX >> 1),
            ("url_lifetime_secs", self.url_lifetime_secs, 1, MAX_SECS),
            ("url_memory_bytes", count(self.url_memory_bytes), largest, bytes),
            ("max_pixels", self.max_pixels, MIN_PIXELS, u64::from(u32::MAX)),
            ("max_total_pixels", self.max_total_pixels, MIN_PIXELS, u64::from(u32::MAX)),
            // One is kept free for whoever comes next.
            ("max_connections", count(self.max_connections), 2, MAX_COUNT),
            ("max_connections_per_address", count(self.max_connections_per_address), 1, MAX_COUNT),
            ("max_requests_per_address", count(self.max_requests_per_address), 1, MAX_COUNT),
            ("body_memory_bytes", count(self.body_memory_bytes), MAX_BODY_BYTES as u64, bytes),
            ("header_timeout_secs", self.header_timeout_secs, 1, MAX_SECS),
            ("body_timeout_secs", self.body_timeout_secs, 1, MAX_SECS),
            ("write_timeout_secs", self.write_timeout_secs, 1, MAX_SECS),
            ("min_write_bytes_per_sec", self.min_write_bytes_per_sec, 1, bytes),
            ("drain_secs", self.drain_secs, 0, MAX_SECS),
            ("key_lifetime_secs", self.key_lifetime_secs, 1, MAX_SECS),
            ("key_grace_secs", self.key_grace_secs, 0, MAX_SECS),
            ("quotes_waiting", count(self.quotes_waiting), 1, MAX_COUNT),
            ("quotes_per_minute", u64::from(self.quotes_per_minute), 1, MAX_COUNT),
            ("quote_timeout_secs", self.quote_timeout_secs, 1, MAX_SECS),
            ("replay_capacity", count(self.replay_capacity), 1, 1 << 32),
        ]
    }
}

/// A model's native size must itself be within the limits, or the default request would fail.
pub(crate) fn check_native(limits: Limits, native: Size) -> Result<(), ConfigError> {
    if native.pixels() > limits.max_pixels.min(limits.max_total_pixels) {
        return Err(ConfigError::NativeSize { native });
    }
    Ok(())
}

/// A name or an address, without a port.
fn is_host(text: &str) -> bool {
    text.parse::<axum::http::uri::Authority>()
        .is_ok_and(|authority| authority.host() == text && !text.is_empty())
}

/// Why a configuration does not stand.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A key or a value that is not known.
    #[error("the settings cannot be understood: {0}")]
    Parse(toml::de::Error),
    /// The node would serve anybody.
    #[error(
        "refusing to listen on {listen} without credentials: \
         set `api_keys_sha256` or `trusted_proxies`, or listen on loopback"
    )]
    NoCredentials {
        /// The address.
        listen: SocketAddr,
    },
    /// Verifiers would see that clear text is allowed, and nobody could send any.
    #[error(
        "`allow_plaintext` needs `api_keys_sha256`: what `trusted_proxies` sign is sealed, and opens no route in clear text"
    )]
    PlaintextWithoutKeys,
    /// Prompts of no length, or longer than a body.
    #[error("`max_prompt_chars` must be from 1 to {MAX_PROMPT_CHARS}")]
    PromptChars,
    /// More than all of the queue, or less than nothing.
    #[error("`queue_share` must be from 0 to 1")]
    QueueShare,
    /// A number that no node can keep.
    #[error("`{key}` must be from {least} to {most}")]
    OutOfRange {
        /// The setting.
        key: &'static str,
        /// The least that it may be.
        least: u64,
        /// The most.
        most: u64,
    },
    /// Keys would be needed for longer than the next ones live.
    #[error("`key_grace_secs` must not be longer than `key_lifetime_secs`")]
    GraceBeyondLifetime,
    /// Two listeners on one address.
    #[error("`health_listen` must not be `listen`, {listen}")]
    SameListener {
        /// The address.
        listen: SocketAddr,
    },
    /// URLs that begin with this would lead nowhere.
    #[error("`public_url` must be `https://HOST` or `http://HOST`, without query and fragment")]
    PublicUrl,
    /// No host.
    #[error("`allowed_hosts` must be names or addresses without ports")]
    AllowedHost,
    /// No name, or more than a certificate has.
    #[error("`tls_names` must be at most {MAX_TLS_NAMES} host names or addresses without ports")]
    TlsName,
    /// Names, and no certificate of the node's own.
    #[error("`tls_names` are for `tls = \"self-signed\"`")]
    TlsNamesUnused,
    /// Files that nothing would read.
    #[error("`tls_certificate` and `tls_key` are for `tls = \"files\"`")]
    TlsFilesUnused,
    /// Certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The bounds exclude the model's own size.
    #[error("`max_pixels` or `max_total_pixels` is less than the model's native size, {native}")]
    NativeSize {
        /// The size.
        native: Size,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(key: &str, value: &str) -> String {
        let table: toml::Table = format!("{key} = {value}").parse().unwrap();
        match Config::from_table(table).and_then(|config| config.check()) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn nonsense_is_refused_by_its_name() {
        for (key, value) in [
            ("queue_capacity", "0"),
            ("public_url", "\"notaurl\""),
            ("public_url", "\"https://\""),
            ("deadline_secs", "0"),
            ("queue_share", "1.5"),
            ("delivery_timeout_secs", "0"),
            ("answer_memory_bytes", "115000000"),
            ("url_memory_bytes", "0"),
            ("url_lifetime_secs", "0"),
            ("max_pixels", "0"),
            ("max_total_pixels", "255"),
            ("max_connections", "0"),
            ("max_connections_per_address", "0"),
            ("max_requests_per_address", "0"),
            ("body_memory_bytes", "1000"),
            ("header_timeout_secs", "0"),
            ("body_timeout_secs", "0"),
            ("write_timeout_secs", "0"),
            ("write_timeout_secs", "9223372036854775807"),
            ("min_write_bytes_per_sec", "0"),
            ("drain_secs", "9223372036854775807"),
            ("key_lifetime_secs", "0"),
            ("key_grace_secs", "86401"),
            ("quotes_waiting", "0"),
            ("quotes_per_minute", "0"),
            ("quote_timeout_secs", "0"),
            ("replay_capacity", "0"),
            ("queue_capacity", "9223372036854775807"),
            ("queue_capacity", "-1"),
            ("max_prompt_chars", "0"),
            ("public_url", "\"node.example\""),
            ("public_url", "\"ftp://node.example\""),
            ("public_url", "\"https://node.example?a\""),
            ("allowed_hosts", "[\"node.example:80\"]"),
            ("allowed_hosts", "[\"\"]"),
            ("allowed_origins", "[\"node.example\"]"),
            ("cors_origins", "[\"https://a/b\"]"),
            ("trusted_forwarders", "[\"10.0.0.0/33\"]"),
            ("trusted_forwarders", "[\"gateway\"]"),
            ("forwarded_header", "\"via\""),
            ("health_listen", "\"127.0.0.1:8080\""),
            ("health_listen", "\"somewhere\""),
            ("listen", "\"localhost\""),
            ("tls", "\"yes\""),
            ("tls_names", "[\"node.example\"]"),
            ("tls_certificate", "\"certificate.pem\""),
            ("tls_key", "\"key.pem\""),
            ("listen", "\"0.0.0.0:8080\""),
        ] {
            let refusal = refusal(key, value);
            let named = if value.starts_with("\"0.0.0.0") { "0.0.0.0:8080" } else { key };
            assert!(refusal.contains(named), "{key} = {value}: {refusal}");
        }
    }

    #[test]
    fn the_queue_is_shared_where_there_are_several() {
        let key = format!("api_keys_sha256 = [\"{}\"]", "0".repeat(64));
        let proxy = format!("trusted_proxies = [\"0x{}\"]", "0".repeat(64));
        let forwarder = "trusted_forwarders = [\"10.0.0.0/8\"]".to_owned();
        for (settings, share) in [
            (vec![], 1.0),
            (vec![&key], 1.0),
            (vec![&proxy], 1.0),
            (vec![&key, &proxy], 0.5),
            (vec![&key, &forwarder], 0.5),
            (vec![&forwarder], 0.5),
        ] {
            let text: Vec<&str> = settings.into_iter().map(String::as_str).collect();
            let config = Config::from_table(text.join("\n").parse().unwrap()).unwrap();
            assert_eq!(config.queue_limits().share, share, "{text:?}");
        }
        let plaintext = format!("true\n{proxy}");
        assert!(refusal("allow_plaintext", &plaintext).contains("`api_keys_sha256`"));
    }

    #[test]
    fn only_names_go_into_a_certificate() {
        for name in
            ["", "node.example:443", "https://node.example", "*.node.example", "[::1]", "a b"]
        {
            let names = format!("\"self-signed\"\ntls_names = [\"{name}\"]");
            assert!(refusal("tls", &names).contains("`tls_names`"), "{name}");
        }
    }

    #[test]
    fn the_defaults_and_what_operators_need_are_taken() {
        for (key, value) in [
            ("listen", "\"localhost:8080\""),
            ("drain_secs", "0"),
            ("url_memory_bytes", "1024\nmax_pixels = 256"),
            ("answer_memory_bytes", "65536\nmax_total_pixels = 4096"),
            ("allow_plaintext", "true"),
            ("key_grace_secs", "0"),
            ("public_url", "\"https://node.example:8443/images\""),
            ("allowed_hosts", "[\"node.example\", \"[::1]\"]"),
            ("trusted_forwarders", "[\"10.0.0.0/8\", \"192.0.2.1\", \"2001:db8::/32\"]"),
            ("forwarded_header", "\"forwarded\""),
            ("cors_origins", "[]"),
            ("health_listen", "\"0.0.0.0:8081\""),
            ("tls", "\"self-signed\""),
            (
                "tls",
                "\"self-signed\"\ntls_names = [\"node.example\", \"192.0.2.1\", \"2001:db8::1\"]",
            ),
        ] {
            assert_eq!(refusal(key, value), "", "{key} = {value}");
        }
    }
}
