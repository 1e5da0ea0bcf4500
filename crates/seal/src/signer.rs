//! Whose signatures a node trusts: the proxies in front of it.

use std::str::FromStr;

use crate::{
    encoding::decode_bounded,
    error::SignatureError,
    sui::{SuiAddress, SuiPublicKey, SuiSignature},
};

/// A proxy, by its Sui address or its public key.
///
/// As text, for a configuration file: `0x` and 64 hexadecimal digits, or base64 of flag ‖ public
/// key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrustedSigner {
    /// BLAKE2b-256(flag ‖ public key).
    Address(SuiAddress),
    /// The key itself.
    Key(SuiPublicKey),
}

/// Checks a proxy's `X-Signature` header: base64 in Sui's layout, over `message`, which is the 32
/// raw bytes of `plaintext_body_hash`; and says whose it is.
///
/// The signer is looked up first: strangers cost no curve arithmetic.
pub fn find_trusted_signer<'a>(
    trusted: &'a [TrustedSigner],
    header: &str,
    message: &[u8],
) -> Result<&'a TrustedSigner, SignatureError> {
    let signature = SuiSignature::from_base64(header)?;
    let signer = trusted
        .iter()
        .find(|signer| signer.is(signature.public_key()))
        .ok_or(SignatureError::NotTrusted)?;
    signature.verify(message)?;
    Ok(signer)
}

impl TrustedSigner {
    /// Whether this is the owner of `key`.
    pub fn is(&self, key: &SuiPublicKey) -> bool {
        match self {
            Self::Address(address) => key.address() == *address,
            Self::Key(trusted) => key == trusted,
        }
    }
}

impl FromStr for TrustedSigner {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(digits) = text.strip_prefix("0x") {
            return address(digits).map(Self::Address).ok_or(SignatureError::UnknownSignerText);
        }
        let bytes = decode_bounded(text, 64).ok_or(SignatureError::UnknownSignerText)?;
        SuiPublicKey::from_bytes(&bytes).map(Self::Key)
    }
}

/// Sui also prints addresses without leading zeros; a list of trusted signers has them in full, so
/// that a truncated line is an error and not another address.
fn address(digits: &str) -> Option<SuiAddress> {
    let digits: Vec<u32> = digits.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let bytes: Vec<u8> =
        digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
    bytes.try_into().ok().filter(|_| digits.len() == 64).map(SuiAddress)
}
