//! A policy's lists of measurements: a guest must be one of their entries, and set up as that entry says.

use super::check::{CheckId, Checks, Outcome};
use crate::policy::Allow;

/// One that a guest of kind `G` may be.
pub(super) trait Entry<G> {
    /// What it is called.
    fn name(&self) -> String;

    /// Whether the guest measures into it. All of its registers at once: registers of two entries do not
    /// make a third.
    fn measures(&self, guest: &G) -> bool;

    /// Compares how the guest is set up.
    fn compare(&self, guest: &G, checks: &mut Checks);

    /// What [`Entry::compare`] looks at, for where there is nothing to compare with.
    fn settings(guest: &G) -> Vec<(CheckId, String)>;
}

/// Finds the guest's entry, as `check`, and compares with it; `found` is how the guest reads.
pub(super) fn one_entry<G, E: Entry<G>>(
    (check, found): (CheckId, &str),
    rule: &Option<Allow<E>>,
    guest: &G,
    checks: &mut Checks,
) {
    let Some(allowed) = checks.rule(check, rule) else { return };
    let Allow::Only(list) = allowed else {
        checks.skip(check, format!("{found}; the policy takes any"));
        for (setting, found) in E::settings(guest) {
            checks.skip(setting, format!("{found}; the policy takes any release"));
        }
        return;
    };
    let Some(entry) = best(list, guest) else {
        checks.fail(check, found);
        for (setting, found) in E::settings(guest) {
            checks.skip(setting, format!("{found}; there is no release to compare with"));
        }
        return;
    };
    checks.pass(check, entry.name());
    entry.compare(guest, checks);
}

/// Whether a list has an entry that fits in everything.
pub(super) fn has_fitting<G, E: Entry<G>>(list: &[E], guest: &G) -> bool {
    best(list, guest).is_some_and(|entry| fits(entry, guest))
}

/// Of several entries of these measurements, one that fits in everything; or the first, to say what does
/// not.
fn best<'e, G, E: Entry<G>>(list: &'e [E], guest: &G) -> Option<&'e E> {
    let measured = || list.iter().filter(|entry| entry.measures(guest));
    measured().find(|entry| fits(*entry, guest)).or(measured().next())
}

fn fits<G, E: Entry<G>>(entry: &E, guest: &G) -> bool {
    let mut checks = Checks::default();
    entry.compare(guest, &mut checks);
    checks.0.iter().all(|check| check.outcome != Outcome::Fail)
}
