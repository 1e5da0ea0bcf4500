//! For trials, where the measured command line asks for it: what runs, what listens, and what the firmware
//! measured, on the console.

use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use guest_init::hex;
use rustix::mount::{MountFlags, mount};

use crate::console::say;

const NODE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const LOGS: [&str; 2] =
    ["/sys/kernel/security/tpm0/binary_bios_measurements", "/sys/firmware/acpi/tables/data/CCEL"];

/// Reports once the node is ready, from a thread of its own.
pub(crate) fn when_ready() {
    thread::spawn(|| {
        while !ready() {
            thread::sleep(Duration::from_millis(500));
        }
        let _ = mount("securityfs", "/sys/kernel/security", "securityfs", MountFlags::RDONLY, c"");
        for line in report().lines() {
            say(line);
        }
    });
}

fn ready() -> bool {
    let ask = || {
        let mut node = TcpStream::connect(NODE)?;
        node.set_read_timeout(Some(Duration::from_secs(5)))?;
        node.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        node.read_exact(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer == *b"HTTP/1.1 200")
}

fn report() -> String {
    let mut report = String::from("BEGIN REPORT\n");
    processes(&mut report);
    for table in ["tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet", "unix"] {
        let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let _ = writeln!(report, "SOCKET {table} {line}");
        }
    }
    for register in 0..24 {
        let path = format!("/sys/class/tpm/tpm0/pcr-sha384/{register}");
        if let Ok(value) = fs::read_to_string(path) {
            let _ = writeln!(report, "PCR {register} {}", value.trim().to_lowercase());
        }
    }
    for path in LOGS {
        let log = fs::read(path).unwrap_or_default();
        for line in log.chunks(64) {
            let _ = writeln!(report, "LOG {}", hex(line));
        }
    }
    report.push_str("END REPORT\n");
    report
}

/// Each process with its user, its capabilities, whether it may gain any, and its seccomp mode. Threads of
/// the kernel have no program.
fn processes(report: &mut String) {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for id in ids {
        let kernel = fs::read_link(format!("/proc/{id}/exe")).is_err();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_ascii_whitespace().next().unwrap_or_default().to_owned()
        };
        let kind = if kernel { "KTHREAD" } else { "PROCESS" };
        let _ = write!(report, "{kind} {id} {}", field("Name:"));
        for name in ["Uid:", "Gid:", "CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:"] {
            let _ = write!(report, " {name}{}", field(name));
        }
        report.push('\n');
    }
}
