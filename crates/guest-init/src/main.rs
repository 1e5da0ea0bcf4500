//! The guest's first process, and but for the node the only one: no shell, no login, nothing that listens.
//! When the node ends, or anything is not as it should be, so does the machine.

mod boot;
mod collateral;
mod console;
mod device_mapper;
mod disks;
mod kernel;
mod mounts;
mod network;
mod process;
mod report;
mod tee;

use std::{thread, time::Duration};

use rustix::{
    fs::sync,
    system::{RebootCommand, reboot},
};

fn main() {
    match boot::run() {
        Ok(status) => console::say(&format!("the node ended: {status}")),
        Err(problem) => console::say(&format!("refused: {problem}")),
    }
    console::say("power off");
    sync();
    // The serial line is slower than the power switch.
    thread::sleep(Duration::from_millis(300));
    let _ = reboot(RebootCommand::PowerOff);
    // A first process that returns is a panic of the kernel, which ends the machine too.
}
