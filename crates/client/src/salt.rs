//! Version 1 of the wire sends the body's unsalted hash in clear text, which lets anybody confirm a
//! guessed prompt. Random text in the body makes that hash say nothing. Its length is hidden by the
//! padding of [`seal::seal_request`].

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use protocol::CreateImageRequest;

use crate::ClientError;

/// As many as the hash has.
const SALT_BYTES: usize = 32;

/// Fills the request's `padding`.
pub(crate) fn add(request: &mut CreateImageRequest) -> Result<(), ClientError> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|_| ClientError::Randomness)?;
    request.padding = Some(BASE64_STANDARD_NO_PAD.encode(salt));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_prompt_never_has_one_hash() {
        let body = || {
            let mut request = CreateImageRequest::default();
            add(&mut request).unwrap();
            request.to_json()
        };
        assert_ne!(*body(), *body());
    }
}
