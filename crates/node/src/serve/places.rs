//! How many connections there may be, and who makes way for a new one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Places for connections. One is kept free for who comes next, as long as somebody holds another
/// without asking anything: the one that has been silent for longest is then let go. So idle
/// connections do not keep out a health probe.
#[derive(Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    silent: Arc<Mutex<Silent>>,
}

/// Connections without a request, in the order in which they fell silent.
#[derive(Default)]
struct Silent {
    next: u64,
    by_age: BTreeMap<u64, Arc<Notify>>,
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), silent: Arc::default() }
    }

    /// Waits for a place. Cancelling it takes none.
    pub(super) async fn take(&self) -> Place {
        let permit = self.free.clone().acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        Place { permit, places: self.clone() }
    }

    /// Lets the connection go that has been silent for longest, where there is no place left.
    fn make_room(&self, silent: &mut Silent) {
        if self.free.available_permits() == 0
            && let Some((_, dismissed)) = silent.by_age.pop_first()
        {
            dismissed.notify_one();
        }
    }

    fn silent(&self) -> MutexGuard<'_, Silent> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that nobody sits on yet.
pub(super) struct Place {
    permit: OwnedSemaphorePermit,
    places: Places,
}

impl Place {
    /// Gives it to a connection.
    pub(super) fn seat(self) -> Arc<Seat> {
        let seat = Arc::new(Seat {
            _permit: self.permit,
            places: self.places,
            requests: Mutex::default(),
            dismissed: Arc::default(),
        });
        seat.fall_silent(&mut seat.requests());
        seat
    }
}

/// A connection's place, until it is dropped.
pub(super) struct Seat {
    _permit: OwnedSemaphorePermit,
    places: Places,
    requests: Mutex<Requests>,
    dismissed: Arc<Notify>,
}

/// What a connection is asking.
#[derive(Default)]
struct Requests {
    running: usize,
    /// Ever.
    asked: bool,
    /// Since when there are none.
    silent_since: Option<u64>,
}

impl Seat {
    /// Resolves when the connection must make way.
    pub(super) async fn dismissed(&self) {
        loop {
            self.dismissed.notified().await;
            // Whoever has begun to ask in the meantime is no longer silent.
            if self.requests().running == 0 {
                return;
            }
        }
    }

    /// Whether there has been a request: its answer may still be on its way.
    pub(super) fn was_asked(&self) -> bool {
        self.requests().asked
    }

    /// Notes that a request runs, until what is returned is dropped.
    pub(super) fn request(self: &Arc<Self>) -> Running {
        let mut requests = self.requests();
        requests.running += 1;
        requests.asked = true;
        if let Some(since) = requests.silent_since.take() {
            self.places.silent().by_age.remove(&since);
        }
        Running(self.clone())
    }

    fn fall_silent(&self, requests: &mut Requests) {
        let mut silent = self.places.silent();
        let since = silent.next;
        silent.next += 1;
        silent.by_age.insert(since, self.dismissed.clone());
        requests.silent_since = Some(since);
        self.places.make_room(&mut silent);
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(since) = self.requests().silent_since {
            self.places.silent().by_age.remove(&since);
        }
    }
}

/// A request, from its headers until its answer is handed to the connection, which may still have to
/// send it.
pub(super) struct Running(Arc<Seat>);

impl Drop for Running {
    fn drop(&mut self) {
        let mut requests = self.0.requests();
        requests.running -= 1;
        if requests.running == 0 {
            self.0.fall_silent(&mut requests);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    async fn is_dismissed(seat: &Seat) -> bool {
        timeout(SOON, seat.dismissed()).await.is_ok()
    }

    #[tokio::test]
    async fn the_longest_silent_one_makes_way() {
        let places = Places::new(3);
        let first = places.take().await.seat();
        let second = places.take().await.seat();
        assert!(!is_dismissed(&first).await);
        // A request makes the first one the last to have spoken.
        drop(first.request());
        let third = places.take().await.seat();
        assert!(is_dismissed(&second).await && !is_dismissed(&first).await);
        drop(second);
        let fourth = places.take().await.seat();
        assert!(is_dismissed(&first).await && !is_dismissed(&third).await);
        drop((first, fourth));
    }

    #[tokio::test]
    async fn who_asks_something_stays() {
        let places = Places::new(2);
        let seats = [places.take().await.seat(), places.take().await.seat()];
        // One has been told to go by the second's coming, but both are asking something by now.
        let running: Vec<_> = seats.iter().map(Seat::request).collect();
        assert!(timeout(SOON, places.take()).await.is_err(), "there is no third place");
        assert!(!is_dismissed(&seats[0]).await && !is_dismissed(&seats[1]).await);
        assert!(seats.iter().all(|seat| seat.was_asked()));
        drop(running);
        assert!(is_dismissed(&seats[1]).await || is_dismissed(&seats[0]).await);
    }
}
