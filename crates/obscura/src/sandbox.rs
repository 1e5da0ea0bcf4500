//! What a serving node gives up: everything the kernel offers that it needs only to load, or never.
//!
//! Whoever takes over a thread of the node can then start no program, look into no other process,
//! create no file, and open no socket but to the network.

use std::collections::BTreeMap;

use clap::ValueEnum;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op,
    SeccompCondition as Condition, SeccompFilter, SeccompRule as Rule,
};
use thiserror::Error;

/// Whether the node gives up what it needs no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SandboxChoice {
    /// Where the kernel lets it.
    Auto,
    /// Or the node does not serve.
    #[value(alias = "true")]
    On,
    #[value(alias = "false")]
    Off,
}

/// The kernel has no such filter, or does not let this process have one.
#[derive(Debug, Error)]
#[error("the kernel does not restrict this process (seccomp)")]
pub(crate) struct SandboxError(#[from] Error);

/// Restricts every thread of this process, from now on and for good, as `choice` says; tells the log
/// which it is.
///
/// # Errors
/// Where it must and the kernel does not let it.
pub(crate) fn enter(choice: SandboxChoice) -> Result<(), SandboxError> {
    let restricted = match choice {
        SandboxChoice::Off => {
            tracing::warn!("sandbox: off, by the setting `sandbox`");
            return Ok(());
        }
        SandboxChoice::Auto | SandboxChoice::On => restrict(seccompiler::apply_filter_all_threads),
    };
    match restricted {
        Ok(()) => tracing::info!("sandbox: on (no new programs, files or privileges)"),
        Err(error) if choice == SandboxChoice::On => return Err(error),
        Err(error) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "sandbox: off; with `sandbox = \"on\"` the node would not serve"
        ),
    }
    Ok(())
}

fn restrict(
    apply: fn(seccompiler::BpfProgramRef<'_>) -> seccompiler::Result<()>,
) -> Result<(), SandboxError> {
    // The later filter must not forbid to install the earlier one; both only ever take away.
    for filter in [unknown()?, forbidden()?] {
        apply(&filter)?;
    }
    Ok(())
}

/// Calls whose arguments lie in memory, where a filter cannot look. The C library falls back on the
/// older calls, whose flags the other filter sees, when these are said not to exist.
fn unknown() -> Result<BpfProgram, Error> {
    let calls = [libc::SYS_clone3, libc::SYS_openat2];
    compile(calls.map(|call| (call, Vec::new())), libc::ENOSYS)
}

/// Calls that are refused, always or with certain arguments.
fn forbidden() -> Result<BpfProgram, Error> {
    let always = NEVER_NEEDED.into_iter().map(|call| (call, Vec::new()));
    let sometimes = [
        // New processes; new threads share memory and belong to this one's group.
        (libc::SYS_clone, vec![lacks(0, libc::CLONE_THREAD as u64)?]),
        (libc::SYS_open, creating(1)?),
        (libc::SYS_openat, creating(2)?),
        (libc::SYS_socket, foreign_families()?),
        // What keeps core dumps and other processes away is not to be undone.
        (libc::SYS_prctl, vec![rule([is(0, libc::PR_SET_DUMPABLE as u64)?])?]),
    ];
    compile(always.chain(sometimes), libc::EPERM)
}

/// What no server needs: programs, other processes' memory, the kernel's own affairs.
const NEVER_NEEDED: [libc::c_long; 76] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_personality,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_quotactl,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_creat,
    libc::SYS_truncate,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
];

/// Opening a file that is not there, or emptying one that is. Devices are opened for reading and
/// writing, and the kernel's own files for writing, long after loading.
fn creating(flags: u8) -> Result<Vec<Rule>, Error> {
    // The one bit that O_TMPFILE has beside O_DIRECTORY's.
    let unnamed = libc::O_TMPFILE & !libc::O_DIRECTORY;
    [libc::O_CREAT, libc::O_TRUNC, unnamed]
        .map(|flag| rule([has(flags, flag as u64)?]))
        .into_iter()
        .collect()
}

/// Sockets that lead neither to the network nor to a process beside this one: a GPU's services listen
/// on local sockets, and the C library asks the kernel for its addresses when it looks up a name.
fn foreign_families() -> Result<Vec<Rule>, Error> {
    let kept = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let foreign: Vec<_> =
        kept.map(|family| is_not(0, family as u64)).into_iter().collect::<Result<_, _>>()?;
    let packets = |family: i32| {
        rule([
            is(0, family as u64)?,
            Condition::new(1, Len::Dword, Op::MaskedEq(0xf), libc::SOCK_RAW as u64)?,
        ])
    };
    let other_netlink =
        rule([is(0, libc::AF_NETLINK as u64)?, is_not(2, libc::NETLINK_ROUTE as u64)?])?;
    Ok(vec![Rule::new(foreign)?, packets(libc::AF_INET)?, packets(libc::AF_INET6)?, other_netlink])
}

