//! Pictures that wait to be fetched by an unguessable name, for a while, in bounded memory.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use protocol::{Format, SecretBytes};

/// The pictures.
pub(crate) struct Gallery {
    max_bytes: usize,
    lifetime: Duration,
    pictures: Mutex<Pictures>,
}

#[derive(Default)]
struct Pictures {
    by_name: HashMap<String, Arc<Hung>>,
    /// The oldest first.
    order: VecDeque<(Instant, String)>,
    bytes: usize,
}

/// A picture's file.
pub(crate) struct Hung {
    pub(crate) file: SecretBytes,
    pub(crate) format: Format,
}

impl AsRef<[u8]> for Hung {
    fn as_ref(&self) -> &[u8] {
        &self.file
    }
}

impl Gallery {
    pub(crate) fn new(max_bytes: usize, lifetime: Duration) -> Self {
        Self { max_bytes, lifetime, pictures: Mutex::default() }
    }

    /// Keeps a picture, and gives its name: 256 random bits. The oldest ones make way.
    ///
    /// # Errors
    /// Where the system gives no randomness, or the picture alone is more than there is room for.
    pub(crate) fn hang(&self, hung: Hung, now: Instant) -> Result<String, NoRoom> {
        let bytes = hung.file.len();
        if bytes > self.max_bytes {
            return Err(NoRoom);
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|_| NoRoom)?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut pictures = self.lock();
        pictures.forget_until(|this, hung| {
            this.bytes + bytes <= self.max_bytes && hung + self.lifetime > now
        });
        pictures.bytes += bytes;
        pictures.order.push_back((now, name.clone()));
        pictures.by_name.insert(name.clone(), Arc::new(hung));
        Ok(name)
    }

    /// The picture of this name, if its time is not over.
    pub(crate) fn find(&self, name: &str, now: Instant) -> Option<Arc<Hung>> {
        self.forget_old(now);
        self.lock().by_name.get(name).cloned()
    }

    /// Forgets the pictures whose time is over.
    pub(crate) fn forget_old(&self, now: Instant) {
        self.lock().forget_until(|_, hung| hung + self.lifetime > now);
    }

    fn lock(&self) -> MutexGuard<'_, Pictures> {
        self.pictures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pictures {
    fn forget_until(&mut self, enough: impl Fn(&Self, Instant) -> bool) {
        while let Some((hung, name)) = self.order.front() {
            if enough(self, *hung) {
                return;
            }
            if let Some(picture) = self.by_name.remove(name) {
                self.bytes -= picture.file.len();
            }
            self.order.pop_front();
        }
    }
}

/// The picture cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room to keep the picture")]
pub(crate) struct NoRoom;

#[cfg(test)]
mod tests {
    use super::*;

    fn hung(bytes: usize) -> Hung {
        Hung { file: vec![7; bytes].into(), format: Format::Png }
    }

    #[test]
    fn memory_and_time_are_bounded() {
        let gallery = Gallery::new(100, Duration::from_secs(60));
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let first = gallery.hang(hung(60), at(0)).unwrap();
        let second = gallery.hang(hung(40), at(10)).unwrap();
        assert_ne!(first, second);
        assert!(gallery.find(&first, at(10)).is_some());
        let third = gallery.hang(hung(50), at(20)).unwrap();
        assert!(gallery.find(&first, at(20)).is_none(), "it made way");
        assert!(gallery.find(&second, at(20)).is_some());
        assert!(gallery.find(&second, at(70)).is_none(), "its time is over");
        assert!(gallery.find(&third, at(70)).is_some());
        assert_eq!(gallery.hang(hung(101), at(70)), Err(NoRoom));
        assert!(gallery.find("", at(70)).is_none());
    }
}
