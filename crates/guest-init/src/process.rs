//! The node: an ordinary user's process without capabilities, and without an environment.

use std::{
    fs,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use guest_init::error::{Attempt, GuestError};
use rustix::{
    io::Errno,
    process::{Resource, Rlimit, setrlimit},
    thread::{CapabilitySet, remove_capability_from_bounding_set, set_no_new_privs},
};

use crate::{
    collateral::Collateral,
    console::say,
    mounts::{NODE, STATE},
    network::Configured,
};

const PROGRAM: &str = "/usr/bin/obscura";
const OPEN_FILES: u64 = 65536;
const GLANCE: Duration = Duration::from_millis(500);

/// Starts the node with this configuration.
pub(crate) fn start(configuration: &str) -> Result<Child, GuestError> {
    let file = format!("{STATE}/node.toml");
    fs::write(&file, configuration).at(&file)?;
    give_up()?;
    say("starting the node");
    Command::new(PROGRAM)
        .args(["serve", "--config", &file])
        .env_clear()
        .env("HOME", STATE)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(console()?)
        .stderr(console()?)
        // Groups of the first process are given up with its user.
        .gid(NODE)
        .uid(NODE)
        .process_group(0)
        .spawn()
        .at(PROGRAM)
}

/// What the node is to inherit; this process keeps what it has.
fn give_up() -> Result<(), GuestError> {
    set_no_new_privs(true).at("no new privileges")?;
    for capability in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << capability))
        {
            Ok(()) => {}
            // Beyond the last that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error).at("capabilities"),
        }
    }
    let limit =
        |resource, most| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    limit(Resource::Core, 0).at("core dumps")?;
    limit(Resource::Nofile, OPEN_FILES).at("open files")
}

fn console() -> Result<Stdio, GuestError> {
    let path = "/dev/console";
    fs::OpenOptions::new().write(true).open(path).map(Stdio::from).at(path)
}

/// Waits until the node ends. It can start no process, so that nothing else is to be waited for.
pub(crate) fn wait(
    mut node: Child,
    mut network: Configured,
    mut collateral: Collateral,
) -> Result<ExitStatus, GuestError> {
    loop {
        if let Some(status) = node.try_wait().at(PROGRAM)? {
            return Ok(status);
        }
        network.renew();
        collateral.renew();
        thread::sleep(GLANCE);
    }
}
