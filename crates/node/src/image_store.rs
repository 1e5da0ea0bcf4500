//! Images that wait to be fetched by an unguessable name, for a while, in bounded memory.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use protocol::{Format, SecretBytes};

/// The images.
pub(crate) struct ImageStore {
    max_bytes: usize,
    lifetime: Duration,
    images: Mutex<Images>,
}

#[derive(Default)]
struct Images {
    by_name: HashMap<String, Arc<StoredImage>>,
    /// The oldest first.
    order: VecDeque<(Instant, String)>,
    bytes: usize,
}

/// An image's file.
pub(crate) struct StoredImage {
    pub(crate) file: SecretBytes,
    pub(crate) format: Format,
}

impl AsRef<[u8]> for StoredImage {
    fn as_ref(&self) -> &[u8] {
        &self.file
    }
}

impl ImageStore {
    pub(crate) fn new(max_bytes: usize, lifetime: Duration) -> Self {
        Self { max_bytes, lifetime, images: Mutex::default() }
    }

    /// Keeps an image, and gives its name: 256 random bits. The oldest ones make way.
    ///
    /// # Errors
    /// Where the system gives no randomness, or the image alone is more than there is room for.
    pub(crate) fn insert(&self, image: StoredImage, now: Instant) -> Result<String, NoRoom> {
        let bytes = image.file.len();
        if bytes > self.max_bytes {
            return Err(NoRoom);
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|_| NoRoom)?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut images = self.lock();
        images.forget_until(|this, inserted| {
            this.bytes + bytes <= self.max_bytes && inserted + self.lifetime > now
        });
        images.bytes += bytes;
        images.order.push_back((now, name.clone()));
        images.by_name.insert(name.clone(), Arc::new(image));
        Ok(name)
    }

    /// The image of this name, if its time is not over.
    pub(crate) fn find(&self, name: &str, now: Instant) -> Option<Arc<StoredImage>> {
        self.forget_old(now);
        self.lock().by_name.get(name).cloned()
    }

    /// Forgets the images whose time is over.
    pub(crate) fn forget_old(&self, now: Instant) {
        self.lock().forget_until(|_, inserted| inserted + self.lifetime > now);
    }

    fn lock(&self) -> MutexGuard<'_, Images> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Images {
    fn forget_until(&mut self, enough: impl Fn(&Self, Instant) -> bool) {
        while let Some((inserted, name)) = self.order.front() {
            if enough(self, *inserted) {
                return;
            }
            if let Some(image) = self.by_name.remove(name) {
                self.bytes -= image.file.len();
            }
            self.order.pop_front();
        }
    }
}

/// The image cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room to keep the image")]
pub(crate) struct NoRoom;

#[cfg(test)]
mod tests {
    use super::*;

    fn image(bytes: usize) -> StoredImage {
        StoredImage { file: vec![7; bytes].into(), format: Format::Png }
    }

    #[test]
    fn memory_and_time_are_bounded() {
        let store = ImageStore::new(100, Duration::from_secs(60));
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let first = store.insert(image(60), at(0)).unwrap();
        let second = store.insert(image(40), at(10)).unwrap();
        assert_ne!(first, second);
        assert!(store.find(&first, at(10)).is_some());
        let third = store.insert(image(50), at(20)).unwrap();
        assert!(store.find(&first, at(20)).is_none(), "it made way");
        assert!(store.find(&second, at(20)).is_some());
        assert!(store.find(&second, at(70)).is_none(), "its time is over");
        assert!(store.find(&third, at(70)).is_some());
        assert_eq!(store.insert(image(101), at(70)), Err(NoRoom));
        assert!(store.find("", at(70)).is_none());
    }
}
