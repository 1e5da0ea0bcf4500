//! What an operator says to `obscura serve`, and where: flags over the environment over a TOML file
//! over the defaults.

mod models;
mod source;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    num::NonZeroUsize,
    path::Path,
};

use anyhow::{Context, bail, ensure};
use attest::PlatformChoice;
use bytesize::ByteSize;
use clap::ValueEnum;
use node::{Config, ConfigError, LaunchEvidence};
use toml::{Table, Value};

use self::source::{Source, line_of};
use crate::{
    args::{ModelArgs, ServeArgs},
    device::{DTypeChoice, DeviceChoice},
    log::{LogFilter, LogFormat},
    sandbox::SandboxChoice,
};

/// Keys that the node itself does not see: they say what it is made of.
const LAUNCH: [(&str, &str); 12] = [
    ("model", "demo"),
    ("model_id", ""),
    ("device", "auto"),
    ("dtype", "auto"),
    ("max_batch", "auto"),
    ("manifest", ""),
    ("memory_limit", ""),
    ("tee", "auto"),
    ("log", "info"),
    ("log_format", "text"),
    ("otlp_endpoint", ""),
    ("sandbox", "auto"),
];
/// Likewise, as lists.
const LAUNCH_LISTS: [&str; 1] = ["lora"];
/// Printed as their number alone. Digests of keys, but a guessed key could be tried against them.
const SECRET: [&str; 2] = ["api_keys_sha256", "metrics_keys_sha256"];

/// Every setting, and where it comes from.
pub(crate) struct Settings(BTreeMap<String, Setting>);

struct Setting {
    value: Value,
    source: Source,
}

/// Every key there is.
pub(crate) fn keys() -> impl Iterator<Item = String> {
    Settings::defaults().0.into_keys()
}

/// A model of a node.
#[derive(Clone)]
pub(crate) struct LaunchModel {
    /// Once for each device.
    pub(crate) on_devices: Vec<ModelArgs>,
    /// What requests call it, where the operator said.
    pub(crate) id: Option<String>,
}

/// What the node is made of.
pub(crate) struct Launch {
    /// One at least.
    pub(crate) models: Vec<LaunchModel>,
    /// How many images of one size are drawn together at most, where the operator said.
    pub(crate) max_batch: Option<NonZeroUsize>,
    pub(crate) tee: PlatformChoice,
    /// What is logged.
    pub(crate) log: LogFilter,
    pub(crate) log_format: LogFormat,
    /// Whether the process gives up what it needs no more once it serves.
    pub(crate) sandbox: SandboxChoice,
    /// Of the collector of traces: `http://HOST:PORT`.
    pub(crate) otlp_endpoint: Option<String>,
}

impl Settings {
    /// Reads all four sources.
    pub(crate) fn read(args: &ServeArgs) -> anyhow::Result<Self> {
        // What is no text is not passed over: no setting understands it.
        let text = |name: &str| Some(std::env::var_os(name)?.to_string_lossy().into_owned());
        Self::merge(args, text)
    }

    fn merge(
        args: &ServeArgs,
        environment: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let mut settings = Self::defaults();
        // Empty in the environment is as unset there; what a flag says is meant.
        let is_unset = environment("OBSCURA_CONFIG").is_some_and(|path| path.is_empty());
        match &args.config {
            Some(path) if !(is_unset && path.as_os_str().is_empty()) => settings.overlay(path)?,
            _ => {}
        }
        let keys: Vec<String> = settings.0.keys().cloned().collect();
        for key in keys {
            if let Some(text) = environment(&format!("OBSCURA_{}", key.to_uppercase())) {
                settings.set(&key, &text, Source::Environment)?;
            }
        }
        for (key, texts) in [("model", &args.model), ("lora", &args.lora)] {
            if !texts.is_empty() {
                settings.list(key, texts)?;
            }
        }
        for (key, text) in flags(args)? {
            settings.set(&key, &text, Source::Flag)?;
        }
        Ok(settings)
    }

    fn defaults() -> Self {
        let launch = LAUNCH.map(|(key, value)| (key.to_owned(), Value::String(value.to_owned())));
        let lists = LAUNCH_LISTS.map(|key| (key.to_owned(), Value::Array(Vec::new())));
        let all = Config::defaults().into_iter().chain(launch).chain(lists);
        let default = |(key, value)| (key, Setting { value, source: Source::Default });
        Self(all.map(default).collect())
    }

