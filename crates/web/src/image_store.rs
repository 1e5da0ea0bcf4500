//! Images that wait to be fetched by an unguessable name: for a while, in memory, and not too many.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
};
use protocol::SecretBytes;

/// More than anybody fetches within an image's lifetime. It bounds what names alone take.
const MAX_IMAGES: usize = 10_000;

/// The images.
pub struct ImageStore {
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
pub struct StoredImage {
    /// PNG, JPEG or WebP.
    pub file: SecretBytes,
    /// Which of them.
    pub media_type: &'static str,
}

impl ImageStore {
    /// A store of files of so many bytes together, each kept for so long.
    #[must_use]
    pub fn new(max_bytes: usize, lifetime: Duration) -> Self {
        Self { max_bytes, lifetime, images: Mutex::default() }
    }

    /// Keeps an image, and gives its name: 256 random bits. The oldest ones make way.
    ///
    /// # Errors
    /// Where the system gives no randomness, or the image alone is more than there is room for.
    pub fn insert(&self, image: StoredImage, now: Instant) -> Result<String, NoRoom> {
        let bytes = image.file.len();
        if bytes > self.max_bytes {
            return Err(NoRoom);
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|_| NoRoom)?;
        let name = hex::encode(random);
        let mut images = self.lock();
        images.forget_until(|this, inserted| {
            this.bytes + bytes <= self.max_bytes
                && this.order.len() < MAX_IMAGES
                && inserted + self.lifetime > now
        });
        images.bytes += bytes;
        images.order.push_back((now, name.clone()));
        images.by_name.insert(name.clone(), Arc::new(image));
        Ok(name)
    }

    /// The image of this name, as an answer, if its time is not over.
    pub fn find(&self, name: &str, now: Instant) -> Option<Response> {
        self.forget_old(now);
        let image = self.lock().by_name.get(name).cloned()?;
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static(image.media_type)),
            (CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ];
        Some((headers, Body::from(Bytes::from_owner(Shared(image)))).into_response())
    }

    /// Forgets the images whose time is over.
    pub fn forget_old(&self, now: Instant) {
        self.lock().forget_until(|_, inserted| inserted + self.lifetime > now);
    }

    fn lock(&self) -> MutexGuard<'_, Images> {
        // Every change leaves it whole.
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

/// An image that an answer and the store hold together, so that no copy of it is made.
struct Shared(Arc<StoredImage>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.file
    }
}

/// The image cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room to keep the image")]
pub struct NoRoom;

#[cfg(test)]
mod tests {
    use super::*;

    fn image(bytes: usize) -> StoredImage {
        StoredImage { file: vec![7; bytes].into(), media_type: "image/png" }
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

    #[test]
    fn their_number_is_bounded() {
        let store = ImageStore::new(usize::MAX, Duration::from_secs(60));
        let now = Instant::now();
        let first = store.insert(image(0), now).unwrap();
        for _ in 1..MAX_IMAGES {
            store.insert(image(0), now).unwrap();
        }
        assert!(store.find(&first, now).is_some());
        store.insert(image(0), now).unwrap();
        assert!(store.find(&first, now).is_none(), "it made way");
    }
}
