//! RTMR3.

use std::path::Path;

use super::Kernel;
use crate::evidence::{EvidenceError, Rtmr3};

fn rtmr3(kernel: &Kernel) -> Rtmr3 {
    let register = Path::new("/measurements/rtmr3:sha384");
    Rtmr3::with(Box::new(kernel.clone()), register, Path::new("/run/log"))
}

fn fresh() -> Kernel {
    let kernel = Kernel::default();
    kernel.set(|state| state.register = Some([0; 48]));
    kernel
}

#[test]
fn the_register_holds_the_model_once() {
    let kernel = fresh();
    let log = rtmr3(&kernel).measure_model([3; 32]).unwrap().unwrap();
    assert_eq!(kernel.set(|state| state.register), Some(log.replay()));
    // A node that is started again in the same guest goes on from there.
    let again = rtmr3(&kernel).measure_model([3; 32]).unwrap().unwrap();
    assert_eq!(again, log);
    assert_eq!(kernel.set(|state| state.register), Some(log.replay()));
}

#[test]
fn a_register_that_holds_something_else_is_no_evidence() {
    let kernel = fresh();
    rtmr3(&kernel).measure_model([3; 32]).unwrap();
    let other = rtmr3(&kernel).measure_model([4; 32]);
    assert!(matches!(other, Err(EvidenceError::Rtmr3OtherModel)));
    kernel.set(|state| state.kept.clear());
    let unlogged = rtmr3(&kernel).measure_model([3; 32]);
    assert!(matches!(unlogged, Err(EvidenceError::Rtmr3Unknown)));
}

#[test]
fn a_kernel_without_the_register_has_no_log() {
    assert_eq!(rtmr3(&Kernel::default()).measure_model([3; 32]).unwrap(), None);
}
