//! What `obscura generate` prints: a line an image, as soon as its file is there.

use std::{
    io::{self, Write},
    path::Path,
    time::Instant,
};

use protocol::Size;
use serde_json::{Value, json};

/// Prints lines for people, or JSON for scripts: an object a line, `image` for each file and a `summary`
/// at the end.
pub(super) struct Report {
    form: Form,
    /// Standard output, but where the image itself goes there.
    to_stderr: bool,
    /// Whether nobody reads any more: the images are written all the same.
    is_unread: bool,
    images: usize,
    started: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
}

/// An image that is written.
pub(super) struct Made<'a> {
    pub(super) path: &'a Path,
    /// Of the file, in bytes.
    pub(super) bytes: usize,
    /// Which prompt, from 0.
    pub(super) prompt: usize,
    /// Which image of the prompt, from 0.
    pub(super) index: usize,
    pub(super) seed: Option<u64>,
    pub(super) size: Size,
    pub(super) format: &'static str,
    pub(super) model: &'a str,
}

impl Report {
    pub(super) fn new(form: Form, to_stderr: bool) -> Self {
        Self { form, to_stderr, is_unread: false, images: 0, started: Instant::now() }
    }

    pub(super) fn made(&mut self, made: &Made<'_>) -> io::Result<()> {
        self.images += 1;
        let seed = made.seed.map(|seed| format!("  seed {seed}")).unwrap_or_default();
        let line = match self.form {
            Form::Text => format!("{}  {}{seed}", made.path.display(), made.size),
            Form::Json => json!({
                "kind": "image", "path": made.path.to_string_lossy(), "bytes": made.bytes,
                "format": made.format, "size": made.size.to_string(), "seed": made.seed,
                "prompt": made.prompt, "index": made.index, "model": made.model,
            })
            .to_string(),
        };
        self.line(&line)
    }

    /// The end, with what is known besides.
    pub(super) fn summary(&mut self, besides: Value) -> io::Result<()> {
        if self.form == Form::Text {
            return Ok(());
        }
        let mut summary = json!({
            "kind": "summary", "images": self.images,
            "seconds": self.started.elapsed().as_secs_f64(),
        });
        if let (Some(summary), Value::Object(besides)) = (summary.as_object_mut(), besides) {
            summary.extend(besides);
        }
        self.line(&summary.to_string())
    }

    /// A line that is asked for by itself.
    pub(super) fn line(&mut self, line: &str) -> io::Result<()> {
        if self.is_unread {
            return Ok(());
        }
        let written = if self.to_stderr {
            writeln!(io::stderr(), "{line}")
        } else {
            let mut stdout = io::stdout().lock();
            writeln!(stdout, "{line}").and_then(|()| stdout.flush())
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_unread = true;
                Ok(())
            }
            written => written,
        }
    }
}
