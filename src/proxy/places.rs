//! How many of everything there may be at a time.
//!
//! Taking a place never waits: at the limit the answer is no, at once. A place is given back when
//! it is dropped, so that whoever is turned away may come again a moment later.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{observe::Caller, settings::Limits};

/// The places of one proxy.
#[derive(Debug)]
pub struct Places {
    pub(super) connections: Room,
    pub(super) clients: Crowd,
    pub(super) dials: Room,
    /// Connections that are being told that there is no place.
    pub(super) farewells: Room,
    pub(super) lookups: Room,
    /// Looks at unix sockets, which a file system may keep waiting.
    pub(super) looks: Room,
    pub(super) requests: Room,
    pub(super) tunnels: Room,
}

/// Several places of one kind.
#[derive(Debug)]
pub(super) struct Room(Arc<Semaphore>);

/// One of them.
#[derive(Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

/// The connections of each client. Loopback and unix sockets are not counted: behind it are all agents of
/// this machine, which have nothing else in common. Never larger than the number of connections.
#[derive(Debug)]
pub(super) struct Crowd {
    limit: usize,
    counts: Counts,
}

/// The place of one connection in the crowd.
#[derive(Debug)]
pub(super) struct Seat(Option<(Network, Counts)>);

/// What one client may come from: an IPv4 address, or an IPv6 /64. The other 64 bits a host chooses
/// as it likes (RFC 4291 2.5.1, RFC 7934 3; RFC 8981 makes new ones all the time), so that by
/// addresses it would be as many clients as it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Network(IpAddr);

/// How many connections each client has; none is in it with zero.
type Counts = Arc<Mutex<HashMap<Network, usize>>>;

/// Looks at unix sockets at a time.
const LOOKS: usize = 64;

/// Connections that linger at a time after having been turned away.
const FAREWELLS: usize = 256;

impl Places {
    /// All of them free.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            connections: Room::new(limits.connections),
            clients: Crowd::new(limits.connections_per_client),
            dials: Room::new(limits.dials),
            farewells: Room::new(FAREWELLS),
            lookups: Room::new(limits.lookups),
            looks: Room::new(LOOKS),
            requests: Room::new(limits.requests),
            tunnels: Room::new(limits.tunnels),
        }
    }
}

impl Room {
    fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places)))
    }

    /// A place, if one is free.
    pub(super) fn take(&self) -> Option<Place> {
        Arc::clone(&self.0).try_acquire_owned().ok().map(Place)
    }
}

impl Crowd {
    fn new(limit: usize) -> Self {
        Self { limit, counts: Arc::default() }
    }

    /// A place for one more connection from there, if the client may have one.
    pub(super) fn take(&self, caller: Caller) -> Option<Seat> {
        let Caller::Ip(address) = caller else { return Some(Seat(None)) };
        let address = address.ip().to_canonical();
        if address.is_loopback() {
            return Some(Seat(None));
        }
        let network = Network::of(address);
        let mut counts = lock(&self.counts);
        let count = counts.entry(network).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Seat(Some((network, Arc::clone(&self.counts)))))
    }
}

impl Network {
    fn of(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some((network, counts)) = &self.0 else { return };
        let mut counts = lock(counts);
        if let Some(count) = counts.get_mut(network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(network);
            }
        }
    }
}

/// No code that can panic runs under the lock, so a poisoned one is sound.
fn lock(counts: &Mutex<HashMap<Network, usize>>) -> MutexGuard<'_, HashMap<Network, usize>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Caller {
        Caller::Ip((text.parse::<IpAddr>().unwrap(), 1).into())
    }

    #[test]
    fn every_address_has_its_own_limit() {
        let crowd = Crowd::new(2);
        let seats = [crowd.take(ip("192.0.2.1")).unwrap(), crowd.take(ip("192.0.2.1")).unwrap()];
        assert!(crowd.take(ip("192.0.2.1")).is_none());
        // The same address, as a socket for both families shows it.
        assert!(crowd.take(ip("::ffff:192.0.2.1")).is_none());
        let other = crowd.take(ip("192.0.2.2")).unwrap();
        drop(seats);
        assert!(crowd.take(ip("192.0.2.1")).is_some());
        drop(other);
        assert!(lock(&crowd.counts).is_empty(), "nothing is kept of who is gone");
    }

    #[test]
    fn a_host_has_one_limit_for_all_its_ipv6_addresses() {
        let crowd = Crowd::new(2);
        let seats = ["2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff"]
            .map(|address| crowd.take(ip(address)).unwrap());
        assert!(crowd.take(ip("2001:db8:0:1::2")).is_none());
        assert!(crowd.take(ip("2001:db8:0:2::1")).is_some(), "its neighbour has its own");
        drop(seats);
        assert!(crowd.take(ip("2001:db8:0:1::2")).is_some());
        assert!(lock(&crowd.counts).is_empty());
    }

    #[test]
    fn loopback_is_not_counted() {
        let crowd = Crowd::new(1);
        let seats: Vec<Seat> = ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"]
            .into_iter()
            .flat_map(|address| [address; 3])
            .map(|address| crowd.take(ip(address)).unwrap())
            .collect();
        assert_eq!(seats.len(), 12);
        assert!(lock(&crowd.counts).is_empty());
    }

    #[test]
    fn places_come_back() {
        let room = Room::new(1);
        let place = room.take().unwrap();
        assert!(room.take().is_none());
        drop(place);
        assert!(room.take().is_some());
    }
}
