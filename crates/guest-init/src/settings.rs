//! What an operator may say to a measured guest: lines of `key = value`, a part of TOML.
//!
//! The operator may be hostile to clients. So only keys that cannot change who reads a prompt are taken. The
//! others stand in the measured root; a settings disk that has one of them stops the machine, so that nobody
//! believes that it has an effect.
//!
//! ```text
//! # a comment
//! network = "dhcp"
//! api_keys_sha256 = ["9f86…"]
//! queue_capacity = 8
//! ```

use std::{fmt, net::Ipv4Addr};

use crate::{
    error::{GuestError, SettingsProblem as Problem},
    verity::Tree,
};

/// A setting of the node, as it is handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Digits, perhaps with a point.
    Number(String),
    /// Printable, without quotes and backslashes.
    Text(String),
    /// The same, several times.
    List(Vec<String>),
}

/// How the guest gets its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Whoever answers decides. The network is the host's in any case.
    Dhcp,
    /// As the operator says.
    Static(Address),
}

/// An IPv4 address, the length of its network's prefix, and the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The guest's own.
    pub own: Ipv4Addr,
    /// 0 to 32.
    pub prefix: u8,
    /// Where everything beyond the prefix goes, if anywhere.
    pub gateway: Option<Ipv4Addr>,
}

/// What the operator said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How the guest gets its address.
    pub network: Network,
    /// The tree over the disk of the model, where there is one. The node hashes the files that it loads, and
    /// evidence names them; the tree keeps the host from exchanging them after they were hashed.
    pub model: Option<Tree>,
    /// For the node, sorted by key.
    pub node: Vec<(&'static str, Value)>,
}

#[derive(Clone, Copy)]
enum Form {
    Number,
    Text,
    List,
}

/// Settings of the node that cannot change who reads a prompt.
const FREE: [(&str, Form); 40] = [
    ("allowed_hosts", Form::List),
    ("allowed_origins", Form::List),
    ("answer_memory_bytes", Form::Number),
    ("api_keys_sha256", Form::List),
    ("body_memory_bytes", Form::Number),
    ("body_timeout_secs", Form::Number),
    ("cors_origins", Form::List),
    ("deadline_secs", Form::Number),
    ("delivery_timeout_secs", Form::Number),
    ("drain_secs", Form::Number),
    ("dtype", Form::Text),
    ("forwarded_header", Form::Text),
    ("header_timeout_secs", Form::Number),
    ("health_listen", Form::Text),
    ("log_format", Form::Text),
    ("max_batch", Form::Text),
    ("max_connections", Form::Number),
    ("max_connections_per_address", Form::Number),
    ("max_pixels", Form::Number),
    ("max_prompt_chars", Form::Number),
    ("max_requests_per_address", Form::Number),
    ("max_total_pixels", Form::Number),
    ("memory_limit", Form::Text),
    ("metrics_keys_sha256", Form::List),
    ("min_write_bytes_per_sec", Form::Number),
    ("model_id", Form::Text),
    ("provenance", Form::Text),
    ("public_url", Form::Text),
    ("queue_capacity", Form::Number),
    ("queue_share", Form::Number),
    ("quote_timeout_secs", Form::Number),
    ("quotes_per_minute", Form::Number),
    ("quotes_waiting", Form::Number),
    ("replay_capacity", Form::Number),
    ("tls_names", Form::List),
    ("trusted_forwarders", Form::List),
    ("trusted_proxies", Form::List),
    ("url_lifetime_secs", Form::Number),
    ("url_memory_bytes", Form::Number),
    ("write_timeout_secs", Form::Number),
];

/// Settings of the node that the measured root decides: those that can change who reads a prompt, how long
/// keys live, and paths and addresses that the guest itself has laid out.
const MEASURED: [&str; 17] = [
    "allow_plaintext",
    "collateral",
    "device",
    "gpu_evidence",
    "key_grace_secs",
    "key_lifetime_secs",
    "listen",
    "log",
    "lora",
    "manifest",
    "model",
    "otlp_endpoint",
    "sandbox",
    "tee",
    "tls",
    "tls_certificate",
    // A key from a file is also whose the file is.
    "tls_key",
];

const MAX_TEXT_CHARS: usize = 512;
const MAX_LINES: usize = 1024;

