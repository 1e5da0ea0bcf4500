use std::io::Write;

use clap::Parser;

use super::*;
use crate::args::{Args, Command};

fn args(words: &[&str]) -> ServeArgs {
    let words = ["obscura", "serve"].iter().chain(words);
    let Command::Serve(args) = Args::try_parse_from(words).unwrap().command else {
        panic!("serve")
    };
    args
}

#[test]
fn flags_over_environment_over_file_over_defaults() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let text = "queue_capacity = 1\ndrain_secs = 2\nheader_timeout_secs = 3\nmodel = \"m\"\n\
        api_keys_sha256 = [\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"]";
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    let environment = |name: &str| match name {
        "OBSCURA_QUEUE_CAPACITY" => Some("4".to_owned()),
        "OBSCURA_DRAIN_SECS" => Some("5".to_owned()),
        "OBSCURA_DEVICE" => Some("cpu, cpu".to_owned()),
        _ => None,
    };
    let args = args(&["--config", path, "--queue-capacity", "6", "--set", "max_pixels=65536"]);
    let settings = Settings::merge(&args, environment).unwrap();
    let config = settings.node().unwrap();
    assert_eq!((config.queue_capacity, config.drain_secs), (6, 5));
    assert_eq!((config.header_timeout_secs, config.max_pixels), (3, 65536));
    assert_eq!(config.quotes_waiting, Config::default().quotes_waiting);
    let launch = settings.launch().unwrap();
    let [model] = &launch.models[..] else { panic!("one model") };
    let devices = &model.on_devices;
    assert_eq!((devices.len(), devices[0].model.as_str()), (2, "m"));
    assert_eq!(launch.max_batch, None);

    let printed = settings.to_string();
    for line in [
        "queue_capacity = 6  # flag",
        "drain_secs = 5  # environment",
        "header_timeout_secs = 3  # file",
        "quotes_waiting = 256  # default",
        "# api_keys_sha256: 1 hidden  # file",
        "# collateral: not set",
        "# health_listen: not set",
        "cors_origins = [\"*\"]  # default",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}\n{printed}");
    }
    assert!(!printed.contains("ba7816bf"));
}

/// The documentation lists every key, with its default but where there can be none.
#[test]
fn the_documentation_lists_every_setting() {
    let page = include_str!("../../../../docs/configuration.md");
    let (_, listed) = page.split_once("```toml\nmodel = ").unwrap();
    let listed = format!("model = {}", listed.split_once("```").unwrap().0);
    let listed: Table = listed.parse().unwrap();
    let defaults = Settings::defaults().0;
    assert_eq!(listed.keys().collect::<Vec<_>>(), defaults.keys().collect::<Vec<_>>());
    for (key, setting) in &defaults {
        assert!(listed[key] == setting.value, "{key}");
    }
}

/// What an operator must say, and may, for the configuration to be one that the production policy trusts.
#[test]
fn the_production_policy_trusts_the_strictest_configurations() {
    let policy: Table = include_str!("../../../../attestation/policy.toml").parse().unwrap();
    let digests = policy["configuration"]["digests"].as_array().unwrap();
    let trusted = |words: &[&str]| {
        let strict = ["--device", "cuda:0", "--set", "gpu_evidence=true", "--set", "sandbox=on"];
        let words: Vec<_> = strict.iter().chain(words).copied().collect();
        let node = Settings::merge(&args(&words), |_| None).unwrap().node().unwrap();
        digests.contains(&Value::String(node.evidence_sha256()))
    };
    assert_eq!(digests.len(), 3);
    for words in [
        &[][..],
        &["--set", "tls=self-signed"],
        &["--set", "tls=files"],
        &["--set", "queue_capacity=1", "--listen", "0.0.0.0:1", "--set", "device=cuda:0,cuda:1"],
    ] {
        assert!(trusted(words), "{words:?}");
    }
    for words in [
        &["--allow-plaintext"][..],
        &["--set", "device=cpu"],
        &["--set", "device=cuda:0,cpu"],
        &["--set", "gpu_evidence=false"],
        &["--set", "log=off"],
        &["--set", "log=obscura=trace"],
        &["--set", "otlp_endpoint=http://collector:4318"],
        &["--set", "sandbox=auto"],
    ] {
        assert!(!trusted(words), "{words:?}");
    }
}

