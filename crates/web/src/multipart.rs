//! Forms with files: `multipart/form-data` (RFC 7578), read where their bytes lie.
//!
//! Readers that take a body as it streams in keep copies of it at hand, of which whoever counts the memory of
//! bodies knows nothing. A body here is whole and bounded before it is read, so that its parts are slices of it.

use axum::http::{HeaderMap, header::CONTENT_TYPE};
use memchr::memmem;
use thiserror::Error;

/// The most parts: more than there are fields.
const MAX_PARTS: usize = 64;
/// Of a part's headers.
const MAX_HEADER_BYTES: usize = 8 * 1024;
/// Of a boundary (RFC 2046, 5.1.1).
const MAX_BOUNDARY_BYTES: usize = 70;

/// One field.
pub struct Part<'a> {
    /// As the form calls it.
    pub name: String,
    /// What it holds.
    pub data: &'a [u8],
}

/// Why a body is no form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidForm {
    /// Cut off, or not divided as its header says.
    #[error("the body is no multipart form, or is cut off")]
    Malformed,
    /// Too many fields.
    #[error("the form has more than {MAX_PARTS} parts")]
    TooManyParts,
    /// A part without a name.
    #[error("a part of the form has no name")]
    NoName,
    /// A part in base64, for instance: RFC 7578, 4.7, has none.
    #[error("a part of the form is encoded for transfer: send its bytes as they are")]
    Encoded,
}

/// What divides the parts, where the headers say that the body is a form.
#[must_use]
pub fn boundary(headers: &HeaderMap) -> Option<String> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(media_type), None) = (types.next(), types.next()) else { return None };
    let (essence, parameters) = media_type.to_str().ok()?.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters, "boundary")?;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    let is_bounded = (1..=MAX_BOUNDARY_BYTES).contains(&boundary.len());
    (is_bounded && boundary.bytes().all(is_allowed) && !boundary.ends_with(' ')).then_some(boundary)
}

/// The parts of a body, in their order.
///
/// # Errors
/// Where it is no form of this boundary.
pub fn parts<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Part<'a>>, InvalidForm> {
    let delimiter = format!("\r\n--{boundary}");
    let delimiter = memmem::Finder::new(&delimiter);
    let needle = delimiter.needle();
    // What stands before the first one is no part. It may begin the body, without an end of line.
    let mut rest = match body.strip_prefix(&needle[2..]) {
        Some(rest) => rest,
        None => &body[delimiter.find(body).ok_or(InvalidForm::Malformed)? + needle.len()..],
    };
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        if parts.len() == MAX_PARTS {
            return Err(InvalidForm::TooManyParts);
        }
        let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let line = rest[padding..].strip_prefix(b"\r\n").ok_or(InvalidForm::Malformed)?;
        let (head, data) = headers_of(line).ok_or(InvalidForm::Malformed)?;
        let end = delimiter.find(data).ok_or(InvalidForm::Malformed)?;
        parts.push(Part { name: name(head)?, data: &data[..end] });
        rest = &data[end + needle.len()..];
    }
    Ok(parts)
}

/// A part's headers, and what follows them.
fn headers_of(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let head = &part[..part.len().min(MAX_HEADER_BYTES)];
    let end = memmem::find(head, b"\r\n\r\n")?;
    Some((&part[..end], &part[end + 4..]))
}

fn name(headers: &[u8]) -> Result<String, InvalidForm> {
    let headers = str::from_utf8(headers).map_err(|_| InvalidForm::NoName)?;
    let mut name = None;
    for line in headers.split("\r\n") {
        let (header, value) = line.split_once(':').ok_or(InvalidForm::Malformed)?;
        let is = |known: &str| header.trim().eq_ignore_ascii_case(known);
        if is("content-disposition") {
            let (kind, parameters) = value.split_once(';').ok_or(InvalidForm::NoName)?;
            if kind.trim().eq_ignore_ascii_case("form-data") {
                name = parameter(parameters, "name");
            }
        } else if is("content-transfer-encoding") {
            let plain = ["binary", "8bit", "7bit"];
            if !plain.iter().any(|plain| value.trim().eq_ignore_ascii_case(plain)) {
                return Err(InvalidForm::Encoded);
            }
        }
    }
    name.ok_or(InvalidForm::NoName)
}

/// A parameter's value: `name="a \"quoted\" value"; other=token`.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let (token, after) = after.split_once(';').unwrap_or((after, ""));
                (token.trim().to_owned(), after)
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after;
    }
}

