//! SHA-256 beside reading and decoding, of all but small files in a thread of its own: it takes longer than both
//! together.

use std::{
    io,
    sync::{Arc, mpsc},
    thread::{Scope, ScopedJoinHandle},
};

use sha2::{Digest, Sha256};

/// What is read at a time: small enough to be decoded and hashed while it is in the cache.
pub(super) const BLOCK_BYTES: usize = 1 << 18;

/// Blocks that may wait to be hashed.
const BLOCKS: usize = 4;

/// Hashes the blocks that it hands out, in their order, while their reader works on them.
pub(super) enum Digester<'scope> {
    /// A small file's, which is not worth a thread.
    Here { sha256: Sha256, block: Arc<Vec<u8>> },
    /// In a thread.
    Beside {
        filled: mpsc::Sender<Arc<Vec<u8>>>,
        hashed: mpsc::Receiver<Arc<Vec<u8>>>,
        thread: ScopedJoinHandle<'scope, [u8; 32]>,
    },
}

impl<'scope> Digester<'scope> {
    /// Of a file of so many bytes.
    pub(super) fn start(scope: &'scope Scope<'scope, '_>, file_bytes: u64) -> Self {
        if file_bytes <= BLOCK_BYTES as u64 {
            return Self::Here { sha256: Sha256::new(), block: Arc::default() };
        }
        let (filled, to_hash) = mpsc::channel::<Arc<Vec<u8>>>();
        let (back, hashed) = mpsc::channel();
        for _ in 0..BLOCKS {
            back.send(Arc::default()).expect("the receiver is there");
        }
        let thread = scope.spawn(move || {
            let mut sha256 = Sha256::new();
            for block in to_hash {
                sha256.update(&*block);
                // Nobody waits for the last blocks.
                let _ = back.send(block);
            }
            sha256.finalize().into()
        });
        Self::Beside { filled, hashed, thread }
    }

    /// The next `length` bytes, which `fill` provides. To be dropped before the next call: there are only
    /// so many blocks.
    pub(super) fn next(
        &mut self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<Arc<Vec<u8>>> {
        let fill = |block: &mut Arc<Vec<u8>>| {
            let bytes = Arc::make_mut(block);
            bytes.resize(length, 0);
            fill(bytes)
        };
        match self {
            Self::Here { sha256, block } => {
                fill(block)?;
                sha256.update(&**block);
                Ok(Arc::clone(block))
            }
            Self::Beside { filled, hashed, .. } => {
                let mut block = hashed.recv().expect("blocks come back while there is a sender");
                fill(&mut block)?;
                filled.send(Arc::clone(&block)).expect("the thread ends after its sender");
                Ok(block)
            }
        }
    }

    /// Of all bytes.
    pub(super) fn finish(self) -> [u8; 32] {
        match self {
            Self::Here { sha256, .. } => sha256.finalize().into(),
            Self::Beside { filled, thread, .. } => {
                drop(filled);
                match thread.join() {
                    Ok(digest) => digest,
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        }
    }
}
