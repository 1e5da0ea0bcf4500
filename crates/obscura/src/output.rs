//! Where images and what belongs to them are written, and lines about them.

use std::{
    fmt::Display,
    fs::{self, File},
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use protocol::Format;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Writes a line of text to standard output, from a command whose peers must not end it by a signal.
pub(crate) fn say(line: impl Display) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{line}").context("cannot write to standard output")
}

/// The same of a text whose lines have their own ends.
pub(crate) fn print(text: impl Display) -> anyhow::Result<()> {
    write!(io::stdout().lock(), "{text}").context("cannot write to standard output")
}

/// The same from what goes on serving: that nobody can read the line, since its disk is full or its pipe is
/// closed, must not end a node. `println!` would panic.
pub(crate) fn announce(line: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// A line to standard error, which may be a log on a full disk: `eprintln!` would panic.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// What is to be done with a file of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Refuse,
    Replace,
}

/// Where the user wants the images.
pub(crate) struct Wanted<'a> {
    /// A file, or `-` for standard output; where nobody said, the first free name like `default`.
    pub(crate) path: Option<&'a Path>,
    pub(crate) default: &'static str,
    /// Where the user said; otherwise the file's ending says it.
    pub(crate) format: Option<Format>,
    pub(crate) images: usize,
    /// What the name of the file beside each image ends with, where there is one.
    pub(crate) beside: Option<&'static str>,
    pub(crate) existing: Existing,
}

/// The files that images go to, and their format. Checked before anything is drawn: what can be known to
/// fail does so before minutes of work.
pub(crate) struct Output {
    place: Place,
    format: Format,
    beside: Option<&'static str>,
}

enum Place {
    Stdout,
    Files { paths: Vec<PathBuf>, existing: Existing },
}

impl Output {
    pub(crate) fn prepare(wanted: &Wanted<'_>) -> anyhow::Result<Self> {
        match wanted.path {
            Some(path) if path == Path::new("-") => Self::stdout(wanted),
            Some(path) => Self::files(path, wanted),
            None => Self::free_files(wanted),
        }
    }

    fn stdout(wanted: &Wanted<'_>) -> anyhow::Result<Self> {
        ensure!(wanted.images == 1, "--output -: standard output takes one image; name a file");
        ensure!(
            !io::stdout().is_terminal(),
            "--output -: standard output is a terminal, an image is no text; redirect it or name a file"
        );
        let format = wanted.format.unwrap_or(Format::Png);
        Ok(Self { place: Place::Stdout, format, beside: None })
    }

    fn files(path: &Path, wanted: &Wanted<'_>) -> anyhow::Result<Self> {
        let shown = path.display();
        ensure!(!path.is_dir(), "{shown} is a directory; name a file in it");
        let format = format_of(path)?;
        if let Some(asked) = wanted.format {
            ensure!(
                asked.name() == format.name(),
                "{shown}: the ending says {}, --format says {}",
                format.name(),
                asked.name()
            );
        }
        let paths: Vec<_> = (1..=wanted.images).map(|number| numbered(path, number)).collect();
        for path in &paths {
            check_target(path, wanted.existing)?;
            if let Some(ending) = wanted.beside {
                check_target(&beside(path, ending), wanted.existing)?;
            }
        }
        check_folder(path)?;
        let place = Place::Files { paths, existing: wanted.existing };
        Ok(Self { place, format, beside: wanted.beside })
    }

    /// `obscura.png`, `obscura-2.png`, …: names that nothing has.
    fn free_files(wanted: &Wanted<'_>) -> anyhow::Result<Self> {
        let format = wanted.format.unwrap_or(Format::Png);
        let default = Path::new(wanted.default).with_extension(format.extension());
        let free = (1..).map(|number| numbered(&default, number));
        let is_free = |path: &Path| path.symlink_metadata().is_err();
        let free = free.filter(|path| {
            is_free(path) && wanted.beside.is_none_or(|ending| is_free(&beside(path, ending)))
        });
        let paths: Vec<_> = free.take(wanted.images).collect();
        check_folder(&default)?;
        let place = Place::Files { paths, existing: Existing::Refuse };
        Ok(Self { place, format, beside: wanted.beside })
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Whether images go where text would go otherwise.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(self.place, Place::Stdout)
    }

    /// Writes image `index` and says where it is. An older file of that name is there until all of
    /// the new one is.
    pub(crate) fn write(&self, index: usize, file: &[u8]) -> anyhow::Result<PathBuf> {
        match &self.place {
            Place::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout
                    .write_all(file)
                    .and_then(|()| stdout.flush())
                    .context("cannot write to standard output")?;
                Ok(PathBuf::from("-"))
            }
            Place::Files { paths, existing } => {
                let path = paths.get(index).context("more images than were asked for")?;
                write(path, file, *existing)?;
                Ok(path.clone())
            }
        }
    }

    /// Writes what belongs beside image `index`, as the image itself.
    pub(crate) fn write_beside(&self, index: usize, file: &[u8]) -> anyhow::Result<()> {
        match (&self.place, self.beside) {
            (Place::Files { paths, existing }, Some(ending)) => {
                let path = paths.get(index).context("more images than were asked for")?;
                write(&beside(path, ending), file, *existing)
            }
            _ => bail!("nothing was to be written beside the image"),
        }
    }
}

