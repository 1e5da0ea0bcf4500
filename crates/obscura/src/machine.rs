//! What a machine has of what a node needs, and what to do about what is missing.
//!
//! Nothing here is tried out: no quote is made, no GPU is opened, no token is shown or sent.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use attest::evidence::{RTMR3_REGISTER, TSM_REPORTS};
use flux::{HostMemory, LargestBatch, Precision, bench::Preset};
use printable::Printable;
use serde_json::{Value, json};

/// One thing that was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// What.
    pub(crate) name: &'static str,
    /// Whether it is there.
    pub(crate) found: bool,
    /// What was seen, as the files that were read say it.
    pub(crate) detail: String,
    /// What to do where it is missing.
    pub(crate) remedy: Option<&'static str>,
    /// What has to be asked for so that it is enough.
    pub(crate) only_with: Option<&'static str>,
}

impl Item {
    /// Where it is missing, `remedy` says what to do.
    fn new(name: &'static str, found: bool, detail: String, remedy: &'static str) -> Self {
        Self { name, found, detail, remedy: (!found).then_some(remedy), only_with: None }
    }

    pub(crate) fn to_json(&self) -> Value {
        let Self { name, found, detail, remedy, only_with } = self;
        let detail = Printable::new(detail);
        json!({
            "name": name, "found": found, "detail": detail, "remedy": remedy, "only_with": only_with,
        })
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.found { "ok" } else { "MISSING" };
        write!(f, "{:12} {state:8} {}", self.name, Printable::new(&self.detail))?;
        match self.remedy {
            Some(remedy) => write!(f, "\n{:21} → {remedy}", ""),
            None => Ok(()),
        }
    }
}

/// The machine: its root directory, and what this process was told.
pub(crate) struct Machine {
    /// `/`, or a directory that stands for it in a test.
    pub(crate) root: PathBuf,
    /// Where FLUX.1-schnell is looked for.
    pub(crate) model: PathBuf,
    /// Whether a token for downloads was given by `HF_TOKEN`.
    pub(crate) has_token: bool,
    /// Where `hf auth login` leaves one.
    pub(crate) token_file: Option<PathBuf>,
    /// Whether this program was built for GPUs.
    pub(crate) built_for_gpus: bool,
    /// Where this process looks for libraries before anywhere else, and where those that it has came from.
    pub(crate) library_folders: Vec<PathBuf>,
}

/// Weights of FLUX.1-schnell with its text encoders: files in bf16.
const MODEL_BYTES: u64 = 34_000_000_000;

/// What `doctor` speaks of: one image of 1024×1024.
const ONE_IMAGE: LargestBatch = LargestBatch { images: 1, pixels: 1 << 20 };

impl Machine {
    /// Everything a node may need, in the order in which it is missed.
    pub(crate) fn look(&self) -> Vec<Item> {
        let mut items = vec![self.gpu(), self.memory(), self.model()];
        if !self.model.is_dir() {
            items.extend([self.disk(), self.token()]);
        }
        if self.built_for_gpus && items[0].found {
            items.push(self.nvrtc());
        }
        items.push(self.tee());
        items.push(self.quotes());
        if self.has("/dev/tdx_guest") {
            items.push(self.rtmr3());
        }
        items
    }

    fn gpu(&self) -> Item {
        let driver = fs::read_to_string(self.root.join("proc/driver/nvidia/version")).ok();
        let driver = driver.as_deref().and_then(|text| text.lines().next()).map(str::to_owned);
        let remedy = match (&driver, self.built_for_gpus) {
            (Some(_), true) => None,
            (Some(_), false) => Some("this program is for CPUs: build with --features cuda,cudnn"),
            (None, _) => Some("install NVIDIA's driver, or draw on the CPU: --device cpu"),
        };
        let detail = driver.unwrap_or_else(|| "no NVIDIA driver is loaded".to_owned());
        Item { name: "GPU", found: remedy.is_none(), detail, remedy, only_with: None }
    }

    /// What cuDNN compiles its attention with, at run time: the compiler, and what that reads.
    fn nvrtc(&self) -> Item {
        const PARTS: [&str; 2] = ["libnvrtc.so.13", "libnvrtc-builtins.so.13."];
        let folders = self.library_folders.iter().cloned().chain(self.system_folders());
        let names: Vec<String> = folders
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flat_map(|entries| {
                entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            })
            .collect();
        let lacking: Vec<&str> = PARTS
            .into_iter()
            .filter(|part| !names.iter().any(|name| name.starts_with(part)))
            .collect();
        let detail = match &lacking[..] {
            [] => "libnvrtc.so.13 and its builtins".to_owned(),
            lacking => format!("no {}: attention takes the slow way", lacking.join(", no ")),
        };
        let remedy =
            "install CUDA 13's nvrtc, or have LD_LIBRARY_PATH name the folder of its libraries";
        let found = lacking.is_empty();
        Item::new("nvrtc", found, detail, remedy)
    }

