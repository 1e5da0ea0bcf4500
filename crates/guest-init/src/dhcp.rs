//! One address by DHCP (RFC 2131, options by RFC 2132). The network is the host's: nothing here is believed
//! beyond where the guest sends its packets.

use std::net::Ipv4Addr;

use crate::settings::Address;

/// The longest message that is read.
pub const MAX_MESSAGE_BYTES: usize = 1500;

const FIXED_BYTES: usize = 236;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
const MASK: u8 = 1;
const ROUTER: u8 = 3;
const REQUESTED: u8 = 50;
const LEASE_SECS: u8 = 51;
const MESSAGE: u8 = 53;
const SERVER: u8 = 54;
const PARAMETERS: u8 = 55;
/// Where a server names no time, or an absurd one.
const LEAST_LEASE_SECS: u32 = 60;

/// One exchange: what an answer must repeat.
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    /// Chosen at random.
    pub id: [u8; 4],
    /// The interface's address.
    pub mac: [u8; 6],
}

/// What a server offers, or grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// For this guest.
    pub address: Address,
    /// Who offers it.
    pub server: Ipv4Addr,
    /// How long it may be used, in seconds.
    pub lease_secs: u32,
}

impl Exchange {
    /// Asks everybody for an offer.
    #[must_use]
    pub fn discover(&self) -> Vec<u8> {
        self.message(1, &[])
    }

    /// Takes an offer.
    #[must_use]
    pub fn request(&self, offer: &Offer) -> Vec<u8> {
        self.message(3, &[(REQUESTED, offer.address.own), (SERVER, offer.server)])
    }

    /// An offer, where these bytes are one of this exchange.
    #[must_use]
    pub fn offered(&self, message: &[u8]) -> Option<Offer> {
        self.answer(message, 2)
    }

    /// A grant, where these bytes are one of this exchange.
    #[must_use]
    pub fn granted(&self, message: &[u8]) -> Option<Offer> {
        self.answer(message, 5)
    }

    fn message(&self, kind: u8, addresses: &[(u8, Ipv4Addr)]) -> Vec<u8> {
        let mut message = vec![0; FIXED_BYTES];
        // From a client, over Ethernet, whose addresses have six bytes.
        message[..3].copy_from_slice(&[1, 1, 6]);
        message[4..8].copy_from_slice(&self.id);
        // To be answered by broadcast: there is no address yet to send to.
        message[10] = 0x80;
        message[28..34].copy_from_slice(&self.mac);
        message.extend_from_slice(&MAGIC);
        message.extend_from_slice(&[MESSAGE, 1, kind]);
        for (option, address) in addresses {
            message.extend_from_slice(&[*option, 4]);
            message.extend_from_slice(&address.octets());
        }
        message.extend_from_slice(&[PARAMETERS, 3, MASK, ROUTER, LEASE_SECS, 255]);
        message
    }

    fn answer(&self, message: &[u8], kind: u8) -> Option<Offer> {
        let (fixed, rest) = message.split_at_checked(FIXED_BYTES)?;
        let options = rest.strip_prefix(&MAGIC)?;
        let ours = fixed[0] == 2 && fixed[4..8] == self.id && fixed[28..34] == self.mac;
        if !ours || option(options, MESSAGE) != Some(&[kind]) {
            return None;
        }
        let of = |wanted| address(option(options, wanted)?);
        let own = address(fixed.get(16..20)?)?;
        let mask = of(MASK).map_or(0xFFFF_FF00, u32::from);
        // A mask is ones, then zeros.
        let prefix = mask.leading_ones();
        if own.is_unspecified() || own.is_broadcast() || mask.count_ones() != prefix {
            return None;
        }
        let secs = option(options, LEASE_SECS)
            .and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)));
        Some(Offer {
            address: Address { own, prefix: u8::try_from(prefix).ok()?, gateway: of(ROUTER) },
            server: of(SERVER)?,
            lease_secs: secs.unwrap_or(LEAST_LEASE_SECS).max(LEAST_LEASE_SECS),
        })
    }
}

/// The first value of an option.
fn option(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [255, ..] | [] | [_] => return None,
            [code, length, rest @ ..] => {
                let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                if *code == wanted {
                    return Some(value);
                }
                options = rest;
            }
        }
    }
}

/// The first of one or more addresses.
fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXCHANGE: Exchange = Exchange { id: [1, 2, 3, 4], mac: [2, 0, 0, 0, 0, 9] };

    fn answer(kind: u8, more: &[u8]) -> Vec<u8> {
        let mut answer = EXCHANGE.discover()[..FIXED_BYTES].to_vec();
        answer[0] = 2;
        answer[16..20].copy_from_slice(&[10, 0, 2, 15]);
        answer.extend_from_slice(&MAGIC);
        answer.extend_from_slice(&[0, MESSAGE, 1, kind, SERVER, 4, 10, 0, 2, 2]);
        answer.extend_from_slice(more);
        answer.push(255);
        answer
    }

    #[test]
    fn an_offer_is_taken() {
        let options = [1, 4, 255, 255, 0, 0, 3, 8, 10, 0, 2, 2, 10, 0, 2, 3, 51, 4, 0, 1, 81, 128];
        let offer = EXCHANGE.offered(&answer(2, &options)).unwrap();
        let gateway = Some([10, 0, 2, 2].into());
        let address = Address { own: [10, 0, 2, 15].into(), prefix: 16, gateway };
        assert_eq!((offer.address, offer.lease_secs), (address, 86400));
        let asked = EXCHANGE.request(&offer);
        assert!(asked.windows(12).any(|at| at == [50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2]));
        let granted = EXCHANGE.granted(&answer(5, &[])).unwrap();
        assert_eq!(
            (granted.address.prefix, granted.address.gateway, granted.lease_secs),
            (24, None, 60)
        );
    }

    #[test]
    fn what_is_no_answer_to_us_is_passed_over() {
        let good = answer(2, &[]);
        assert!(EXCHANGE.granted(&good).is_none());
        for (at, byte) in [(0, 1), (4, 9), (28, 9), (236, 0)] {
            let mut other = good.clone();
            other[at] = byte;
            assert!(EXCHANGE.offered(&other).is_none(), "byte {at}");
        }
        // An end too early, a mask with a hole, no server, no address.
        assert!(EXCHANGE.offered(&good[..240]).is_none());
        assert!(EXCHANGE.offered(&answer(2, &[1, 4, 255, 0, 255, 0])).is_none());
        assert!(EXCHANGE.offered(&answer(2, &[])[..248]).is_none());
        let mut none = good;
        none[16..20].fill(0);
        assert!(EXCHANGE.offered(&none).is_none());
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_passed_over(options in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = EXCHANGE.offered(&answer(2, &options));
            let _ = EXCHANGE.offered(&options);
        }
    }
}
