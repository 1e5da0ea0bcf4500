//! How far a command is: on a terminal one line that is written anew, elsewhere a line now and then.
//!
//! What takes less than a second says nothing.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use flux::LoadProgress;
#[cfg(feature = "download")]
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Until the first line.
const FIRST: Duration = Duration::from_secs(1);
/// Between two lines where each stays: in a file, in the log of a job.
const BETWEEN_LINES: Duration = Duration::from_secs(10);
/// Between two looks of a terminal's line.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// Of a terminal that does not tell.
const USUAL_COLUMNS: usize = 80;

/// What a command is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Reading a model's files.
    Loading { done_bytes: u64, total_bytes: u64 },
    /// Making random weights.
    Preparing,
    /// A node is asked, and has not begun.
    Waiting,
    /// The text encoders are at work.
    Reading,
    /// Steps done of those of all images.
    Drawing { step: u64, steps: u64, images: u64 },
    /// Images done of all.
    Decoding { image: u64, images: u64 },
}

/// Shows the phase that a command is in, until it is dropped.
pub(crate) struct Progress {
    shared: Arc<Shared>,
    ticker: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    on_terminal: bool,
}

struct State {
    started: Instant,
    phase: Phase,
    /// When this kind of phase began, and with how much done: the pace is counted from there.
    since: (Instant, u64),
    /// Which prompt of how many.
    prompt: Option<(usize, usize)>,
    /// Whether a line stands on the terminal.
    is_shown: bool,
    is_over: bool,
}

impl Progress {
    pub(crate) fn begin(phase: Phase) -> Self {
        let now = Instant::now();
        let state = State {
            started: now,
            phase,
            since: (now, phase.done().0),
            prompt: None,
            is_shown: false,
            is_over: false,
        };
        let on_terminal = io::stderr().is_terminal();
        let shared = Shared { state: Mutex::new(state), changed: Condvar::new(), on_terminal };
        let shared = Arc::new(shared);
        let ticker = thread::Builder::new().name("progress".to_owned()).spawn({
            let shared = shared.clone();
            move || shared.show()
        });
        // Without the thread nothing is shown, and nothing is lost.
        Self { shared, ticker: ticker.ok() }
    }

    pub(crate) fn set(&self, phase: Phase) {
        let mut state = self.shared.lock();
        if std::mem::discriminant(&state.phase) != std::mem::discriminant(&phase) {
            state.since = (Instant::now(), phase.done().0);
        }
        state.phase = phase;
    }

    /// From now on it is this prompt's turn.
    pub(crate) fn set_prompt(&self, number: usize, of: usize) {
        self.shared.lock().prompt = (of > 1).then_some((number, of));
    }

    /// Writes something else, where the line stood.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        let mut state = self.shared.lock();
        self.shared.clear(&mut state);
        write()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_over = true;
        self.shared.clear(&mut state);
        drop(state);
        self.shared.changed.notify_all();
        if let Some(ticker) = self.ticker.take() {
            // It has written its last line, or nothing is shown any more.
            let _ = ticker.join();
        }
    }
}

