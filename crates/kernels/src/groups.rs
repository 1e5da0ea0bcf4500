//! Groups of kernels: which the environment turns off, which ran, and which refused their input.
//!
//! `OBSCURA_REFERENCE=attention,conv` has the composed reference compute these, on every device: to find
//! out which kernel is wrong, or what each is worth.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    env, fmt,
    str::FromStr,
    sync::{Mutex, OnceLock, PoisonError},
};

use candle_core as candle;
use thiserror::Error;

/// The variable that names the groups which the reference computes.
pub const VARIABLE: &str = "OBSCURA_REFERENCE";

/// Kernels that are turned on and off together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Products and what follows them, quantisation included.
    Linear,
    /// Normalisations of tokens.
    Norm,
    /// Normalisation and rotation of queries and keys.
    Heads,
    /// Attention whose scores are never in memory.
    Attention,
    /// Attention with its scores in memory.
    Softmax,
    /// Normalisations of images.
    GroupNorm,
    /// 3×3 convolutions.
    Conv,
    /// Unpacking of latents, conversion to bytes.
    Image,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Linear,
        Self::Norm,
        Self::Heads,
        Self::Attention,
        Self::Softmax,
        Self::GroupNorm,
        Self::Conv,
        Self::Image,
    ];

    /// As [`VARIABLE`] names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Norm => "norm",
            Self::Heads => "heads",
            Self::Attention => "attention",
            Self::Softmax => "softmax",
            Self::GroupNorm => "group-norm",
            Self::Conv => "conv",
            Self::Image => "image",
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no group has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{VARIABLE}: no kernel group is called {name:?}; there are {}", Groups::all())]
pub struct UnknownGroup {
    /// What was asked for.
    pub name: String,
}

/// A set of groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Groups(u8);

impl Groups {
    fn all() -> Self {
        Group::ALL.into_iter().fold(Self::default(), Self::with)
    }

    /// With one more.
    #[must_use]
    pub fn with(self, group: Group) -> Self {
        Self(self.0 | 1 << group as u8)
    }

    /// With those of another set.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether a group is among them.
    #[must_use]
    pub fn contains(self, group: Group) -> bool {
        self.0 & 1 << group as u8 != 0
    }

    /// Each of them, in the order of [`Group::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Group> {
        Group::ALL.into_iter().filter(move |&group| self.contains(group))
    }

    /// Their names.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        self.iter().map(Group::name).collect()
    }
}

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(", "))
    }
}

impl FromStr for Groups {
    type Err = UnknownGroup;

    /// Names separated by commas; none in an empty list.
    fn from_str(list: &str) -> Result<Self, UnknownGroup> {
        let mut groups = Self::default();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let group = Group::ALL.into_iter().find(|group| group.name() == name);
            groups = groups.with(group.ok_or_else(|| UnknownGroup { name: name.to_owned() })?);
        }
        Ok(groups)
    }
}

/// The groups that the environment has the reference compute. Read once.
///
/// # Errors
/// Where the environment names one that there is not. No operation computes then.
pub fn turned_off() -> Result<Groups, UnknownGroup> {
    static OFF: OnceLock<Result<Groups, UnknownGroup>> = OnceLock::new();
    OFF.get_or_init(|| match env::var_os(VARIABLE) {
        Some(list) => list.to_string_lossy().parse(),
        None => Ok(Groups::default()),
    })
    .clone()
}

/// A kernel that was asked and had nothing, so that a slower one or the reference computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Whose.
    pub group: Group,
    /// Its own words.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// Refusals by group and reason, and how often each came.
struct Ledger(BTreeMap<(Group, String), u64>);

impl Ledger {
    /// Reasons that are kept apart; what comes behind them is counted under one of its own.
    const MOST: usize = 200;

    /// Counts one more; whether it is the first of its kind.
    fn count(&mut self, group: Group, reason: &str) -> bool {
        let known = self.0.contains_key(&(group, reason.to_owned()));
        let fits = known || self.0.len() < Self::MOST;
        let reason = if fits { reason } else { "and other reasons" };
        let count = self.0.entry((group, reason.to_owned())).or_default();
        *count += 1;
        *count == 1
    }

