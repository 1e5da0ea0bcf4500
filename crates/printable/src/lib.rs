//! Text of strangers, fit for a terminal, a log or a page.
//!
//! Whatever a peer, a file or a driver says is shown as [`Printable`], and what was not printed as such
//! passes [`terminal`] on its way out. A terminal obeys what it is sent: control characters move its
//! cursor and erase what stands there, marks of direction swap words, and marks of no width hide them.

use std::fmt::{self, Display, Write};

use serde::{Serialize, Serializer};

/// The most characters that are kept of what a stranger says.
pub const MAX_CHARS: usize = 512;

/// One bounded line of text: printable characters, and everything else by its code.
///
/// Kept are letters, digits, signs and single spaces. Control and format characters (ANSI sequences,
/// marks of direction, characters of no width), combining marks, private and unassigned characters,
/// line ends and tabs are written as `\u{1b}`, `\n`, `\t`; a backslash as two, so that nothing can be
/// mistaken for such a code. Runs of spaces become one: nobody fills a line to reach the next.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Printable(String);

impl Printable {
    /// At most [`MAX_CHARS`] of `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut line = Line::default();
        let _ = line.write_str(text);
        line.finish()
    }

    /// What something says of itself. It is not asked for more than is kept.
    #[must_use]
    pub fn of(text: &(impl Display + ?Sized)) -> Self {
        let mut line = Line::default();
        // An error is how writing ends where there is no more room.
        let _ = write!(line, "{text}");
        line.finish()
    }

    /// Bytes that may be text.
    #[must_use]
    pub fn bytes(bytes: &[u8]) -> Self {
        // No character takes more than four bytes.
        let bounded = &bytes[..bytes.len().min(4 * (MAX_CHARS + 1))];
        Self::new(&String::from_utf8_lossy(bounded))
    }

    /// The line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The line.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Display for Printable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Printable {
    /// Not escaped a second time.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

impl From<&str> for Printable {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Printable {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl Serialize for Printable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Our own text on its way to a terminal, in which a stranger's may be: lines are kept, and each after
/// the first is indented, so that no line begins as one of ours does. Everything else is as in
/// [`Printable`], but spaces and backslashes, which our own text has too, and length.
#[must_use]
pub fn terminal(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            shown.push_str("\n    ");
        }
        for character in line.chars() {
            match character {
                '\\' => shown.push(character),
                _ => push(&mut shown, character),
            }
        }
    }
    shown
}

/// A line being written.
#[derive(Default)]
struct Line {
    text: String,
    chars: usize,
    /// More was said.
    cut: bool,
}

impl Line {
    fn finish(mut self) -> Printable {
        if self.cut {
            self.text.push('…');
        }
        Printable(self.text)
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if character == ' ' && self.text.ends_with(' ') {
                continue;
            }
            if self.chars == MAX_CHARS {
                self.cut = true;
                return Err(fmt::Error);
            }
            self.chars += 1;
            push(&mut self.text, character);
        }
        Ok(())
    }
}

/// `escape_debug` leaves what is printable, by Unicode's categories, but escapes quotes, which hurt
/// nobody.
fn push(shown: &mut String, character: char) {
    match character {
        '\'' | '"' => shown.push(character),
        _ => shown.extend(character.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for (hostile, shown) in [
            ("\u{1b}[2J\u{1b}[HACCEPTED", "\\u{1b}[2J\\u{1b}[HACCEPTED"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("no\r\nACCEPTED: tdx", "no\\r\\nACCEPTED: tdx"),
            ("a\u{8}\u{7f}b", "a\\u{8}\\u{7f}b"),
            ("\u{202e}DETPECCA\u{2066}", "\\u{202e}DETPECCA\\u{2066}"),
            ("a\u{200b}\u{feff}\u{ad}\u{2060}b", "a\\u{200b}\\u{feff}\\u{ad}\\u{2060}b"),
            ("line\u{2028}paragraph\u{2029}\u{85}", "line\\u{2028}paragraph\\u{2029}\\u{85}"),
            ("e\u{301}\u{301}\u{301}", "e\\u{301}\\u{301}\\u{301}"),
            ("a\u{a0}\u{3000}b", "a\\u{a0}\\u{3000}b"),
            ("\u{e000}\u{f0000}\u{e0041}", "\\u{e000}\\u{f0000}\\u{e0041}"),
            ("a          b", "a b"),
            (r"\u{1b}", r"\\u{1b}"),
            ("“ünï” 'quoted' \"text\" 東京", "“ünï” 'quoted' \"text\" 東京"),
        ] {
            assert_eq!(Printable::new(hostile).as_str(), shown);
            assert_eq!(format!("{:?}", Printable::new(hostile)), format!("\"{shown}\""));
        }
        assert_eq!(Printable::bytes(b"\xff\x1b").as_str(), "\u{fffd}\\u{1b}");
    }

    #[test]
    fn every_control_and_format_character_is_escaped_everywhere() {
        let hostile = ('\0'..=' ').chain('\u{7f}'..='\u{a0}').chain('\u{200b}'..='\u{200f}');
        let hostile = hostile.chain('\u{2028}'..='\u{202e}').chain('\u{2060}'..='\u{206f}');
        for character in hostile.filter(|character| !matches!(character, ' ' | '\n')) {
            let text = character.to_string();
            assert!(Printable::new(&text).as_str().is_ascii(), "{character:?}");
            assert!(terminal(&text).is_ascii(), "{character:?}");
            assert!(!terminal(&text).contains(character), "{character:?}");
        }
    }

    #[test]
    fn what_is_said_is_bounded_and_so_is_the_work() {
        let long = Printable::new(&"x".repeat(1 << 20));
        assert_eq!(long.as_str().chars().count(), MAX_CHARS + 1);
        assert!(long.as_str().ends_with('…'));
        let exact = "x".repeat(MAX_CHARS);
        assert_eq!(Printable::new(&exact).as_str(), exact);

        /// Never ends of itself.
        struct Endless;
        impl Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("more\n")?;
                }
            }
        }
        assert!(Printable::of(&Endless).as_str().starts_with("more\\nmore"));
    }

    #[test]
    fn our_own_lines_stay_and_a_strangers_do_not_begin_one() {
        let text = "cannot read: \u{1b}[2J\nACCEPTED: tdx";
        assert_eq!(terminal(text), "cannot read: \\u{1b}[2J\n    ACCEPTED: tdx");
    }
}