fn compile(
    calls: impl IntoIterator<Item = (libc::c_long, Vec<Rule>)>,
    errno: libc::c_int,
) -> Result<BpfProgram, Error> {
    let mut rules: BTreeMap<i64, Vec<Rule>> = BTreeMap::new();
    for (call, when) in calls {
        rules.entry(call).or_default().extend(when.iter().cloned());
        #[cfg(target_arch = "x86_64")]
        rules.entry(call | X32).or_default().extend(when);
    }
    #[cfg(target_arch = "x86_64")]
    rules.extend(X32_ONLY.map(|call| (call | X32, Vec::new())));
    let errno = SeccompAction::Errno(errno.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, errno, arch)?.try_into()?)
}

/// The bit of calls with 32-bit pointers, which some kernels take under the same architecture.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;
/// Calls that exist with this bit alone, `execve` and `ptrace` among them.
#[cfg(target_arch = "x86_64")]
const X32_ONLY: [i64; 36] = {
    let mut calls = [512; 36];
    let mut at = 0;
    while at < calls.len() {
        calls[at] += at as i64;
        at += 1;
    }
    calls
};

fn rule<const N: usize>(conditions: [Condition; N]) -> Result<Rule, Error> {
    Ok(Rule::new(conditions.into())?)
}

fn is(argument: u8, value: u64) -> Result<Condition, Error> {
    Ok(Condition::new(argument, Len::Dword, Op::Eq, value)?)
}

fn is_not(argument: u8, value: u64) -> Result<Condition, Error> {
    Ok(Condition::new(argument, Len::Dword, Op::Ne, value)?)
}

fn has(argument: u8, bit: u64) -> Result<Condition, Error> {
    Ok(Condition::new(argument, Len::Dword, Op::MaskedEq(bit), bit)?)
}

fn lacks(argument: u8, bit: u64) -> Result<Rule, Error> {
    rule([Condition::new(argument, Len::Dword, Op::MaskedEq(bit), 0)?])
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File, OpenOptions},
        io::{ErrorKind, Read, Write},
        net::{TcpListener, TcpStream},
        os::unix::net::UnixDatagram,
        process::Command,
        thread,
    };

    use super::*;

    /// In a thread of its own, which the filter ends with.
    fn restricted(work: impl FnOnce() + Send + 'static) {
        let worker = thread::spawn(|| {
            restrict(seccompiler::apply_filter).unwrap();
            work();
        });
        worker.join().unwrap();
    }

    #[test]
    fn what_an_intruder_would_want_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("there");
        fs::write(&file, "kept").unwrap();
        let new = directory.path().join("new");
        restricted(move || {
            let refused = |result: std::io::Result<()>, what: &str| {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied, "{what}");
            };
            refused(Command::new("/bin/true").status().map(drop), "a program");
            refused(File::create(&new).map(drop), "a new file");
            refused(File::create(&file).map(drop), "a file emptied");
            refused(fs::rename(&file, &new), "a file renamed");
            refused(fs::hard_link(&file, &new), "a second name");
            refused(std::os::unix::fs::symlink(&file, &new), "a link");
            let raw = rustix::net::socket(
                rustix::net::AddressFamily::PACKET,
                rustix::net::SocketType::RAW,
                None,
            );
            refused(raw.map(drop).map_err(Into::into), "a packet socket");
            let dumpable =
                rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable);
            refused(dumpable.map_err(Into::into), "core dumps");
            assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
        });
    }

    #[test]
    fn what_a_node_needs_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("there");
        fs::write(&file, "").unwrap();
        restricted(move || {
            // As devices and the kernel's own files are opened.
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(&file)
                .unwrap()
                .write_all(b"ok")
                .unwrap();
            fs::create_dir(directory.path().join("entry")).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let sends = thread::spawn(move || {
                TcpStream::connect(address).unwrap().write_all(b"ok").unwrap();
            });
            let mut text = String::new();
            listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
            sends.join().unwrap();
            assert_eq!((text.as_str(), fs::read_to_string(&file).unwrap().as_str()), ("ok", "ok"));
            UnixDatagram::unbound().unwrap();
        });
    }
}
