//! How many connections there may be, and which of them makes way for a new one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{self, Instant},
};

use super::activity::Activity;
use crate::source::Source;

/// How often a full service looks again for a connection that has become idle.
const RESCAN: Duration = Duration::from_millis(100);

/// Bounds the number of connections, in all and of one source.
///
/// Where there is no slot left, the connection that has been idle for longest is evicted. Idle is
/// every connection that makes no progress: without a request, with a body that arrives more slowly than
/// [`body_rate`](crate::body_rate) says, or with an answer that its reader does not take.
#[derive(Clone)]
pub struct ConnectionLimiter {
    free: Arc<Semaphore>,
    per_source: usize,
    slots: Arc<Slots>,
}

#[derive(Default)]
struct Slots {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Shared>>>,
}

/// What the limiter and a connection both see.
struct Shared {
    /// `None`: its connections are not counted.
    source: Option<Source>,
    activity: Mutex<Activity>,
    evicted: AtomicBool,
    evict: Notify,
}

impl ConnectionLimiter {
    /// At most `connections` in all, and `per_source` of one source.
    #[must_use]
    pub fn new(connections: usize, per_source: usize) -> Self {
        let free = Arc::new(Semaphore::new(connections));
        Self { free, per_source, slots: Arc::default() }
    }

    /// Waits until there may be one more connection. Dropping the future takes nothing.
    pub(super) async fn permit(&self) -> Permit {
        loop {
            let acquired = time::timeout(RESCAN, self.free.clone().acquire_owned());
            match acquired.await {
                Ok(permit) => return Permit(permit.expect("the semaphore is never closed")),
                Err(_) => {
                    self.evict_longest_idle(|_| true);
                }
            }
        }
    }

    /// Gives a connection from `source` its slot. `None` where that source has its share already, and
    /// each of its connections is busy. Where one of them is idle, that one is evicted instead.
    pub(super) fn slot(&self, permit: Permit, source: Option<Source>) -> Option<Arc<Slot>> {
        if let Some(source) = source {
            let from_source = |shared: &Shared| {
                shared.source == Some(source) && !shared.evicted.load(Ordering::Acquire)
            };
            let open = self.slots.lock().values().filter(|it| from_source(it)).count();
            if open >= self.per_source && !self.evict_longest_idle(from_source) {
                return None;
            }
        }
        if self.free.available_permits() == 0 {
            // So that whoever comes next need not wait for an eviction.
            self.evict_longest_idle(|_| true);
        }
        let id = self.slots.next.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(Shared {
            source,
            activity: Mutex::new(Activity::new(Instant::now())),
            evicted: AtomicBool::new(false),
            evict: Notify::new(),
        });
        self.slots.lock().insert(id, shared.clone());
        Some(Arc::new(Slot { id, shared, slots: self.slots.clone(), _permit: permit.0 }))
    }

    /// Whether there was one to evict.
    fn evict_longest_idle(&self, of: impl Fn(&Shared) -> bool) -> bool {
        let now = Instant::now();
        let open = self.slots.lock();
        let idle = open.values().filter(|it| !it.evicted.load(Ordering::Acquire) && of(it));
        let longest = idle
            .filter_map(|shared| Some((shared.activity().idle_for(now)?, shared)))
            .max_by_key(|(idle_for, _)| *idle_for);
        let Some((_, shared)) = longest else { return false };
        shared.evicted.store(true, Ordering::Release);
        shared.evict.notify_one();
        true
    }
}

impl Slots {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Shared>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to one more connection.
pub(super) struct Permit(OwnedSemaphorePermit);

/// A connection's slot, until it is dropped.
pub struct Slot {
    id: u64,
    shared: Arc<Shared>,
    slots: Arc<Slots>,
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    /// Resolves when the connection must make way.
    pub async fn evicted(&self) {
        loop {
            self.shared.evict.notified().await;
            if self.activity().idle_for(Instant::now()).is_some() {
                return;
            }
            // A request has begun in the meantime.
            self.shared.evicted.store(false, Ordering::Release);
        }
    }

    /// Resolves when the connection has been idle for so long.
    pub async fn idle(&self, bound: Duration) {
        loop {
            let idle_for = self.activity().idle_for(Instant::now()).unwrap_or_default();
            match bound.checked_sub(idle_for) {
                None | Some(Duration::ZERO) => return,
                Some(left) => time::sleep(left).await,
            }
        }
    }

