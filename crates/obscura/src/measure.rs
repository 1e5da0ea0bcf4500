//! `obscura measure`: from a release's files to the entry by which a policy names it.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use attest::{
    measure::{
        AcpiTables, CommandLine, Computed, CpuModel, Difference, Firmware, FirmwareLog, Image,
        MAX_FIRMWARE_BYTES, MAX_IMAGE_BYTES, MAX_LOG_BYTES, MeasureError, MeasuredEvent, Memory,
        Name, Platform, Setup, SnpMachine, Vcpus, snp_launch_digest,
    },
    verify::Verdict,
};
use bytesize::ByteSize;
use serde_json::{Value, json};

use crate::output::{self, say};

/// Longer than any command line that a kernel reads.
const MAX_LINE_BYTES: usize = 4096;
const MAX_ACPI_BYTES: usize = 4 * 1024 * 1024;

/// Which registers come out depends on what is given: with a kernel RTMR1 and RTMR2, with a TDX firmware
/// MRTD and RTMR0, with an SNP firmware and a kernel SEV-SNP's launch digest.
#[derive(clap::Args)]
pub(crate) struct MeasureArgs {
    /// What the entries are called
    #[arg(long, value_name = "NAME")]
    name: Name,
    /// The kernel, an EFI image, as it was built
    #[arg(long, value_name = "FILE", requires = "initrd", requires = "line")]
    kernel: Option<PathBuf>,
    /// The initrd
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// The kernel's command line, as QEMU's -append gets it
    #[arg(long, value_name = "TEXT", group = "line", requires = "kernel")]
    cmdline: Option<String>,
    /// The same from a file; one newline at its end is left out
    #[arg(long, value_name = "FILE", group = "line", requires = "kernel")]
    cmdline_file: Option<PathBuf>,
    /// A firmware with TDX metadata (TDVF)
    #[arg(long, value_name = "FILE", requires = "acpi", requires = "memory")]
    tdx_firmware: Option<PathBuf>,
    /// A directory of what QEMU hands the firmware for this machine: etc-table-loader, etc-acpi-rsdp,
    /// etc-acpi-tables. The vCPUs and devices of a TDX machine are in them
    #[arg(long, value_name = "DIR", requires = "tdx_firmware")]
    acpi: Option<PathBuf>,
    /// The TDX machine's memory, such as 64GiB
    #[arg(long, value_name = "SIZE", requires = "tdx_firmware")]
    memory: Option<ByteSize>,
    /// XFAM as it stands in a quote, 16 hexadecimal digits [default: no rule, which refuses]
    #[arg(long, value_name = "HEX", value_parser = digits::<8>, requires = "tdx_firmware")]
    xfam: Option<[u8; 8]>,
    /// MRSEAM of the host's TDX module, 96 hexadecimal digits [default: no rule, which refuses]
    #[arg(long, value_name = "HEX", value_parser = digits::<48>, requires = "tdx_firmware")]
    mrseam: Option<[u8; 48]>,
    /// A firmware with SEV metadata that measures kernel hashes
    #[arg(long, value_name = "FILE", requires = "kernel", requires = "cpu", requires = "vcpus")]
    snp_firmware: Option<PathBuf>,
    /// The SNP machine's CPU model, by QEMU's name, such as EPYC-v4
    #[arg(long, value_name = "MODEL", requires = "snp_firmware")]
    cpu: Option<CpuModel>,
    /// The SNP machine's vCPUs; an entry for each number, with commas between
    #[arg(long, value_name = "N", value_delimiter = ',', requires = "snp_firmware")]
    vcpus: Vec<Vcpus>,
    /// SEV_FEATURES of the SNP machine, hexadecimal digits [default: 1]
    #[arg(long, value_name = "HEX", value_parser = features, requires = "snp_firmware")]
    guest_features: Option<u64>,
    /// Compare with a guest's event log: /sys/firmware/acpi/tables/data/CCEL, or a JSON array of events.
    /// Exits 10 where they differ, and says which events do
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Where to write the entries [default: standard output]
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    output: Option<PathBuf>,
    /// Print registers, their events and what the log says as JSON
    #[arg(long)]
    json: bool,
}

/// Exits 0, 10 where a log differs, 30 where an input is not what it should be.
pub(crate) fn run(args: &MeasureArgs) -> anyhow::Result<ExitCode> {
    match measured(args) {
        Ok(report) => print(args, &report),
        Err(error) if error.is::<MeasureError>() => {
            output::note(format_args!("error: {}", printable::terminal(&format!("{error:#}"))));
            Ok(ExitCode::from(Verdict::Malformed.exit_code()))
        }
        Err(error) => Err(error),
    }
}