    fn overlay(&mut self, path: &Path) -> anyhow::Result<()> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let table: Table =
            text.parse().with_context(|| format!("cannot understand {}", path.display()))?;
        for (key, value) in table {
            let source = Source::File { path: path.to_owned(), line: line_of(&text, &key) };
            let setting = self.known(&key).with_context(|| source.place())?;
            // `auto` or a number, which need not be quoted.
            let value = match value {
                Value::Integer(images) if key == "max_batch" => Value::String(images.to_string()),
                value => value,
            };
            let (expected, found) = (setting.value.type_str(), value.type_str());
            // A whole number stands for one with a fraction.
            let fits = expected == found
                || (expected, found) == ("float", "integer")
                // One model, or a table for each of several.
                || (&*key, found) == ("model", "array");
            ensure!(
                fits,
                "`{key}` ({}) must be {}, not {}",
                source.place(),
                kind(expected),
                kind(found)
            );
            *setting = Setting { value, source };
        }
        Ok(())
    }

    /// Sets what was said in one line, as its default's type.
    fn set(&mut self, key: &str, text: &str, source: Source) -> anyhow::Result<()> {
        let setting = self.known(key)?;
        let value = match &setting.value {
            Value::String(_) => Value::String(text.to_owned()),
            Value::Array(_) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Value::Array(parts.map(|part| Value::String(part.to_owned())).collect())
            }
            other => {
                let expected = other.type_str();
                let value = text.parse::<Value>().ok();
                let fits = |value: &Value| {
                    (expected, value.type_str()) == ("float", "integer")
                        || value.type_str() == expected
                };
                value.filter(fits).with_context(|| {
                    format!(
                        "`{key}` ({}) must be {} such as {other}",
                        source.place(),
                        kind(expected)
                    )
                })?
            }
        };
        *setting = Setting { value, source };
        Ok(())
    }

    /// Sets a flag that may be there several times.
    fn list(&mut self, key: &str, texts: &[String]) -> anyhow::Result<()> {
        let texts = texts.iter().cloned().map(Value::String).collect();
        *self.known(key)? = Setting { value: Value::Array(texts), source: Source::Flag };
        Ok(())
    }

    fn known(&mut self, key: &str) -> anyhow::Result<&mut Setting> {
        let known = self.0.contains_key(key);
        if !known {
            let keys: Vec<_> = self.0.keys().map(String::as_str).collect();
            match crate::suggestion::nearest(key, &keys) {
                Some(near) => bail!("there is no setting `{key}`; did you mean `{near}`?"),
                None => bail!("there is no setting `{key}`; there are: {}", keys.join(", ")),
            }
        }
        self.0.get_mut(key).context("it is there")
    }

    /// What the node is to know.
    pub(crate) fn node(&self) -> anyhow::Result<Config> {
        let is_own = |key: &String| {
            LAUNCH.iter().any(|(own, _)| own == key) || LAUNCH_LISTS.iter().any(|own| own == key)
        };
        let of_node = self.0.iter().filter(|(key, _)| !is_own(key));
        // What is empty is as if it had not been said.
        let said = of_node.filter(|(_, setting)| setting.value.as_str() != Some(""));
        let table: Table =
            said.map(|(key, setting)| (key.clone(), setting.value.clone())).collect();
        // One by one first: an error then is of one setting, whose place is known.
        for (key, value) in &table {
            let alone = Table::from_iter([(key.clone(), value.clone())]);
            if let Err(ConfigError::Parse(error)) = Config::from_table(alone) {
                bail!("`{key}` ({}): {}", self.source(key), error.message());
            }
        }
        let config = Config::from_table(table)?;
        Ok(Config { launch_evidence: self.launch_evidence()?, ..config })
    }

    /// What of the launch can change privacy; see `node`'s config/privacy.rs. On a GPU in confidential mode
    /// or not: `gpu_evidence` tells that, and `device` whether there is one at all.
    fn launch_evidence(&self) -> anyhow::Result<LaunchEvidence> {
        let on = |key| Ok::<_, anyhow::Error>(self.given(key)?.is_some());
        let devices = self.text("device")?.split(',').map(|device| match device.trim() {
            "cpu" => "cpu",
            "auto" => "auto",
            _ => "gpu",
        });
        let devices: BTreeSet<_> = devices.collect();
        Ok(LaunchEvidence::from([
            ("device", devices.into_iter().collect::<Vec<_>>().join(",").into()),
            ("log", self.text("log")?.into()),
            ("otlp", on("otlp_endpoint")?.into()),
            ("sandbox", self.text("sandbox")?.into()),
        ]))
    }

    /// What the node is made of.
    pub(crate) fn launch(&self) -> anyhow::Result<Launch> {
        let dtype = self.choice::<DTypeChoice>("dtype")?;
        let memory_limit = self.memory_limit()?;
        let devices = self.text("device")?.split(',').map(|device| {
            device
                .trim()
                .parse()
                .map_err(|error| anyhow::anyhow!("`device` ({}): {error}", self.source("device")))
        });
        let devices: Vec<DeviceChoice> = devices.collect::<anyhow::Result<_>>()?;
        let models = self.models()?.into_iter().map(|chosen| {
            let on_device = |&device: &DeviceChoice| ModelArgs {
                model: chosen.model.clone(),
                device,
                dtype,
                manifest: chosen.manifest.clone(),
                memory_limit,
                lora: chosen.lora.clone(),
            };
            LaunchModel {
                on_devices: devices.iter().map(on_device).collect(),
                id: chosen.id.clone(),
            }
        });
        Ok(Launch {
            models: models.collect(),
            max_batch: self.max_batch()?,
            tee: self
                .text("tee")?
                .parse()
                .map_err(|error| anyhow::anyhow!("`tee` ({}): {error}", self.source("tee")))?,
            log: self
                .text("log")?
                .parse()
                .map_err(|error| anyhow::anyhow!("`log` ({}): {error}", self.source("log")))?,
            log_format: self.choice("log_format")?,
            sandbox: self.choice("sandbox")?,
            otlp_endpoint: self.given("otlp_endpoint")?.map(str::to_owned),
        })
    }

    fn max_batch(&self) -> anyhow::Result<Option<NonZeroUsize>> {
        const KEY: &str = "max_batch";
        match self.text(KEY)? {
            "auto" => Ok(None),
            text => text.parse().map(Some).map_err(|error| {
                anyhow::anyhow!("`{KEY}` ({}): `auto` or a number: {error}", self.source(KEY))
            }),
        }
    }

    fn memory_limit(&self) -> anyhow::Result<Option<ByteSize>> {
        const KEY: &str = "memory_limit";
        let limit = self.given(KEY)?.map(str::parse).transpose();
        limit.map_err(|error| anyhow::anyhow!("`{KEY}` ({}): {error}", self.source(KEY)))
    }

    fn choice<T: ValueEnum>(&self, key: &str) -> anyhow::Result<T> {
        T::from_str(self.text(key)?, true).map_err(|_| {
            let choices = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
            let names: Vec<_> = choices.map(|choice| choice.get_name().to_owned()).collect();
            anyhow::anyhow!("`{key}` ({}): must be one of: {}", self.source(key), names.join(", "))
        })
    }

    fn text(&self, key: &str) -> anyhow::Result<&str> {
        let text = self.0.get(key).and_then(|setting| setting.value.as_str());
        text.with_context(|| format!("`{key}` ({}) must be a text", self.source(key)))
    }

    fn given(&self, key: &str) -> anyhow::Result<Option<&str>> {
        Ok(Some(self.text(key)?).filter(|text| !text.is_empty()))
    }

    /// Where a setting is to be mended.
    pub(crate) fn source(&self, key: &str) -> String {
        self.0
            .get(key)
            .map_or_else(|| Source::Default.to_string(), |setting| setting.source.place())
    }
}

