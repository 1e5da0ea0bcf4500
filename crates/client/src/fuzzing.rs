//! The reader of event streams, for fuzzing: it takes the bytes of one.

use crate::lines::{LineCutter, StreamLimits};

/// Small, so that short inputs reach every bound.
const LIMITS: StreamLimits = StreamLimits { bytes: 32 * 1024, line_bytes: 1024, lines: 256 };

/// What the messages of a stream say that comes in chunks of so many bytes, up to the first bound that
/// it breaks.
///
/// # Panics
/// Where the messages are others than the lines of `stream` say, or are beyond the bounds: a finding.
#[must_use]
pub fn messages(stream: &[u8], chunk_bytes: usize) -> Vec<Vec<u8>> {
    let mut cutter = LineCutter::new(LIMITS);
    let mut found = Vec::new();
    let mut is_whole = true;
    for chunk in stream.chunks(chunk_bytes.max(1)) {
        is_whole &= cutter.push(chunk).is_ok();
        while is_whole {
            match cutter.next_data() {
                Ok(Some(data)) => found.push(data),
                Ok(None) => break,
                Err(_) => is_whole = false,
            }
        }
        if !is_whole {
            break;
        }
    }
    let (lines, _cut) =
        stream.split_at(stream.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1));
    let expected: Vec<&[u8]> = lines
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_prefix(b"data:").map(<[u8]>::trim_ascii))
        .collect();
    assert!(
        found.len() <= LIMITS.lines && found.iter().all(|data| data.len() <= LIMITS.line_bytes)
    );
    match is_whole {
        true => assert_eq!(found, expected),
        false => assert!(
            found.len() <= expected.len() && found.iter().zip(&expected).all(|(a, b)| a == b)
        ),
    }
    found
}
