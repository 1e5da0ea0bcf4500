//! A relay that records what goes to a node.

use std::sync::{Arc, Mutex};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What was sent, as it was.
#[derive(Clone, Default)]
pub(super) struct Wire(Arc<Mutex<Vec<u8>>>);

impl Wire {
    /// Relays to `upstream`; gives the relay's own URL.
    pub(super) async fn before(upstream: std::net::SocketAddr) -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let wire = Self::default();
        let recorded = wire.clone();
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                tokio::spawn(recorded.clone().relay(caller, upstream));
            }
        });
        (wire, url)
    }

    async fn relay(self, caller: TcpStream, upstream: std::net::SocketAddr) {
        let Ok(node) = TcpStream::connect(upstream).await else { return };
        let (mut from_caller, mut to_caller) = caller.into_split();
        let (mut from_node, mut to_node) = node.into_split();
        let back = async move { tokio::io::copy(&mut from_node, &mut to_caller).await };
        let there = async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = from_caller.read(&mut buffer).await {
                self.0.lock().unwrap().extend_from_slice(&buffer[..read]);
                if to_node.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! { _ = back => {} () = there => {} }
    }

    /// How many requests to this path went out.
    pub(super) fn requests(&self, path: &str) -> usize {
        let bytes = self.0.lock().unwrap();
        bytes.windows(path.len()).filter(|window| *window == path.as_bytes()).count()
    }

    /// What went out so far.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Fails where any part of `secret` went out: as it is, in hex, or in base64 at any offset.
    pub(super) fn assert_without(&self, secret: &str) {
        let bytes = self.0.lock().unwrap();
        for word in secret.split(' ').filter(|word| word.len() >= 6).chain([secret]) {
            let hex: String = word.bytes().map(|byte| format!("{byte:02x}")).collect();
            let mut forms = vec![word.as_bytes().to_vec(), hex.clone().into_bytes()];
            forms.push(hex.to_uppercase().into_bytes());
            for offset in 0..3 {
                let text =
                    BASE64_STANDARD_NO_PAD.encode([&vec![0; offset], word.as_bytes()].concat());
                // Without what the neighbours have a part in.
                forms.push(text.as_bytes()[4..text.len() - 4].to_vec());
            }
            for form in forms.into_iter().filter(|form| form.len() >= 6) {
                let found = bytes.windows(form.len()).any(|window| window == form);
                assert!(!found, "{word} went out as {}", String::from_utf8_lossy(&form));
            }
        }
    }
}