    /// Where the system's loader looks: what its configuration names, and the usual places.
    fn system_folders(&self) -> Vec<PathBuf> {
        const USUAL: [&str; 5] = [
            "usr/local/cuda/lib64",
            "usr/lib/x86_64-linux-gnu",
            "usr/lib64",
            "usr/lib",
            "usr/local/lib",
        ];
        let configurations = fs::read_dir(self.root.join("etc/ld.so.conf.d"));
        let configured = configurations
            .into_iter()
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
            .flat_map(|text| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>())
            .filter_map(|line| Some(self.root.join(line.strip_prefix('/')?)));
        configured.chain(USUAL.map(|folder| self.root.join(folder))).collect()
    }

    /// For FLUX.1-schnell on a CPU, whose default is f32, twice as large as the files.
    fn memory(&self) -> Item {
        let available = HostMemory::below(&self.root).available_bytes;
        let [in_f32, in_bf16, in_int8] =
            [Precision::F32, Precision::Bf16, Precision::Int8].map(|precision| {
                Preset::Schnell.cpu_weight_bytes(None, precision)
                    + Preset::Schnell.cpu_working_bytes(precision, ONE_IMAGE)
            });
        let has = |needed| available.is_some_and(|bytes| bytes >= needed);
        let found = has(in_int8);
        let only_with = match (has(in_f32), has(in_bf16)) {
            (true, _) => None,
            (false, true) => Some("--dtype bf16 or int8"),
            (false, false) => found.then_some("--dtype int8"),
        };
        let detail = format!(
            "{} available; FLUX.1-schnell takes {} on a CPU, {} with --dtype bf16, {} with --dtype int8",
            available.map_or_else(|| "unknown".to_owned(), gigabytes),
            gigabytes(in_f32),
            gigabytes(in_bf16),
            gigabytes(in_int8)
        );
        let remedy = "a smaller model, or a GPU, which the weights are handed on to one by one";
        Item { only_with, ..Item::new("memory", found, detail, remedy) }
    }

    fn model(&self) -> Item {
        let found = self.model.is_dir();
        let remedy = "obscura models download flux1-schnell (a build with --features download)";
        let detail = format!("FLUX.1-schnell in {}", self.model.display());
        Item::new("model", found, detail, remedy)
    }

    fn disk(&self) -> Item {
        // The nearest directory above that is there.
        let place = self.model.ancestors().find(|place| place.is_dir());
        let free = place.and_then(|place| rustix::fs::statvfs(place).ok());
        let free = free.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        let found = free.is_some_and(|bytes| bytes >= MODEL_BYTES);
        let detail = format!(
            "{} free there; the model takes {}",
            free.map_or_else(|| "unknown".to_owned(), gigabytes),
            gigabytes(MODEL_BYTES)
        );
        let remedy = "OBSCURA_MODELS names another place for models";
        Item::new("disk", found, detail, remedy)
    }

    fn token(&self) -> Item {
        let found = self.has_token || self.token_file.as_deref().is_some_and(Path::is_file);
        let detail = "for downloading the model, whose repository is gated".to_owned();
        let remedy = "accept the licence there, then set HF_TOKEN or run `hf auth login`";
        Item::new("token", found, detail, remedy)
    }

    fn tee(&self) -> Item {
        let devices = ["/dev/tdx_guest", "/dev/sev-guest"];
        let found = devices.into_iter().find(|device| self.has(device));
        let detail = match found {
            Some(device) => device.to_owned(),
            None => "neither /dev/tdx_guest nor /dev/sev-guest".to_owned(),
        };
        let remedy = "run inside a TDX or SEV-SNP guest; to try things out, --tee simulated";
        Item::new("TEE", found.is_some(), detail, remedy)
    }

    fn quotes(&self) -> Item {
        let found = self.has(TSM_REPORTS);
        let remedy = "in a guest: Linux 6.7 or newer, with configfs mounted";
        let detail = TSM_REPORTS.to_owned();
        Item::new("quotes", found, detail, remedy)
    }

    fn rtmr3(&self) -> Item {
        let found = self.has(RTMR3_REGISTER);
        let remedy = "Linux 6.16 or newer lets a guest extend RTMR3";
        let detail = RTMR3_REGISTER.to_owned();
        Item::new("RTMR3", found, detail, remedy)
    }

