//! Progress bars, where a terminal is there to show them.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over the steps of one request.
pub(crate) fn steps(steps: usize) -> ProgressBar {
    bar(steps as u64, "{msg:>10} [{bar:30}] step {pos}/{len}  {elapsed}").with_message("drawing")
}

/// A sign of life while a node draws: version 1 of the wire tells no steps.
pub(crate) fn waiting() -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message("waiting for the node");
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("a template of this file");
    ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr())
        .with_style(style.progress_chars("=> "))
}