    pub(super) fn activity(&self) -> MutexGuard<'_, Activity> {
        self.shared.activity()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tokio::time::timeout;

    use super::{super::request::Request, *};

    const SOON: Duration = Duration::from_millis(20);

    fn source(last: u8) -> Option<Source> {
        Some(Source::of(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))))
    }

    async fn open(limiter: &ConnectionLimiter, last: u8) -> Option<Arc<Slot>> {
        let permit = timeout(SOON, limiter.permit()).await.ok()?;
        limiter.slot(permit, source(last))
    }

    async fn is_evicted(slot: &Slot) -> bool {
        timeout(SOON, slot.evicted()).await.is_ok()
    }

    #[tokio::test]
    async fn the_longest_idle_connection_makes_way() {
        let limiter = ConnectionLimiter::new(3, 3);
        let first = open(&limiter, 1).await.unwrap();
        let second = open(&limiter, 1).await.unwrap();
        assert!(!is_evicted(&first).await);
        // A request makes the first one the last to have spoken.
        drop(Request::begin(first.clone()));
        let third = open(&limiter, 1).await.unwrap();
        assert!(is_evicted(&second).await && !is_evicted(&first).await);
        drop(second);
        let fourth = open(&limiter, 1).await.unwrap();
        assert!(is_evicted(&first).await && !is_evicted(&third).await);
        drop((first, fourth));
    }

    #[tokio::test]
    async fn a_connection_that_works_stays_and_a_body_that_does_not_come_does_not() {
        let limiter = ConnectionLimiter::new(2, 2);
        let slots = [open(&limiter, 1).await.unwrap(), open(&limiter, 2).await.unwrap()];
        // The second's coming has told the first to go, but both are at work by now.
        let requests: Vec<_> = slots.iter().cloned().map(Request::begin).collect();
        requests.iter().for_each(|request| request.received());
        assert!(open(&limiter, 3).await.is_none(), "there is no third slot");
        assert!(!is_evicted(&slots[0]).await && !is_evicted(&slots[1]).await);
        drop(requests);
        let _receiving: Vec<_> = slots.iter().cloned().map(Request::begin).collect();
        timeout(Duration::from_secs(10), async {
            let waiting = limiter.permit();
            tokio::select! {
                _ = waiting => {}
                () = slots[0].evicted() => {}
                () = slots[1].evicted() => {}
            }
        })
        .await
        .expect("a body that does not come makes way");
    }

    #[tokio::test]
    async fn a_body_that_keeps_the_rate_makes_no_way_for_strangers() {
        let limiter = ConnectionLimiter::new(2, 2);
        let honest = open(&limiter, 1).await.unwrap();
        let upload = Request::begin(honest.clone());
        upload.brought(1 << 20);
        // Younger than the upload.
        let stranger = open(&limiter, 2).await.unwrap();
        let drip = Request::begin(stranger.clone());
        for _ in 0..5 {
            tokio::time::sleep(SOON).await;
            upload.brought(1 << 20);
            drip.brought(1);
        }
        // Full: whoever comes next has the longest idle one make way.
        assert!(timeout(2 * RESCAN, limiter.permit()).await.is_err());
        assert!(is_evicted(&stranger).await && !is_evicted(&honest).await);
    }

    #[tokio::test]
    async fn a_source_has_its_share_and_no_more() {
        let limiter = ConnectionLimiter::new(8, 2);
        let slots = [open(&limiter, 1).await.unwrap(), open(&limiter, 1).await.unwrap()];
        let requests: Vec<_> = slots.iter().cloned().map(Request::begin).collect();
        requests.iter().for_each(|request| request.received());
        assert!(open(&limiter, 1).await.is_none(), "both are busy");
        let other = open(&limiter, 2).await.expect("another source has a share of its own");
        drop(requests);
        let third = open(&limiter, 1).await.expect("an idle one of its own makes way");
        assert!(is_evicted(&slots[0]).await || is_evicted(&slots[1]).await);
        assert!(!is_evicted(&other).await && !is_evicted(&third).await);
    }
}