impl Settings {
    /// Reads the text of the settings' disk.
    ///
    /// # Errors
    /// Names the line, and what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, GuestError> {
        let mut said = Said::default();
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let at = |problem| GuestError::Settings { line: index + 1, problem };
            if index >= MAX_LINES {
                return Err(at(Problem::TooMany));
            }
            if !line.is_empty() && !line.starts_with(b"#") {
                said.line(line).map_err(at)?;
            }
        }
        let network = match (said.network.as_deref(), said.address, said.gateway) {
            (None | Some("dhcp"), None, None) => Network::Dhcp,
            (Some("static"), Some((own, prefix)), gateway) => {
                Network::Static(Address { own, prefix, gateway })
            }
            _ => return Err(GuestError::Network),
        };
        said.node.sort_by_key(|(key, _)| *key);
        Ok(Self { network, model: said.model, node: said.node })
    }
}

#[derive(Default)]
struct Said {
    network: Option<String>,
    address: Option<(Ipv4Addr, u8)>,
    gateway: Option<Ipv4Addr>,
    model: Option<Tree>,
    node: Vec<(&'static str, Value)>,
}

impl Said {
    fn line(&mut self, line: &[u8]) -> Result<(), Problem> {
        let line = str::from_utf8(line).map_err(|_| Problem::Form)?;
        let (key, value) = line.split_once(" = ").ok_or(Problem::Form)?;
        match key {
            "network" => {
                let network = text(value)?;
                let known = ["dhcp", "static"].contains(&network.as_str());
                once(&mut self.network, known.then_some(network))
            }
            "address" => once(&mut self.address, address(&text(value)?)),
            "gateway" => once(&mut self.gateway, text(value)?.parse().ok()),
            "model_disk" => once(&mut self.model, text(value)?.parse().ok()),
            _ => self.of_node(key, value),
        }
    }

