//! HTTP/2 written out by hand (RFC 9113), for what no honest client sends.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A frame's type, RFC 9113, 6.
#[allow(missing_docs, reason = "named as there")]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Of DATA and HEADERS.
pub const END_STREAM: u8 = 1;
/// Of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// A connection, as its client sees it.
pub struct Http2(pub TcpStream);

/// A frame that the node sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in RFC 9113, 4.1")]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Http2 {
    /// Connects to `http://ADDRESS`, and lets each stream send so many bytes ahead.
    ///
    /// # Panics
    /// Where there is no connection.
    pub async fn connect(url: &str, window: u32) -> Self {
        let address = url.strip_prefix("http://").expect("a node's URL");
        let mut this = Self(TcpStream::connect(address).await.expect("a connection"));
        let mut settings = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        settings.extend(window.to_be_bytes());
        let hello = [PREFACE, &frame(kind::SETTINGS, 0, 0, &settings)].concat();
        assert!(this.write(&hello).await, "the node takes the preface");
        this
    }

    /// Whether all of it could be written.
    pub async fn write(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// Opens a stream with a request that has no body.
    ///
    /// # Panics
    /// Where the node takes nothing any more.
    pub async fn request(&mut self, stream: u32, path: &str) {
        let bytes = frame(kind::HEADERS, END_STREAM | END_HEADERS, stream, &head("GET", path, &[]));
        assert!(self.write(&bytes).await, "the node takes the request");
    }

    /// The next frame; `None` at the end, however the connection ended.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of this type; `None` where the connection ends before.
    pub async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }
}

/// A frame as it travels.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is small").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A request's head in HPACK (RFC 7541, 6.2.2): literals that are never indexed, in plain text.
#[must_use]
pub fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let all =
        [(":method", method), (":scheme", "http"), (":authority", "localhost"), (":path", path)];
    let mut bytes = Vec::new();
    for (name, value) in all.iter().chain(headers) {
        bytes.push(0);
        for text in [name, value] {
            bytes.push(u8::try_from(text.len()).expect("short"));
            assert!(text.len() < 127, "one byte of length");
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}
