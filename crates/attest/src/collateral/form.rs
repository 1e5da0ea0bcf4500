//! DER out of what services send.

use crate::encoding::unbase64;

use super::{MAX_DOCUMENT_BYTES, unhex};

/// DER as it is; or out of hex, as a PCCS sends it, of base64, or of one PEM block, as caches do. Whoever reads it
/// sees whether it is what it should be.
pub(super) fn der(bytes: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).ok().map(str::trim);
    let read = text.and_then(|text| unhex(text).or_else(|| unbase64_lines(block(text)?)));
    read.unwrap_or_else(|| bytes.to_vec())
}

/// What stands between the lines of PEM (RFC 7468), or all where there are none. None of what has several blocks.
fn block(text: &str) -> Option<&str> {
    let Some(rest) = text.strip_prefix("-----BEGIN ") else { return Some(text) };
    let (label, rest) = rest.split_once("-----")?;
    let (block, after) = rest.split_once(&format!("-----END {label}-----"))?;
    after.is_empty().then_some(block)
}

fn unbase64_lines(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.split_ascii_whitespace().collect();
    unbase64(&digits, MAX_DOCUMENT_BYTES).filter(|bytes| !bytes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::{base64, hex};

    #[test]
    fn one_document_in_every_form_that_is_met() {
        let document: Vec<u8> = (0..100).map(|byte| byte ^ 0x30).collect();
        let in_base64 = base64(&document);
        let (first, second) = in_base64.split_at(64);
        let pem =
            format!("-----BEGIN X509 CRL-----\r\n{first}\r\n{second}\r\n-----END X509 CRL-----\n");
        for form in [hex(&document).to_uppercase(), hex(&document), in_base64.clone(), pem.clone()]
        {
            assert_eq!(der(form.as_bytes()), document, "{form}");
        }
        assert_eq!(der(&document), document);
        for wrong in [pem.repeat(2), pem.replace("END X509 CRL", "END CERTIFICATE"), String::new()]
        {
            assert_eq!(der(wrong.as_bytes()), wrong.as_bytes(), "{wrong}");
        }
    }
}
