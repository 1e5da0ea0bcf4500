//! Which kernels a GPU uses: all of them, unless the environment names some that it should not.
//!
//! For finding out which one is wrong, or what each is worth: `OBSCURA_REFERENCE=attention,conv` has
//! the composed reference compute these.

use std::{env, sync::OnceLock};

/// Kernels that are turned on and off together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    Linear,
    Norm,
    Heads,
    Attention,
    Softmax,
    GroupNorm,
    Conv,
    Picture,
}

const VARIABLE: &str = "OBSCURA_REFERENCE";

/// Whether the environment leaves it on.
pub(crate) fn is_on(kernel: Kernel) -> bool {
    static OFF: OnceLock<u8> = OnceLock::new();
    let off = OFF.get_or_init(|| named(&env::var(VARIABLE).unwrap_or_default()));
    off & bit(kernel) == 0
}

fn named(list: &str) -> u8 {
    list.split(',').filter_map(|name| parse(name.trim())).map(bit).sum()
}

fn parse(name: &str) -> Option<Kernel> {
    Some(match name {
        "linear" => Kernel::Linear,
        "norm" => Kernel::Norm,
        "heads" => Kernel::Heads,
        "attention" => Kernel::Attention,
        "softmax" => Kernel::Softmax,
        "group-norm" => Kernel::GroupNorm,
        "conv" => Kernel::Conv,
        "picture" => Kernel::Picture,
        _ => return None,
    })
}

fn bit(kernel: Kernel) -> u8 {
    1 << kernel as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_kernels() {
        assert_eq!(named(""), 0);
        assert_eq!(named("attention, conv"), bit(Kernel::Attention) | bit(Kernel::Conv));
        assert_eq!(named("nothing"), 0);
    }
}
