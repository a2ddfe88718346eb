//! A socket to the kernel's network devices: requests, and the answers that are theirs (netlink(7), rtnetlink(7)).

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressMessage, AddressMessageBuffer};
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkMessageBuffer};
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

type Result<T> = std::result::Result<T, Errno>;

/// More than the kernel puts into one datagram (`netlink_dump` in net/netlink/af_netlink.c).
const DATAGRAM: usize = 64 << 10;
/// How often a list is asked for again that has changed while the kernel told it.
const TRIES: usize = 16;

/// A link, as far as it matters here. Of what a newer kernel tells besides nothing is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) hardware: Vec<u8>,
    flags: u32,
}

impl Link {
    fn of(payload: &[u8]) -> Result<Self> {
        let buffer = LinkMessageBuffer::new_checked(payload).map_err(|_| Errno::EBADMSG)?;
        let (index, flags) = (buffer.link_index(), buffer.flags());
        let mut link = Link { index, name: String::new(), hardware: Vec::new(), flags };
        for attribute in buffer.attributes() {
            let attribute = attribute.map_err(|_| Errno::EBADMSG)?;
            match attribute.kind() {
                libc::IFLA_IFNAME => {
                    let name = attribute.value().split(|byte| *byte == 0).next().unwrap_or_default();
                    link.name = String::from_utf8_lossy(name).into_owned();
                }
                libc::IFLA_ADDRESS => link.hardware = attribute.value().to_vec(),
                _ => {}
            }
        }
        Ok(link)
    }

    pub(super) fn is_up(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }
}

/// The socket. It stays in the network namespace that it was made in.
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// In the network namespace of the calling thread.
    pub(super) fn here() -> Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// In another one, which a thread enters that ends with it.
    pub(super) fn within(namespace: &File) -> Result<Self> {
        let enter = || setns(namespace, CloneFlags::CLONE_NEWNET).and_then(|()| Netlink::here());
        std::thread::scope(|scope| scope.spawn(enter).join().unwrap_or(Err(Errno::EAGAIN)))
    }

    /// The link of this name, which may be one of its other names.
    pub(super) fn link(&mut self, name: &str) -> Result<Link> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.one_link(message)
    }

    /// The link of this index.
    pub(super) fn link_of(&mut self, index: u32) -> Result<Link> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.one_link(message)
    }

    fn one_link(&mut self, message: LinkMessage) -> Result<Link> {
        let answers = self.ask(RouteNetlinkMessage::GetLink(message), NLM_F_ACK)?;
        let link = answers.iter().find(|answer| answer.0 == libc::RTM_NEWLINK).ok_or(Errno::ENODEV)?;
        Link::of(&link.1)
    }

    /// All links.
    pub(super) fn links(&mut self) -> Result<Vec<Link>> {
        let answers = self.list(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        let links = answers.iter().filter(|answer| answer.0 == libc::RTM_NEWLINK);
        links.map(|(_, payload)| Link::of(payload)).collect()
    }

    /// The messages of the addresses of the link `index`.
    pub(super) fn addresses(&mut self, index: u32) -> Result<Vec<Vec<u8>>> {
        let answers = self.list(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        let of_link = |(kind, payload): &(u16, Vec<u8>)| {
            let address = AddressMessageBuffer::new_checked(payload.as_slice());
            *kind == libc::RTM_NEWADDR && address.is_ok_and(|address| address.index() == index)
        };
        Ok(answers.into_iter().filter(of_link).map(|(_, payload)| payload).collect())
    }

    /// Asks for a change, and waits until it is made.
    pub(super) fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<()> {
        self.ask(message, flags | NLM_F_ACK).map(drop)
    }

    fn list(&mut self, message: RouteNetlinkMessage) -> Result<Vec<(u16, Vec<u8>)>> {
        for _ in 0..TRIES {
            match self.ask(message.clone(), NLM_F_DUMP) {
                Err(Errno::EINTR) => continue,
                answers => return answers,
            }
        }
        Err(Errno::EAGAIN)
    }

    /// The answers to one request: each one's type and payload. A list that has changed meanwhile is EINTR.
    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<Vec<(u16, Vec<u8>)>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = flags | NLM_F_REQUEST;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        uninterrupted(|| send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty()))?;
        let (mut answers, mut changed) = (Vec::new(), false);
        let mut datagram = vec![0; DATAGRAM];
        loop {
            let length = uninterrupted(|| recv(self.socket.as_raw_fd(), &mut datagram, MsgFlags::MSG_TRUNC))?;
            let mut rest = datagram.get(..length).ok_or(Errno::EMSGSIZE)?;
            while !rest.is_empty() {
                let answer = NetlinkBuffer::new_checked(rest).map_err(|_| Errno::EBADMSG)?;
                let (kind, payload) = (answer.message_type(), answer.payload());
                changed |= answer.flags() & NLM_F_DUMP_INTR != 0;
                // Each begins at a multiple of four.
                let next = (answer.length() as usize).next_multiple_of(4).min(rest.len());
                rest = &rest[next..];
                if answer.sequence_number() != self.sequence {
                    continue;
                }
                match kind {
                    // Both have an errno first, 0 for none (struct nlmsgerr).
                    NLMSG_DONE | NLMSG_ERROR => {
                        let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                        return match code {
                            0 if changed => Err(Errno::EINTR),
                            0 => Ok(answers),
                            code => Err(Errno::from_raw(-code)),
                        };
                    }
                    _ => answers.push((kind, payload.to_vec())),
                }
            }
        }
    }
}

fn uninterrupted<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}
