//! Images that wait to be fetched by an unguessable name: for a while, in memory, and not too many.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use protocol::SecretBytes;

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreLimits {
    pub(crate) images: usize,
    pub(crate) bytes: usize,
    pub(crate) lifetime: Duration,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self { images: 1000, bytes: 256 * 1024 * 1024, lifetime: Duration::from_secs(600) }
    }
}

/// The images.
pub(crate) struct ImageStore {
    limits: StoreLimits,
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
    pub(crate) media_type: &'static str,
}

impl ImageStore {
    pub(crate) fn new(limits: StoreLimits) -> Self {
        Self { limits, images: Mutex::default() }
    }

    /// Keeps an image, and gives its name: 256 random bits. The oldest ones make way. `None` where the
    /// system gives no randomness, or the image alone is more than there is room for.
    pub(crate) fn insert(&self, image: StoredImage, now: Instant) -> Option<String> {
        let StoreLimits { images: most, bytes: room, lifetime } = self.limits;
        let bytes = image.file.len();
        let mut random = [0; 32];
        if bytes > room || getrandom::fill(&mut random).is_err() {
            return None;
        }
        let name = crate::audit::hex(&random);
        let mut images = self.lock();
        images.forget_until(|this, inserted| {
            this.bytes + bytes <= room && this.order.len() < most && inserted + lifetime > now
        });
        images.bytes += bytes;
        images.order.push_back((now, name.clone()));
        images.by_name.insert(name.clone(), Arc::new(image));
        Some(name)
    }

    /// The image of this name, if its time is not over.
    pub(crate) fn find(&self, name: &str, now: Instant) -> Option<Arc<StoredImage>> {
        self.forget_old(now);
        self.lock().by_name.get(name).cloned()
    }

    /// Forgets the images whose time is over.
    pub(crate) fn forget_old(&self, now: Instant) {
        let lifetime = self.limits.lifetime;
        self.lock().forget_until(|_, inserted| inserted + lifetime > now);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_memory_and_time_are_bounded() {
        let limits = StoreLimits { images: 2, bytes: 100, lifetime: Duration::from_secs(60) };
        let store = ImageStore::new(limits);
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let insert = |bytes: usize, secs| {
            let file = vec![7; bytes].into();
            store.insert(StoredImage { file, media_type: "image/png" }, at(secs))
        };
        let is_there =
            |name: &Option<String>, secs| store.find(name.as_deref().unwrap(), at(secs)).is_some();
        let first = insert(60, 0);
        let second = insert(40, 10);
        assert!(is_there(&first, 10) && is_there(&second, 10));
        let third = insert(1, 20);
        assert!(!is_there(&first, 20), "two are the most");
        assert!(is_there(&second, 20) && is_there(&third, 20));
        let fourth = insert(70, 30);
        assert!(!is_there(&second, 30), "it made way");
        assert!(!is_there(&third, 80) && is_there(&fourth, 80), "its time is over");
        assert_eq!(insert(101, 80), None);
        assert!(store.find("", at(80)).is_none());
    }
}
