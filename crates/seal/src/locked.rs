//! Locked memory, for keys that live long.

use std::{fmt, ops::Deref};

use region::LockGuard;
use zeroize::ZeroizeOnDrop;

/// A secret on a memory page of its own, which the system is asked to keep out of swap.
///
/// Only the pointer moves: however often the owner is moved, there is one copy of the secret, and it
/// is wiped when dropped.
pub(crate) struct Locked<T: ZeroizeOnDrop> {
    /// Given back before the page is, while the address is still this page's. Nothing where the system
    /// locks no more for this process (`RLIMIT_MEMLOCK`).
    lock: Option<LockGuard>,
    page: Box<Page<T>>,
}

/// Alone on its page: to unlock one secret must not unlock another.
#[repr(align(4096))]
struct Page<T>(T);

impl<T: ZeroizeOnDrop> Locked<T> {
    /// The secret passes through the caller's stack on its way, so the caller wipes it: see
    /// [`wipe::stack`].
    pub(crate) fn new(secret: T) -> Self {
        let page = Box::new(Page(secret));
        let lock = region::lock(&raw const *page, size_of::<Page<T>>()).ok();
        Self { lock, page }
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.lock.is_some()
    }
}

impl<T: ZeroizeOnDrop> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.page.0
    }
}

impl<T: ZeroizeOnDrop> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locked(…)")
    }
}
