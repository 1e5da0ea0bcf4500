//! The kernel: its modules, and what is taken from it before anything from outside is served.

use std::{fs, io, path::PathBuf};

use guest_init::error::{Attempt, GuestError};
use rustix::{io::Errno, system::finit_module};

use crate::console::say;

const MODULES: &str = "/modules";

/// Loads what the initrd brings, by name. A driver whose device is not there, as a TEE's elsewhere, is no error.
pub(crate) fn load_modules() -> Result<(), GuestError> {
    let entries = match fs::read_dir(MODULES) {
        // A kernel that has everything built in.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.at(MODULES)?,
    };
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>().at(MODULES)?;
    paths.sort();
    for path in paths {
        let shown = path.display().to_string();
        let file = fs::File::open(&path).at(&shown)?;
        match finit_module(&file, c"", 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(Errno::NODEV) => say(&format!("{shown}: no such device")),
            Err(error) => return Err(error).at(shown),
        }
    }
    Ok(())
}

/// Closes ways by which a process that was taken over could reach the kernel. A kernel that was built without
/// such a way does not have its switch.
pub(crate) fn close() -> Result<(), GuestError> {
    for (file, value) in [
        ("/proc/sys/kernel/modules_disabled", "1"),
        ("/proc/sys/kernel/kexec_load_disabled", "1"),
        ("/proc/sys/kernel/sysrq", "0"),
        ("/proc/sys/kernel/core_pattern", "|/nothing"),
        ("/proc/sys/kernel/dmesg_restrict", "1"),
        ("/proc/sys/kernel/kptr_restrict", "2"),
        ("/proc/sys/kernel/perf_event_paranoid", "3"),
        ("/proc/sys/kernel/yama/ptrace_scope", "3"),
        ("/proc/sys/kernel/unprivileged_bpf_disabled", "2"),
        ("/proc/sys/kernel/io_uring_disabled", "2"),
        ("/proc/sys/user/max_user_namespaces", "0"),
        ("/proc/sys/vm/unprivileged_userfaultfd", "0"),
    ] {
        match fs::write(file, value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            written => written.at(file)?,
        }
    }
    Ok(())
}
