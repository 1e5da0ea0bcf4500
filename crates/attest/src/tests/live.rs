//! The whole report of a live node with TDX and eight GPUs, as another project published it.

use serde_json::Value;

use super::fixture;
use crate::{
    encoding::{hex, unhex, unhex_array},
    event_log::extend,
};

/// Registers of a version 4 quote: after 48 bytes of header, 328 of report.
const RTMR0: usize = 48 + 328;

#[test]
fn the_event_logs_replay_to_all_four_registers() {
    let report: Value = serde_json::from_slice(&fixture("live/near-report.json")).unwrap();
    let model = &report["model_attestations"][0];
    let gateway = &report["gateway_attestation"];
    for node in [model, gateway] {
        let quote = unhex(node["intel_quote"].as_str().unwrap()).unwrap();
        let log = match &node["event_log"] {
            Value::String(text) => serde_json::from_str(text).unwrap(),
            log => log.clone(),
        };
        for register in 0..4 {
            let events = log.as_array().unwrap().iter();
            let digests = events
                .filter(|event| event["imr"] == register)
                .map(|event| unhex_array(event["digest"].as_str().unwrap()).unwrap());
            let replayed = digests.fold([0; 48], |register, digest| extend(&register, &digest));
            let at = RTMR0 + 48 * usize::try_from(register).unwrap();
            assert_eq!(hex(&replayed), hex(&quote[at..at + 48]), "RTMR{register}");
        }
    }
}
