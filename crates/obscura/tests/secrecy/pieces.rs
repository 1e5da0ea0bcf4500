//! Finds a secret in what was written, whole or in pieces.

use std::collections::{BTreeMap, HashSet};

use aho_corasick::AhoCorasick;
use base64::{Engine as _, prelude::BASE64_STANDARD};

/// Letters or numbers in a row that are no accident.
const RUN: usize = 5;
/// Bytes in a row that are none.
const WINDOW: usize = 9;

/// A secret, in every form in which it might be written.
pub(crate) struct Secret {
    name: String,
    /// Text to be found as it is.
    forms: Vec<(&'static str, Vec<u8>)>,
    /// Characters that may be written one at a time.
    letters: Vec<String>,
    /// Numbers that may be written one at a time, or as a list.
    numbers: Vec<(&'static str, Vec<i64>)>,
}

impl Secret {
    /// A prompt, and what its tokens are called.
    pub(crate) fn prompt(text: &str, tokens: &[Vec<u32>]) -> Self {
        let mut secret = Self::bytes("the prompt", text.as_bytes());
        let json = serde_json::to_string(text).unwrap();
        let ascii_json: String = text
            .encode_utf16()
            .map(|unit| match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => char::from(byte).to_string(),
                _ => format!("\\u{unit:04x}"),
            })
            .collect();
        let percent: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        secret.push("text", text);
        secret.push("JSON", json.trim_matches('"'));
        secret.push("JSON in ASCII", &ascii_json);
        secret.push("Rust", &text.escape_default().to_string());
        secret.windows("percent", percent.as_bytes(), 3 * WINDOW);
        secret.push("a URL", &text.replace(' ', "%20"));
        secret.push("a form", &text.replace(' ', "+"));
        for word in text.split_whitespace().filter(|word| word.chars().count() >= RUN) {
            secret.push("a word", word);
            secret.letters.push(word.to_lowercase());
        }
        secret
            .numbers
            .push(("characters", text.chars().map(|c| i64::from(u32::from(c))).collect()));
        for tokens in tokens {
            secret.numbers.push(("tokens", tokens.iter().map(|id| i64::from(*id)).collect()));
        }
        secret
    }

    /// Bytes that are no text. Of many, every part may be found.
    pub(crate) fn bytes(name: &str, bytes: &[u8]) -> Self {
        let mut secret =
            Self { name: name.to_owned(), forms: vec![], letters: vec![], numbers: vec![] };
        let lower: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        secret.windows("hex", lower.as_bytes(), 2 * WINDOW);
        secret.windows("hex", lower.to_uppercase().as_bytes(), 2 * WINDOW);
        for skipped in 0..3 {
            let aligned = BASE64_STANDARD.encode(bytes.get(skipped..).unwrap_or_default());
            // The last characters depend on what follows.
            let sure = aligned.trim_end_matches('=');
            secret.windows(
                "base64",
                &sure.as_bytes()[..sure.len().saturating_sub(2)],
                4 * WINDOW / 3,
            );
        }
        secret.windows("bytes", bytes, WINDOW);
        secret.numbers.push(("bytes", bytes.iter().map(|byte| i64::from(*byte)).collect()));
        secret
    }

    fn push(&mut self, form: &'static str, text: &str) {
        self.forms.push((form, text.as_bytes().to_vec()));
    }

    /// Up to a hundred stretches of so many bytes, wherever they vary.
    fn windows(&mut self, form: &'static str, bytes: &[u8], length: usize) {
        let step = (bytes.len() / 100).max(length / 2).max(1);
        let varied = |window: &&[u8]| {
            let mut distinct = window.to_vec();
            distinct.sort_unstable();
            distinct.dedup();
            distinct.len() >= 5
        };
        let windows = bytes.windows(length).step_by(step).filter(varied);
        self.forms.extend(windows.map(|window| (form, window.to_vec())));
    }
}

/// Where the secrets stand in what was written: what, in which form, and around it.
pub(crate) fn find(written: &[u8], secrets: &[Secret]) -> Vec<String> {
    let (names, forms): (Vec<_>, Vec<_>) = secrets
        .iter()
        .flat_map(|secret| secret.forms.iter().map(|(form, text)| ((&secret.name, form), text)))
        .unzip();
    let whole = AhoCorasick::new(forms).unwrap();
    let mut found: Vec<String> = whole
        .find_iter(written)
        .take(20)
        .map(|at| {
            let (name, form) = names[at.pattern()];
            let around = at.start().saturating_sub(60)..(at.end() + 40).min(written.len());
            format!("{name} as {form}: …{}…", String::from_utf8_lossy(&written[around]))
        })
        .collect();
    let columns = Columns::of(&String::from_utf8_lossy(written));
    let told: HashSet<&[i64]> = columns.numbers.iter().flat_map(|column| runs(column)).collect();
    for secret in secrets {
        for word in &secret.letters {
            let letters = word.chars().collect::<Vec<_>>();
            let runs = letters.windows(RUN).map(|run| run.iter().collect::<String>());
            for run in runs.filter(|run| columns.letters.iter().any(|column| column.contains(run)))
            {
                found.push(format!("{} letter by letter: {run:?}", secret.name));
            }
        }
        for (form, numbers) in &secret.numbers {
            for run in runs(numbers).filter(|run| told.contains(run)).take(1) {
                found.push(format!("{} as numbers of {form}: {run:?}", secret.name));
            }
        }
    }
    found
}

/// Numbers in a row that neither are nearly all the same nor count up, as those of a plain image, of a
/// file's header and of a log do; nor are all of one digit, as a log's milliseconds may be. What is told a
/// number at a time has others too.
fn runs(numbers: &[i64]) -> impl Iterator<Item = &[i64]> {
    numbers.windows(RUN).filter(|run| {
        let distinct: HashSet<_> = run.iter().collect();
        let steps: HashSet<_> = run.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let is_small = run.iter().all(|number| (0..10).contains(number));
        distinct.len() >= RUN - 1 && steps.len() >= RUN - 2 && !is_small
    })
}

/// What lines that are alike say at one place, line after line, and one line from left to right.
#[derive(Default)]
struct Columns {
    letters: Vec<String>,
    numbers: Vec<Vec<i64>>,
}

impl Columns {
    fn of(written: &str) -> Self {
        let mut by_place: BTreeMap<(String, usize), (String, Vec<i64>)> = BTreeMap::new();
        let mut columns = Self::default();
        for line in written.lines() {
            let (mut letters, mut numbers) = (String::new(), Vec::new());
            let words: Vec<&str> = words(line).collect();
            // Lines of one kind differ in their times, numbers and pieces.
            let varies = |word: &str| is_piece(word) || word.bytes().any(|b| b.is_ascii_digit());
            let shape: String =
                words.iter().map(|word| if varies(word) { "_" } else { *word }).collect();
            for (place, word) in words.iter().enumerate() {
                let column = by_place.entry((shape.clone(), place)).or_default();
                if let Ok(number) = word.parse() {
                    column.1.push(number);
                    numbers.push(number);
                } else if is_piece(word) {
                    let word = word.to_lowercase();
                    column.0.push_str(&word);
                    letters.push_str(&word);
                }
            }
            columns.letters.push(letters);
            columns.numbers.push(numbers);
        }
        for (letters, numbers) in by_place.into_values() {
            columns.letters.push(letters);
            columns.numbers.push(numbers);
        }
        columns
    }
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// So few letters that it may be a piece of a word.
fn is_piece(word: &str) -> bool {
    word.chars().count() <= 3
}

/// The finder finds: what a tokenizer of the trade tells when it may, and other ways to tell a secret.
#[test]
fn pieces_are_put_together() {
    let prompt = "a xylophonist and quagmires, \u{e9}t\u{e9}";
    let tokens = vec![vec![412, 7, 98, 100_000, 3, 55]];
    let secrets = [Secret::prompt(prompt, &tokens)];
    let hex: String = prompt.bytes().map(|byte| format!("{byte:02X}")).collect();
    let letters: String = "xylophonist"
        .chars()
        .map(|c| {
            format!(
                "2026-11-26T12:00:00.{}Z TRACE tokenizers::model: node, c='{c}' at=7\n",
                c as u32
            )
        })
        .collect();
    let codes: String =
        prompt.chars().map(|c| format!("TRACE piece code={} \n", c as u32)).collect();
    let list: Vec<String> = prompt.bytes().map(|byte| byte.to_string()).collect();
    let shifted = BASE64_STANDARD.encode(format!("{{\"prompt\":\"{prompt}\"}}"));
    for leak in [
        prompt.to_owned(),
        "the quagmires, are".to_owned(),
        hex,
        shifted[1..].to_owned(),
        letters,
        codes,
        format!("bytes: [{}]", list.join(", ")),
        "ids = [5, 412, 7, 98, 100000, 3, 9]".to_owned(),
        "%61%20%78%79%6C%6F%70%68%6F%6E%69%73%74%20%61%6E%64".to_owned(),
    ] {
        // Told among other things.
        let written = format!("INFO node: ready in 7 ms\n{leak}\nINFO node: answered status=200\n");
        assert!(!find(written.as_bytes(), &secrets).is_empty(), "{written}");
    }
    let innocent =
        "INFO request{id=00ab method=\"POST\"}: answered milliseconds=41 status=200\n".repeat(50);
    assert_eq!(find(innocent.as_bytes(), &secrets), Vec::<String>::new());
}