/// What was computed, and from what.
struct Measured {
    entries: Vec<Computed>,
    /// Role and SHA-256 of every file.
    inputs: Vec<(&'static str, String)>,
    /// By register, in order.
    events: Vec<(usize, Vec<MeasuredEvent>)>,
    log: Option<Vec<Difference>>,
}

fn measured(args: &MeasureArgs) -> anyhow::Result<Measured> {
    let mut inputs = Inputs::default();
    let mut entries = Vec::new();
    let mut events = Vec::new();
    if let Some(firmware) = &args.tdx_firmware {
        let platform = platform(args, firmware, &mut inputs)?;
        let (mrtd, rtmr0) = (platform.mrtd, platform.rtmr0());
        let setup = Setup { xfam: args.xfam, mrseam: args.mrseam };
        events.push((0, platform.rtmr0_events().to_vec()));
        entries.push(Computed::Platform { name: args.name.clone(), mrtd, rtmr0, setup });
    }
    if let (Some(kernel), Some(initrd)) = (&args.kernel, &args.initrd) {
        let image = Image::new(
            &inputs.read("kernel", kernel, MAX_IMAGE_BYTES)?,
            &inputs.read("initrd", initrd, MAX_IMAGE_BYTES)?,
            &command_line(args, &mut inputs)?,
        )?;
        let (rtmr1, rtmr2) = (image.rtmr1(), image.rtmr2());
        events.push((1, image.rtmr1_events()));
        events.push((2, image.rtmr2_events()));
        entries.push(Computed::Image { name: args.name.clone(), rtmr1, rtmr2 });
        entries.extend(snp(args, &image, &mut inputs)?);
    }
    if entries.is_empty() {
        bail!(
            "nothing to measure: give --kernel, --initrd and --cmdline for an image, \
             --tdx-firmware, --acpi and --memory for a platform, or both"
        );
    }
    let log = args.log.as_ref().map(|file| differences(file, &events, &mut inputs)).transpose()?;
    Ok(Measured { entries, inputs: inputs.0, events, log })
}

fn platform(args: &MeasureArgs, file: &Path, inputs: &mut Inputs) -> anyhow::Result<Platform> {
    let firmware = inputs.read("TDX firmware", file, MAX_FIRMWARE_BYTES)?;
    let directory = args.acpi.as_ref().context("--acpi is missing")?;
    let mut blob = |role, name| inputs.read(role, &directory.join(name), MAX_ACPI_BYTES);
    let acpi = AcpiTables::new(
        &blob("ACPI loader script", "etc-table-loader")?,
        &blob("ACPI root pointer", "etc-acpi-rsdp")?,
        &blob("ACPI tables", "etc-acpi-tables")?,
    )?;
    let memory = args.memory.context("--memory is missing")?;
    Ok(Platform::new(&Firmware::new(&firmware)?, Memory::new(memory.as_u64())?, &acpi)?)
}

fn snp(args: &MeasureArgs, image: &Image, inputs: &mut Inputs) -> anyhow::Result<Vec<Computed>> {
    let (Some(file), Some(cpu)) = (&args.snp_firmware, args.cpu) else { return Ok(Vec::new()) };
    let firmware = inputs.read("SNP firmware", file, MAX_FIRMWARE_BYTES)?;
    let firmware = Firmware::new(&firmware)?;
    let entry = |vcpus: &Vcpus| {
        let mut machine = SnpMachine::new(cpu, *vcpus);
        if let Some(features) = args.guest_features {
            machine = machine.with_features(features)?;
        }
        let measurement = snp_launch_digest(&firmware, image, &machine)?;
        Ok(Computed::Snp { name: args.name.clone(), cpu, vcpus: *vcpus, measurement })
    };
    args.vcpus.iter().map(entry).collect()
}

fn command_line(args: &MeasureArgs, inputs: &mut Inputs) -> anyhow::Result<CommandLine> {
    let line = match (&args.cmdline, &args.cmdline_file) {
        (Some(line), _) => line.clone(),
        (None, Some(file)) => {
            let bytes = inputs.read("command line", file, MAX_LINE_BYTES)?;
            let problem = "is not text";
            let line =
                String::from_utf8(bytes).map_err(|_| MeasureError::CommandLine { problem })?;
            // As a shell's $(cat FILE) leaves it out; more than one is a mistake.
            line.strip_suffix('\n').unwrap_or(&line).to_owned()
        }
        (None, None) => bail!("--cmdline is missing"),
    };
    Ok(line.parse::<CommandLine>()?)
}

fn differences(
    file: &Path,
    events: &[(usize, Vec<MeasuredEvent>)],
    inputs: &mut Inputs,
) -> anyhow::Result<Vec<Difference>> {
    let log = FirmwareLog::parse(&inputs.read("event log", file, MAX_LOG_BYTES)?)?;
    Ok(events.iter().flat_map(|(register, events)| log.differences(*register, events)).collect())
}

/// The files that were read: which, and what they were.
#[derive(Default)]
struct Inputs(Vec<(&'static str, String)>);

impl Inputs {
    /// One byte more than `max_bytes` at most: a longer one is refused by what reads it.
    fn read(
        &mut self,
        role: &'static str,
        path: &Path,
        max_bytes: usize,
    ) -> anyhow::Result<Vec<u8>> {
        let shown = path.display();
        let kind = fs::metadata(path).with_context(|| format!("cannot read the {role} {shown}"))?;
        if !kind.is_file() {
            bail!("the {role} {shown} is not a regular file");
        }
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(max_bytes as u64 + 1).read_to_end(&mut bytes))
            .with_context(|| format!("cannot read the {role} {shown}"))?;
        if bytes.len() > max_bytes {
            return Err(MeasureError::TooLong { input: role, max_bytes }.into());
        }
        self.0.push((role, hex::encode(attest::measure::file_sha256(&bytes))));
        Ok(bytes)
    }
}

fn print(args: &MeasureArgs, report: &Measured) -> anyhow::Result<ExitCode> {
    let agrees = report.log.as_ref().is_none_or(Vec::is_empty);
    if args.json {
        say(serde_json::to_string_pretty(&as_json(report))?)?;
    } else if let Some(file) = &args.output {
        write(file, &as_toml(report))?;
        findings(report).iter().try_for_each(say)?;
    } else {
        output::print(as_toml(report))?;
        findings(report).iter().try_for_each(|line| say(format_args!("# {line}")))?;
    }
    let verdict = if agrees { Verdict::Accepted } else { Verdict::Rejected };
    Ok(ExitCode::from(verdict.exit_code()))
}

/// What the log says; nothing where none was given.
fn findings(report: &Measured) -> Vec<String> {
    match &report.log {
        None => Vec::new(),
        Some(differences) if differences.is_empty() => {
            vec!["the log has the expected events, and no others, in these registers".to_owned()]
        }
        Some(differences) => differences.iter().map(ToString::to_string).collect(),
    }
}

fn as_toml(report: &Measured) -> String {
    let mut text = format!(
        "# Computed by obscura {} from files alone; no hardware has been asked. SHA-256 of each:\n",
        env!("CARGO_PKG_VERSION")
    );
    for (role, sha256) in report.inputs.iter().filter(|(role, _)| *role != "event log") {
        text += &format!("#   {sha256}  {role}\n");
    }
    for entry in &report.entries {
        text += &format!("\n{entry}");
    }
    text
}

fn as_json(report: &Measured) -> Value {
    let inputs: serde_json::Map<_, _> =
        report.inputs.iter().map(|(role, sha256)| ((*role).to_owned(), json!(sha256))).collect();
    let mut registers = serde_json::Map::new();
    let mut snp = Vec::new();
    for entry in &report.entries {
        match entry {
            Computed::Platform { mrtd, rtmr0, .. } => {
                registers.insert("mrtd".to_owned(), json!(hex::encode(mrtd)));
                registers.insert("rtmr0".to_owned(), json!(hex::encode(rtmr0)));
            }
            Computed::Image { rtmr1, rtmr2, .. } => {
                registers.insert("rtmr1".to_owned(), json!(hex::encode(rtmr1)));
                registers.insert("rtmr2".to_owned(), json!(hex::encode(rtmr2)));
            }
            Computed::Snp { cpu, vcpus, measurement, .. } => snp.push(json!({
                "cpu": cpu.name(), "vcpus": vcpus.number(), "measurement": hex::encode(measurement),
            })),
            _ => {}
        }
    }
    let events: Vec<_> = report
        .events
        .iter()
        .flat_map(|(register, events)| events.iter().map(move |event| (register, event)))
        .map(|(register, event)| {
            json!({ "register": register, "what": event.what, "digest": hex::encode(event.digest) })
        })
        .collect();
    let log = report.log.as_ref().map(|differences| {
        let lines: Vec<_> = differences.iter().map(ToString::to_string).collect();
        json!({ "agrees": differences.is_empty(), "differences": lines })
    });
    json!({ "inputs": inputs, "tdx": registers, "snp": snp, "events": events, "log": log })
}

/// An older file of that name is there until all of the new one is.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    fs::write(&part, text)
        .and_then(|()| fs::rename(&part, path))
        .inspect_err(|_| drop(fs::remove_file(&part)))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn digits<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != 2 * N || !text.bytes().all(is_digit) {
        return Err(format!("must be {} lower-case hexadecimal digits", 2 * N));
    }
    let mut bytes = [0; N];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|error| error.to_string())?;
    }
    Ok(bytes)
}

fn features(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16)
        .map_err(|error| error.to_string())
}