    fn has(&self, path: &str) -> bool {
        self.root.join(path.trim_start_matches('/')).exists()
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.0} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prospects::{Prospect, prospects};

    fn machine(root: &Path) -> Machine {
        Machine {
            root: root.to_owned(),
            model: root.join("models/flux1-schnell"),
            has_token: false,
            token_file: None,
            built_for_gpus: true,
            library_folders: vec![root.join("venv/nvidia/lib")],
        }
    }

    fn missing(machine: &Machine) -> Vec<&'static str> {
        let items = machine.look();
        // Whoever is told that something is missing is told what to do.
        assert!(items.iter().all(|item| item.found != item.remedy.is_some()));
        items.iter().filter(|item| !item.found).map(|item| item.name).collect()
    }

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn an_empty_machine_misses_everything() {
        let root = tempfile::tempdir().unwrap();
        let machine = machine(root.path());
        let names = missing(&machine);
        let can = prospects(&machine.look());
        assert!(can[0].is_possible());
        assert_eq!(can[1].missing, ["GPU", "model"]);
        assert_eq!(can[3].missing, ["TEE", "quotes"]);
        for name in ["GPU", "memory", "model", "token", "TEE", "quotes"] {
            assert!(names.contains(&name), "{name}");
        }
    }

    #[test]
    fn a_guest_with_a_gpu_and_a_model_misses_nothing() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path();
        put(at, "proc/driver/nvidia/version", "NVRM version: NVIDIA 580\nGCC\n");
        put(at, "proc/meminfo", "MemTotal: 9 kB\nMemAvailable:  131072000 kB\n");
        put(at, "dev/tdx_guest", "");
        put(at, "sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384", "");
        fs::create_dir_all(at.join("sys/kernel/config/tsm/report")).unwrap();
        fs::create_dir_all(at.join("models/flux1-schnell")).unwrap();
        put(at, "usr/lib64/libnvrtc.so.13", "");
        put(at, "usr/lib64/libnvrtc-builtins.so.13.0", "");
        assert!(missing(&machine(at)).is_empty());
        assert!(prospects(&machine(at).look()).iter().all(Prospect::is_possible));
        // A container's limit counts where it is less.
        put(at, "sys/fs/cgroup/memory.max", "5000000\n");
        assert_eq!(missing(&machine(at)), ["memory"]);
        put(at, "sys/fs/cgroup/memory.max", "max\n");
        let for_cpus = Machine { built_for_gpus: false, ..machine(at) };
        assert_eq!(missing(&for_cpus), ["GPU"]);
    }

    /// In f32 the weights take 67 GB, in bf16 34, in int8 18; drawing takes 4, 2 and 4 beside them.
    #[test]
    fn memory_is_enough_where_weights_and_an_image_fit() {
        let root = tempfile::tempdir().unwrap();
        let with = |gigabytes: u64| {
            let kibibytes = gigabytes * 1_000_000_000 / 1024;
            put(root.path(), "proc/meminfo", &format!("MemAvailable: {kibibytes} kB\n"));
            let memory = machine(root.path()).memory();
            (memory.found, memory.only_with)
        };
        assert_eq!(with(72), (true, None));
        assert_eq!([70, 36].map(with), [(true, Some("--dtype bf16 or int8")); 2]);
        assert_eq!([34, 23].map(with), [(true, Some("--dtype int8")); 2]);
        assert_eq!([20, 18].map(with), [(false, None); 2]);
    }

    #[test]
    fn nvrtc_needs_its_builtins_wherever_they_are() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path();
        let of = |machine: &Machine| machine.look().into_iter().find(|item| item.name == "nvrtc");
        assert!(of(&machine(at)).is_none(), "without a driver there are other things to do first");
        put(at, "proc/driver/nvidia/version", "NVRM version: NVIDIA 580\n");
        put(at, "venv/nvidia/lib/libnvrtc.so.13", "");
        let without = of(&machine(at)).unwrap();
        assert!(!without.found && without.detail.contains("no libnvrtc-builtins.so.13."));
        put(at, "etc/ld.so.conf.d/cuda.conf", "# CUDA\n/opt/cuda/lib\n");
        put(at, "opt/cuda/lib/libnvrtc-builtins.so.13.0", "");
        assert!(of(&machine(at)).unwrap().found);
    }

    #[test]
    fn a_token_counts_wherever_it_is() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "token", "hf_secret");
        let given = Machine { has_token: true, ..machine(root.path()) };
        let left = Machine { token_file: Some(root.path().join("token")), ..machine(root.path()) };
        for machine in [given, left] {
            assert!(!missing(&machine).contains(&"token"));
            assert!(machine.look().iter().all(|item| !item.to_string().contains("hf_secret")));
        }
    }
}
