//! Images in terminals that show them: kitty's graphics protocol, iTerm2's inline images, sixels.

use std::{
    fmt::Write as _,
    io::{self, Cursor, IsTerminal, Write},
};

use base64_simd::STANDARD;
use clap::ValueEnum;
use image::{ImageFormat, RgbImage, imageops::FilterType};

use crate::decode::decode;

/// What the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PreviewChoice {
    /// What the terminal understands, where standard error is one
    Auto,
    Off,
    Kitty,
    Iterm2,
    Sixel,
}

/// How a terminal is told an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terminal {
    /// Of kitty, Ghostty, Konsole.
    Kitty,
    /// Of iTerm2, WezTerm, mintty.
    ITerm2,
    /// DEC's, of foot, mlterm, xterm where it is turned on.
    Sixel,
}

/// The longest side of what is shown, in pixels.
const SIDE_PX: u32 = 384;

impl PreviewChoice {
    /// Nothing where images are not wanted, or nothing could show them.
    pub(crate) fn terminal(self) -> Option<Terminal> {
        match self {
            Self::Off => None,
            Self::Kitty => Some(Terminal::Kitty),
            Self::Iterm2 => Some(Terminal::ITerm2),
            Self::Sixel => Some(Terminal::Sixel),
            Self::Auto if io::stderr().is_terminal() => detect(|name| std::env::var(name).ok()),
            Self::Auto => None,
        }
    }
}

/// By what terminals say of themselves. Behind tmux and screen nothing is shown: they pass on what they
/// understand alone.
fn detect(variable: impl Fn(&str) -> Option<String>) -> Option<Terminal> {
    let of = |name: &str| variable(name).unwrap_or_default();
    let (term, program) = (of("TERM"), of("TERM_PROGRAM"));
    if variable("TMUX").is_some() || term.starts_with("screen") || term.starts_with("tmux") {
        return None;
    }
    if variable("KITTY_WINDOW_ID").is_some() || term.contains("kitty") || term.contains("ghostty") {
        return Some(Terminal::Kitty);
    }
    if matches!(program.as_str(), "iTerm.app" | "WezTerm" | "mintty") {
        return Some(Terminal::ITerm2);
    }
    let knows_sixels = ["foot", "mlterm", "sixel", "yaft"];
    knows_sixels.into_iter().any(|name| term.contains(name)).then_some(Terminal::Sixel)
}

