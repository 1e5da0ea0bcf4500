//! One interface, one IPv4 address.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

use guest_init::{
    dhcp::{Exchange, MAX_MESSAGE_BYTES, Offer},
    error::{Attempt, GuestError},
    netlink,
    settings::{Address, Network},
};
use rustix::{
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketType, netlink::SocketAddrNetlink, recv, sendto,
        socket,
    },
    rand::{GetRandomFlags, getrandom},
};
use socket2::{Domain, Socket, Type};

use crate::console::say;

const INTERFACES: &str = "/sys/class/net";
const LOOPBACK: &str = "lo";
const TRIES: u32 = 8;
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The interface as it is configured, and when that has to be asked for again.
pub(crate) struct Configured {
    interface: Interface,
    lease: Option<Lease>,
}

struct Lease {
    offer: Offer,
    renew_at: Instant,
}

struct Interface {
    name: String,
    index: u32,
    mac: [u8; 6],
}

/// Sets loopback and the machine's one interface up, and gives it an address.
pub(crate) fn configure(network: &Network) -> Result<Configured, GuestError> {
    change("loopback", &netlink::up(Interface::read(LOOPBACK)?.index))?;
    let interface = Interface::only()?;
    change("interface", &netlink::up(interface.index))?;
    let (address, lease) = match network {
        Network::Static(address) => (*address, None),
        Network::Dhcp => {
            let offer = interface.lease()?;
            (offer.address, Some(Lease::new(offer)))
        }
    };
    interface.assign(&address)?;
    say(&format!("{} {}/{}", interface.name, address.own, address.prefix));
    Ok(Configured { interface, lease })
}

impl Configured {
    /// Asks for the address again at half of its time. A server that is silent costs nothing: the address
    /// stays, and is asked for again.
    pub(crate) fn renew(&mut self) {
        let Some(lease) = self.lease.as_mut().filter(|lease| lease.renew_at <= Instant::now())
        else {
            return;
        };
        let renewed = self.interface.renewed(&lease.offer);
        match renewed.and_then(|offer| self.interface.assign(&offer.address).map(|()| offer)) {
            Ok(offer) => *lease = Lease::new(offer),
            Err(problem) => {
                say(&problem.to_string());
                lease.renew_at = Instant::now() + Duration::from_secs(60);
            }
        }
    }
}

impl Lease {
    fn new(offer: Offer) -> Self {
        let half = Duration::from_secs(u64::from(offer.lease_secs / 2));
        Self { offer, renew_at: Instant::now() + half }
    }
}

impl Interface {
    /// The one beside loopback.
    fn only() -> Result<Self, GuestError> {
        let entries = fs::read_dir(INTERFACES).at(INTERFACES)?;
        let names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            // What stands for a device of the machine, and no tunnel that the kernel offers.
            .filter(|name| fs::exists(format!("{INTERFACES}/{name}/device")).unwrap_or(false))
            .collect();
        match names.as_slice() {
            [name] => Self::read(name),
            names => Err(GuestError::Interfaces { found: names.len() }),
        }
    }

    fn read(name: &str) -> Result<Self, GuestError> {
        let file = |what| {
            let path = format!("{INTERFACES}/{name}/{what}");
            fs::read_to_string(&path).map(|text| text.trim().to_owned()).at(path)
        };
        let invalid = || io::Error::from(ErrorKind::InvalidData);
        let index = file("ifindex")?.parse().map_err(|_| invalid()).at(name)?;
        let mac = guest_init::unhex(&file("address")?.replace(':', ""));
        Ok(Self { name: name.to_owned(), index, mac: mac.ok_or_else(invalid).at(name)? })
    }

    fn assign(&self, address: &Address) -> Result<(), GuestError> {
        change("address", &netlink::address(self.index, address))?;
        match address.gateway {
            Some(gateway) => change("route", &netlink::route(self.index, gateway)),
            None => Ok(()),
        }
    }

    fn lease(&self) -> Result<Offer, GuestError> {
        let (socket, exchange) = self.exchange()?;
        let offer = ask(&socket, &exchange.discover(), |bytes| exchange.offered(bytes))?;
        ask(&socket, &exchange.request(&offer), |bytes| exchange.granted(bytes))
    }

    fn renewed(&self, offer: &Offer) -> Result<Offer, GuestError> {
        let (socket, exchange) = self.exchange()?;
        ask(&socket, &exchange.request(offer), |bytes| exchange.granted(bytes))
    }

    fn exchange(&self) -> Result<(UdpSocket, Exchange), GuestError> {
        let mut id = [0; 4];
        getrandom(&mut id, GetRandomFlags::empty()).at("random bytes")?;
        let socket = self.socket().at("a socket for DHCP")?;
        Ok((socket, Exchange { id, mac: self.mac }))
    }

    /// One that sends and receives before there is an address.
    fn socket(&self) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.bind_device(Some(self.name.as_bytes()))?;
        socket.set_broadcast(true)?;
        socket.set_read_timeout(Some(ANSWER_WITHIN))?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68).into())?;
        Ok(socket.into())
    }
}

/// Sends until somebody gives the answer that is waited for, a bounded number of times.
fn ask(
    socket: &UdpSocket,
    message: &[u8],
    read: impl Fn(&[u8]) -> Option<Offer>,
) -> Result<Offer, GuestError> {
    let mut buffer = [0; MAX_MESSAGE_BYTES];
    for _ in 0..TRIES {
        socket.send_to(message, (Ipv4Addr::BROADCAST, 67)).at("asking for an address")?;
        let asked = Instant::now();
        // Others' answers come by broadcast too.
        while asked.elapsed() < ANSWER_WITHIN {
            let Ok((length, _)) = socket.recv_from(&mut buffer) else { break };
            if let Some(offer) = read(&buffer[..length]) {
                return Ok(offer);
            }
        }
    }
    Err(GuestError::NoLease)
}

/// One change, acknowledged.
fn change(what: &'static str, message: &[u8]) -> Result<(), GuestError> {
    let sent = || {
        let kernel = SocketAddrNetlink::new(0, 0);
        // No protocol is protocol 0, NETLINK_ROUTE.
        let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
        sendto(&socket, message, SendFlags::empty(), &kernel)?;
        let mut answer = [0; 4096];
        let (length, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
        netlink::acknowledged(&answer[..length])
    };
    sent().map_err(|source: io::Error| GuestError::Netlink { what, source })
}