/// `fox.png` and `.provenance.json`: `fox.png.provenance.json`.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The format that a file's ending names.
fn format_of(path: &Path) -> anyhow::Result<Format> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    Format::of_extension(ending)
        .with_context(|| format!("{}: the ending must be png, jpg, jpeg or webp", path.display()))
}

/// `fox.png`, `fox-2.png`, `fox-3.png`, …
fn numbered(path: &Path, number: usize) -> PathBuf {
    if number == 1 {
        return path.to_owned();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number}."));
    name.push(path.extension().unwrap_or_default());
    path.with_file_name(name)
}

/// Refuses what a file cannot be written to, before the work.
pub(crate) fn check_target(path: &Path, existing: Existing) -> anyhow::Result<()> {
    let shown = path.display();
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot write {shown}")),
        Ok(found) if found.is_dir() => bail!("{shown} is a directory; name a file in it"),
        Ok(_) if existing == Existing::Refuse => {
            bail!("{shown} is there already; --force replaces it")
        }
        Ok(_) => Ok(()),
    }
}

/// Whether files can be made there, by making one.
fn check_folder(path: &Path) -> anyhow::Result<()> {
    let part = part(path);
    File::create_new(&part)
        .and_then(|_| fs::remove_file(&part))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a file. An older one of that name is there until all of the new one is.
pub(crate) fn write(path: &Path, file: &[u8], existing: Existing) -> anyhow::Result<()> {
    replace(path, file, existing).with_context(|| format!("cannot write {}", path.display()))
}

/// The same, and all of it is on the disk when this returns: what must not be forgotten by a loss of power.
pub(crate) fn write_durably(path: &Path, file: &[u8], existing: Existing) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    replace_by(path, existing, |part| part.write_all(file).and_then(|()| part.sync_all()))
        .and_then(|()| File::open(folder)?.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))
}

fn replace(path: &Path, file: &[u8], existing: Existing) -> io::Result<()> {
    replace_by(path, existing, |part| part.write_all(file))
}

fn replace_by(
    path: &Path,
    existing: Existing,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let part = part(path);
    let mut out = File::create_new(&part)?;
    fill(&mut out)
        .and_then(|()| rename(&part, path, existing))
        .inspect_err(|_| drop(fs::remove_file(&part)))
}

fn rename(part: &Path, path: &Path, existing: Existing) -> io::Result<()> {
    if existing == Existing::Replace {
        return fs::rename(part, path);
    }
    match renameat_with(CWD, part, CWD, path, RenameFlags::NOREPLACE) {
        // A file system that knows no such renaming: somebody may still come in between.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match path.symlink_metadata() {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(part, path),
        },
        renamed => renamed.map_err(io::Error::from),
    }
}

/// Beside the file, under a name that no other process takes.
fn part(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(path: &Path, images: usize, existing: Existing) -> anyhow::Result<Output> {
        let path = Some(path);
        Output::prepare(&Wanted {
            path,
            default: "obscura.png",
            format: None,
            images,
            beside: None,
            existing,
        })
    }

    #[test]
    fn numbers_the_second_image_on() {
        let folder = tempfile::tempdir().unwrap();
        let output = prepare(&folder.path().join("a.fox.JPG"), 2, Existing::Refuse).unwrap();
        assert_eq!(output.format(), Format::JPEG);
        for (index, name) in ["a.fox.JPG", "a.fox-2.JPG"].into_iter().enumerate() {
            assert_eq!(output.write(index, b"x").unwrap(), folder.path().join(name));
        }
        assert!(output.write(2, b"x").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_will_fail_fails_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("fox-2.png"), "mine").unwrap();
        fs::create_dir(at("folder.png")).unwrap();
        for (name, images, said) in [
            ("fox", 1, "the ending must be"),
            ("fox.gif", 1, "the ending must be"),
            ("folder.png", 1, "is a directory"),
            ("no/fox.png", 1, "cannot write"),
            ("fox.png", 2, "fox-2.png is there already; --force replaces it"),
        ] {
            let error = prepare(&at(name), images, Existing::Refuse).err().unwrap();
            assert!(format!("{error:#}").contains(said), "{name}: {error:#}");
        }
        let output = prepare(&at("fox.png"), 2, Existing::Replace).unwrap();
        output.write(1, b"new").unwrap();
        assert_eq!(fs::read(at("fox-2.png")).unwrap(), b"new");
    }

    /// A salt that is lost opens no commitment any more.
    #[test]
    fn what_is_beside_an_image_is_kept_as_the_image_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fox.png");
        let prepare = |existing| {
            Output::prepare(&Wanted {
                path: Some(&path),
                default: "obscura.png",
                format: None,
                images: 1,
                beside: Some(".json"),
                existing,
            })
        };
        let early = prepare(Existing::Refuse).unwrap();
        let older = folder.path().join("fox.png.json");
        fs::write(&older, "mine").unwrap();
        assert!(early.write_beside(0, b"ours").is_err());
        let error = prepare(Existing::Refuse).err().unwrap();
        assert!(format!("{error:#}").contains("fox.png.json is there already"), "{error:#}");
        assert_eq!(fs::read(&older).unwrap(), b"mine");
        prepare(Existing::Replace).unwrap().write_beside(0, b"new").unwrap();
        assert_eq!(fs::read(&older).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// Whoever came first keeps the name, where the work took long.
    #[test]
    fn a_file_that_came_in_between_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fox.png");
        let output = prepare(&path, 1, Existing::Refuse).unwrap();
        fs::write(&path, "theirs").unwrap();
        assert!(output.write(0, b"ours").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
