//! How fast a body must arrive.

use std::time::Duration;

use tokio::time::Instant;

/// What a body must bring: a megabit a second.
pub const LEAST_BYTES_PER_SEC: usize = 128 * 1024;

/// How much longer than its timeout a body may take, of which so many bytes have come.
#[must_use]
pub fn earned(bytes: usize) -> Duration {
    Duration::from_secs((bytes / LEAST_BYTES_PER_SEC) as u64)
}

/// How far ahead of that rate a body may be: what came at once does not pay for all the silence after it.
const AHEAD: Duration = Duration::from_secs(1);

/// How far a body is behind that rate. A byte now and then pays for next to nothing.
#[derive(Debug, Clone, Copy)]
pub struct Lateness {
    /// Until when what it has brought lasts.
    paid_until: Instant,
}

impl Lateness {
    /// Of a body that begins now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { paid_until: now }
    }

    /// So many bytes have come.
    pub fn brought(&mut self, bytes: usize, now: Instant) {
        let paid = Duration::from_secs_f64(bytes as f64 / LEAST_BYTES_PER_SEC as f64);
        self.paid_until = (self.paid_until + paid).min(now + AHEAD);
    }

    /// How far it is behind now; nothing while it keeps the rate.
    #[must_use]
    pub fn at(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.paid_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_keeps_the_rate_is_not_late() {
        let begun = Instant::now();
        let mut body = Lateness::new(begun);
        for second in 1..=600 {
            body.brought(LEAST_BYTES_PER_SEC, begun + second * SECOND);
            assert_eq!(body.at(begun + second * SECOND), Duration::ZERO);
        }
        // At half of it, late by half of the time.
        for second in 601..=700 {
            body.brought(LEAST_BYTES_PER_SEC / 2, begun + second * SECOND);
        }
        assert_eq!(body.at(begun + 700 * SECOND), 50 * SECOND);
        // Twice as fast, it makes up for that, and is ahead by a second.
        for second in 701..=800 {
            body.brought(2 * LEAST_BYTES_PER_SEC, begun + second * SECOND);
        }
        assert_eq!(body.at(begun + 802 * SECOND), SECOND);
    }

    #[test]
    fn neither_a_drip_nor_a_rush_pays_for_silence() {
        let begun = Instant::now();
        let mut drip = Lateness::new(begun);
        for second in 1..=60 {
            drip.brought(1, begun + second * SECOND);
        }
        assert!(drip.at(begun + 60 * SECOND) > 59 * SECOND);
        let mut rush = Lateness::new(begun);
        rush.brought(1 << 30, begun + SECOND);
        assert_eq!(rush.at(begun + 62 * SECOND), 60 * SECOND);
    }
}
