//! File systems: the kernel's own, the measured root, memory for what is written.

use std::{env, ffi::CStr, fs, os::unix::fs::chown};

use guest_init::error::{Attempt, GuestError};
use rustix::{
    mount::{MountFlags, mount, mount_move},
    process::chroot,
};

use crate::console::say;

const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const READ_ONLY: MountFlags = MountFlags::RDONLY.union(MountFlags::NODEV).union(MountFlags::NOSUID);
/// The node's user and group.
pub(crate) const NODE: u32 = 65532;
/// Where the root is until it is the root.
const NEW_ROOT: &str = "/root";
/// What the node writes: RTMR3's log. And what it reads that this process writes.
pub(crate) const STATE: &str = "/run/obscura";
const CONFIGFS: &str = "/sys/kernel/config";
const TSM_REPORTS: &str = "/sys/kernel/config/tsm/report";

/// `/dev`, `/proc`, `/sys`.
pub(crate) fn kernel_interfaces() -> Result<(), GuestError> {
    let devices = MountFlags::NOSUID | MountFlags::NOEXEC;
    mounted("devtmpfs", "/dev", devices, c"mode=0755")?;
    // Nobody sees another's process.
    mounted("proc", "/proc", PLAIN, c"hidepid=2")?;
    mounted("sysfs", "/sys", PLAIN, c"")
}

/// Makes the verity device's file system the root.
pub(crate) fn enter_root(device: &str) -> Result<(), GuestError> {
    mount(device, NEW_ROOT, "erofs", READ_ONLY, c"").at("the root file system")?;
    for kept in ["/dev", "/proc", "/sys"] {
        mount_move(kept, format!("{NEW_ROOT}{kept}")).at(kept)?;
    }
    env::set_current_dir(NEW_ROOT).at(NEW_ROOT)?;
    mount_move(".", "/").at("the new root")?;
    chroot(".").at("the new root")?;
    env::set_current_dir("/").at("/")
}

/// The model's files, where the node looks for them.
pub(crate) fn model(device: &str) -> Result<(), GuestError> {
    mount(device, "/model", "erofs", READ_ONLY | MountFlags::NOEXEC, c"").at("the model's disk")
}

/// Memory that the node may write, and the TEE's interface.
pub(crate) fn for_the_node() -> Result<(), GuestError> {
    mounted("tmpfs", "/run", PLAIN, c"mode=0755,size=64m")?;
    mounted("tmpfs", "/tmp", PLAIN, c"mode=1777,size=64m")?;
    fs::create_dir(STATE).at(STATE)?;
    own(STATE)?;
    match mounted("configfs", CONFIGFS, PLAIN, c"") {
        Ok(()) if fs::exists(TSM_REPORTS).unwrap_or(false) => own(TSM_REPORTS),
        // Outside a TEE. A node that needs one finds that out itself, and ends.
        Ok(()) => Ok(()),
        Err(problem) => {
            say(&problem.to_string());
            Ok(())
        }
    }
}

/// Gives a file to the node's user.
pub(crate) fn own(path: &str) -> Result<(), GuestError> {
    chown(path, Some(NODE), Some(NODE)).at(path)
}

fn mounted(kind: &str, at: &str, flags: MountFlags, data: &CStr) -> Result<(), GuestError> {
    mount(kind, at, kind, flags, data).at(at)
}
