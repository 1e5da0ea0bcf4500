//! A log as static files (C2SP `tlog-tiles`), to be put behind any web server.
//!
//! ```text
//! checkpoint                the signed root
//! tile/entries/N[.p/W]      256 entries, each after its length as two bytes, big-endian; or W, at the end
//! tile/L/N[.p/W]            hashes: of entries where L is 0, else of whole tiles of L - 1
//! N is 000, or x001/234: three digits a folder
//! ```

/// Hashes, or entries, of a tile that is full.
pub(crate) const TILE: usize = 256;
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// Index and width of each tile over so many hashes.
pub(crate) fn tiles(hashes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..hashes.div_ceil(TILE)).map(move |index| (index, (hashes - index * TILE).min(TILE)))
}

pub(crate) fn tile_name(index: usize, width: usize) -> String {
    let mut name = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        name = format!("x{:03}/{name}", rest % 1000);
        rest /= 1000;
    }
    if width < TILE { format!("{name}.p/{width}") } else { name }
}

pub(crate) fn framed(entries: &[Vec<u8>]) -> Vec<u8> {
    let framed = |entry: &Vec<u8>| {
        let length = u16::try_from(entry.len()).unwrap_or(u16::MAX).to_be_bytes();
        [&length, entry.as_slice()].concat()
    };
    entries.iter().flat_map(framed).collect()
}

/// So many entries, and nothing after them.
pub(crate) fn bundle(mut bytes: &[u8], count: usize) -> Option<Vec<Vec<u8>>> {
    let mut entries = Vec::new();
    for _ in 0..count {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry.to_vec());
        bytes = rest;
    }
    bytes.is_empty().then_some(entries)
}
