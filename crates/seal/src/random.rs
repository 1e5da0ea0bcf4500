//! The operating system's randomness, the one thing this crate takes from outside.

use zeroize::Zeroizing;

use crate::error::SealError;

/// `N` fresh bytes that are not secret: a nonce, a salt.
pub(crate) fn public<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// 32 fresh bytes for a key.
pub(crate) fn secret() -> Result<Zeroizing<[u8; 32]>, SealError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice())?;
    Ok(bytes)
}
