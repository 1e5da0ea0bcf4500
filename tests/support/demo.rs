//! Captions of the demo model's world, and whether an image shows what one says.

use std::path::PathBuf;

use serde::Deserialize;

use crate::reading::Found;

/// How far from its place a shape may be, of the image's side: places are a quarter apart, and drawn
/// to within a hundredth.
const PLACE: f32 = 0.09;

/// A caption, and what its image must show.
#[derive(Debug, Clone, Deserialize)]
pub struct Scene {
    /// What a client asks for.
    pub caption: String,
    /// What is to be seen.
    pub things: Vec<Thing>,
}

/// A shape of an image.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Thing {
    /// As a caption names it.
    pub shape: String,
    /// As a caption names it.
    pub colour: String,
    /// Of its middle, from the left, of the image's width.
    pub x: f32,
    /// Of its middle, from the top, of the image's height.
    pub y: f32,
}

impl Scene {
    /// The 500 captions that were kept from training.
    ///
    /// # Panics
    /// Where the fixture cannot be read.
    #[must_use]
    pub fn held_out() -> Vec<Self> {
        let text = std::fs::read(fixture("held_out.json")).expect("the fixture is there");
        serde_json::from_slice(&text).expect("it is a list of scenes")
    }

    /// Whether it tells of two different things.
    #[must_use]
    pub fn is_of_two(&self) -> bool {
        self.things.iter().any(|thing| {
            (&thing.shape, &thing.colour) != (&self.things[0].shape, &self.things[0].colour)
        })
    }

    /// Whether an image in which this was found shows each of its things where it belongs, and no
    /// others of their colours.
    #[must_use]
    pub fn is_shown_by(&self, found: &[Found]) -> bool {
        self.is_coloured_by(found)
            && self.things.iter().all(|thing| {
                found.iter().any(|found| thing.is_like(found) && thing.shape == found.shape)
            })
    }

    /// The same, whatever the shapes are.
    #[must_use]
    pub fn is_coloured_by(&self, found: &[Found]) -> bool {
        let is_of = |found: &&Found| self.things.iter().any(|thing| thing.colour == found.colour);
        found.iter().filter(is_of).count() == self.things.len()
            && self.things.iter().all(|thing| found.iter().any(|found| thing.is_like(found)))
    }
}

impl Thing {
    /// Of its colour, at its place.
    fn is_like(&self, found: &Found) -> bool {
        let close = |a: f32, b: f32| (a - b).abs() <= PLACE;
        self.colour == found.colour && close(self.x, found.x) && close(self.y, found.y)
    }
}

/// A file of `tests/fixtures/demo`.
#[must_use]
pub fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fixtures", "demo", name].iter().collect()
}