#[test]
fn what_is_not_known_is_named() {
    let refused = |words: &[&str]| {
        let settings = Settings::merge(&args(words), |_| None);
        let refused = settings.and_then(|settings| settings.launch().map(drop));
        format!("{:#}", refused.unwrap_err())
    };
    assert!(refused(&["--set", "no_such=1"]).contains("no setting `no_such`"));
    assert!(refused(&["--queue-capacity", "many"]).contains("`queue_capacity`"));
    assert!(refused(&["--device", "gpu"]).contains("`device` (flag)"));
    assert!(refused(&["--set", "max_batch=0"]).contains("`max_batch` (flag)"));
    assert!(refused(&["--memory-limit", "much"]).contains("`memory_limit` (flag)"));
    assert!(
        refused(&["--dtype", "f8"]).contains("`dtype` (flag): must be one of: auto, f32, bf16")
    );
    assert!(refused(&["--log-format", "xml"]).contains("must be one of: text, json"));
    assert!(refused(&["--set", "sandbox=x"]).contains("`sandbox` (flag): must be one of: "));
    assert!(refused(&["--set", "drain_secs"]).contains("KEY=VALUE"));
    assert!(refused(&["--set", "queue_capcity=3"]).contains("did you mean `queue_capacity`?"));
}

#[test]
fn an_error_of_the_file_names_file_line_and_key() {
    let refused = |text: &str| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let args = args(&["--config", file.path().to_str().unwrap()]);
        let settings = Settings::merge(&args, |_| None);
        let error = settings.and_then(|settings| settings.node().map(drop)).unwrap_err();
        format!("{error:#}").replace(file.path().to_str().unwrap(), "FILE")
    };
    for (text, said) in [
        ("\n\nno_such = 1", "FILE, line 3: there is no setting `no_such`"),
        (
            "# x\nqueue_capacity = \"a\"",
            "`queue_capacity` (FILE, line 2) must be a whole number, not a text",
        ),
        (
            "drain_secs = 1\n\"listen\" = \"nowhere\"",
            "`listen` (FILE, line 2): must be ADDRESS:PORT",
        ),
        ("api_keys_sha256 = [\"ab\"]", "`api_keys_sha256` (FILE, line 1): must be 64 hex digits"),
        ("drain_secs = -1", "`drain_secs` (FILE, line 1): "),
        ("model_id = \"a\"\n= 2", "cannot understand FILE"),
    ] {
        let found = refused(text);
        assert!(found.contains(said), "{text}: {found}");
    }
    // What only together is wrong names the settings.
    let text = "key_grace_secs = 9\nkey_lifetime_secs = 3";
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let args = args(&["--config", file.path().to_str().unwrap()]);
    let config = Settings::merge(&args, |_| None).unwrap().node().unwrap();
    assert!(config.check().unwrap_err().to_string().contains("`key_grace_secs`"));
}

#[test]
fn a_number_of_images_needs_no_quotes_and_an_empty_path_is_none() {
    assert_eq!(launched("max_batch = 4", &[]).unwrap().max_batch, NonZeroUsize::new(4));
    assert!(launched("max_batch = 0", &[]).is_err());
    assert!(launched("memory_limit = 4", &[]).is_err());
    let path = |words: &[&str], said: &'static str| {
        let environment = move |name: &str| (name == "OBSCURA_CONFIG").then(|| said.to_owned());
        Settings::merge(&args(words), environment).map(drop)
    };
    path(&["--config", ""], "").unwrap();
    assert!(path(&["--config", ""], "node.toml").is_err(), "what a flag says is meant");
}

/// On a machine without a TEE too, and as `obscura config print` says it.
#[test]
fn everything_that_no_node_would_start_with_is_found_before_there_is_one() {
    let checked = |words: &[&str]| {
        Settings::merge(&args(words), |_| None).and_then(|settings| settings.checked().map(drop))
    };
    checked(&[]).unwrap();
    checked(&["--model", "demo", "--model", "/models/a"]).unwrap();
    for (words, says) in [
        (&["--set", "tls=on"][..], "`tls` (flag)"),
        (&["--set", "tls=files"], "`tls_certificate` and `tls_key`"),
        (&["--set", "queue_share=2"], "`queue_share` must be from 0 to 1"),
        (&["--listen", "zz"], "`listen` (flag)"),
        (&["--listen", "0.0.0.0:8080"], "without credentials"),
        (&["--device", "foo"], "`device` (flag)"),
        (&["--model", "demo", "--model", "demo"], "two models are called obscura/demo"),
        (&["--model", "/a/m", "--model", "/b/m"], "give one of them another `model_id`"),
        (&["--model", "/"], "--model-id"),
    ] {
        let refused = format!("{:#}", checked(words).unwrap_err());
        assert!(refused.contains(says), "{words:?}: {refused}");
    }
}

