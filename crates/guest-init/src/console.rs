//! The console, which belongs to the host: what is said here is said to it.

use std::{fs::OpenOptions, io::Write};

const CONSOLE: &str = "/dev/console";

/// Says one line, where there is a console.
pub(crate) fn say(text: &str) {
    if let Ok(mut console) = OpenOptions::new().write(true).open(CONSOLE) {
        let _ = writeln!(console, "guest-init: {text}");
    }
}
