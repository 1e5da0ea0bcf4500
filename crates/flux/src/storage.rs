//! How weights are stored (plain, packed, in 8 bits), decided before they are read.

use candle_core::Device;
use kernels::Precision;

use crate::role::Role;

/// How weights are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Storage {
    /// In the order in which a CPU reads them, where it computes: not those that only rest there.
    pub(crate) packed: bool,
    /// Which linear layers are in 8 bits.
    pub(crate) in_8_bits: In8Bits,
}

/// Linear layers in 8 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum In8Bits {
    #[default]
    None,
    /// In e4m3, those of the transformer's blocks but for their modulation.
    Blocks,
    /// In integers, all of them.
    All,
}

impl Storage {
    /// Of what a component is for. A text encoder computes on `device` wherever its weights rest.
    pub(crate) fn of(role: Role, device: &Device, precision: Precision) -> Self {
        let in_8_bits = match (precision, role) {
            (Precision::Int8, Role::TextEncoder | Role::Transformer) => In8Bits::All,
            (Precision::Fp8, Role::Transformer) => In8Bits::Blocks,
            _ => In8Bits::None,
        };
        Self { packed: device.is_cpu(), in_8_bits }
    }
}
