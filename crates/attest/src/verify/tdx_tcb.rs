//! The platform's firmware, by what Intel says of it: a check for each thing a policy decides.

use dcap_qvl::{PckCertFlag, QuoteClaims};

use super::{
    check::{
        CheckId, Checks, TDX_ADVISORIES, TDX_CACHED_KEYS, TDX_COLLATERAL, TDX_DYNAMIC_PLATFORM,
        TDX_SMT, TDX_TCB_EVALUATION, TDX_TCB_STATUS,
    },
    common::permitted,
};
use crate::policy::{Allow, Permit, TdxRules};

pub(super) fn appraise(claims: &QuoteClaims, rules: &TdxRules, checks: &mut Checks) {
    status(claims, rules, checks);
    advisories(claims, rules, checks);
    if let Some(&min) = checks.rule(TDX_TCB_EVALUATION, &rules.min_tcb_evaluation_data_number) {
        let number = claims.tcb.eval_data_number;
        checks.expect(TDX_TCB_EVALUATION, number >= min, format!("{number}, at least {min}"));
    }
    let pck = &claims.platform.pck;
    flag(TDX_DYNAMIC_PLATFORM, &rules.dynamic_platform, pck.dynamic_platform, checks);
    flag(TDX_CACHED_KEYS, &rules.cached_keys, pck.cached_keys, checks);
    flag(TDX_SMT, &rules.smt, pck.smt_enabled, checks);
}

/// Lists, TCB info and QE identity hold from their beginning until the next are due, and no second
/// longer: dcap-qvl does not ask whether a list has begun, and takes some in the second they end.
pub(super) fn dates(claims: &QuoteClaims, now_secs: u64, checks: &mut Checks) {
    let (from, until) = (claims.latest_issue_date, claims.earliest_expiration_date);
    let detail = format!("from {from} until {until}, now {now_secs}");
    checks.expect(TDX_COLLATERAL, from <= now_secs && now_secs < until, detail);
}

/// The status that platform, TDX module and quoting enclave converge to; where the firmware changed
/// under a running guest, the guest's launch and the present both count.
fn status(claims: &QuoteClaims, rules: &TdxRules, checks: &mut Checks) {
    if let Some(allowed) = checks.rule(TDX_TCB_STATUS, &rules.tcb_statuses) {
        let status = claims.tcb.status;
        let detail = format!("{status}, firmware of {}", claims.platform.tcb_level.tcb_date);
        checks.expect(TDX_TCB_STATUS, allowed.contains(&status), detail);
    }
}

fn advisories(claims: &QuoteClaims, rules: &TdxRules, checks: &mut Checks) {
    let current = claims.platform.current_tcb_level.iter().flat_map(|level| &level.advisory_ids);
    let mut open: Vec<&str> = claims
        .platform
        .tcb_level
        .advisory_ids
        .iter()
        .chain(current)
        .chain(&claims.qe.tcb_level.advisory_ids)
        .chain(&claims.tcb.advisory_ids)
        .map(String::as_str)
        .collect();
    open.sort_unstable();
    open.dedup();
    let Some(allowed) = checks.rule(TDX_ADVISORIES, &rules.advisories) else { return };
    match allowed {
        _ if open.is_empty() => checks.pass(TDX_ADVISORIES, "none is open"),
        Allow::Any => {
            checks.skip(TDX_ADVISORIES, format!("{}; the policy takes any", open.join(", ")));
        }
        Allow::Only(list) => {
            let holds = open.iter().all(|id| list.iter().any(|allowed| allowed == id));
            checks.expect(TDX_ADVISORIES, holds, open.join(", "));
        }
    }
}

/// Certificates of single-package platforms do not have these flags: there is nothing to permit.
fn flag(check: CheckId, rule: &Option<Permit>, found: PckCertFlag, checks: &mut Checks) {
    permitted(check, rule, found == PckCertFlag::True, checks);
}