impl Terminal {
    /// Shows a PNG, JPEG or WebP, scaled down. What cannot be decoded is not shown.
    ///
    /// # Errors
    /// Where nothing can be written.
    pub(crate) fn show(self, file: &[u8], out: &mut dyn Write) -> io::Result<()> {
        let Some(image) = small(file) else { return Ok(()) };
        let shown = match self {
            Self::Sixel => sixels(&image),
            Self::Kitty => kitty(&png(&image)?),
            Self::ITerm2 => iterm2(&png(&image)?),
        };
        out.write_all(shown.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()
    }
}

/// The file's image, no larger than it is shown.
fn small(file: &[u8]) -> Option<RgbImage> {
    let image = decode(file)?;
    let image = match image.width().max(image.height()) {
        0..=SIDE_PX => image,
        _ => image.resize(SIDE_PX, SIDE_PX, FilterType::Triangle),
    };
    Some(image.into_rgb8())
}

fn png(image: &RgbImage) -> io::Result<Vec<u8>> {
    let mut file = Vec::new();
    image.write_to(&mut Cursor::new(&mut file), ImageFormat::Png).map_err(io::Error::other)?;
    Ok(file)
}

/// Kitty's graphics protocol: `a=T` sends and shows, `f=100` is PNG, `q=2` asks for no answer, `m` says
/// whether more chunks of at most 4096 bytes follow.
fn kitty(png: &[u8]) -> String {
    const CHUNK: usize = 4096;
    let base64 = STANDARD.encode_to_string(png);
    let chunks: Vec<&str> = (0..base64.len())
        .step_by(CHUNK)
        .map(|at| &base64[at..base64.len().min(at + CHUNK)])
        .collect();
    let mut shown = String::with_capacity(base64.len() + 64 * chunks.len());
    for (index, chunk) in chunks.iter().enumerate() {
        let first = if index == 0 { "a=T,f=100,q=2," } else { "" };
        let more = u8::from(index + 1 < chunks.len());
        let _ = write!(shown, "\x1b_G{first}m={more};{chunk}\x1b\\");
    }
    shown
}

/// iTerm2's OSC 1337.
fn iterm2(png: &[u8]) -> String {
    let size = png.len();
    format!("\x1b]1337;File=inline=1;size={size}:{}\x07", STANDARD.encode_to_string(png))
}

/// Of red, green and blue in a sixel's palette: 6 × 6 × 6 colours, as many as every terminal with sixels has.
const LEVELS: u32 = 6;

/// DEC sixels: bands of six rows, each colour's columns one after the other.
fn sixels(image: &RgbImage) -> String {
    let (width, height) = image.dimensions();
    let mut shown = format!("\x1bP0;1;q\"1;1;{width};{height}");
    for color in 0..LEVELS.pow(3) {
        let percent = |level: u32| level % LEVELS * 100 / (LEVELS - 1);
        let (red, green, blue) = (color / (LEVELS * LEVELS), color / LEVELS, color);
        let _ = write!(shown, "#{color};2;{};{};{}", percent(red), percent(green), percent(blue));
    }
    for top in (0..height).step_by(6) {
        let band: Vec<Vec<u32>> = (top..height.min(top + 6))
            .map(|y| (0..width).map(|x| color_of(image, x, y)).collect())
            .collect();
        let mut used: Vec<u32> = band.iter().flatten().copied().collect();
        used.sort_unstable();
        used.dedup();
        for color in used {
            let _ = write!(shown, "#{color}");
            let column = |x: usize| {
                let rows = band.iter().enumerate();
                rows.filter(|(_, row)| row[x] == color).fold(0_u8, |bits, (y, _)| bits | 1 << y)
            };
            let columns: Vec<u8> = (0..width as usize).map(column).collect();
            for run in columns.chunk_by(|a, b| a == b) {
                let sixel = char::from(b'?' + run[0]);
                match run.len() {
                    1..=3 => shown.extend(std::iter::repeat_n(sixel, run.len())),
                    length => {
                        let _ = write!(shown, "!{length}{sixel}");
                    }
                }
            }
            shown.push('$');
        }
        shown.push('-');
    }
    shown.push_str("\x1b\\");
    shown
}

/// The nearest colour of the palette, after an ordered dither (Bayer, 4 × 4).
fn color_of(image: &RgbImage, x: u32, y: u32) -> u32 {
    const BAYER: [[u32; 4]; 4] = [[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]];
    let threshold = BAYER[(y % 4) as usize][(x % 4) as usize];
    // 255 values in five gaps of 51; a sixteenth of a gap and a half is added, then the gap below is taken.
    let level = |value: u8| ((u32::from(value) * 32 + 51 * (2 * threshold + 1)) / (51 * 32)).min(5);
    let [red, green, blue] = image.get_pixel(x, y).0.map(level);
    (red * LEVELS + green) * LEVELS + blue
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> RgbImage {
        RgbImage::from_fn(8, 7, |x, y| image::Rgb(if x == y { [255; 3] } else { [255, 0, 0] }))
    }

    #[test]
    fn terminals_are_known_by_what_they_say() {
        let with = |pairs: &[(&str, &str)]| {
            detect(|name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(with(&[("TERM", "xterm-kitty")]), Some(Terminal::Kitty));
        assert_eq!(with(&[("TERM_PROGRAM", "iTerm.app")]), Some(Terminal::ITerm2));
        assert_eq!(with(&[("TERM", "foot-extra")]), Some(Terminal::Sixel));
        assert_eq!(with(&[("TERM", "xterm-256color")]), None);
        assert_eq!(with(&[("KITTY_WINDOW_ID", "1"), ("TMUX", "/tmp/x")]), None);
        assert_eq!(with(&[]), None);
    }

    #[test]
    fn kitty_gets_chunks_that_make_the_file_again() {
        let file = vec![7; 10_000];
        let shown = kitty(&file);
        let chunks: Vec<&str> = shown.split_terminator("\x1b\\").collect();
        assert!(chunks[0].starts_with("\x1b_Ga=T,f=100,q=2,m=1;"));
        assert!(chunks.last().unwrap().starts_with("\x1b_Gm=0;"));
        assert!(chunks.iter().all(|chunk| chunk.len() <= 4096 + 32));
        let base64: String = chunks.iter().map(|chunk| chunk.split_once(';').unwrap().1).collect();
        assert_eq!(STANDARD.decode_to_vec(base64).unwrap(), file);
    }

    /// Read back as a terminal would: every pixel of two colours.
    #[test]
    fn sixels_say_every_pixel() {
        let image = image();
        let shown = sixels(&image);
        assert!(shown.starts_with("\x1bP0;1;q\"1;1;8;7#0;2;0;0;0#1;2;0;0;20"), "{shown}");
        assert!(shown.contains("#215;2;100;100;100") && shown.ends_with("-\x1b\\"));
        let (white, red) = (215, 5 * 36);
        let bands = shown.split_once("#215;2;100;100;100").unwrap().1;
        // The first band has white on its diagonal: bits 1, 2, 4, … of its first six columns.
        assert!(bands.contains(&format!("#{white}@ACGO_??$")), "{bands}");
        assert!(bands.contains(&format!("#{red}}}|zvn^~~$")), "{bands}");
    }

    #[test]
    fn what_is_no_image_is_not_shown() {
        let mut out = Vec::new();
        for file in [&b""[..], b"\x89PNG\r\n\x1a\n", b"GIF89a"] {
            Terminal::Kitty.show(file, &mut out).unwrap();
        }
        assert!(out.is_empty());
        for terminal in [Terminal::Kitty, Terminal::ITerm2, Terminal::Sixel] {
            terminal.show(&png(&image()).unwrap(), &mut out).unwrap();
            assert!(out.starts_with(b"\x1b") && out.ends_with(b"\n"));
            out.clear();
        }
    }
}
