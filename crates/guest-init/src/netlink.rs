//! Messages that configure the network (Linux, `rtnetlink(7)`): an interface up, an address, a way out.

use std::{io, net::Ipv4Addr};

use crate::settings::Address;

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const ERROR: u16 = 2;
const REQUEST_ACK: u16 = 1 | 4;
const CREATE_REPLACE: u16 = 0x400 | 0x100;

/// Of every message: length, type, flags, sequence, port.
const HEADER_BYTES: usize = 16;
const INET: u8 = 2;
const UP: u32 = 1;

/// Sets an interface up.
#[must_use]
pub fn up(interface: u32) -> Vec<u8> {
    // struct ifinfomsg: family, padding, type; index; flags; which flags are meant.
    let body = [[0; 4], interface.to_ne_bytes(), UP.to_ne_bytes(), UP.to_ne_bytes()].concat();
    message(NEW_LINK, REQUEST_ACK, &body)
}

/// Gives an interface an address.
#[must_use]
pub fn address(interface: u32, address: &Address) -> Vec<u8> {
    const LOCAL: u16 = 2;
    const ADDRESS: u16 = 1;
    // struct ifaddrmsg: family, prefix, flags, scope; index.
    let mut body = vec![INET, address.prefix, 0, 0];
    body.extend_from_slice(&interface.to_ne_bytes());
    attribute(&mut body, LOCAL, &address.own.octets());
    attribute(&mut body, ADDRESS, &address.own.octets());
    message(NEW_ADDRESS, REQUEST_ACK | CREATE_REPLACE, &body)
}

/// Sends everything else through `gateway`.
#[must_use]
pub fn route(interface: u32, gateway: Ipv4Addr) -> Vec<u8> {
    const GATEWAY: u16 = 5;
    const INTERFACE: u16 = 4;
    const MAIN: u8 = 254;
    const STATIC: u8 = 4;
    const UNICAST: u8 = 1;
    // struct rtmsg: family, lengths of both prefixes, TOS, table, protocol, scope, type; flags.
    let mut body = vec![INET, 0, 0, 0, MAIN, STATIC, 0, UNICAST, 0, 0, 0, 0];
    attribute(&mut body, GATEWAY, &gateway.octets());
    attribute(&mut body, INTERFACE, &interface.to_ne_bytes());
    message(NEW_ROUTE, REQUEST_ACK | CREATE_REPLACE, &body)
}

/// What the kernel says to a message.
///
/// # Errors
/// Its error, or that this is no answer.
pub fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
    let code = answer.get(HEADER_BYTES..HEADER_BYTES + 4).and_then(|bytes| bytes.try_into().ok());
    match (kind, code.map(i32::from_ne_bytes)) {
        (Some(ERROR), Some(0)) => Ok(()),
        (Some(ERROR), Some(code)) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    // Sequence, and the kernel's port.
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(body);
    message
}

/// Four bytes of value, so that nothing has to be padded.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8; 4]) {
    body.extend_from_slice(&8u16.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_long_as_they_say() {
        let place = Address { own: [10, 0, 2, 15].into(), prefix: 24, gateway: None };
        for (message, bytes) in
            [(up(1), 32), (address(2, &place), 40), (route(2, [10, 0, 2, 2].into()), 44)]
        {
            assert_eq!(message.len(), bytes);
            assert_eq!(message[..4], u32::try_from(bytes).unwrap().to_ne_bytes());
        }
    }

    #[test]
    fn an_answer_is_zero_or_an_error() {
        let answer = |code: i32| {
            [&36u32.to_ne_bytes()[..], &2u16.to_ne_bytes(), &[0; 10], &code.to_ne_bytes()].concat()
        };
        assert!(acknowledged(&answer(0)).is_ok());
        assert_eq!(acknowledged(&answer(-17)).unwrap_err().raw_os_error(), Some(17));
        assert!(acknowledged(&answer(0)[..18]).is_err());
        assert!(acknowledged(&[0; 36]).is_err());
        assert!(acknowledged(b"").is_err());
    }
}
