//! How weights are stored (plain, packed, in 8 bits), decided before they are read.

use candle_core::Device;
use kernels::Precision;

use crate::role::Role;

/// How weights are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Storage {
    /// In the order in which a CPU reads them, where it computes: not those that only rest there.
    pub(crate) packed: bool,
    /// Whether the layers that every step of the sampler runs through are in 8 bits.
    pub(crate) e4m3: bool,
}

impl Storage {
    /// Of a text encoder that computes on `device`, wherever its weights rest.
    fn of_text_encoder(device: &Device) -> Self {
        Self { packed: device.is_cpu(), e4m3: false }
    }

    /// Of what a component is for.
    pub(crate) fn of(role: Role, device: &Device, precision: Precision) -> Self {
        match role {
            Role::TextEncoder => Self::of_text_encoder(device),
            Role::Transformer | Role::AutoEncoder => Self::new(device, precision),
        }
    }

    /// Of transformer and autoencoder.
    fn new(device: &Device, precision: Precision) -> Self {
        Self { packed: device.is_cpu(), e4m3: precision == Precision::Fp8 }
    }
}
