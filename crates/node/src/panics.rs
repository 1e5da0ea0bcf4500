//! A panic hook that logs where a panic happened, and not its message.

use std::panic;

/// From now on a panic tells where it happened and nothing else: its message may quote a prompt.
pub fn hide_panic_messages() {
    panic::set_hook(Box::new(|panic| match panic.location() {
        Some(place) => tracing::error!(file = place.file(), line = place.line(), "panic"),
        None => tracing::error!("panic"),
    }));
}
