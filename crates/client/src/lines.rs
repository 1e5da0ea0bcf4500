//! Lines out of chunks, and messages out of lines: in time that grows as the bytes do, and within
//! bounds.

use crate::error::HttpError;

/// How much of a stream is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamLimits {
    /// In all.
    pub(crate) bytes: usize,
    /// Of one line.
    pub(crate) line_bytes: usize,
    /// Empty ones and comments too.
    pub(crate) lines: usize,
}

/// What has come of a stream and is not read yet.
pub(crate) struct LineCutter {
    limits: StreamLimits,
    buffer: Vec<u8>,
    /// Where the next line begins. What is before it is forgotten when more comes, not line by line.
    start: usize,
    /// Up to where there is no end of a line.
    searched: usize,
    bytes: usize,
    lines: usize,
}

impl LineCutter {
    pub(crate) fn new(limits: StreamLimits) -> Self {
        Self { limits, buffer: Vec::new(), start: 0, searched: 0, bytes: 0, lines: 0 }
    }

    /// Adds what came.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<(), HttpError> {
        self.bytes = self.bytes.saturating_add(chunk.len());
        if self.bytes > self.limits.bytes {
            return Err(HttpError::TooLong { max_bytes: self.limits.bytes });
        }
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        // Whole lines may lie in a chunk: what counts is what stays of the last one.
        if self.buffer.len() > self.limits.line_bytes {
            return Err(HttpError::TooLong { max_bytes: self.limits.line_bytes });
        }
        self.buffer.extend_from_slice(chunk);
        Ok(())
    }

    /// What the next message says, as far as this protocol uses event streams: a message is one line
    /// of `data`.
    pub(crate) fn next_data(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
        while let Some(line) = self.next_line()? {
            // Comments keep the connection alive; names and ids say nothing that a proxy could not
            // have changed.
            if let Some(data) = line.strip_prefix(b"data:") {
                return Ok(Some(data.trim_ascii().to_vec()));
            }
        }
        Ok(None)
    }

    /// The next whole line, without its end.
    pub(crate) fn next_line(&mut self) -> Result<Option<&[u8]>, HttpError> {
        let end = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| self.searched + end) else {
            self.searched = self.buffer.len();
            return Ok(None);
        };
        self.lines += 1;
        if self.lines > self.limits.lines {
            return Err(HttpError::TooManyLines { max_lines: self.limits.lines });
        }
        let start = std::mem::replace(&mut self.start, end + 1);
        self.searched = end + 1;
        if end - start > self.limits.line_bytes {
            return Err(HttpError::TooLong { max_bytes: self.limits.line_bytes });
        }
        Ok(Some(&self.buffer[start..end]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: StreamLimits = StreamLimits { bytes: 1 << 30, line_bytes: 64, lines: 1 << 30 };

    fn lines(cutter: &mut LineCutter) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = cutter.next_line().unwrap() {
            lines.push(String::from_utf8(line.to_vec()).unwrap());
        }
        lines
    }

    #[test]
    fn lines_are_the_same_however_they_are_chopped() {
        let text = b"data: one\n\n: comment\ndata: two\r\n\nrest";
        for size in 1..=text.len() {
            let mut cutter = LineCutter::new(LIMITS);
            let mut found = Vec::new();
            for chunk in text.chunks(size) {
                cutter.push(chunk).unwrap();
                found.extend(lines(&mut cutter));
            }
            assert_eq!(found, ["data: one", "", ": comment", "data: two\r", ""], "{size}");
        }
    }

    /// What once took seconds: every line moved all that came after it.
    #[test]
    fn a_flood_of_line_ends_moves_nothing() {
        let mut cutter = LineCutter::new(LIMITS);
        cutter.push(&[b'\n'; 1 << 24]).unwrap();
        let buffer = cutter.buffer.as_ptr();
        let mut found = 0_usize;
        while cutter.next_line().unwrap().is_some() {
            found += 1;
        }
        assert_eq!(found, 1 << 24);
        assert_eq!((cutter.buffer.as_ptr(), cutter.buffer.len()), (buffer, 1 << 24));
        cutter.push(b"x").unwrap();
        assert_eq!(cutter.buffer, b"x");
    }

    #[test]
    fn every_bound_holds() {
        let mut many = LineCutter::new(StreamLimits { lines: 2, ..LIMITS });
        many.push(b"\n\n\n").unwrap();
        assert!(many.next_line().unwrap().is_some() && many.next_line().unwrap().is_some());
        assert!(matches!(many.next_line(), Err(HttpError::TooManyLines { max_lines: 2 })));

        let mut long = LineCutter::new(StreamLimits { bytes: 100, ..LIMITS });
        long.push(&[b'\n'; 99]).unwrap();
        assert!(matches!(long.push(b"xx"), Err(HttpError::TooLong { max_bytes: 100 })));

        let mut line = LineCutter::new(LIMITS);
        let endless = (0..1000)
            .find_map(|_| line.push(&[b'x'; 10]).and_then(|()| line.next_line().map(|_| ())).err());
        assert!(matches!(endless, Some(HttpError::TooLong { max_bytes: 64 })));
        assert!(line.buffer.len() < 100);

        let mut whole = LineCutter::new(LIMITS);
        whole.push(&[[b'x'; 65].as_slice(), b"\n"].concat()).unwrap();
        assert!(matches!(whole.next_line(), Err(HttpError::TooLong { max_bytes: 64 })));
    }
}
