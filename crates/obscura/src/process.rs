//! What keeps a running node's memory to itself, and how it is asked to stop.

use rustix::{
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit},
    thread::set_no_new_privs,
};

use crate::output::note;

/// No core dumps, and no reading of this process by others of the same user: a dump would hold
/// prompts and keys. No messages of panics either, which may quote what they tripped over. And no
/// privileges that this process does not have, by no program it could start.
///
/// Before there is a second thread: what is given up here, every later one has given up as well.
pub(crate) fn harden() -> anyhow::Result<()> {
    node::hide_panic_messages();
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_no_new_privs(true)?;
    Ok(())
}

/// Resolves when the process is asked to stop: SIGTERM, or Ctrl-C. Who asks once more does not wait for what still
/// runs: the process ends at once.
pub(crate) async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        return std::future::pending().await;
    };
    /// As shells say that a signal ended a program.
    const OF_SIGNAL: i32 = 128;
    let mut asked = async move || {
        tokio::select! {
            _ = terminate.recv() => OF_SIGNAL + 15,
            _ = interrupt.recv() => OF_SIGNAL + 2,
        }
    };
    asked().await;
    tokio::spawn(async move {
        let code = asked().await;
        note("stopped at once, as it was asked for twice");
        std::process::exit(code);
    });
}
