//! How many connections a program may have: all together, and of one peer. A connection over a limit is
//! closed at once; it never waits for a slot.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Where both doors are open, one slot in so many is for local peers.
const LOCAL_ONE_IN: usize = 8;

/// Whose connections are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerKey {
    /// An IPv4 address, or an IPv6 network of 64 bits, of which one host has as many addresses as it
    /// likes (RFC 4291 section 2.5.4).
    Address(IpAddr),
    /// A user id.
    Uid(u32),
}

impl From<IpAddr> for PeerKey {
    fn from(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            address @ IpAddr::V4(_) => address,
            IpAddr::V6(address) => {
                Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into()
            }
        })
    }
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All slots are taken.
    All,
    /// All slots of this peer are taken.
    Peer,
}

impl Full {
    /// The stable reason.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::All => "CONNECTIONS_MAX",
            Self::Peer => "CONNECTIONS_PER_PEER_MAX",
        }
    }
}

/// The slots of all connections.
pub struct Slots {
    max: usize,
    /// Of these, how many peers on the network may take.
    remote_max: usize,
    per_peer_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_peer: HashMap<PeerKey, usize>,
}

impl Slots {
    /// `max` slots, of which one peer gets `per_peer_max` at most.
    pub fn new(max: usize, per_peer_max: usize) -> Arc<Self> {
        Self::of(max, max, per_peer_max)
    }

    /// The same, with a part kept for local peers: whatever the network does, an operator on this
    /// host gets in.
    pub fn with_local_kept(max: usize, per_peer_max: usize) -> Arc<Self> {
        Self::of(max, max - max / LOCAL_ONE_IN, per_peer_max)
    }

    fn of(max: usize, remote_max: usize, per_peer_max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            remote_max,
            per_peer_max,
            taken: Mutex::default(),
        })
    }

    /// A slot, given back when it is dropped.
    pub fn take(self: &Arc<Self>, peer: PeerKey) -> Result<Slot, Full> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let max = match peer {
            PeerKey::Address(_) => self.remote_max,
            PeerKey::Uid(_) => self.max,
        };
        if taken.all >= max {
            return Err(Full::All);
        }
        let of_peer = taken.by_peer.get(&peer).copied().unwrap_or_default();
        if of_peer >= self.per_peer_max {
            return Err(Full::Peer);
        }
        taken.all += 1;
        taken.by_peer.insert(peer, of_peer + 1);
        Ok(Slot {
            slots: Arc::clone(self),
            peer,
        })
    }
}

/// The right to one open connection.
pub struct Slot {
    slots: Arc<Slots>,
    peer: PeerKey,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self
            .slots
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        if let Entry::Occupied(mut of_peer) = taken.by_peer.entry(self.peer) {
            if *of_peer.get() <= 1 {
                of_peer.remove();
            } else {
                *of_peer.get_mut() -= 1;
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn slots_are_bounded_and_come_back() {
        let slots = Slots::new(3, 2);
        let (one, two) = (PeerKey::Uid(1), PeerKey::Uid(2));
        let first = slots.take(one).unwrap();
        let second = slots.take(one).unwrap();
        assert_eq!(slots.take(one).err(), Some(Full::Peer));
        let third = slots.take(two).unwrap();
        assert_eq!(slots.take(two).err(), Some(Full::All));
        drop(first);
        let again = slots.take(one).unwrap();
        assert_eq!(slots.take(two).err(), Some(Full::All));
        drop((second, third, again));
        let taken = slots.taken.lock().unwrap();
        assert_eq!(
            (taken.all, taken.by_peer.len()),
            (0, 0),
            "peers that left are forgotten"
        );
    }

    #[test]
    fn the_network_cannot_shut_out_local_peers() {
        let slots = Slots::with_local_kept(16, 16);
        let remote = PeerKey::from("192.0.2.1".parse::<IpAddr>().unwrap());
        let taken: Vec<Slot> = (0..14).map(|_| slots.take(remote).unwrap()).collect();
        assert_eq!(slots.take(remote).err(), Some(Full::All));
        let local = [1, 2].map(|uid| slots.take(PeerKey::Uid(uid)).unwrap());
        assert_eq!(slots.take(PeerKey::Uid(3)).err(), Some(Full::All));
        drop((taken, local));
    }

    #[test]
    fn one_host_is_one_peer() {
        let key = |text: &str| PeerKey::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }
}
