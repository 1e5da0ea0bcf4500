//! Why a guest does not start.

use std::io;

use thiserror::Error;

/// What was wrong. Each ends the machine.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GuestError {
    /// The kernel, or a file of the measured root.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The measured command line.
    #[error("the command line must hold `{word}` once")]
    CommandLine {
        /// What is missing, or there twice.
        word: &'static str,
    },
    /// A word for us that we do not know.
    #[error("the command line holds a word that starts with `obscura.` and is not known")]
    UnknownWord,
    /// A verity tree.
    #[error(
        "a verity tree is BLOCKS:HASH_START:SALT:ROOT, two numbers and twice 64 lower-case hexadecimal digits"
    )]
    Tree,
    /// A disk that has to be there.
    #[error("no disk has the serial `{serial}`")]
    NoDisk {
        /// Its name.
        serial: &'static str,
    },
    /// Two disks of one name.
    #[error("more than one disk has the serial `{serial}`")]
    TwoDisks {
        /// Their name.
        serial: &'static str,
    },
    /// What lies on a small disk.
    #[error(
        "the disk must begin with `{head} LENGTH` and a newline, LENGTH at most {max}, then so many bytes, then zeros"
    )]
    Frame {
        /// How it begins.
        head: &'static str,
        /// The most that is read.
        max: usize,
    },
    /// The operator's settings.
    #[error("settings, line {line}: {problem}")]
    Settings {
        /// From 1.
        line: usize,
        /// What is wrong.
        problem: SettingsProblem,
    },
    /// The network's settings contradict each other.
    #[error(
        "settings: `network = \"static\"` needs `address`; `address` and `gateway` belong to it alone"
    )]
    Network,
    /// The measured configuration does not say what it must.
    #[error("the measured configuration must be lines of `key = value`")]
    MeasuredConfiguration,
    /// An interface to use.
    #[error("one network interface is needed beside loopback, and {found} are there")]
    Interfaces {
        /// How many.
        found: usize,
    },
    /// Nobody gave an address.
    #[error("no DHCP server answered with an address")]
    NoLease,
    /// The kernel refused a change of the network.
    #[error("the kernel refused to change the network ({what}): {source}")]
    Netlink {
        /// Which change.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What the host configured at launch is not what it gives now.
    #[error(
        "{register} is neither zeros nor the digest of the settings: the host launched the guest for others"
    )]
    OtherSettings {
        /// MRCONFIGID or HOST_DATA.
        register: &'static str,
    },
    /// The TEE did not answer as it should.
    #[error("the TEE does not say what it was launched with: {what}")]
    Tee {
        /// What is missing.
        what: &'static str,
    },
    /// RTMR3 did not take the event.
    #[error("RTMR3 is not what was extended")]
    Rtmr3,
}

/// What is wrong with a line of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SettingsProblem {
    /// No line of this form.
    #[error("must be `key = value`, with one space on each side of the sign")]
    Form,
    /// A key that no guest knows.
    #[error("there is no such setting")]
    Unknown,
    /// A key that the measured root decides.
    #[error("this is decided by the measured image, since it can change who reads a prompt")]
    Measured,
    /// Said before.
    #[error("was said before")]
    Twice,
    /// Another type.
    #[error("must be a number")]
    Number,
    /// Another type.
    #[error(
        "must be a text in double quotes: printable ASCII without `\"` and `\\`, at most 512 characters"
    )]
    Text,
    /// Another type.
    #[error("must be a list of texts on one line: [\"a\", \"b\"]")]
    List,
    /// Another value.
    #[error("has no such value")]
    Value,
    /// Beyond any use.
    #[error("there are more lines than settings")]
    TooMany,
}

/// Says what was tried.
pub trait Attempt<T> {
    /// # Errors
    /// What failed, and at what.
    fn at(self, what: impl Into<String>) -> Result<T, GuestError>;
}

impl<T, E: Into<io::Error>> Attempt<T> for Result<T, E> {
    fn at(self, what: impl Into<String>) -> Result<T, GuestError> {
        self.map_err(|error| GuestError::Io { what: what.into(), source: error.into() })
    }
}
