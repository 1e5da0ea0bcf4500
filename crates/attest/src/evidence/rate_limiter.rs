//! A rate limiter, for quotes.

use std::time::{Duration, Instant};

/// A bucket of as many tokens as a minute brings.
pub(super) struct RateLimiter {
    every: Duration,
    /// The time at which the bucket was last empty, as if it had filled evenly since.
    empty_at: Instant,
    full: Duration,
}

impl RateLimiter {
    pub(super) fn new(per_minute: u32, now: Instant) -> Self {
        let full = Duration::from_secs(60);
        let every = full / per_minute.max(1);
        Self { every, empty_at: now.checked_sub(full).unwrap_or(now), full }
    }

    /// Takes a token, or says how long the next one takes.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let fill = now.saturating_duration_since(self.empty_at).min(self.full);
        if fill < self.every {
            return Err(self.every - fill);
        }
        // Never in the future: at most all of what has filled is taken.
        self.empty_at = now - (fill - self.every);
        Ok(())
    }

    /// How long the next token takes; nothing where it is there.
    pub(super) fn until_next(&self, now: Instant) -> Duration {
        self.every.saturating_sub(now.saturating_duration_since(self.empty_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_brings_what_it_says() {
        let start = Instant::now() + Duration::from_secs(3600);
        let mut limiter = RateLimiter::new(3, start);
        for _ in 0..3 {
            assert_eq!(limiter.take(start), Ok(()));
        }
        assert_eq!(limiter.take(start), Err(Duration::from_secs(20)));
        assert_eq!(limiter.until_next(start), Duration::from_secs(20));
        let later = start + Duration::from_secs(20);
        assert_eq!(limiter.until_next(later), Duration::ZERO);
        assert_eq!(limiter.take(later), Ok(()));
        assert!(limiter.take(later).is_err());
        let much_later = later + Duration::from_secs(86_400);
        assert_eq!((0..10).filter(|_| limiter.take(much_later).is_ok()).count(), 3);
    }
}
