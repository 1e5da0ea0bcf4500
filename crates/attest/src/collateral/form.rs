//! What services send, read: DER, signed objects, chains of certificates.

use serde_json::Value;

use super::{CollateralError, MAX_DOCUMENT_BYTES};
use crate::encoding::{unbase64, unhex};

/// DER as it is; or out of hex, as a PCCS sends it, of base64, or of one PEM block, as caches do. Whoever reads it
/// sees whether it is what it should be.
pub(super) fn der(bytes: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).ok().map(str::trim);
    let read = text.and_then(|text| unhex_any_case(text).or_else(|| unbase64_lines(block(text)?)));
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

/// `{"tcbInfo": {…}, "signature": "…"}`: the object as the very bytes that are signed, and the signature.
pub(super) fn signed(
    body: &[u8],
    name: &str,
    what: &'static str,
) -> Result<(String, Vec<u8>), CollateralError> {
    let unread = || CollateralError::Document { what };
    let text = std::str::from_utf8(body).map_err(|_| unread())?;
    let json: Value = serde_json::from_str(text).map_err(|_| unread())?;
    let signature = json.get("signature").and_then(Value::as_str).and_then(unhex_any_case);
    // Written anew it would have other bytes. The first time that its name comes it is a key: nothing
    // comes before it but the brace and, perhaps, the signature.
    let quoted = format!("\"{name}\"");
    let at = text.find(&quoted).ok_or_else(unread)? + quoted.len();
    let rest = text[at..].trim_start().strip_prefix(':').ok_or_else(unread)?;
    let mut objects = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
    let object = objects.next().and_then(Result::ok).filter(Value::is_object);
    object.ok_or_else(unread)?;
    let object = rest[..objects.byte_offset()].trim_start().to_owned();
    Ok((object, signature.ok_or_else(unread)?))
}

/// PEM, percent-encoded as headers have it (RFC 3986, 2.1).
pub(super) fn chain(header: &str, what: &'static str) -> Result<String, CollateralError> {
    let mut bytes = Vec::with_capacity(header.len());
    let mut rest = header.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let pair = [rest.next(), rest.next()]
                    .map(|digit| digit.and_then(|digit| char::from(digit).to_digit(16)));
                match pair {
                    [Some(high), Some(low)] => (high * 16 + low) as u8,
                    _ => return Err(CollateralError::Document { what }),
                }
            }
            byte => byte,
        };
        bytes.push(byte);
    }
    let text = String::from_utf8(bytes).ok();
    text.filter(|text| text.starts_with("-----BEGIN CERTIFICATE-----"))
        .ok_or(CollateralError::Document { what })
}

/// Digits of either case: Intel writes small ones, and caches of its answers what they like.
fn unhex_any_case(text: &str) -> Option<Vec<u8>> {
    unhex(&text.to_ascii_lowercase()).filter(|bytes| !bytes.is_empty())
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

    #[test]
    fn a_signature_is_hexadecimal_digits_alone() {
        let read = |signature: &str| {
            let body = format!("{{\"tcbInfo\": {{\"a\": 1}}, \"signature\": \"{signature}\"}}");
            signed(body.as_bytes(), "tcbInfo", "TCB info")
        };
        for signature in ["0fff", "0FfF"] {
            assert_eq!(read(signature).unwrap(), ("{\"a\": 1}".to_owned(), vec![0x0f, 0xff]));
        }
        for signature in ["", "0", "+f", "-0", "0f+f", "0x0f", " 0f", "é", "gg"] {
            let refused = read(signature);
            assert_eq!(refused, Err(CollateralError::Document { what: "TCB info" }), "{signature}");
        }
    }
}