    fn of_node(&mut self, key: &str, value: &str) -> Result<(), Problem> {
        let Some(&(key, form)) = FREE.iter().find(|(free, _)| *free == key) else {
            let measured = MEASURED.contains(&key);
            return Err(if measured { Problem::Measured } else { Problem::Unknown });
        };
        if self.node.iter().any(|(said, _)| *said == key) {
            return Err(Problem::Twice);
        }
        let value = match form {
            Form::Number => Value::Number(number(value)?),
            Form::Text => Value::Text(text(value)?),
            Form::List => Value::List(list(value)?),
        };
        self.node.push((key, value));
        Ok(())
    }
}

fn once<T>(place: &mut Option<T>, value: Option<T>) -> Result<(), Problem> {
    match place.replace(value.ok_or(Problem::Value)?) {
        Some(_) => Err(Problem::Twice),
        None => Ok(()),
    }
}

/// `10.0.2.15/24`.
fn address(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (own, prefix) = text.split_once('/')?;
    let prefix: u8 = prefix.parse().ok().filter(|_| !prefix.starts_with(['+', '0']))?;
    (prefix <= 32).then_some((own.parse().ok()?, prefix))
}

fn number(value: &str) -> Result<String, Problem> {
    let (whole, part) = value.split_once('.').unwrap_or((value, "0"));
    let digits = |text: &str| {
        (1..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let one_form = whole == "0" || !whole.starts_with('0');
    (digits(whole) && digits(part) && one_form).then(|| value.to_owned()).ok_or(Problem::Number)
}

fn text(value: &str) -> Result<String, Problem> {
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    inner
        .filter(|inner| inner.len() <= MAX_TEXT_CHARS && inner.bytes().all(plain))
        .map(str::to_owned)
        .ok_or(Problem::Text)
}

fn list(value: &str) -> Result<Vec<String>, Problem> {
    let inner = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let inner = inner.ok_or(Problem::List)?;
    if inner.is_empty() {
        return Ok(Vec::new());
    }
    // A text holds no quote, so that a comma between quotes is between texts.
    let texts = inner.replace("\", \"", "\"\n\"");
    texts.split('\n').map(|one| text(one).map_err(|_| Problem::List)).collect()
}

impl fmt::Display for Value {
    /// As TOML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(digits) => f.write_str(digits),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::List(texts) => {
                let texts: Vec<_> = texts.iter().map(|text| format!("\"{text}\"")).collect();
                write!(f, "[{}]", texts.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn problem(text: &str) -> Problem {
        match Settings::parse(text.as_bytes()) {
            Err(GuestError::Settings { problem, .. }) => problem,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn an_operator_says_what_is_free() {
        let text = "# ours\n\nqueue_share = 0.25\nqueue_capacity = 8\n\
            api_keys_sha256 = [\"ab\", \"cd\"]\nnetwork = \"static\"\naddress = \"10.0.2.15/24\"\n\
            gateway = \"10.0.2.2\"\ncors_origins = []\npublic_url = \"https://a.example\"\n";
        let settings = Settings::parse(text.as_bytes()).unwrap();
        let lines: Vec<_> =
            settings.node.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        assert_eq!(
            lines,
            [
                "api_keys_sha256 = [\"ab\", \"cd\"]",
                "cors_origins = []",
                "public_url = \"https://a.example\"",
                "queue_capacity = 8",
                "queue_share = 0.25",
            ]
        );
        let address =
            Address { own: [10, 0, 2, 15].into(), prefix: 24, gateway: Some([10, 0, 2, 2].into()) };
        assert_eq!(settings.network, Network::Static(address));
        assert_eq!(Settings::parse(b"").unwrap().network, Network::Dhcp);
    }

    #[test]
    fn what_changes_privacy_is_refused_by_name() {
        for line in [
            "allow_plaintext = true",
            "log = \"trace\"",
            "otlp_endpoint = \"http://host:4318\"",
            "sandbox = \"off\"",
            "tee = \"simulated\"",
            "tls_key = \"/run/key\"",
        ] {
            assert_eq!(problem(line), Problem::Measured, "{line}");
        }
    }

    #[test]
    fn every_setting_of_the_node_is_free_or_measured() {
        let page = include_str!("../../../docs/configuration.md");
        let (_, listed) = page.split_once("```toml\nmodel = ").unwrap();
        let listed = format!("model = {}", listed.split_once("```").unwrap().0);
        let listed: BTreeSet<_> =
            listed.lines().filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
        let free: BTreeSet<_> = FREE.iter().map(|(key, _)| *key).collect();
        let measured: BTreeSet<_> = MEASURED.into();
        assert_eq!(free.intersection(&measured).count(), 0);
        let known: BTreeSet<_> = free.union(&measured).copied().collect();
        assert_eq!(known, listed);
        // What a node tells of its configuration in its evidence.
        for told in
            ["allow_plaintext", "device", "gpu_evidence", "log", "otlp_endpoint", "sandbox", "tls"]
        {
            assert!(measured.contains(told), "{told}");
        }
    }

    #[test]
    fn a_line_cannot_be_two_and_a_text_cannot_end_early() {
        for (line, expected) in [
            ("queue_capacity=8", Problem::Form),
            ("[node]", Problem::Form),
            ("no_such = 1", Problem::Unknown),
            ("queue_capacity = 8\nqueue_capacity = 9", Problem::Twice),
            ("network = \"dhcp\"\nnetwork = \"dhcp\"", Problem::Twice),
            ("queue_capacity = -8", Problem::Number),
            ("queue_capacity = 08", Problem::Number),
            ("queue_capacity = 8 # eight", Problem::Number),
            ("queue_capacity = 8\r", Problem::Number),
            ("queue_capacity = 1e9", Problem::Number),
            ("model_id = \"a\" # \"b\"", Problem::Text),
            ("model_id = \"a\\n\"", Problem::Text),
            ("model_id = 'a'", Problem::Text),
            ("model_id = \"ä\"", Problem::Text),
            ("model_id = \"\u{1b}[2J\"", Problem::Text),
            ("allowed_hosts = [\"a\",\"b\"]", Problem::List),
            ("allowed_hosts = [\"a\", b]", Problem::List),
            ("allowed_hosts = [\"a\", ]", Problem::List),
            ("allowed_hosts = [", Problem::List),
            ("network = \"none\"", Problem::Value),
            ("address = \"10.0.2.15\"", Problem::Value),
            ("address = \"10.0.2.15/33\"", Problem::Value),
            ("gateway = \"gateway.example\"", Problem::Value),
            ("model_disk = \"1:1:00:00\"", Problem::Value),
        ] {
            assert_eq!(problem(line), expected, "{line}");
        }
        let lines = "\n".repeat(MAX_LINES);
        assert_eq!(problem(&lines), Problem::TooMany);
    }

    #[test]
    fn the_networks_settings_belong_together() {
        for text in [
            "network = \"static\"",
            "address = \"10.0.2.15/24\"",
            "network = \"dhcp\"\ngateway = \"10.0.2.2\"",
        ] {
            let refused = Settings::parse(text.as_bytes());
            assert!(matches!(refused, Err(GuestError::Network)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(([a-z_]{1,12}|model_id|queue_share|allowed_hosts) = .{0,20}\n){0,4}") {
            if let Ok(settings) = Settings::parse(text.as_bytes()) {
                // A value is one line, whatever it holds.
                for (_, value) in settings.node {
                    prop_assert!(value.to_string().chars().all(|c| (' '..='~').contains(&c)));
                }
            }
        }
    }
}