    fn all(&self) -> Vec<Refusal> {
        let all = self.0.iter();
        all.map(|((group, reason), &count)| Refusal {
            group: *group,
            reason: reason.clone(),
            count,
        })
        .collect()
    }
}

static REFUSALS: Mutex<Ledger> = Mutex::new(Ledger(BTreeMap::new()));

thread_local! {
    /// Groups that ran on this thread, or were to, since somebody asked.
    static RAN: Cell<Groups> = const { Cell::new(Groups(0)) };
    /// Why a kernel of this thread was last refused.
    static LATEST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// All refusals of this process so far.
#[must_use]
pub fn refusals() -> Vec<Refusal> {
    REFUSALS.lock().unwrap_or_else(PoisonError::into_inner).all()
}

/// Notes a refusal; the first of its kind is also logged.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
pub(crate) fn refuse(group: Group, reason: &str) {
    LATEST.set(Some(reason.to_owned()));
    if REFUSALS.lock().unwrap_or_else(PoisonError::into_inner).count(group, reason) {
        tracing::warn!(group = group.name(), reason, "a kernel was refused");
    }
}

/// Whether the environment leaves a group's kernels on.
pub(crate) fn is_on(group: Group) -> candle::Result<bool> {
    Ok(!turned_off().map_err(candle::Error::wrap)?.contains(group))
}

/// Notes that kernels of a group are about to run.
pub(crate) fn run(group: Group) {
    RAN.set(RAN.get().with(group));
}

/// A kernel's result, or `None` where one of its groups is turned off.
///
/// # Errors
/// The kernel's own, and where the environment names a group that there is not.
pub(crate) fn attempt<T>(
    groups: &[Group],
    kernel: impl FnOnce() -> candle::Result<T>,
) -> candle::Result<Option<T>> {
    for &group in groups {
        if !is_on(group)? {
            return Ok(None);
        }
    }
    groups.iter().copied().for_each(run);
    kernel().map(Some)
}

/// What happened to kernels while something ran.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    /// Those whose kernels ran, or were to.
    pub(crate) groups: Groups,
    /// Why one was last refused.
    pub(crate) refusal: Option<String>,
}

/// Runs `f` and tells what its kernels did, on this thread.
pub(crate) fn observe<T>(f: impl FnOnce() -> T) -> (T, Observed) {
    RAN.set(Groups::default());
    LATEST.set(None);
    let result = f();
    (result, Observed { groups: RAN.get(), refusal: LATEST.take() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_groups() {
        assert_eq!("".parse(), Ok(Groups::default()));
        let two: Groups = " attention,conv ,".parse().unwrap();
        assert_eq!(two.names(), ["attention", "conv"]);
        let all: Groups = Group::ALL.map(Group::name).join(",").parse().unwrap();
        assert_eq!(all, Groups::all());
    }

    #[test]
    fn a_name_that_no_group_has_is_an_error_that_lists_them() {
        let error = "conv,attentoin".parse::<Groups>().unwrap_err();
        assert_eq!(error.name, "attentoin");
        assert!(error.to_string().contains("heads, attention, softmax, group-norm"), "{error}");
    }

    #[test]
    fn refusals_are_counted_by_reason_and_told_to_who_looks_on() {
        let ((), seen) = observe(|| {
            run(Group::Heads);
            refuse(Group::Heads, "odd heads");
            refuse(Group::Heads, "odd heads");
        });
        assert_eq!(seen.groups.names(), ["heads"]);
        assert_eq!(seen.refusal.as_deref(), Some("odd heads"));
        let noted = refusals().into_iter().find(|refusal| refusal.reason == "odd heads").unwrap();
        assert_eq!((noted.group, noted.count), (Group::Heads, 2));
        assert!(observe(|| ()).1.refusal.is_none());
    }

    #[test]
    fn reasons_are_bounded() {
        let mut ledger = Ledger(BTreeMap::new());
        let first = (0..2 * Ledger::MOST)
            .filter(|i| ledger.count(Group::Image, &format!("reason {i}")))
            .count();
        assert_eq!((first, ledger.all().len()), (Ledger::MOST + 1, Ledger::MOST + 1));
        assert!(!ledger.count(Group::Image, "reason 7"));
        let counts: u64 = ledger.all().iter().map(|refusal| refusal.count).sum();
        assert_eq!(counts, 2 * Ledger::MOST as u64 + 1);
    }
}
