//! A kernel that behaves as its documentation says, or as it should not.

mod attester;
mod rtmr;
mod tsm;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::files::Files;
use crate::event_log::extend;

const EINTR: i32 = 4;
const EBUSY: i32 = 16;
const EFBIG: i32 = 27;

/// The kernel's side of configfs-tsm and of RTMR3.
#[derive(Clone, Default)]
struct Kernel(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    provider: &'static str,
    /// Entries by name: generation, and what was written.
    entries: HashMap<PathBuf, (u64, Vec<u8>)>,
    /// What `outblob` answers, before the report data is put in at 568, as in a TDX quote.
    quote: Vec<u8>,
    /// Errors that writing `inblob` and reading `outblob` answer first.
    write_errors: Vec<i32>,
    read_errors: Vec<i32>,
    /// Another writer, between writing and reading.
    disturbed: bool,
    entries_made: usize,
    register: Option<[u8; 48]>,
    kept: HashMap<PathBuf, Vec<u8>>,
}

impl Kernel {
    fn tdx() -> Self {
        let kernel = Self::default();
        kernel.set(|state| {
            state.provider = "tdx_guest";
            state.quote = vec![0; 632 + 4 + 10];
            state.quote[0] = 4;
            state.quote[632] = 10;
        });
        kernel
    }

    fn set<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }
}

impl Files for Kernel {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.set(|state| {
            state.entries_made += 1;
            match state.entries.insert(path.to_owned(), (7, Vec::new())) {
                None => Ok(()),
                Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            }
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.set(|state| state.entries.remove(path))
            .map(|_| ())
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn read(&self, path: &Path, _: usize) -> io::Result<Vec<u8>> {
        let name = path.file_name().unwrap().to_str().unwrap();
        let entry = path.parent().unwrap();
        self.set(|state| match name {
            "provider" => Ok(format!("{}\n", state.provider).into_bytes()),
            "generation" => Ok(format!("{}\n", state.entries[entry].0).into_bytes()),
            "outblob" => {
                if let Some(error) = state.read_errors.pop() {
                    return Err(io::Error::from_raw_os_error(error));
                }
                if state.disturbed {
                    state.entries.get_mut(entry).unwrap().0 += 1;
                }
                let mut quote = state.quote.clone();
                let report_data = &state.entries[entry].1;
                if quote.len() >= 568 + 64 {
                    quote[568..632].copy_from_slice(report_data);
                }
                Ok(quote)
            }
            "rtmr3:sha384" => state.register.map(Vec::from).ok_or(io::ErrorKind::NotFound.into()),
            _ => state.kept.get(path).cloned().ok_or(io::ErrorKind::NotFound.into()),
        })
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.set(|state| {
            if path.ends_with("rtmr3:sha384") {
                let register = state.register.ok_or(io::ErrorKind::NotFound)?;
                state.register = Some(extend(&register, bytes.try_into().unwrap()));
                return Ok(());
            }
            assert!(path.ends_with("inblob") && bytes.len() == 64);
            if let Some(error) = state.write_errors.pop() {
                return Err(io::Error::from_raw_os_error(error));
            }
            let entry = state.entries.get_mut(path.parent().unwrap()).unwrap();
            *entry = (entry.0 + 1, bytes.to_vec());
            Ok(())
        })
    }

    fn keep(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.set(|state| state.kept.insert(path.to_owned(), bytes.to_vec()));
        Ok(())
    }
}
