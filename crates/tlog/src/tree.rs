//! The Merkle tree of RFC 6962, 2.1.
//!
//! ```text
//! leaf  = SHA-256(0x00 ‖ entry)        node = SHA-256(0x01 ‖ left ‖ right)
//! tree of n leaves = node(tree of the first k, tree of the rest), k the largest power of two below n
//! ```

use sha2::{Digest, Sha256};

/// SHA-256.
pub type Hash = [u8; 32];

/// Far more than a path in any tree has.
const MAX_PATH: usize = 64;

/// The hash of an entry.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root over hashes of entries; SHA-256 of nothing where there are none.
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => *leaf,
        leaves => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node(&root(left), &root(right))
        }
    }
}

/// The siblings from a leaf up to the root (2.1.1). `None` where there is no such leaf.
#[must_use]
pub fn inclusion(index: usize, leaves: &[Hash]) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    if leaves.len() == 1 {
        return Some(Vec::new());
    }
    let at = split(leaves.len());
    let (left, right) = leaves.split_at(at);
    let (mut path, sibling) = match index < at {
        true => (inclusion(index, left)?, root(right)),
        false => (inclusion(index - at, right)?, root(left)),
    };
    path.push(sibling);
    Some(path)
}

/// Whether a path leads from a leaf to the root of a tree of so many leaves (RFC 9162, 2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if index >= size || path.len() > MAX_PATH {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            // Levels at which this node has no sibling.
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// What shows that a tree of all leaves continues the one of the first `old` (2.1.2). `None` where there is
/// nothing to show: no older tree, or one that is no smaller.
#[must_use]
pub fn consistency(old: usize, leaves: &[Hash]) -> Option<Vec<Hash>> {
    (0 < old && old < leaves.len()).then(|| subproof(old, leaves, true))
}

fn subproof(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole { Vec::new() } else { vec![root(leaves)] };
    }
    let at = split(leaves.len());
    let (left, right) = leaves.split_at(at);
    let (mut proof, sibling) = match old <= at {
        true => (subproof(old, left, whole), root(right)),
        false => (subproof(old - at, right, false), root(left)),
    };
    proof.push(sibling);
    proof
}

/// Whether the newer root continues the older one (RFC 9162, 2.1.4.2).
#[must_use]
pub fn verify_consistency(
    (old, old_root): (u64, &Hash),
    (new, new_root): (u64, &Hash),
    proof: &[Hash],
) -> bool {
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 || old > new || proof.len() > MAX_PATH {
        return false;
    }
    // An older tree that is whole is its own first node.
    let (first, rest) = match (old.is_power_of_two(), proof) {
        (true, rest) => (*old_root, rest),
        (false, [first, rest @ ..]) => (*first, rest),
        (false, []) => return false,
    };
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut older, mut newer) = (first, first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            older = node(sibling, &older);
            newer = node(sibling, &newer);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            newer = node(&newer, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && older == *old_root && newer == *new_root
}

/// The largest power of two below `leaves`, which are two or more.
fn split(leaves: usize) -> usize {
    1 << (leaves - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|index| leaf_hash(&index.to_le_bytes())).collect()
    }

    /// Roots of the test data that implementations of RFC 6962 share: certificate-transparency's
    /// `merkle_tree_test.cc`, entries of 0, 1, 1, 2, 2, 4, 8 and 16 bytes.
    #[test]
    fn roots_are_those_of_others() {
        let entries: [&[u8]; 8] = [
            b"",
            &[0],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[
                0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d,
                0x6e, 0x6f,
            ],
        ];
        let leaves: Vec<_> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        for (count, expected) in [
            (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ] {
            assert_eq!(hex::encode(root(&leaves[..count])), expected, "{count}");
        }
    }

    #[test]
    fn every_leaf_of_every_tree_is_proven_and_at_no_other_place() {
        for size in 1..40 {
            let (leaves, size64) = (leaves(size), size as u64);
            let root = root(&leaves);
            for index in 0..size {
                let path = inclusion(index, &leaves).unwrap();
                for other in 0..size64 + 2 {
                    let holds = verify_inclusion(&leaves[index], other, size64, &path, &root);
                    assert_eq!(holds, other == index as u64);
                }
                let longer = [path.as_slice(), &[[0; 32]]].concat();
                assert!(!verify_inclusion(&leaves[index], index as u64, size64, &longer, &root));
                if let [shorter @ .., _] = path.as_slice() {
                    assert!(!verify_inclusion(
                        &leaves[index],
                        index as u64,
                        size64,
                        shorter,
                        &root
                    ));
                }
            }
        }
    }

    #[test]
    fn every_tree_continues_every_smaller_one_and_no_other() {
        for size in 1..40 {
            let leaves = leaves(size);
            let new = (size as u64, &root(&leaves));
            for old in 1..size {
                let proof = consistency(old, &leaves).unwrap();
                let before = root(&leaves[..old]);
                assert!(verify_consistency((old as u64, &before), new, &proof));
                assert!(!verify_consistency((old as u64, &[1; 32]), new, &proof));
                assert!(!verify_consistency((old as u64, &before), (new.0, &[1; 32]), &proof));
                let mut forked = leaves.clone();
                forked[old - 1] = [7; 32];
                assert!(!verify_consistency(
                    (old as u64, &before),
                    (new.0, &root(&forked)),
                    &consistency(old, &forked).unwrap()
                ));
            }
        }
    }

    proptest! {
        #[test]
        fn any_proof_is_judged(old in any::<u64>(), new in any::<u64>(), proof in prop::collection::vec(any::<Hash>(), 0..70)) {
            prop_assume!(old != new);
            prop_assert!(!verify_consistency((old, &[1; 32]), (new, &[2; 32]), &proof));
            prop_assert!(!verify_inclusion(&[3; 32], old, new, &proof, &[2; 32]));
        }
    }
}
