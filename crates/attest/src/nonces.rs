//! One quote for many verifiers: a Merkle tree over the nonces that wait.
//!
//! ```text
//! leaf  = SHA-256(0x00 ‖ blind ‖ nonce)              (RFC 9162 §2.1.1: leaves and nodes are
//! node  = SHA-256(0x01 ‖ left ‖ right)                hashed in domains of their own)
//! root  = the one node at the top; the leaf itself where one verifier waits
//! ```
//! The tree is perfect: random bytes stand where there is no verifier, so that a path tells at most
//! the next power of two. The blind, 32 random bytes a leaf, keeps whoever gets a path from trying
//! guesses of the others' nonces on it. A root that holds a verifier's nonce cannot have been known
//! before the nonce was: finding a path from an older root is finding a collision of SHA-256.

use sha2::{Digest, Sha256};

use crate::binding::{Digest32, Nonce};

/// The longest path that is believed: trees of at most 65,536 nonces.
pub const MAX_DEPTH: usize = 16;

const LEAF: [u8; 1] = [0x00];
const NODE: [u8; 1] = [0x01];

/// How one nonce leads to the root that the quote binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoncePath {
    /// What hides this leaf from the other verifiers.
    pub blind: [u8; 32],
    /// The leaf's place. Bit `i` says whether the node at height `i` is a right child.
    pub index: u32,
    /// The other child at each height, lowest first; at most [`MAX_DEPTH`].
    pub siblings: Vec<Digest32>,
}

impl NoncePath {
    /// The path of the only leaf.
    #[must_use]
    pub fn alone(blind: [u8; 32]) -> Self {
        Self { blind, index: 0, siblings: Vec::new() }
    }

    /// The root that this path leads `nonce` to. `None` where it is longer than any, or has a place
    /// outside its tree: a leaf has one way to be written.
    #[must_use]
    pub fn root(&self, nonce: Nonce) -> Option<Digest32> {
        let depth = u32::try_from(self.siblings.len()).ok()?;
        if self.siblings.len() > MAX_DEPTH || self.index >> depth != 0 {
            return None;
        }
        let siblings = self.siblings.iter().enumerate();
        Some(siblings.fold(leaf(&self.blind, nonce), |below, (height, sibling)| {
            match self.index >> height & 1 {
                0 => node(&below, sibling),
                _ => node(sibling, &below),
            }
        }))
    }
}

/// The root over these nonces, and a path for each, in their order. `random` gives fresh bytes.
///
/// # Errors
/// Where there is no randomness.
///
/// # Panics
/// Where there is no nonce, or more than 2^[`MAX_DEPTH`].
pub fn tree<E>(
    nonces: &[Nonce],
    mut random: impl FnMut() -> Result<[u8; 32], E>,
) -> Result<(Digest32, Vec<NoncePath>), E> {
    let leaves = nonces.len().next_power_of_two();
    assert!(!nonces.is_empty() && leaves <= 1 << MAX_DEPTH, "the waiting are bounded");
    let mut paths = Vec::with_capacity(nonces.len());
    let mut level = Vec::with_capacity(leaves);
    for (nonce, index) in nonces.iter().zip(0..) {
        let blind = random()?;
        level.push(leaf(&blind, *nonce));
        paths.push(NoncePath { blind, index, siblings: Vec::new() });
    }
    while level.len() < leaves {
        level.push(random()?);
    }
    for height in 0..leaves.trailing_zeros() {
        for (path, index) in paths.iter_mut().zip(0_usize..) {
            path.siblings.push(level[index >> height ^ 1]);
        }
        level = level.chunks(2).map(|pair| node(&pair[0], &pair[1])).collect();
    }
    Ok((level[0], paths))
}

fn leaf(blind: &[u8; 32], nonce: Nonce) -> Digest32 {
    Sha256::new()
        .chain_update(LEAF)
        .chain_update(blind)
        .chain_update(nonce.as_bytes())
        .finalize()
        .into()
}

fn node(left: &Digest32, right: &Digest32) -> Digest32 {
    Sha256::new().chain_update(NODE).chain_update(left).chain_update(right).finalize().into()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn nonces(count: u8) -> Vec<Nonce> {
        (1..=count).map(|n| Nonce::new([n; 32]).unwrap()).collect()
    }

    /// Counts instead of drawing.
    fn counting() -> impl FnMut() -> Result<[u8; 32], Infallible> {
        let mut drawn = 0_u8;
        move || {
            drawn += 1;
            Ok([drawn; 32])
        }
    }

    #[test]
    fn every_nonce_leads_to_the_root_by_its_own_path_alone() {
        for count in 1..=33 {
            let nonces = nonces(count);
            let (root, paths) = tree(&nonces, counting()).unwrap();
            for (path, nonce) in paths.iter().zip(&nonces) {
                assert_eq!(path.root(*nonce), Some(root), "{nonce} of {count}");
                let others = nonces.iter().filter(|other| *other != nonce);
                for other in others {
                    assert_ne!(path.root(*other), Some(root), "{other} by the path of {nonce}");
                }
            }
        }
    }

    #[test]
    fn one_nonce_is_its_own_tree() {
        let (root, paths) = tree(&nonces(1), counting()).unwrap();
        assert_eq!(paths, [NoncePath::alone([1; 32])]);
        assert_eq!(root, leaf(&[1; 32], nonces(1)[0]));
    }

    #[test]
    fn a_touched_path_leads_elsewhere() {
        let nonces = nonces(5);
        let (root, paths) = tree(&nonces, counting()).unwrap();
        let touched = |change: &dyn Fn(&mut NoncePath)| {
            let mut path = paths[2].clone();
            change(&mut path);
            path.root(nonces[2])
        };
        assert_eq!(touched(&|_| {}), Some(root));
        for change in [
            &(|path: &mut NoncePath| path.index ^= 1) as &dyn Fn(&mut NoncePath),
            &|path| path.blind[0] ^= 1,
            &|path| path.siblings[1][31] ^= 1,
            &|path| path.siblings.swap(0, 1),
            &|path| path.siblings.truncate(2),
            &|path| path.siblings.push([0; 32]),
        ] {
            assert_ne!(touched(change), Some(root));
        }
        // A place outside the tree would be a second way to write the same leaf.
        assert_eq!(touched(&|path| path.index += 8), None);
        assert_eq!(touched(&|path| path.siblings.resize(MAX_DEPTH + 1, [0; 32])), None);
    }

    /// A node is 64 bytes, as is a leaf's input: without domains, one could pass for the other.
    #[test]
    fn a_node_is_no_leaf() {
        let (root, paths) = tree(&nonces(2), counting()).unwrap();
        let left = leaf(&paths[0].blind, nonces(2)[0]);
        let right = Nonce::new(leaf(&paths[1].blind, nonces(2)[1])).unwrap();
        assert_ne!(NoncePath::alone(left).root(right), Some(root));
    }
}
