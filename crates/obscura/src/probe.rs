//! `obscura probe`: whether a node is ready, for health checks where there is no other program.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, ensure};

const TIMEOUT: Duration = Duration::from_secs(2);
const READY: &[u8] = b"HTTP/1.1 200 ";

/// Asks `/readyz` in clear text: of a node that ends TLS, at the address of `health_listen`.
pub(crate) fn run(address: SocketAddr) -> anyhow::Result<()> {
    let answer = ask(address).with_context(|| format!("no answer from {address}"))?;
    ensure!(answer == READY, "the node at {address} is not ready");
    Ok(())
}

fn ask(address: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut node = TcpStream::connect_timeout(&address, TIMEOUT)?;
    node.set_read_timeout(Some(TIMEOUT))?;
    node.set_write_timeout(Some(TIMEOUT))?;
    // In one piece: who answers the first of several and closes would reset the others.
    let asked = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    node.write_all(asked.as_bytes())?;
    let mut answer = vec![0; READY.len()];
    node.read_exact(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    fn node(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let _ = peer.read(&mut [0; 1024]);
            let _ = peer.write_all(answer);
        });
        address
    }

    #[test]
    fn a_node_that_is_ready_and_no_other_passes() {
        run(node(b"HTTP/1.1 200 OK\r\n\r\n")).unwrap();
        assert!(run(node(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")).is_err());
        assert!(run(node(b"")).is_err());
        assert!(run(node(b"HTTP/1.1 200")).is_err());
    }
}
