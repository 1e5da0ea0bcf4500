//! Cases of what Intel says of a platform: statuses, identities, revocation lists.

use serde_json::{Value, json};

use super::{
    Case,
    parts::{NOW, case, good, resign, slug, with_collateral},
};
use crate::{
    encoding::hex,
    simulator::pki::{self, LIFETIME_SECS},
};

/// What Intel says of a platform, signed by the keys that stand for Intel's, and lists of others.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, about: &str, change: &dyn Fn(&mut Value)| {
        cases.push(case(format!("intel-{name}"), about, &with_collateral(good(), change)));
    };
    for status in [
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "Revoked",
        "TDRelaunchAdvised",
        "Fine",
    ] {
        let about = "A platform of this status";
        add(format!("tcb-{}", slug(status)), about, &|all| {
            resign(all, "tcb_info", |info| info["tcbLevels"][0]["tcbStatus"] = status.into());
        });
    }
    for status in ["ConfigurationNeeded", "OutOfDate", "Revoked", "SWHardeningNeeded"] {
        let about = "A quoting enclave of this status";
        add(format!("qe-{}", slug(status)), about, &|all| {
            resign(all, "qe_identity", |id| id["tcbLevels"][0]["tcbStatus"] = status.into());
        });
    }
    type Edit = (&'static str, &'static str, Value);
    let tcb_info: [(&str, &str, Edit); 9] = [
        ("advisory", "An advisory is open", ("/tcbLevels/0", "advisoryIDs", json!(["INTEL-SA-1"]))),
        ("no-level", "Below every level", ("/tcbLevels/0/tcb", "pcesvn", json!(1))),
        ("no-levels", "No level at all", ("", "tcbLevels", json!([]))),
        (
            "components",
            "15 components",
            ("/tcbLevels/0/tcb", "sgxtcbcomponents", json!([{"svn":0}])),
        ),
        ("fmspc", "Of another kind of platform", ("", "fmspc", json!("000000000000"))),
        ("id", "Of enclaves, not of guests", ("", "id", json!("SGX"))),
        ("version", "Of an older form", ("", "version", json!(2))),
        ("no-module", "It says nothing of the TDX module", ("", "tdxModule", Value::Null)),
        (
            "module",
            "Another signed the TDX module",
            ("/tdxModule", "mrsigner", "1".repeat(96).into()),
        ),
    ];
    for (name, about, (at, field, value)) in tcb_info {
        add(format!("tcb-info-{name}"), about, &|all| {
            resign(all, "tcb_info", |info| info.pointer_mut(at).unwrap()[field] = value.clone());
        });
    }
    let identity: [(&str, &str, Edit); 6] = [
        ("signer", "Another signed the quoting enclave", ("", "mrsigner", "0".repeat(64).into())),
        ("product", "Another product", ("", "isvprodid", json!(3))),
        ("attributes", "Other attributes", ("", "attributes", "1".repeat(32).into())),
        ("misc", "Other MISCSELECT", ("", "miscselect", "1".repeat(8).into())),
        ("version", "Below every level", ("/tcbLevels/0/tcb", "isvsvn", json!(1))),
        ("id", "Of enclaves, not of guests", ("", "id", json!("QE"))),
    ];
    for (name, about, (at, field, value)) in identity {
        add(format!("qe-identity-{name}"), about, &|all| {
            resign(all, "qe_identity", |id| id.pointer_mut(at).unwrap()[field] = value.clone());
        });
    }
    for name in ["tcb_info", "qe_identity"] {
        add(
            format!("unsigned-{}", slug(name)),
            "It does not have the signature it came with",
            &|all| {
                let text = all[name].as_str().unwrap().replacen("Needed", "", 1) + " ";
                all[name] = text.into();
            },
        );
        add(format!("chain-of-chip-{}", slug(name)), "Signed under the chip's own chain", &|all| {
            all[format!("{name}_issuer_chain")] = pki::pck_chain().into();
        });
    }
    let from = NOW - 3600;
    let lists: [(&str, &str, &str, Vec<u8>); 10] = [
        (
            "root-forged",
            "The root's list is signed by another",
            "root_ca_crl",
            pki::crl(pki::PCK_CA, from, &[]),
        ),
        ("pck-forged", "The chips' list is the root's", "pck_crl", pki::crl(pki::ROOT, from, &[])),
        ("root-absent", "There is no list of the root's", "root_ca_crl", Vec::new()),
        ("pck-absent", "There is no list of the chips'", "pck_crl", Vec::new()),
        (
            "root-expired",
            "The root's list ends now",
            "root_ca_crl",
            pki::crl(pki::ROOT, NOW - LIFETIME_SECS, &[]),
        ),
        (
            "pck-expired",
            "The chips' list ends now",
            "pck_crl",
            pki::crl(pki::PCK_CA, NOW - LIFETIME_SECS, &[]),
        ),
        (
            "root-next",
            "The root's list begins in a second",
            "root_ca_crl",
            pki::crl(pki::ROOT, NOW + 1, &[]),
        ),
        (
            "pck-next",
            "The chips' list begins in a second",
            "pck_crl",
            pki::crl(pki::PCK_CA, NOW + 1, &[]),
        ),
        (
            "signer-revoked",
            "The signer of the TCB info is revoked",
            "root_ca_crl",
            pki::crl(pki::ROOT, from, &[pki::TCB]),
        ),
        (
            "issuer-revoked",
            "The chips' issuer is revoked",
            "root_ca_crl",
            pki::crl(pki::ROOT, from, &[pki::PCK_CA]),
        ),
    ];
    for (name, about, field, list) in lists {
        add(format!("list-{name}"), about, &|all| all[field] = hex(&list).into());
    }
    cases
}