/// A type of TOML, in words.
fn kind(toml: &str) -> &str {
    match toml {
        "string" => "a text",
        "integer" => "a whole number",
        "float" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "table" => "a table",
        other => other,
    }
}

/// What was said as flags: the named ones, then `--set`.
fn flags(args: &ServeArgs) -> anyhow::Result<Vec<(String, String)>> {
    let named = [
        ("model_id", &args.model_id),
        ("device", &args.device),
        ("dtype", &args.dtype),
        ("manifest", &args.manifest),
        ("memory_limit", &args.memory_limit),
        ("tee", &args.tee),
        ("listen", &args.listen),
        ("queue_capacity", &args.queue_capacity),
        ("log_format", &args.log_format),
    ];
    let mut said: Vec<(String, String)> =
        named.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text.clone()?))).collect();
    if args.allow_plaintext {
        said.push(("allow_plaintext".to_owned(), "true".to_owned()));
    }
    for setting in &args.settings {
        let (key, text) = setting.split_once('=').context("--set takes KEY=VALUE")?;
        said.push((key.trim().to_owned(), text.trim().to_owned()));
    }
    Ok(said)
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, Setting { value, source }) in &self.0 {
            match value.as_array().filter(|_| SECRET.contains(&key.as_str())) {
                Some(keys) => writeln!(f, "# {key}: {} hidden  # {source}", keys.len())?,
                None if value.as_str() == Some("") => writeln!(f, "# {key}: not set")?,
                None => writeln!(f, "{key} = {value}  # {source}")?,
            }
        }
        Ok(())
    }
}
