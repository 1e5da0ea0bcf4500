//! Which platform and which image a TDX guest is, by what it measured into, and how it is set up.
//!
//! A policy names them together (`tdx.releases`), or each for itself (`tdx.platforms`, `tdx.images`),
//! where every image may run on every platform. Both parts are required, and each has its own check.

use dcap_qvl::quote::TDReport10;

use super::{
    check::{
        CheckId, Checks, TDX_CONFIG_ID, TDX_IMAGE, TDX_MODULE, TDX_MODULE_ATTRIBUTES,
        TDX_MODULE_SIGNER, TDX_OWNER, TDX_OWNER_CONFIG, TDX_PLATFORM, TDX_RELEASE,
        TDX_TD_ATTRIBUTES, TDX_XFAM,
    },
    common::one_hex,
    entries::{Entry, has_fitting, one_entry},
};
use crate::{
    encoding::hex,
    policy::{Allow, TdxImage, TdxPlatform, TdxRelease, TdxRules},
};

pub(super) fn appraise(td: &TDReport10, rules: &TdxRules, checks: &mut Checks) {
    let in_parts = rules.platforms.is_some() || rules.images.is_some();
    let whole = match &rules.releases {
        // Whoever names parts does not mean that any release goes.
        Some(Allow::Any) => !in_parts,
        Some(Allow::Only(list)) => has_fitting(list, td),
        None => false,
    };
    if whole || !in_parts {
        let found = match &rules.releases {
            Some(Allow::Only(list)) => missing_part(list, td),
            _ => format!("MRTD {}", hex(&td.mr_td)),
        };
        return one_entry((TDX_RELEASE, &found), &rules.releases, td, checks);
    }
    let found = format!("MRTD {}, RTMR0 {}", hex(&td.mr_td), hex(&td.rt_mr0));
    one_entry((TDX_PLATFORM, &found), &rules.platforms, td, checks);
    let found = format!("RTMR1 {}, RTMR2 {}", hex(&td.rt_mr1), hex(&td.rt_mr2));
    one_entry((TDX_IMAGE, &found), &rules.images, td, checks);
}

/// Which part of a guest no release has.
fn missing_part(list: &[TdxRelease], td: &TDReport10) -> String {
    let platform = list.iter().any(|release| release.is_platform_of(td));
    let image = list.iter().any(|release| release.is_image_of(td));
    let mrtd = format!("MRTD {}", hex(&td.mr_td));
    match (platform, image) {
        (false, false) => format!("{mrtd}: neither platform nor image is of a release"),
        (false, true) => {
            format!("{mrtd}: the image is of a release, the platform (MRTD, RTMR0) is not")
        }
        (true, false) => {
            format!("{mrtd}: the platform is of a release, the image (RTMR1, RTMR2) is not")
        }
        (true, true) => format!("{mrtd}: platform and image are of different releases"),
    }
}

impl TdxRelease {
    fn is_platform_of(&self, td: &TDReport10) -> bool {
        self.mrtd.0 == td.mr_td && self.rtmr0.0 == td.rt_mr0
    }

    fn is_image_of(&self, td: &TDReport10) -> bool {
        self.rtmr1.0 == td.rt_mr1 && self.rtmr2.0 == td.rt_mr2
    }
}

impl Entry<TDReport10> for TdxRelease {
    fn name(&self) -> String {
        format!("release {}", self.name)
    }

    fn measures(&self, td: &TDReport10) -> bool {
        self.is_platform_of(td) && self.is_image_of(td)
    }

    fn compare(&self, td: &TDReport10, checks: &mut Checks) {
        one_hex(TDX_CONFIG_ID, &self.mrconfigid, td.mr_config_id, checks);
        one_hex(TDX_OWNER, &self.mrowner, td.mr_owner, checks);
        one_hex(TDX_OWNER_CONFIG, &self.mrownerconfig, td.mr_owner_config, checks);
        one_hex(TDX_XFAM, &self.xfam, td.xfam, checks);
        one_hex(TDX_TD_ATTRIBUTES, &self.td_attributes, td.td_attributes, checks);
        one_hex(TDX_MODULE, &self.mrseam, td.mr_seam, checks);
        one_hex(TDX_MODULE_SIGNER, &self.mrsignerseam, td.mr_signer_seam, checks);
        one_hex(TDX_MODULE_ATTRIBUTES, &self.seam_attributes, td.seam_attributes, checks);
    }

    fn settings(td: &TDReport10) -> Vec<(CheckId, String)> {
        [TdxImage::settings(td), TdxPlatform::settings(td)].concat()
    }
}

impl Entry<TDReport10> for TdxPlatform {
    fn name(&self) -> String {
        format!("platform {}", self.name)
    }

    fn measures(&self, td: &TDReport10) -> bool {
        self.mrtd.0 == td.mr_td && self.rtmr0.0 == td.rt_mr0
    }

    fn compare(&self, td: &TDReport10, checks: &mut Checks) {
        one_hex(TDX_XFAM, &self.xfam, td.xfam, checks);
        one_hex(TDX_TD_ATTRIBUTES, &self.td_attributes, td.td_attributes, checks);
        one_hex(TDX_MODULE, &self.mrseam, td.mr_seam, checks);
        one_hex(TDX_MODULE_SIGNER, &self.mrsignerseam, td.mr_signer_seam, checks);
        one_hex(TDX_MODULE_ATTRIBUTES, &self.seam_attributes, td.seam_attributes, checks);
    }

    fn settings(td: &TDReport10) -> Vec<(CheckId, String)> {
        vec![
            (TDX_XFAM, hex(&td.xfam)),
            (TDX_TD_ATTRIBUTES, hex(&td.td_attributes)),
            (TDX_MODULE, hex(&td.mr_seam)),
            (TDX_MODULE_SIGNER, hex(&td.mr_signer_seam)),
            (TDX_MODULE_ATTRIBUTES, hex(&td.seam_attributes)),
        ]
    }
}

impl Entry<TDReport10> for TdxImage {
    fn name(&self) -> String {
        format!("image {}", self.name)
    }

    fn measures(&self, td: &TDReport10) -> bool {
        self.rtmr1.0 == td.rt_mr1 && self.rtmr2.0 == td.rt_mr2
    }

    fn compare(&self, td: &TDReport10, checks: &mut Checks) {
        one_hex(TDX_CONFIG_ID, &self.mrconfigid, td.mr_config_id, checks);
        one_hex(TDX_OWNER, &self.mrowner, td.mr_owner, checks);
        one_hex(TDX_OWNER_CONFIG, &self.mrownerconfig, td.mr_owner_config, checks);
    }

    fn settings(td: &TDReport10) -> Vec<(CheckId, String)> {
        vec![
            (TDX_CONFIG_ID, hex(&td.mr_config_id)),
            (TDX_OWNER, hex(&td.mr_owner)),
            (TDX_OWNER_CONFIG, hex(&td.mr_owner_config)),
        ]
    }
}
