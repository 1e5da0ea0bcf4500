//! Another process's memory, searched for bytes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
};

use aho_corasick::{AhoCorasick, MatchKind};

const PAGE_BYTES: u64 = 4096;
/// What is read at once.
const CHUNK_BYTES: u64 = 8 << 20;

/// A process whose memory may be read: by root, since a node lets nobody else.
pub(crate) struct Memory {
    process: u32,
    bytes: File,
    present: File,
}

/// A stretch of addresses.
#[derive(Debug, Clone)]
pub(crate) struct Region {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) name: String,
    is_writable: bool,
    /// Kept out of swap.
    pub(crate) is_locked: bool,
}

/// What to look for.
pub(crate) struct Needles {
    names: Vec<String>,
    finder: AhoCorasick,
    longest: u64,
}

impl Needles {
    pub(crate) fn new(named: Vec<(String, Vec<u8>)>) -> Self {
        let longest = named.iter().map(|(_, bytes)| bytes.len() as u64).max().unwrap_or(1);
        let (names, bytes): (Vec<_>, Vec<_>) = named.into_iter().unzip();
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(bytes);
        Self { names, finder: finder.unwrap(), longest }
    }
}

impl Memory {
    pub(crate) fn of(process: u32) -> io::Result<Self> {
        let open = |name: &str| File::open(format!("/proc/{process}/{name}"));
        Ok(Self { process, bytes: open("mem")?, present: open("pagemap")? })
    }

    /// Everything that is mapped.
    pub(crate) fn regions(&self) -> Vec<Region> {
        let maps = fs::read_to_string(format!("/proc/{}/smaps", self.process)).unwrap();
        let mut regions: Vec<Region> = Vec::new();
        for line in maps.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words[0] == "VmFlags:" {
                regions.last_mut().unwrap().is_locked = words.contains(&"lo");
            } else if let Some((start, end)) = words[0].split_once('-') {
                let address = |text| u64::from_str_radix(text, 16).unwrap();
                regions.push(Region {
                    start: address(start),
                    end: address(end),
                    name: words.get(5).map_or("anonymous", |name| *name).to_owned(),
                    is_writable: words[1].starts_with("rw"),
                    is_locked: false,
                });
            }
        }
        regions
    }

    pub(crate) fn read(&self, start: u64, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; length as usize];
        // What was unmapped a moment ago is not there to be read.
        let _ = self.bytes.read_exact_at(&mut bytes, start);
        bytes
    }

    /// How often each needle lies where, of what can be written to and is present.
    pub(crate) fn find(&self, needles: &Needles) -> BTreeMap<(String, String), usize> {
        let mut found = BTreeMap::new();
        for region in self.regions().iter().filter(|region| region.is_writable) {
            for (start, end) in self.present_runs(region) {
                let mut at = start;
                while at < end {
                    let length = (end - at).min(CHUNK_BYTES);
                    for hit in needles.finder.find_iter(&self.read(at, length)) {
                        let name = needles.names[hit.pattern()].clone();
                        *found.entry((name, region.name.clone())).or_insert(0) += 1;
                    }
                    // What lies across the edge is found by the next chunk.
                    at += if at + length == end { length } else { length - needles.longest };
                }
            }
        }
        found
    }

    /// Everything that can be written to and holds something, those pages together that lie side by
    /// side; where each begins.
    pub(crate) fn held(&self) -> Vec<(u64, Vec<u8>)> {
        let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
        for region in self.regions().iter().filter(|region| region.is_writable) {
            for (start, end) in self.present_runs(region) {
                for at in (start..end).step_by(PAGE_BYTES as usize) {
                    let page = self.read(at, PAGE_BYTES);
                    if page.iter().all(|byte| *byte == 0) {
                        continue;
                    }
                    match runs.last_mut() {
                        Some((start, run)) if *start + run.len() as u64 == at => run.extend(page),
                        _ => runs.push((at, page)),
                    }
                }
            }
        }
        runs
    }

    /// Pages that are there, without the gaps of what was reserved and never touched.
    fn present_runs(&self, region: &Region) -> Vec<(u64, u64)> {
        const ENTRY_BYTES: u64 = 8;
        let pages = (region.end - region.start) / PAGE_BYTES;
        let mut entries = vec![0; (pages * ENTRY_BYTES) as usize];
        let from = region.start / PAGE_BYTES * ENTRY_BYTES;
        if self.present.read_exact_at(&mut entries, from).is_err() {
            return Vec::new();
        }
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (page, entry) in entries.chunks_exact(ENTRY_BYTES as usize).enumerate() {
            // Present, or in swap: bits 63 and 62.
            if entry[7] & 0xc0 == 0 {
                continue;
            }
            let start = region.start + page as u64 * PAGE_BYTES;
            match runs.last_mut() {
                Some((_, end)) if *end == start => *end += PAGE_BYTES,
                _ => runs.push((start, start + PAGE_BYTES)),
            }
        }
        runs
    }
}
