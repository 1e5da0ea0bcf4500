//! What keeps a running node's memory to itself, who computes after whom, and how it is asked to stop.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core dumps, and no reading of this process by others of the same user: a dump would hold
/// prompts and keys. No messages of panics either, which may quote what they tripped over.
pub(crate) fn harden() -> anyhow::Result<()> {
    node::hide_panic_messages();
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Threads that compute on the CPU give way to those that answer, so that a picture on the same cores
/// keeps no probe waiting.
pub(crate) fn answer_before_computing() {
    /// About a third of what a thread gets otherwise, where both have something to do.
    const NICER: i32 = 5;
    // Elsewhere than on Linux, niceness is the whole process's. What fails here costs time alone.
    if cfg!(target_os = "linux") {
        let pool = rayon::ThreadPoolBuilder::new().start_handler(|_| {
            let _ = rustix::process::nice(NICER);
        });
        let _ = pool.build_global();
    }
}

/// Resolves when the process is asked to stop: SIGTERM, or Ctrl-C.
pub(crate) async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        Ok(()) = tokio::signal::ctrl_c() => {}
    }
}