/// A text up to its closing quote, and what follows. A backslash stands before a quote or another one (RFC 9110,
/// 5.6.4); before anything else, as in the paths that old browsers send, it is itself.
fn unquoted(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => {
                let escaped = characters.next_if(|(_, next)| matches!(next, '"' | '\\'));
                value.push(escaped.map_or('\\', |(_, escaped)| escaped));
            }
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(media_type: &str) -> Option<String> {
        boundary(&HeaderMap::from_iter([(CONTENT_TYPE, media_type.parse().unwrap())]))
    }

    fn read(body: &str) -> Result<Vec<(String, Vec<u8>)>, InvalidForm> {
        let parts = parts(body.as_bytes(), "b")?;
        Ok(parts.into_iter().map(|part| (part.name, part.data.to_vec())).collect())
    }

    #[test]
    fn a_boundary_is_read_quoted_or_not() {
        assert_eq!(of("multipart/form-data; boundary=abc").as_deref(), Some("abc"));
        let quoted = of("Multipart/Form-Data;charset=\"u;\\\"8\"; Boundary=\"a b=c\"");
        assert_eq!(quoted.as_deref(), Some("a b=c"));
        for wrong in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"abc",
            "multipart/form-data; boundary=\"abc \"",
            "multipart/form-data; boundary=\"a\\\"b\"",
            "multipart/mixed; boundary=abc",
            "application/json; boundary=abc",
            &format!("multipart/form-data; boundary={}", "a".repeat(71)),
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        assert_eq!(boundary(&HeaderMap::new()), None);
    }

    #[test]
    fn parts_are_read_as_they_are() {
        let body = "before\r\n--b \t\r\nContent-Disposition: form-data; name=\"image[]\"; \
                    filename=\"C:\\a;\\\"b.png\"\r\nContent-Type: image/png\r\n\r\n\u{0}--b\r\n-\r\n\
                    --b\r\ncontent-disposition:form-data;name=prompt\r\n\r\na fox\r\n\
                    --b\r\nContent-Disposition: form-data; name=\"\"\r\n\r\n\r\n--b--\r\nafter --b";
        let expected = [("image[]", "\u{0}--b\r\n-"), ("prompt", "a fox"), ("", "")]
            .map(|(name, data)| (name.to_owned(), data.as_bytes().to_vec()));
        assert_eq!(read(body).unwrap(), expected);
        assert_eq!(read("--b--").unwrap(), []);
    }

    #[test]
    fn what_is_no_form_is_refused() {
        let named = "Content-Disposition: form-data; name=a";
        for (body, expected) in [
            (String::new(), InvalidForm::Malformed),
            ("--b".to_owned(), InvalidForm::Malformed),
            ("--c--".to_owned(), InvalidForm::Malformed),
            (format!("--b\n{named}\n\nx\n--b--"), InvalidForm::Malformed),
            (format!("--b\r\n{named}\r\n\r\nx"), InvalidForm::Malformed),
            (format!("--b\r\n{named}\r\n\r\nx\r\n--bc\r\n"), InvalidForm::Malformed),
            (format!("--b\r\n{named}"), InvalidForm::Malformed),
            ("--b\r\n\r\nx\r\n--b--".to_owned(), InvalidForm::Malformed),
            ("--b\r\nx\r\n\r\n\r\n--b--".to_owned(), InvalidForm::Malformed),
            ("--b\r\nA: b\r\n\r\nx\r\n--b--".to_owned(), InvalidForm::NoName),
            (
                "--b\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--b--".to_owned(),
                InvalidForm::NoName,
            ),
            (
                "--b\r\nContent-Disposition: form-data; name=\"a\r\n\r\nx\r\n--b--".to_owned(),
                InvalidForm::NoName,
            ),
            (
                format!("--b\r\n{named}\r\nContent-Transfer-Encoding: base64\r\n\r\nx\r\n--b--"),
                InvalidForm::Encoded,
            ),
            (
                format!("--b\r\n{named}\r\nX: {}\r\n\r\nx\r\n--b--", "x".repeat(9000)),
                InvalidForm::Malformed,
            ),
            (
                format!("{}--b--", format!("--b\r\n{named}\r\n\r\nx\r\n").repeat(65)),
                InvalidForm::TooManyParts,
            ),
        ] {
            assert_eq!(read(&body), Err(expected), "{body}");
        }
    }
}
