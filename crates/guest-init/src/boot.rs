//! From the kernel's hand-over to the node's end, in order.

use std::{fs, process::ExitStatus};

use guest_init::{
    command_line::CommandLine,
    disk::{MODEL_SERIAL, ROOT_SERIAL, SETTINGS},
    error::{Attempt, GuestError},
    node_config,
    settings::Settings,
    verity::OnCorruption,
};

use crate::{
    collateral::Collateral, console::say, device_mapper, disks, kernel, mounts, network, process,
    report, tee,
};

const MEASURED_CONFIGURATION: &str = "/etc/obscura/node.toml";

/// Runs the guest. Gives how the node ended.
pub(crate) fn run() -> Result<ExitStatus, GuestError> {
    mounts::kernel_interfaces()?;
    kernel::load_modules()?;
    let line = fs::read_to_string("/proc/cmdline").at("/proc/cmdline")?;
    let line = CommandLine::parse(&line)?;

    let disk = disks::wait_for(ROOT_SERIAL)?;
    let root = device_mapper::open("root", &disk, &line.root, OnCorruption::Panic)?;
    mounts::enter_root(&root)?;
    say(&format!("root {}", line.root.root_hex()));

    let disk = disks::wait_for(SETTINGS.serial)?;
    let bytes = fs::File::open(&disk).and_then(|disk| SETTINGS.read(disk)).at(disk)?;
    let text = SETTINGS.text(&bytes)?;
    let settings = Settings::parse(text)?;
    let measured = fs::read_to_string(MEASURED_CONFIGURATION).at(MEASURED_CONFIGURATION)?;
    let configuration = node_config::compose(&measured, &settings.node)?;
    if let Some(tree) = &settings.model {
        let disk = disks::wait_for(MODEL_SERIAL)?;
        mounts::model(&device_mapper::open("model", &disk, tree, OnCorruption::Fail)?)?;
    }

    mounts::for_the_node()?;
    tee::bind(text, &configuration)?;
    let collateral = Collateral::start()?;
    kernel::close()?;
    let network = network::configure(&settings.network)?;
    let node = process::start(&configuration)?;
    if line.report {
        report::when_ready();
    }
    process::wait(node, network, collateral)
}