impl Shared {
    fn show(&self) {
        let mut wait = FIRST;
        let mut state = self.lock();
        loop {
            let until = Instant::now() + wait;
            while !state.is_over {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let waited = self.changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            if state.is_over {
                return;
            }
            let mut stderr = io::stderr().lock();
            // Who does not read what is written here misses nothing else.
            if self.on_terminal {
                let line = state.line(Instant::now(), columns());
                state.is_shown = true;
                let _ = write!(stderr, "\r\x1b[2K{line}").and_then(|()| stderr.flush());
                wait = BETWEEN_LOOKS;
            } else {
                let _ = writeln!(stderr, "{}", state.line(Instant::now(), usize::MAX));
                wait = BETWEEN_LINES;
            }
        }
    }

    fn clear(&self, state: &mut State) {
        if state.is_shown {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[2K").and_then(|()| stderr.flush());
            state.is_shown = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Phase {
    /// How much is done of how much; of nothing where nobody knows.
    fn done(self) -> (u64, u64) {
        match self {
            Self::Loading { done_bytes, total_bytes } => (done_bytes, total_bytes),
            Self::Drawing { step, steps, .. } => (step, steps),
            Self::Decoding { image, images } => (image, images),
            Self::Preparing | Self::Waiting | Self::Reading => (0, 0),
        }
    }

    fn text(self) -> String {
        let of = |image: u64, images: u64| match images {
            0 | 1 => String::new(),
            _ => format!(" image {} of {images},", image.saturating_add(1).min(images)),
        };
        match self {
            Self::Loading { done_bytes, total_bytes } => {
                let gigabytes = |bytes: u64| bytes as f64 / 1e9;
                format!("loading {:.1} of {:.1} GB", gigabytes(done_bytes), gigabytes(total_bytes))
            }
            Self::Preparing => "making random weights".to_owned(),
            Self::Waiting => "waiting for the node".to_owned(),
            Self::Reading => "reading the prompt".to_owned(),
            Self::Drawing { step, steps, images } => {
                let image = step.checked_div((steps / images.max(1)).max(1)).unwrap_or(0);
                format!("drawing{} step {step} of {steps}", of(image, images))
            }
            Self::Decoding { image, images } => {
                format!("decoding{}", of(image, images)).trim_end_matches(',').to_owned()
            }
        }
    }
}

impl State {
    /// What there is to say, in at most so many columns but one, where a cursor can stand.
    fn line(&self, now: Instant, columns: usize) -> String {
        const BAR: usize = 20;
        let prompt = self.prompt.map(|(number, of)| format!("prompt {number} of {of}: "));
        let text = format!("{}{}", prompt.unwrap_or_default(), self.phase.text());
        let elapsed = seconds(now.saturating_duration_since(self.started));
        let left = self.left(now).map(|left| format!(", about {} left", seconds(left)));
        let times = format!("{elapsed}{}", left.unwrap_or_default());
        let (done, all) = self.phase.done();
        let room = columns.saturating_sub(1);
        let bar = (all > 0).then(|| {
            let full = (done.min(all) as u128 * BAR as u128 / u128::from(all)) as usize;
            format!("  [{}{}]", "=".repeat(full), " ".repeat(BAR - full))
        });
        let bar = bar.filter(|bar| text.len() + bar.len() + 2 + times.len() <= room);
        let line = format!("{text}{}  {times}", bar.unwrap_or_default());
        // Of this file's letters, each one column wide.
        line.chars().take(room).collect()
    }

    /// By the pace since the phase began.
    fn left(&self, now: Instant) -> Option<Duration> {
        let (done, all) = self.phase.done();
        let (since, before) = self.since;
        let made = done.checked_sub(before).filter(|made| *made > 0)?;
        let pace = now.saturating_duration_since(since).as_secs_f64() / made as f64;
        Duration::try_from_secs_f64(pace * all.saturating_sub(done) as f64).ok()
    }
}

/// `9 s`, `2 min 5 s`, `1 h 2 min`.
fn seconds(time: Duration) -> String {
    let secs = time.as_secs();
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{} min {} s", secs / 60, secs % 60),
        _ => format!("{} h {} min", secs / 3600, secs % 3600 / 60),
    }
}

/// How wide the terminal is now.
fn columns() -> usize {
    let size = console::Term::stderr().size_checked();
    size.map_or(USUAL_COLUMNS, |(_, columns)| usize::from(columns))
}

/// Progress over the bytes of a model.
pub(crate) struct LoadBar(Progress);

pub(crate) fn load() -> LoadBar {
    LoadBar(Progress::begin(Phase::Loading { done_bytes: 0, total_bytes: 0 }))
}

impl LoadBar {
    pub(crate) fn show(&self, progress: &LoadProgress) {
        let LoadProgress { done_bytes, total_bytes, .. } = *progress;
        self.0.set(Phase::Loading { done_bytes, total_bytes });
    }

    pub(crate) fn finish(self) {
        drop(self);
    }
}

/// A bar over the bytes of a download.
#[cfg(feature = "download")]
pub(crate) fn transfer(total_bytes: u64) -> ProgressBar {
    let template = "{msg} [{wide_bar}] {bytes}/{total_bytes}  {bytes_per_sec}  {eta} to go";
    let style = ProgressStyle::with_template(template).expect("a template of this file");
    ProgressBar::with_draw_target(Some(total_bytes), ProgressDrawTarget::stderr())
        .with_style(style.progress_chars("=> "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(phase: Phase, now: Instant) -> State {
        let (started, since) = (now, (now, 0));
        State { started, phase, since, prompt: None, is_shown: false, is_over: false }
    }

    #[test]
    fn a_line_says_which_image_how_far_and_how_long() {
        let now = Instant::now();
        let later = now + Duration::from_secs(10);
        let state = state(Phase::Drawing { step: 5, steps: 12, images: 3 }, now);
        let said = state.line(later, 100);
        assert_eq!(
            said,
            "drawing image 2 of 3, step 5 of 12  [========            ]  10 s, about 14 s left"
        );
        let state = State { prompt: Some((2, 7)), phase: Phase::Reading, ..state };
        assert_eq!(state.line(later, 100), "prompt 2 of 7: reading the prompt  10 s");
        let alone = Phase::Drawing { step: 4, steps: 4, images: 1 };
        assert_eq!(alone.text(), "drawing step 4 of 4");
        assert_eq!(Phase::Decoding { image: 1, images: 3 }.text(), "decoding image 2 of 3");
        assert_eq!(Phase::Decoding { image: 0, images: 1 }.text(), "decoding");
    }

    #[test]
    fn no_line_is_as_wide_as_its_terminal() {
        let now = Instant::now();
        let later = now + Duration::from_secs(9000);
        for phase in [
            Phase::Loading { done_bytes: 17_000_000_000, total_bytes: 34_000_000_000 },
            Phase::Drawing { step: u64::MAX, steps: u64::MAX, images: u64::MAX },
            Phase::Drawing { step: 0, steps: 0, images: 0 },
            Phase::Waiting,
        ] {
            for columns in [0, 1, 20, 60, 300] {
                let line = state(phase, now).line(later, columns);
                assert!(line.len() <= columns.saturating_sub(1), "{columns}: {line}");
            }
        }
        let wide = state(Phase::Loading { done_bytes: 1, total_bytes: 2 }, now);
        assert!(wide.line(later, usize::MAX).contains("2 h 30 min, about 2 h 30 min left"));
    }
}
