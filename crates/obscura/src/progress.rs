//! Progress bars, where a terminal is there to show them.

use std::time::Duration;

use flux::LoadProgress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over the bytes of a model.
pub(crate) struct LoadBar(ProgressBar);

pub(crate) fn load() -> LoadBar {
    let template = "loading [{bar:30}] {bytes}/{total_bytes}  {bytes_per_sec}  {elapsed}";
    LoadBar(bar(0, template))
}

impl LoadBar {
    pub(crate) fn show(&self, progress: &LoadProgress) {
        self.0.set_length(progress.total_bytes);
        self.0.set_position(progress.done_bytes);
    }

    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// A bar over the bytes of a download.
#[cfg(feature = "download")]
pub(crate) fn transfer(total_bytes: u64) -> ProgressBar {
    let template = "{msg} [{bar:30}] {bytes}/{total_bytes}  {bytes_per_sec}  {eta} to go";
    bar(total_bytes, template)
}

const STEPS: &str = "{msg:>10} [{bar:30}] step {pos}/{len}  {elapsed}";

/// A bar over the steps of one request.
pub(crate) fn steps(steps: usize) -> ProgressBar {
    bar(steps as u64, STEPS).with_message("drawing")
}

/// A sign of life while a node is asked, until [`drawn`] makes a bar of it.
pub(crate) fn waiting() -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message("waiting for the node");
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// So many steps of the node's are done.
pub(crate) fn drawn(bar: &ProgressBar, step: u64, steps: u64) {
    if bar.length().is_none() && step > 0 {
        bar.set_style(style(STEPS));
        bar.set_message("drawing");
        bar.set_length(steps);
    }
    bar.set_position(step);
}

fn bar(length: u64, template: &str) -> ProgressBar {
    ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr())
        .with_style(style(template))
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("a template of this file");
    style.progress_chars("=> ")
}
