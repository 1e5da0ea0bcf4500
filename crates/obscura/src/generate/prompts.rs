//! What to draw: one prompt of the command line, or many, a line each.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use anyhow::{Context, ensure};
use protocol::Prompt;
use zeroize::Zeroizing;

/// Of a file of prompts.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// In one run.
const MAX_PROMPTS: usize = 10_000;

/// The prompt of the command line, or the lines of `file`; `-` is standard input, for both.
pub(super) fn read(prompt: Option<&str>, file: Option<&Path>) -> anyhow::Result<Vec<Prompt>> {
    match (prompt, file) {
        (Some("-"), _) => lines(&text(io::stdin().lock(), "standard input")?, "standard input"),
        (Some(prompt), _) => Ok(vec![Prompt::new(prompt.to_owned()).context("the prompt")?]),
        (None, Some(path)) if path == Path::new("-") => {
            lines(&text(io::stdin().lock(), "standard input")?, "standard input")
        }
        (None, Some(path)) => {
            let name = path.display().to_string();
            let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
            lines(&text(file, &name)?, &name)
        }
        (None, None) => anyhow::bail!("there is no prompt"),
    }
}

fn text(source: impl Read, name: &str) -> anyhow::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::new());
    source
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {name}"))?;
    ensure!(bytes.len() as u64 <= MAX_BYTES, "{name} is longer than {MAX_BYTES} bytes");
    let text = std::str::from_utf8(&bytes).with_context(|| format!("{name} is no UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Empty lines say nothing; a mark of byte order, as some editors leave it, is no letter.
fn lines(text: &str, name: &str) -> anyhow::Result<Vec<Prompt>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let prompts: Vec<Prompt> = lines
        .map(|(index, line)| {
            Prompt::new(line.trim().to_owned())
                .with_context(|| format!("{name}, line {}", index + 1))
        })
        .collect::<anyhow::Result<_>>()?;
    ensure!(!prompts.is_empty(), "{name} has no prompt");
    ensure!(prompts.len() <= MAX_PROMPTS, "{name} has more than {MAX_PROMPTS} prompts");
    Ok(prompts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_a_line() {
        let prompts = lines("\u{feff}a red circle\r\n\n  \n a blue square ", "x").unwrap();
        let prompts: Vec<_> = prompts.iter().map(Prompt::expose).collect();
        assert_eq!(prompts, ["a red circle", "a blue square"]);
        for (text, said) in [("\n \n", "x has no prompt"), ("a\n\0b", "x, line 2")] {
            let Err(error) = lines(text, "x") else { continue };
            assert!(format!("{error:#}").contains(said), "{error:#}");
        }
        assert!(lines("\n", "x").is_err());
        assert!(text(&b"\xff"[..], "x").is_err());
        assert!(text(io::repeat(b'a'), "x").is_err());
    }
}