fn launched(text: &str, words: &[&str]) -> anyhow::Result<Launch> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let words: Vec<&str> = ["--config", &path].into_iter().chain(words.iter().copied()).collect();
    Settings::merge(&args(&words), |_| None)?.launch()
}

#[test]
fn several_models_have_their_own_names_manifests_and_loras() {
    let text = "device = \"cpu, cpu\"\n[[model]]\nmodel = \"demo\"\n\n[[model]]\nmodel = \"/models/a\"\n\
        model_id = \"a\"\nmanifest = \"a.toml\"\nlora = [\"x.safetensors:0.5\", { file = \"y.safetensors\", weight = 2, \
        sha256 = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\" }]\n";
    let launch = launched(text, &[]).unwrap();
    let [demo, a] = &launch.models[..] else { panic!("two models") };
    assert_eq!((demo.on_devices.len(), demo.id.as_deref()), (2, None));
    assert!(demo.on_devices[0].lora.is_empty());
    let first = &a.on_devices[0];
    assert_eq!((first.model.as_str(), a.id.as_deref()), ("/models/a", Some("a")));
    assert_eq!(first.manifest.as_deref(), Some(Path::new("a.toml")));
    let loras: Vec<_> =
        first.lora.iter().map(|lora| (lora.weight.get(), lora.sha256.is_some())).collect();
    assert_eq!(loras, [(0.5, false), (2.0, true)]);

    let models = |words: &[&str]| {
        let launch = launched(text, words).unwrap();
        launch.models.iter().map(|model| model.on_devices[0].model.clone()).collect::<Vec<_>>()
    };
    assert_eq!(models(&["--model", "b"]), ["b"]);
    assert_eq!(models(&["--model", "b", "--model", "c,d"]), ["b", "c,d"]);
    let one = launched("model = \"m\"\nlora = [\"x:1\"]\n", &["--lora", "a,b:0.5", "--lora", "c"]);
    let loras = one.unwrap().models[0].on_devices[0].lora.clone();
    let files: Vec<_> = loras.iter().map(|lora| lora.file.to_str().unwrap().to_owned()).collect();
    assert_eq!(files, ["a,b", "c"]);
}

#[test]
fn models_and_loras_that_cannot_be_meant_are_named() {
    for (text, words, says) in [
        ("model = []", &[][..], "names no model"),
        ("model = [1]", &[], "`model` (FILE, line 1) must be a text, or tables"),
        ("\n[[model]]\nname = \"a\"", &[], "`model` (FILE, line 2): unknown field `name`"),
        ("[[model]]\nmodel_id = \"a\"", &[], "missing field `model`"),
        (
            "model_id = \"x\"\n[[model]]\nmodel = \"a\"",
            &[],
            "`model_id` (FILE, line 1) is for one model",
        ),
        ("[[model]]\nmodel = \"a\"\nlora = [\"x:y\"]", &[], "`lora` of a: must be FILE:WEIGHT"),
        ("lora = [{ file = \"x\", weight = nan }]", &[], "`lora` (FILE, line 1): a weight must be"),
        ("lora = [{ file = \"x\", sha256 = \"00\" }]", &[], "64 hexadecimal digits"),
        ("lora = [{ file = \"x\", wieght = 1 }]", &[], "unknown field `wieght`"),
        ("lora = [{ weight = 1.0 }]", &[], "missing field `file`"),
        ("lora = [1]", &[], "FILE:WEIGHT or a table"),
        ("", &["--lora", "x:1e9"], "`lora` (flag): a weight must be"),
        ("", &["--model", "a", "--model", "b", "--lora", "x"], "`lora` (flag) is for one model"),
        (
            "",
            &["--model", "a", "--model", "b", "--model-id", "x"],
            "`model_id` (flag) is for one model",
        ),
    ] {
        let error = format!("{:#}", launched(text, words).err().unwrap());
        let path = error.find("/tmp").map(|from| {
            let rest = &error[from..];
            rest[..rest.find(", line").unwrap_or(0)].to_owned()
        });
        let error = error.replace(path.as_deref().unwrap_or("\0"), "FILE");
        assert!(error.contains(says), "{text}: {error}");
    }
    let many = "[[model]]\nmodel = \"a\"\n".repeat(17);
    assert!(format!("{:#}", launched(&many, &[]).err().unwrap()).contains("more than 16 models"));
}
