//! Tensors that are wiped when dropped, since they say something about a prompt or an image.

use std::rc::Rc;

use candle_core::Tensor;

use crate::Result;

/// A tensor that says something about a prompt or an image; wiped when dropped, where that can be done.
///
/// Views share the storage of what they are views of: only wrap what owns its own.
pub(crate) struct Wiped(pub(crate) Tensor);

impl Drop for Wiped {
    fn drop(&mut self) {
        // Failing to wipe must not hide the error that may be unwinding through here.
        let _ = kernels::wipe(&self.0);
    }
}

/// Several (l, d) → (n·l, d); the one there is, where it is alone.
pub(crate) fn concat_rows<'a>(parts: impl Iterator<Item = &'a Rc<Wiped>>) -> Result<Rc<Wiped>> {
    let parts: Vec<&Rc<Wiped>> = parts.collect();
    match &parts[..] {
        [alone] => Ok(Rc::clone(alone)),
        parts => {
            let tensors: Vec<&Tensor> = parts.iter().map(|part| &part.0).collect();
            Ok(Rc::new(Wiped(Tensor::cat(&tensors, 0)?)))
        }
    }
}
